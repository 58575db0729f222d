// The alert page: the score and the readings around the alert, and the picture of all sensors.

import { chart } from "./chart.js";
import { says, seconds, telling, traces } from "./evidence.js";
import { MISSING, distanceColor, heat, scale } from "./heat.js";
import { onNews } from "./live.js";
import { json, throttle } from "./page.js";
import { moment } from "./say.js";

const page = document.getElementById("alert");
const UNIT = 16; // contract.fields.Evidence: z is stored in sixteenths
const AROUND = 3600;

function picture(evidence, alert) {
  const canvas = document.getElementById("heat");
  if (!canvas || !evidence.z) return;
  const cells = Int8Array.from(atob(evidence.z), (c) => c.charCodeAt(0));
  const columns = evidence.times.length;
  const z = (s, c) => cells[s * columns + c];
  const far = evidence.all_sensors.map((_, s) => {
    let most = 0;
    for (let c = 0; c < columns; c++) if (z(s, c) !== -128) most = Math.max(most, Math.abs(z(s, c)));
    return most;
  });
  const rank = new Map(alert.sensors.map((sensor, i) => [sensor, i]));
  const place = (s) => rank.get(evidence.all_sensors[s]) ?? Infinity;
  const order = [...far.keys()].sort((a, b) => (place(a) === place(b) ? far[b] - far[a] : place(a) - place(b)));
  const times = evidence.times.map(seconds);
  const value = (r, c) => (z(order[r], c) === -128 ? MISSING : z(order[r], c) / UNIT);
  heat(canvas, document.getElementById("heat-says"), {
    rows: order.map((s) => ({ name: evidence.all_sensors[s], strong: rank.has(evidence.all_sensors[s]) })),
    columns,
    times,
    at: value,
    color: distanceColor,
    says: (r, c) => says(evidence.all_sensors[order[r]], moment(times[c]), value(r, c) === MISSING ? null : value(r, c)),
  });
  scale(document.getElementById("heat-scale"), distanceColor, -8, 8, "−8 scales", "+8");
}

async function score(alert, evidence) {
  const box = document.getElementById("score");
  const began = seconds(alert.opened_at);
  const ended = alert.resolved_at ? seconds(alert.resolved_at) : null;
  let from = evidence ? seconds(evidence.times[0]) : began - AROUND;
  let to = evidence ? seconds(evidence.times[evidence.times.length - 1]) : (ended ?? seconds(alert.last_at)) + AROUND;
  from = Math.min(from, began - 1800);
  to = Math.max(to, (ended ?? seconds(alert.last_at)) + 900);
  const range = `from=${new Date(from * 1000).toISOString()}&to=${new Date(to * 1000).toISOString()}`;
  const url = `/api/v1/devices/${encodeURIComponent(alert.device)}/results?${range}&model=${encodeURIComponent(alert.model)}`;
  const stored = (await json(url)).models[0];
  const t = stored ? stored.t : evidence ? evidence.times.map(seconds) : [];
  const values = stored ? stored.high : evidence ? evidence.scores : [];
  if (!t.length) {
    box.textContent = "The scores around this alert are not in the store.";
    return;
  }
  box.querySelector(".wait")?.remove();
  const top = Math.max(...values.map((v) => v ?? 0));
  chart(box.firstElementChild ?? box.appendChild(document.createElement("div")), {
    title: { text: alert.model, after: "dashed: threshold; shaded: while the alert was open" },
    t,
    lines: [{ name: "score", values, color: "trace" }],
    limits: [alert.threshold],
    include: [0],
    spans: [[began, ended ?? to]],
    range: [from, to],
    asinh: alert.threshold > 0 && top > 6 * alert.threshold ? alert.threshold : undefined,
    height: 170,
    sync: "alert",
  });
}

async function load() {
  const alert = await json(`/api/v1/alerts/${encodeURIComponent(page.dataset.alert)}`);
  const newest = telling(alert);
  const shares = new Map(alert.sensors.map((sensor, i) => [sensor, alert.shares[i]]));
  if (newest) {
    const ended = alert.resolved_at ? seconds(alert.resolved_at) : null;
    traces(document.getElementById("traces"), newest.evidence, shares, seconds(alert.opened_at), ended);
    picture(newest.evidence, alert);
  }
  await score(alert, newest?.evidence);
}

const all = () => load().catch((error) => console.warn(error.message));
const again = throttle(5000, all);
onNews((kind, data) => {
  if (kind === "resync" || (kind === "alert" && data.alert_id === page.dataset.alert)) again();
});
all();
