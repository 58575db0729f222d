"""A line's way: tail → parse → accept → grid → features and score → decide → one commit.

One direction, one writer, plain values between the steps. Live lines and a year of backlog take the same way in
blocks of different size. After a restart reading goes on at the committed position; before the first new row the
window is filled from the lines before it (:mod:`.score.past`). So no state but the position has to survive, and none
can be wrong.

| a line | ends as |
|---|---|
| a reading that is accepted (:mod:`.acceptance`) | a row, scored, with one result |
| a reading that is not, a line that is none | refused, counted by reason, the last thousand kept aside |
| a row whose window could not be filled again | a result that says ``unknown``, and why |
| a reading ahead of a clock that is behind | unread, with all after it, until the clock is put right |
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
from fieldwatch_contract.acceptance import AHEAD, ahead
from fieldwatch_contract.bundle import Bundle, check_fit
from fieldwatch_contract.events import GapData
from fieldwatch_contract.reading.parse import Columns, Parser, Refusal
from fieldwatch_contract.scoring import Scorer, Scores
from fieldwatch_contract.verdicts import CODES, WHYS, Verdict, Why
from numpy.typing import NDArray

from fieldwatch_agent.config import Config
from fieldwatch_agent.log.tail import LogLines, Position, Tail
from fieldwatch_agent.score.decide import EVIDENCE_ROWS, Decider, Said
from fieldwatch_agent.score.numbering import Numbering
from fieldwatch_agent.score.past import beginning, read_past
from fieldwatch_agent.score.tally import Recent, Tally
from fieldwatch_agent.score.window import Window
from fieldwatch_agent.send.journal import REJECTS_KEPT, Commit, Draft, Journal, Progress, Reject

log = logging.getLogger("fieldwatch.agent")

BLOCK_BYTES = 768 * 1024
"""Read at once; about 1,000 lines of 100 sensors. Larger blocks score faster (a tenth against 256 KiB) and take more
memory while a backlog is read (30 MB)."""
REJECT_BYTES = 4096
"""A refused line is kept aside up to this length."""
SILENT_PERIODS = 3
"""A log without a new line for so many periods is silent."""
HOLD_S = 10.0
"""New lines wait this long after a restart where the window may be filled in a moment."""
RETRY_MOST_S = 60.0
CLOCK_RETRY_S = 60.0
"""Lines ahead of the clock are judged again this often; the log may have returned to it."""


@dataclass(frozen=True)
class Step:
    """What one call of :meth:`Pipeline.step` did; ``alerts``: its transitions, in words."""

    lines: int
    scored: int
    alerts: tuple[str, ...]


@dataclass(frozen=True)
class _Accepted:
    """What a block's lines are: readings to be placed, and lines refused; ``position``: after what was read of it.

    ``begun``: where a reading of line -1 begins.
    """

    ts: NDArray[np.int64]
    values: NDArray[np.float64]
    line: NDArray[np.int64]
    refused: list[Refusal]
    bad_values: Counter[str]
    position: Position
    begun: Position | None


@dataclass
class _Refilling:
    """Filling the window after a restart: ``since`` the first try, ``due`` the next one (monotonic seconds).

    ``passing``: what stood in the way may be gone in a moment.
    """

    first: bool = True
    since: float = 0.0
    due: float = 0.0
    pause: float = 1.0
    passing: bool = False


@dataclass(frozen=True)
class _Ahead:
    """Lines wait for the clock: the first one's time (µs), their bytes, and when to judge them again (monotonic)."""

    ts: int
    file: str
    unread: int
    due: float


class Pipeline:
    """Carries the lines of one device's log into the journal under one bundle.

    A new bundle means a new pipeline: it starts where the journal stands, by the way of every restart.
    """

    def __init__(self, config: Config, bundle: Bundle, journal: Journal) -> None:
        """Raises :class:`.bundle.BundleMisfit` where the bundle does not fit the device, and what its models raise."""
        manifest = bundle.manifest
        check_fit(manifest, config.device.type, config.log.period)
        self.bundle = replace(bundle, files={})  # the models are loaded; their bytes need not stay
        self._config = config.log
        self._journal = journal
        self._scorer = Scorer(bundle)
        self._decider = Decider(config.device.id, bundle, config.privacy.evidence)
        self._window = Window(manifest.period, manifest.window, EVIDENCE_ROWS, len(manifest.sensors))
        self._unseen = max(0, EVIDENCE_ROWS - manifest.window)  # rows that an alert shows and no score depends on
        self._numbering = Numbering()
        self._begun: Position | None = None  # before the first line of a reading that is not complete
        self.recent = Recent(manifest.period_s)

        progress = journal.progress()
        self._alerts = dict(progress.alerts)
        self.newest = progress.newest
        self._day = clock.day_of(progress.newest if progress.newest is not None else clock.now())
        self._refilling: _Refilling | None = _Refilling()
        self._held: LogLines | None = None
        self._ahead: _Ahead | None = None
        self._open(progress)

    def _open(self, progress: Progress) -> None:
        """Begin to read where the journal stands."""
        self._parser = Parser(self._config, self.bundle.manifest.sensors)
        self._begun = None
        self.tail = Tail(
            self._config.path,
            Position.from_json(progress.position) if progress.position else None,
            encoding=self._config.encoding,
            format=self._parser,
            silent_after=SILENT_PERIODS * self._config.period / clock.SECOND,
        )

    # ---- what the service calls --------------------------------------------------------------------------------

    def step(self, scoring: Callable[[], AbstractContextManager[None]] = nullcontext) -> Step | None:
        """Carry one block from the log into the journal; None when there is nothing new.

        A block is scored within ``scoring()``, which is not called where there is none.

        Raises :class:`.send.journal.JournalError` where it cannot be written; the next call tries the same block.
        """
        if self._waits_for_the_clock():
            return None
        lines = self._held or self.tail.read(BLOCK_BYTES)
        self._announce()
        if lines is None:
            return None
        self._held = lines
        if not self._may_carry():
            return None
        self._held = None
        with scoring():
            return self._carry(lines)

    def lag(self) -> int:
        """Return the bytes written and not yet carried, as far as they can be seen."""
        held = self._held.position.offset - self._held.starts[0] if self._held is not None else 0
        return self.tail.lag() + held + (self._ahead.unread if self._ahead is not None else 0)

    @property
    def waiting(self) -> str:
        """Why lines that were written are not carried on, in words; empty where they are."""
        if self._ahead is not None:
            return self.clock_wrong
        return self._window.why if self._held is not None else ""

    @property
    def clock_wrong(self) -> str:
        """What speaks against this computer's clock, in words; empty where nothing does."""
        if self._ahead is None:
            return ""
        return (
            f"{Path(self._ahead.file).name} has readings of {clock.iso(self._ahead.ts)}, and other times in the log "
            f"agree with them, but this computer's clock says {clock.iso(clock.now())}; they wait unread"
        )

    @property
    def unfilled(self) -> str:
        """Why the next row cannot be judged for want of the rows before it, in words; empty where it can."""
        return self._window.why if self._window.lacking else ""

    @property
    def columns(self) -> Columns | None:
        """The log's columns in effect."""
        return self._parser.columns

    # ---- the steps ---------------------------------------------------------------------------------------------

    def _carry(self, lines: LogLines) -> Step | None:
        accepted = self._accept(lines)
        refused = accepted.refused
        ts, line = accepted.ts, accepted.line
        kept: list[NDArray[np.int64]] = []
        tally = Tally(bad_values=accepted.bad_values)
        if self._ahead is not None and not len(ts) and not refused:
            return None
        said = (
            self._decider.farewell(self._alerts, max(int(ts[-1]), self.newest or 0))
            if len(ts)
            else Said([], self._alerts)
        )
        for block in self._window.place(ts, accepted.values, line, lines, accepted.begun):
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
                said = said.then(self._decider.decide(block, scores, said.alerts))
        rows = np.concatenate(kept) if kept else np.empty(0, np.int64)
        commit = self._commit(lines, accepted.position, line[rows], ts[rows], refused, said)
        self._journal.commit(commit)
        self._alerts = dict(said.alerts)
        self.newest = commit.progress.newest
        tally.read, tally.scored = sum(commit.read.values()), said.scored
        tally.refused.update(refusal.reason for refusal in refused)
        for refusal, reject in zip(refused[-REJECTS_KEPT:], commit.rejects, strict=True):
            tally.examples[refusal.reason] = reject.detail
        self.recent.add(time.monotonic(), tally)
        return Step(tally.read, said.scored, said.transitions)

    def _accept(self, lines: LogLines) -> _Accepted:
        """Parse a block and leave out what is ahead of the clock."""
        readings = self._parser.parse(lines)
        for change in readings.changes:
            log.warning("%s: %s", lines.file, change)
        ts, line = readings.ts, readings.line
        judged = ahead(ts, clock.now(), self._log_time(lines) if self._is_ahead(ts) else None)
        stop, read, before = len(ts), len(lines), self._begun
        self._begun = beginning(lines, readings, before)
        position = self._begun or lines.position
        if judged.waits is not None:
            stop, read = judged.waits, int(line[judged.waits])
            position = before if read < 0 and before is not None else lines.position_of(max(0, read))
            due = time.monotonic() + CLOCK_RETRY_S
            self._ahead = _Ahead(int(ts[stop]), lines.file, lines.position.offset - position.offset, due)
        future = judged.future[:stop]
        refused = [each for each in readings.refused if each.line < read]
        refused += [
            Refusal(int(at), "future", "more than a day ahead of this computer's clock") for at in line[:stop][future]
        ]
        taken = np.flatnonzero(~future)
        bad = Counter(readings.bad_values)
        return _Accepted(ts[taken], readings.values[taken], line[taken], refused, bad, position, before)

    def _is_ahead(self, ts: NDArray[np.int64]) -> bool:
        return bool((ts > clock.now() + AHEAD).any())

    def _log_time(self, lines: LogLines) -> int | None:
        """Return what the log knows of the time: the newest row, and when the file was written."""
        try:
            written = Path(lines.file).stat().st_mtime_ns // 1000
        except OSError:
            return self.newest
        return max(written, self.newest or written)

    def _waits_for_the_clock(self) -> bool:
        if self._ahead is None:
            return False
        if clock.now() + AHEAD < self._ahead.ts and time.monotonic() < self._ahead.due:
            return True
        self._ahead = None
        self._open(self._journal.progress())
        return False

    def _may_carry(self) -> bool:
        """Tell whether new lines may be carried: after a restart the window is filled first.

        What stands in the way may be gone in a moment, so lines wait a little. Then they go on, unknown, and the rows
        are looked for again until none is missing that a score depends on.
        """
        refilling, now = self._refilling, time.monotonic()
        if refilling is None:
            return True
        if now >= refilling.due and self._refill(refilling, now):
            self._refilling = None
            return True
        return not refilling.passing or now - refilling.since >= HOLD_S

    def _refill(self, refilling: _Refilling, now: float) -> bool:
        """Fill the window with the rows before the position; tell whether all were found that a score depends on."""
        progress = self._journal.progress()
        past = read_past(self._config, self.bundle.manifest.sensors, progress, self.bundle.manifest.period)
        if refilling.first or len(past.missing) < len(self._window.missing):
            self._window.fill(past, progress)
        if not self._window.lacking:
            if not refilling.first:
                log.info("the rows before the last restart could be read again")
            return True
        if refilling.first:
            log.warning("%s; they are looked for again, and until then the verdict is unknown", past.why)
            refilling.first, refilling.since = False, now
        refilling.passing = past.passing
        refilling.due = now + refilling.pause
        refilling.pause = min(2 * refilling.pause, RETRY_MOST_S)
        return False

    def _commit(
        self,
        lines: LogLines,
        position: Position,
        accepted: NDArray[np.int64],
        ts: NDArray[np.int64],
        refusals: list[Refusal],
        said: Said,
    ) -> Commit:
        """Put together what follows from a block; ``accepted`` are the lines that made rows, ``ts`` their times."""
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
            position=position.to_json(),
            rewind=self._window.rewind(),
            newest=int(ts[-1]) if len(ts) else self.newest,
            alerts=said.alerts,
            rows=self._window.rows.to_text(),
        )
        kept = refusals[-REJECTS_KEPT:]
        name, number = Path(lines.file).name, self._numbering.first_of(lines) if kept else None
        rejects = [
            Reject(
                each.reason,
                f"{name} {_place(lines, each.line, number)}: {each.detail}",
                lines.lines[each.line][:REJECT_BYTES] if each.line >= 0 else b"",
            )
            for each in kept
        ]
        return Commit(progress, read, refused, rejects, said.drafts)

    def _announce(self) -> None:
        """Journal what happened to the log, and say it."""
        drafts = []
        for change in self.tail.changes():
            log.warning("%s", change.detail)
            self.recent.add(time.monotonic(), Tally(lost=[change.detail]))
            now = clock.day_of(clock.now())
            gap = GapData(reason=change.reason, detail=change.detail, lines=change.lines)
            drafts.append(Draft("gap", now, gap.model_dump_json()))
        if drafts:
            self._journal.enqueue(drafts)


def _count(tally: Tally, scores: Sequence[Scores], present: NDArray[np.bool_]) -> None:
    """Count the readings that no model judged, and why each did not."""
    nobody = present.copy()
    for judged in scores:
        unknown = present & (judged.verdict == CODES[Verdict.UNKNOWN])
        nobody &= unknown
        for why, count in zip(*np.unique(judged.why[unknown], return_counts=True), strict=True):
            tally.unjudged[judged.model, WHYS[why]] += int(count)
    tally.unknown += int(nobody.sum())


def _place(lines: LogLines, index: int, first: int | None) -> str:
    return f"line {first + index}" if first is not None else f"byte {lines.starts[max(0, index)]}"
