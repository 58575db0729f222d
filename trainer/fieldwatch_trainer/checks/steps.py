"""Steps of a device's clock by minutes: from some reading on, all times lie beside those before.

A device writes at one phase of its period, :17 of each minute, whatever minutes are missing. When its clock is set, the
phase of all later readings is another one, and the distance between the last reading of the old phase and the first of
the new one says by how much: that is a period and the step. It is negative where the clock was set back, for then the
readings of both phases lie among one another.

Not told, because times alone cannot tell it: a step by whole periods (forward it looks like missing readings; back it
gives duplicates, which are told as such), and a step after which the device was off for more than an hour.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from fieldwatch_contract.clock import MINUTE, SECOND, iso
from numpy.typing import NDArray

from fieldwatch_trainer.checks.finding import Finding
from fieldwatch_trainer.checks.rows import length

BLOCK = 20
"""Readings whose mean phase is looked at together."""
STEADY = 0.99
"""Length of the mean of phases as unit vectors, from which they are one: a deviation of 2 % of the period."""
MOVED = 0.05
"""Share of the period by which a phase moves at least."""
DRIFT = 8
"""… and by so many times what it usually moves from block to block: a clock that runs slow is no step."""
LEAST, MOST = MINUTE, 60 * MINUTE
SHOWN = 3


def findings(device: str, ts: NDArray[np.int64], period: int) -> Iterator[Finding]:
    """Tell the steps of one device's clock; ``ts`` int64 ``[m]`` µs not descending, ``period`` µs."""
    found = steps(ts, period)
    if found:
        each = [f"by {'+' if size > 0 else '-'}{length(abs(size) / SECOND)} at {iso(when)}" for when, size in found]
        more = f" and {len(found) - SHOWN} times more" if len(found) > SHOWN else ""
        what = f"its readings come at another phase of the period: moved {', '.join(each[:SHOWN])}{more}"
        remedy = "right if the device was restarted then; if its clock was set, correct the times of one side"
        yield Finding("clock-step", what, remedy, device, "", found[0][0], found[-1][0])


def steps(ts: NDArray[np.int64], period: int) -> list[tuple[int, int]]:
    """Return when (µs, the first reading of the new phase) and by how much (µs) the clock stepped."""
    count = len(ts) // BLOCK
    turn = np.exp(2j * np.pi * ((ts % period) / period))
    mean = turn[: count * BLOCK].reshape(count, BLOCK).mean(axis=1)
    steady = np.flatnonzero(np.abs(mean) >= STEADY)
    if len(steady) < 4:
        return []
    phase = mean[steady]
    apart = np.abs(np.angle(phase[1:] / phase[:-1])) / (2 * np.pi)
    least = max(MOVED, DRIFT * float(np.median(apart)))
    found = []
    for place in np.flatnonzero(apart >= least).tolist():
        if not 0 < place < len(apart) - 1 or apart[place - 1] >= least or apart[place + 1] >= least:
            continue  # a phase that does not last for two blocks on both sides is none
        rows = np.arange(steady[place] * BLOCK, (steady[place + 1] + 1) * BLOCK)
        new = np.abs(turn[rows] - phase[place + 1]) < np.abs(turn[rows] - phase[place])
        first, last = ts[rows[new][0]], ts[rows[~new][-1]]
        size = int(first - last) - period
        if LEAST <= abs(size) <= MOST:
            found.append((int(first), size))
    return found
