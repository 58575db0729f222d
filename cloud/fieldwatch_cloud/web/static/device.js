// The device page: scores, the heat map of responsible sensors, readings.

import { chart } from "./chart.js";
import { seconds, telling, traces } from "./evidence.js";
import { MISSING, heat, heatColor, scale } from "./heat.js";
import { onNews } from "./live.js";
import { json, renew, throttle } from "./page.js";
import { moment, times } from "./say.js";

const page = document.getElementById("device");
const device = page.dataset.device;
const api = `/api/v1/devices/${encodeURIComponent(device)}`;
const follows = "follows" in page.dataset;
const length = seconds(page.dataset.end) - seconds(page.dataset.start);
let end = seconds(page.dataset.end);

const iso = (ts) => new Date(ts * 1000).toISOString();
const query = () => `from=${iso(end - length)}&to=${iso(end)}`;

// A step of the series with which a trace has two points a pixel at most; "" for the server's own, of at most 2,000.
const STEPS = [1, 5, 10, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400];
function step(width, span = length) {
  const fits = STEPS.find((one) => one >= Number(page.dataset.period) && span / one <= Math.max(200, width) - 1);
  return fits ? `&step=${fits}` : "";
}

// The address says which stretch is shown: it can be kept and sent, and going back shows the one before.
function zoom(from, to) {
  if (to - from < 120) return;
  const short = (ts) => iso(Math.round(ts / 60) * 60).slice(0, 16);
  location.assign(`?from=${short(from)}&to=${short(to)}`);
}

// Times without a reading become a gap in the line.
function holes(t, step, columns) {
  const times = [];
  const out = columns.map(() => []);
  t.forEach((ts, i) => {
    if (i && ts - t[i - 1] > 1.5 * step) {
      times.push(t[i - 1] + step);
      out.forEach((column) => column.push(null));
    }
    times.push(ts);
    out.forEach((column, c) => column.push(columns[c][i]));
  });
  return [times, out];
}

async function scores() {
  const box = document.getElementById("scores");
  const data = await json(`${api}/results?${query()}${step(box.clientWidth)}`);
  if (!data.models.length) {
    box.firstElementChild.textContent = "No reading has been scored in this range.";
    box.firstElementChild.className = "soft";
    return;
  }
  box.querySelector(".wait")?.remove();
  const range = [seconds(data.start), seconds(data.end)];
  data.models.forEach((model, i) => {
    const spans = data.alerts
      .filter((alert) => alert.model === model.model)
      .map((alert) => [seconds(alert.opened_at), alert.resolved_at ? seconds(alert.resolved_at) : range[1]]);
    const [t, [low, high, limit]] = holes(model.t, data.step, [model.low, model.high, model.threshold]);
    const top = Math.max(...model.high.map((v) => v ?? 0));
    const newest = model.threshold[model.threshold.length - 1];
    const single = data.step <= 60 || model.rows.every((n) => n === 1);
    const lines = [
      { name: single ? "score" : "highest", values: high, color: "trace" },
      { name: single ? "" : "lowest", values: low, color: "trace", width: 0.6 },
      { name: "threshold", values: limit, color: "bad", dash: [5, 4], width: 1 },
    ];
    chart(box.children[i] ?? box.appendChild(document.createElement("div")), {
      title: { text: model.model, after: single ? "" : `highest and lowest of each ${data.step / 60} min` },
      t,
      lines,
      fills: [[0, 1]],
      include: [0],
      spans,
      range,
      asinh: newest > 0 && top > 6 * newest ? newest : undefined,
      zoom,
      height: 170,
      sync: "device",
    });
  });
}

async function sensors() {
  const canvas = document.getElementById("heat");
  if (!canvas) return;
  const data = await json(`${api}/heat?${query()}`);
  const cells = Uint8Array.from(atob(data.cells), (c) => c.charCodeAt(0));
  const shown = Math.min(data.sensors.length, 30);
  const start = seconds(data.start);
  const at = (r, c) => {
    const cell = cells[r * data.columns + c];
    return cell === 255 ? MISSING : cell / data.unit;
  };
  heat(canvas, document.getElementById("heat-says"), {
    rows: data.sensors.slice(0, shown).map((name, i) => ({ name, strong: data.peak[i] >= 0.5 })),
    columns: data.columns,
    times: Array.from({ length: data.columns }, (_, c) => start + c * data.step),
    at,
    color: heatColor,
    says: (r, c) => {
      const value = at(r, c);
      const when = moment(start + c * data.step);
      return value === MISSING ? `${when}: no reading` : `${data.sensors[r]}, ${when}: ${times(value)} × threshold`;
    },
  });
  scale(document.getElementById("heat-scale"), heatColor, 0, 2, "0", "2 × threshold");
}

async function readings() {
  const box = document.getElementById("readings");
  if (!box) return;
  const span = Math.min(length, 7 * 86400);
  const picked = JSON.parse(box.dataset.sensors);
  const names = picked.map((name) => `sensors=${encodeURIComponent(name)}`).join("&");
  const data = await json(`${api}/readings?${names}&from=${iso(end - span)}&to=${iso(end)}${step(box.firstElementChild?.clientWidth ?? 400, span)}`);
  data.traces.forEach((trace, i) => {
    const [t, [low, high]] = holes(trace.t, data.step, [trace.low, trace.high]);
    chart(box.children[i] ?? box.appendChild(document.createElement("div")), {
      title: { text: trace.sensor, mono: true },
      t,
      lines: [
        { name: "highest", values: high, color: "trace" },
        { name: "lowest", values: low, color: "trace", width: 0.8 },
      ],
      fills: [[0, 1]],
      range: [seconds(data.start), seconds(data.end)],
      zoom,
      height: 132,
      sync: "device",
    });
  });
}

async function windows() {
  const box = document.getElementById("windows");
  if (!box) return;
  const alert = await json(`/api/v1/alerts/${encodeURIComponent(box.dataset.alert)}`);
  const newest = telling(alert);
  if (!newest) {
    box.textContent = "The newest alert came without readings: the privacy setting keeps them in the lab.";
    return;
  }
  box.querySelector(".wait")?.remove();
  const shares = new Map(alert.sensors.map((sensor, i) => [sensor, alert.shares[i]]));
  const evidence = newest.evidence;
  const few = { ...evidence, sensors: evidence.sensors.slice(0, 4) };
  traces(box, few, shares, seconds(alert.opened_at), alert.resolved_at ? seconds(alert.resolved_at) : null);
}

const all = () => Promise.all([scores(), sensors(), readings(), windows()]).catch((error) => console.warn(error.message));
const again = throttle(10000, () => {
  all();
  renew();
});

document.getElementById("sensor")?.addEventListener("change", ({ target }) => {
  const box = document.getElementById("readings");
  const kept = JSON.parse(box.dataset.sensors).filter((name) => name !== target.value);
  box.dataset.sensors = JSON.stringify([target.value, ...kept].slice(0, 4));
  readings();
});
onNews((kind, data) => {
  if (kind === "resync" || data.device === device) {
    if (kind === "result" && follows) end = Math.max(end, data.ts / 1e6 + 1);
    again();
  }
});
all();
