"""Decides about a command that came, and about what of the log it may be told: rules on plain values, without I/O.

A command is taken only if all of this holds; else it is refused with the reason, and nothing is done:

1. It is readable, for this device, of a kind that this program knows and ``[commands] allow`` names.
2. It was given at most an hour before its end, its end is not over, and it was not given in the future: by this
   computer's clock, which people are told where it may be the cause.
3. Its arguments are complete and known.
4. Fewer than :data:`PER_HOUR` were taken in the last hour. Of refusals :data:`REFUSALS_PER_HOUR` are answered, more are
   only logged: whoever floods a device must not fill its outbox.

A command that came before is passed over: it is done or answered already. What evidence may show, :func:`shown` says.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fieldwatch_contract import clock
from fieldwatch_contract.commands import (
    COMMAND_BYTES,
    EVIDENCE_ROWS,
    ID,
    KINDS,
    LIFETIME,
    Arguments,
    Command,
    problem,
    span,
)
from pydantic import ValidationError
from pydantic_core import from_json

from fieldwatch_agent.score.again import Range
from fieldwatch_agent.score.decide import EVIDENCE_ROWS as BEFORE
from fieldwatch_agent.score.decide import Privacy
from fieldwatch_agent.send.raised import Raised
from fieldwatch_agent.send.seen import Seen

PER_HOUR = 20
REFUSALS_PER_HOUR = 60
HOUR = 3600 * clock.SECOND
SKEW = 5 * clock.MINUTE
"""How far the clocks of cloud and device may differ (µs)."""


@dataclass(frozen=True)
class Refusal:
    """Why a command is not taken; ``id`` and ``kind`` as far as they are readable. ``silent``: it is not answered."""

    id: str
    kind: str
    why: str
    silent: bool = False


def judge(
    payload: bytes, device: str, allow: Collection[str], known: Sequence[Seen], now: int
) -> Command | Refusal | None:
    """Return the command that ``payload`` is, why it is refused, or None where it came before; ``now``: µs."""
    if len(payload) > COMMAND_BYTES:
        return _refusal("", "", f"it has more than {COMMAND_BYTES} bytes", known, now)
    try:
        command = Command.model_validate_json(payload)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        name, kind = _readable(payload)
        if any(each.id == name for each in known if name):
            return None
        place = ".".join(str(part) for part in found["loc"])
        return _refusal(name, kind, f"it cannot be read: {f'{place}: ' if place else ''}{found['msg']}", known, now)
    if any(each.id == command.id for each in known):
        return None
    why = _against(command, device, allow, known, now)
    return _refusal(command.id, command.data.kind, why, known, now) if why else command


def _against(command: Command, device: str, allow: Collection[str], known: Sequence[Seen], now: int) -> str:
    data = command.data
    if command.subject != device:
        return f"it is for {command.subject[:64]!r}, this is {device}"
    if data.kind not in KINDS:
        return f"this agent knows no command {data.kind}, only {', '.join(KINDS)}; a newer one may"
    if data.kind not in allow:
        return f"this device's configuration does not allow it: [commands] allow has {', '.join(allow) or 'nothing'}"
    if late := overdue(command, now):
        return late
    try:
        arguments = Arguments.model_validate(data.arguments)
    except ValidationError as error:
        found = error.errors(include_url=False, include_input=False)[0]
        return f"arguments: {'.'.join(str(part) for part in found['loc'])}: {found['msg']}"
    if wrong := problem(data.kind, arguments):
        return wrong
    if _recent(known, now, refused=False) >= PER_HOUR:
        return f"this device has taken {PER_HOUR} commands within an hour, and takes no more; ask again later"
    return ""


def overdue(command: Command, now: int) -> str:
    """Say why a command may not begin at ``now`` (µs), empty where it may."""
    try:
        given, end = clock.parse_iso(command.time), clock.parse_iso(command.data.expires_at)
    except ValueError as error:
        return f"its times cannot be read: {error}"
    if not 0 < end - given <= LIFETIME:
        return f"it was given at {command.time} to begin until {command.data.expires_at}; an hour is the most"
    if now >= end:
        return f"it was to begin until {command.data.expires_at}, and by this computer's clock it is {clock.iso(now)}"
    if given > now + SKEW:
        return (
            f"it was given at {command.time}, and by this computer's clock it is {clock.iso(now)}; is that clock wrong?"
        )
    return ""


def shown(
    command: Command, privacy: Privacy, raised: Mapping[str, Raised], newest: int, period: int
) -> tuple[Range, str] | Refusal:
    """Return of which range evidence or replay may tell, and of which model ("": any); or why of none.

    ``newest``: time of the newest reading that was scored; ``period`` between two readings (µs). An alert's range
    begins with the rows that the alert itself shows, and ends with the alert.
    """
    kind, arguments = command.data.kind, Arguments.model_validate(command.data.arguments)
    if kind == "replay":
        start, end = span(arguments)
        return Range(start, min(end, newest)), ""
    if privacy in ("none", "scores"):
        return Refusal(command.id, kind, f'no reading may leave this laboratory: [privacy] evidence = "{privacy}"')
    if arguments.alert_id is None:
        if privacy != "full":
            why = f'[privacy] evidence = "{privacy}": readings may leave with an alert alone; name one by alert_id'
            return Refusal(command.id, kind, why)
        start, end = span(arguments)
        return Range(start, min(end, newest)), ""
    alert = raised.get(arguments.alert_id)
    if alert is None:
        return Refusal(command.id, kind, "this device has no such alert among its latest ones")
    start = alert.opened - (BEFORE - 1) * period
    end = min(alert.last if alert.over else newest, start + (EVIDENCE_ROWS - 1) * period)
    return Range(start, end), alert.model


def _refusal(name: str, kind: str, why: str, known: Sequence[Seen], now: int) -> Refusal:
    return Refusal(name, kind, why, silent=_recent(known, now, refused=True) >= REFUSALS_PER_HOUR)


def _recent(known: Sequence[Seen], now: int, refused: bool) -> int:
    return sum(each.refused is refused and abs(now - each.at) < HOUR for each in known)


def _readable(payload: bytes) -> tuple[str, str]:
    """Return id and kind of what is no command, "" for each that cannot be read."""
    try:
        value = from_json(payload)
    except ValueError:
        return "", ""
    if not isinstance(value, dict):
        return "", ""
    name, data = value.get("id"), value.get("data")
    kind = data.get("kind") if isinstance(data, dict) else ""
    return (
        name if isinstance(name, str) and re.fullmatch(ID, name) else "",
        kind[:32] if isinstance(kind, str) else "",
    )
