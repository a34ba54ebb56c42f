"use strict";
// Sends the form in the background. Without this script the same form does the same by a full page load.
const PATIENCE_MS = 8000;
const PUSH_LIVES_MS = 1000; // what a function has sent to Redis lands within 0.9 s or never
const LOOK_AGAIN_MS = 20 * 1000; // whether a delay of counting is over: at least so long, and up to twice
const form = document.querySelector("form");
const cards = [...form.querySelectorAll("button[name=vote]")];
const note = document.getElementById("status");
const retry = document.getElementById("retry");
const label = (choice) => form.querySelector(`.${choice} .label`).textContent;

let received = form.dataset.choice || null; // what the server has told us it took
let wanted = null; // what was clicked last and is not settled yet
let failed = null; // what can be tried again
let sending = false;
let isDelayed = form.dataset.delayed !== ""; // whether votes were not being counted when ours was taken
let lookTimer = null;
let mayLandUntil = 0; // when the next vote may be sent, so that it comes behind one of which nothing is known

function show() {
  for (const card of cards) {
    const isPending = card.value === wanted;
    card.setAttribute("aria-pressed", String(card.value === received));
    card.setAttribute("aria-busy", String(isPending));
    const word = isPending ? "Sending…" : card.value === received ? "Your choice" : received ? "Change to this" : "Vote";
    card.querySelector(".word").textContent = word;
  }
  retry.hidden = failed === null;
}

function say(state, text) {
  note.dataset.state = state;
  note.textContent = text;
}

function sayReceived() {
  const delay = isDelayed ? " Counting is delayed: your vote is kept and will be counted." : "";
  say("received", `Your vote for ${label(received)} was received.${delay}`);
  clearTimeout(lookTimer);
  if (isDelayed) lookTimer = setTimeout(lookAgain, LOOK_AGAIN_MS * (1 + Math.random()));
}

async function lookAgain() {
  try {
    const response = await fetch("/api/results", { signal: AbortSignal.timeout?.(PATIENCE_MS) });
    if (response.ok) isDelayed = (await response.json()).stale_seconds !== undefined;
  } catch {
    // Nothing is known, so nothing is taken back.
  }
  if (note.dataset.state === "received" || note.dataset.state === undefined) sayReceived();
}

// What went wrong, or null once the server has the vote.
async function cast(choice) {
  await new Promise((resolve) => setTimeout(resolve, mayLandUntil - performance.now()));
  let answer = {}; // the gateway's own errors have another form
  let status = 0;
  try {
    const response = await fetch("/api/votes", {
      method: "POST",
      headers: { "Content-Type": "application/json", Accept: "application/json" },
      body: JSON.stringify({ vote: choice, token: form.elements.token.value }),
      signal: AbortSignal.timeout?.(PATIENCE_MS), // a browser without it waits for as long as it likes
    });
    if (response.ok) {
      isDelayed = Object(await response.json().catch(() => null)).counting === "delayed";
      return null;
    }
    status = response.status;
    answer = Object(await response.json()); // whatever it is
  } catch {
    // The request may have arrived and only its answer be lost.
  }
  const mayWork = status === 0 || status === 429 || status >= 500;
  const isUnclear = mayWork && status !== 429 && !answer.error;
  if (isUnclear) mayLandUntil = performance.now() + PUSH_LIVES_MS;
  const text = isUnclear
    ? "We cannot say whether your vote was received. Trying again is safe."
    : "Your vote was not recorded. Try again in a moment.";
  return { mayWork, text: answer.error?.message ?? text };
}

// One request at a time: an older choice can never overtake a newer one on its way.
async function send() {
  if (sending) return;
  sending = true;
  while (wanted !== null) {
    const choice = wanted;
    say("pending", "Sending your vote…");
    const failure = await cast(choice);
    if (failure === null) received = choice;
    if (wanted !== choice) continue;
    wanted = null;
    failed = failure?.mayWork ? choice : null;
    if (failure === null) sayReceived();
    else say("failed", failure.text);
    show();
  }
  sending = false;
}

function choose(choice) {
  wanted = choice;
  failed = null;
  show();
  send();
}

form.addEventListener("submit", (event) => {
  if (!event.submitter) return; // an old browser: its full page load works as well
  event.preventDefault();
  choose(event.submitter.value);
});
retry.addEventListener("click", () => failed && choose(failed));
if (received !== null && isDelayed) sayReceived();
addEventListener("online", () => failed && choose(failed));
