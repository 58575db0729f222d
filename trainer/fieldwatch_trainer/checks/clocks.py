"""Clocks and zones: local times read as UTC, labels that lie hours beside their readings, a device off from the fleet.

1. **Local time.** In a zone with summer time one hour of a year does not exist and one stands twice. Readings that lack
   just such an hour, or have it twice, are in local time.
2. **Slip.** In labelled time readings stand out more than elsewhere, where they show the fault at all. If they do not,
   and do so clearly when all labels are moved by the same quarters of an hour, labels and readings have different
   clocks. Random places of the same intervals tell what is clear.
3. **Fleet.** Devices with a daily rhythm in common show it at the same hours, or stand in another zone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np
from fieldwatch_contract.clock import DAY, MINUTE, SECOND, iso
from numpy.typing import NDArray

from fieldwatch_trainer.checks.finding import Finding
from fieldwatch_trainer.checks.rows import repeated
from fieldwatch_trainer.checks.series import Level, Series

HOUR = 60 * MINUTE
STEP = 15 * MINUTE
FURTHEST = 14 * HOUR
TURNS = 400
CLEAR = 5.0
"""Standard deviations of random places by which the labels must fit elsewhere."""
NOTHING = 2.5
"""… and by which they may fit where they are."""
BETTER = 0.15
MOST = 0.6
DEAD = 3.0
CLIP = 10.0
ALIKE = 0.7
_ZONES = (
    "Europe/London", "Europe/Berlin", "Europe/Helsinki", "America/New_York", "America/Chicago", "America/Denver",
    "America/Los_Angeles", "America/Santiago", "Australia/Sydney", "Pacific/Auckland",
)  # fmt: skip
_LOCAL = "write times in UTC: local = local.dt.tz_localize(ZONE).dt.tz_convert('UTC') before the export"


def local_time(device: str, ts: NDArray[np.int64], period: int) -> Iterator[Finding]:
    """Find the hour that summer time takes away, or gives twice; ``ts`` µs not descending."""
    if len(ts) < 2 or period > 20 * MINUTE:
        return
    gaps = np.flatnonzero(np.abs(np.diff(ts) - HOUR - period) <= period)
    for gap in gaps[:1000].tolist():
        middle = int(ts[gap]) + period + HOUR // 2
        if zone := next((name for name in _ZONES if _does_not_exist(middle, name)), ""):
            what = f"no reading from {iso(int(ts[gap]))} to {iso(int(ts[gap + 1]))}, the hour that summer time takes "
            what += f"away in {zone}"
            yield Finding("local-time", what, _LOCAL, device, "", int(ts[gap]), int(ts[gap + 1]))
            return
    again, _ = repeated(ts, period)
    hours, counts = np.unique(ts[again] // HOUR, return_counts=True)
    for hour in hours[counts >= 0.8 * HOUR / period].tolist():
        if zone := next((name for name in _ZONES if _stands_twice(hour * HOUR + HOUR // 2, name)), ""):
            what = f"the hour from {iso(hour * HOUR)} on stands twice, as it does at the end of summer time in {zone}"
            yield Finding("local-time", what, _LOCAL, device, "", hour * HOUR, (hour + 1) * HOUR)
            return


def _wall(ts: int) -> datetime:
    return datetime.fromtimestamp(ts // SECOND, UTC).replace(tzinfo=None)


def _does_not_exist(ts: int, zone: str) -> bool:
    wall = _wall(ts).replace(tzinfo=ZoneInfo(zone))
    return wall.astimezone(UTC).astimezone(ZoneInfo(zone)).replace(tzinfo=None) != wall.replace(tzinfo=None)


def _stands_twice(ts: int, zone: str) -> bool:
    wall = _wall(ts).replace(tzinfo=ZoneInfo(zone))
    first, second = wall.utcoffset(), wall.replace(fold=1).utcoffset()
    return first is not None and second is not None and first - second >= timedelta(minutes=30)


# ---- labels against readings ---------------------------------------------------------------------------------------


class Unrest:
    """How far the rows of one device lie from what they usually are: the mean over sensors beyond a dead zone."""

    def __init__(self, rows: int) -> None:
        self._sum = np.zeros(rows)
        self._count = np.zeros(rows)

    def add(self, series: Series) -> None:
        """Fold one sensor in."""
        if not len(series.rows):
            return
        level = Level.of(series.x[series.rows])
        if level.spread <= 0:
            return
        away = np.abs(series.x[series.rows] - level.middle) / level.spread
        self._sum[series.rows] += np.clip(away - DEAD, 0, CLIP)
        self._count[series.rows] += 1

    def ranks(self) -> NDArray[np.float64]:
        """Return each row's place among all rows, 0 to 1, ties in the middle."""
        value = self._sum / np.maximum(self._count, 1)
        ordered = np.sort(value)
        places = np.searchsorted(ordered, value, "left") + np.searchsorted(ordered, value, "right")
        return np.asarray(places / 2 / max(1, len(value)))


@dataclass(frozen=True)
class Labelled:
    """One device's rows and the intervals labelled fault or anomaly: ``ts``, ``ranks`` ``[m]``; µs, inclusive."""

    device: str
    ts: NDArray[np.int64]
    ranks: NDArray[np.float64]
    events: Sequence[tuple[int, int]]


@dataclass(frozen=True)
class Fit:
    """How well one event fits: at each shift, and at random places of the device's time."""

    device: str
    start: int
    shifted: NDArray[np.float64]
    random: NDArray[np.float64]


SHIFTS = np.arange(-FURTHEST, FURTHEST + STEP, STEP)


def fits(one: Labelled, rng: np.random.Generator) -> list[Fit]:
    """Return the fit of each event that lies within the readings and covers at most a quarter of them."""
    sums = np.concatenate(([0.0], np.cumsum(one.ranks)))
    count = len(one.ts)
    found = []
    for start, end in one.events:
        rows = np.searchsorted(one.ts, end, "right") - np.searchsorted(one.ts, start)
        length = max(int(rows), 1)
        if count < 4 * length or start < one.ts[0] or end > one.ts[-1]:
            continue
        first, stop = np.searchsorted(one.ts, start + SHIFTS), np.searchsorted(one.ts, end + SHIFTS, "right")
        inside = stop - first
        shifted = np.where(inside > 0, (sums[stop] - sums[first]) / np.maximum(inside, 1), np.nan)
        place = rng.integers(0, count - length + 1, TURNS)
        found.append(Fit(one.device, start, shifted, (sums[place + length] - sums[place]) / length))
    return found


def slips(all_fits: Sequence[Fit]) -> Iterator[Finding]:
    """Find labels that fit hours beside where they are: of all devices, of one, or in one season."""
    if shift := _slip(all_fits):
        yield _slipped("", shift, all_fits)
        return
    for group in _groups(all_fits):
        if shift := _slip(group):
            devices = {fit.device for fit in group}
            yield _slipped(group[0].device if len(devices) == 1 else "", shift, group)


def _groups(all_fits: Sequence[Fit]) -> Iterator[Sequence[Fit]]:
    by_season: dict[bool, list[Fit]] = {}
    by_device: dict[str, list[Fit]] = {}
    for fit in all_fits:
        summer = _wall(fit.start).replace(tzinfo=ZoneInfo("Europe/Berlin")).dst() != timedelta(0)
        by_season.setdefault(summer, []).append(fit)
        by_device.setdefault(fit.device, []).append(fit)
    if len(by_device) > 1:
        yield from by_device.values()
    if len(by_season) > 1:
        yield from by_season.values()


def _slip(group: Sequence[Fit]) -> int:
    """Return by how much (µs) the labels of a group must be moved to fit, 0 where they fit or nothing is clear."""
    if len(group) < 2:
        return 0
    shifted = np.array([fit.shifted for fit in group])
    random = np.array([fit.random for fit in group]).mean(axis=0)
    known = np.isfinite(shifted)
    count = known.sum(axis=0)
    mean = np.where(count > len(group) / 2, np.where(known, shifted, 0).sum(axis=0) / np.maximum(count, 1), -1.0)
    here = len(SHIFTS) // 2
    best = int(np.argmax(mean))
    usual, spread = float(random.mean()), float(random.std())
    if best == here or spread <= 0 or abs(int(SHIFTS[best])) < 2 * STEP:
        return 0
    improved = shifted[:, best] - shifted[:, here] > BETTER / 2
    clear = mean[best] - usual >= CLEAR * spread and mean[here] - usual <= NOTHING * spread
    return int(SHIFTS[best]) if clear and mean[best] - mean[here] >= BETTER and improved.mean() >= MOST else 0


def _slipped(device: str, shift: int, group: Sequence[Fit]) -> Finding:
    hours, side = abs(shift) / HOUR, "after" if shift > 0 else "before"
    what = f"the readings that stand out lie {hours:g} h {side} the labels ({len(group)} labelled intervals)"
    remedy = f"write both in UTC; move the labels by {shift / HOUR:+g} h, or the readings by {-shift / HOUR:+g} h"
    starts = [fit.start for fit in group]
    return Finding("time-slip", what, remedy, device, "", min(starts), max(starts))


# ---- one device against the fleet ----------------------------------------------------------------------------------


class Rhythm:
    """A device's daily rhythm: the mean of each sensor, in spreads from its median, by hour of the day (UTC)."""

    def __init__(self) -> None:
        self.hours: dict[str, NDArray[np.float64]] = {}

    def add(self, series: Series) -> None:
        """Fold one sensor in; a device with less than two days has none."""
        rows = series.calm
        if not len(rows) or series.ts[rows[-1]] - series.ts[rows[0]] < 2 * DAY:
            return
        level = Level.of(series.x[rows])
        if level.spread <= 0:
            return
        away = np.clip((series.x[rows] - level.middle) / level.spread, -5, 5)
        hour = series.ts[rows] // HOUR % 24
        counts = np.bincount(hour, minlength=24)
        if counts.all():
            self.hours[series.sensor] = np.bincount(hour, away, 24) / counts


def offsets(rhythms: Mapping[str, Rhythm]) -> Iterator[Finding]:
    """Find devices whose daily rhythm lies hours beside that of the others, where those agree."""
    names = [name for name, rhythm in rhythms.items() if rhythm.hours]
    if len(names) < 3:
        return
    shared = sorted(set.intersection(*(set(rhythms[name].hours) for name in names)))
    if not shared:
        return
    days = {name: np.stack([rhythms[name].hours[sensor] for sensor in shared]) for name in names}
    for name in names:
        others = [days[other] for other in names if other != name]
        mean = np.mean(others, axis=0)
        if min(_likeness(other, mean) for other in others) < ALIKE or float(mean.std()) < 0.2:
            continue
        by_hour = [_likeness(np.roll(days[name], hour, axis=1), mean) for hour in range(24)]
        best = int(np.argmax(by_hour))
        if best and by_hour[best] >= ALIKE and by_hour[best] - by_hour[0] > 0.3:
            hours = best if best <= 12 else best - 24
            what = f"its daily rhythm lies {abs(hours)} h {'before' if hours > 0 else 'after'} that of the others"
            yield Finding("clock-offset", what, "right if it stands in another time zone; else correct its clock", name)


def _likeness(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    a, b = one - one.mean(), other - other.mean()
    size = float(np.sqrt((a * a).sum() * (b * b).sum()))
    return float((a * b).sum() / size) if size else 0.0


# ---- types of the columns ------------------------------------------------------------------------------------------


def zones(readings: Sequence[tuple[str, bool]], labels: bool | None) -> Iterator[Finding]:
    """Compare where times carry a zone: ``readings`` by file, ``labels`` None without any."""
    with_zone = [path for path, zoned in readings if zoned]
    without = [path for path, zoned in readings if not zoned]
    if with_zone and without:
        what = f"times of {without[0]} carry no zone, those of {with_zone[0]} do"
    elif labels is not None and readings and labels != bool(with_zone):
        one, other = ("labels", "readings") if labels else ("readings", "labels")
        what = f"the times of the {one} carry a zone, those of the {other} do not and are read as UTC"
    else:
        return
    yield Finding("mixed-zones", what, "right if the times without a zone are UTC; else convert them before the export")
