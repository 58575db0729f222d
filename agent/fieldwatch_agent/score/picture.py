"""``replay --html``: what a log's scores looked like, one chart a model, on a page that needs nothing from anywhere."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from html import escape

import numpy as np
from fieldwatch_contract.backtest import Fired
from fieldwatch_contract.chart import STYLE, chart
from fieldwatch_contract.clock import parse_iso

from fieldwatch_agent.score.replay import Row

KEY = "Line: score; dashed: what an alert needs; band: alert. The line stops where there is no reading."


def picture(rows: Sequence[Row], title: str, period: int) -> str:
    """Return the page; ``period`` in µs."""
    charts = []
    for model in dict.fromkeys(row.model for row in rows):
        charts.append(_model(model, [row for row in rows if row.model == model], period))
    return (
        "<!doctype html><html lang='en'><meta charset='utf-8'><meta name='viewport' content='width=device-width'>"
        f"<title>{escape(title)}</title><style>{STYLE}</style><body><h1>{escape(title)}</h1><p>{KEY}</p>"
        f"{''.join(charts)}</body></html>"
    )


def _model(model: str, rows: Sequence[Row], period: int) -> str:
    ts = np.array([parse_iso(row.ts) for row in rows], np.int64)
    score = np.array([np.nan if row.score is None else row.score for row in rows], np.float32)
    level = np.array([row.level for row in rows])
    alerts = _alerts(rows, ts)
    counts = Counter(row.verdict for row in rows)
    told = ", ".join(f"{count} {verdict}" for verdict, count in counts.most_common())
    return (
        f"<h2>{escape(model)}</h2><p>{escape(rows[0].ts)} to {escape(rows[-1].ts)}: {told}; {len(alerts)} alerts</p>"
        f"{chart(model, ts, score, level, alerts, (), period)}"
    )


def _alerts(rows: Sequence[Row], ts: np.ndarray[tuple[int], np.dtype[np.int64]]) -> list[Fired]:
    """Return the alerts that were open after a row, by their id."""
    spans: dict[str, tuple[int, int]] = {}
    for place, row in enumerate(rows):
        if row.alert is not None:
            spans[row.alert] = (spans.get(row.alert, (place, place))[0], place)
    found = []
    for name, (first, last) in spans.items():
        ended = int(ts[last + 1]) if last + 1 < len(rows) else None
        peak = max(row.score or 0.0 for row in rows[first : last + 1])
        found.append(Fired(name, int(ts[first]), first, last, ended, rows[first].level, peak, None, first, np.zeros(0)))
    return found
