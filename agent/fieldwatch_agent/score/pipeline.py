"""The pipeline of a line: tail → parse → accept → grid → features and score → decide → one commit.

One direction, one writer, plain values between the steps. Live lines and a year of backlog take the same path, in
blocks of different sizes. After a restart reading continues at the committed position; before the first new row the
window is refilled from the lines before it (:mod:`.score.past`). So no state except the position has to survive, and
none can be wrong.

| a line | ends as |
|---|---|
| an accepted reading (:mod:`.acceptance`) | a row, scored, with one result |
| a reading that is not accepted, or a line that is no reading | refused, counted by reason, the last thousand kept |
| a row whose window could not be refilled | a result with verdict ``unknown``, and why |
| a reading ahead of a clock that is behind | unread, with all after it, until the clock is corrected |
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from fieldwatch_contract import clock
from fieldwatch_contract.acceptance import AHEAD
from fieldwatch_contract.alerts import Said
from fieldwatch_contract.bundle import Bundle, check_fit
from fieldwatch_contract.events import GapData, LevelNow
from fieldwatch_contract.fields import speakable
from fieldwatch_contract.reading.parse import Refusal
from fieldwatch_contract.scoring import Scorer, Scores
from fieldwatch_contract.still import Still, Stuck
from fieldwatch_contract.verdicts import CODES, WHYS, Verdict, Why
from numpy.typing import NDArray

from fieldwatch_agent.config import Config
from fieldwatch_agent.log.tail import LogLines
from fieldwatch_agent.score.decide import EVIDENCE_ROWS, Decider, Decision
from fieldwatch_agent.score.handover import Handover
from fieldwatch_agent.score.intake import Accepted, Intake
from fieldwatch_agent.score.numbering import Numbering
from fieldwatch_agent.score.past import BLOCK_BYTES
from fieldwatch_agent.score.refill import Refill
from fieldwatch_agent.score.rules import States
from fieldwatch_agent.score.tally import Recent, Tally
from fieldwatch_agent.score.window import Window
from fieldwatch_agent.send.journal import REJECTS_KEPT, Commit, Draft, Journal, Progress, Reject

log = logging.getLogger("fieldwatch.agent")

REJECT_BYTES = 4096
"""Bytes kept of a refused line."""


@dataclass(frozen=True)
class Step:
    """What one call of :meth:`Pipeline.step` did; ``alerts``: its transitions, in words."""

    lines: int
    scored: int
    alerts: tuple[str, ...]


class Pipeline:
    """Carries the lines of one device's log into the journal under one bundle.

    A new bundle means a new pipeline: it starts from the last commit, exactly like a restart, but for its alerts
    (:mod:`.score.handover`).
    """

    def __init__(self, config: Config, bundle: Bundle, journal: Journal) -> None:
        """Raises :class:`.bundle.BundleMisfit` where the bundle does not fit the device, and what its models raise."""
        manifest = bundle.manifest
        check_fit(manifest, config.device.type, config.log.period)
        self.bundle = replace(bundle, files={})  # the models are loaded; their bytes need not stay
        self._journal = journal
        self._scorer = Scorer(bundle)
        self._decider = Decider(config.device.id, self.bundle, config.privacy.evidence)
        still = Still(manifest.baseline)
        self._window = Window(manifest.period, manifest.window, EVIDENCE_ROWS, len(manifest.sensors), still)
        self._unseen = max(0, EVIDENCE_ROWS - manifest.window)  # rows that an alert shows but no score depends on
        self._numbering = Numbering()
        self.recent = Recent(manifest.period_s)

        progress = journal.progress()
        self._alerts: States = progress.alerts
        self._kept = progress.kept
        self._said = journal.said()
        self._handover: Handover | None = None
        if progress.bundle != bundle.sha256 and progress.newest is not None:
            rules = self._decider.rules
            self._handover = Handover(config.log, manifest, bundle.sha256, rules, progress, self._said)
        self.newest = progress.newest
        self._day = clock.day_of(progress.newest if progress.newest is not None else clock.now())
        self.intake = Intake(config.log, manifest.sensors, progress.position)
        self._refill = Refill(self._window, config.log, manifest.sensors, manifest.period)
        self._held: Accepted | None = None
        self._warned = False

    # ---- what the service calls --------------------------------------------------------------------------------

    def step(self, scoring: Callable[[], AbstractContextManager[None]] = nullcontext) -> Step | None:
        """Carry one block from the log into the journal; None when there is nothing new.

        A block is scored inside the context manager ``scoring()``, which is entered only if there is one. Before the
        first rows that :attr:`unfilled` makes unknown there is an empty step, so that the caller can report why:
        at the speed of a backlog the window is full again within the block.

        Raises :class:`.send.journal.JournalError` where it cannot be written; the next call retries the same block.
        """
        if self._handover is not None:
            return self._hand_over(self._handover, scoring)
        accepted = self._held or self.intake.read(BLOCK_BYTES, self.newest)
        self._announce()
        if accepted is None:
            return None
        self._held = accepted
        if not self._refill.may_carry(self._journal):
            return None
        if self.unfilled and not self._warned:
            self._warned = True
            return Step(0, 0, ())
        self._held = None
        with scoring():
            return self._carry(accepted)

    def hear(self, said: Sequence[Said]) -> None:
        """Take what people said of alerts, as the journal has it: it holds for rows to come."""
        self._said = tuple(said)

    def lag(self) -> int:
        """Return the bytes written to the log and not yet processed, as far as they can be seen."""
        held = self._held.position.offset - self._held.lines.starts[0] if self._held is not None else 0
        return self.intake.lag() + max(0, held)

    @property
    def levels(self) -> list[LevelNow]:
        """The level of each model whose bundle lets it move."""
        return self._decider.rules.levels(self._alerts)

    @property
    def stuck(self) -> list[Stuck]:
        """Which sensors stand still for longer than they do by habit."""
        return self._window.still.stuck()

    @property
    def waiting(self) -> str:
        """Why available lines are not being processed, in words; empty where they are."""
        return self.intake.clock_wrong or (self._window.why if self._held is not None else "")

    @property
    def overtaken(self) -> str:
        """That the newest row is ahead of this computer's clock, in words; empty where it is not."""
        if self.newest is None or self.newest <= clock.now() + AHEAD:
            return ""
        return (
            f"the newest reading is of {clock.iso(self.newest)}, but this computer's clock says "
            f"{clock.iso(clock.now())}; what is older than that reading is refused"
        )

    @property
    def unfilled(self) -> str:
        """Which rows the next one's window lacks since the restart, in words; empty where it lacks none."""
        return self._window.why if self._window.lacking else ""

    # ---- the steps ---------------------------------------------------------------------------------------------

    def _hand_over(self, handover: Handover, scoring: Callable[[], AbstractContextManager[None]]) -> Step:
        """Take the alerts over from another bundle, one block of history at a time; be the log silent."""
        with scoring():
            lines = handover.step(self._scorer.score)
        if lines is not None:
            return Step(lines, 0, ())
        before = self._journal.progress()
        decision = self._decider.take_over(before.alerts, handover.states(), self.newest or 0)
        kept = {before.bundle: before.alerts} if before.bundle else {}
        progress = replace(before, alerts=decision.alerts, bundle=self.bundle.sha256, kept=kept)
        self._journal.commit(Commit(progress, {}, {}, [], decision.drafts))
        self._alerts, self._kept, self._handover = decision.alerts, kept, None
        return Step(0, 0, decision.transitions)

    def _carry(self, accepted: Accepted) -> Step:
        refused, ts, line = list(accepted.refused), accepted.ts, accepted.line
        kept: list[NDArray[np.int64]] = []
        tally = Tally(bad_values=accepted.bad_values)
        decision = Decision([], self._alerts)
        for block in self._window.place(ts, accepted.values, line, accepted.lines, accepted.begun):
            refused += [Refusal(int(line[i]), "duplicate", "a reading of its period is there") for i in block.duplicate]
            if len(block.late):
                newest = clock.iso(int(block.ts[-1]) if len(block.ts) else self.newest or 0)
                late = f"older than the newest reading, {newest}; was the clock set back?"
                refused += [Refusal(int(line[i]), "late", late) for i in block.late]
            if len(block.ts):
                present = block.source >= 0
                kept.append(block.source[present])
                scores = self._scorer.score(block.rows[self._unseen :])
                if (unfilled := self._window.unfilled(block)).any():
                    scores = [each.without(unfilled, Why.WINDOW_UNFILLED) for each in scores]
                _count(tally, scores, present)
                decision = decision.then(self._decider.decide(block, scores, decision.alerts, self._said))
        rows = np.concatenate(kept) if kept else np.empty(0, np.int64)
        commit = self._commit(accepted, line[rows], ts[rows], refused, decision)
        self._journal.commit(commit)
        self._alerts = decision.alerts
        self.newest = commit.progress.newest
        tally.read, tally.scored = sum(commit.read.values()), decision.scored
        tally.refused.update(refusal.reason for refusal in refused)
        for refusal, reject in zip(refused[-REJECTS_KEPT:], commit.rejects, strict=True):
            tally.examples[refusal.reason] = reject.detail
        self.recent.add(time.monotonic(), tally)
        return Step(tally.read, decision.scored, decision.transitions)

    def _commit(
        self,
        block: Accepted,
        accepted: NDArray[np.int64],
        ts: NDArray[np.int64],
        refusals: list[Refusal],
        decision: Decision,
    ) -> Commit:
        """Assemble the commit of a block; ``accepted`` are the lines that became rows, ``ts`` their times."""
        read: Counter[str] = Counter()
        refused: Counter[tuple[str, str]] = Counter()
        days = ts // clock.DAY
        for day, count in zip(*np.unique(days, return_counts=True), strict=True):
            read[clock.day_of(int(day) * clock.DAY)] += int(count)
        for refusal in refusals:  # a refused line counts for the day of the row before it
            before = int(np.searchsorted(accepted, refusal.line)) - 1
            day_name = clock.day_of(int(days[before]) * clock.DAY) if before >= 0 else self._day
            read[day_name] += 1
            refused[day_name, refusal.reason] += 1
        if len(days):
            self._day = clock.day_of(int(days[-1]) * clock.DAY)
        progress = Progress(
            position=block.position.to_json(),
            rewind=self._window.rewind(),
            newest=int(ts[-1]) if len(ts) else self.newest,
            alerts=decision.alerts,
            rows=self._window.rows.to_text(),
            bundle=self.bundle.sha256,
            kept=self._kept,
        )
        kept, lines = refusals[-REJECTS_KEPT:], block.lines
        name, number = speakable(Path(lines.file).name), self._numbering.first_of(lines) if kept else None
        rejects = [
            Reject(
                each.reason,
                f"{name} {_place(lines, each.line, number)}: {each.detail}",
                lines.lines[each.line][:REJECT_BYTES] if each.line >= 0 else b"",
            )
            for each in kept
        ]
        return Commit(progress, read, refused, rejects, decision.drafts)

    def _announce(self) -> None:
        """Journal and log what happened to the log's files."""
        drafts = []
        for change in self.intake.tail.changes():
            log.warning("%s", change.detail)
            self.recent.add(time.monotonic(), Tally(lost=[change.detail]))
            now = clock.day_of(clock.now())
            gap = GapData(reason=change.reason, detail=change.detail, lines=change.lines)
            drafts.append(Draft("gap", now, gap.model_dump_json()))
        if drafts:
            self._journal.enqueue(drafts)


def _count(tally: Tally, scores: Sequence[Scores], present: NDArray[np.bool_]) -> None:
    """Count the readings that no model judged, and why."""
    nobody = present.copy()
    for judged in scores:
        unknown = present & (judged.verdict == CODES[Verdict.UNKNOWN])
        nobody &= unknown
        for why, count in zip(*np.unique(judged.why[unknown], return_counts=True), strict=True):
            tally.unjudged[judged.model, WHYS[why]] += int(count)
    tally.unknown += int(nobody.sum())


def _place(lines: LogLines, index: int, first: int | None) -> str:
    return f"line {first + index}" if first is not None else f"byte {lines.starts[max(0, index)]}"
