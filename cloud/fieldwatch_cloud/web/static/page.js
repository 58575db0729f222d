// Common to all pages: the clock, ages that count up, the live indicator, and parts that refresh themselves.
//
// When something has changed, the page is fetched again and each element with an id and data-live is replaced by its
// new version. So the server's templates are the only place that generates HTML.

import { here, lacks, onNews, replay, start } from "./live.js";
import { age, clock, inUtc, local, local16, moment, root, switchZone, utc, utc16, zone } from "./say.js";

const GENTLY = 5000;
let asked = 0;
let timer = 0;
let wanted = ""; // the place in the feed of the newest news that the page must know
let patience = GENTLY; // of who waits for it

// Refresh the live parts soon, at most once per `wait` milliseconds (throttled), and until they know what is known now:
// a server that is busy answers with what it has kept for a moment, and an answer may be lost.
export function renew(wait = GENTLY) {
  wanted = here();
  patience = Math.min(patience, Math.max(wait, 1000));
  refresh(wait);
}

function refresh(wait) {
  const due = Math.max(0, asked + wait - Date.now());
  if (timer && timer.due <= Date.now() + due) return;
  if (timer) clearTimeout(timer.id);
  timer = { due: Date.now() + due, id: setTimeout(load, due) };
}

async function load() {
  timer = 0;
  asked = Date.now();
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer || answer.status >= 429) return refresh(GENTLY);
  if (!answer.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  translate(fresh);
  for (const old of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(old.id);
    if (!next || next.isEqualNode(old)) continue;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : null;
    const chosen = new Set([...old.querySelectorAll("input:checked")].map((one) => one.value));
    for (const one of next.querySelectorAll("input[type=checkbox]")) one.checked = chosen.has(one.value);
    old.replaceWith(document.adoptNode(next));
    if (focused) document.getElementById(focused)?.focus();
  }
  replay(fresh.body.dataset.position); // the server may have kept the page since before the newest results
  if (lacks(fresh.body.dataset.position, wanted)) refresh(patience);
  else patience = GENTLY;
  document.dispatchEvent(new CustomEvent("renewed"));
}

// Write the times of `page`, which the server wrote in UTC, in the zone that is shown.
function translate(page) {
  for (const one of page.querySelectorAll("time[datetime]")) {
    const seconds = Date.parse(one.dateTime) / 1000;
    one.title = utc(seconds);
    if (!("ago" in one.dataset)) one.textContent = moment(seconds);
  }
}

// Fields of a time (data-utc: the one that the server wrote, or ""): in the zone that is shown; what is sent is UTC.
const moments = () => document.querySelectorAll("input[data-utc]");

function showMoments() {
  for (const field of moments()) field.value = field.dataset.utc && local16(Date.parse(field.dataset.utc) / 1000);
}

document.addEventListener("change", ({ target }) => {
  if ("utc" in target.dataset) target.dataset.utc = target.value && utc16(target.value);
});
document.addEventListener("formdata", ({ target, formData }) => {
  for (const field of moments()) if (field.form === target) formData.set(field.name, field.dataset.utc.slice(0, 16));
});
document.addEventListener("zone", showMoments);
showMoments();

// What the person sees of the zone: the clock at the top switches it, where there is something to switch.
function showZone() {
  translate(document);
  ages();
  const now = Date.now() / 1000;
  const face = document.getElementById("face");
  const says = document.getElementById("zone");
  if (!face || local === "UTC") return;
  face.disabled = false;
  face.title = inUtc() ? `Show the times of ${local}` : "Show UTC";
  says.textContent = inUtc() ? "All times are UTC." : `All times are those of ${local} (${zone(now)}).`;
}

export function throttle(wait, work) {
  let last = 0;
  let waiting = 0;
  return () => {
    if (waiting) return;
    waiting = setTimeout(() => {
      waiting = 0;
      last = Date.now();
      work();
    }, Math.max(0, last + wait - Date.now()));
  };
}

export async function json(url) {
  const answer = await fetch(root + url);
  if (!answer.ok) throw new Error(`${url}: ${answer.status}`);
  return answer.json();
}

function ages() {
  const now = new Date();
  const face = document.getElementById("face");
  if (face) face.textContent = clock(now / 1000);
  for (const one of document.querySelectorAll("time[data-ago]")) {
    const words = age(Date.parse(one.dateTime) / 1000, now / 1000);
    if (one.textContent !== words) one.textContent = words;
  }
}

function toast(data) {
  const box = document.getElementById("toast");
  const link = document.createElement("a");
  link.href = `${root}/alerts/${encodeURIComponent(data.alert_id)}`;
  link.textContent = `New alert on ${data.device}`;
  box.replaceChildren(link);
  box.hidden = false;
  clearTimeout(toast.timer);
  toast.timer = setTimeout(() => (box.hidden = true), 12000);
}

onNews((kind, data) => {
  if (kind === "alert" && data.transition === "opened" && Date.now() - data.opened_at / 1000 < 3600000) toast(data);
  if (kind === "parts") showDown(data.down);
  if (["alert", "state", "event", "verdict", "parts", "resync"].includes(kind)) renew(1000);
});

// The live indicator: "live" only while the stream is connected and every part of the server works.
const feed = document.getElementById("feed");
let stream = { state: "wait", words: "connecting" };
let down = [];

function showFeed() {
  if (!feed) return;
  const broken = down.length > 0 && ["live", "poll"].includes(stream.state);
  feed.dataset.state = broken ? "down" : stream.state;
  const words = down.map((part) => `${part.name} down since ${clock(part.since / 1e6)}`).join(", ");
  feed.textContent = broken ? words : stream.words;
}

function showDown(parts) {
  down = parts;
  showFeed();
}

function readDown() {
  const told = document.querySelectorAll("#parts [data-name]");
  showDown([...told].map((one) => ({ name: one.dataset.name, since: Number(one.dataset.since) })));
}

document.addEventListener("renewed", readDown);
readDown();
if (feed) {
  start(document.body.dataset.position, (state, words) => {
    stream = { state, words };
    showFeed();
  });
}
document.getElementById("face")?.addEventListener("click", switchZone);
document.addEventListener("zone", showZone);
document.addEventListener("zone", showFeed);
showZone();
setInterval(ages, 5000);
setInterval(renew, 60000, GENTLY); // silence is news too: a device may have fallen out of contact
ages();

// A button that needs a word of why: says so at the field, instead of losing the form to an error page.
document.addEventListener("click", ({ target }) => {
  const button = target.closest?.("button");
  if (!button?.form) return;
  for (const field of button.form.elements) field.setCustomValidity?.("");
  const field = button.dataset.needs && button.form.elements[button.dataset.needs];
  if (field && !field.value.trim()) field.setCustomValidity("Say why: others rely on it.");
});

// What a box says that chooses all of a list.
document.addEventListener("change", ({ target }) => {
  if (target.id !== "choose-all") return;
  for (const one of document.querySelectorAll("input[name=number]")) one.checked = target.checked;
});
