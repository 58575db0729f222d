"""The life of an incident: what may happen to it, and what people are told. No I/O, no clock: times come in, µs.

Two rules, from which the rest follows:

1. Its state changes only as :data:`TRANSITIONS` says. Devices raise and clear; people acknowledge and close.
2. People are told when what they know (:attr:`Incident.known`) differs from what is. So nobody is never told: what was
   hushed (snoozed, maintenance, flapping) is told when the hush ends, if it is still news then. And nobody is told that
   something ended of which he never heard.

========== ================================================= =========================================================
hush       begins                                            ends
========== ================================================= =========================================================
snooze     a person asks for it, with a reason               at the time that he named, at most :data:`SNOOZE_LIMIT`;
                                                             a rise in severity breaks through
maintenance a window that somebody planned covers it         with the window; nothing breaks through
flapping   :data:`TURNS` beginnings and ends within          when it has been quiet for :data:`QUIET`
           :data:`QUIET`, which is told once
========== ================================================= =========================================================

A *signal* is one opening that a device reports: an alert of one model, or a state of the device. One incident holds all
signals of one fault (:func:`belongs`): those of both models, and the openings of a journal that was rebuilt. A source
(model) has one open signal at most: of two, the older one ended when the newer began, in whatever order they arrive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from fieldwatch_contract import clock

State = Literal["open", "acknowledged", "resolved", "closed"]
Severity = Literal["warning", "critical"]
Known = Literal["nothing", "open", "over"]
What = Literal[
    "opened", "reopened", "grew", "acknowledged", "assigned", "commented", "snoozed", "resolved", "closed", "flapping",
    "quiet", "hush over", "recorded", "unrouted",
]  # fmt: skip
Turn = Literal["raise", "clear", "acknowledge", "close"]

TRANSITIONS: dict[State, dict[Turn, State]] = {
    "open": {"raise": "open", "clear": "resolved", "acknowledge": "acknowledged", "close": "closed"},
    "acknowledged": {
        "raise": "acknowledged",
        "clear": "resolved",
        "acknowledge": "acknowledged",
        "close": "closed",
    },
    "resolved": {"raise": "open", "clear": "resolved", "close": "closed"},
    "closed": {"raise": "open", "clear": "closed"},
}
"""What follows. A turn that is not named is refused: :class:`NotNowError`."""

REOPEN = 30 * clock.MINUTE
"""A signal that begins this soon after the end (by the device's times) opens the same incident again."""
QUIET = 60 * clock.MINUTE
TURNS = 4
SNOOZE_LIMIT = 7 * clock.DAY
LATE = 60 * clock.MINUTE
"""What reaches us this long after it happened is no call to act: it is told in a digest. The default."""
SIGNALS_KEPT = 50
_RANK: dict[Severity, int] = {"warning": 0, "critical": 1}


class NotNowError(Exception):
    """A person asks for what the incident's state does not allow; the message says why."""


@dataclass(frozen=True)
class Signal:
    """One opening. ``key`` is its identity, ``source`` what reports it: a model, or the kind of a device's state.

    ``opened_at`` and ``ended_at`` by the device's clock. ``like``: marked as like one that people dismissed.
    """

    key: str
    source: str
    severity: Severity
    opened_at: int
    ended_at: int | None = None
    sensors: tuple[str, ...] = ()
    like: bool = False


@dataclass(frozen=True)
class Answer:
    """What a person did, and why."""

    by: str
    at: int
    why: str = ""


@dataclass(frozen=True)
class Incident:
    """One fault, or one state, of one device. Times are µs; ``turns`` and ``opened_at`` by the device's clock."""

    opened_at: int
    signals: tuple[Signal, ...]
    state: State = "open"
    severity: Severity = "warning"
    ended_at: int | None = None
    occurrences: int = 1
    known: Known = "nothing"
    acknowledged: Answer | None = None
    closed: Answer | None = None
    assignee: str = ""
    snoozed_until: int | None = None
    maintenance_until: int | None = None
    flapping: bool = False
    turns: tuple[int, ...] = field(default=())

    @property
    def live(self) -> bool:
        """Whether it waits for a person or a device."""
        return self.state in ("open", "acknowledged")

    @property
    def hushed(self) -> bool:
        """Whether people are not told of it for now."""
        return self.flapping or self.snoozed_until is not None or self.maintenance_until is not None

    @property
    def sensors(self) -> tuple[str, ...]:
        """The sensors that its signals name, each once."""
        return tuple(dict.fromkeys(name for signal in self.signals for name in signal.sensors))

    @property
    def wake_at(self) -> int | None:
        """When time alone changes it (:class:`Passed`); None if never."""
        ends = [self.snoozed_until, self.maintenance_until, self.turns[-1] + QUIET if self.flapping else None]
        return min((end for end in ends if end is not None), default=None)


@dataclass(frozen=True)
class News:
    """One line of the timeline. ``tell``: people are told; ``digest``: not at once, for nobody needs to hurry."""

    what: What
    at: int
    tell: bool = False
    digest: bool = False
    by: str = ""
    text: str = ""


# ---- what happens to it ----


@dataclass(frozen=True)
class Seen:
    """A device tells of a signal, as it is now. ``maintenance``: when a planned window that covers it ends; ``late``:
    after how long it is old news.
    """

    at: int
    signal: Signal
    maintenance: int | None = None
    late: int = LATE


@dataclass(frozen=True)
class Passed:
    """Time has passed. ``maintenance``: when the window that covers it now ends; None where none does any more."""

    at: int
    maintenance: int | None = None


@dataclass(frozen=True)
class Acknowledged:
    """A person has seen it and takes care. ``seen``: who had it when they decided, "" nobody, None: does not matter."""

    at: int
    by: str
    why: str = ""
    seen: str | None = None


@dataclass(frozen=True)
class Assigned:
    """A person gives it to somebody."""

    at: int
    by: str
    to: str


@dataclass(frozen=True)
class Commented:
    """A person says something of it."""

    at: int
    by: str
    text: str


@dataclass(frozen=True)
class Snoozed:
    """A person wants to hear no more of it until then."""

    at: int
    by: str
    until: int
    why: str = ""


@dataclass(frozen=True)
class Closed:
    """A person says that it is over, whatever the device says."""

    at: int
    by: str
    why: str = ""


Event = Seen | Passed | Acknowledged | Assigned | Commented | Snoozed | Closed


def belongs(incident: Incident, signal: Signal) -> bool:
    """Tell whether a signal of the same device and kind is one of this incident's: open together, or soon after."""
    if signal.ended_at is not None and signal.ended_at < incident.opened_at - REOPEN:
        return False
    early = signal.opened_at < incident.opened_at - REOPEN and signal.ended_at is None and not incident.live
    return not early and (incident.live or signal.opened_at <= (incident.ended_at or 0) + REOPEN)


def home(incidents: Sequence[Incident], signal: Signal) -> int | None:
    """Return which of a device's incidents of one kind a signal belongs to, the newest that it may; None: a new one."""
    known = [index for index, one in enumerate(incidents) if any(mine.key == signal.key for mine in one.signals)]
    found = known or [index for index, one in enumerate(incidents) if belongs(one, signal)]
    return max(found, key=lambda index: incidents[index].opened_at, default=None)


def begin(event: Seen) -> tuple[Incident, list[News]]:
    """Return the incident that a first signal makes, and its news."""
    signal = event.signal
    incident = Incident(
        opened_at=signal.opened_at,
        signals=(signal,),
        severity=signal.severity,
        turns=tuple(min(one, event.at) for one in (signal.opened_at, signal.ended_at) if one is not None),
        maintenance_until=_later(event.maintenance, event.at),
    )
    if signal.ended_at is not None:
        incident = replace(incident, state="resolved", ended_at=signal.ended_at)
    return _tell(incident, News("opened", event.at, digest=_digest(event)), hush=incident.maintenance_until is not None)


def step(incident: Incident, event: Event) -> tuple[Incident, list[News]]:
    """Return the incident after ``event``, and the news. Raises :class:`NotNowError`."""
    match event:
        case Seen():
            return _seen(incident, event)
        case Passed():
            return _passed(incident, event)
        case Acknowledged():
            state = _next(incident, "acknowledge")
            if (has := incident.acknowledged) is not None and incident.state == "acknowledged":
                if (has.by, has.why) == (event.by, event.why):
                    return incident, []  # a button pressed twice is told once
                if event.seen is not None and has.by not in (event.seen, event.by):
                    raise NotNowError(f"{has.by} has taken it meanwhile: look again, then take it over if you must")
            answer = Answer(event.by, event.at, event.why)
            news = News("acknowledged", event.at, incident.known == "open", by=event.by, text=event.why)
            return replace(incident, state=state, acknowledged=answer), [news]
        case Assigned():
            _expect_live(incident, "assigned")
            news = News("assigned", event.at, incident.known == "open", by=event.by, text=event.to)
            return replace(incident, assignee=event.to), [news]
        case Commented():
            return incident, [News("commented", event.at, by=event.by, text=event.text)]
        case Snoozed():
            _expect_live(incident, "snoozed")
            if not event.at < event.until <= event.at + SNOOZE_LIMIT:
                raise NotNowError(f"a snooze ends, at most {SNOOZE_LIMIT // clock.DAY} days from now")
            news = News("snoozed", event.at, by=event.by, text=event.why)
            return replace(incident, snoozed_until=event.until), [news]
        case Closed():
            state = _next(incident, "close")
            ended = incident.ended_at if incident.ended_at is not None else event.at
            answer = Answer(event.by, event.at, event.why)
            done = replace(incident, state=state, ended_at=ended, closed=answer, snoozed_until=None)
            news = News("closed", event.at, incident.known == "open", by=event.by, text=event.why)
            return replace(done, known="over" if news.tell else done.known), [news]


# ---- how ----


def _seen(incident: Incident, event: Seen) -> tuple[Incident, list[News]]:
    """Merge a signal; whether it raises or clears follows from what was open before and what is open after."""
    signal = event.signal
    before = _open(incident.signals)
    merged = [signal if one.key == signal.key else one for one in incident.signals]
    if new := all(one.key != signal.key for one in incident.signals):
        merged.append(signal)
    signals = tuple(sorted(merged, key=lambda one: (one.opened_at, one.key))[-SIGNALS_KEPT:])
    after = _open(signals)
    raised = any(one.key == signal.key for one in after) and all(one.key != signal.key for one in before)
    severity = max((one.severity for one in after), key=_RANK.__getitem__, default=incident.severity)
    rise = _RANK[severity] > _RANK[incident.severity]
    widens = raised and incident.live and not set(signal.sensors) <= set(incident.sensors)
    next_ = replace(
        incident,
        signals=signals,
        opened_at=min(incident.opened_at, signal.opened_at),
        maintenance_until=_later(event.maintenance, event.at) or _later(incident.maintenance_until, event.at),
    )
    digest = _digest(event)
    if raised and not incident.live:
        next_ = replace(
            _turned(next_, signal.opened_at, event.at),
            state=_next(incident, "raise"),
            severity=severity,
            ended_at=None,
            closed=None,
            occurrences=incident.occurrences + 1,
        )
        return _tell(next_, News("reopened", event.at, digest=digest))
    if incident.live and not after:
        ended = max((one.ended_at for one in signals if one.ended_at is not None), default=event.at)
        next_ = replace(_turned(next_, ended, event.at), state=_next(incident, "clear"), ended_at=ended)
        return _tell(next_, News("resolved", event.at, digest=digest))
    if incident.live and (rise or widens):
        broken = replace(next_, severity=severity, snoozed_until=None if rise else next_.snoozed_until)
        hush = broken.maintenance_until is not None or (not rise and broken.hushed)
        return _tell(broken, News("grew", event.at, digest=digest), hush=hush, again=True)
    next_ = replace(next_, severity=severity if raised and incident.live else incident.severity)
    return next_, [News("recorded", event.at)] if new else []


def _passed(incident: Incident, event: Passed) -> tuple[Incident, list[News]]:
    """End what has come to its end, and tell what was hushed."""
    flapping = incident.flapping and event.at < incident.turns[-1] + QUIET
    next_ = replace(
        incident,
        flapping=flapping,
        snoozed_until=_later(incident.snoozed_until, event.at),
        maintenance_until=_later(event.maintenance, event.at),
    )
    if next_.hushed:
        return next_, []
    if incident.flapping:
        return _tell(next_, News("quiet", event.at))
    if incident.snoozed_until is not None and next_.live:  # asked for: the fault is still there
        return _tell(next_, News("hush over", event.at), again=True)
    return _tell(next_, News("hush over", event.at)) if incident.hushed else (next_, [])


def _tell(incident: Incident, news: News, hush: bool | None = None, again: bool = False) -> tuple[Incident, list[News]]:
    """Tell ``news`` unless it is hushed or known already; ``again``: also where the state is known."""
    truth: Known = "open" if incident.live else "over"
    quiet = incident.hushed if hush is None else hush
    if not quiet and not again and news.what != "opened":
        quiet = incident.known == truth or (truth == "over" and incident.known == "nothing")
    told = replace(news, tell=not quiet)
    found = [told] if told.tell or told.what not in ("quiet", "hush over") else []
    if told.tell:
        incident = replace(incident, known=truth)
    if not incident.flapping and len(incident.turns) >= TURNS and news.at < incident.turns[-1] + QUIET:
        calm = incident.maintenance_until is None and incident.snoozed_until is None
        incident = replace(incident, flapping=True, known=truth if calm else incident.known)
        found = [replace(told, tell=False), News("flapping", news.at, calm, news.digest)]
    return incident, found


def _turned(incident: Incident, at: int, now: int) -> Incident:
    """Note a beginning or an end. A clock that is ahead must not keep it flapping for ever."""
    turns = sorted([*incident.turns, min(at, now)])
    return replace(incident, turns=tuple(one for one in turns if one > turns[-1] - QUIET)[-TURNS:])


def _open(signals: Sequence[Signal]) -> list[Signal]:
    """Return the signals that are open: of a source only the newest can be."""
    newest: dict[str, Signal] = {}
    for one in signals:
        if one.source not in newest or newest[one.source].opened_at <= one.opened_at:
            newest[one.source] = one
    return [one for one in newest.values() if one.ended_at is None]


def _digest(event: Seen) -> bool:
    """Tell whether nobody needs to hurry: it is old news, or like what people dismissed."""
    happened = event.signal.opened_at if event.signal.ended_at is None else event.signal.ended_at
    return event.signal.like or event.at - happened > event.late


def _later(end: int | None, now: int) -> int | None:
    return end if end is not None and end > now else None


def _next(incident: Incident, turn: Turn) -> State:
    found = TRANSITIONS[incident.state].get(turn)
    if found is None:
        raise NotNowError(f"it is {incident.state}: nobody can {turn} it any more")
    return found


def _expect_live(incident: Incident, what: str) -> None:
    if not incident.live:
        raise NotNowError(f"it is {incident.state}: it cannot be {what} any more")
