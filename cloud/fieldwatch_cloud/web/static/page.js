// Common to all pages: the clock, ages that count up, the live indicator, and parts that refresh themselves.
//
// When something has changed, the page is fetched again and each element with an id and data-live is replaced by its
// new version. So the server's templates are the only place that generates HTML.

import { onNews, replay, start } from "./live.js";
import { age, clock, root } from "./say.js";

const GENTLY = 5000;
let asked = 0;
let timer = 0;

// Refresh the live parts soon, at most once per `wait` milliseconds (throttled).
export function renew(wait = GENTLY) {
  const due = Math.max(0, asked + wait - Date.now());
  if (timer && timer.due <= Date.now() + due) return;
  if (timer) clearTimeout(timer.id);
  timer = { due: Date.now() + due, id: setTimeout(load, due) };
}

async function load() {
  timer = 0;
  asked = Date.now();
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } }).catch(() => null);
  if (!answer || !answer.ok || answer.redirected) return;
  const fresh = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const old of document.querySelectorAll("[data-live]")) {
    const next = fresh.getElementById(old.id);
    if (!next || next.isEqualNode(old)) continue;
    const focused = old.contains(document.activeElement) ? document.activeElement.id : null;
    old.replaceWith(document.adoptNode(next));
    if (focused) document.getElementById(focused)?.focus();
  }
  replay(fresh.body.dataset.position); // the server may have kept the page since before the newest results
  document.dispatchEvent(new CustomEvent("renewed"));
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
  const face = document.getElementById("utc");
  if (face) face.textContent = `${clock(now / 1000)} UTC`;
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
  const words = down.map((part) => `${part.name} down since ${clock(part.since / 1e6)} UTC`).join(", ");
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
setInterval(ages, 5000);
setInterval(renew, 60000, GENTLY); // silence is news too: a device may have fallen out of contact
ages();
