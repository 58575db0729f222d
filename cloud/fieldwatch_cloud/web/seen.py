"""What a model saw when it alerted: what the pages of an alert and of its incident show alike."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fieldwatch_contract.fields import Evidence

from fieldwatch_cloud.store import unpack_evidence
from fieldwatch_cloud.web.changes import Change, began, changes
from fieldwatch_cloud.web.queries import AlertDetail, Queries


@dataclass(frozen=True)
class Seen:
    """One alert: ``events`` and ``verdicts`` of it, the newest evidence of the trouble (None: none came), the table of
    what changed since ``began`` (µs), and similar alerts before it. ``whole``: its dossier can be taken away.
    """

    alert: Any
    events: list[Any]
    verdicts: list[Any]
    evidence: Evidence | None
    table: list[Change]
    began: int
    similar: list[Any]
    whole: bool


def look(queries: Queries, alert_id: str) -> Seen | None:
    """Return what is known of an alert; None where there is none of this id."""
    found: AlertDetail | None = queries.alert(alert_id)
    if found is None:
        return None
    row = found.alert
    evidence = queries.evidence(alert_id)
    # That of the recovery shows the sensors when they were well again.
    telling = [one for one in evidence if one[0] != "resolved"] or evidence
    newest = unpack_evidence(telling[-1][2]) if telling else None
    return Seen(
        alert=row,
        events=found.events,
        verdicts=found.verdicts,
        evidence=newest,
        table=changes(newest, row.opened_at, row.threshold) if newest else [],
        began=began(newest, row.opened_at, row.threshold) if newest else row.opened_at,
        similar=queries.similar(row),
        whole=any(unpack_evidence(blob).exact for _, _, blob in evidence),
    )


def main_alert(alerts: Sequence[Any]) -> Any | None:
    """Return the alert that stands for an incident: an open one first, then a critical one, then the newest."""
    return max(alerts, key=lambda one: (one.state == "open", one.severity == "critical", one.opened_at), default=None)
