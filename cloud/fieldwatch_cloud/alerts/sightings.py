"""What devices tell, as signals of incidents: a model's alert, and a state that somebody must act on. No I/O, no clock.

A state becomes a signal only when it has lasted: a Wi-Fi that comes back calls nobody (:class:`Patience`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fieldwatch_contract import clock

from fieldwatch_cloud import words
from fieldwatch_cloud.alerts.life import Severity, Signal
from fieldwatch_cloud.alerts.standing import DEVICE, MODELS, NETWORK, PC, SERVER, Finding

FAULT = "fault"
"""The kind of what the models see."""
AUDIENCES = {DEVICE: "device", PC: "pc", NETWORK: "network", SERVER: "server", MODELS: "models"}
"""The word by which routes know who can act."""
PATIENCE = 10 * clock.MINUTE
"""How long a state must last before somebody is told."""
CALM = 5 * clock.MINUTE
"""How long it must be gone before that is told."""
TOGETHER = 5
TOGETHER_SHARE = 0.3
"""So many devices of a site, and such a share of them, out of contact at once have one cause."""
_WHOLE = frozenset({"offline", "stalled", "log", "refused", "clock", "stale", "stopped"})
"""States that are one kind, however they are worded; of the others each word is a kind of its own."""
_QUIET = frozenset({"critical", "warning", "above", "note", "normal"})
"""States that are alerts of their own, or that call nobody."""


@dataclass(frozen=True)
class Sighting:
    """A signal and what it is about. ``device`` "": this server, or the fleet. ``what``: in words, without the device;
    ``shares``: of the signal's sensors.
    """

    device: str
    kind: str
    signal: Signal
    what: str
    audience: str = "device"
    type: str | None = None
    bundle: str | None = None
    shares: tuple[float, ...] = ()
    remedy: str = ""


def of_alert(row: Mapping[str, Any]) -> Sighting:
    """Return what a row of the table ``alert`` tells; ``heard_at``: when its newest transition arrived.

    Nothing happens after we hear of it: a device whose clock is ahead says so, and is told of on its own.
    """
    signal = Signal(
        row["alert_id"],
        row["model"],
        row["severity"] if row["severity"] == "critical" else "warning",
        min(row["opened_at"], row["first_received"]),
        min(row["resolved_at"], row["heard_at"]) if row["state"] == "resolved" else None,
        tuple(row["sensors"]),
        row["like"] is not None,
    )
    return Sighting(
        device=row["device"],
        kind=FAULT,
        signal=signal,
        what=words.sentence(words.alert_what(row["kind"], row["sensors"], row["shares"])),
        type=row["bundle_name"],
        bundle=f"{row['bundle_name']}/{row['bundle_version']}",
        shares=tuple(row["shares"]),
    )


def kind_of(finding: Finding) -> str | None:
    """Return the kind of incident that a finding is; None for one that calls nobody.

    >>> kind_of(Finding("offline", "connection lost", "")), kind_of(Finding("trouble", "disk low", ""))
    ('offline', 'disk low')
    """
    if finding.state in _QUIET:
        return None
    return finding.state if finding.state in _WHOLE else finding.word[:64]


@dataclass
class Patience:
    """Turns the findings of each look into sightings: of what has lasted, and of what has gone.

    It remembers since when it has seen what, by our clock; after a restart it takes its time again, so that a server
    that was away does not take its own absence for the devices'.
    """

    _since: dict[tuple[str, str], int] = field(default_factory=dict)
    _gone: dict[tuple[str, str], int] = field(default_factory=dict)
    _told: dict[tuple[str, str], Sighting] = field(default_factory=dict)

    def remember(self, open_ones: Iterable[Sighting]) -> None:
        """Begin with what was told before a restart and is still open."""
        self._told |= {(one.device, one.kind): one for one in open_ones}

    def look(
        self,
        found: Iterable[Sighting],
        now: int,
        patience: int = PATIENCE,
        covered: Callable[[Sighting], bool] = lambda _: False,
    ) -> list[Sighting]:
        """Return what is to be told after a look at everything; ``found``: all that is wrong now. What is ``covered``
        by another one is not told, but does not end either where it has been told.
        """
        current = {(one.device, one.kind): one for one in found}
        news = []
        for place, one in current.items():
            self._gone.pop(place, None)
            since = self._since.setdefault(place, now)
            if place not in self._told and now - since >= patience and not covered(one):
                signal = replace(one.signal, key=f"{one.kind}:{one.device}:{since}", opened_at=since)
                self._told[place] = replace(one, signal=signal)
                news.append(self._told[place])
        for place in [place for place in self._since if place not in current]:
            del self._since[place]
        for place in [place for place in self._told if place not in current]:
            gone = self._gone.setdefault(place, now)
            if now - gone >= min(CALM, patience):
                told = self._told.pop(place)
                del self._gone[place]
                news.append(replace(told, signal=replace(told.signal, ended_at=gone)))
        return news


def common_causes(found: Sequence[Sighting], sites: Mapping[str, int], site: Callable[[str], str]) -> list[Sighting]:
    """Return one sighting for each site whose devices are out of contact together.

    ``sites``: how many devices each site has; ``site``: that of a device. It covers those devices' own.
    """
    away: dict[str, list[Sighting]] = {}
    for one in found:
        if one.kind == "offline":
            away.setdefault(site(one.device), []).append(one)
    gathered = []
    for name, those in away.items():
        if len(those) < TOGETHER or len(those) < TOGETHER_SHARE * sites.get(name, 0):
            continue
        kind = offline_at(name)
        what = f"{len(those)} of {sites.get(name, 0)} devices are {kind}: network or broker?"
        gathered.append(Sighting("", kind, Signal("", kind, "critical", 0), what, "network"))
    return gathered


def offline_at(site: str) -> str:
    """Return the kind of a whole site's absence."""
    return f"out of contact at {site}"[:64] if site else "out of contact"


def of_finding(device: str, type_: str | None, finding: Finding) -> Sighting | None:
    """Return what a device's finding tells, not yet dated; None for one that calls nobody."""
    kind = kind_of(finding)
    if kind is None:
        return None
    severity: Severity = "warning"
    return Sighting(
        device=device,
        kind=kind,
        signal=Signal("", kind, severity, 0),
        what=words.sentence(f"{finding.word}: {finding.reason}" if finding.reason else finding.word),
        audience=AUDIENCES.get(finding.who, "pc"),
        type=type_,
        remedy=finding.remedy,
    )
