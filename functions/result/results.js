"use strict";
// Keeps the figures current: by WebSocket, and by polling if no socket is possible.
const REGISTER_MS = 5 * 60 * 1000; // a registration that is not renewed ends after fifteen minutes
const ANSWER_MS = 10 * 1000; // how long a socket may be silent after we asked something
const LATE_MS = 5 * 1000; // an answer that takes longer is worth a word
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30 * 1000;
const ATTEMPTS_BEFORE_POLLING = 3;
const POLL_MS = 3000;
const SPEAK_MS = 10 * 1000; // a screen reader must be able to finish a sentence
const SPOKEN = 5; // options: of more, those with the most votes
const TWEEN_MS = 500;
const LONGEST_LARGE_LABEL = 16; // characters, as in page.py

const byId = (id) => document.getElementById(id);
const page = byId("results");
const calm = matchMedia("(prefers-reduced-motion: reduce)");
const grouped = (count) => count.toLocaleString("en");
const noun = (count) => (count === 1 ? "vote" : "votes");

// ------------------------------------------------------------------ Showing

let version = Number(page.dataset.version);
let spokenAt = 0;
const counts = {}; // what stands in each number now, for the animation
const tweens = {};

function number(id, to, write = grouped) {
  const element = byId(id);
  const from = counts[id] ?? Number(element.textContent.replaceAll(",", ""));
  cancelAnimationFrame(tweens[id]);
  if (calm.matches || document.hidden || from === to) {
    counts[id] = to;
    element.textContent = write(to);
    return;
  }
  const begun = performance.now();
  const step = (now) => {
    const done = Math.min(1, Math.max(0, (now - begun) / TWEEN_MS));
    counts[id] = done === 1 ? to : Math.round(from + (to - from) * (1 - (1 - done) ** 3));
    element.textContent = write(counts[id]);
    if (done < 1) tweens[id] = requestAnimationFrame(step);
  };
  tweens[id] = requestAnimationFrame(step);
}

function age(seconds) {
  if (seconds < 120) return `${seconds} s`;
  return seconds < 7200 ? `${Math.floor(seconds / 60)} min` : `${Math.floor(seconds / 3600)} h`;
}

// The options are settings, so a deployment may change them while the page is open.
function isAnother(results) {
  const shown = [...document.querySelectorAll("[data-option]")].map((element) => element.dataset.option);
  const isKnown = ({ id, label }, place) => shown[place] === id && byId(`label-${id}`).textContent === label;
  const isSame = shown.length === results.options.length && results.options.every(isKnown);
  return !isSame || (results.question ?? "") !== page.dataset.question;
}

// A copy of *element*, which is that of one option, for the option *id*.
function copy(element, id) {
  const made = element.cloneNode(true);
  for (const part of [made, ...made.querySelectorAll("[id]")]) {
    if (part.id) part.id = part.id.replace(/-[a-t]$/, `-${id}`);
    if (/^(votes|whole)-/.test(part.id)) part.textContent = "0";
  }
  return made;
}

function section({ id, label }) {
  const made = copy(document.querySelector("[data-option]"), id);
  made.className = `option ${id}`;
  made.dataset.option = id;
  made.setAttribute("aria-labelledby", `label-${id}`);
  made.querySelector(`#label-${id}`).textContent = label;
  return made;
}

// As heading.py and results.html have it.
function setHeading(asked, labels) {
  const heading = document.querySelector("h1");
  heading.className = asked ? "asked" : "";
  heading.dir = asked ? "auto" : "";
  const names = labels.map((label) => Object.assign(document.createElement("bdi"), { textContent: label }));
  const or = Object.assign(document.createElement("span"), { className: "or", textContent: "or" });
  if (asked) heading.textContent = asked;
  else if (names.length === 2) heading.replaceChildren(names[0], " ", or, " ", names[1], "?");
  else heading.textContent = "Results";
}

function arrange({ options, question }) {
  const labels = options.map((option) => option.label);
  page.dataset.question = question ?? "";
  setHeading(question, labels);
  document.body.className = options.length === 2 ? "pair" : "list";
  document.body.classList.add(labels.some((label) => label.length > LONGEST_LARGE_LABEL) ? "long" : "short");
  const rects = options.map((option) => copy(document.querySelector(".bar rect"), option.id));
  page.querySelector(".options").replaceChildren(...options.map(section));
  document.querySelector(".bar").replaceChildren(...rects);
  for (const id of Object.keys(counts).filter((each) => each !== "total")) {
    cancelAnimationFrame(tweens[id]);
    delete counts[id];
  }
}

function show(results) {
  if (isAnother(results)) arrange(results);
  version = results.version;
  const best = Math.max(...results.options.map((option) => option.votes));
  const leaders = results.options.filter((option) => best > 0 && option.votes === best);
  page.dataset.version = version;
  page.dataset.standing = results.total === 0 ? "empty" : leaders.length > 1 ? "tie" : "ahead";
  page.dataset.leader = leaders.length === 1 ? leaders[0].id : "";
  let left = 0;
  for (const option of results.options) {
    const { id, votes, percent } = option;
    document.querySelector(`[data-option="${id}"]`).dataset.leads = leaders.includes(option);
    byId(`lead-${id}`).textContent = leaders.length > 1 ? "Tied" : "Leading";
    byId(`own-${id}`).setAttribute("width", `${percent}%`);
    const [whole, tenth] = percent.toFixed(1).split(".");
    number(`votes-${id}`, votes);
    number(`whole-${id}`, Number(whole), String);
    byId(`tenth-${id}`).textContent = `.${tenth}`;
    byId(`noun-${id}`).textContent = noun(votes);
    byId(`bar-${id}`).setAttribute("x", `${left}%`);
    byId(`bar-${id}`).setAttribute("width", `${percent}%`);
    left += percent;
  }
  number("total", results.total);
  byId("noun").textContent = noun(results.total);
  const votes = results.options.map((option) => grouped(option.votes));
  const sum = votes.length === 2 ? votes.join(" : ") : `${grouped(results.total)} ${noun(results.total)}`;
  document.title = `${sum} · ${document.querySelector("h1").textContent}`;
  speak(results);
}

function speak(results) {
  if (Date.now() - spokenAt < SPEAK_MS) return;
  spokenAt = Date.now();
  const first = [...results.options];
  if (first.length > SPOKEN) first.sort((one, other) => other.votes - one.votes);
  byId("spoken").textContent = first.slice(0, SPOKEN).map((option) => `${option.label}: ${option.votes}`).join(", ");
}

// ------------------------------------------------------------------ The badge, which is never better than the truth

// performance.now: a clock that is set must not make an old figure young.
let heardAt = performance.now(); // the last sign of life: a frame, a pong, an answer to a poll
let asOf = page.dataset.stale === "" ? null : heardAt - page.dataset.stale * 1000; // when stale figures were right

function hear(message) {
  heardAt = performance.now();
  asOf = message.stale_seconds === undefined ? null : heardAt - message.stale_seconds * 1000;
  tell();
}

// The state, its words, and since when: an age that is shown once it is worth a word.
function standing() {
  const isUnanswered = askedAt > heardAt && performance.now() - askedAt > LATE_MS;
  const isLate = isUnanswered || performance.now() - heardAt > pingMs + LATE_MS; // a tab that slept has not asked
  if (!navigator.onLine) return ["offline", "Offline", heardAt];
  if (isSubscribed && isLate) return ["waiting", "No sign of life", heardAt];
  if (isSubscribed || isPolled) {
    if (asOf !== null) return ["stale", "Not up to date", asOf];
    return isSubscribed ? ["live", "Live", null] : ["polling", `Polling every ${POLL_MS / 1000} s`, null];
  }
  if (isPolled === false) return ["offline", "Offline", heardAt];
  return ["waiting", attempts > 0 ? "Reconnecting…" : "Connecting…", heardAt];
}

function tell() {
  const [state, text, since] = standing();
  const element = byId("badge");
  element.hidden = false;
  element.dataset.state = state;
  // A screen reader says the words once, and not the seconds, which are hidden from it.
  if (byId("state").textContent !== text) byId("state").textContent = text;
  const lasts = performance.now() - (since ?? performance.now());
  byId("since").textContent = lasts > LATE_MS ? `· ${age(Math.round(lasts / 1000))}` : "";
  byId("stale").dataset.age = asOf ?? "";
  if (asOf !== null) byId("age").textContent = age(Math.round((performance.now() - asOf) / 1000));
}

// ------------------------------------------------------------------ Polling

let polling = null; // the loop that may go on: one that was stopped while it waited must not come back
let isPolled = null; // whether the last poll was answered; null before one was

async function poll(loop) {
  if (polling !== loop) return;
  try {
    // no-cache: ask each time, with the ETag; an unchanged answer is a 304 without a body.
    const response = await fetch("/api/results", { cache: "no-cache", signal: AbortSignal.timeout?.(ANSWER_MS) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const results = await response.json();
    if (polling !== loop) return; // the socket was faster
    if (results.version >= version) show(results);
    isPolled = true;
    hear(results);
  } catch {
    if (polling !== loop) return;
    isPolled = false; // neither way leads to the server; both are tried on
    tell();
  }
  setTimeout(poll, POLL_MS, loop);
}

function startPolling() {
  if (polling !== null) return;
  polling = {};
  poll(polling);
}

function stopPolling() {
  polling = isPolled = null;
}

// ------------------------------------------------------------------ The socket

let socket = null;
let attempts = 0; // without a snapshot since
let retryTimer = null;
let silenceTimer = null;
let isBaseline = false; // whether the next snapshot answers our subscribe, and is shown whatever its version
let isSubscribed = false; // whether it was answered
let pingMs = 20 * 1000; // after so much silence we ask for a sign of life; frames say how long, by how many listen
let askedAt = 0;

// For the newest figures, which also shows whether the socket is alive, and keeps us registered. Not a ping, which would
// be answered as well while every broadcast fails.
function ask() {
  isBaseline = true;
  askedAt = performance.now();
  socket.send('{"action":"subscribe"}');
  clearTimeout(silenceTimer);
  silenceTimer = setTimeout(drop, ANSWER_MS, socket); // a half-open connection says nothing, not even that it is dead
}

function connect() {
  clearTimeout(retryTimer);
  const opened = new WebSocket(page.dataset.websocket);
  socket = opened;
  silenceTimer = setTimeout(drop, ANSWER_MS, opened);
  opened.onopen = ask;
  opened.onmessage = (event) => {
    if (socket !== opened) return;
    clearTimeout(silenceTimer);
    const message = JSON.parse(event.data);
    // An error of ours, or the gateway's own, which has no type: we may not be subscribed, so start again.
    if (message.type === "error" || message.type === undefined) {
      drop(opened);
      return;
    }
    receive(message);
    hear(message);
  };
  opened.onclose = () => drop(opened);
}

function receive(message) {
  if (message.type !== "results") return;
  if (isBaseline || message.version >= version) show(message);
  if (message.ping_s > 0) pingMs = message.ping_s * 1000;
  isBaseline = false;
  isSubscribed = true;
  attempts = 0;
  stopPolling();
}

function drop(lost) {
  if (socket !== lost) return; // dropped before
  socket = null;
  isSubscribed = false;
  clearTimeout(silenceTimer);
  lost.close();
  attempts += 1;
  tell();
  if (attempts >= ATTEMPTS_BEFORE_POLLING) startPolling();
  // Full jitter: a thousand pages that lost one server must not come back together.
  const wait = Math.random() * Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** attempts);
  retryTimer = setTimeout(connect, wait);
}

// Now is a good moment: the network is back, or the reader has returned.
function hurry() {
  if (socket === null) connect();
  else if (socket.readyState === WebSocket.OPEN) ask(); // also finds out whether the socket survived the sleep
}

// Each page by itself a little early, so that thousands that heard one frame do not all ask at once.
const early = 0.8 + Math.random() / 5;

setInterval(() => {
  tell();
  if (socket?.readyState !== WebSocket.OPEN) return;
  const silent = performance.now() - Math.max(heardAt, askedAt);
  if (silent >= pingMs * early || performance.now() - askedAt >= Math.max(REGISTER_MS, pingMs)) ask();
}, 1000);
addEventListener("online", hurry);
addEventListener("offline", tell);
addEventListener("pageshow", (event) => event.persisted && hurry());
document.addEventListener("visibilitychange", () => document.hidden || hurry());

byId("where").textContent = ` at ${location.host}`;
tell();
connect();
