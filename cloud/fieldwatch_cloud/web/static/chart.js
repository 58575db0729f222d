// Line charts with uPlot: one style, both themes, 24 hours, values at the pointer as text.

import { days, inUtc, minute, moment, number, ticks, wall } from "./say.js";

const charts = new Map();
const AXIS = 54;
const dark = matchMedia("(prefers-color-scheme: dark)");

const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

// Draw into `box`, or redraw it with new data.
//   title   {text, mono, after}
//   t       seconds
//   lines   [{name, values, color: a name of style.css, width, dash}]
//   fills   [[upper, lower]]: indices of lines between which to fill
//   band    {low, high}: horizontal
//   spans   [[from, to]]: shaded stretches of time, seconds
//   limits  [value]: horizontal dashed lines, numbers
//   range   [from, to] of the time axis
//   zoom    what to do with a stretch that is dragged over: called with its ends, seconds; without one the chart itself
//           shows that stretch, and everything again after a double click
//   asinh   value around which the axis turns from linear to logarithmic
export function chart(box, spec) {
  let one = charts.get(box);
  if (!one) {
    box.className = "chart";
    const title = document.createElement("div");
    title.className = "title";
    const plot = document.createElement("div");
    plot.className = "plot";
    box.replaceChildren(title, plot);
    one = { title, plot, uplot: null, spec, view: null };
    plot.addEventListener("dblclick", () => one.view && view(one.spec.sync, null));
    charts.set(box, one);
    new ResizeObserver(() => fit(one)).observe(plot);
  }
  one.spec = spec;
  build(one);
}

const again = () => {
  for (const one of charts.values()) build(one);
};
dark.addEventListener("change", again);
document.addEventListener("zone", again);

function fit(one) {
  const width = Math.floor(one.plot.clientWidth);
  if (one.uplot && width > 0 && width !== one.uplot.width) one.uplot.setSize({ width, height: one.spec.height });
}

function build(one) {
  const { spec } = one;
  const name = document.createElement("b");
  name.textContent = spec.title.text;
  if (spec.title.mono) name.className = "mono";
  const after = document.createElement("span");
  after.className = "soft";
  after.textContent = spec.title.after ?? "";
  const says = document.createElement("output");
  one.title.replaceChildren(name, after, says);
  one.uplot?.destroy();
  one.uplot = new uPlot(options(one, says), [spec.t, ...spec.lines.map((line) => line.values)], one.plot);
}

function options(one, says) {
  const { spec } = one;
  const range = one.view ?? spec.range;
  const font = `12px ${ink("sans")}`;
  const axis = { stroke: ink("soft"), font, grid: { stroke: ink("grid"), width: 1 }, ticks: { show: false } };
  return {
    width: Math.max(200, Math.floor(one.plot.clientWidth)),
    height: spec.height,
    legend: { show: false },
    padding: [6, 18, 0, 0],
    cursor: { drag: { x: true, y: false, dist: 8, setScale: false }, points: { size: 5 }, sync: { key: spec.sync, setSeries: false } },
    tzDate: (ts) => (inUtc() ? uPlot.tzDate(new Date(ts * 1000), "Etc/UTC") : new Date(ts * 1000)),
    scales: {
      x: { time: true, range: range ? () => range : undefined },
      y: { distr: spec.asinh ? 4 : 1, asinh: spec.asinh, range: (u, low, high) => reach(spec, low, high) },
    },
    axes: [
      { ...axis, space: 64, size: 26, values: (u, at) => at.map(timeLabel) },
      { ...axis, size: AXIS, space: 26, values: (u, at) => (spec.asinh ? apart(u, at) : ticks(at)) },
    ],
    series: [
      {},
      ...spec.lines.map((line) => ({
        stroke: ink(line.color),
        width: line.width ?? 1.5,
        dash: line.dash,
        points: { show: false },
        spanGaps: false,
      })),
    ],
    bands: (spec.fills ?? []).map(([upper, lower]) => ({ series: [upper + 1, lower + 1], fill: ink("band") })),
    hooks: {
      setSelect: [(u) => select(u, spec)],
      drawClear: [(u) => under(u, spec)],
      draw: [(u) => over(u, spec)],
      setCursor: [(u) => (says.textContent = readout(spec, u.cursor.idx))],
    },
  };
}

// A stretch was dragged over.
function select(u, spec) {
  if (u.select.width < 8) return;
  const stretch = [u.select.left, u.select.left + u.select.width].map((x) => u.posToVal(x, "x"));
  if (spec.zoom) spec.zoom(...stretch);
  else setTimeout(view, 0, spec.sync, stretch);
}

// Let all charts that go together show a stretch, null for everything.
function view(sync, stretch) {
  for (const one of charts.values()) {
    if (one.spec.sync !== sync) continue;
    one.view = stretch;
    build(one);
  }
}

// Labels of a compressed axis: from the top down, each at least a line's height from the one above; the rest stay blank.
function apart(u, at) {
  const labels = at.map(() => "");
  let above = -Infinity;
  for (let i = at.length - 1; i >= 0; i--) {
    if (at[i] === null) continue;
    const y = u.valToPos(at[i], "y");
    if (y - above < 16) continue;
    above = y;
    labels[i] = String(Number(at[i].toPrecision(3)));
  }
  return labels;
}

function timeLabel(ts) {
  return wall(ts) % 86400 === 0 ? days(ts) : minute(ts);
}

function reach(spec, low, high) {
  let values = [low, high].filter((v) => v !== null && Number.isFinite(v));
  values = values.concat(spec.include ?? [], spec.limits ?? []);
  if (!values.length) return [0, 1];
  let from = Math.min(...values);
  let to = Math.max(...values);
  if (from === to) [from, to] = [from - (Math.abs(from) || 1) * 0.1, to + (Math.abs(to) || 1) * 0.1];
  const room = (to - from) * 0.06;
  return [from === 0 ? 0 : from - room, to + room];
}

function under(u, spec) {
  const { ctx } = u;
  const { left, top, width, height } = u.bbox;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  if (spec.band) {
    const low = u.valToPos(spec.band.low, "y", true);
    const high = u.valToPos(spec.band.high, "y", true);
    ctx.fillStyle = ink("band");
    ctx.fillRect(left, high, width, low - high);
  }
  ctx.fillStyle = ink("event");
  for (const [from, to] of spec.spans ?? []) {
    const start = u.valToPos(from, "x", true);
    ctx.fillRect(start, top, Math.max(2, u.valToPos(to, "x", true) - start), height);
  }
  ctx.restore();
}

function over(u, spec) {
  const { ctx } = u;
  const { left, top, width, height } = u.bbox;
  const one = devicePixelRatio;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top, width, height);
  ctx.clip();
  ctx.lineWidth = one;
  ctx.setLineDash([5 * one, 4 * one]);
  ctx.strokeStyle = ink("bad");
  for (const value of spec.limits ?? []) {
    const y = Math.round(u.valToPos(value, "y", true)) + 0.5;
    ctx.beginPath();
    ctx.moveTo(left, y);
    ctx.lineTo(left + width, y);
    ctx.stroke();
  }
  ctx.setLineDash([]);
  for (const [from] of spec.spans ?? []) {
    const x = Math.round(u.valToPos(from, "x", true)) + 0.5;
    ctx.beginPath();
    ctx.moveTo(x, top);
    ctx.lineTo(x, top + height);
    ctx.stroke();
  }
  ctx.restore();
}

function readout(spec, index) {
  if (index === null || index === undefined) return "";
  const values = spec.lines
    .filter((line) => line.name)
    .map((line) => `${line.name} ${number(line.values[index])}`.trim());
  return `${moment(spec.t[index])}  ${values.join(", ")}`;
}
