"""What a back-test tells: alerts, their weeks, pictures, the trade; for a terminal, a program and a browser.

The same for agent and trainer; plain values in, text out. A page needs nothing from anywhere: its pictures are SVG.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract.backtest import Fired
from fieldwatch_contract.clock import DAY, MINUTE, SECOND, iso
from fieldwatch_contract.likeness import signature

WEEK = 7 * DAY
MONDAY = 4 * DAY
"""The first Monday after 1970-01-01, µs."""
NAMED = 5
"""Sensors named in text; JSON and page name all that a signature keeps."""

WIDTH, HEIGHT, EDGE = 1000, 150, 44
BUCKETS = 700
"""A picture shows the largest score of each of at most so many stretches of time."""
TICKS = 8
STEPS = tuple(
    [n * SECOND for n in (1, 5, 15, 30)]
    + [n * MINUTE for n in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)]
    + [n * DAY for n in (1, 2, 7, 14, 28, 91, 182, 364)]
)
"""Distances between the ticks of a time axis, µs."""
AROUND = 90
"""Rows shown before and after an alert."""


@dataclass(frozen=True)
class AlertLine:
    """An alert as it is told. ``like``: id of the dismissed alert that it resembles; then nobody was told.

    ``about``: what the labels say of it, empty where there are none; ``picture``: SVG.
    """

    device: str
    model: str
    opened_at: str
    ended_at: str | None
    level: float
    like: str | None
    sensors: list[str]
    about: str
    picture: str

    def to_json(self) -> str:
        """Return one line of JSON."""
        keys = ("device", "model", "opened_at", "ended_at", "level", "like", "sensors")
        return json.dumps({key: getattr(self, key) for key in keys}, ensure_ascii=False)


@dataclass(frozen=True)
class Week:
    """A model's alerts on a device in one week, from ``monday`` (µs); ``days`` of judged rows."""

    device: str
    model: str
    monday: int
    days: float
    alerts: int
    like: int


@dataclass(frozen=True)
class Curve:
    """The trade of one model: a dict a budget, with ``factor``, ``alerts`` and, where labels are, the figures."""

    model: str
    points: Sequence[dict[str, Any]]


@dataclass
class Told:
    """Everything that is told of a back-test. ``about``: lines below the title; ``devices``: pictures, SVG."""

    title: str
    period: int
    sensors: Sequence[str]
    about: list[str] = field(default_factory=list)
    alerts: list[AlertLine] = field(default_factory=list)
    weeks: list[Week] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    missed: list[dict[str, Any]] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Yield the alerts as JSON, a line each, in order of time."""
        for alert in sorted(self.alerts, key=lambda one: (one.opened_at, one.device, one.model)):
            yield alert.to_json()


def line_of(
    device: str,
    model: str,
    fired: Fired,
    sensors: Sequence[str],
    about: str,
    ts: NDArray[np.int64],
    score: NDArray[np.float32],
    level: NDArray[np.float64],
    labels: Sequence[tuple[int, int]],
    period: int,
) -> AlertLine:
    """Return an alert with its picture: the rows around it, of all the device's rows that are given as for a chart."""
    named = [sensors[place] for place, _ in signature(fired.sums)]
    part = slice(max(fired.first - AROUND, 0), fired.last + 1 + AROUND)
    title = f"{device}, {model}, {iso(fired.opened_at)}"
    return AlertLine(
        device, model, iso(fired.opened_at), None if fired.ended_at is None else iso(fired.ended_at), fired.level,
        fired.like if fired.told is None else None, named, about,
        chart(title, ts[part], score[part], level[part], [fired], labels, period),
    )  # fmt: skip


def weeks(
    device: str, model: str, ts: NDArray[np.int64], judged: NDArray[np.bool_], fired: Sequence[Fired], period: int
) -> list[Week]:
    """Return the weeks in which the device had judged rows; ``ts`` int64 ``[n]`` µs, ``period`` µs."""
    number = (ts[judged] - MONDAY) // WEEK
    at = (np.array([one.opened_at for one in fired], np.int64) - MONDAY) // WEEK
    told = np.array([one.told is not None for one in fired], bool)
    return [
        Week(
            device,
            model,
            int(week) * WEEK + MONDAY,
            float(rows) * period / DAY,
            int((told & (at == week)).sum()),
            int((~told & (at == week)).sum()),
        )
        for week, rows in zip(*np.unique(number, return_counts=True), strict=True)
    ]


def text(told: Told) -> str:
    """Tell it on a terminal."""
    lines = [told.title, *told.about]
    for model in dict.fromkeys(week.model for week in told.weeks):
        for monday, days, alerts, like in _by_week(told.weeks, model):
            more = f", and {like} look-alikes of dismissed ones" if like else ""
            lines.append(
                f"  {model}, week of {iso(monday)[:10]}: {alerts / days:.2f} alerts a device-day ({alerts}){more}"
            )
    for alert in sorted(told.alerts, key=lambda one: (one.opened_at, one.device)):
        lines.append(
            f"  {alert.opened_at} to {alert.ended_at or 'the end'}  {alert.device}  {alert.model}  "
            f"level {alert.level:.4g}  {', '.join(alert.sensors[:NAMED]) or 'no sensor'}"
            + (f"  like {alert.like}" if alert.like else "")
            + (f"  {alert.about}" if alert.about else "")
        )
    for miss in told.missed:
        of = "" if miss.get("of_threshold") is None else f", highest score {miss['of_threshold']:.2g} of the threshold"
        lines.append(f"  missed: {miss['device']} {miss['model']} {miss['label']} {miss['start']} to {miss['end']}{of}")
    for curve in told.curves:
        lines.append(f"  {curve.model}, with other budgets:")
        lines += [f"    x {point['factor']:g}: {_point(point)}" for point in curve.points]
    return "\n".join(lines) + "\n"


def page(told: Told) -> str:
    """Tell it as one self-contained HTML page."""
    parts = [f"<h1>{escape(told.title)}</h1>", *(f"<p>{escape(line)}</p>" for line in told.about)]
    for curve in told.curves:
        rows = "".join(f"<tr><td>× {point['factor']:g}<td>{escape(_point(point))}" for point in curve.points)
        parts.append(f"<h2>{escape(curve.model)}: with other budgets</h2>{_trade(curve)}<table>{rows}</table>")
    rows = ""
    for model in dict.fromkeys(week.model for week in told.weeks):
        for monday, days, alerts, like in _by_week(told.weeks, model):
            rows += f"<tr><td>{escape(model)}<td>{iso(monday)[:10]}<td>{alerts}<td>{alerts / days:.2f}<td>{like}"
    head = "<tr><th>model<th>week of<th>alerts<th>a device-day<th>look-alikes"
    parts.append(f"<h2>By week</h2><table>{head}{rows}</table>")
    if told.missed:
        parts.append("<h2>Missed</h2><ul>")
        parts += [
            f"<li>{escape(one['device'])}: {escape(one['label'])} from {one['start']} to {one['end']}</li>"
            for one in told.missed
        ]
        parts.append("</ul>")
    parts.append("<h2>Alerts</h2>" if told.alerts else "<h2>No alert</h2>")
    parts.append("<p>Solid: score; dashed: level; red: an alert is open; amber: labelled time.</p>")
    for alert in sorted(told.alerts, key=lambda one: (one.opened_at, one.device)):
        mark = f" Like dismissed alert {alert.like}: nobody is told." if alert.like else ""
        sensors = ", ".join(alert.sensors) or "no sensor"
        span = f"{alert.opened_at} to {alert.ended_at or 'the end'}"
        parts.append(
            f"<h3>{escape(alert.device)}, {escape(alert.model)}: {span}</h3>"
            f"<p>Level {alert.level:.4g}; {escape(sensors)}. {escape(alert.about)}{mark}</p>{alert.picture}"
        )
    parts.append("<h2>Devices</h2>" + "".join(told.devices))
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>{escape(told.title)}</title><style>{STYLE}</style><body>{''.join(parts)}</body></html>"
    )


def _trade(curve: Curve) -> str:
    """Draw events found over false alarms a device-day, a point a budget; nothing where no label says either."""
    known = [p for p in curve.points if p.get("event_recall") is not None and p.get("false_alarms_per_day") is not None]
    if not known:
        return ""
    most = max(*(point["false_alarms_per_day"] for point in known), 0.1) * 1.1
    width, height = 420, 220
    spots = [
        (EDGE + point["false_alarms_per_day"] / most * (width - EDGE - 10), height - 34 - point["event_recall"] * 170)
        for point in known
    ]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    marks = "".join(
        f"<circle cx='{x:.1f}' cy='{y:.1f}' r='3.5' fill='#235a97'/>"
        f"<text x='{x + 6:.1f}' y='{y - 6:.1f}'>× {point['factor']:g}</text>"
        for (x, y), point in zip(spots, known, strict=True)
    )
    return (
        f"<svg viewBox='0 0 {width} {height}' style='max-width:{width}px' role='img' "
        f"aria-label='events found over false alarms of {escape(curve.model)}'>"
        f"<polyline class='s' points='{line}'/>{marks}"
        f"<text x='0' y='20'>1</text><text x='0' y='{height - 34}'>0</text><text x='14' y='20'>events found</text>"
        f"<text x='{width}' y='{height - 4}' text-anchor='end'>false alarms a device-day, up to {most:.2g}</text></svg>"
    )


STYLE = (
    "body{font:15px system-ui;margin:2rem auto;max-width:1040px;padding:0 1rem;color:#1b1f24;background:#fff}"
    "svg{width:100%;height:auto}table{border-collapse:collapse}td,th{padding:.15rem .8rem .15rem 0;text-align:left}"
    ".s{fill:none;stroke:#235a97;stroke-width:1.2}.t{fill:none;stroke:#b3261e;stroke-dasharray:5 4}"
    ".a{fill:#b3261e;opacity:.16}.l{fill:#d98a00;opacity:.22}text{font-size:12px;fill:#57606a}"
)


def chart(
    title: str,
    ts: NDArray[np.int64],
    score: NDArray[np.float32],
    level: NDArray[np.float64],
    fired: Sequence[Fired],
    labels: Sequence[tuple[int, int]],
    period: int,
) -> str:
    """Draw score (solid) and level (dashed) over time, alerts and labelled time as bands; no line crosses a gap.

    ``ts`` int64 ``[n]`` µs, rising; ``score`` float32 and ``level`` float64 ``[n]``; ``labels`` first and last µs.
    """
    if not len(ts):
        return ""
    first, last = int(ts[0]), int(ts[-1]) + period
    bucket = (ts - first) * BUCKETS // (last - first) if len(ts) > BUCKETS else np.arange(len(ts))
    starts = np.flatnonzero(np.diff(bucket, prepend=-1))
    known = np.where(np.isnan(score), -np.inf, score)
    peak = np.maximum.reduceat(known, starts).astype(np.float64)
    height = np.maximum.reduceat(level, starts)
    seen = ~np.isinf(peak)
    top = 1.1 * max(float(peak[seen].max(initial=0.0)), float(height.max()), 1e-12)
    width = max(period, (last - first) // BUCKETS)
    apart = np.diff(ts[starts], prepend=first) > 2 * width

    def x(time: float) -> float:
        return EDGE + (min(max(time, first), last) - first) / (last - first) * (WIDTH - EDGE)

    def y(value: float) -> float:
        return HEIGHT - 18 - value / top * (HEIGHT - 30)

    def band(start: int, end: int, kind: str) -> str:
        if end < first or start > last:
            return ""
        width = max(x(end) - x(start), 1.5)
        return f"<rect class='{kind}' x='{x(start):.1f}' y='8' width='{width:.1f}' height='{HEIGHT - 26}'/>"

    bands = [band(start, end + period, "l") for start, end in labels]
    bands += [band(one.opened_at, last if one.ended_at is None else one.ended_at, "a") for one in fired]
    lines = _lines(ts[starts], peak, seen, apart, x, y, "s") + _lines(
        ts[starts], height, np.ones(len(starts), bool), apart, x, y, "t"
    )
    return (
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='score of {escape(title, quote=True)} over time'>"
        f"<title>{escape(title)}</title>{''.join(bands)}{lines}"
        f"<text x='0' y='14'>{top:.3g}</text><text x='0' y='{HEIGHT - 18}'>0</text>"
        f"<text x='{EDGE + 4}' y='14'>{escape(title)}</text>"
        f"{''.join(_tick(x(time), label) for time, label in ticks(first, last))}</svg>"
    )


def ticks(first: int, last: int) -> list[tuple[int, str]]:
    """Return the times (µs) of a time axis and what stands at them: at most :data:`TICKS`, at round times.

    The first one and every midnight carry the day, the others the time of day; UTC.
    """
    step = next((step for step in STEPS if (last - first) // step < TICKS), None)
    if step is None:  # years: whole multiples of the longest step
        step = STEPS[-1] * -(-(last - first) // (STEPS[-1] * TICKS))
    found: list[tuple[int, str]] = []
    for time in range(-(-first // step) * step, last, step):
        day = iso(time)[:10]
        clock = iso(time)[11 : 16 if step >= MINUTE else 19]
        label = day if time % DAY == 0 else f"{day} {clock}" if not found else clock
        found.append((time, label))
    return found


def _tick(place: float, label: str) -> str:
    anchor = "end" if place > WIDTH - 60 else "start" if place < EDGE + 60 else "middle"
    return (
        f"<line x1='{place:.1f}' x2='{place:.1f}' y1='{HEIGHT - 18}' y2='{HEIGHT - 14}' stroke='#57606a'/>"
        f"<text x='{place:.1f}' y='{HEIGHT - 2}' text-anchor='{anchor}'>{label}</text>"
    )


def _lines(
    ts: NDArray[np.int64], value: NDArray[np.float64], seen: NDArray[np.bool_], apart: NDArray[np.bool_],
    x: Any, y: Any, kind: str,
) -> str:  # fmt: skip
    pieces: list[list[str]] = [[]]
    for time, height, there, new in zip(ts.tolist(), value.tolist(), seen.tolist(), apart.tolist(), strict=True):
        if new or not there:
            pieces.append([])
        if there:
            pieces[-1].append(f"{x(time):.1f},{y(height):.1f}")
    return "".join(f"<polyline class='{kind}' points='{' '.join(points)}'/>" for points in pieces if len(points) > 1)


def _by_week(found: Sequence[Week], model: str) -> Iterator[tuple[int, float, int, int]]:
    """Yield Monday, device-days, alerts and look-alikes of a model, over all devices."""
    own = [week for week in found if week.model == model]
    for monday in sorted({week.monday for week in own}):
        mine = [week for week in own if week.monday == monday]
        yield monday, sum(w.days for w in mine), sum(w.alerts for w in mine), sum(w.like for w in mine)


def _point(point: dict[str, Any]) -> str:
    told = [f"{point['alerts']} alerts"]
    if point.get("false_alarms_per_day") is not None:
        told.append(f"false alarms a device-day {point['false_alarms_per_day']:.2f}")
    if point.get("event_recall") is not None:
        told.append(f"events found {point['event_recall']:.0%}")
    if point.get("delay_median_s") is not None:
        told.append(f"median delay {duration(point['delay_median_s'])}")
    return ", ".join(told)


def duration(seconds: float) -> str:
    """Write a length of time.

    >>> [duration(each) for each in (0, 60, 750, 12_000, 260_000)]
    ['0 s', '1 min', '12.5 min', '3.33 h', '3.01 days']
    """
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
