"""Commands to devices: given by people, published by ingest, answered by the device.

A command is published only while its device is connected, and again until it is answered; the device acts on an id at
most once. One whose device stays away expires instead of coming as a surprise. Its state follows from what is stored:

===============  ====================================================================================
state            it means
===============  ====================================================================================
``waiting``      the device is not connected, or it was given just now
``sent``         it was published; there is no answer yet
``expired``      its end came before the device was connected: it will not be published any more
``unanswered``   it was published, its end is over, and there is no answer; a late one still counts
``done``, ``refused``, ``failed``   as the device answered
===============  ====================================================================================
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import zstandard
from fieldwatch_contract import clock
from fieldwatch_contract.commands import Arguments, Command, CommandData, Kind, ReplyData
from fieldwatch_contract.topics import topic
from sqlalchemy import Connection, Row, insert, or_, select, update

from fieldwatch_cloud.store import audit
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.batch import Refused, ReplySeen
from fieldwatch_cloud.store.packed import unpack

State = Literal["waiting", "sent", "expired", "unanswered", "done", "refused", "failed"]

TIME_TO_BEGIN = 15 * clock.MINUTE
"""How long a command may wait for its device (µs)."""
REPEAT = 30 * clock.SECOND
MOST_OPEN = 5
"""Commands of one device that may wait for an answer at once."""
REPLY_LIMIT = 16 * 1024 * 1024


class UnknownDeviceError(Exception):
    """No such device has reported."""


class TooManyError(Exception):
    """The device has as many unanswered commands as it may."""


@dataclass(frozen=True)
class Given:
    """A command and what became of it; times in µs. ``reply``: the device's answer, if there is one."""

    id: str
    device: str
    kind: str
    arguments: dict[str, Any]
    issuer: str
    given_at: int
    ends_at: int
    published_at: int | None
    answered_at: int | None
    outcome: str | None
    detail: str | None
    reply: ReplyData | None

    def state(self, now: int) -> State:
        """Return its state at ``now`` (µs)."""
        if self.outcome in ("done", "refused", "failed"):
            return self.outcome  # type: ignore[return-value]
        if self.published_at is None:
            return "waiting" if now < self.ends_at else "expired"
        return "sent" if now < self.ends_at else "unanswered"


def give(db: Connection, device: str, kind: Kind, arguments: Arguments, who: str, now: int) -> str:
    """Store a command and its entry in the audit trail; return its id.

    Raises :class:`UnknownDeviceError` and :class:`TooManyError`.
    """
    if db.execute(select(t.device.c.id).where(t.device.c.id == device)).scalar() is None:
        raise UnknownDeviceError(device)
    c = t.command.c
    unanswered = select(c.id).where(c.device == device, c.answered_at.is_(None), c.ends_at > now).limit(MOST_OPEN)
    if len(db.execute(unanswered).all()) == MOST_OPEN:
        raise TooManyError(device)
    name, given = secrets.token_hex(16), arguments.model_dump(exclude_none=True)
    row = {"id": name, "device": device, "kind": kind, "arguments": given, "issuer": who}
    db.execute(insert(t.command), row | {"given_at": now, "ends_at": now + TIME_TO_BEGIN})
    said = ", ".join(f"{key} {value}" for key, value in given.items())
    audit.record(db, who, f"command.{kind}", f"command {name} to {device}", said, now)
    return name


def due(db: Connection, now: int) -> list[tuple[Command, int]]:
    """Return the commands to publish now, oldest first, each with the µs until its end."""
    c, d = t.command.c, t.device.c
    query = (
        select(t.command)
        .join(t.device, d.id == c.device)
        .where(c.ends_at > now, c.answered_at.is_(None), d.status == "online")
        .where(or_(c.published_at.is_(None), c.published_at <= now - REPEAT))
        .order_by(c.given_at)
    )
    return [(_command(row), row.ends_at - now) for row in db.execute(query)]


def published(db: Connection, names: Iterable[str], now: int) -> None:
    """Note that commands were published."""
    db.execute(update(t.command).where(t.command.c.id.in_(list(names))).values(published_at=now))


def answer(db: Connection, replies: Sequence[ReplySeen], now: int) -> list[Refused]:
    """Store replies; the first one of a command counts. Return those that answer none of the device's commands."""
    strange = []
    c = t.command.c
    for seen in replies:
        reply = seen.reply
        mine = (c.id == reply.command, c.device == seen.device)
        packed = zstandard.ZstdCompressor(level=9).compress(reply.model_dump_json().encode())
        values = {"answered_at": now, "outcome": reply.outcome, "detail": reply.detail, "reply": packed}
        if db.execute(update(t.command).where(*mine, c.answered_at.is_(None)).values(**values)).rowcount:
            continue
        if db.execute(select(c.id).where(*mine)).scalar() is None:
            why = f"answers no command that was given to {seen.device}: {reply.outcome}: {reply.detail}"
            strange.append(Refused(topic(seen.device, "reply"), why[:500], reply.model_dump_json().encode()))
    return strange


def of_device(db: Connection, device: str, limit: int) -> list[Given]:
    """Return the device's commands, newest first."""
    c = t.command.c
    query = select(t.command).where(c.device == device).order_by(c.given_at.desc(), c.id).limit(limit)
    return [_given(row) for row in db.execute(query)]


def one(db: Connection, device: str, name: str) -> Given | None:
    """Return a command of the device."""
    row = db.execute(select(t.command).where(t.command.c.id == name, t.command.c.device == device)).one_or_none()
    return _given(row) if row is not None else None


def _command(row: Row[Any]) -> Command:
    data = CommandData(
        kind=row.kind, arguments=row.arguments, expires_at=clock.iso(row.ends_at), issuer=row.issuer[:200]
    )
    return Command(id=row.id, subject=row.device, time=clock.iso(row.given_at), data=data)


def _given(row: Row[Any]) -> Given:
    values = dict(row._mapping)
    try:
        reply = ReplyData.model_validate_json(unpack(row.reply, REPLY_LIMIT)) if row.reply is not None else None
    except ValueError:
        reply = None  # damaged on the disk: outcome and detail are still there
    return Given(**values | {"reply": reply})
