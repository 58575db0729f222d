"""The heart of the report: what the alerts missed, what they raised for nothing, and every part of time, in pictures.

Misses come first, those nearest to an alert on top, then false alarms, the costliest on top; after the pictures every
further one stands in a table. Then all devices and held-back parts, those with something wrong first. The score's line
stops where readings are missing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from fieldwatch_trainer import figures
from fieldwatch_trainer.card import figure, number

OPEN_PARTS = 6
"""Parts of time shown at once; the others are folded, not left out."""
Case = Mapping[str, Any]

KEY = (
    "<p class='soft small key'><span>line: score; dashed: level that an alert needs; band: labelled</span>"
    f"<i style='background:{figures.RED}55'></i>fault<i style='background:{figures.AMBER}55'></i>anomaly"
    f"<span>; bar on top: alert</span><i style='background:{figures.GREEN}'></i>that met an event"
    f"<i style='background:{figures.RED}'></i>for nothing</p>"
)


def section(
    name: str, model: Mapping[str, Any], timelines: Sequence[Mapping[str, Any]], place: str, worlds: Mapping[str, Any]
) -> str:
    """Return the HTML of one model's cases; empty where there is nothing to show.

    ``worlds``: what came of the alerts ``unanswered`` and ``answered``; the pictures are those of the former.
    """
    missed, false = model.get("missed") or [], model.get("false") or []
    body = _summary(model) + _worlds(worlds)
    if missed or false or timelines:
        body += KEY
    events = model.get("events") or 0
    body += _cases(f"{place}m", f"Missed ({events - round((model.get('event_recall') or 0) * events)})", missed)
    body += _cases(f"{place}f", f"Alerts for nothing ({len({(c['device'], c['start']) for c in false})})", false)
    return body + _parts(name, timelines, place)


def _summary(model: Mapping[str, Any]) -> str:
    events, recall, alerts = model.get("events"), model.get("event_recall"), model.get("alerts")
    if alerts is None:
        return ""
    none = "No event is labelled, so every alert counts as false"
    found = f"{_found(recall or 0.0, events)} labelled events had an alert" if events else none
    rate = model.get("false_alarms_per_day")
    cost = "" if rate is None else f", {number(model['false_alarms'])} false alarms: <b>{rate:.2f}</b> a device-day"
    quarters = [q["false_alarms_per_day"] for q in model.get("quarters") or []]
    by_time = ""
    if any(quarter for quarter in quarters):
        by_time = (
            " By quarter of each part's time: " + ", ".join("–" if q is None else f"{q:.2f}" for q in quarters) + "."
        )
    return f"<p><b>{found}</b>; {alerts} alerts{cost}.{by_time}</p>"


WORLDS = {"unanswered": "nobody answers (pictures below)", "answered": "people answer each alert after 8 h"}


def _found(recall: float, events: int) -> str:
    return f"{round(recall * events)} of {events}"


def _worlds(worlds: Mapping[str, Any]) -> str:
    """Return what answers are worth: a real alert gives its rise back, a dismissed one silences what is like it."""
    lines = [(words, worlds[key]) for key, words in WORLDS.items() if worlds.get(key)]
    if len(lines) < 2:
        return ""
    head = "".join(f"<th>{word}</th>" for word in ("", "events found", "alerts", "false a device-day", "median delay"))
    rows = ""
    for words, one in lines:
        found = "–" if one.get("event_recall") is None else _found(one["event_recall"], one["events"])
        told = [found, *(figure(key, one.get(key)) for key in ("alerts", "false_alarms_per_day", "delay_median_s"))]
        rows += f"<tr><td>{words}</td>" + "".join(f"<td class=n>{cell}</td>" for cell in told) + "</tr>"
    return f"<div class='scroll'><table><tr>{head}</tr>{rows}</table></div>"


def _cases(place: str, title: str, cases: Sequence[Case]) -> str:
    if not cases:
        return ""
    pictured = [case for case in cases if case.get("picture")]
    rest = [case for case in cases if not case.get("picture")]
    cards = "".join(_card(f"{place}{number_}", case) for number_, case in enumerate(pictured))
    body = f"<h3>{escape(title)}</h3><div class='pictures'>{cards}</div>"
    if rest:
        rows = "".join(
            f"<tr><td>{escape(case['device'])}</td><td>{_when(case)}</td><td>{escape(_about(case))}</td></tr>"
            for case in rest
        )
        body += f"<details><summary>{len(rest)} more</summary><div class='scroll'><table>{rows}</table></div></details>"
    return body


def _card(place: str, case: Case) -> str:
    one = case["picture"]
    svg = figures.timeline(
        place, str(case["device"]), one["ts"], one["score"], _level(one), one["labels"], one["alerts"]
    )
    return f"<figure>{svg}<figcaption class='small'>{_when(case)}: {escape(_about(case))}</figcaption></figure>"


def _level(one: Mapping[str, Any]) -> Sequence[float]:
    """Return the level at each point; runs of before there were levels have a threshold only."""
    return one.get("level") or [float(one["threshold"])] * len(one["ts"])


def _when(case: Case) -> str:
    start, end = str(case["start"]), str(case["end"])
    short = end[11:16] if start[:10] == end[:10] else end[:16].replace("T", " ")
    return escape(f"{start[:16].replace('T', ' ')} to {short}")


def _about(case: Case) -> str:
    told = []
    if case.get("label"):
        told.append(str(case["label"]))
    if case.get("counts", 1) > 1:
        told.append(f"counts as {case['counts']}: open for longer than a shift")
    if case.get("peak") is not None:
        of = f", {case['of_threshold']:.2g} times the level" if case.get("of_threshold") is not None else ""
        told.append(f"highest score {number(case['peak'])}{of}")
    else:
        told.append("every row unknown")
    if case.get("sensors"):
        told.append("led by " + ", ".join(case["sensors"]))
    return "; ".join(told)


def _parts(name: str, timelines: Sequence[Mapping[str, Any]], place: str) -> str:
    if not timelines:
        return ""
    shown = [_part(f"{place}t{number_}", one) for number_, one in enumerate(timelines)]
    body = f"<h3>All time of the {escape(name)} ({len(timelines)})</h3>"
    body += f"<div class='pictures'>{''.join(shown[:OPEN_PARTS])}</div>"
    if rest := shown[OPEN_PARTS:]:
        more = f"<div class='pictures'>{''.join(rest)}</div>"
        body += f"<details><summary>{len(rest)} more</summary>{more}</details>"
    return body


def _part(place: str, one: Mapping[str, Any]) -> str:
    wrong = [f"{one[key]} {word}" for key, word in (("missed", "missed"), ("false", "for nothing")) if one.get(key)]
    title = str(one["device"]) + (f": {', '.join(wrong)}" if wrong else "")
    svg = figures.timeline(
        place, title, one["ts"], one["score"], _level(one), one.get("labels") or [], one.get("alerts") or []
    )
    return f"<figure>{svg}</figure>"
