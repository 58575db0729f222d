"""MQTT messages → rows: validates what may enter the store; the rest goes to quarantine (dead-letter queue).

Everything here is a pure function of the messages. The rules:

1. The device is the one in the topic, which the broker's access rules guarantee. An event whose ``id``, ``source`` or
   ``subject`` names another device is refused, and so is an alert whose ``alert_id`` does not follow from its device,
   model and opening.
2. An event that breaks the contract is refused with its reason; its neighbours in the same batch are not affected.
3. A refused event whose number is readable is settled, because sending it again would change nothing, but never counts
   as stored: its number is also in ``aside`` and acknowledged negatively. A batch that is not JSON is split at the
   events' beginnings, so that one broken event costs only itself.
4. A batch may not unpack to more than :data:`UNPACKED_LIMIT`, measured while unpacking, nor hold more than
   :data:`.events.BULK_EVENTS`, nor a message more values than an agent can send (:data:`VALUES`); otherwise it is
   refused as a whole, before it is parsed: 800 bytes can unpack to millions of empty lists, which take 500 MB.
5. Nothing that a message contains raises: one message must never keep the others from being stored.
"""

from __future__ import annotations

import json
import logging
import math
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

import zstandard
from fieldwatch_contract import topics
from fieldwatch_contract.alerts import alert_id
from fieldwatch_contract.clock import day_of, parse_iso
from fieldwatch_contract.commands import ReplyData
from fieldwatch_contract.events import (
    BULK_EVENTS,
    EVENT,
    EVENTS,
    AlertEvent,
    DeviceState,
    Event,
    HealthEvent,
    ModelEvent,
    ReplyEvent,
    ResultData,
    ResultEvent,
)
from fieldwatch_contract.verdicts import CODES
from pydantic import ValidationError
from pydantic_core import from_json, to_json

from fieldwatch_cloud.store.batch import (
    MAX_INT,
    REASON_LIMIT,
    AlertSeen,
    Batch,
    HealthSeen,
    Refused,
    ReplySeen,
    StateSeen,
)
from fieldwatch_cloud.store.packed import unpack

UNPACKED_LIMIT = 8 * 1024 * 1024
"""Bytes that one message may have after unpacking; agents send batches of up to 4 MiB."""
VALUES = 1_100_000
"""JSON values in one message, by its commas: 4 MiB of readings have no more, at four bytes each (``1.0,``)."""
CONTAINERS = 200_000
"""JSON lists and objects in one message: an event has a few dozen, a device's longest evidence a thousand."""

log = logging.getLogger("fieldwatch.ingest")

LATEST = parse_iso("2200-01-01")
"""Later times are refused, and so are those before 1970, because pages and queries calculate with times."""

_BEGINNING = re.compile(rb'\{\s*"specversion"\s*:')
"""How every one of our events begins."""
_ID = re.compile(rb'"id"\s*:\s*"([a-z0-9-]{3,64}:[0-9a-f]+:[0-9]{1,16})"')


class Message(NamedTuple):
    """One MQTT message.

    ``floor``: the lowest number the device may still send, from the user property. ``broken``: why the packet could
    not be read; ``payload`` is then all of it.
    """

    topic: str
    payload: bytes
    floor: int | None = None
    broken: str | None = None


class _Decoder:
    """Puts messages into a batch."""

    def __init__(self) -> None:
        self.batch = Batch()

    def add(self, message: Message) -> None:
        """Add one message to the batch; never raises because of a message's content."""
        try:
            self._add(message)
        except Exception as error:  # our bug, but the message would be redelivered forever and block the fleet
            log.exception("a message on %s cannot be decoded", message.topic)
            self._refuse(message, f"cannot be decoded: {type(error).__name__}: {error}")

    def _add(self, message: Message) -> None:
        address = topics.parse(message.topic)
        if message.broken is not None:
            self._refuse(message, message.broken)
        elif address is None:
            self._refuse(message, "not one of our topics")
        elif address.channel == "bulk":
            self._add_bulk(address.device, message)
        elif crowded := _crowded(message.payload):
            self._refuse(message, crowded)
        elif address.channel == "state":
            self._add_state(address.device, message)
        elif address.channel == "reply" or address.channel.startswith("evt/"):
            self._add_event(address.device, message, message.payload, address.channel)
        else:
            self._refuse(message, f"unknown channel {address.channel}")

    def _refuse(self, message: Message, reason: str, payload: bytes | None = None) -> None:
        self.batch.refused.append(
            Refused(message.topic, reason[:REASON_LIMIT], message.payload if payload is None else payload)
        )

    def _add_state(self, device: str, message: Message) -> None:
        if not message.payload:
            return  # a retained state was cleared
        try:
            state = DeviceState.model_validate_json(message.payload)
            _check_times(state.since)
        except ValueError as error:
            self._refuse(message, _reason(error))
        else:
            self.batch.states.append(StateSeen(device, state))

    def _add_bulk(self, device: str, message: Message) -> None:
        try:
            text = unpack(message.payload, UNPACKED_LIMIT)
        except ValueError as error:
            self._refuse(message, str(error))
            return
        if crowded := _crowded(text):
            self._refuse(message, crowded)
            return
        try:
            events = EVENTS.validate_json(text)
        except ValidationError:
            self._add_one_by_one(device, message, text)
        else:
            for event in events:
                self._take(device, message, event, None)

    def _add_one_by_one(self, device: str, message: Message, text: bytes) -> None:
        """Find out which events of a batch violate the contract; a rare path, so it may be slow."""
        try:
            raw = from_json(text)
        except ValueError as error:
            beginnings = [found.start() for found in _BEGINNING.finditer(text)]
            if not beginnings or len(beginnings) > BULK_EVENTS:
                self._refuse(message, f"not JSON: {error}")
                return
            for start, end in zip(beginnings, [*beginnings[1:], len(text)], strict=True):
                for part in _first_and_rest(text[start:end]):
                    self._add_event(device, message, part, None)
            return
        if not isinstance(raw, list):
            self._refuse(message, "a bulk message must be a JSON array of events")
            return
        if len(raw) > BULK_EVENTS:
            self._refuse(message, f"{len(raw)} events in one batch, at most {BULK_EVENTS} are read")
            return
        for item in raw:
            self._add_event(device, message, to_json(item), None)

    def _add_event(self, device: str, message: Message, payload: bytes, channel: str | None) -> None:
        try:
            event = EVENT.validate_json(payload)
        except ValidationError as error:
            self._refuse(message, _reason(error), payload)
            self._deliver_refused(device, message, payload)
        else:
            self._take(device, message, event, channel)

    def _deliver_refused(self, device: str, message: Message, payload: bytes) -> None:
        """Settle a refused event's number, if it has a readable one."""
        try:
            text = from_json(payload)["id"]
        except ValueError:
            found = _ID.search(payload)
            text = found[1].decode("ascii") if found else ""
        except (TypeError, KeyError):
            return
        try:
            owner, epoch, number = text.split(":")
            seq = int(number) if number.isascii() else 0
        except (ValueError, AttributeError):
            return
        if owner == device and 0 < seq < MAX_INT and len(epoch) <= 64:
            self.batch.deliver(device, epoch, seq, message.floor, aside=True)

    def _take(self, device: str, message: Message, event: Event, channel: str | None) -> None:
        owner, epoch, number = event.id.split(":")
        seq = int(number)
        kind = event.type.split(".")[1]
        aside = False
        try:
            if owner != device or event.source != f"//fieldwatch/{device}" or event.subject != device:
                raise ValueError(f"sent on the topic of {device}, but names {owner}, {event.source}, {event.subject}")
            if not 0 < seq < MAX_INT or len(epoch) > 64:
                raise ValueError(f"id {event.id[:100]} is out of range")
            if channel is not None and channel != topics.channel_of(kind):
                raise ValueError(f"a {kind} event on channel {channel}")
            self._add_data(device, epoch, seq, kind, event)
        except ValueError as error:
            self._refuse(message, _reason(error), event.model_dump_json().encode())
            if owner != device or not 0 < seq < MAX_INT or len(epoch) > 64:
                return
            aside = True
        self.batch.deliver(device, epoch, seq, message.floor, aside)

    def _add_data(self, device: str, epoch: str, seq: int, kind: str, event: Event) -> None:
        if isinstance(event, ResultEvent):
            self._add_result(device, event.data)
            return
        if isinstance(event, ReplyEvent):
            self._add_reply(device, event.data)
            return
        if isinstance(event, AlertEvent):
            opened = _time(event.data.opened_at)
            _check_times(event.data.ts, *(event.data.evidence.times if event.data.evidence is not None else ()))
            _check_counts(event.data.rows)
            if event.data.alert_id != alert_id(device, event.data.model, opened):
                raise ValueError("alert_id is not the one of this device, model and opened_at")
            self.batch.alerts.append(AlertSeen(device, event.data))
            return
        if isinstance(event, HealthEvent):
            outbox = event.data.outbox
            _check_times(event.data.ts, event.data.last_reading, outbox.oldest)
            _check_counts(event.data.lag_bytes, outbox.events, outbox.bytes)
            _check_times(*(trouble.since for trouble in event.data.troubles))
            if (lines := event.data.lines) is not None:
                _check_times(lines.since)
                _check_counts(lines.read, lines.scored, lines.unknown, *lines.refused.values())
            if event.data.supported_until is not None:
                _check_day(event.data.supported_until)
            for day in event.data.ledger:
                _check_day(day.day)
                _check_counts(day.read, day.scored, day.evicted, day.pending, *day.refused.values())
        elif not isinstance(event, ModelEvent):
            _check_times(event.data.start, event.data.end)
            _check_counts(event.data.lines or 0)
        time = _time(event.time)
        if isinstance(event, HealthEvent):
            self.batch.healths.append(HealthSeen(device, epoch, seq, event))
        self.batch.events.append(
            {
                "device": device,
                "epoch": epoch,
                "seq": seq,
                "type": kind,
                "time": time,
                "data": event.data.model_dump(mode="json"),
            }
        )

    def _add_reply(self, device: str, data: ReplyData) -> None:
        _check_times(*(data.evidence.times if data.evidence is not None else ()))
        for model in data.replay:
            _check_times(model.highest_at)
        self.batch.replies.append(ReplySeen(device, data))

    def _add_result(self, device: str, data: ResultData) -> None:
        ts = _time(data.ts)
        for score in data.scores:
            self.batch.results.append(
                {
                    "device": device,
                    "ts": ts,
                    "model": score.model,
                    "kind": score.kind,
                    "score": _finite(score.score),
                    "threshold": score.threshold,
                    "verdict": CODES[score.verdict],
                    "why": score.why[:REASON_LIMIT] or None,
                    "sensors": score.sensors,
                    "shares": score.shares,
                    "bundle": data.bundle,
                }
            )
        if data.values is not None:
            values = {name: _finite(value) for name, value in data.values.items()}
            self.batch.readings.append({"device": device, "ts": ts, "values": values})


def decode(messages: Iterable[Message]) -> Batch:
    """Decode messages into one batch, in order."""
    decoder = _Decoder()
    for message in messages:
        decoder.add(message)
    return decoder.batch


def set_aside(message: Message, reason: str) -> Batch:
    """Return a batch with the whole message in quarantine; its numbers are settled but not stored."""
    found = decode([message])
    batch = Batch(refused=[Refused(message.topic, reason[:REASON_LIMIT], message.payload)])
    for (device, epoch), numbers in found.numbers.items():
        for number in numbers:
            batch.deliver(device, epoch, number, message.floor, aside=True)
    return batch


def split(message: Message) -> list[Message]:
    """Return the events of a bulk message as separate messages; empty where there is nothing to split."""
    address = topics.parse(message.topic)
    if address is None or address.channel != "bulk":
        return []
    try:
        text = unpack(message.payload, UNPACKED_LIMIT)
        items = None if _crowded(text) else from_json(text)
    except ValueError:
        return []
    if not isinstance(items, list) or len(items) < 2:
        return []
    return [message._replace(payload=zstandard.compress(to_json([item]))) for item in items]


def _crowded(text: bytes) -> str:
    """Say what a text has too much of to be parsed, "" where it has not; a comma in a string counts, too."""
    if len(text) > UNPACKED_LIMIT:
        return f"{len(text)} bytes, at most {UNPACKED_LIMIT} are read"
    if (values := text.count(b",")) > VALUES:
        return f"{values} values in one message, at most {VALUES} are read"
    if (containers := text.count(b"[") + text.count(b"{")) > CONTAINERS:
        return f"{containers} lists and objects in one message, at most {CONTAINERS} are read"
    return ""


def floor_of(properties: Mapping[str, str]) -> int | None:
    """Read the user property :data:`.topics.FLOOR`; None if it is missing or invalid."""
    text = properties.get(topics.FLOOR, "")
    return int(text) if text.isdecimal() and len(text) < 17 else None


def _first_and_rest(text: bytes) -> list[bytes]:
    """Return the JSON value that ``text`` begins with and what follows it, where there is either."""
    clear = text.decode("utf-8", "surrogateescape")
    try:
        end = len(clear[: json.JSONDecoder().raw_decode(clear)[1]].encode("utf-8", "surrogateescape"))
    except ValueError:
        end = 0
    parts = [part.strip(b" \r\n\t,]") for part in (text[:end], text[end:])]
    return [part for part in parts if part]


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _check_times(*times: str | None) -> None:
    for time in times:
        if time is not None:
            _time(time)


def _time(text: str) -> int:
    ts = parse_iso(text)
    if not 0 <= ts < LATEST:
        raise ValueError(f"{text} lies outside 1970 to 2200")
    return ts


def _check_day(text: str) -> None:
    if day_of(_time(text)) != text:  # the parser takes other forms too, as 20260117
        raise ValueError(f"{text!r} is not a day as 2026-01-17")


def _check_counts(*counts: int) -> None:
    for count in counts:
        if not 0 <= count < MAX_INT:
            raise ValueError(f"{count} is not a count")


def _reason(error: ValueError) -> str:
    if isinstance(error, ValidationError):
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in first["loc"])
        return f"{place}: {first['msg']}" if place else str(first["msg"])
    return str(error)
