"""Dossiers from what is stored: the decisions of an alert as its device sent them, and who answered it.

The alert's own columns are not enough: they are those of its newest transition. What each transition was made of came
with its evidence, in the device's own words.
"""

from __future__ import annotations

from typing import Any

from fieldwatch_contract import clock
from fieldwatch_contract.dossier import Answer, Decision, Dossier, unpack
from sqlalchemy import Connection, case, select

from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.incident_reads import of_alert
from fieldwatch_cloud.store.packed import unpack_evidence

PRIVATE = "no readings came with it: the device's privacy setting (evidence) keeps them in the lab"
ABSENT = "what it was made of did not come with it: its agent is of an earlier version, or it was too large to send"


def dossier(db: Connection, alert_id: str, now: int) -> Dossier | str | None:
    """Return an alert's dossier, or in words why there is none; None where the alert is not known."""
    alert = db.execute(select(t.alert).where(t.alert.c.alert_id == alert_id)).one_or_none()
    if alert is None:
        return None
    e = t.alert_event.c
    life = case((e.transition == "opened", 0), (e.transition == "updated", 1), else_=2)
    decisions, missing, reasons = [], [], []
    for event in db.execute(select(t.alert_event).where(e.alert_id == alert_id).order_by(e.ts, life)):
        try:
            decisions.append(_decision(event))
        except ValueError as error:
            reasons.append(str(error))
            missing.append(f"{event.transition} {clock.iso(event.ts)}: {error}")
    if not decisions:
        return reasons[0] if reasons else ABSENT
    return Dossier(
        made_at=clock.iso(now),
        device=alert.device,
        alert_id=alert_id,
        decisions=decisions,
        missing=missing,
        answers=_answers(db, alert),
    )


def _decision(event: Any) -> Decision:
    """Return what a transition was made of. Raises :class:`ValueError` with the reason where that is not stored."""
    if event.evidence is None:
        raise ValueError(PRIVATE)
    exact = unpack_evidence(event.evidence).exact
    if not exact:
        raise ValueError(ABSENT)
    try:
        decision = unpack(exact)
    except ValueError as error:
        raise ValueError(f"what it was made of cannot be read: {error}") from error
    told = decision.alert
    if (told.alert_id, told.transition, told.score) != (event.alert_id, event.transition, event.score):
        raise ValueError("what it was made of belongs to another decision")
    return decision


def _answers(db: Connection, alert: Any) -> list[Answer]:
    """Return what people, device and time did, in order: verdicts, and the incident's timeline."""
    found: list[tuple[int, Answer]] = []
    a = t.audit.c
    target = f"alert {alert.alert_id} of {alert.device}"
    judged = select(a.at, a.who).where(a.action == "alert.judge", a.target == target)
    by: dict[int, str] = {row.at: row.who for row in db.execute(judged)}
    for row in db.execute(select(t.verdict).where(t.verdict.c.alert_id == alert.alert_id)):
        text = f"{row.verdict}: {row.note}" if row.note else row.verdict
        found.append((row.at, Answer(at=clock.iso(row.at), who=by.get(row.at, ""), what="judged", text=text)))
    if (number := of_alert(db, alert.alert_id)) is not None:
        e = t.incident_event.c
        for row in db.execute(select(t.incident_event).where(e.incident_id == number).order_by(e.id)):
            found.append((row.at, Answer(at=clock.iso(row.at), who=row.by, what=row.what, text=row.text)))
    return [answer for _, answer in sorted(found, key=lambda one: one[0])]
