"""Pictures for the report: small SVGs, inline, with the same bits for the same numbers.

No dates, no random ids, no fonts embedded (text stays text). Each is drawn about as wide as a phone is, and the page
sets several side by side where there is room: a picture drawn wide and shrunk would be unreadable.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import matplotlib as mpl
import matplotlib.dates
import numpy as np
from matplotlib.figure import Figure

dates: Any = matplotlib.dates  # untyped

INK, SOFT, GRID = "#1f2933", "#627282", "#dde3e9"
BLUE, RED, AMBER, GREY, GREEN = "#1769aa", "#c62f2f", "#d98a00", "#9aa7b4", "#3c9a5f"
BAND = {"fault": RED, "anomaly": AMBER, "normal": GREEN}

STYLE: dict[str, Any] = {
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.size": 9,
    "axes.edgecolor": GREY,
    "axes.labelcolor": SOFT,
    "axes.titlesize": 9.5,
    "axes.titlelocation": "left",
    "axes.titlecolor": INK,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.color": GRID,
    "grid.linewidth": 0.7,
    "text.color": INK,
    "xtick.color": SOFT,
    "ytick.color": SOFT,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.6,
}

MARGINS = {"left": 0.155, "right": 0.95, "bottom": 0.2, "top": 0.87}
"""Of a timeline: a score has at most six characters, a title one line."""


def _draw(
    name: str, alt: str, paint: Callable[[Any], None], height: float = 2.7, margins: dict[str, float] | None = None
) -> str:
    """Paint on one pair of axes and return the ``<svg>`` element; ``name`` keeps its ids apart from other pictures'.

    ``margins``: of the axes, where all labels are known to fit; to find them out takes longer than to draw.
    """
    style: Any = STYLE | {"svg.hashsalt": name}
    with mpl.rc_context(style):
        figure = Figure(figsize=(4.5, height), layout=None if margins else "constrained")
        paint(figure.subplots(gridspec_kw=margins))
        buffer = io.StringIO()
        figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", svg, count=1)
    svg = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", svg, count=1)
    label = alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return svg.replace("<svg", f'<svg role="img" aria-label="{label}"', 1).strip()


def precision_recall(name: str, recall: Sequence[float], precision: Sequence[float], base: float) -> str:
    """Draw precision over recall; ``base`` is the precision of a random score."""

    def paint(axes: Any) -> None:
        axes.plot(recall, precision, color=BLUE, label="model")
        axes.axhline(base, color=GREY, linestyle="--", linewidth=1.2, label="random score")
        axes.set(xlim=(0, 1), ylim=(0, 1.02), xlabel="recall", ylabel="precision", title="Precision and recall")
        axes.legend(loc="best")

    return _draw(name, "precision over recall", paint)


def reliability(name: str, table: Sequence[dict[str, float]]) -> str:
    """Draw observed against predicted probability of fault; a dot's size is its share of the rows."""

    def paint(axes: Any) -> None:
        predicted = [row["mean_score"] for row in table]
        observed = [row["rate"] for row in table]
        total = sum(row["n"] for row in table)
        size = [12 + 160 * float(np.sqrt(row["n"] / total)) for row in table]
        axes.plot([0, 1], [0, 1], color=GREY, linestyle="--", linewidth=1.2)
        axes.plot(predicted, observed, color=BLUE, linewidth=1.0, alpha=0.6)
        axes.scatter(predicted, observed, s=size, color=BLUE, alpha=0.8, linewidths=0)
        axes.set(
            xlim=(-0.03, 1.03),
            ylim=(-0.03, 1.03),
            xlabel="score",
            ylabel="share that was a fault",
            title="Calibration (dot size: share of rows)",
        )

    return _draw(name, "observed share of faults over predicted probability", paint)


def bars(name: str, title: str, values: Sequence[tuple[str, float]]) -> str:
    """Draw horizontal bars, the first on top."""

    def paint(axes: Any) -> None:
        labels = [label if len(label) <= 34 else label[:33] + "…" for label, _ in values]
        places = np.arange(len(values))[::-1]
        axes.barh(places, [value for _, value in values], color=BLUE, height=0.66)
        axes.set_yticks(places, labels)
        axes.grid(visible=False, axis="y")
        axes.set_title(title, loc="right")  # above the names too: the bars leave it little room

    return _draw(name, title, paint, height=max(1.6, 0.6 + 0.21 * len(values)))


def timeline(
    name: str,
    title: str,
    ts: Sequence[int],
    score: Sequence[float | None],
    level: Sequence[float],
    labels: Sequence[tuple[int, int, str]],
    alerts: Sequence[tuple[int, int, str]] = (),
    *,
    timed: bool = True,
) -> str:
    """Draw a score over time with the level that alerts needed, labels and, at the top, alerts; times in µs.

    The line stops where the score is None: nothing is drawn across a gap.
    """

    def when(t: int) -> float:
        return float(dates.date2num(datetime.fromtimestamp(t / 1e6, UTC))) if timed else float(t)

    def paint(axes: Any) -> None:
        y = np.array([np.nan if value is None else value for value in score], float)
        for start, end, kind in labels:
            axes.axvspan(when(start), when(end), color=BAND.get(kind, GREY), alpha=0.22, linewidth=0)
        x = [when(t) for t in ts]
        axes.plot(x, y, color=BLUE, linewidth=0.9, marker="." if len(x) < 3 else "")
        axes.plot(x, level, color=RED, linestyle="--", linewidth=1.1)
        threshold = max(level, default=1.0)
        top = max(float(np.nanmax(y)), threshold) if np.isfinite(y).any() else threshold
        low = float(np.nanmin(y)) if np.isfinite(y).any() else 0.0
        if low >= 0 and top > 8 * max(threshold, 1e-9):
            axes.set_yscale("symlog", linthresh=max(threshold, 1e-9))
        if low >= 0:
            axes.set_ylim(0, 2.5 * top if axes.get_yscale() == "symlog" else 1.15 * top)  # room for the bar of alerts
        if timed:
            locator = dates.AutoDateLocator(minticks=2, maxticks=7)
            axes.xaxis.set_major_locator(locator)
            axes.xaxis.set_major_formatter(dates.ConciseDateFormatter(locator))
        for start, end, kind in alerts:
            axes.axvspan(
                when(start), when(end), ymin=0.94, color=RED if kind == "false" else GREEN, linewidth=1.5, alpha=0.9
            )
        if x:
            axes.set_xlim(min(x), max(x) if max(x) > min(x) else min(x) + 1)
        axes.yaxis.set_major_formatter(lambda score, _: f"{score:.4g}" if abs(score) < 10_000 else f"{score:.0e}")
        axes.set(title=title, ylabel="score")

    return _draw(name, f"score over time of {title}", paint, height=2.1, margins=MARGINS)
