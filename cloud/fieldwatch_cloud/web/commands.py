"""Commands to a device, on its page: the form, and what became of the latest ones."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Form, Request
from fastapi.responses import RedirectResponse, Response
from fieldwatch_contract import clock
from fieldwatch_contract.commands import Arguments, ModelReplay, span
from sqlalchemy import Connection

from fieldwatch_cloud.access.roles import Permission
from fieldwatch_cloud.store import Store
from fieldwatch_cloud.store import commands as stored
from fieldwatch_cloud.store.results import Sums, sums
from fieldwatch_cloud.web.api.commands import give
from fieldwatch_cloud.web.problems import ProblemError
from fieldwatch_cloud.web.routes import Route, needs

SHOWN = 5
STATES: dict[stored.State, str] = {
    "waiting": "waits for the device to be connected",
    "sent": "sent; no answer yet",
    "expired": "expired: the device was not connected in time",
    "unanswered": "no answer",
    "done": "done",
    "refused": "refused",
    "failed": "failed",
}

router = APIRouter(include_in_schema=False, route_class=Route)

Text = Annotated[str, Form(max_length=64)]


@router.post("/devices/{device}/commands/update")
@needs(Permission.RELEASE)
def update(request: Request, device: str) -> Response:
    """Let the device ask for updates now."""
    give(request, device, "update", Arguments())
    return _back(device)


@router.post("/devices/{device}/commands/look")
@needs(Permission.ANSWER)
def look(
    request: Request, device: str, kind: Text = "", start: Text = "", end: Text = "", alert: Text = ""
) -> Response:
    """Ask for evidence or a replay of the range, or for evidence of the alert."""
    if kind not in ("evidence", "replay"):
        raise ProblemError(422, "Nothing asked for", "Choose evidence or replay.")
    if alert:
        given: dict[str, str] = {"alert_id": alert}
    else:
        given = {"start": _time(start), "end": _time(end)}
    try:
        arguments = Arguments(**given)
    except ValueError:
        raise ProblemError(422, "No alert", "An alert is named by its id, 32 hexadecimal digits.") from None
    give(request, device, "evidence" if kind == "evidence" else "replay", arguments)
    return _back(device)


def shown(store: Store, device: str, now: int) -> list[dict[str, Any]]:
    """Return the latest commands as the page shows them, with what is stored of a range that was scored again."""
    with store.read() as db:
        found = stored.of_device(db, device, SHOWN)
        return [
            {
                "command": each,
                "state": each.state(now),
                "word": STATES[each.state(now)],
                "about": ", ".join(f"{key.removesuffix('_id')} {value}" for key, value in each.arguments.items()),
                "models": _compared(db, each),
            }
            for each in found
        ]


def _compared(db: Connection, given: stored.Given) -> list[tuple[ModelReplay, Sums | None]]:
    """Return each model's sums of a replay, with those that are stored of the same range."""
    if given.reply is None or not given.reply.replay:
        return []
    try:
        start, end = span(Arguments(**given.arguments))
    except ValueError:
        return []
    known = sums(db, given.device, start, end)
    return [(model, known.get(model.model)) for model in given.reply.replay]


def _time(text: str) -> str:
    """Read what a browser's field or a person wrote, in UTC."""
    try:
        return clock.iso(clock.parse_iso(text.strip()))
    except (ValueError, OverflowError):
        raise ProblemError(422, "No time", f"{text!r} is not a time as 2026-11-01T06:00, in UTC.") from None


def _back(device: str) -> Response:
    return RedirectResponse(f"/devices/{quote(device)}#commands", status_code=303)
