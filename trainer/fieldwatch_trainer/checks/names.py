"""Sensors that have two names, or came and went: between devices, and in mid-history.

| found | kind |
|---|---|
| two names that differ in case, blanks or the form of a letter alone | ``same-name`` |
| one sensor ends and another begins, with values like it; or devices have either the one or the other | \
``renamed-sensor`` |
| a sensor begins, or ends, in mid-history | ``new-sensor``, ``lost-sensor`` |
| a sensor that some devices do not have | ``absent-sensor`` |
"""

from __future__ import annotations

import difflib
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from fieldwatch_contract.clock import iso

from fieldwatch_trainer.checks.finding import Finding
from fieldwatch_trainer.checks.series import Level, Series
from fieldwatch_trainer.checks.units import unlike

PART = 0.02
"""Share of a device's time for which a sensor must be silent at an end to have begun or ended."""
LEAST_PERIODS = 100
NEAR = 0.05
"""One sensor ends and the other begins within this share of the device's time."""
ALIKE = 0.75
"""Likeness of two names."""


@dataclass(frozen=True)
class Presence:
    """When a sensor had values on a device, µs; None where it never had. ``level`` of its values."""

    sensor: str
    first: int | None
    last: int | None
    level: Level | None


def presence(series: Series) -> Presence:
    """Return when a sensor was there."""
    if not len(series.rows):
        return Presence(series.sensor, None, None, None)
    first, last = (int(series.ts[series.rows[place]]) for place in (0, -1))
    known = series.calm if len(series.calm) > 1 else series.rows
    level = Level.of(series.x[known])
    return Presence(series.sensor, first, last, level)


def key(name: str) -> str:
    """Return what two spellings of one name share."""
    whole = unicodedata.normalize("NFKC", name).casefold()
    return "".join(letter for letter in whole if letter.isalnum() or unicodedata.category(letter).startswith("S"))


def spellings(sensors: Sequence[str]) -> Iterator[Finding]:
    """Find names that are one."""
    by_key: dict[str, list[str]] = {}
    for name in sensors:
        by_key.setdefault(key(name), []).append(name)
    for names in by_key.values():
        for other in names[1:]:
            what = f"{other!r} and {names[0]!r} differ in case, blanks or signs alone"
            yield Finding("same-name", what, f"write {names[0]!r} throughout", sensor=other)


def in_history(device: str, first: int, last: int, period: int, there: Sequence[Presence]) -> Iterator[Finding]:
    """Judge when one device's sensors begin and end; ``first``, ``last``: of its readings, µs."""
    room = max(PART * (last - first), LEAST_PERIODS * period)
    begins = [one for one in there if one.first is not None and one.first > first + room]
    ends = [one for one in there if one.last is not None and one.last < last - room]
    near = max(NEAR * (last - first), LEAST_PERIODS * period)
    renamed: set[str] = set()
    for old in ends:
        pairs = [new for new in begins if _follows(old, new, near) and new.sensor not in renamed and _alike(old, new)]
        if not pairs:
            continue
        new = max(pairs, key=lambda one: _likeness(old.sensor, one.sensor))
        renamed |= {old.sensor, new.sensor}
        assert new.first is not None
        what = f"has no value before {iso(new.first)}, {old.sensor!r} none after it, and their values are alike"
        remedy = f"rename {old.sensor!r} to {new.sensor!r} in the older files, or leave both out"
        yield Finding("renamed-sensor", what, remedy, device, new.sensor, new.first, last)
    for one in begins:
        if one.sensor not in renamed and one.first is not None:
            what = f"has no value before {iso(one.first)}"
            remedy = "train on the readings since if it matters, else leave it out"
            yield Finding("new-sensor", what, remedy, device, one.sensor, one.first, last)
    for one in ends:
        if one.sensor not in renamed and one.last is not None:
            what = f"has no value after {iso(one.last)}"
            remedy = "leave it out if it is gone; look at the device if it should be there"
            yield Finding("lost-sensor", what, remedy, device, one.sensor, one.last, last)


def between_devices(there: Mapping[str, Sequence[Presence]]) -> Iterator[Finding]:
    """Judge which devices have which sensors."""
    sensors = {one.sensor for device in there.values() for one in device}
    has = {
        name: {device for device, all_of in there.items() for one in all_of if one.sensor == name and one.level}
        for name in sorted(sensors)
    }
    levels = {(device, one.sensor): one.level for device, all_of in there.items() for one in all_of}
    renamed: set[str] = set()
    partial = [name for name in has if has[name] and len(has[name]) < len(there)]
    for place, one in enumerate(partial):
        for other in partial[place + 1 :]:
            if key(one) == key(other):  # told by their spelling
                renamed |= {one, other}
            if has[one] & has[other] or len(has[one] | has[other]) < len(there) or {one, other} & renamed:
                continue
            a, b = levels[min(has[one]), one], levels[min(has[other]), other]
            if a is None or b is None or unlike(a, b) or (_likeness(one, other) < ALIKE and unlike(a, b, 1.5, 2.0)):
                continue
            old, new = sorted((one, other), key=lambda name: (len(has[name]), name))
            renamed |= {one, other}
            what = f"{_devices(has[old])} have it and not {new!r}, {_devices(has[new])} the reverse, with values alike"
            yield Finding("renamed-sensor", what, f"rename {old!r} to {new!r}", sensor=old)
    for name in partial:
        if name not in renamed:
            lacking = sorted(set(there) - has[name])
            what = f"{len(lacking)} of {len(there)} devices do not have it: {_devices(lacking)}"
            yield Finding("absent-sensor", what, "give these devices a type of their own, or leave it out", sensor=name)


def _follows(old: Presence, new: Presence, near: float) -> bool:
    return old.last is not None and new.first is not None and old.last < new.first < old.last + near


def _alike(old: Presence, new: Presence) -> bool:
    if old.level is None or new.level is None or old.sensor == new.sensor:
        return False
    return not unlike(old.level, new.level)


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, key(one), key(other)).ratio()


def _devices(names: Sequence[str] | set[str], limit: int = 3) -> str:
    listed = sorted(names)
    more = f" and {len(listed) - limit} more" if len(listed) > limit else ""
    return ", ".join(listed[:limit]) + more
