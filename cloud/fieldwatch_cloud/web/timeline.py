"""The timeline of an incident: what the device, people and time did, oldest first, in words. No I/O; times are µs.

The models' alerts and people's verdicts stand in it beside the incident's own events. Times of the device and of this
server are mixed, as people know them; what reached us long after it happened says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from fieldwatch_cloud import words

_OWN = {
    "opened": "Incident opened",
    "reopened": "It came back",
    "grew": "It became worse",
    "acknowledged": "Taken",
    "assigned": "Assigned",
    "commented": "Comment",
    "snoozed": "Snoozed",
    "resolved": "Over",
    "closed": "Closed",
    "flapping": "Comes and goes",
    "quiet": "Quiet again",
    "hush over": "People are told again",
    "recorded": "Recorded",
    "unrouted": "Nobody is told",
}
_ALERT = {"opened": "alert opened", "updated": "alert rose", "resolved": "alert ended"}
_NEWS = ("opened", "reopened", "resolved", "grew")


@dataclass(frozen=True)
class Entry:
    """One line. ``mark``: ``opened``, ``resolved``, ``person`` or ""; ``arrived``: µs after it happened, where late."""

    at: int
    title: str
    text: str = ""
    by: str = ""
    mark: str = ""
    arrived: int | None = None


def timeline(
    events: Iterable[Any], alerts: Sequence[Any], steps: Iterable[Any], verdicts: Iterable[Any]
) -> list[Entry]:
    """Return the entries of an incident.

    ``events``: rows of ``incident_event``; ``alerts``: its alerts; ``steps``: their rows of ``alert_event``;
    ``verdicts``: what people said of them.
    """
    models = {one.alert_id: one.model for one in alerts}
    found = [_own(one) for one in events]
    found += [_step(one, models.get(one.alert_id, "model")) for one in steps]
    said = {(one.at, one.verdict, one.note): one for one in verdicts}  # one answer judges every alert of an incident
    found += [Entry(at, f"Judged: {words.VERDICT_WORDS[verdict]}", note, mark="person") for at, verdict, note in said]
    return sorted(found, key=lambda one: one.at)


def _own(event: Any) -> Entry:
    title = _OWN.get(event.what, event.what)
    text = event.text
    if event.what in _NEWS and not event.told:
        text = f"{text}; not told to anybody" if text else "Not told: hushed, or no news to anybody"
    if event.what == "assigned":
        title, text = f"Assigned to {event.text}", ""
    mark = "person" if event.by else "resolved" if event.what == "resolved" else ""
    return Entry(event.at, title, text, event.by, mark)


def _step(step: Any, model: str) -> Entry:
    late = step.received - step.ts
    score = "" if step.transition == "resolved" else f"score {words.number(step.score)}"
    text = words.sentence(step.reason) if step.reason else score
    mark = step.transition if step.transition in ("opened", "resolved") else ""
    title = f"{words.sentence(model)} {_ALERT.get(step.transition, step.transition)}"
    return Entry(step.ts, title, text, mark=mark, arrived=late if late > words.LATE else None)
