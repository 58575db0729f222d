// The readings around an alert: traces of the responsible sensors, each with its normal range from training.

import { chart } from "./chart.js";
import { number } from "./say.js";

const STRONG = 0.1; // of the score: drawn in the colour of the alert

export const seconds = (text) => Date.parse(text) / 1000;

// The newest evidence before the recovery, because that of the recovery shows the sensors when they were normal again.
export function telling(alert) {
  const trouble = alert.evidence.filter((one) => one.transition !== "resolved");
  return (trouble.length ? trouble : alert.evidence).at(-1);
}

// Draw `evidence` (contract: Evidence) into `box`; `began` and `ended` are seconds, ended null while it lasts.
export function traces(box, evidence, shares, began, ended) {
  const t = evidence.times.map(seconds);
  const last = t[t.length - 1];
  const spans = began <= last ? [[Math.max(began, t[0]), Math.min(ended ?? last, last)]] : [];
  const boxes = evidence.sensors.map((_, i) => box.children[i] ?? box.appendChild(document.createElement("div")));
  while (box.children.length > boxes.length) box.lastChild.remove();
  evidence.sensors.forEach((sensor, i) => {
    const mean = evidence.mean[i];
    const scale = evidence.scale[i];
    const share = shares.get(sensor);
    const told = evidence.low?.length > i;
    const band = told ? { low: evidence.low[i], high: evidence.high[i] } : scale > 0 ? { low: mean - 3 * scale, high: mean + 3 * scale } : null;
    chart(boxes[i], {
      title: { text: sensor, mono: true, after: share === undefined ? "" : `${Math.round(share * 100)} % of the score` },
      t,
      lines: [{ name: "value", values: evidence.values[i], color: share >= STRONG ? "bad" : "trace", width: 1.6 }],
      band,
      include: band ? [band.low, band.high] : [],
      spans,
      height: 132,
      sync: "evidence",
    });
  });
}

export function says(sensor, when, z) {
  return `${sensor}, ${when}: ${z === null ? "no value" : `${z > 0 ? "+" : ""}${number(z)} scales`}`;
}
