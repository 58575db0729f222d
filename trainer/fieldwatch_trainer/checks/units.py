"""Changes of unit: the known ways in which one measurement becomes another number, y = a x + b.

Two stretches of values are related by a conversion where it explains all three of their figures: the median, the
spread, and the size of a usual step. A process that changes moves its level and leaves its noise, or the other way
round; it rarely does both by the same factor, and hardly ever by one of these.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from fieldwatch_trainer.checks.series import HALF, Level, quantiles, thinned


@dataclass(frozen=True)
class Conversion:
    """``y = factor x + offset``; ``words`` say which units, as far as the figures can tell."""

    factor: float
    offset: float
    words: str

    def __call__(self, value: float) -> float:
        """Convert."""
        return self.factor * value + self.offset


_OFFSETS = (
    (1.8, 32.0, "°C", "°F"),
    (1.0, 273.15, "°C", "K"),
    (1.8, -459.67, "K", "°F"),
)
_FACTORS = (  # none nearer to 1 than 2: a process does that too
    (10.0, "kPa to mbar, cm to mm, or the decimal sign moved"),
    (100.0, "bar to kPa, a fraction to per cent, m to cm"),
    (1000.0, "bar to mbar, k… to …, … to m…"),
    (1e4, "MPa to mbar, m² to cm²"),
    (1e5, "bar to Pa"),
    (1e6, "M… to …, … to µ…"),
    (1e9, "… to n…"),
    (14.5037738, "bar to psi"),
    (6.8947573, "psi to kPa"),
    (68.947573, "psi to mbar"),
    (750.06168, "bar to mmHg"),
    (51.714933, "psi to mmHg"),
    (7.5006168, "kPa to mmHg"),
    (25.4, "inch to mm"),
    (2.54, "inch to cm"),
    (3.2808399, "m to feet"),
    (3.6, "m/s to km/h, kWh to MJ"),
    (60.0, "a second to a minute, Hz to rpm, L/min to L/h"),
    (16.666667, "m³/h to L/min"),
    (3600.0, "a second to an hour"),
    (24.0, "an hour to a day"),
    (57.29578, "rad to degrees"),
    (9.5492966, "rad/s to rpm"),
    (2.2046226, "kg to lb"),
    (3.7854118, "gallons to litres"),
    (4.1868, "cal to J"),
)


def _all() -> Iterator[Conversion]:
    for factor, offset, one, other in _OFFSETS:
        yield Conversion(factor, offset, f"{one} to {other}")
        yield Conversion(1 / factor, -offset / factor, f"{other} to {one}")
    for factor, words in _FACTORS:
        yield Conversion(factor, 0.0, f"a factor of {factor:.6g}: {words}")
        yield Conversion(1 / factor, 0.0, f"a factor of {1 / factor:.6g}: the reverse of {words}")


CONVERSIONS = tuple(_all())
SIGN = Conversion(-1.0, 0.0, "the sign")

LEVEL_SPREADS = 1.0
"""Medians may differ from the converted ones by so much of a spread: the process goes on meanwhile."""
LOCAL_SPREADS = 1.5
SPREADS = 2.0
STEPS = 1.6
MISFIT = 1.5
"""Level, spread and step may each miss by so much, and together by hardly more than one of them."""
SHIFTED, OFFSET = 5.0, 1.5
"""Spreads that an offset must have to be told, where it is all there is, and where a factor comes with it."""
WIDTH = 3.3
"""Spreads of a normal distribution between its 5 % and 95 % quantiles."""
LOCATED = 3.0
"""Of a level that lies fewer spreads from zero almost any factor could be read; then only powers of ten count."""


def unlike(one: Level, two: Level, spreads: float = 2.5, times: float = 4.0) -> bool:
    """Tell whether two stretches differ in level or in scale by more than a process usually does."""
    largest = max(one.spread, two.spread)
    if abs(two.middle - one.middle) > max(spreads * largest, 1e-6 * max(abs(one.middle), abs(two.middle))):
        return True
    pairs = ((one.spread, two.spread), (one.step, two.step))
    return all(a > 0 and b > 0 and not 1 / times <= a / b <= times for a, b in pairs)


def conversion(
    one: Level, two: Level, before: float, after: float, exact: float = 0.1, level: float = 0.0
) -> Conversion | None:
    """Return the conversion that makes ``one`` ``two``, None where there is none.

    ``before`` and ``after`` are the levels right beside the change: the conversion must explain the jump between them
    up to the share ``exact`` or some spreads. ``level``: a share of the level by which devices may differ on their own.
    """
    best, least = None, np.inf
    for each in (SIGN, *CONVERSIONS):
        misfit = _misfit(each, one, two, level)
        if misfit is None or misfit >= least:
            continue
        jump = abs(after - before)
        if jump and abs(each(before) - after) > max(exact * jump, LOCAL_SPREADS * two.spread):
            continue
        best, least = each, misfit
    return best


QUANTILES = np.array([0.05, 0.1, 0.25, 0.4, 0.5, 0.6, 0.75, 0.9, 0.95])
ALIKE = 0.1
CLOSE = 0.05
FAR = 0.25
"""Shares of a distribution's width by which quantiles may miss on the mean (a pure factor less), or must differ."""
DRAWN = 2000
"""Values from which the shape of a distribution, and the usual step, are taken."""
LARGE = 5.0
HUGE = 50.0
"""A load may double and keep its shape: factors up to the first prove nothing here, beyond the second they need less
proof."""


TOLD_BY_SHAPE = tuple(
    one for one in (SIGN, *CONVERSIONS) if one is SIGN or one.offset or not 1 / LARGE < one.factor < LARGE
)
"""Without the factors by which a load may grow and keep its shape."""


@dataclass(frozen=True)
class Shape:
    """How the values of a stretch are distributed, and how they move."""

    values: NDArray[np.float64]

    @cached_property
    def quantiles(self) -> NDArray[np.float64]:
        """Those of :data:`QUANTILES`."""
        return quantiles(thinned(self.values, DRAWN), QUANTILES)

    @cached_property
    def step(self) -> float:
        """The median step between neighbours that differ, 0.0 where none do."""
        steps = np.abs(np.diff(self.values[:DRAWN]))
        moving = steps[steps > 0]
        return float(quantiles(moving, HALF)[0]) if len(moving) else 0.0


def by_distribution(one: Shape, two: Shape) -> Conversion | None:
    """Return the conversion that makes the distribution of ``one`` that of ``two``, None where there is none.

    For devices that work in jobs, whose levels right beside a change say little: both distributions have the same
    shape, all their quantiles are related by one conversion, and so is the usual step.
    """
    a, b = one.quantiles, two.quantiles
    wide, other = float(a[-1] - a[0]), float(b[-1] - b[0])
    if wide <= 0 or other <= 0:
        return None
    same = float(np.abs(a - b).mean()) / max(wide, other)
    if same < FAR or not one.step or not two.step:
        return None
    best, least = None, np.inf
    for each in TOLD_BY_SHAPE:
        size = abs(each.factor)
        if not 1 / STEPS < two.step / (size * one.step) < STEPS:
            continue
        if not _told_by_offset(each, max(size * wide, other) / WIDTH):
            continue
        misses = np.abs(np.sort(each.factor * a + each.offset) - b) / max(size * wide, other)
        miss = float(misses.mean())
        if miss >= min(ALIKE, same / 4, least):
            continue
        plain = each.offset or each is SIGN or not 1 / HUGE < size < HUGE
        if plain or (miss < CLOSE and misses.max() < ALIKE):
            best, least = each, miss
    return best


def _told_by_offset(each: Conversion, spread: float) -> bool:
    """Tell whether a conversion's offset stands out from the values' spread: else any process moves as far."""
    return each.offset == 0 or abs(each.offset) >= (SHIFTED if each.factor == 1.0 else OFFSET) * spread


def _decimal(each: Conversion) -> bool:
    exponent = float(np.log10(abs(each.factor)))
    return each.offset == 0 and abs(exponent) > 0.5 and abs(exponent - round(exponent)) < 1e-6


def _misfit(each: Conversion, one: Level, two: Level, share: float) -> float | None:
    """Return how badly a conversion fits, 0 = perfectly; None where it does not."""
    size = abs(each.factor)
    expected = each(one.middle)
    spread = max(size * one.spread, two.spread)
    room = LEVEL_SPREADS * spread + share * max(abs(expected), abs(two.middle)) + 1e-6 * abs(expected)
    off = abs(two.middle - expected)
    if off > room or one.spread <= 0 or two.spread <= 0:
        return None
    if min(abs(one.middle) / one.spread, abs(two.middle) / two.spread) < LOCATED and not _decimal(each):
        return None
    if not _told_by_offset(each, spread):
        return None
    spreads = abs(np.log(two.spread / (size * one.spread)))
    steps = abs(np.log(two.step / (size * one.step))) if one.step > 0 and two.step > 0 else 0.0
    misfit = off / room + spreads / np.log(SPREADS) + steps / np.log(STEPS)
    return float(misfit) if misfit <= MISFIT and max(spreads / np.log(SPREADS), steps / np.log(STEPS)) <= 1 else None
