"""Shadow test: a new bundle scores this device's last day next to the running one before it may raise an alert.

A model is a pure function of the last W rows, so the shadow need not wait for new data: the updater re-reads the lines
that a restart would read (:attr:`.send.journal.Progress.rewind`) and scores them under both bundles, without side
effects. Both begin there at the level that their bundle starts with: a level that has adapted for weeks beside one that
has not would be no comparison. :func:`objection` compares the two:

1. The new bundle must give verdicts: not ``unknown`` where the running one has one. Sensors with other names here, or
   a range that this device does not keep, show up this way.
2. It must not raise false alarms: on a day that was quiet under the running bundle it may raise one or two alerts
   more (it may be the better one), but not a dozen; and it may not be in alarm most of the day.

An objection applies to the day that was examined, not for good; the bundle is tried again at the next update.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from fieldwatch_contract.bundle import Bundle
from fieldwatch_contract.grid import Grid
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.scoring import Scorer
from fieldwatch_contract.verdicts import CODES, Verdict

from fieldwatch_agent.score.past import read_past
from fieldwatch_agent.score.rules import Rules, States, counted
from fieldwatch_agent.send.journal import Progress

LEAST_READINGS = 30
"""With fewer readings than this no conclusion is drawn."""
JUDGED_SHARE = 0.5
"""The new bundle must judge at least this share of what the running one judges."""
MORE_ALERTS = 2
"""How many more alerts than the running bundle it may raise."""
MORE_ALARMED = 0.5
"""How much larger its share of anomalous or faulty readings may be than the running bundle's."""


@dataclass(frozen=True)
class Shadow:
    """A bundle's results on some lines: ``readings`` in them; how many of those any model judged, and found anomalous
    or faulty; ``alerts`` opened."""

    readings: int = 0
    judged: int = 0
    alarmed: int = 0
    alerts: int = 0


def run_shadow(bundle: Bundle, log: LogConfig, progress: Progress) -> Shadow:
    """Run the shadow test: score the lines before ``progress.position`` with ``bundle``; nothing is written.

    If the log is gone or was never read, the result is empty. Raises what :class:`.scoring.Scorer` raises where the
    bundle does not load or fails on a line.
    """
    manifest = bundle.manifest
    scorer = Scorer(bundle)
    rules = Rules("", manifest)
    states: States = {}
    readings = judged = alarmed = alerts = 0
    past = read_past(log, manifest.sensors, progress, manifest.period)
    grid = Grid(manifest.period, manifest.window, len(manifest.sensors), past.phase)
    if past.lines and not len(past.ts):
        return Shadow(readings=len(past.rows.slots))  # there are lines, but none of the bundle's sensors in them
    for block in grid.blocks(past.ts, past.values):
        present = block.source >= 0
        if not present.any():
            continue
        verdict = np.zeros(len(present), np.bool_)
        alarm = np.zeros(len(present), np.bool_)
        judgements = scorer.score(block.rows)
        for scores in judgements:
            known = counted(block, scores)
            verdict |= known
            alarm |= known & (scores.verdict != CODES[Verdict.NORMAL])
        folded = rules.fold(block, judgements, states)
        states = rules.states(folded)
        alerts += sum(change.transition == "opened" for done in folded for change in done.changes)
        readings += int(present.sum())
        judged += int(verdict.sum())
        alarmed += int(alarm.sum())
    return Shadow(readings, judged, alarmed, alerts)


def objection(running: Shadow, new: Shadow) -> str:
    """Return the reason to reject the new bundle for now; empty where there is none.

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
