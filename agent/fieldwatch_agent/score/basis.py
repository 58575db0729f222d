"""What a decision was made of, exactly: what a dossier needs to repeat it (:mod:`fieldwatch_contract.dossier`).

It does not depend on how the log was cut into blocks: the window is the last W rows, and the rule's state before the
newest row is found by folding the block's rows before it once more. Transitions are rare, so that costs nothing.
"""

from __future__ import annotations

import platform
from collections.abc import Sequence
from dataclasses import asdict, replace

import numpy as np
import onnxruntime
from fieldwatch_contract import dossier
from fieldwatch_contract.alerts import Change, RuleState, Said
from fieldwatch_contract.bundle import Manifest
from fieldwatch_contract.dossier import Decision
from fieldwatch_contract.events import AlertData
from fieldwatch_contract.features import KERNEL
from fieldwatch_contract.grid import Block
from fieldwatch_contract.scoring import Scores

from fieldwatch_agent import __version__
from fieldwatch_agent.score.rules import Rules, States


def basis(
    manifest: Manifest,
    rules: Rules,
    block: Block,
    judged: Scores,
    change: Change,
    states: States,
    said: Sequence[Said],
    alert: AlertData,
) -> str:
    """Return what ``alert`` was made of, packed; ``states`` and ``said`` are those that ``block`` was folded with."""
    before = rules.before(block, judged, states, said, change.index)
    ts = int(block.ts[change.index])
    heard = [
        one
        for one in said
        if one.model == judged.model and (before.upto is None or before.upto < one.since) and one.since <= ts
    ]
    stop = len(block.rows) - len(block.ts) + change.index + 1
    window = block.rows[max(0, stop - manifest.window) : stop]
    decision = Decision(
        alert=alert,
        sensors=manifest.sensors,
        window=[[None if x != x else x for x in row] for row in window.tolist()],  # noqa: PLR0124 - NaN
        before=_needed(before, {change.state.like, *(one.alert_id for one in heard)}).to_dict(),
        said=[asdict(one) for one in heard],
        made_by=versions(),
    )
    return dossier.pack(decision)


def versions() -> dict[str, str]:
    """Return what computes here: where a dossier is not repeated to the bit, this tells why."""
    return {
        "agent": __version__,
        "onnxruntime": onnxruntime.__version__,
        "numpy": np.__version__,
        "kernel": str(KERNEL),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def _needed(state: RuleState, alerts: set[str | None]) -> RuleState:
    """Leave out the past alerts that have no part in the decision: they stay on the device."""
    return replace(state, past=tuple(one for one in state.past if one.alert_id in alerts))
