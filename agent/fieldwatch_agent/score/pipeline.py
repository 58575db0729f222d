"""A line's way: tail → parse → grid → features and score → decide → one commit.

One direction, one writer, plain values between the steps. Live lines and a year of backlog take the same way in
blocks of different size. After a restart reading goes on at the committed position; before the first new row the grid
is filled from the lines before it (:func:`reread`). So no state but the position has to survive, and none can be wrong.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from fieldwatch_contract import clock
from fieldwatch_contract.bundle import Bundle, BundleError
from fieldwatch_contract.events import GapData
from fieldwatch_contract.grid import Block, Grid
from fieldwatch_contract.reading.parse import Parser, Readings, Refusal
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.scoring import Scorer
from numpy.typing import NDArray

from fieldwatch_agent.config import Config
from fieldwatch_agent.log.tail import LogLines, Position, Tail
from fieldwatch_agent.score.decide import EVIDENCE_ROWS, Decider, Said
from fieldwatch_agent.send.journal import REJECTS_KEPT, Commit, Draft, Journal, Progress, Reject

log = logging.getLogger("fieldwatch.agent")

BLOCK_BYTES = 768 * 1024
"""Read at once; about 1,000 lines of 100 sensors. Larger blocks score faster (a tenth against 256 KiB) and take more
memory while a backlog is read (30 MB)."""
REWIND_ROWS = 1440
"""A restart re-reads at least this many rows, a day of minutes: a new bundle with a longer window finds its past, and
its shadow (:mod:`.score.shadow`) something to judge."""
SMALL_BLOCK = 16
"""Up to so many lines are not worth keeping their block for; see :class:`_Row`."""
REJECT_BYTES = 4096
"""A refused line is kept aside up to this length."""
SILENT_PERIODS = 3
"""A log without a new line for so many periods is silent."""
AHEAD = clock.DAY
"""A reading this far ahead of the clock (µs) is a wrong clock: taking it would refuse every later one as late."""


@dataclass(frozen=True)
class Step:
    """What one call of :meth:`Pipeline.step` did."""

    lines: int
    scored: int
    alerts: int


@dataclass(frozen=True)
class _Recent:
    """Where the lines of recent rows begin: of one block, the rows' slots and their lines' indices.

    A position costs a hash of 64 KiB, and a block keeps at least as many bytes alive. So of a large block only the
    row that turns out oldest is asked; of live lines, a block each, the positions are made at once and the block let
    go. ``first``: of a first row that began before the block.
    """

    slots: NDArray[np.int64]
    at: NDArray[np.int64]
    lines: LogLines | None
    positions: tuple[Position, ...]
    first: Position | None = None

    @classmethod
    def of(cls, slots: NDArray[np.int64], at: NDArray[np.int64], lines: LogLines, begun: Position | None) -> _Recent:
        """Take what is worth keeping of a block; ``begun``: where a row of line -1 begins."""
        first = begun if at[0] < 0 else None
        if len(lines) > SMALL_BLOCK:
            return cls(slots, at, lines.without_text(), (), first)
        return cls(slots, at, None, tuple(lines.position_of(max(0, index)) for index in at.tolist()), first)

    def first_after(self, slot: int) -> Position:
        """Return the position of the line of the first row after ``slot``."""
        row = int(np.searchsorted(self.slots, slot, side="right"))
        if row == 0 and self.first is not None:
            return self.first
        return self.positions[row] if self.lines is None else self.lines.position_of(int(self.at[row]))


def reread(log: LogConfig, sensors: Sequence[str], progress: Progress) -> Iterator[tuple[LogLines, Readings]]:
    """Yield again what was read from ``progress.rewind`` on, block by block, without a trace.

    Readings newer than ``progress.newest`` are not yet read, and left out. Whether a line was read cannot be told by
    counting: a rotation or a truncation since may have taken lines away. Lines after the position that are older are
    refused as late wherever they are met, so it does no harm to meet them here as well. Nothing is yielded where the
    file is gone: the window then fills anew.
    """
    if progress.rewind is None or progress.newest is None:
        return
    parser = Parser(log, sensors)
    tail = Tail(log.path, Position.from_json(progress.rewind), encoding=log.encoding, format=parser)
    while (lines := tail.read(BLOCK_BYTES)) is not None and tail.resumed:
        readings = parser.parse(lines)
        known = readings.ts <= progress.newest
        if len(known) and not known.any():
            return
        yield lines, replace(readings, ts=readings.ts[known], values=readings.values[known], line=readings.line[known])


class Pipeline:
    """Carries the lines of one device's log into the journal under one bundle.

    A new bundle means a new pipeline: it starts where the journal stands, by the way of every restart.
    """

    def __init__(self, config: Config, bundle: Bundle, journal: Journal) -> None:
        """Raises :class:`.bundle.BundleError` where the bundle does not load or fit the device."""
        manifest = bundle.manifest
        if manifest.period != config.log.period:
            raise BundleError(
                f"bundle {manifest.name}/{manifest.version} is made for a period of {manifest.period_s:g} s, "
                f"[log] period is {config.log.period / clock.SECOND:g} s"
            )
        self.bundle = replace(bundle, files={})  # the models are loaded; their bytes need not stay
        self.newest: int | None = None
        self._journal = journal
        self._scorer = Scorer(bundle)
        self._decider = Decider(config.device.id, bundle, config.privacy.evidence)
        self._parser = Parser(config.log, manifest.sensors)
        seen = max(manifest.window, EVIDENCE_ROWS)
        self._unseen = seen - manifest.window  # rows of history that an alert shows and no score depends on
        self._grid = Grid(manifest.period, seen, len(manifest.sensors))
        self._recent: deque[_Recent] = deque()
        self._bad_values: Counter[str] = Counter()
        self._reached = max(seen - 1, REWIND_ROWS)

        progress = journal.progress()
        self._alerts = dict(progress.alerts)
        self._begun: Position | None = None  # before the first line of a reading that is not complete
        self.newest = progress.newest
        self._day = clock.day_of(progress.newest if progress.newest is not None else clock.now())
        self._config = config.log
        self._restarted = True
        self.tail = Tail(
            config.log.path,
            Position.from_json(progress.position) if progress.position else None,
            encoding=config.log.encoding,
            format=self._parser,
            silent_after=SILENT_PERIODS * config.log.period / clock.SECOND,
        )

    def step(self) -> Step | None:
        """Carry one block from the log into the journal; None when there is nothing new.

        Raises :class:`.send.journal.JournalError` where it cannot be written; the next call tries the same block.
        """
        lines = self.tail.read(BLOCK_BYTES)
        self._announce()
        if lines is None:
            return None
        if self._restarted:
            self._restarted = False
            self._fill()
        return self._carry(lines)

    @property
    def detail(self) -> str:
        """What is odd about the log, in words; empty when all is well."""
        notes = [] if self.tail.state == "following" else [self.tail.detail]
        if self.tail.passed_over:
            notes.append(f"files passed over: {_some(self.tail.passed_over)}")
        columns = self._parser.columns
        if columns is not None and columns.missing:
            sensors = len(self.bundle.manifest.sensors)
            notes.append(
                f"{len(columns.missing)} of the bundle's {sensors} sensors have no column: {_some(columns.missing)}"
            )
        if columns is not None and columns.unknown:
            notes.append(f"{len(columns.unknown)} columns are unknown to the bundle: {_some(columns.unknown)}")
        if self._bad_values:
            worst = [f"{sensor} {count}×" for sensor, count in self._bad_values.most_common(3)]
            notes.append(f"values that are not numbers: {_some(worst)}")
        return "; ".join(notes)

    @property
    def oddities(self) -> object:
        """What :attr:`detail` is about without its counts: equal as long as nothing new is odd."""
        columns = self._parser.columns
        return (columns.missing, columns.unknown) if columns is not None else (), frozenset(self._bad_values)

    def _carry(self, lines: LogLines) -> Step:
        readings = self._parser.parse(lines)
        for change in readings.changes:
            log.warning("%s: %s", lines.file, change)
        self._bad_values.update(readings.bad_values)
        ts, values, line = readings.ts, readings.values, readings.line
        ahead = ts > clock.now() + AHEAD
        refusals = list(readings.refused)
        refusals += [Refusal(int(at), "future", "more than a day ahead of this computer's clock") for at in line[ahead]]
        ts, values, line = ts[~ahead], values[~ahead], line[~ahead]

        kept: list[NDArray[np.int64]] = []
        said = Said([], self._alerts, 0)
        for block in self._grid.blocks(ts, values):
            refusals += [
                Refusal(int(line[i]), "duplicate", "a reading of its period is there") for i in block.duplicate
            ]
            if len(block.late):
                newest = clock.iso(int(block.ts[-1]) if len(block.ts) else self.newest or 0)
                late = f"older than the newest reading, {newest}; was the clock set back?"
                refusals += [Refusal(int(line[i]), "late", late) for i in block.late]
            self._remember(block, line, lines)
            if len(block.ts):
                kept.append(block.source[block.source >= 0])
                scores = self._scorer.score(block.rows[self._unseen :])
                more = self._decider.decide(block, scores, said.alerts)
                said = Said(said.drafts + more.drafts, more.alerts, said.scored + more.scored)
        rows = np.concatenate(kept) if kept else np.empty(0, np.int64)
        self._begun = self._beginning(lines, readings)
        commit = self._commit(lines, line[rows], ts[rows], refusals, said)
        self._journal.commit(commit)
        self._alerts = said.alerts
        self.newest = commit.progress.newest
        read = sum(commit.read.values())
        return Step(read, said.scored, sum(draft.event == "alert" for draft in said.drafts))

    def _fill(self) -> None:
        """Place the rows before the position, which were scored before the restart."""
        progress = self._journal.progress()
        for lines, readings in reread(self._config, self.bundle.manifest.sensors, progress):
            for block in self._grid.blocks(readings.ts, readings.values):
                self._remember(block, readings.line, lines)
            self._begun = self._beginning(lines, readings)
        self._begun = None

    def _beginning(self, lines: LogLines, readings: Readings) -> Position | None:
        """Return the position of the first line of the reading that a block leaves open: a restart begins there."""
        if readings.open_line is None:
            return None
        return lines.position_of(readings.open_line) if readings.open_line >= 0 else self._begun

    def _remember(self, block: Block, line: NDArray[np.int64], lines: LogLines) -> None:
        """Keep where the lines of the last rows begin: from there a restart reads."""
        rows = np.flatnonzero(block.source >= 0)[-self._reached :]
        if len(rows):
            slots = np.floor_divide(block.ts[rows], self._grid.period)
            self._recent.append(_Recent.of(slots, line[block.source[rows]], lines, self._begun))
        while self._recent and self._recent[0].slots[-1] <= self._before_window:
            self._recent.popleft()

    @property
    def _before_window(self) -> int:
        """The newest slot that a restart need not read again."""
        return (self._grid.newest or 0) - self._reached

    def _commit(
        self, lines: LogLines, accepted: NDArray[np.int64], ts: NDArray[np.int64], refusals: list[Refusal], said: Said
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
        if len(days) and (day_name := clock.day_of(int(days[-1]) * clock.DAY)) != self._day:
            self._day = day_name
            self._bad_values.clear()  # yesterday's are no news
        rewind = self._recent[0].first_after(self._before_window) if self._recent else None
        newest = int(ts[-1]) if len(ts) else self.newest
        progress = Progress(
            position=(self._begun or lines.position).to_json(),
            rewind=rewind.to_json() if rewind else None,
            newest=newest,
            alerts=said.alerts,
        )
        rejects = [
            Reject(each.reason, each.detail, lines.lines[each.line][:REJECT_BYTES] if each.line >= 0 else b"")
            for each in refusals
        ]
        return Commit(progress, read, refused, rejects[-REJECTS_KEPT:], said.drafts)

    def _announce(self) -> None:
        """Queue what the tail has noticed: a minute that cannot be read is told, not passed over."""
        now = clock.day_of(clock.now())
        drafts = []
        for change in self.tail.changes():
            log.warning("%s", change.detail)
            gap = GapData(reason=change.reason, detail=change.detail, lines=change.lines)
            drafts.append(Draft("gap", now, gap.model_dump_json()))
        if drafts:
            self._journal.enqueue(drafts)


def _some(names: Sequence[str], most: int = 3) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
