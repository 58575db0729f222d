"""Changes in mid-history: a unit, a sign, a level that is another from one reading to the next, and stays so.

The place of a change is sought by cumulative sums, of the values and of their distance from the median, both clipped,
in halves of halves; then the stretches right beside it are compared (:mod:`.checks.units`). A device that works in jobs
goes from level to level and comes back; so one of the two must be new: hardly a block of the whole time on the other
side of the change, at least a quarter of all, is like it. Where nothing is found so, the distributions of all values
before and after are compared. Labelled time is left out: a fault may change a level. Where
two sensors of a device exchange their values at the same reading, they were swapped.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from fieldwatch_contract.clock import iso
from numpy.typing import NDArray

from fieldwatch_trainer.checks.finding import Finding
from fieldwatch_trainer.checks.series import SAMPLE, Level, Series
from fieldwatch_trainer.checks.units import SIGN, Conversion, Shape, by_distribution, conversion, unlike

LEAST = 100
"""Rows on each side of a change."""
SHARE = 0.03
"""Share of a device's rows that a change must last for."""
WINDOW = 5 * LEAST
"""Rows on each side that are compared."""
LOCAL = 10
"""Rows on each side that tell the jump itself."""
DEPTH = 4
FOLLOWING = 4
"""Later places at which a change may end."""
QUARTER = 0.25
SEEN = 0.02
"""Share of blocks on the other side that may be like a new level."""
TOGETHER = 3
"""Rows by which changes of several sensors may lie apart and still be one."""


@dataclass(frozen=True)
class Change:
    """A change of one sensor: ``place`` index of the first row after it in ``ts``; the levels on both sides."""

    series: Series
    place: int
    one: Level
    two: Level
    how: Conversion | None


def changes(series: Series) -> list[Change]:
    """Return one device's changes of one sensor, in time order."""
    rows = series.calm
    values = series.x[rows]
    least = max(LEAST, int(SHARE * len(values)))
    if len(values) < 2 * least:
        return []
    places = _places(values, least)
    found = [change for place in places if (change := _beside(series, values, place)) is not None]
    known = [change for change in found if change.how is not None]
    return known or _of_distribution(series, values, places) or found


def _beside(series: Series, values: NDArray[np.float64], place: int) -> Change | None:
    """Compare the stretches right beside a place; ``values``: the calm ones."""
    before, after = values[max(0, place - WINDOW) : place], values[place : place + WINDOW]
    one, two = Level.of(before), Level.of(after)
    if not unlike(one, two):
        return None
    left, right = float(np.median(before[-LOCAL:])), float(np.median(after[:LOCAL]))
    how = conversion(one, two, left, right)
    if how is None and abs(right - left) <= max(3 * max(one.spread, two.spread), 10 * max(one.step, two.step)):
        return None
    if not (_new(two, values[:place], len(values)) or _new(one, values[place:], len(values))):
        return None
    return Change(series, int(series.calm[place]), one, two, how)


def _of_distribution(series: Series, values: NDArray[np.float64], places: Sequence[int]) -> list[Change]:
    """Compare all that lies before a place with all that follows, up to the end or a later place."""
    least = max(3 * LEAST, int(2 * SHARE * len(values)))
    found: list[Change] = []
    start = 0
    for number, place in enumerate(places):
        if place - start < least:
            continue
        before = Shape(values[start:place])
        for stop in (len(values), *places[number + 1 :][:FOLLOWING]):
            if stop - place < least:
                continue
            how = by_distribution(before, Shape(values[place:stop]))
            exact = None if how is None else _border(values, place, how)
            if exact is not None:
                one, two = Level.of(values[start:exact]), Level.of(values[exact:stop])
                found.append(Change(series, int(series.calm[exact]), one, two, how))
                start = exact
                break
    return found


def _border(values: NDArray[np.float64], place: int, how: Conversion) -> int | None:
    """Return the row near a place before which the converted values go on as if nothing had happened."""
    start, stop = max(1, place - LEAST), min(len(values), place + LEAST)
    jumps = np.abs(np.diff(values[start - 1 : stop]))
    after = np.abs(np.diff(values[place : place + 10 * LEAST]))
    usual = float(np.quantile(after, 0.9)) if len(after) else 0.0
    goes_on = np.abs(how.factor * values[start - 1 : stop - 1] + how.offset - values[start:stop]) <= 3 * usual
    candidates = np.flatnonzero(goes_on)
    return start + int(candidates[np.argmax(jumps[candidates])]) if len(candidates) else None


def _new(level: Level, elsewhere: NDArray[np.float64], count: int) -> bool:
    """Tell whether hardly a block of the values elsewhere is like a level."""
    if len(elsewhere) < max(QUARTER * count, LEAST):
        return False
    blocks = elsewhere[: len(elsewhere) // LEAST * LEAST].reshape(-1, LEAST)
    low, middle, high = np.quantile(blocks, (0.25, 0.5, 0.75), axis=1)
    step = np.median(np.abs(np.diff(blocks, axis=1)), axis=1)
    known = (Level(*figures) for figures in zip(middle, (high - low) / 1.349, step, strict=True))
    return sum(not unlike(one, level) for one in known) <= SEEN * len(blocks)


def _places(values: NDArray[np.float64], least: int) -> list[int]:
    """Return where values may change, exactly, at least ``least`` rows apart and from the ends."""
    step = max(1, len(values) // SAMPLE)
    thin = values[::step]
    low, middle, high = np.quantile(thin, (0.25, 0.5, 0.75))
    scale = float(high - low) or float(np.std(thin))
    if scale == 0 or not np.isfinite(scale):
        return []
    away = (thin - middle) / scale
    found: set[int] = set()
    for track in (np.clip(away, -4, 4), np.clip(np.log(np.abs(away) + 0.01), -4.5, 3)):
        found |= _halves(track, 0, len(thin), max(1, least // step), DEPTH)
    exact = sorted({_exact(values, place * step, step) for place in found})
    kept: list[int] = []
    for place in exact:
        if least <= place <= len(values) - least and (not kept or place - kept[-1] >= LEAST // 2):
            kept.append(place)
    return kept


def _halves(track: NDArray[np.float64], start: int, stop: int, least: int, depth: int) -> set[int]:
    if depth == 0 or stop - start < 2 * least:
        return set()
    part = track[start:stop]
    sums = np.abs(np.cumsum(part - part.mean()))
    inner = sums[least - 1 : len(part) - least]
    if not len(inner):
        return set()
    place = start + least + int(np.argmax(inner))
    return {place} | _halves(track, start, place, least, depth - 1) | _halves(track, place, stop, least, depth - 1)


def _exact(values: NDArray[np.float64], place: int, step: int) -> int:
    """Return the row near ``place`` at which the values jump furthest, medians of five on each side."""
    reach = max(LEAST, 2 * step, len(values) // 200)
    start, stop = max(5, place - reach), min(len(values) - 5, place + reach)
    if stop <= start:
        return place
    windows = np.median(np.lib.stride_tricks.sliding_window_view(values[start - 5 : stop + 5], 5), axis=1)
    jumps = np.abs(windows[5:] - windows[:-5])
    best = np.flatnonzero(jumps >= 0.9 * jumps.max())
    steps = np.abs(values[start + best] - values[start + best - 1])
    return start + int(best[np.argmax(steps)])


def findings(found: Sequence[Change]) -> Iterator[Finding]:
    """Tell one device's changes, of all its sensors."""
    swapped = list(_swapped(found))
    for one, two in swapped:
        start = int(one.series.ts[one.place])
        what = f"from {iso(start)} on its values are those that {two.series.sensor} had before, and the reverse"
        remedy = "exchange the two columns on one side of the change"
        for change in (one, two):
            end = _end(change, found)
            yield Finding("swapped-sensors", what, remedy, change.series.device, change.series.sensor, start, end)
            what = f"from {iso(start)} on its values are those that {one.series.sensor} had before, and the reverse"
    gone = {id(change) for pair in swapped for change in pair}
    for change in (one for one in found if id(one) not in gone):
        yield _told(change, found)


def _told(change: Change, found: Sequence[Change]) -> Finding:
    series, one, two = change.series, change.one, change.two
    start = int(series.ts[change.place])
    span = (series.device, series.sensor, start, _end(change, found))
    levels = f"from {iso(start)} on its level is {two.middle:.6g} ± {two.spread:.3g}, before {one.middle:.6g} ± "
    levels += f"{one.spread:.3g}"
    if change.how is SIGN:
        return Finding("sign-change", f"{levels}: the sign is reversed", "turn the sign of one side", *span)
    if change.how is not None:
        remedy = "convert one side, or train on the newer readings alone"
        return Finding("unit-change", f"{levels}; that is {change.how.words}", remedy, *span)
    near = {other.series.sensor for other in found if abs(other.place - change.place) <= TOGETHER}
    cause = (
        f"{len(near)} sensors change at once: a change of the process, or of the device"
        if len(near) > 1
        else "no other sensor changes with it: an exchange, a calibration or an offset of this one, if no process step"
    )
    remedy = "if it stays so, train on the readings since; if it was a disturbance, label it"
    return Finding("level-change", f"{levels}; {cause}", remedy, *span)


def _end(change: Change, found: Sequence[Change]) -> int:
    """Return the time of the last row before the sensor's next change."""
    series = change.series
    later = [one.place for one in found if one.series.sensor == series.sensor and one.place > change.place]
    return int(series.ts[min(later) - 1]) if later else int(series.ts[series.rows[-1]])


def _swapped(found: Sequence[Change]) -> Iterator[tuple[Change, Change]]:
    for place, one in enumerate(found):
        for two in found[place + 1 :]:
            together = abs(one.place - two.place) <= TOGETHER and one.series.sensor != two.series.sensor
            if together and _same(one.two, two.one) and _same(two.two, one.one):
                yield one, two


def _same(one: Level, two: Level) -> bool:
    spread = max(one.spread, two.spread)
    if abs(one.middle - two.middle) > max(spread, 1e-6 * abs(one.middle)):
        return False
    return spread == 0 or 0.4 <= (one.spread + 1e-300) / (two.spread + 1e-300) <= 2.5
