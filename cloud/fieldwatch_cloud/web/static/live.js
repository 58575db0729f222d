// Live updates for all open pages over one event stream: the tab that holds the lock listens and broadcasts to the rest.
//
// Browsers allow six connections per server; with one stream per tab the seventh tab would hang. Event numbers are
// consecutive, and a page knows the number at which it was rendered: a number that is not the next one means that the
// page missed something and must reload its data.

import { clock, root } from "./say.js";

const POLL = 15000;
const RETRY = 5000;
const SILENCE = 30000; // a beat comes every 10 s: a server that is cut off closes no connection, it only falls silent
const PATIENCE = 10000; // for an answer

const KEPT = 2000; // results kept for replay: more than come while the server keeps a page

const place = { boot: "", number: -1 };
const recent = [];
const listeners = [];
let channel = null;
let tell = () => {};

// handler(kind, data): an event of the stream, or kind "resync": reload everything.
export function onNews(handler) {
  listeners.push(handler);
}

// status(state, words): live, wait, poll (no stream, but answers), lost (no answer) or out.
export function start(position, status) {
  [place.boot, place.number] = read(position);
  tell = status;
  if (!("BroadcastChannel" in window) || !navigator.locks) {
    listen(() => {}, status);
    return;
  }
  channel = new BroadcastChannel("fieldwatch");
  channel.onmessage = ({ data }) => (data.state ? status(data.state, data.words) : take(data));
  channel.postMessage({ ask: true });
  navigator.locks.request("fieldwatch-stream", () => {
    const say = (state, words) => {
      status(state, words);
      latest = { state, words };
      channel.postMessage(latest);
    };
    let latest = null;
    channel.onmessage = ({ data }) => {
      if (data.ask && latest) channel.postMessage(latest);
    };
    listen((news) => channel.postMessage(news), say);
    return new Promise(() => {}); // held until the tab closes
  });
}

function read(id) {
  const [boot, number] = String(id).split("-");
  return [boot, Number(number)];
}

function take(news) {
  if (!news.id) return;
  const [boot, number] = read(news.id);
  const missed = boot !== place.boot || number > place.number + 1 || news.kind === "resync";
  const old = boot === place.boot && number <= place.number;
  [place.boot, place.number] = [boot, number];
  if (news.kind === "beat" ? missed && !old : missed) deliver("resync", {});
  else if (!old && news.kind !== "beat") {
    if (news.kind === "result") {
      recent.push({ boot, number, data: news.data });
      if (recent.length > KEPT) recent.shift();
    }
    deliver(news.kind, news.data);
  }
}

// Where this page stands in the feed, and whether a page from `position` lacks what was heard up to `wanted`.
export const here = () => `${place.boot}-${place.number}`;
export function lacks(position, wanted) {
  const [boot, number] = read(position);
  const [wantedBoot, wantedNumber] = read(wanted);
  return boot === wantedBoot && number < wantedNumber;
}

// Deliver the results after `position` again, for parts of a page that were rendered before them.
export function replay(position) {
  const [boot, number] = read(position);
  for (const one of recent) if (one.boot === boot && one.number > number) deliver("result", one.data);
}

function deliver(kind, data) {
  for (const listener of listeners) listener(kind, data);
}

function listen(pass, status) {
  let poll = 0;
  let source = null;
  let heard = Date.now();
  const open = () => {
    source = new EventSource(`${root}/api/v1/events?after=${place.boot}-${place.number}`);
    for (const kind of ["result", "alert", "state", "health", "event", "verdict", "parts", "resync", "beat"]) {
      source.addEventListener(kind, (event) => {
        heard = Date.now();
        const news = { id: event.lastEventId, kind, data: JSON.parse(event.data) };
        take(news);
        pass(news);
      });
    }
    source.onopen = () => {
      heard = Date.now();
      clearInterval(poll);
      poll = 0;
      status("live", "live");
    };
    source.onerror = failed;
  };
  // Find out why there is no stream, show it and return the state.
  const ask = async () => {
    const answer = await fetch(`${root}/api/v1/alerts?limit=1`, { signal: AbortSignal.timeout(PATIENCE) }).catch(() => null);
    if (!poll) return "live"; // the stream has come back meanwhile
    if (answer && answer.status === 401) {
      clearInterval(poll);
      source.close();
      status("out", "signed out: sign in again");
      return "out";
    }
    if (!answer || answer.status >= 500) {
      status("lost", `server not reachable since ${clock(heard / 1000)}`);
      return "lost";
    }
    heard = Date.now();
    status("poll", "updated every 15 s");
    return "poll";
  };
  const failed = async () => {
    const first = !poll;
    if (first) {
      status("wait", "connecting");
      poll = setInterval(async () => {
        if ((await ask()) === "poll") deliver("resync", {});
      }, POLL);
    }
    if (source.readyState !== EventSource.CLOSED) {
      if (first) ask();
      return; // the browser tries again by itself
    }
    if ((await ask()) !== "out") setTimeout(open, RETRY);
  };
  setInterval(() => {
    if (poll || Date.now() - heard < SILENCE) return;
    source.close();
    failed();
  }, RETRY);
  status("wait", "connecting");
  open();
}
