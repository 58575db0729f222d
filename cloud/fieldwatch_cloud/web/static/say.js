// Times and numbers as the server writes them (cloud/words.py): 24 hours, each time with its zone.
//
// The server writes UTC. Here times are those of the browser's own zone, or UTC where the person has chosen so.

// The path under which the pages are: "" at the root.
export const root = document.documentElement.dataset.prefix ?? "";

const pad = (n) => String(n).padStart(2, "0");

export function duration(seconds) {
  const s = Math.floor(seconds);
  if (s < 60) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

export function age(seconds, now = Date.now() / 1000) {
  const span = now - seconds;
  if (Math.abs(span) < 5) return "just now";
  return `${duration(Math.abs(span))} ${span > 0 ? "ago" : "ahead"}`;
}

const CHOICE = "fieldwatch-zone";
export const local = Intl.DateTimeFormat().resolvedOptions().timeZone ?? "UTC";
export const inUtc = () => local === "UTC" || localStorage.getItem(CHOICE) === "utc";

// Show UTC, or the browser's own zone again; what has drawn times hears of it.
export function switchZone() {
  localStorage.setItem(CHOICE, inUtc() ? "local" : "utc");
  document.dispatchEvent(new CustomEvent("zone"));
}

// The short name of the zone at that time: summer time has another one.
export function zone(seconds) {
  if (inUtc()) return "UTC";
  const parts = new Intl.DateTimeFormat("en-GB", { timeZoneName: "short" }).formatToParts(new Date(seconds * 1000));
  return parts.find((part) => part.type === "timeZoneName").value;
}

// Seconds as if the wall clock showed UTC: what axes and days are counted by.
export const wall = (seconds) => seconds - (inUtc() ? 0 : new Date(seconds * 1000).getTimezoneOffset() * 60);

const written = (seconds) => new Date(wall(seconds) * 1000).toISOString();

// What a field of a time holds: the clock of the zone that is shown; and the same moment in UTC.
export const local16 = (seconds) => written(seconds).slice(0, 16);
export const utc16 = (text) => `${new Date(inUtc() ? `${text}Z` : text).toISOString().slice(0, 16)}Z`;

export const minute = (seconds) => written(seconds).slice(11, 16);

export const clock = (seconds) => `${minute(seconds)} ${zone(seconds)}`;

export const moment = (seconds) => `${written(seconds).slice(0, 16).replace("T", " ")} ${zone(seconds)}`;

export const utc = (seconds) => `${new Date(seconds * 1000).toISOString().slice(0, 19).replace("T", " ")} UTC`;

export function number(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return "–";
  if (value === 0) return "0";
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toString().replace(/\B(?=(\d{3})+$)/g, ",");
  if (size < 0.001) return value.toExponential(2);
  if (size >= 1) return value.toFixed(size >= 100 ? 1 : 2);
  return String(Number(value.toPrecision(3)));
}

// A score as a multiple of its threshold.
export function times(value) {
  if (value === null || value === undefined) return "–";
  const size = Math.abs(value);
  if (size >= 1000) return number(value);
  return value.toFixed(size < 10 ? 2 : size < 100 ? 1 : 0);
}

// Axis labels: only as many digits as the step between two of them needs; a step such as 2.5 needs one more than 2.
export function ticks(values) {
  const step = Math.abs(values.length > 1 ? values[1] - values[0] : values[0]) || 1;
  const place = Math.floor(Math.log10(step) + 1e-9);
  const lead = step / 10 ** place;
  const last = Math.abs(lead - Math.round(lead)) > 0.01 ? place - 1 : place;
  const digits = Math.min(8, Math.max(0, -last));
  const big = Math.max(...values.map((v) => Math.abs(v ?? 0)));
  if (big >= 1e6 || (big > 0 && big < 1e-4)) {
    const more = Math.min(8, Math.max(1, Math.floor(Math.log10(big) + 1e-9) - last));
    return values.map((v) => (v === 0 ? "0" : v.toExponential(more)));
  }
  return values.map((v) => (v === null ? "" : v.toFixed(digits)));
}

export function days(seconds) {
  const day = new Date(wall(seconds) * 1000);
  return `${pad(day.getUTCDate())} ${["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"][day.getUTCMonth()]}`;
}
