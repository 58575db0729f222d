"""What the alert rule is made of: the same scores under other rules, for ``docs/models.md``.

    python -m bench.rules                   # SMD and ASD below FIELDWATCH_DATA

Every device is trained on its own past, as in :mod:`bench.detection`, and scored once; each line is one change of the
rule that ``train`` puts into the bundle. Two figures a set, means over devices: false alerts a device-day / event
recall. Nothing is chosen here.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from fieldwatch_contract.alerts import Rule
from fieldwatch_contract.backtest import Answers, Backtest
from fieldwatch_contract.bundle import ModelSpec
from fieldwatch_contract.likeness import Answer
from fieldwatch_contract.scoring import Scorer
from fieldwatch_contract.verdicts import CODES, Verdict
from fieldwatch_trainer.backtest import ANSWER_AFTER, FromLabels, try_device
from fieldwatch_trainer.evaluate import judges_of
from fieldwatch_trainer.lake import Lake
from fieldwatch_trainer.outcomes import DeviceScores, Judge
from fieldwatch_trainer.score import blocks, first_row, open_bundle
from fieldwatch_trainer.split import read_split
from fieldwatch_trainer.train import train_lake
from numpy.typing import NDArray

from bench.detection import figures_of
from bench.smd import data_folder

Change = Callable[[Rule], Rule]


@dataclass(frozen=True)
class Device:
    """A device with the scores of its past, rows before ``first``, and of the time that is tried."""

    spec: ModelSpec
    judge: Judge
    scored: DeviceScores
    ts: NDArray[np.int64]
    score: NDArray[np.float32]
    judged: NDArray[np.bool_]
    contributions: NDArray[np.float32]
    first: int

    def alerts(self, change: Change, *, answered: bool, past: bool = False) -> list[tuple[int, int]]:
        """Return what people are told of. ``past``: the rule begins in the past, whose alerts are all dismissed."""
        held = self.scored.held
        known = FromLabels.of(held.ts, held.label, self.judge.guard)
        border = int(self.ts[self.first])

        def say(opened: int, until: int) -> Answer:
            return "false" if until < border else known.say(opened, until)

        start = 0 if past else self.first
        test = Backtest(
            change(Rule.of(held.device, self.spec)), Answers(ANSWER_AFTER, say) if answered or past else None
        )
        part = slice(start, None)
        test.feed(self.ts[part], self.score[part], self.judged[part], lambda rows: self.contributions[start + rows])
        before = self.first - start
        return [
            (one.told - before, one.last - before) for one in test.fired if one.told is not None and one.told >= before
        ]


def devices(name: str) -> list[Device]:
    """Train and score every device of a set."""
    lake, split = Lake(data_folder() / name), read_split(data_folder() / name / "split.json")
    found = []
    with tempfile.TemporaryDirectory() as scratch:
        for device_type in lake.device_types():
            train_lake(lake, device_type, Path(scratch), split)
            bundle = open_bundle(Path(scratch) / "bundle.zip")
            scorer, manifest = Scorer(bundle), bundle.manifest
            for info in lake.devices(device_type):
                grid = lake.grid(info.device, manifest.sensors, manifest.window)
                border = first_row(grid, info.device, split)
                tried = try_device(scorer, info.device, grid, border, lake.labels(info.device), None)[0][0]
                parts = [block.scores[0] for block in blocks(scorer, grid.rows, 0, len(grid.rows))]
                there = np.flatnonzero(grid.reading)
                score = np.concatenate([part.score for part in parts])[there]
                found.append(
                    Device(
                        manifest.models[0], judges_of(manifest)[0], tried.scored, grid.ts[there], score,
                        np.concatenate([part.verdict for part in parts])[there] != UNKNOWN,
                        np.concatenate([part.contributions for part in parts])[there],
                        int(np.searchsorted(there, border)),
                    )
                )  # fmt: skip
    return found


UNKNOWN = CODES[Verdict.UNKNOWN]


def level(**changes: Any) -> Change:
    """Change fields of the level's rule."""
    return lambda rule: replace(rule, level=rule.level.model_copy(update=changes)) if rule.level else rule


def alert(**changes: Any) -> Change:
    """Change persistence or hysteresis."""
    return lambda rule: replace(rule, alert=rule.alert.model_copy(update=changes))


def scaled(factor: float) -> Change:
    """Move the whole ladder, and a fixed threshold."""

    def change(rule: Rule) -> Rule:
        assert rule.level is not None
        ladder = tuple(rung * factor for rung in rule.level.ladder)
        moved = rule.level.model_copy(update={"ladder": ladder})
        return replace(rule, threshold=rule.threshold * factor, level=moved)

    return change


def fixed(factor: float) -> Change:
    """Fix the threshold at a multiple."""
    return lambda rule: level(adapt=False)(scaled(factor)(rule))


def one_speed(rule: Rule) -> Rule:
    """Fall as if people answered, whether they do or not."""
    return level(fall_unanswered=None)(rule)


def always_fast(rule: Rule) -> Rule:
    """Fall as if nobody answered, whether they do or not."""
    assert rule.level is not None
    return level(fall=rule.level.fall_unanswered)(rule)


CHANGES: dict[str, Change] = {
    "as trained": lambda rule: rule,
    "fixed threshold": fixed(1.0),
    "fixed threshold x 1.5": fixed(1.5),
    "level falls slowly, answered or not": one_speed,
    "level falls fast, answered or not": always_fast,
    "no look-alikes": level(like=None),
    "look-alikes from cosine 0.9": level(like=0.9),
    "look-alikes from cosine 0.98": level(like=0.98),
    "rise 0.2 in place of 0.35": level(rise=8),
    "rise 0.5": level(rise=20),
    "persistence 1 in place of 2": alert(persistence=1),
    "persistence 3": alert(persistence=3),
    "resolved after 10 rows in place of 25": alert(resolve_after=10),
    "start x 0.55": scaled(0.55),
    "start x 1.8": scaled(1.8),
}


def hindsight(found: list[Device], most: float) -> tuple[float, float]:
    """Return rate and recall of each device's best fixed threshold at no more than ``most`` false alerts a day."""
    best = []
    for device in found:
        tried = [
            figures_of([device.judge], [device.scored], [device.alerts(fixed(factor), answered=False)])
            for factor in np.exp(np.linspace(-2.5, 2.5, 51))
        ]
        kept = [one for one in tried if one["false_a_day"] <= most]
        best.append(max(kept, key=lambda one: one["recall"]) if kept else {"false_a_day": 0.0, "recall": 0.0})
    return tuple(float(np.mean([one[key] for one in best])) for key in ("false_a_day", "recall"))  # type: ignore[return-value]


def separation(found: list[Device]) -> float:
    """Return how well the score at opening tells true alerts from false ones: AUC, mean over devices.

    Of the alerts of a threshold at 0.6 of the bundle's. One half: not at all.
    """
    shares = []
    for device in found:
        held = device.scored.held
        known = FromLabels.of(held.ts, held.label, device.judge.guard)
        true, false = [], []
        for first, last in device.alerts(fixed(0.6), answered=False):
            real = known.say(int(held.ts[first]), int(held.ts[last])) == "real"
            (true if real else false).append(float(held.score[first]))
        if min(len(true), len(false)) > 2:
            shares.append(float(np.mean([a > b for a in true for b in false])))
    return float(np.mean(shares))


def main() -> int:
    """Print the table."""
    argparse.ArgumentParser(
        prog="python -m bench.rules",
        description=(__doc__ or "").split("\n", 1)[0],
        epilog="example: python -m bench.rules",
    ).parse_args()
    sets = {name: devices(name) for name in ("smd", "asd")}

    def line(change: Change, answered: bool, past: bool = False) -> str:
        cells = []
        for found in sets.values():
            alerts = [device.alerts(change, answered=answered, past=past) for device in found]
            told = figures_of([device.judge for device in found], [device.scored for device in found], alerts)
            cells.append(f"{told['false_a_day']:.2f}/{told['recall']:.3f}")
        return " | ".join(cells)

    print("| rule | answered: SMD | ASD | unanswered: SMD | ASD |\n|---|---|---|---|---|")
    for name, change in CHANGES.items():
        print(f"| {name} | {line(change, True)} | {line(change, False)} |", flush=True)
    print(f"| begun in the past, whose alerts are all dismissed | {line(CHANGES['as trained'], True, True)} | | |")
    for most in (0.2, 0.35, 0.5, 1.0):
        cells = " | ".join("{:.2f}/{:.3f}".format(*hindsight(found, most)) for found in sets.values())
        print(f"| best fixed threshold of each device in hindsight, at most {most:g} a day | | | {cells} |", flush=True)
    told = ", ".join(f"{name} {separation(found):.2f}" for name, found in sets.items())
    print(f"\nscore at opening, true against false alerts of a device, AUC: {told}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
