"""Commands: what the cloud may ask of a device, and the device's answer.

=============  ==========================================  ========================================================
kind           asks the device                             what bounds it
=============  ==========================================  ========================================================
``update``     to ask the update server now                the signed bundles and the signed policy, as at any time
``evidence``   to send the readings around one of its      ``[privacy] evidence`` of the device: never more than it
               alerts, or of a time range                  would send by itself
``replay``     to score a time range of its log again      it sends a summary of scores, and stores nothing
               with the bundle in use
=============  ==========================================  ========================================================

What both sides hold to:

1. Only the cloud may publish on a device's ``command`` (the broker's rules), never retained.
2. A command has an id and an end, at most :data:`LIFETIME` after it was given. The cloud may publish it again until it
   is answered; the device acts on an id at most once.
3. Each command that the device can read is answered by a ``reply``, an event like the others: nothing of it is lost. A
   refusal says why.
4. Arguments that the device does not know are refused, not ignored: they might have narrowed what was asked.
"""

from __future__ import annotations

from typing import Any, Literal, get_args

from pydantic import ConfigDict, Field

from fieldwatch_contract import clock
from fieldwatch_contract.fields import Evidence, Finite, Number, Timestamp, Wire

Kind = Literal["update", "evidence", "replay"]
KINDS: tuple[Kind, ...] = get_args(Kind)

LIFETIME = 3600 * clock.SECOND
"""Longest time in which a command may begin (µs): what comes later surprises people."""
EVIDENCE_ROWS = 360
"""Most readings in one reply: six hours of minutes, which fit into a message."""
REPLAY_SPAN = 31 * clock.DAY
"""Longest range that is scored again at once (µs)."""
COMMAND_BYTES = 16 * 1024
"""Largest command; a real one has some 500 bytes."""
ID = r"^[0-9a-f]{32}$"


class Arguments(Wire):
    """Which part of the log is meant: a time range, or an alert."""

    model_config = ConfigDict(extra="forbid")

    start: Timestamp | None = None
    end: Timestamp | None = None
    alert_id: str | None = Field(default=None, pattern=ID)


class CommandData(Wire):
    """What is asked, until when it may begin, and who asks."""

    kind: str = Field(pattern=r"^[a-z][a-z0-9-]{0,31}$", description="update, evidence or replay; an open list")
    arguments: dict[str, Any] = Field(default={}, description="as Arguments has them; update takes none")
    expires_at: Timestamp = Field(description="the device does not begin later; at most an hour after time")
    issuer: str = Field(max_length=200, description="the person, as the cloud's audit trail names them")


class Command(Wire):
    """Cloud → device, ``command``: a person asks for something. Not retained, and with a message expiry."""

    specversion: Literal["1.0"] = "1.0"
    id: str = Field(pattern=ID)
    source: Literal["//fieldwatch/cloud"] = "//fieldwatch/cloud"
    subject: str = Field(description="the device")
    type: Literal["fieldwatch.command.v1"] = "fieldwatch.command.v1"
    time: Timestamp = Field(description="when it was given")
    datacontenttype: Literal["application/json"] = "application/json"
    data: CommandData


class ModelReplay(Wire):
    """What one model says of a range, over all its readings."""

    model: str
    kind: str
    rows: Number = Field(description="readings")
    raised: Number = Field(description="of them judged anomalous or faulty")
    unknown: Number
    highest: Finite | None = Field(description="score")
    highest_at: Timestamp | None


class ReplyData(Wire):
    """A device's answer to one command; there is one for each."""

    command: str = Field(pattern=r"^([0-9a-f]{32})?$", description="the command's id; empty: it has no readable one")
    kind: str = Field(description="the command's; empty where it is not readable")
    outcome: Literal["done", "refused", "failed"] = Field(
        description="refused: nothing was done, and detail says why; failed: begun, but not brought to its end"
    )
    detail: str
    bundle: str = Field(default="", description="<name>/<version>, with which a range was scored")
    replay: list[ModelReplay] = Field(default=[], description="one a model")
    evidence: Evidence | None = None


def problem(kind: str, arguments: Arguments) -> str:
    """Say what is wrong with the arguments of a command; empty where nothing is.

    >>> problem("update", Arguments()), problem("replay", Arguments(start="2026-11-01T00:00:00Z"))
    ('', 'replay needs start and end')
    """
    given = arguments.model_dump(exclude_none=True).keys()
    if kind == "update":
        return f"update takes no arguments, not {', '.join(given)}" if given else ""
    if kind == "evidence" and given == {"alert_id"}:
        return ""
    if given != {"start", "end"}:
        return "evidence needs alert_id, or start and end" if kind == "evidence" else f"{kind} needs start and end"
    try:
        start, end = span(arguments)
    except ValueError as error:
        return f"start and end must be times: {error}"
    if start >= end:
        return f"start {arguments.start} is not before end {arguments.end}"
    if kind == "replay" and end - start > REPLAY_SPAN:
        return f"a range of {(end - start) / clock.DAY:.1f} days; at most {REPLAY_SPAN // clock.DAY} are scored at once"
    return ""


def span(arguments: Arguments) -> tuple[int, int]:
    """Return start and end in µs. Raises :class:`ValueError` where they are no times."""
    return clock.parse_iso(arguments.start or ""), clock.parse_iso(arguments.end or "")
