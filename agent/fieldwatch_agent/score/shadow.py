"""Shadow: a new bundle judges this device's last day beside the running one, before it may raise an alert.

A model is a pure function of the last W rows, so the shadow need not wait for the future: the updater reads again the
lines that a restart would read (:attr:`.send.journal.Progress.rewind`) and scores them under both bundles, without a
trace. What the two say is compared by :func:`objection`:

1. The new bundle must judge: not ``unknown`` where the running one has a verdict. Sensors that have other names here
   or a range that this device does not keep look like that.
2. It must not cry wolf: of a day that the running bundle found quiet it may tell one or two alerts more, for it may
   be the better one, but not a dozen; and it may not be in alarm most of the day.

An objection holds for the day that was looked at, not for good; with the next update the bundle is tried again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from fieldwatch_contract.alerts import AlertState, advance
from fieldwatch_contract.bundle import Bundle
from fieldwatch_contract.grid import Grid
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.scoring import Scorer
from fieldwatch_contract.verdicts import CODES, Verdict

from fieldwatch_agent.score.past import read_past
from fieldwatch_agent.send.journal import Progress

LEAST_READINGS = 30
"""Fewer readings than this say nothing of a bundle."""
JUDGED_SHARE = 0.5
"""The new bundle must judge at least this share of what the running one judges."""
MORE_ALERTS = 2
"""It may raise so many alerts more than the running one."""
MORE_ALARMED = 0.5
"""And find so large a share of the readings faulty or anomalous beyond what the running one finds."""


@dataclass(frozen=True)
class Shadow:
    """What a bundle says of some lines: ``readings`` in them; of those, how many any model judged, and how many it
    found anomalous or faulty; ``alerts`` opened."""

    readings: int = 0
    judged: int = 0
    alarmed: int = 0
    alerts: int = 0


def cast(bundle: Bundle, log: LogConfig, progress: Progress) -> Shadow:
    """Score the lines before ``progress.position`` with ``bundle``; nothing is written.

    Where the log is gone or was never read the shadow is empty. Raises what :class:`.scoring.Scorer` raises where the
    bundle does not load or fails on a line.
    """
    manifest = bundle.manifest
    scorer = Scorer(bundle)
    grid = Grid(manifest.period, manifest.window, len(manifest.sensors))
    states = [AlertState() for _ in manifest.models]
    readings = judged = alarmed = alerts = 0
    past = read_past(log, manifest.sensors, progress, manifest.period)
    if past.lines and not len(past.ts):
        return Shadow(readings=len(past.rows.slots))  # the lines are there, and hold none of the bundle's sensors
    for block in grid.blocks(past.ts, past.values):
        present = block.source >= 0
        if not present.any():
            continue
        verdict = np.zeros(len(present), np.bool_)
        alarm = np.zeros(len(present), np.bool_)
        for place, (spec, scores) in enumerate(zip(manifest.models, scorer.score(block.rows), strict=True)):
            known = present & (scores.verdict != CODES[Verdict.UNKNOWN])
            verdict |= known
            alarm |= known & (scores.verdict != CODES[Verdict.NORMAL])
            state, changes = advance(spec.alert, spec.threshold, states[place], block.ts, scores.score, known)
            states[place] = state
            alerts += sum(change.transition == "opened" for change in changes)
        readings += int(present.sum())
        judged += int(verdict.sum())
        alarmed += int(alarm.sum())
    return Shadow(readings, judged, alarmed, alerts)


def objection(running: Shadow, new: Shadow) -> str:
    """Say what speaks against the new bundle; empty where nothing does.

    >>> objection(Shadow(1440, 1440, 9, 1), Shadow(1440, 1440, 30, 3))
    ''
    >>> objection(Shadow(1440, 1440, 9, 1), Shadow(1440, 1440, 90, 14))
    'in the last 1440 readings here it would have raised 14 alerts, the running bundle 1'
    """
    if min(running.readings, new.readings) < LEAST_READINGS:
        return ""
    here = f"the last {new.readings} readings here"
    if new.judged < JUDGED_SHARE * running.judged:
        return f"it could judge {new.judged} of {here}, the running bundle {running.judged}"
    if new.alerts > running.alerts + MORE_ALERTS:
        return f"in {here} it would have raised {new.alerts} alerts, the running bundle {running.alerts}"
    if new.alarmed > running.alarmed + MORE_ALARMED * new.readings:
        return f"it finds {new.alarmed} of {here} anomalous or faulty, the running bundle {running.alarmed}"
    return ""
