"""What a back-test tells: alerts, their weeks, pictures, the trade; for a terminal, a program and a browser.

The same for agent and trainer; plain values in, text out. Where labels say what was true, what the alerts missed and
which of them were false comes first: who reads on wants to know whether to trust them. A page needs nothing from
anywhere: its pictures are SVG.
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
from fieldwatch_contract.chart import EDGE, STYLE, chart
from fieldwatch_contract.clock import DAY, iso
from fieldwatch_contract.likeness import signature

WEEK = 7 * DAY
MONDAY = 4 * DAY
"""The first Monday after 1970-01-01, µs."""
NAMED = 5
"""Sensors named in text; JSON and page name all that a signature keeps."""

AROUND = 90
"""Rows shown before and after an alert."""


@dataclass(frozen=True)
class AlertLine:
    """An alert as it is told. ``like``: id of the dismissed alert that it resembles; then nobody was told.

    ``about``: what the labels say of it, empty where there are none; ``picture``: SVG; ``false``: people were told of
    it, and no label explains it.
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
    false: bool = False

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
    """Everything that is told of a back-test.

    ``about``: lines below the title; ``devices``: pictures, SVG; ``labelled``: labels say what was true.
    """

    title: str
    period: int
    sensors: Sequence[str]
    about: list[str] = field(default_factory=list)
    alerts: list[AlertLine] = field(default_factory=list)
    weeks: list[Week] = field(default_factory=list)
    curves: list[Curve] = field(default_factory=list)
    missed: list[dict[str, Any]] = field(default_factory=list)
    devices: list[str] = field(default_factory=list)
    labelled: bool = False

    @property
    def parted(self) -> tuple[list[AlertLine], list[AlertLine]]:
        """The false alerts, and the others; both in order of time."""
        ordered = sorted(self.alerts, key=lambda one: (one.opened_at, one.device))
        return [one for one in ordered if one.false], [one for one in ordered if not one.false]

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
    *,
    false: bool = False,
) -> AlertLine:
    """Return an alert with its picture: the rows around it, of all the device's rows that are given as for a chart."""
    named = [sensors[place] for place, _ in signature(fired.sums)]
    part = slice(max(fired.first - AROUND, 0), fired.last + 1 + AROUND)
    title = f"{device}, {model}, {iso(fired.opened_at)}"
    return AlertLine(
        device, model, iso(fired.opened_at), None if fired.ended_at is None else iso(fired.ended_at), fired.level,
        fired.like if fired.told is None else None, named, about,
        chart(title, ts[part], score[part], level[part], [fired], labels, period), false,
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
    false, others = told.parted
    lines = [told.title, *told.about]
    for miss in told.missed:
        of = "" if miss.get("of_threshold") is None else f", highest score {miss['of_threshold']:.2g} of the threshold"
        lines.append(f"  missed: {miss['device']} {miss['model']} {miss['label']} {miss['start']} to {miss['end']}{of}")
    lines += [f"  false alarm: {_line(alert)}" for alert in false]
    for model in dict.fromkeys(week.model for week in told.weeks):
        for monday, days, alerts, like in _by_week(told.weeks, model):
            more = f", and {like} look-alikes of dismissed ones" if like else ""
            lines.append(
                f"  {model}, week of {iso(monday)[:10]}: {alerts / days:.2f} alerts a device-day ({alerts}){more}"
            )
    lines += [f"  {_line(alert)}" for alert in others]
    for curve in told.curves:
        lines.append(f"  {curve.model}, with other budgets:")
        lines += [f"    x {point['factor']:g}: {_point(point)}" for point in curve.points]
    return "\n".join(lines) + "\n"


def _line(alert: AlertLine) -> str:
    return (
        f"{alert.opened_at} to {alert.ended_at or 'the end'}  {alert.device}  {alert.model}  "
        f"level {alert.level:.4g}  {', '.join(alert.sensors[:NAMED]) or 'no sensor'}"
        + (f"  like {alert.like}" if alert.like else "")
        + (f"  {alert.about}" if alert.about else "")
    )


def page(told: Told) -> str:
    """Tell it as one self-contained HTML page."""
    false, others = told.parted
    parts = [f"<h1>{escape(told.title)}</h1>", *(f"<p>{escape(line)}</p>" for line in told.about)]
    if told.alerts:
        parts.append("<p>In pictures, solid: score; dashed: level; red: an alert is open; amber: labelled time.</p>")
    if told.labelled:
        misses = [
            f"<li>{escape(one['device'])}, {escape(one['model'])}: {escape(one['label'])} from {one['start']} to "
            f"{one['end']}</li>"
            for one in told.missed
        ]
        parts.append(f"<h2>Missed</h2><ul>{''.join(misses)}</ul>" if misses else "<h2>No event missed</h2>")
        parts += [f"<h2>{'False alarms' if false else 'No false alarm'}</h2>", *(_told_of(alert) for alert in false)]
    for curve in told.curves:
        rows = "".join(f"<tr><td>× {point['factor']:g}<td>{escape(_point(point))}" for point in curve.points)
        parts.append(f"<h2>{escape(curve.model)}: with other budgets</h2>{_trade(curve)}<table>{rows}</table>")
    rows = ""
    for model in dict.fromkeys(week.model for week in told.weeks):
        for monday, days, alerts, like in _by_week(told.weeks, model):
            rows += f"<tr><td>{escape(model)}<td>{iso(monday)[:10]}<td>{alerts}<td>{alerts / days:.2f}<td>{like}"
    head = "<tr><th>model<th>week of<th>alerts<th>a device-day<th>look-alikes"
    parts.append(f"<h2>By week</h2><table>{head}{rows}</table>")
    title = "Other alerts" if false else "Alerts"
    parts += [f"<h2>{title if others else 'No ' + title[:-1].lower()}</h2>", *(_told_of(alert) for alert in others)]
    parts.append("<h2>Devices</h2>" + "".join(told.devices))
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>{escape(told.title)}</title><style>{STYLE}</style><body>{''.join(parts)}</body></html>"
    )


def _told_of(alert: AlertLine) -> str:
    mark = f" Like dismissed alert {alert.like}: nobody is told." if alert.like else ""
    sensors = ", ".join(alert.sensors) or "no sensor"
    span = f"{alert.opened_at} to {alert.ended_at or 'the end'}"
    return (
        f"<h3>{escape(alert.device)}, {escape(alert.model)}: {span}</h3>"
        f"<p>Level {alert.level:.4g}; {escape(sensors)}. {escape(alert.about)}{mark}</p>{alert.picture}"
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


def every(seconds: float) -> str:
    """Write the time between two readings, in the largest unit of which it is a whole number.

    >>> [every(each) for each in (0.5, 60, 97, 90, 900, 5400, 7200, 86_400)]
    ['0.5 s', '1 min', '97 s', '90 s', '15 min', '90 min', '2 h', '24 h']
    """
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def duration(seconds: float) -> str:
    """Write a length of time.

    >>> [duration(each) for each in (0, 60, 750, 12_000, 260_000)]
    ['0 s', '1 min', '12.5 min', '3.33 h', '3.01 days']
    """
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds:.3g} s"
