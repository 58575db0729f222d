"""One device against the others of its type: another unit, another sign, columns exchanged, a sensor that never moves.

Devices of a type differ; their levels may lie apart by a tenth. So a device is strange only where the others agree with
each other, it lies far from them, and a known conversion brings it back.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from fieldwatch_trainer.checks.finding import Finding
from fieldwatch_trainer.checks.series import Level
from fieldwatch_trainer.checks.units import SIGN, conversion, unlike

AGREE = 0.1
"""Share of the level within which devices of a type may differ."""
LEVEL = 0.05

Levels = Mapping[str, Mapping[str, Level]]
"""By sensor, by device; without devices that have too few values."""


def differences(levels: Levels) -> Iterator[Finding]:
    """Find devices whose sensors are unlike those of all others."""
    swapped = list(_swapped(levels))
    for device, one, two in swapped:
        for sensor, other in ((one, two), (two, one)):
            what = f"its values are those that {other} has on the other devices, and the reverse"
            yield Finding("swapped-sensors", what, "exchange the two columns of this device", device, sensor)
    gone = {(device, sensor) for device, one, two in swapped for sensor in (one, two)}
    for sensor, by_device in levels.items():
        strange = [device for device in by_device if (device, sensor) not in gone]
        told = 0
        for device in strange:
            rest = _others(by_device, device)
            if rest is None or (len(by_device) == 2 and told):
                continue
            own = by_device[device]
            if own.constant and rest.spread > 0 and rest.step > 0:
                what = f"always {own.middle:.6g} on this device, while it moves on {_count(by_device, device)}"
                remedy = "look at the sensor and its wiring; leave its values out if it is not connected"
                yield Finding("stuck", what, remedy, device, sensor)
                continue
            if not unlike(rest, own, 4.0):
                continue
            how = conversion(rest, own, rest.middle, own.middle, 0.15, LEVEL)
            if how is None:
                continue
            told += 1
            what = (
                f"lies at {own.middle:.6g} ± {own.spread:.3g}, on {_count(by_device, device)} at {rest.middle:.6g} ± "
                f"{rest.spread:.3g}: {how.words}"
            )
            kind = "sign-change" if how is SIGN else "unit-differs"
            yield Finding(kind, what, "convert one to the unit of the other", device, sensor)


def _count(by_device: Mapping[str, Level], device: str) -> str:
    others = [name for name in by_device if name != device]
    return others[0] if len(others) == 1 else f"{len(others)} others"


def _others(by_device: Mapping[str, Level], device: str) -> Level | None:
    """Return the level of the other devices, None where they do not agree with each other."""
    others = [level for name, level in by_device.items() if name != device]
    if not others:
        return None
    middles, spreads, steps = (
        np.array(part) for part in zip(*((o.middle, o.spread, o.step) for o in others), strict=True)
    )
    middle, spread = float(np.median(middles)), float(np.median(spreads))
    room = max(2 * spread, AGREE * abs(middle))
    if (np.abs(middles - middle) > room).mean() > 0.2:
        return None
    return Level(middle, spread, float(np.median(steps)))


def _swapped(levels: Levels) -> Iterator[tuple[str, str, str]]:
    rest = {
        (sensor, device): own
        for sensor, by_device in levels.items()
        for device in by_device
        if (own := _others(by_device, device)) is not None
    }
    odd = [
        (sensor, device)
        for (sensor, device), others in rest.items()
        if len(levels[sensor]) > 2 and unlike(others, levels[sensor][device], 4.0)
    ]
    for place, (one, device) in enumerate(odd):
        for two, same in odd[place + 1 :]:
            if device == same and one != two:
                a, b = levels[one][device], levels[two][device]
                if not unlike(rest[two, device], a, 1.5) and not unlike(rest[one, device], b, 1.5):
                    yield device, one, two
