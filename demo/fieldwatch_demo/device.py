"""One simulated device: hidden factors → sensors → instrument, a day at a time, the same for the same seed.

What makes the rows plausible, in the order in which it is computed:

1. **Modes.** The device idles, warms up and runs, for spells of random length; each run has a recipe of its own speed
   and load. Modes change means and, slightly, the couplings between sensors.
2. **Factors** (:data:`.plant.FACTORS`) follow the mode with their own inertia, from a minute for speed to most
   of an hour for heat; room and mains have a daily cycle and weather of their own.
3. **Sensors** answer to the factors, some with a lag; each device has its own offsets and gains; every sensor drifts
   slowly and carries autocorrelated and white noise.
4. **Faults** act on a few sensors, see :class:`Fault`.
5. **The instrument** clips, quantises and rounds to the three decimals of the log; 0.5 % of the values and one line
   in a thousand are missing.

Rows are made for whole days from a seed of (seed, device, day) and the state at the end of the day before, so they do
not depend on how they are asked for: a live log goes on where the history ends, without a seam.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass

import numpy as np
from fieldwatch_contract.clock import DAY, MINUTE, SECOND
from numpy.typing import NDArray

from fieldwatch_demo.plant import FACTORS, Effect, FaultKind, Plant

Floats = NDArray[np.float64]

IDLE, WARM_UP, RUN = range(3)
SPELLS = {IDLE: (20.0, 60.0), WARM_UP: (15.0, 30.0), RUN: (80.0, 280.0)}
"""Shortest and longest spell of each mode, minutes."""

INERTIA = {"speed": 3.5, "load": 4.0, "demand": 3.5, "heat": 50.0, "cooling": 12.0, "ambient": 0.0, "mains": 0.0}
"""Minutes in which a factor follows its target; the first three go there by way of a ramp that lags as much itself."""

DRIFT = 0.06
"""Standard deviation of a sensor's slow drift, in swings; it forgets in two days."""

MISSING_VALUES = 0.005
MISSING_LINES = 0.001
DECIMALS = 3


@dataclass(frozen=True)
class Fault:
    """A fault of ``kind`` in the rows ``start`` ≤ i < ``stop``; ``size`` scales its effects.

    A slow fault grows from nothing to full size at ``stop``; a sudden one is there at ``start``. At ``stop`` somebody
    has repaired it.
    """

    kind: FaultKind
    start: int
    stop: int
    size: float = 1.0

    @property
    def sensors(self) -> tuple[str, ...]:
        """The sensors it shows in."""
        return tuple(effect.sensor for effect in self.kind.effects)


@dataclass(frozen=True)
class Rows:
    """Consecutive rows of a device.

    ``ts`` int64 ``[n]`` µs; ``values`` float64 ``[n, S]`` as logged, NaN = missing; ``logged`` bool ``[n]``, False
    where the logger missed the whole line.
    """

    ts: NDArray[np.int64]
    values: Floats
    logged: NDArray[np.bool_]

    def part(self, start: int, stop: int) -> Rows:
        """Return the rows ``start`` ≤ i < ``stop`` of these."""
        return Rows(self.ts[start:stop], self.values[start:stop], self.logged[start:stop])


@dataclass(frozen=True)
class _Day:
    """A day before faults and instrument: ``signal`` ``[T, S]``, ``turning`` ``[T]``, ``missing`` ``[T, S]``."""

    signal: Floats
    turning: Floats
    missing: NDArray[np.bool_]
    logged: NDArray[np.bool_]
    jitter: NDArray[np.int64]


class Device:
    """A device that can be asked for its rows in order; row 0 is at ``start``, a UTC midnight.

    >>> from fieldwatch_demo.plant import plant
    >>> device = Device("press-0001", plant("press", 20), start=0, period=60 * SECOND, seed=1)
    >>> device.rows(0, 3).values.shape
    (3, 20)
    """

    def __init__(self, name: str, plant: Plant, start: int, period: int, seed: int) -> None:
        """``start`` and ``period`` in µs; a day must be a whole number of periods."""
        if period <= 0 or DAY % period:
            raise ValueError(f"the period must divide a day; {period / SECOND:g} s does not")
        if start % DAY:
            raise ValueError("a device starts at midnight UTC")
        self.name = name
        self.plant = plant
        self.start = start
        self.period = period
        self.per_day = DAY // period
        self.faults: list[Fault] = []
        self._seed = (seed, zlib.crc32(name.encode()))
        self._days: dict[int, _Day] = {}
        self._made = 0

        rng = np.random.default_rng([*self._seed, 1 << 32])
        count = len(plant.sensors)
        self._offset = rng.normal(0, 0.06, count) * plant.swing
        self._gain = rng.normal(1, 0.03, count)
        by_kind = np.random.default_rng(zlib.crc32(plant.name.encode()))
        self._mode_gain = by_kind.normal(1, [[0.04], [0.04], [0.015]], (3, count))
        self._mode_offset = by_kind.normal(0, [[0.02], [0.02], [0.0]], (3, count)) * plant.swing
        self._phase = round(rng.uniform(0.1, 0.8) * period)
        self._noon = rng.uniform(-1.5, 1.5)

        self._mode = RUN
        self._left = rng.uniform(20, 120)
        self._recipe = self._draw_recipe(rng)
        self._factors = np.array([1.0, 0.9, 0.9, 0.6, 0.6, 0.0, 0.0])
        self._ramp = self._factors[:3]
        self._weather = rng.normal(0, 1, 4)
        self._weights = np.array([0.0, 0.0, 1.0])
        self._drift = rng.normal(0, 1, count)
        self._colour = rng.normal(0, 1, count)
        self._lagged: Floats | None = None

    def index(self, ts: int) -> int:
        """Return the row whose period holds ``ts``."""
        return (ts - self.start) // self.period

    def time(self, index: int) -> int:
        """Return the start of row ``index``'s period in µs; the line is written within it."""
        return self.start + index * self.period

    def day(self, ts: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the number of the UTC day of each ``ts``, the first being 0."""
        return (ts - self.start) // DAY

    def rows(self, start: int, stop: int) -> Rows:
        """Return rows ``start`` ≤ i < ``stop``. Days already left behind by more than two cannot be asked again."""
        pieces = []
        for day in range(start // self.per_day, -(-stop // self.per_day)):
            first = day * self.per_day
            pieces.append(self._measure(first, max(start - first, 0), min(stop - first, self.per_day)))
        return Rows(
            np.concatenate([piece.ts for piece in pieces]) if pieces else np.empty(0, np.int64),
            np.concatenate([piece.values for piece in pieces]) if pieces else np.empty((0, len(self.plant.sensors))),
            np.concatenate([piece.logged for piece in pieces]) if pieces else np.empty(0, np.bool_),
        )

    def _measure(self, first: int, start: int, stop: int) -> Rows:
        """Faults and instrument for rows ``start`` ≤ i < ``stop`` of the day that begins at row ``first``."""
        day = self._day(first // self.per_day)
        values = day.signal[start:stop].copy()
        index = np.arange(first + start, first + stop)
        for fault in self.faults:
            live = (index >= fault.start) & (index < fault.stop)
            if live.any():
                values[live] = self._faulty(fault, index[live], values[live], day.turning[start:stop][live])
        plant = self.plant
        values = np.clip(values, plant.low, plant.high)
        values = np.round(np.round(values / plant.step) * plant.step, DECIMALS) + 0.0
        values[day.missing[start:stop]] = np.nan
        ts = self.start + index * self.period + self._phase + day.jitter[start:stop]
        return Rows(ts, values, day.logged[start:stop].copy())

    def _faulty(self, fault: Fault, index: NDArray[np.int64], values: Floats, turning: Floats) -> Floats:
        age = (index - fault.start + 1).astype(np.float64)
        grown = (age / (fault.stop - fault.start)) ** 1.5 if fault.kind.slow else np.ones(len(age))
        values = values.copy()
        for effect in fault.kind.effects:
            if effect.sensor not in self.plant.sensors:
                continue
            column = self.plant.sensors.index(effect.sensor)
            if effect.frozen:
                values[:, column] = self._held(fault, column)
                continue
            part = grown * (0.25 + 0.75 * turning if self.plant.rotating[column] else 1.0)
            values[:, column] += (
                fault.size * effect.amount * self.plant.swing[column] * part * self._follow(effect, age)
            )
        return values

    def _follow(self, effect: Effect, age: Floats) -> Floats | float:
        """First-order answer to a step, after ``age`` rows."""
        return 1 - np.exp(-age * self.period / (effect.lag * MINUTE)) if effect.lag else 1.0

    def _held(self, fault: Fault, column: int) -> float:
        day = self._day(fault.start // self.per_day)
        return float(day.signal[fault.start % self.per_day, column])

    def _day(self, number: int) -> _Day:
        if number < self._made and number not in self._days:
            raise ValueError(f"{self.name}: day {number} is past; rows are asked for in order")
        while self._made <= number:
            self._days[self._made] = self._make(self._made)
            self._days.pop(self._made - 3, None)
            self._made += 1
        return self._days[number]

    def _make(self, number: int) -> _Day:
        rng = np.random.default_rng([*self._seed, number])
        plant, count, sensors = self.plant, self.per_day, len(self.plant.sensors)
        modes, targets = self._schedule(rng)
        factors = self._follow_factors(targets, self._outside(number, rng))

        one_hot = np.eye(3)[modes]
        keep = self._keep(np.full(3, 5.0))
        weights = _filter(one_hot * (1 - keep), keep, self._weights)
        self._weights = weights[-1]
        signal = (factors @ plant.couplings) * (weights @ self._mode_gain) + weights @ self._mode_offset
        keep = self._keep(plant.lag)
        signal = _filter(signal * (1 - keep), keep, self._lagged if self._lagged is not None else signal[0])
        self._lagged = signal[-1]

        keep = self._keep(np.full(sensors, 2 * DAY / MINUTE))
        drift = _filter(rng.normal(0, np.sqrt(1 - keep**2), (count, sensors)), keep, self._drift)
        keep = self._keep(np.full(sensors, 3.0))
        colour = _filter(rng.normal(0, np.sqrt(1 - keep**2), (count, sensors)), keep, self._colour)
        self._drift, self._colour = drift[-1], colour[-1]
        noise = 0.6 * colour + 0.8 * rng.normal(0, 1, (count, sensors))
        turning = np.clip(factors[:, 0], 0, 1.2)
        loudness = np.where(plant.rotating, 0.25 + 0.75 * turning[:, None], 1.0)
        signal = plant.level + self._offset + self._gain * signal
        signal += plant.swing * (DRIFT * drift + plant.noise * loudness * noise)

        jitter = np.round(rng.uniform(-0.04, 0.04, count) * self.period).astype(np.int64)
        grain = SECOND if self.period >= MINUTE else 1000
        jitter = (self._phase + jitter) // grain * grain - self._phase
        return _Day(signal, turning, self._lost(rng), rng.random(count) >= MISSING_LINES, jitter)

    def _keep(self, minutes: Floats) -> Floats:
        """Share of the old value that a first-order lag of ``minutes`` keeps over one row; 0 for no lag."""
        with np.errstate(divide="ignore"):
            return np.exp(-self.period / (minutes * MINUTE))

    def _draw_recipe(self, rng: np.random.Generator) -> tuple[float, float]:
        """Return speed and load of a run: one of four products, a little different each time."""
        speed, load = ((1.0, 0.9), (0.85, 1.05), (1.1, 0.75), (0.95, 0.95))[int(rng.integers(4))]
        return speed * rng.normal(1, 0.01), load * rng.normal(1, 0.02)

    def _schedule(self, rng: np.random.Generator) -> tuple[NDArray[np.int64], Floats]:
        """Return the day's modes ``[T]`` and the targets of speed, load and demand ``[T, 3]``."""
        modes = np.empty(self.per_day, np.int64)
        targets = np.empty((self.per_day, 3))
        minute = self.period / MINUTE
        for row in range(self.per_day):
            if self._left <= 0:
                self._mode = (self._mode + 1) % 3
                self._left = rng.uniform(*SPELLS[self._mode])
                if self._mode == RUN:
                    self._recipe = self._draw_recipe(rng)
            self._left -= minute
            modes[row] = self._mode
            speed, load = self._recipe
            match self._mode:
                case 0:
                    targets[row] = 0.02, 0.03, 0.12
                case 1:
                    targets[row] = 0.5, 0.25, 0.45
                case _:
                    targets[row] = speed, load, 0.35 + 0.6 * load
        return modes, targets

    def _outside(self, number: int, rng: np.random.Generator) -> Floats:
        """Return room and mains ``[T, 2]`` with two disturbances of the process ``[T, 2]`` behind them."""
        hours = np.arange(self.per_day) * 24 / self.per_day
        keep = self._keep(np.array([360.0, 25.0, 9.0, 6.0]))
        weather = _filter(rng.normal(0, np.sqrt(1 - keep**2), (self.per_day, 4)), keep, self._weather)
        self._weather = weather[-1]
        season = 0.1 * math.sin(number / 5)
        room = 0.8 * np.sin((hours - 9.0 + self._noon) * math.tau / 24) + season + 0.35 * weather[:, 0]
        mains = 0.5 * np.cos((hours - 3.0) * math.tau / 24) + 0.5 * weather[:, 1]
        return np.column_stack((room, mains, weather[:, 2:]))

    def _follow_factors(self, targets: Floats, outside: Floats) -> Floats:
        """Return the factors ``[T, K]``: process, then heat from the process, then cooling from heat."""
        busy = np.clip(targets[:, :1], 0.05, 1)
        aims = targets.copy()
        aims[:, 1:] += 0.05 * busy * outside[:, 2:]
        minutes = np.array([INERTIA[name] for name in FACTORS])
        keep = self._keep(minutes)
        ramp = _filter(aims * (1 - keep[:3]), keep[:3], self._ramp)
        process = _filter(ramp * (1 - keep[:3]), keep[:3], self._factors[:3])
        self._ramp = ramp[-1]
        work = 0.75 * process[:, 1] + 0.25 * process[:, 0] + 0.06 * outside[:, 0]
        heat = _filter(work[:, None] * (1 - keep[3:4]), keep[3:4], self._factors[3:4])
        effort = 0.15 + 0.85 * heat + 0.05 * outside[:, :1]
        cooling = _filter(effort * (1 - keep[4:5]), keep[4:5], self._factors[4:5])
        factors = np.column_stack((process, heat, cooling, outside[:, :2]))
        self._factors = factors[-1]
        return factors

    def _lost(self, rng: np.random.Generator) -> NDArray[np.bool_]:
        """Missing values ``[T, S]``: most singly, a third in dropouts of a sensor for 5 to 20 rows."""
        shape = (self.per_day, len(self.plant.sensors))
        lost = rng.random(shape) < MISSING_VALUES * 2 / 3
        for _ in range(rng.poisson(MISSING_VALUES / 3 * shape[0] * shape[1] / 12.5)):
            row, column, length = int(rng.integers(shape[0])), int(rng.integers(shape[1])), int(rng.integers(5, 21))
            lost[row : row + length, column] = True
        return lost


def _filter(inputs: Floats, keep: Floats, state: Floats) -> Floats:
    """Return y with y[t] = keep · y[t-1] + inputs[t] for each column of ``inputs`` ``[T, C]``; y[-1] is ``state``."""
    out = np.empty_like(inputs)
    for row in range(len(inputs)):
        state = keep * state + inputs[row]
        out[row] = state
    return out
