"""What a message says: subject, lines, and the same as data for programs. No I/O, no clock.

The first line says which device, what, since when; then what to do and who can; then where to look and to answer. A
message that gathers says how much it holds, shows the first lines and counts the rest.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any
from unicodedata import category

from fieldwatch_contract import clock

from fieldwatch_cloud import words
from fieldwatch_cloud.alerts.routing import gathered
from fieldwatch_cloud.store.outbox import Item, Letter

NEWS_WORDS = {
    "opened": "",
    "reopened": "again: ",
    "grew": "worse: ",
    "acknowledged": "taken: ",
    "assigned": "assigned: ",
    "resolved": "over: ",
    "closed": "closed: ",
    "flapping": "comes and goes: ",
    "quiet": "quiet again: ",
    "hush over": "still there: ",
}
"""How a subject begins, by what happened."""
SERVER = "this server"
_BREAKING = frozenset({"Cc", "Cs", "Zl", "Zp"})
_TURNING = frozenset("\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")


@dataclass(frozen=True)
class Text:
    """A worded message. ``link`` leads to the incident, or the list where it holds several; ``data``: for programs."""

    subject: str
    lines: tuple[str, ...]
    link: str
    data: dict[str, Any]

    @property
    def body(self) -> str:
        """The lines as plain text."""
        return "\n".join(self.lines) + "\n"


def word(letter: Letter, base: str) -> Text:
    """Word a message; ``base``: the dashboard's address."""
    if len(letter.items) == 1 and letter.batch is None:
        text = _one(letter, letter.items[0], base.rstrip("/"))
    else:
        text = _many(letter, base.rstrip("/"))
    return replace(text, subject=plain(text.subject), lines=tuple(plain(line) for line in text.lines))


def plain(text: str) -> str:
    """Return one line that every mail server and program takes: devices choose the names of sensors, and people write.

    What ends a line, controls a terminal or turns the direction of writing becomes a blank.

    >>> plain("s1\\r\\nBcc: x\\x00\\u202e Öl 🌡")
    's1  Bcc: x   Öl 🌡'
    """
    return "".join(" " if category(one) in _BREAKING or one in _TURNING else one for one in text)


def _one(letter: Letter, item: Item, base: str) -> Text:
    row, event = item.incident, item.event
    link = f"{base}/incidents/{row.id}"
    lines = [headline(item) + "."]
    if event.by:
        lines.append(f"{_did(event)} by {event.by}{f': {event.text}' if event.text else ''}.")
    if event.what == "flapping":
        lines.append("It came and went several times within an hour; you hear of it again when it is quiet.")
    if row.state in ("resolved", "closed"):
        lines.append(f"It is {row.state} since {words.moment(row.ended_at)}.")
    elif row.remedy:
        lines.append(f"What to do: {row.remedy}")
    if row.state == "open":
        lines += ["", f"Look at it and answer: {link}", f"Acknowledge: {link}#acknowledge (a button there does it)"]
    else:
        lines += ["", f"See it: {link}"]
    lines += ["", f"Message {letter.id}, route {letter.route}."]
    return Text(f"{_mark(item)}{headline(item)}", tuple(lines), link, _data(letter, [item], link))


def _many(letter: Letter, base: str) -> Text:
    link = f"{base}/incidents"
    devices = {item.incident.device for item in letter.items}
    why = "Digest" if letter.batch == "digest" else "More"
    subject = f"[Fieldwatch] {why}: {len(letter.items)} messages of {len(devices)} devices"
    lines = gathered([f"- {words.moment(item.event.at)} {headline(item)}" for item in letter.items])
    reason = {
        "digest": "Nobody needs to hurry for these: they are old, or like what was dismissed before.",
        "storm": "More came at once than a person can read, so these were gathered.",
    }.get(letter.batch or "", "")
    told = (reason, "", *lines, "", f"See them: {link}", "", f"Message {letter.id}, route {letter.route}.")
    return Text(subject, told, link, _data(letter, list(letter.items), link))


def headline(item: Item) -> str:
    """Say what happened to which device, since when."""
    row = item.incident
    what = f"{row.what[:1].lower()}{row.what[1:]}".rstrip(".")
    device = f"{row.device} ({item.name})" if item.name else row.device or SERVER
    return f"{NEWS_WORDS.get(item.event.what, '')}{device}: {what}, since {words.moment(row.opened_at)}"


def _mark(item: Item) -> str:
    critical = item.incident.severity == "critical" and item.incident.state == "open"
    return "[Fieldwatch] CRITICAL " if critical else "[Fieldwatch] "


def _did(event: Any) -> str:
    return "Taken" if event.what == "acknowledged" else str(event.what).capitalize()


def _data(letter: Letter, items: list[Item], link: str) -> dict[str, Any]:
    """Return the message for programs: the body of a webhook."""
    return {
        "id": letter.id,
        "version": 1,
        "route": letter.route,
        "digest": letter.batch == "digest",
        "link": link,
        "news": [
            {
                "what": item.event.what,
                "at": clock.iso(item.event.at),
                "by": item.event.by,
                "text": item.event.text,
                "incident": {
                    "id": item.incident.id,
                    "device": item.incident.device,
                    "name": item.name,
                    "kind": item.incident.kind,
                    "site": item.incident.site,
                    "audience": item.incident.audience,
                    "severity": item.incident.severity,
                    "state": item.incident.state,
                    "says": item.incident.what,
                    "opened_at": clock.iso(item.incident.opened_at),
                    "ended_at": None if item.incident.ended_at is None else clock.iso(item.incident.ended_at),
                    "bundle": item.incident.bundle,
                },
            }
            for item in items
        ],
    }
