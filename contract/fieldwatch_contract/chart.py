"""A picture of scores over time as SVG: score and level as lines, alerts and labelled time as bands.

For the pages of a back-test and for what an agent draws of its log; a page that shows one needs :data:`STYLE`.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fieldwatch_contract.backtest import Fired
from fieldwatch_contract.clock import DAY, MINUTE, SECOND, iso

WIDTH, HEIGHT, EDGE = 1000, 150, 44
BUCKETS = 700
"""A picture shows the largest score of each of at most so many stretches of time."""
TICKS = 8
STEPS = tuple(
    [n * SECOND for n in (1, 5, 15, 30)]
    + [n * MINUTE for n in (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720)]
    + [n * DAY for n in (1, 2, 7, 14, 28, 91, 182, 364)]
)
"""Distances between the ticks of a time axis, µs."""

STYLE = (
    "body{font:15px system-ui;margin:2rem auto;max-width:1040px;padding:0 1rem;color:#1b1f24;background:#fff}"
    "svg{width:100%;height:auto}.c{overflow-x:auto}.c svg{min-width:720px}"
    "table{border-collapse:collapse}td,th{padding:.15rem .8rem .15rem 0;text-align:left}"
    ".s{fill:none;stroke:#235a97;stroke-width:1.2}.t{fill:none;stroke:#b3261e;stroke-dasharray:5 4}"
    ".a{fill:#b3261e;opacity:.16}.l{fill:#d98a00;opacity:.22}text{font-size:12px;fill:#57606a}"
)


def chart(
    title: str,
    ts: NDArray[np.int64],
    score: NDArray[np.float32],
    level: NDArray[np.float64],
    fired: Sequence[Fired],
    labels: Sequence[tuple[int, int]],
    period: int,
) -> str:
    """Draw score (solid) and level (dashed) over time, alerts and labelled time as bands; no line crosses a gap.

    Where the screen is narrow the picture is scrolled, so that its words can be read.

    ``ts`` int64 ``[n]`` µs, rising; ``score`` float32 and ``level`` float64 ``[n]``; ``labels`` first and last µs.
    """
    if not len(ts):
        return ""
    first, last = int(ts[0]), int(ts[-1]) + period
    bucket = (ts - first) * BUCKETS // (last - first) if len(ts) > BUCKETS else np.arange(len(ts))
    starts = np.flatnonzero(np.diff(bucket, prepend=-1))
    known = np.where(np.isnan(score), -np.inf, score)
    peak = np.maximum.reduceat(known, starts).astype(np.float64)
    height = np.maximum.reduceat(level, starts)
    seen = ~np.isinf(peak)
    top = 1.1 * max(float(peak[seen].max(initial=0.0)), float(height.max()), 1e-12)
    width = max(period, (last - first) // BUCKETS)
    apart = np.diff(ts[starts], prepend=first) > 2 * width

    def x(time: float) -> float:
        return EDGE + (min(max(time, first), last) - first) / (last - first) * (WIDTH - EDGE)

    def y(value: float) -> float:
        return HEIGHT - 18 - value / top * (HEIGHT - 30)

    def band(start: int, end: int, kind: str) -> str:
        if end < first or start > last:
            return ""
        width = max(x(end) - x(start), 1.5)
        return f"<rect class='{kind}' x='{x(start):.1f}' y='8' width='{width:.1f}' height='{HEIGHT - 26}'/>"

    bands = [band(start, end + period, "l") for start, end in labels]
    bands += [band(one.opened_at, last if one.ended_at is None else one.ended_at, "a") for one in fired]
    lines = _lines(ts[starts], peak, seen, apart, x, y, "s") + _lines(
        ts[starts], height, np.ones(len(starts), bool), apart, x, y, "t"
    )
    return (
        f"<div class='c' tabindex='0'>"
        f"<svg viewBox='0 0 {WIDTH} {HEIGHT}' role='img' aria-label='score of {escape(title, quote=True)} over time'>"
        f"<title>{escape(title)}</title>{''.join(bands)}{lines}"
        f"<text x='0' y='14'>{top:.3g}</text><text x='0' y='{HEIGHT - 18}'>0</text>"
        f"<text x='{EDGE + 4}' y='14'>{escape(title)}</text>"
        f"{''.join(_tick(x(time), label) for time, label in ticks(first, last))}</svg></div>"
    )


def ticks(first: int, last: int) -> list[tuple[int, str]]:
    """Return the times (µs) of a time axis and what stands at them: at most :data:`TICKS`, at round times.

    The first one and every midnight carry the day, the others the time of day; UTC.
    """
    step = next((step for step in STEPS if (last - first) // step < TICKS), None)
    if step is None:  # years: whole multiples of the longest step
        step = STEPS[-1] * -(-(last - first) // (STEPS[-1] * TICKS))
    found: list[tuple[int, str]] = []
    for time in range(-(-first // step) * step, last, step):
        day = iso(time)[:10]
        clock = iso(time)[11 : 16 if step >= MINUTE else 19]
        label = day if time % DAY == 0 else f"{day} {clock}" if not found else clock
        found.append((time, label))
    return found


def _tick(place: float, label: str) -> str:
    anchor = "end" if place > WIDTH - 60 else "start" if place < EDGE + 60 else "middle"
    return (
        f"<line x1='{place:.1f}' x2='{place:.1f}' y1='{HEIGHT - 18}' y2='{HEIGHT - 14}' stroke='#57606a'/>"
        f"<text x='{place:.1f}' y='{HEIGHT - 2}' text-anchor='{anchor}'>{label}</text>"
    )


def _lines(
    ts: NDArray[np.int64], value: NDArray[np.float64], seen: NDArray[np.bool_], apart: NDArray[np.bool_],
    x: Any, y: Any, kind: str,
) -> str:  # fmt: skip
    pieces: list[list[str]] = [[]]
    for time, height, there, new in zip(ts.tolist(), value.tolist(), seen.tolist(), apart.tolist(), strict=True):
        if new or not there:
            pieces.append([])
        if there:
            pieces[-1].append(f"{x(time):.1f},{y(height):.1f}")
    return "".join(f"<polyline class='{kind}' points='{' '.join(points)}'/>" for points in pieces if len(points) > 1)
