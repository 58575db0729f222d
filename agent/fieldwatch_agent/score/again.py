"""A time range of the log, read and scored again: what a command of the cloud may ask for, without side effects.

The same tail, parser, grid and scorer as the service's, from the log's files alone. Only readings that the service has
scored by then are looked at, so nothing comes out of it that was not judged in the ordinary way before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from fieldwatch_contract import clock
from fieldwatch_contract.bundle import Bundle, Manifest
from fieldwatch_contract.commands import EVIDENCE_ROWS, ModelReplay
from fieldwatch_contract.fields import Evidence
from fieldwatch_contract.grid import Grid
from fieldwatch_contract.reading.parse import Parser
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.scoring import Scorer, Scores, responsible
from fieldwatch_contract.verdicts import CODES, Verdict
from numpy.typing import NDArray

from fieldwatch_agent.log.tail import Tail
from fieldwatch_agent.score.decide import ALERT_SENSORS
from fieldwatch_agent.score.evidence import evidence
from fieldwatch_agent.score.past import BLOCK_BYTES


class NotThereError(Exception):
    """The range cannot be told as it was asked for; the message says why."""


@dataclass(frozen=True)
class Range:
    """Readings from ``start`` to ``end`` (µs), both included."""

    start: int
    end: int

    def __str__(self) -> str:
        return f"{clock.iso(self.start)} to {clock.iso(self.end)}"


@dataclass(frozen=True)
class Part:
    """Rows of the range: ``ts`` int64 ``[n]`` µs, ``rows`` float64 ``[n, S]``, ``present`` bool ``[n]``: a reading is
    there; ``scores``: of each model, of which ``at`` int64 ``[n]`` are these rows."""

    ts: NDArray[np.int64]
    rows: NDArray[np.float64]
    present: NDArray[np.bool_]
    scores: list[Scores]
    at: NDArray[np.int64]


def scored(log: LogConfig, bundle: Bundle, wanted: Range) -> Iterator[Part]:
    """Yield the rows of ``wanted``, scored with the rows before them.

    Raises :class:`NotThereError` where the log cannot be read, and what :class:`.scoring.Scorer` raises.
    """
    manifest = bundle.manifest
    scorer = Scorer(bundle)
    grid = Grid(manifest.period, manifest.window, len(manifest.sensors))
    parser = Parser(log, manifest.sensors)
    tail = Tail(log.path, None, encoding=log.encoding, format=parser)
    first = wanted.start - 2 * manifest.window * manifest.period  # the window before, and the grid's phase
    while (lines := tail.read(BLOCK_BYTES)) is not None:
        readings = parser.parse(lines)
        near = (readings.ts >= first) & (readings.ts <= wanted.end)
        for block in grid.blocks(readings.ts[near], readings.values[near]):
            at = np.flatnonzero((block.ts >= wanted.start) & (block.ts <= wanted.end))
            if len(at):
                rows = block.rows[len(block.rows) - len(block.ts) :][at]
                yield Part(block.ts[at], rows, block.source[at] >= 0, scorer.score(block.rows), at)
        if len(readings.ts) and (readings.ts > wanted.end).all():
            return
    if tail.state in {"missing", "unreadable"}:
        raise NotThereError(tail.detail)


@dataclass
class _Sum:
    """What one model says of the rows so far."""

    kind: str
    rows: int = 0
    raised: int = 0
    unknown: int = 0
    highest: float = -math.inf
    highest_at: int = 0

    def add(self, part: Part, judged: Scores) -> None:
        at = part.at[part.present]
        verdict, score = judged.verdict[at], judged.score[at].astype(np.float64)
        unknown = verdict == CODES[Verdict.UNKNOWN]
        self.rows += len(at)
        self.unknown += int(unknown.sum())
        self.raised += int((~unknown & (verdict != CODES[Verdict.NORMAL])).sum())
        score = np.where(np.isfinite(score), score, -np.inf)
        if len(score) and score.max() > self.highest:
            self.highest, self.highest_at = float(score.max()), int(part.ts[part.present][score.argmax()])


def summaries(log: LogConfig, bundle: Bundle, wanted: Range) -> list[ModelReplay]:
    """Return what each model says of ``wanted``. Raises :class:`NotThereError`, also where it holds no reading."""
    sums: dict[str, _Sum] = {}
    for part in scored(log, bundle, wanted):
        for judged in part.scores:
            sums.setdefault(judged.model, _Sum(judged.kind)).add(part, judged)
    if not any(each.rows for each in sums.values()):
        raise NotThereError(f"the log holds no reading from {wanted}")
    return [
        ModelReplay(
            model=model,
            kind=each.kind,
            rows=each.rows,
            raised=each.raised,
            unknown=each.unknown,
            highest=each.highest if each.highest_at else None,
            highest_at=clock.iso(each.highest_at) if each.highest_at else None,
        )
        for model, each in sums.items()
    ]


@dataclass
class _Rows:
    """Rows of one range with what a model says of them; ``sums`` of its contributions, float64 ``[S]``."""

    sums: NDArray[np.float64]
    ts: list[int] = field(default_factory=list)
    rows: list[NDArray[np.float64]] = field(default_factory=list)
    scores: list[float] = field(default_factory=list)


def evidence_of(log: LogConfig, bundle: Bundle, wanted: Range, model: str = "") -> Evidence:
    """Return the readings of ``wanted``, with the scores of ``model`` (default: the bundle's first).

    Raises :class:`NotThereError`, also where there are more than :data:`.commands.EVIDENCE_ROWS` or none.
    """
    manifest = bundle.manifest
    found = _Rows(np.zeros(len(manifest.sensors)))
    for part in scored(log, bundle, wanted):
        judged = next((each for each in part.scores if each.model == model), part.scores[0])
        found.ts += part.ts.tolist()
        found.rows.append(part.rows)
        found.scores += judged.score[part.at].astype(np.float64).tolist()
        found.sums += judged.explain(part.at).sum(axis=0, dtype=np.float64)
        if len(found.ts) > EVIDENCE_ROWS:
            raise NotThereError(f"{wanted} holds more than {EVIDENCE_ROWS} readings; ask for a shorter range")
    if not found.ts:
        raise NotThereError(f"the log holds no reading from {wanted}")
    return evidence(manifest, found.ts, np.concatenate(found.rows), found.scores, _named(manifest, found.sums))


def _named(manifest: Manifest, sums: NDArray[np.float64]) -> list[str]:
    sensors, _ = responsible(sums.astype(np.float32), manifest.sensors, ALERT_SENSORS)
    return sensors or list(manifest.sensors[:1])
