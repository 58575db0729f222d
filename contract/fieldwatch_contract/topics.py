"""The MQTT topic tree. The device id is one fixed topic level, so that one ACL pattern at the broker covers a device.

========================  =================================================================
``evt/<event>``           device → cloud: ``alert``, ``result``, ``health``, ``gap``, ``model``
``bulk``                  device → cloud: zstd batches of the same events (backlog)
``state``                 device → cloud: retained, also the last will
``ack``                   cloud → device: retained, what the cloud has stored
``verdicts``              cloud → device: retained, what people said of its alerts
``command``               cloud → device: what a person asks of it, for an hour at most (:mod:`.commands`)
``reply``                 device → cloud: its answer, an event like the others
========================  =================================================================
"""

from __future__ import annotations

import re
from typing import NamedTuple

PREFIX = "fieldwatch/v1/d"
EVENTS = ("alert", "result", "health", "gap", "model", "reply")
BULK = "bulk"
DEVICE_ID = re.compile(r"[a-z0-9-]{3,64}")

FLOOR = "floor"
"""User property of ``evt`` and ``bulk``, the low-water mark: the lowest number that the device may still send in this
epoch. Everything below was acknowledged or evicted, so the cloud need not wait for it."""

ALL_EVENTS = f"{PREFIX}/+/evt/#"
ALL_BULK = f"{PREFIX}/+/bulk"
ALL_STATES = f"{PREFIX}/+/state"
ALL_REPLIES = f"{PREFIX}/+/reply"


class Address(NamedTuple):
    """A parsed topic: the device and its channel (``evt/alert``, ``bulk``, …)."""

    device: str
    channel: str


def topic(device: str, channel: str) -> str:
    """Return the topic of ``channel`` for ``device``.

    Raises :class:`ValueError` for a device id that could reach another device's topics.

    >>> topic("press-0001", "evt/alert")
    'fieldwatch/v1/d/press-0001/evt/alert'
    """
    if not DEVICE_ID.fullmatch(device):
        raise ValueError(f"device id {device!r} must match ^[a-z0-9-]{{3,64}}$")
    return f"{PREFIX}/{device}/{channel}"


def channel_of(event: str) -> str:
    """Return the channel on which one event of this type is sent.

    >>> channel_of("alert"), channel_of("reply")
    ('evt/alert', 'reply')
    """
    return event if event == "reply" else f"evt/{event}"


def parse(text: str) -> Address | None:
    """Return device and channel of a topic, or None where it is not one of ours.

    >>> parse("fieldwatch/v1/d/press-0001/evt/alert")
    Address(device='press-0001', channel='evt/alert')
    """
    if not text.startswith(PREFIX + "/"):
        return None
    device, _, channel = text[len(PREFIX) + 1 :].partition("/")
    if not channel or not DEVICE_ID.fullmatch(device):
        return None
    return Address(device, channel)
