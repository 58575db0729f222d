// The fleet page: tiles and cells that follow their device, and a search that goes on while one types.

import { onNews } from "./live.js";
import { renew } from "./page.js";
import { age, times } from "./say.js";

const HOURS = 24;
const HOUR = 3600000000;
const ODD = 600000000; // a reading so far from now (µs) is old, or from a clock that is wrong
const WAITING = ["stale", "clock", "offline", "unknown"]; // a reading of now may end these
const QUIET = { normal: "normal", unknown: "not judged", above: "above threshold", clock: "clock ahead" };
const filter = document.getElementById("filter");

// As spark_path in cloud/web/pages.py: linear up to the threshold at half height, logarithmic above it.
function height(ratio) {
  const h = ratio <= 1 ? Math.max(0, ratio) / 2 : 0.5 + 0.5 * Math.min(1, Math.log10(ratio));
  return Math.round(24 * (1 - h));
}

function points(path) {
  const line = new Array(HOURS).fill(null);
  for (const [, x, y] of path.matchAll(/[ML](\d+) (\d+)/g)) line[x / 4] = Number(y);
  return line;
}

function draw(line) {
  let pen = "M";
  let path = "";
  line.forEach((y, i) => {
    if (y === null) pen = "M";
    else {
      path += `${pen}${i * 4} ${y}`;
      pen = "L";
    }
  });
  return path;
}

const states = (tile) => (tile.dataset.states ?? "normal").split(" ");

// Like cloud/alerts/standing.py, for a device whose state follows from its readings alone; the server decides on all others.
function judge(tile, data) {
  const [before, ...more] = states(tile);
  const behind = Date.now() * 1000 - data.ts;
  if (more.length || !(before in QUIET) || behind > ODD) {
    if (behind > ODD ? before === "normal" : WAITING.some((one) => states(tile).includes(one))) renew();
    return;
  }
  const after = behind < -ODD ? "clock" : data.verdict in QUIET ? data.verdict : "above";
  if (before === after) return;
  const state = tile.querySelector(".state");
  state.lastChild.textContent = QUIET[after];
  tile.classList.replace(before, after);
  tile.classList.toggle("needs", after !== "normal");
  tile.dataset.states = after;
  tile.querySelector(".why")?.remove();
  state.querySelector("use").setAttribute("href", `#${after}`);
  const asked = new URLSearchParams(location.search).get("state");
  tile.parentElement.hidden = Boolean(asked) && asked !== after;
  renew(1000); // its place among the others, and the counts
}

function follow(data) {
  const tile = document.getElementById(`d-${data.device}`);
  if (!tile) {
    if ("whole" in document.getElementById("tiles").dataset) renew();
    return;
  }
  const line = tile.querySelector(".line");
  if (!line) {
    brief(tile, data);
    return;
  }
  const time = tile.querySelector("time");
  const seen = Date.parse(time.dateTime || 0) * 1000;
  if (data.ts < seen) return;
  time.dateTime = new Date(data.ts / 1000).toISOString();
  time.dataset.ago = "";
  time.textContent = age(data.ts / 1e6);
  tile.querySelector(".ratio").textContent = times(data.ratio);
  judge(tile, data);
  if (data.ratio === null) return;
  const hour = Math.floor(data.ts / HOUR);
  const ahead = hour - Number(tile.dataset.hour ?? hour);
  let heights = points(line.getAttribute("d"));
  if (ahead > 0) heights = heights.slice(Math.min(ahead, HOURS)).concat(new Array(Math.min(ahead, HOURS)).fill(null));
  const y = height(data.ratio);
  heights[HOURS - 1] = heights[HOURS - 1] === null ? y : Math.min(heights[HOURS - 1], y);
  line.setAttribute("d", draw(heights));
  tile.dataset.hour = hour;
}

// A cell of the grid of well devices, or a line of one that is not: shows a level, or nothing that a reading changes.
function brief(tile, data) {
  const well = !tile.dataset.states;
  if (well !== (data.verdict === "normal")) renew();
  if (well && data.ratio !== null) tile.className = `l${Math.min(3, Math.floor(4 * Math.max(0, data.ratio)))}`;
}

// The address says what is shown, so that it can be kept and sent; the server finds it.
let typing = 0;
function find() {
  const asked = new URLSearchParams([...new FormData(filter)].filter(([, value]) => value.trim()));
  history.replaceState(null, "", asked.size ? `?${asked}` : location.pathname);
  renew(0);
}

if (filter) {
  filter.addEventListener("input", () => {
    clearTimeout(typing);
    typing = setTimeout(find, 250);
  });
  filter.addEventListener("submit", (event) => {
    event.preventDefault();
    clearTimeout(typing);
    find();
  });
}
onNews((kind, data) => {
  if (kind === "result") follow(data);
  if (kind === "health" && data.told.join(" ") !== (document.getElementById(`d-${data.device}`)?.dataset.told ?? "")) renew(1000);
});
