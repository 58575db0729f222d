// Heat maps on a canvas: rows are sensors, columns are time. Text at the pointer, and a table for everything else.

import { days, minute, wall } from "./say.js";

const dark = matchMedia("(prefers-color-scheme: dark)");
const drawn = new Map();
const GUTTER = 150;
const AXIS = 20;
const ROW = 15;
const MISSING = -1e9;

const ink = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const mix = (a, b, t) => a.map((v, i) => Math.round(v + (b[i] - v) * t));

function stops() {
  return dark.matches
    ? { zero: [27, 33, 39], mid: [176, 84, 44], top: [255, 214, 130], low: [70, 150, 220], high: [240, 98, 80] }
    : { zero: [243, 245, 246], mid: [232, 140, 60], top: [122, 16, 22], low: [20, 96, 160], high: [176, 36, 30] };
}

// 0 = nothing, 1 = reaches the threshold by itself, 2 and more = the end
export function heatColor(value) {
  const c = stops();
  const t = Math.min(1, (Math.max(0, value) / 2) ** 0.8);
  return t < 0.5 ? mix(c.zero, c.mid, t * 2) : mix(c.mid, c.top, t * 2 - 1);
}

// distance from the mean in scales, ±8 at the ends
export function distanceColor(z) {
  const c = stops();
  return mix(c.zero, z < 0 ? c.low : c.high, Math.min(1, Math.max(0, Math.abs(z) - 1) / 6));
}

// spec: {rows: [{name, strong}], columns, at(row, column): number or MISSING, color, times: seconds of the columns,
//        says(row, column): text, spans}
export function heat(canvas, output, spec) {
  if (!drawn.has(canvas)) {
    new ResizeObserver(() => paint(canvas)).observe(canvas);
    canvas.addEventListener("pointermove", (event) => point(canvas, output, event));
    canvas.addEventListener("pointerleave", () => (output.textContent = " "));
  }
  drawn.set(canvas, { spec });
  paint(canvas);
}

document.addEventListener("zone", () => {
  for (const canvas of drawn.keys()) paint(canvas);
});
dark.addEventListener("change", () => {
  for (const canvas of drawn.keys()) paint(canvas);
  for (const box of document.querySelectorAll(".scale")) box.repaint?.();
});

export { MISSING };

export function scale(box, color, low, high, lowWords, highWords) {
  const strip = document.createElement("canvas");
  strip.width = 120;
  strip.height = 1;
  box.repaint = () => {
    const ctx = strip.getContext("2d");
    for (let x = 0; x < 120; x++) {
      ctx.fillStyle = `rgb(${color(low + ((high - low) * x) / 119).join(" ")})`;
      ctx.fillRect(x, 0, 1, 1);
    }
  };
  box.repaint();
  box.replaceChildren(lowWords, strip, highWords);
}

function layout(canvas) {
  const { spec } = drawn.get(canvas);
  const width = canvas.clientWidth;
  const gutter = Math.min(GUTTER, Math.round(width * 0.3));
  const low = Math.max(4, Math.min(ROW, Math.floor(480 / Math.max(1, spec.rows.length))));
  const tops = [0];
  for (const { strong } of spec.rows) tops.push(tops[tops.length - 1] + (strong ? ROW : low));
  return { width, gutter, tops, cell: (width - gutter) / spec.columns };
}

function paint(canvas) {
  const { spec } = drawn.get(canvas);
  const { width, gutter, tops, cell } = layout(canvas);
  if (width <= gutter) return;
  const bottom = tops[spec.rows.length];
  const height = bottom + AXIS;
  const one = devicePixelRatio;
  if (canvas.width !== Math.round(width * one) || canvas.height !== Math.round(height * one)) {
    canvas.width = Math.round(width * one);
    canvas.height = Math.round(height * one);
    canvas.style.height = `${height}px`;
  }
  const ctx = canvas.getContext("2d");
  ctx.setTransform(one, 0, 0, one, 0, 0);
  ctx.clearRect(0, 0, width, height);
  const picture = new OffscreenCanvas(spec.columns, spec.rows.length);
  const pixels = new ImageData(spec.columns, spec.rows.length);
  const empty = [];
  for (let r = 0; r < spec.rows.length; r++) {
    for (let c = 0; c < spec.columns; c++) {
      const value = spec.at(r, c);
      if (value === MISSING) {
        empty.push([r, c]);
        continue;
      }
      pixels.data.set([...spec.color(value), 255], 4 * (r * spec.columns + c));
    }
  }
  picture.getContext("2d").putImageData(pixels, 0, 0);
  ctx.imageSmoothingEnabled = false;
  spec.rows.forEach((_, r) => {
    ctx.drawImage(picture, 0, r, spec.columns, 1, gutter, tops[r], width - gutter, tops[r + 1] - tops[r]);
  });
  hatch(ctx, empty, gutter, cell, tops);
  names(ctx, spec, gutter, tops);
  times(ctx, spec, gutter, width, bottom, cell);
}

function hatch(ctx, empty, gutter, cell, tops) {
  ctx.strokeStyle = ink("edge");
  ctx.lineWidth = 1;
  ctx.beginPath();
  for (const [r, c] of empty) {
    ctx.moveTo(gutter + c * cell, tops[r + 1]);
    ctx.lineTo(gutter + (c + 1) * cell, tops[r]);
  }
  ctx.stroke();
}

function names(ctx, spec, gutter, tops) {
  ctx.textBaseline = "middle";
  ctx.textAlign = "right";
  let free = 0;
  spec.rows.forEach(({ name, strong }, r) => {
    const y = (tops[r] + tops[r + 1]) / 2;
    if (y - 6 < free - 1 && !strong) return;
    ctx.font = `${strong ? "600 " : ""}11px ${ink("mono")}`;
    ctx.fillStyle = ink(strong ? "ink" : "soft");
    ctx.fillText(shorten(ctx, name, gutter - 8), gutter - 6, Math.max(6, y));
    free = y + 6;
  });
}

function shorten(ctx, text, room) {
  if (ctx.measureText(text).width <= room) return text;
  let kept = text;
  while (kept.length > 1 && ctx.measureText(`${kept}…`).width > room) kept = kept.slice(0, -1);
  return `${kept}…`;
}

function times(ctx, spec, gutter, width, top, cell) {
  const span = spec.times[spec.times.length - 1] - spec.times[0];
  const room = Math.max(2, Math.floor((width - gutter) / 80));
  const steps = [300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 345600];
  const step = steps.find((one) => span / one <= room) ?? 604800;
  ctx.font = `11px ${ink("sans")}`;
  ctx.fillStyle = ink("soft");
  ctx.textAlign = "center";
  let last = -1;
  spec.times.forEach((ts, c) => {
    const shown = wall(ts);
    const mark = Math.floor(shown / step);
    if (mark === last) return;
    const first = last === -1;
    last = mark;
    if (first && shown % step) return;
    const x = gutter + c * cell;
    if (x > width - 18 || x < gutter + 12) return;
    const midnight = step >= 3600 && shown % 86400 < Math.min(step, 3600);
    const words = midnight ? days(ts) : minute(ts);
    ctx.fillText(words, x, top + AXIS / 2 + 2);
    ctx.fillRect(x, top, 1, 3);
  });
}

function point(canvas, output, event) {
  const { spec } = drawn.get(canvas);
  const { gutter, tops, cell } = layout(canvas);
  const c = Math.floor((event.offsetX - gutter) / cell);
  const r = tops.findIndex((top) => top > event.offsetY) - 1;
  const inside = c >= 0 && c < spec.columns && r >= 0 && r < spec.rows.length;
  output.textContent = inside ? spec.says(r, c) : " ";
}
