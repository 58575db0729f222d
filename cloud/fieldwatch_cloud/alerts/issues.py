"""One fault on many devices is one issue; and a jump after a new bundle is for those who released it. No I/O, no clock.

An issue is named by device type, the sensors that stand for most of it, and the bundle that saw it: the same fault of
the same machine seen by another bundle may be another model's mistake. It begins with the second device.

A bundle jumps when it has just come to the devices of a type and a large share of them then alert: rather the bundle
than the devices. The people at the devices get a digest, the people who release models are told at once.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from fieldwatch_contract import clock

ISSUE_DEVICES = 2
"""Devices from which on incidents of one key are an issue."""
ISSUE_SPAN = clock.DAY
"""How long after its newest incident an issue takes another one."""
JUMP_SPAN = clock.DAY
"""How long a bundle is new to a device."""
JUMP_SHARE = 0.3
JUMP_DEVICES = 3
MAIN_SHARE = 0.25
"""A sensor with at least this share of the score names the fault."""


@dataclass(frozen=True)
class Key:
    """What incidents of one issue have in common."""

    kind: str
    type: str
    sensors: tuple[str, ...]
    bundle: str

    def __str__(self) -> str:
        return "|".join([self.kind, self.type, ",".join(self.sensors), self.bundle])


def key_of(kind: str, type_: str | None, sensors: Sequence[str], shares: Sequence[float], bundle: str) -> Key | None:
    """Return the key of an incident's fault: its main sensors, in the order of their names; None if none is named.

    >>> str(key_of("fault", "press", ["flow", "oil", "rpm"], [0.5, 0.3, 0.02], "press/7"))
    'fault|press|flow,oil|press/7'
    """
    main = [name for name, share in zip(sensors, shares, strict=False) if share >= MAIN_SHARE] or list(sensors[:1])
    return Key(kind, type_ or "", tuple(sorted(main)), bundle) if main else None


def jumps(alerting: Collection[str], changed: Mapping[str, int], now: int) -> bool:
    """Tell whether a bundle makes the fleet alert.

    ``changed``: when each device of the type began to use it, µs; ``alerting``: devices with an incident since then.
    """
    fresh = {device for device, at in changed.items() if now - at <= JUMP_SPAN}
    hit = fresh.intersection(alerting)
    return len(hit) >= JUMP_DEVICES and len(hit) >= JUMP_SHARE * len(fresh)
