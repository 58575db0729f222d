"""Scores → decisions: result events, and alerts that open, are updated and are resolved.

No I/O and no clock: everything here follows from the rows, the bundle and the alert states, so a lost journal can be
recomputed from the log, with the same results and the same ``alert_id`` for the same alert.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Literal

import numpy as np
from fieldwatch_contract import clock
from fieldwatch_contract.alerts import AlertState, Change, Said, alert_id
from fieldwatch_contract.bundle import Bundle
from fieldwatch_contract.events import BULK_LIMIT, AlertData
from fieldwatch_contract.fields import Evidence
from fieldwatch_contract.grid import Block
from fieldwatch_contract.scoring import Scores, rank, responsible
from fieldwatch_contract.verdicts import VERDICTS, WHYS, Kind
from numpy.typing import NDArray
from pydantic_core import to_json

from fieldwatch_agent.score.basis import basis
from fieldwatch_agent.score.evidence import evidence
from fieldwatch_agent.score.rules import Rules, States
from fieldwatch_agent.score.words import in_words
from fieldwatch_agent.send.journal import Draft

Privacy = Literal["none", "scores", "on-alert", "full"]

NAMED_SENSORS = 5
"""Sensors named in a result event; the trainer and ``replay`` name all."""
ALERT_SENSORS = 10
"""Sensors named in an alert at most, and drawn in its evidence."""
ALERT_SHARE = 0.02
"""A sensor with a smaller share of the score explains nothing and is not named, unless it is the first."""
EVIDENCE_ROWS = 120
"""Rows shown before a transition; blocks must bring at least this much history."""
ALERT_BYTES = BULK_LIMIT - 1024
"""Largest alert with what it was made of, without its envelope: it stays one message of its own."""
_WORDS = [[f'{verdict}","why":"{why}' if why else str(verdict) for verdict in VERDICTS] for why in WHYS]
"""JSON of verdict and reason, by their codes."""


@dataclass(frozen=True)
class Decision:
    """The decisions on a block: ``drafts`` of its events, the new states of the alert rule, the number of ``scored``
    readings, and ``transitions``: its alerts, in words."""

    drafts: list[Draft]
    alerts: States
    scored: int = 0
    transitions: tuple[str, ...] = ()

    def then(self, more: Decision) -> Decision:
        """Return both combined; ``more`` are the decisions on the next block."""
        transitions = self.transitions + more.transitions
        return Decision(self.drafts + more.drafts, more.alerts, self.scored + more.scored, transitions)


class Decider:
    """Turns the scores of one device under one bundle into drafts for the journal."""

    def __init__(self, device: str, bundle: Bundle, privacy: Privacy) -> None:
        """``privacy``: what may leave the lab besides scores; see ``docs/operate-agent.md``."""
        self._device = device
        self._bundle = bundle
        self._privacy = privacy
        self._shown = privacy in ("on-alert", "full")
        self._sensors = [json.dumps(sensor) for sensor in bundle.manifest.sensors]
        self._names = np.array(self._sensors, object)
        self.rules = Rules(device, bundle.manifest)
        self._label = json.dumps(f"{bundle.manifest.name}/{bundle.manifest.version}")

    def decide(self, block: Block, scores: Sequence[Scores], alerts: States, said: Sequence[Said] = ()) -> Decision:
        """Return the decisions on ``block``, whose rows have ``scores``: results first, then alerts, each in order.

        ``said``: what people said of alerts, see :func:`.fold.advance`.
        """
        present = np.flatnonzero(block.source >= 0)
        folded = self.rules.fold(block, scores, alerts, said)
        changes = [(change, judged) for done, judged in zip(folded, scores, strict=True) for change in done.changes]
        changes.sort(key=lambda item: item[0].index)
        drafts = self._results(block, scores, present)
        told = [self._alert(block, judged, change) for change, judged in changes]
        if self._shown:
            told = [
                self._with_basis(alert, block, judged, change, alerts, said)
                for alert, (change, judged) in zip(told, changes, strict=True)
            ]
        drafts += [_draft(alert) for alert in told]
        return Decision(drafts, self.rules.states(folded), len(present), tuple(in_words(alert) for alert in told))

    def take_over(self, before: States, alerts: States, ts: int) -> Decision:
        """Resolve the alerts that were open under another bundle and are not under this one.

        ``before``: that one's states; ``alerts``: this one's; ``ts``: time (µs) of the newest row.
        """
        gone = [
            self._resolved(model, state.alert, ts)
            for model, state in before.items()
            if state.alert.opened is not None
            and state.alert.announced
            and (model not in alerts or alerts[model].alert.opened != state.alert.opened)
        ]
        return Decision([_draft(alert) for alert in gone], alerts, 0, tuple(in_words(alert) for alert in gone))

    def _resolved(self, model: str, state: AlertState, ts: int) -> AlertData:
        kind = state.kind or ("classifier" if model == "classifier" else "detector")
        return AlertData(
            alert_id=alert_id(self._device, model, state.opened or 0),
            transition="resolved",
            model=model,
            kind=kind,
            severity=_severity(kind),
            opened_at=clock.iso(state.opened or 0),
            ts=clock.iso(ts),
            score=state.told,
            peak=state.peak,
            threshold=state.told if state.threshold is None else state.threshold,
            rows=state.rows,
            sensors=[],
            shares=[],
            bundle=self._bundle.ref,
            level=state.level,
            like=state.like,
            reason=self._why_ended(model),
        )

    def _why_ended(self, model: str) -> str:
        used = f"the bundle in use, {self._bundle.ref.name}/{self._bundle.ref.version},"
        if any(rule.model == model for rule in self.rules):
            return f"{used} does not find it: of the same rows its {model} would not have raised this alert"
        return f"{used} has no model {model}; so nothing can tell any more whether this continues"

    def _results(self, block: Block, scores: Sequence[Scores], present: NDArray[np.int64]) -> list[Draft]:
        """One result event per reading. JSON is written directly, column by column: this runs for a year of lines."""
        if not len(present):
            return []
        columns = [self._entries(judged, present) for judged in scores]
        tails = [f',"values":{values}' for values in self._values(block, present)] if self._privacy == "full" else None
        middle = f'","bundle":{self._label},"scores":['
        return [
            Draft("result", time[:10], f'{{"ts":"{time}{middle}{entries}]{tail}}}')
            for time, entries, tail in zip(
                clock.iso_column(block.ts[present]),
                map(",".join, zip(*columns, strict=True)),
                tails or repeat(""),
                strict=False,
            )
        ]

    def _entries(self, judged: Scores, present: NDArray[np.int64]) -> list[str]:
        """JSON of :class:`.events.ModelScore` for each present row."""
        head = f'{{"model":"{judged.model}","kind":"{judged.kind}","score":'
        middle = f',"threshold":{judged.threshold!r},"verdict":"'
        exact = judged.score[present].astype(np.float64).tolist()
        score = to_json(exact, inf_nan_mode="null").decode()[1:-1].split(",")
        codes = zip(judged.why[present].tolist(), judged.verdict[present].tolist(), strict=True)
        verdict = [_WORDS[why][code] for why, code in codes]
        named = [""] * len(score) if self._privacy == "none" else self._named(judged.contributions[present])
        return [f'{head}{value}{middle}{word}"{who}}}' for value, word, who in zip(score, verdict, named, strict=True)]

    def _named(self, contributions: NDArray[np.float32]) -> list[str]:
        """JSON of the responsible sensors of each row; a quiet classifier names none and costs nothing."""
        result = [""] * len(contributions)
        explained = np.flatnonzero(contributions.any(axis=1))
        if not len(explained):
            return result
        order, shares = rank(contributions[explained], NAMED_SENSORS)
        counts = (shares > 0).sum(axis=1).tolist()
        kept = [row[:count] for row, count in zip(shares.tolist(), counts, strict=True)]
        texts = to_json(kept).decode()[2:-2].split("],[")
        names = self._names[order].tolist()
        for row, who, text, count in zip(explained.tolist(), names, texts, counts, strict=True):
            if count:
                result[row] = f',"sensors":[{",".join(who[:count])}],"shares":[{text}]'
        return result

    def _values(self, block: Block, present: NDArray[np.int64]) -> list[str]:
        history = len(block.rows) - len(block.ts)
        result = []
        for row in block.rows[history + present].tolist():
            cells = [
                f"{sensor}:{value:.6g}" if value == value else f"{sensor}:null"  # noqa: PLR0124 - NaN
                for sensor, value in zip(self._sensors, row, strict=True)
            ]
            result.append("{" + ",".join(cells) + "}")
        return result

    def _alert(self, block: Block, judged: Scores, change: Change) -> AlertData:
        state = change.state
        opened = state.opened or 0
        time = clock.iso(int(block.ts[change.index]))
        sums = np.array(state.sums)  # over the alert, not of one row: a row names the right sensors less often
        sensors, shares = responsible(sums, self._bundle.manifest.sensors, ALERT_SENSORS)
        count = max(1, sum(share >= ALERT_SHARE for share in shares))  # most responsible first
        sensors, shares = sensors[:count], shares[:count]
        return AlertData(
            alert_id=alert_id(self._device, judged.model, opened),
            transition=change.transition,
            model=judged.model,
            kind=judged.kind,
            severity=_severity(judged.kind),
            opened_at=clock.iso(opened),
            ts=time,
            score=float(judged.score[change.index]),
            peak=state.peak,
            threshold=judged.threshold,
            rows=state.rows,
            sensors=sensors if self._privacy != "none" else [],
            shares=shares if self._privacy != "none" else [],
            bundle=self._bundle.ref,
            level=state.level,
            like=state.like,
            at_bound=change.at_bound,
            evidence=self._evidence(block, judged, change.index, sensors) if self._shown else None,
        )

    def _with_basis(
        self,
        alert: AlertData,
        block: Block,
        judged: Scores,
        change: Change,
        states: States,
        said: Sequence[Said],
    ) -> AlertData:
        """Return ``alert`` with what it was made of, if it stays small enough to be one message."""
        exact = basis(self._bundle.manifest, self.rules, block, judged, change, states, said, alert)
        if alert.evidence is None or len(alert.model_dump_json()) + len(exact) > ALERT_BYTES:
            return alert
        return alert.model_copy(update={"evidence": alert.evidence.model_copy(update={"exact": exact})})

    def _evidence(self, block: Block, judged: Scores, index: int, sensors: list[str]) -> Evidence:
        """The last rows up to ``index``: readings of the sensors named, and a coarse picture of all."""
        history = len(block.rows) - len(block.ts)
        stop = history + index + 1
        start = max(0, stop - EVIDENCE_ROWS)
        rows = block.rows[start:stop]
        first = next((i for i, row in enumerate(rows) if not np.isnan(row).all()), 0)
        start, rows = start + first, rows[first:]
        end = int(block.ts[index])
        period = self._bundle.manifest.period
        times = [end - (stop - 1 - row) * period for row in range(start, stop)]
        known = judged.score.astype(np.float64)
        scores = [known[row - history] if row >= history else np.nan for row in range(start, stop)]
        return evidence(self._bundle.manifest, times, rows, scores, sensors)


def _draft(alert: AlertData) -> Draft:
    return Draft("alert", alert.ts[:10], alert.model_dump_json())


def _severity(kind: Kind) -> Literal["warning", "critical"]:
    return "critical" if kind == "classifier" else "warning"
