"""Who is told of what, when, and in which message. No I/O, no clock: times come in, µs.

A route says which news it takes (:class:`Match`), when (``hours``), and in which steps: the next channels are told as
long as nobody has acknowledged. :func:`plan` turns one piece of news into :class:`Due` entries; what follows
has to be written in the transaction of the news itself, or it would be lost with it.

Rules
    * News that nobody needs to hurry for (late, like what people dismissed, or a route with ``send = "digest"``) is
      gathered into one message a day.
    * Later steps are for incidents that wait for somebody: whether one still does is looked at when the step is due.
    * Outside its hours a route waits until they begin again; it never drops news.
    * More than :data:`STORM` messages to a channel within :data:`STORM_SPAN`: what follows is gathered into one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from fnmatch import fnmatchcase
from zoneinfo import ZoneInfo

from fieldwatch_contract import clock

from fieldwatch_cloud.alerts.life import LATE, Severity, What

STORM = 10
STORM_SPAN = 10 * clock.MINUTE
STORM_WAIT = 5 * clock.MINUTE
"""How long the message that gathers the rest of a storm waits for more."""

SELF_TEST = "self-test"
"""The kind of the synthetic incident that goes through the whole chain; only the route of that kind takes it."""

OPENING: frozenset[What] = frozenset({"opened", "reopened", "grew", "hush over", "flapping"})
"""News that asks somebody to act, so that the later steps follow."""

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


@dataclass(frozen=True)
class Subject:
    """What an incident is about, as far as routes look at it. ``site`` "" = no site is known of the device.

    ``kind``: ``fault`` for what the models see, else the state of the device or server; ``audience``: who can act.
    """

    device: str
    kind: str
    severity: Severity
    site: str = ""
    audience: str = "device"


@dataclass(frozen=True)
class Match:
    """Patterns (``press-*``) by field; an empty tuple takes everything."""

    device: tuple[str, ...] = ()
    site: tuple[str, ...] = ()
    kind: tuple[str, ...] = ()
    severity: tuple[str, ...] = ()
    audience: tuple[str, ...] = ()

    def takes(self, subject: Subject) -> bool:
        """Tell whether every field that has patterns fits one of them."""
        return all(
            not patterns or any(fnmatchcase(getattr(subject, name), pattern) for pattern in patterns)
            for name, patterns in vars(self).items()
        )


@dataclass(frozen=True)
class Hours:
    """When a route may be used, in its own time zone. ``begin`` after ``end``: over midnight."""

    days: tuple[str, ...] = DAYS
    begin: time = time(0)
    end: time = time(0)
    zone: str = "UTC"

    def next(self, at: int) -> int:
        """Return ``at`` if it lies within, else the next beginning."""
        zone = ZoneInfo(self.zone)
        local = datetime.fromtimestamp(at / clock.SECOND, UTC).astimezone(zone)
        starts = []
        for ahead in range(-1, 9):
            day = (local + timedelta(days=ahead)).date()
            if DAYS[day.weekday()] not in self.days:
                continue
            start = datetime.combine(day, self.begin, zone)
            end = datetime.combine(day + timedelta(days=self.end <= self.begin), self.end, zone)
            if start.astimezone(UTC) <= local.astimezone(UTC) < end.astimezone(UTC):
                return at
            if start.astimezone(UTC) > local.astimezone(UTC):
                starts.append(start)
        return round(min(starts).timestamp() * clock.SECOND)


@dataclass(frozen=True)
class Step:
    """Tell these channels, ``after`` µs, if nobody has acknowledged by then."""

    channels: tuple[str, ...]
    after: int = 0


@dataclass(frozen=True)
class Route:
    """One route."""

    name: str
    steps: tuple[Step, ...]
    match: Match = field(default_factory=Match)
    hours: Hours | None = None
    digest: bool = False
    digest_at: Hours = field(default_factory=lambda: Hours(begin=time(7), end=time(7, 1)))


@dataclass(frozen=True)
class Due:
    """Tell a channel. ``batch``: the message gathers with others of this name. ``step`` > 0: only if nobody has
    acknowledged when it is due.
    """

    channel: str
    route: str
    due_at: int
    batch: str | None = None
    step: int = 0


@dataclass(frozen=True)
class Routing:
    """All routes, which site a device belongs to (patterns by site), and after how long (µs) news is old."""

    routes: tuple[Route, ...] = ()
    sites: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    late: int = LATE

    def site(self, device: str) -> str:
        """Return the first site whose patterns fit the device; "" if none does."""
        fits = (name for name, patterns in self.sites.items() if any(fnmatchcase(device, one) for one in patterns))
        return next(fits, "")


def plan(
    routing: Routing, subject: Subject, what: What, digest: bool, at: int, opened: int, recent: Mapping[str, int]
) -> list[Due]:
    """Return who is to be told of one piece of news; a channel once, by the route that is first.

    ``opened``: when people were first told of this incident; ``recent``: messages per channel within
    :data:`STORM_SPAN`. Empty where no route takes it: the caller says so.
    """
    found: dict[str, Due] = {}
    for route in routing.routes:
        own = route.match.kind == (SELF_TEST,)
        if own != (subject.kind == SELF_TEST) or not route.match.takes(subject):
            continue
        if digest or route.digest:
            due = route.digest_at.next(at)
            for channel in route.steps[0].channels:
                found.setdefault(channel, Due(channel, route.name, due, "digest"))
            continue
        for number, step in enumerate(route.steps):
            asks = what in OPENING
            if not asks and at < opened + step.after:
                continue  # they have not been told that it began
            due = (
                (at if not asks else at + step.after)
                if route.hours is None
                else route.hours.next(at if not asks else at + step.after)
            )
            for channel in step.channels:
                found.setdefault(channel, _held(Due(channel, route.name, due, step=number if asks else 0), at, recent))
    return list(found.values())


def _held(due: Due, at: int, recent: Mapping[str, int]) -> Due:
    """Put a message into the storm's one where the channel has had too many; a later step is counted when it comes."""
    if due.step or recent.get(due.channel, 0) < STORM:
        return due
    return Due(due.channel, due.route, max(at + STORM_WAIT, due.due_at), "storm")


def gathered(titles: Sequence[str], shown: int = 20) -> list[str]:
    """Return the lines of a message that tells several things: at most ``shown``, and how many more there are.

    >>> gathered(["a", "b", "c"], 2)
    ['a', 'b', 'and 1 more']
    """
    rest = len(titles) - shown
    return [*titles[:shown], f"and {rest} more"] if rest > 0 else list(titles)
