"""A finding of ``check``: what is wrong, where and when, what follows from it, and what to do.

Every finding is of a *kind*, which has a name. The kind decides whether it **stops** training (the result would mean
nothing) or is **told** (the models will be worse than they could be, or a figure would mislead). Who knows better
accepts a finding by that name, ``--accept unit-change`` or, of one sensor, ``--accept unit-change:humidity``.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from fieldwatch_contract.clock import iso

Severity = Literal["stops", "told"]


@dataclass(frozen=True)
class Kind:
    """A kind of finding: how bad it is, and what follows from it for a model."""

    severity: Severity
    consequence: str


def _stops(consequence: str) -> Kind:
    return Kind("stops", consequence)


def _told(consequence: str) -> Kind:
    return Kind("told", consequence)


KINDS: dict[str, Kind] = {
    # what cannot be read, or is not enough
    "unreadable": _stops("its readings are missing from everything"),
    "too-few-readings": _stops("nothing can be learnt from so little"),
    "no-values": _stops("there is hardly anything to learn from"),
    "nothing-varies": _stops("there is nothing to learn"),
    "mixed-type": _stops("where it is text its values are missing"),
    "other-file": _told("what stands in it is not read"),
    "no-device": _told("these rows belong to nobody and are left out"),
    "text-column": _told("it is no sensor: nothing learns from it"),
    # values
    "sentinel": _stops(
        "a model takes the code for a measurement: it is blind to real changes, and alarms at each code"
    ),
    "dropout": _told("if the value stands for none, each dropout looks like a fault"),
    "infinite": _told("they are taken as missing"),
    "outliers": _told("they widen the sensor's scale, so that a model sees less of it"),
    "stuck": _told("a model learns that the sensor stands still, and will not see when it sticks again"),
    "constant": _told("it adds nothing to a model; any change of it counts as unusual"),
    "empty": _told("it adds nothing to a model"),
    "missing": _told("a model sees little of it"),
    "counter": _told("it says what time it is: a model learns the date, not the device"),
    # changes in mid-history and differences between devices
    "unit-change": _stops("one scale is learnt for two units: the sensor is misread on both sides of the change"),
    "sign-change": _stops("the sensor means the opposite before and after"),
    "swapped-sensors": _stops("each of the two is learnt from the other's values"),
    "unit-differs": _stops("one scale is learnt for devices that measure in different units"),
    "level-change": _told("a model learns both levels as normal and is blind in between"),
    "drift": _told("a model trained now may not fit what comes"),
    # names
    "renamed-sensor": _stops("what is one sensor is learnt as two, each missing half of the time"),
    "same-name": _stops("what is one sensor is learnt as two, each missing on some devices or for some time"),
    "new-sensor": _told("before its first value it is missing"),
    "lost-sensor": _told("the model expects a sensor that does not come any more"),
    "absent-sensor": _told("on these devices it is missing from every score"),
    # times
    "wrong-period": _stops("most readings are refused as duplicates, or most rows are missing"),
    "gaps": _told("windows that reach into a gap are not scored"),
    "duplicates": _told("of the readings of one period the first counts"),
    "conflicting-duplicates": _told("of the readings of one period the first counts, right or wrong"),
    "time-backwards": _told("they are sorted by time; on the device they would be refused as late"),
    "future": _told("clock or time zone is wrong, and labels will not meet their readings"),
    "impossible-time": _told("labels and splits by date will not meet these readings"),
    "local-time": _told("an hour stands twice in autumn and none in spring; labels in UTC are off by the zone"),
    "mixed-zones": _told("if the times without a zone are local, labels are off by the zone"),
    "clock-offset": _told("events of the fleet and labels meet other readings than they should"),
    "clock-step": _told("before or after it labels and events of other devices meet other readings than they should"),
    "time-slip": _stops(
        "the rows that are labelled are not those of the fault, and those of the fault count as normal"
    ),
    # devices
    "device-twice": _told("the lines say the same; one is enough"),
    "unregistered-device": _told("its readings are used for nothing"),
    "silent-device": _told("nothing is learnt from it"),
    # labels
    "leak": _stops("the model learns the label from itself and finds nothing on a device"),
    "labels-elsewhere": _stops("no label meets a reading: faults are learnt as normal, and nothing can be judged"),
    "label-outside": _told("it teaches nothing"),
    "label-instant": _told("it covers one reading at most"),
    "label-unknown-device": _told("it teaches nothing"),
    "label-unknown-sensor": _told("naming of the responsible sensors cannot be judged"),
    "label-overlap": _told("the stronger word holds"),
    "labels-left-out": _told("they label nothing"),
    "no-labels": _told("only a detector can be trained, and nothing can be evaluated"),
    "no-faults": _told("there will be no classifier"),
    "one-faulty-device": _told("how a classifier does on another device cannot be measured"),
    "faulty-throughout": _told("the device shows nothing normal"),
    "mostly-faulty": _told("there are few normal readings to tell what normal is"),
    "all-faulty": _stops("no reading is normal"),
    "run-to-failure": _told("a split by time takes every fault row for testing, or none"),
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. ``device`` and ``sensor`` are empty where it concerns all; ``start``, ``end`` in µs.

    ``what`` was found and ``remedy``, what to do about it, are sentences for people.
    """

    kind: str
    what: str
    remedy: str
    device: str = ""
    sensor: str = ""
    start: int | None = None
    end: int | None = None

    @property
    def severity(self) -> Severity:
        """Whether it stops training."""
        return KINDS[self.kind].severity

    @property
    def consequence(self) -> str:
        """What follows for a model."""
        return KINDS[self.kind].consequence

    @property
    def name(self) -> str:
        """What ``--accept`` takes."""
        return f"{self.kind}:{self.sensor}" if self.sensor else self.kind

    def as_json(self, accepted: bool = False) -> dict[str, Any]:
        """Return it as plain values; times in RFC 3339."""
        return {
            "kind": self.kind,
            "severity": self.severity,
            "accepted": accepted,
            "device": self.device,
            "sensor": self.sensor,
            "start": None if self.start is None else iso(self.start),
            "end": None if self.end is None else iso(self.end),
            "what": self.what,
            "consequence": self.consequence,
            "remedy": self.remedy,
            "accept": self.name,
        }


class AcceptError(ValueError):
    """``--accept`` names no kind of finding, or no sensor; the message has the nearest right name."""


@dataclass(frozen=True)
class Accepted:
    """What a person accepts: kinds, of all sensors (``""``) or of one."""

    names: tuple[tuple[str, str], ...] = ()

    @classmethod
    def read(cls, texts: Iterable[str]) -> Accepted:
        """Read ``KIND`` or ``KIND:SENSOR``; raises :class:`AcceptError` for a kind that there is not."""
        pairs = []
        for text in texts:
            kind, _, sensor = text.strip().partition(":")
            if kind not in KINDS:
                raise AcceptError(f"--accept {text}: no such finding{_nearest(kind, list(KINDS))}")
            pairs.append((kind, sensor))
        return cls(tuple(pairs))

    def check_sensors(self, sensors: Sequence[str]) -> None:
        """Raise :class:`AcceptError` where a sensor is named that the lake does not have."""
        for kind, sensor in self.names:
            if sensor and sensor not in sensors:
                raise AcceptError(f"--accept {kind}:{sensor}: no such sensor{_nearest(sensor, list(sensors))}")

    def covers(self, finding: Finding) -> bool:
        """Tell whether a finding is accepted."""
        return any(kind == finding.kind and sensor in ("", finding.sensor) for kind, sensor in self.names)

    def idle(self, findings: Sequence[Finding]) -> list[str]:
        """Return what was accepted and did not occur."""
        alone = (Accepted((name,)) for name in self.names)
        return [
            f"{one.names[0][0]}:{one.names[0][1]}".removesuffix(":")
            for one in alone
            if not any(one.covers(finding) for finding in findings)
        ]


def stopping(findings: Iterable[Finding], accepted: Accepted) -> list[Finding]:
    """Return what stops training."""
    return [one for one in findings if one.severity == "stops" and not accepted.covers(one)]


def _nearest(name: str, known: list[str]) -> str:
    near = difflib.get_close_matches(name, known, 3, 0.4)
    told = f"; did you mean {' or '.join(near)}?" if near else ""
    return told or f"; there are {', '.join(sorted(known)[:12])}, …"
