"""What people do with an incident, by a page or by the API: one transaction with its trace in the audit trail."""

from __future__ import annotations

from typing import Literal

from fieldwatch_contract import clock

from fieldwatch_cloud.alerts.life import Acknowledged, Assigned, Closed, Commented, NotNowError, Snoozed
from fieldwatch_cloud.live import Notice
from fieldwatch_cloud.store import Store, audit
from fieldwatch_cloud.store import notices as feed
from fieldwatch_cloud.store.incidents import UnknownIncidentError
from fieldwatch_cloud.web.problems import ProblemError

Act = Literal["acknowledge", "assign", "comment", "snooze", "close"]
Answer = Acknowledged | Assigned | Commented | Snoozed | Closed


def apply(store: Store, number: int, answer: Answer) -> None:
    """Write what a person did, and tell the other pages.

    Raises :class:`.UnknownIncidentError`, and :class:`.NotNowError` where the incident's state does not allow it.
    """
    act, said = _in_words(answer)
    data = {"type": "incident", "time": answer.at, "data": {"number": number, "act": act}}
    with store.write() as db:
        told = [Notice("event", store.incidents.act(db, number, answer), data)]
        audit.record(db, answer.by, f"incident.{act}", str(number), said, answer.at)
        feed.write(db, store.origin, told)
    store.live.publish(told)


def do(store: Store, number: int, answer: Answer) -> None:
    """The same for a request about one incident. Raises :class:`.ProblemError`: 404 or 409."""
    try:
        apply(store, number, answer)
    except UnknownIncidentError:
        raise ProblemError(404, "Unknown incident", "There is no such incident.") from None
    except NotNowError as error:
        raise ProblemError(409, "Not any more", f"{str(error)[:1].upper()}{str(error)[1:]}.") from None


def _in_words(answer: Answer) -> tuple[Act, str]:
    """Return what it is, and what the audit trail keeps of it."""
    match answer:
        case Acknowledged():
            return "acknowledge", answer.why
        case Assigned():
            return "assign", f"to {answer.to}"
        case Commented():
            return "comment", answer.text
        case Snoozed():
            return "snooze", f"until {clock.iso(answer.until)}: {answer.why}"
        case Closed():
            return "close", answer.why
