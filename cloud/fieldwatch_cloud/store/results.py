"""Results and their hourly rollup, which is updated only from rows that were really inserted."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

from fieldwatch_contract.verdicts import CODES, Verdict
from sqlalchemy import Connection, case, func, select, tuple_

from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.sql import chunks, insert_new_keys, larger, upsert

RATIO_LIMIT = 1e9
_RAISED = (CODES[Verdict.ANOMALOUS], CODES[Verdict.FAULTY])


def add_results(db: Connection, rows: list[dict[str, Any]], now: int) -> tuple[list[dict[str, Any]], int]:
    """Insert results and update the rollup from the new ones; return the new ones and the number of conflicts."""
    unique: dict[tuple[str, int, str], dict[str, Any]] = {}
    conflicts = 0
    for row in rows:
        row["received"] = now
        first = unique.setdefault((row["device"], row["ts"], row["model"]), row)
        conflicts += first is not row and _differs(first, row)
    ordered = [unique[key] for key in sorted(unique)]  # one order for all writers: no deadlocks
    new = insert_new_keys(db, t.result, ordered)
    if len(new) < len(ordered):
        old = [key for key in sorted(unique) if key not in new]
        for chunk in chunks(old):
            stored = db.execute(
                select(t.result).where(tuple_(t.result.c.device, t.result.c.ts, t.result.c.model).in_(chunk))
            ).mappings()
            conflicts += sum(_differs(row, unique[row["device"], row["ts"], row["model"]]) for row in stored)
    fresh = [row for row in ordered if (row["device"], row["ts"], row["model"]) in new]
    _rollup(db, fresh)
    return fresh, conflicts


def _rollup(db: Connection, fresh: list[dict[str, Any]]) -> None:
    hours: dict[tuple[str, int, str], list[dict[str, Any]]] = defaultdict(list)
    for row in fresh:
        hours[row["device"], row["ts"] // t.HOUR * t.HOUR, row["model"]].append(row)
    if not hours:
        return
    rows = []
    for key in sorted(hours):
        group = hours[key]
        scores = [row["score"] for row in group if row["score"] is not None]
        ratios = [value for row in group if (value := ratio(row["score"], row["threshold"])) is not None]
        rows.append(
            {
                "device": key[0],
                "hour": key[1],
                "model": key[2],
                "n": len(group),
                "raised": sum(row["verdict"] in _RAISED for row in group),
                "unknown": sum(row["verdict"] == CODES[Verdict.UNKNOWN] for row in group),
                "score_max": max(scores, default=None),
                "ratio_max": max(ratios, default=None),
            }
        )
    statement = upsert(db, t.result_1h)
    old, new = t.result_1h.c, statement.excluded
    db.execute(
        statement.on_conflict_do_update(
            index_elements=list(t.result_1h.primary_key.columns),
            set_={
                "n": old.n + new.n,
                "raised": old.raised + new.raised,
                "unknown": old.unknown + new.unknown,
                "score_max": larger(old.score_max, new.score_max),
                "ratio_max": larger(old.ratio_max, new.ratio_max),
            },
        ),
        rows,
    )


@dataclass(frozen=True)
class Sums:
    """What is stored of a range, of one model; as :class:`.commands.ModelReplay` has it."""

    rows: int
    raised: int
    unknown: int
    highest: float | None


def sums(db: Connection, device: str, start: int, end: int) -> dict[str, Sums]:
    """Return the sums of each model's results from ``start`` to ``end`` (µs), both included."""
    r = t.result.c
    raised = func.sum(case((r.verdict.in_(_RAISED), 1), else_=0))
    unknown = func.sum(case((r.verdict == CODES[Verdict.UNKNOWN], 1), else_=0))
    query = (
        select(r.model, func.count(), raised, unknown, func.max(r.score))
        .where(r.device == device, r.ts >= start, r.ts <= end)
        .group_by(r.model)
    )
    return {model: Sums(*row) for model, *row in db.execute(query)}


def ratio(score: float | None, threshold: float | None) -> float | None:
    """Return score / threshold, 1 = would raise; None where there is no score or the threshold is not positive.

    At most :data:`RATIO_LIMIT`: JSON and charts know no infinity.

    >>> ratio(3.0, 2.0), ratio(1e300, 1e-300), ratio(None, 2.0), ratio(1.0, 0.0)
    (1.5, 1000000000.0, None, None)
    """
    if not isinstance(score, float | int) or not isinstance(threshold, float | int) or threshold <= 0:
        return None  # a damaged disk may have made it a text
    return max(-RATIO_LIMIT, min(RATIO_LIMIT, score / threshold))


def _differs(stored: Any, row: dict[str, Any]) -> bool:
    return any(stored[name] != row[name] for name in ("score", "threshold", "verdict", "bundle"))
