"""``compare CHAMPION CHALLENGER``: may the challenger replace the champion? The same rows, both scored now.

Figures that two runs once wrote are never compared: they come from other rows and other days. Both bundles score the
lake's readings from the border on, draws of the bootstrap are shared, and :mod:`.gates` decides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fieldwatch_contract.bundle import Bundle
from fieldwatch_contract.clock import parse_iso
from fieldwatch_contract.scoring import Scorer, self_test

from fieldwatch_trainer import gates, judging, record
from fieldwatch_trainer.bootstrap import Interval, borders, differences, tally
from fieldwatch_trainer.evaluate import Scored, score_same_rows
from fieldwatch_trainer.lake import Lake
from fieldwatch_trainer.outcomes import Outcome
from fieldwatch_trainer.score import ScoreError, open_bundle
from fieldwatch_trainer.split import Split

TIMED = 20
"""Rows scored one by one to learn what a row costs."""
TOLD = (
    "event_recall", "alert_precision", "false_alarms_per_day", "average_precision_pooled", "average_precision",
    "vus_pr", "delay_median_s", "delay_p90_s", "brier", "ece", "miscalibration",
)  # fmt: skip


@dataclass(frozen=True)
class Named:
    """A bundle with the run that made it: ``run`` is the content of the ``run.json`` beside it, empty without one."""

    path: Path
    bundle: Bundle
    run: Mapping[str, Any]

    @classmethod
    def at(cls, path: Path) -> Named:
        """Open a bundle; a ``run.json`` beside it that is of another bundle is not its own."""
        bundle = open_bundle(path)
        self_test(bundle)
        return cls(path, bundle, record.run_of(path, bundle.sha256))


def compare(
    champion: Path,
    challenger: Path,
    lake: Lake,
    split: Split,
    budget: float | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> dict[str, Any]:
    """Judge both on the lake's readings from the split on and return figures, gates and the decision.

    ``budget`` None: the one that the challenger was trained for. Raises :class:`.score.ScoreError` for bundles of
    different device types, else as :func:`.evaluate.score_same_rows`.
    """
    old, new = Named.at(champion), Named.at(challenger)
    types = [named.bundle.manifest.device_type for named in (old, new)]
    if types[0] != types[1]:
        raise ScoreError(f"{challenger} is for devices of type {types[1]!r}, {champion} for {types[0]!r}")
    allowed = budget or record.budget_of(new.run)
    scored = score_same_rows([old.bundle, new.bundle], lake, split, None, progress)
    progress("judging")
    figures = [{judge.name: judging.figures(judge, one.found[judge.name]) for judge in one.judges} for one in scored]
    apart = {name: _apart(name, scored[0], scored[1]) for name in figures[0].keys() & figures[1].keys()}
    sides = [
        gates.Side(told, one.strange, _seen(named, one), _megabytes(named.bundle), _row_ms(named.bundle))
        for named, one, told in zip((old, new), scored, figures, strict=True)
    ]
    manifest = new.bundle.manifest
    found = gates.fit_to_replace(sides[0], sides[1], apart, allowed, manifest.window * manifest.period_s)
    replace, says = gates.decision(found)
    rows = [one.held.ts for one in next(iter(scored[0].found.values()))]
    return {
        "champion": _ref(old),
        "challenger": _ref(new),
        "lake": lake.url,
        "devices": len(rows),
        "rows": int(sum(len(ts) for ts in rows)),
        "budget": allowed,
        "replace": replace,
        "says": says,
        "gates": [gate.to_json() for gate in found],
        "figures": {
            name: {
                "champion": {key: figures[0][name].get(key) for key in TOLD},
                "challenger": {key: figures[1][name].get(key) for key in TOLD},
                "difference": {key: [one.value, one.low, one.high] for key, one in apart[name].items()},
            }
            for name in figures[0]
            if name in apart
        },
    }


def _apart(name: str, old: Scored, new: Scored) -> dict[str, Interval]:
    """Return the paired differences for one model, the challenger's figure minus the champion's."""
    cuts = borders([one.held.label for one in old.found[name]], max(_judge(name, side).guard for side in (old, new)))
    one, other = (
        tally(
            judge,
            side.found[name],
            [Outcome.of(judge, part, judge.alerts(part.held)) for part in side.found[name]],
            cuts,
        )
        for side in (old, new)
        for judge in [_judge(name, side)]
    )
    return differences(one, other)


def _judge(name: str, side: Scored) -> Any:
    return next(judge for judge in side.judges if judge.name == name)


def _seen(named: Named, scored: Scored) -> str | None:
    """Say which of the rows the model has learnt from; empty for none, None where nothing tells."""
    first = {
        one.held.device: int(one.held.ts[0]) for parts in scored.found.values() for one in parts if len(one.held.ts)
    }
    learnt = named.run.get("learnt")
    if isinstance(learnt, dict):
        late = {
            device: learnt[device]
            for device in first
            if device in learnt and parse_iso(learnt[device]) >= first[device]
        }
    elif until := named.bundle.manifest.trained_until:
        if any(parse_iso(until) > start for start in first.values()):
            return None  # one time for all devices: those of a split may have ended earlier
        late = {}
    else:
        return None
    if not late:
        return ""
    device, until = next(iter(sorted(late.items())))
    return f"{device} until {until}" + (f", and {len(late) - 1} more devices" if len(late) > 1 else "")


def _megabytes(bundle: Bundle) -> float:
    return sum(len(data) for name, data in bundle.files.items() if name.endswith(".onnx")) / 1e6


def _row_ms(bundle: Bundle) -> float:
    """Return the median time to score one row, in ms."""
    manifest = bundle.manifest
    scorer = Scorer(bundle)
    mean = np.array(manifest.baseline.mean)
    rows = np.tile(mean, (manifest.window, 1))
    times = []
    for _ in range(TIMED):
        begin = time.perf_counter()
        scorer.score(rows)
        times.append(time.perf_counter() - begin)
    return float(np.median(times) * 1000)


def _ref(named: Named) -> dict[str, str]:
    ref = named.bundle.ref
    return {"bundle": f"{ref.name}/{ref.version}", "sha256": ref.sha256, "path": str(named.path)}


def said(result: Mapping[str, Any]) -> str:
    """Tell a comparison to a person: figures side by side, what said no or could not say, the decision."""

    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.3f}"

    lines = [
        f"champion   {result['champion']['bundle']}  {result['champion']['path']}",
        f"challenger {result['challenger']['bundle']}  {result['challenger']['path']}",
        f"judged on the same {result['rows']:,} rows of {result['devices']} devices; budget {result['budget']:g} false "
        "alarms a device-day",
    ]
    for name, one in result["figures"].items():
        lines.append(f"  {name:<28}{'champion':>10}{'challenger':>12}   difference (95 %)")
        for key in TOLD:
            before, after = one["champion"][key], one["challenger"][key]
            if before is None and after is None:
                continue
            told = ""
            if key in one["difference"] and one["difference"][key][0] is not None:
                value, low, high = one["difference"][key]
                told = f"   {value:+.3f}" + ("" if low is None else f" ({low:+.3f} to {high:+.3f})")
            lines.append(f"    {key:<26}{number(before):>10}{number(after):>12}{told}")
    for status, word in (("failed", "FAILED "), ("unknown", "unknown")):
        lines.extend(f"  {word} {one['id']}: {one['says']}" for one in result["gates"] if one["status"] == status)
    passed = [one["id"] for one in result["gates"] if one["status"] == "passed"]
    lines.append(f"  passed: {', '.join(passed)}")
    lines.append(result["says"])
    return "\n".join(lines) + "\n"
