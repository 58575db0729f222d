"""Makes a dossier's decisions again and compares: what was sent then, what this program computes now.

It uses the scorer, the alert rule and the words of the live agent (:class:`.decide.Decider`), fed with the dossier's
window and what the rule remembered. Equal means equal: every number of the alert, to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from fieldwatch_contract.bundle import Bundle
from fieldwatch_contract.clock import parse_iso
from fieldwatch_contract.dossier import Decision, DossierError
from fieldwatch_contract.events import AlertData
from fieldwatch_contract.grid import Block
from fieldwatch_contract.scoring import TOLERANCE, Scorer

from fieldwatch_agent.score.decide import Decider


@dataclass(frozen=True)
class Repeated:
    """One decision: what this program computes (None: no such transition), and each field that differs, in words."""

    decision: Decision
    computed: dict[str, Any] | None
    differences: tuple[str, ...]

    @property
    def equal(self) -> bool:
        """Whether everything is the same, bit for bit."""
        return not self.differences


def repeat(device: str, decision: Decision, bundle: Bundle) -> Repeated:
    """Make ``decision`` of ``device`` again with ``bundle``, the one that made it.

    Raises :class:`.bundle.BundleError` where the bundle does not run here, :class:`.dossier.DossierError` where the
    decision does not fit the bundle or cannot be read.
    """
    manifest, sent = bundle.manifest, decision.alert
    rows = decision.rows
    if decision.sensors != manifest.sensors or len(rows) != manifest.window:
        raise DossierError(
            f"its window has {len(rows)} rows of {rows.shape[1]} sensors, bundle {manifest.name}/{manifest.version} "
            f"takes {manifest.window} of {len(manifest.sensors)}"
        )
    state, said = decision.remembered()
    ts, none = np.array([parse_iso(sent.ts)]), np.empty(0, np.int64)
    first = np.zeros(1, np.int64)
    block = Block(rows, ts, first, first, first, none, none)
    scores = Scorer(bundle).score(rows)
    made = Decider(device, bundle, "scores").decide(block, scores, {sent.model: state}, said)
    alerts = [AlertData.model_validate_json(draft.data) for draft in made.drafts if draft.event == "alert"]
    mine = next((one for one in alerts if one.model == sent.model), None)
    if mine is None:
        judged = {one.model: one for one in scores}.get(sent.model)
        now = "has no such model" if judged is None else f"scores {float(judged.score[0])!r}: {_level(sent)}"
        return Repeated(decision, None, (f"transition: {sent.transition} then, none now; {sent.model} {now}",))
    then, now_ = sent.model_dump(mode="json", exclude={"evidence"}), mine.model_dump(mode="json", exclude={"evidence"})
    return Repeated(decision, now_, tuple(_apart(key, then[key], now_[key]) for key in then if then[key] != now_[key]))


def _level(alert: AlertData) -> str:
    return f"the level was {alert.threshold if alert.level is None else alert.level!r}"


def _apart(key: str, then: Any, now: Any) -> str:
    """Say how a field differs; of numbers also whether machines may differ by so much."""
    text = f"{key}: {then!r} then, {now!r} now"
    if isinstance(then, float) and isinstance(now, float) and np.isclose(then, now, rtol=TOLERANCE, atol=TOLERANCE):
        return f"{text}, as little as two kinds of machine may differ"
    return text
