"""Alerts in words, for the service's log and for ``status``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fieldwatch_contract.events import AlertData


def in_words(alert: AlertData | Mapping[str, Any]) -> str:
    """Describe an alert's transition in one line.

    >>> in_words({"transition": "opened", "model": "detector", "ts": "2026-01-17T10:54:00Z", "score": 41.26,
    ...           "threshold": 36.0, "sensors": ["pump.flow"], "opened_at": "2026-01-17T10:52:00Z", "reason": ""})
    'detector opened 2026-01-17T10:54:00Z: score 41.3, threshold 36, most responsible pump.flow'
    """
    told = alert if isinstance(alert, Mapping) else alert.__dict__
    text = f"{told['model']} {told['transition']} {told['ts']}"
    if told.get("reason"):
        return f"{text}, open since {told['opened_at']}: {told['reason']}"
    if told["transition"] == "resolved":
        return f"{text}, open since {told['opened_at']}"
    who = f", most responsible {', '.join(told['sensors'][:3])}" if told["sensors"] else ""
    level = told.get("level")
    needed = f"threshold {told['threshold']:.3g}" if level in (None, told["threshold"]) else f"level {level:.3g}"
    like = ", like an alert that was called false" if told.get("like") else ""
    return f"{text}: score {told['score']:.3g}, {needed}{who}{like}"
