"""What ``status`` prints: the state recorded in the journal, also while the service runs."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

from fieldwatch_contract import clock, support

from fieldwatch_agent.score.words import in_words
from fieldwatch_agent.troubles import LITTLE_ROOM

STALE_S = 150.0
"""Seconds after which a report is outdated: a running agent reports every minute."""


def supported(status: dict[str, Any], until: date = support.UNTIL, today: date | None = None) -> dict[str, Any]:
    """Return a status with the support of this program: ``until``, and in words where it has ended or will soon."""
    says = support.says(until, today or datetime.now(UTC).date())
    return status | {"support": {"until": until.isoformat(), "says": says}}


def describe(status: dict[str, Any], device: str) -> str:
    """Return a status (:func:`.send.journal.read_status`, :func:`supported`) as a few lines for a person."""
    health = status["health"] or {}
    outbox = status["outbox"]
    bundle = health.get("bundle")
    lines = [f"device    {device}, epoch {status['epoch']}"]
    if health:
        age = (clock.now() - clock.parse_iso(health["ts"])) / clock.SECOND
        lines.append(f"log       {health['log']}{_log_detail(health)}, {health['lag_bytes']} bytes unread")
        stale = "; the agent does not run, or cannot write here: see its log, and the room on the disk"
        reported = f"{age:.0f} s ago" if age > -STALE_S else f"{-age:.0f} s ahead of this computer's clock: set back?"
        lines.append(f"reported  {reported} by agent {health['agent']}{stale if age > STALE_S else ''}")
        lines.append(f"reading   newest {health['last_reading'] or 'none'}")
        if health.get("lines"):
            lines.append(f"lines     {_counts(health['lines'])}")
    else:
        lines.append("log       nothing reported yet")
    lines.append(f"bundle    {bundle['name']}/{bundle['version']}" if bundle else "bundle    none")
    if told := status.get("support"):
        lines.append(f"support   until {told['until']}{'; update the agent: ' if told['says'] else ''}{told['says']}")
    if health.get("update"):
        lines.append(f"update    {health['update']}")
    waits = f", oldest {outbox['oldest']}" if outbox["oldest"] else ""
    lines.append(f"outbox    {outbox['events']} events waiting{waits}")
    if status["disk_free"] < LITTLE_ROOM:
        lines.append(f"disk      {status['disk_free'] / 1e6:.1f} MB free where the state is: make room")
    lines += [f"damaged   {what}; the agent repairs it at its next start" for what in status["damaged"]]
    if status["uplink"]:
        lines.append(f"uplink    {status['uplink']}")
    lines += _alerts(status)
    lines += [_level(each) for each in health.get("levels") or []]
    if status.get("verdicts"):
        lines.append(f"verdicts  {_heard(status)}")
    lines += _troubles(health.get("troubles") or []) if health else []
    lines.append("day         read = scored + refused + evicted + pending")
    for day in status["ledger"][-7:]:
        refused = sum(day["refused"].values())
        why = _with(", ".join(f"{count} {reason}" for reason, count in sorted(day["refused"].items())))
        balance = day["scored"] + refused + day["evicted"] + day["pending"]
        sign = "=" if balance == day["read"] else "≠"
        lines.append(
            f"{day['day']}  {day['read']} {sign} {day['scored']} + {refused} + {day['evicted']} + {day['pending']}{why}"
        )
    if status["rejects"]:
        lines.append("refused lines, newest first (status --json shows them):")
        lines += [f"  {reject['reason']}: {reject['detail']}" for reject in status["rejects"][:3]]
    return "\n".join(lines)


def _log_detail(health: dict[str, Any]) -> str:
    """Details on the log's state; where there are troubles, they explain it, each on its own line."""
    return "" if health.get("troubles") else _with(health.get("log_detail"))


def _counts(lines: dict[str, Any]) -> str:
    refused = sum(lines["refused"].values())
    why = _with(", ".join(f"{count} {reason}" for reason, count in sorted(lines["refused"].items())))
    unknown = f" ({lines['unknown']} of them unknown)" if lines["unknown"] else ""
    return f"since {lines['since']}: {lines['read']} read, {lines['scored']} scored{unknown}, {refused} refused{why}"


def _alerts(status: dict[str, Any]) -> list[str]:
    last = status["last_alert"]
    lines = [f"alert     {in_words(last)}" if last else "alert     none so far"]
    progress = status.get("progress") or {}
    for model, state in sorted((progress.get("alerts") or {}).items()):
        alert = state.get("alert", state)  # a journal of before there were levels
        if alert.get("opened") is not None:
            lines.append(
                f"          {model} is open since {clock.iso(alert['opened'])}, highest score {alert['peak']:.3g}"
            )
    return lines


def _level(level: dict[str, Any]) -> str:
    """What a model's score must reach for an alert now, and whether it stands at an end of what the bundle allows."""
    bound = f", the {level['at_bound']} that the bundle allows" if level.get("at_bound") else ""
    return f"level     {level['model']} alerts from {level['level']:.3g} on{bound}"


def _heard(status: dict[str, Any]) -> str:
    """How many alerts people have judged, as far as the journal has it, and how many of them are not known here."""
    states = ((status.get("progress") or {}).get("alerts") or {}).values()
    ignored = sum(state.get("ignored", 0) for state in states)
    latest = {each["alert_id"]: each["verdict"] for each in status["verdicts"]}
    said = sum(verdict is not None for verdict in latest.values())
    return f"{said} alerts judged{f', {ignored} times one that is not known here' if ignored else ''}"


def _troubles(troubles: list[dict[str, Any]]) -> list[str]:
    lines = [] if troubles else ["troubles  none"]
    for trouble in troubles:
        since = f" since {trouble['since']}" if trouble.get("since") else ""
        lines.append(f"trouble   {trouble['kind']}{since}: {trouble['detail']}")
        if trouble.get("remedy"):
            lines.append(f"          to do: {trouble['remedy']}")
    return lines


def _with(detail: str | None) -> str:
    return f" ({detail})" if detail else ""
