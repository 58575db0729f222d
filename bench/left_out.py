"""Which constants would have been chosen without a set, and what would they do on it? For ``docs/models.md``.

    python -m bench.left_out                # SMD, ASD, SKAB and TEP below FIELDWATCH_DATA

Our constants were chosen with sight of public sets. So the choice is repeated here by a rule that is written down,
each time without one of the sets, and what it takes is tried on that one:

* *of the alert rule* (:data:`RULES`): of all settings the one with the widest margin to the lines that
  :mod:`bench.detection` promises of the other set; the lines are about alerts, so SMD and ASD alone have any;
* *of the detector's score* (:data:`SCORES`): the one with the best average precision, mean over devices, then over the
  other sets.

Beside it stand ours on the same set and the best that the set itself would have chosen: the difference to the latter is
what a choice with sight of it could gain.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from itertools import product
from unittest import mock

import numpy as np
from fieldwatch_contract.alerts import Rule
from fieldwatch_contract.clock import DAY
from fieldwatch_trainer import metrics
from fieldwatch_trainer.data import LakeData
from fieldwatch_trainer.lake import Lake, label_codes
from fieldwatch_trainer.levels import ANSWERED, RISE, UNANSWERED
from fieldwatch_trainer.models import detector
from fieldwatch_trainer.score import first_row
from fieldwatch_trainer.split import read_split
from fieldwatch_trainer.thresholds import BUDGET

from bench.detection import PROMISES, figures_of
from bench.rules import Change, Device, devices
from bench.smd import data_folder

Setting = tuple[float, ...]

RULES = {
    "rise": (8, 14, 20),
    "answered": (2 / 7, 3 / 7, 4 / 7),
    "unanswered": (1.5, 2.0, 2.5),
    "start": (0.75, 1.0, 1.33),
    "resolved after": (15, 25, 40),
}
"""Of the alert rule: rungs up at an opening, alerts that keep the level as multiples of the budget, the ladder's place
as a multiple of the threshold, quiet rows that end an alert."""
OUR_RULE: Setting = (RISE, ANSWERED, UNANSWERED, 1.0, detector.ALERT.resolve_after)
SCORES = {"dead zone": (2.0, 3.0, 4.0), "decay": (0.7, 0.8, 0.9), "other heads": (0.0, 0.25, 1.0)}
"""Of the score: standard deviations that do not count, weight of the row before, weight of all heads but ``var``."""
OUR_SCORE: Setting = (detector.DEAD_ZONE, detector.DECAY, detector.WEIGHTS["level"])
SETS = ("smd", "asd", "skab", "tep")


# ---- the alert rule ------------------------------------------------------------------------------------------------


def changed(setting: Setting, period: int) -> Change:
    """Return what puts a setting of :data:`RULES` into a rule; ``period`` µs."""
    rise, answered, unanswered, start, resolve_after = setting
    day = DAY / period

    def change(rule: Rule) -> Rule:
        assert rule.level is not None
        level = rule.level.model_copy(
            update={
                "ladder": tuple(rung * start for rung in rule.level.ladder),
                "rise": int(rise),
                "fall": max(1, round(day / (rise * BUDGET * answered))),
                "fall_unanswered": max(1, round(day / (rise * BUDGET * unanswered))),
            }
        )
        alert = rule.alert.model_copy(update={"resolve_after": int(resolve_after)})
        return replace(rule, level=level, threshold=rule.threshold * start, alert=alert)

    return change


def tried(found: Sequence[Device], setting: Setting) -> list[tuple[float, float]]:
    """Return false alerts a device-day and recall, answered and unanswered."""
    worlds = []
    for answered in (True, False):
        alerts = [device.alerts(changed(setting, device.judge.period), answered=answered) for device in found]
        told = figures_of([device.judge for device in found], [device.scored for device in found], alerts)
        worlds.append((told["false_a_day"], told["recall"]))
    return worlds


def margin(name: str, worlds: Sequence[tuple[float, float]]) -> float:
    """Return the least distance to a promised line of a set, as a share of it; negative where one is missed."""
    lines = (PROMISES[name].answered, PROMISES[name].unanswered)
    return min(
        min((most - rate) / most, (recall - least) / least)
        for (rate, recall), (most, least) in zip(worlds, lines, strict=True)
    )


def alert_rule() -> None:
    """Print what each of the two sets would have chosen, on both."""
    settings = list(product(*RULES.values()))
    sets = {name: devices(name) for name in PROMISES}
    results = {name: {one: tried(found, one) for one in settings} for name, found in sets.items()}
    print(
        f"| {' | '.join(('alert rule', *RULES, *(f'{name}: {w}' for name in sets for w in WORLDS), 'least margin'))} |"
    )
    print("|" + "---|" * (2 + len(RULES) + 2 * len(sets)))

    def line(what: str, setting: Setting) -> None:
        cells = [f"{rate:.2f}/{recall:.3f}" for name in sets for rate, recall in results[name][setting]]
        least = min(margin(name, results[name][setting]) for name in sets)
        print(f"| {what} | {' | '.join(f'{value:.3g}' for value in setting)} | {' | '.join(cells)} | {least:+.3f} |")

    line("ours", OUR_RULE)
    for name in sets:
        (other,) = set(sets) - {name}
        chosen = max(settings, key=lambda one: margin(other, results[other][one]))
        line(f"without {name.upper()}", chosen)
    line("with both", max(settings, key=lambda one: min(margin(name, results[name][one]) for name in sets)))
    kept = sum(min(margin(name, results[name][one]) for name in sets) >= 0 for one in settings)
    print(f"\n{kept} of {len(settings)} settings keep every line of both sets")


WORLDS = ("answered", "unanswered")


# ---- the score -----------------------------------------------------------------------------------------------------


def precision(name: str) -> dict[Setting, float]:
    """Return the average precision of a set, mean over devices, at each setting of :data:`SCORES`."""
    lake, split = Lake(data_folder() / name), read_split(data_folder() / name / "split.json")
    found: dict[Setting, list[float]] = {setting: [] for setting in product(*SCORES.values())}
    for device_type in lake.device_types():
        data = LakeData.of(lake, device_type, detector.LOOKBACK, split)
        learnt = detector._as_float32(detector._learn(data)[0])
        for info in lake.devices(device_type):
            grid = lake.grid(info.device, list(data.sensors), detector.LOOKBACK)
            first = first_row(grid, info.device, split)
            rows = grid.reading[first:]
            positive = (label_codes(grid.ts[first:], lake.labels(info.device)) != 0)[rows]
            if not positive.any():
                continue
            before = max(first - detector.LOOKBACK, 0)
            for setting, values in found.items():
                dead, decay, others = setting
                weights = {head: 1.0 if head == "var" else others for head in detector.WEIGHTS}
                with mock.patch.multiple(detector, DEAD_ZONE=dead, DECAY=decay, WEIGHTS=weights):
                    score = detector.contributions(learnt, grid.rows[before:]).sum(axis=1)[first - before :]
                values.append(metrics.average_precision(positive, score[rows]) or 0.0)
    return {setting: float(np.mean(values)) for setting, values in found.items()}


def score() -> None:
    """Print what the other sets would have chosen, on each set."""
    results = {name: precision(name) for name in SETS}
    head = ("set", "ours", f"chosen without it: {', '.join(SCORES)}", "on it", "its own best", "on it")
    print(f"| {' | '.join(head)} |\n{'|---' * len(head)}|")

    def best(names: Sequence[str]) -> Setting:
        return max(results[names[0]], key=lambda one: float(np.mean([results[name][one] for name in names])))

    def words(setting: Setting) -> str:
        return ", ".join(f"{value:g}" for value in setting)

    for name, mine in results.items():
        chosen, own = best([other for other in SETS if other != name]), best([name])
        cells = [f"{mine[OUR_SCORE]:.3f}", words(chosen), f"{mine[chosen]:.3f}", words(own), f"{mine[own]:.3f}"]
        print(f"| {name.upper()} | {' | '.join(cells)} |", flush=True)
    print(f"\nours: {words(OUR_SCORE)}; chosen with all sets: {words(best(SETS))}")


def main() -> int:
    """Print both tables."""
    argparse.ArgumentParser(
        prog="python -m bench.left_out",
        description=(__doc__ or "").split("\n", 1)[0],
        epilog="example: python -m bench.left_out",
    ).parse_args()
    score()
    alert_rule()
    return 0


if __name__ == "__main__":
    sys.exit(main())
