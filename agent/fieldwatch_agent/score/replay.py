"""Replay: scores a log with a bundle as the agent would, without side effects.

It uses the same tail, parser, acceptance, grid, scorer and alert rule as the service, but no journal and no network. So
it prints for a line what the agent reported or would have reported, and what the trainer's ``score`` gives for the same
row in the lake. The alert rule begins with the first line and, given what people said, repeats it from the same rows.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from fieldwatch_contract import clock
from fieldwatch_contract.acceptance import ahead
from fieldwatch_contract.alerts import Said, alert_id
from fieldwatch_contract.bundle import Bundle
from fieldwatch_contract.fold import Folded
from fieldwatch_contract.grid import Block, Grid
from fieldwatch_contract.reading.parse import Parser
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.scoring import Scorer, Scores, rank
from fieldwatch_contract.verdicts import VERDICTS
from numpy.typing import NDArray

from fieldwatch_agent.log.inflate import is_whole
from fieldwatch_agent.log.tail import read_file
from fieldwatch_agent.score.rules import Rules, States

BLOCK_BYTES = 256 * 1024


@dataclass(frozen=True)
class Row:
    """One model's result for one reading; the fields of the trainer's ``score`` in the same order.

    ``threshold`` is the bundle's, ``level`` what an alert needs now, ``alert`` the id of the model's open alert.
    """

    ts: str
    model: str
    score: float | None
    threshold: float
    verdict: str
    sensors: list[str]
    shares: list[float]
    level: float
    alert: str | None

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(self.__dict__, separators=(",", ":"), ensure_ascii=False)


class Replay:
    """Scores log files in the order given, as one log."""

    def __init__(self, bundle: Bundle, config: LogConfig, device: str = "replay", said: Sequence[Said] = ()) -> None:
        """``device``: whose log it is, part of an alert's id; ``said``: what people said of its alerts.

        Raises :class:`.bundle.BundleError` where the bundle does not load.
        """
        self._config = config
        self._device = device
        self._said = said
        self._rules = Rules(device, bundle.manifest)
        self._states: States = {}
        self._manifest = bundle.manifest
        self._scorer = Scorer(bundle)
        self.refused: Counter[str] = Counter()
        self.first = ""
        """Where the first refused line stands, and why it was."""
        self.readings = 0
        self.columns = ""
        self.incomplete: list[Path] = []

    @property
    def ignored(self) -> int:
        """How many verdicts were on alerts that are not known here."""
        return sum(state.ignored for state in self._states.values())

    def rows(self, logs: list[Path]) -> Iterator[Row]:
        """Yield the rows of ``logs``; see :meth:`scored`."""
        for block, scores in self.scored(logs):
            present = np.flatnonzero(block.source >= 0)
            folded = self._rules.fold(block, scores, self._states, self._said)
            self._states = self._rules.states(folded)
            columns = [
                self._judge(block.ts, judged, done, present) for judged, done in zip(scores, folded, strict=True)
            ]
            for of_one_reading in zip(*columns, strict=True):
                yield from of_one_reading

    def scored(self, logs: list[Path]) -> Iterator[tuple[Block, list[Scores]]]:
        """Yield the rows of ``logs``, scored. Counts refused lines in :attr:`refused`; :attr:`columns` describes how
        the last header differs from the bundle's sensors.

        :attr:`incomplete` names the files of which the rest is missing. Raises :class:`OSError` where a file cannot be
        read.
        """
        manifest = self._manifest
        grid = Grid(manifest.period, manifest.window, len(manifest.sensors))
        parser = Parser(self._config, manifest.sensors)
        newest: int | None = None
        for path in logs:
            written = path.stat().st_mtime_ns // 1000
            line = 1
            for lines in read_file(path, self._config, BLOCK_BYTES):
                readings = parser.parse(lines)
                if readings.refused and not self.first:
                    first = readings.refused[0]
                    self.first = f"{path} line {line + first.line}: {first.detail}"
                line += len(lines)
                self.columns = parser.columns.describe() if parser.columns else ""
                self.refused.update(refusal.reason for refusal in readings.refused)
                known = ~ahead(readings.ts, clock.now(), newest, written).future
                self.refused["future"] += int((~known).sum())
                for block in grid.blocks(readings.ts[known], readings.values[known]):
                    self.refused["duplicate"] += len(block.duplicate)
                    self.refused["late"] += len(block.late)
                    if not len(block.ts):
                        continue
                    newest = int(block.ts[-1])
                    self.readings += int((block.source >= 0).sum())
                    yield block, self._scorer.score(block.rows)
            if path.suffix == ".gz" and not is_whole(path):
                self.incomplete.append(path)

    def _judge(self, ts: NDArray[np.int64], judged: Scores, done: Folded, present: NDArray[np.int64]) -> list[Row]:
        """Return one model's results for the present rows."""
        names = self._manifest.sensors
        order, shares = rank(judged.contributions[present])
        ids = {at: alert_id(self._device, judged.model, at) for at in np.unique(done.opened).tolist() if at >= 0}
        return [
            Row(
                clock.iso(time),
                judged.model,
                value if value == value else None,  # noqa: PLR0124 - NaN has no JSON
                judged.threshold,
                VERDICTS[code].value,
                [names[i] for i in who[:count]],
                share[:count],
                level,
                ids.get(opened),
            )
            for time, value, code, who, share, count, level, opened in zip(
                ts[present].tolist(),
                judged.score[present].astype(np.float64).tolist(),
                judged.verdict[present].tolist(),
                order.tolist(),
                shares.tolist(),
                (shares > 0).sum(axis=1).tolist(),
                done.level[present].tolist(),
                done.opened[present].tolist(),
                strict=True,
            )
        ]
