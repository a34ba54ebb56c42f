"use strict";
// Keeps the figures current: by WebSocket, and by polling where no socket can be had.
const PING_MS = 5 * 60 * 1000; // the gateway closes after ten idle minutes, the registry forgets after fifteen
const ANSWER_MS = 10 * 1000; // how long a socket may be silent after we asked something
const FIRST_WAIT_MS = 1000;
const LONGEST_WAIT_MS = 30 * 1000;
const ATTEMPTS_BEFORE_POLLING = 3;
const POLL_MS = 3000;
const SPEAK_MS = 10 * 1000; // a screen reader must be able to finish a sentence
const TWEEN_MS = 500;

const byId = (id) => document.getElementById(id);
const page = byId("results");
const question = document.querySelector("h1").textContent;
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

function show(results) {
  version = results.version;
  const best = Math.max(...results.options.map((option) => option.votes));
  const leaders = results.options.filter((option) => option.votes === best);
  page.dataset.version = version;
  page.dataset.standing = results.total === 0 ? "empty" : leaders.length > 1 ? "tie" : "ahead";
  page.dataset.leader = leaders.length > 1 ? "" : leaders[0].id;
  let left = 0;
  for (const { id, votes, percent } of results.options) {
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
  byId("stale").dataset.age = results.stale_seconds ?? "";
  byId("age").textContent = age(results.stale_seconds ?? 0);
  document.title = `${results.options.map((option) => grouped(option.votes)).join(" : ")} · ${question}`;
  speak(results);
}

function speak(results) {
  if (Date.now() - spokenAt < SPEAK_MS) return;
  spokenAt = Date.now();
  byId("spoken").textContent = results.options.map((option) => `${option.label}: ${option.votes}`).join(", ");
}

function badge(state, text) {
  const element = byId("badge");
  if (element.textContent === text) return; // else a screen reader would say it again
  element.hidden = false;
  element.dataset.state = state;
  element.textContent = text;
}

// ------------------------------------------------------------------ Polling

let polling = null; // the loop that may go on: one that was stopped while it waited must not come back

async function poll(loop) {
  if (polling !== loop) return;
  try {
    // no-cache: ask each time, with the ETag; an unchanged answer is a 304 without a body.
    const response = await fetch("/api/results", { cache: "no-cache", signal: AbortSignal.timeout?.(ANSWER_MS) });
    if (!response.ok) throw new Error(`status ${response.status}`);
    const results = await response.json();
    if (polling !== loop) return; // the socket was faster
    if (results.version >= version) show(results);
    badge("polling", `Polling every ${POLL_MS / 1000} s`);
  } catch {
    if (polling !== loop) return;
    badge("offline", "Offline"); // neither way leads to the server; both are tried on
  }
  setTimeout(poll, POLL_MS, loop);
}

function startPolling() {
  if (polling !== null) return;
  polling = {};
  poll(polling);
}

function stopPolling() {
  polling = null;
}

// ------------------------------------------------------------------ The socket

let socket = null;
let attempts = 0; // without a snapshot since
let retryTimer = null;
let silenceTimer = null;
let isBaseline = false; // whether the next snapshot answers our subscribe, and is shown whatever its version

function ask(action) {
  socket.send(JSON.stringify({ action }));
  clearTimeout(silenceTimer);
  silenceTimer = setTimeout(drop, ANSWER_MS, socket); // a half-open connection says nothing, not even that it is dead
}

function connect() {
  clearTimeout(retryTimer);
  const opened = new WebSocket(page.dataset.websocket);
  socket = opened;
  silenceTimer = setTimeout(drop, ANSWER_MS, opened);
  opened.onopen = () => {
    isBaseline = true;
    ask("subscribe");
  };
  opened.onmessage = (event) => {
    if (socket !== opened) return;
    clearTimeout(silenceTimer);
    const message = JSON.parse(event.data);
    // An error of ours, or the gateway's own, which has no type: we may not be subscribed, so begin anew.
    if (message.type === "error" || message.type === undefined) drop(opened);
    else receive(message);
  };
  opened.onclose = () => drop(opened);
}

function receive(message) {
  if (message.type !== "results") return;
  if (isBaseline || message.version >= version) show(message);
  isBaseline = false;
  attempts = 0;
  stopPolling();
  badge("live", "Live");
}

function drop(lost) {
  if (socket !== lost) return; // dropped before
  socket = null;
  clearTimeout(silenceTimer);
  lost.close();
  attempts += 1;
  if (!navigator.onLine) badge("offline", "Offline");
  else if (polling === null) badge("waiting", "Reconnecting…");
  if (attempts >= ATTEMPTS_BEFORE_POLLING) startPolling();
  // Full jitter: a thousand pages that lost one server must not come back together.
  const wait = Math.random() * Math.min(LONGEST_WAIT_MS, FIRST_WAIT_MS * 2 ** attempts);
  retryTimer = setTimeout(connect, wait);
}

// Now is a good moment: the network is back, or somebody looks.
function hurry() {
  if (socket === null) connect();
  else if (socket.readyState === WebSocket.OPEN) {
    isBaseline = true;
    ask("subscribe"); // also finds out whether the socket survived the sleep
  }
}

setInterval(() => socket?.readyState === WebSocket.OPEN && ask("ping"), PING_MS);
addEventListener("online", hurry);
addEventListener("offline", () => badge("offline", "Offline"));
addEventListener("pageshow", (event) => event.persisted && hurry());
document.addEventListener("visibilitychange", () => document.hidden || hurry());

byId("where").textContent = ` at ${location.host}`;
badge("waiting", "Connecting…");
connect();
