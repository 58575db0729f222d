"""The pages: the API's content in HTML that works without JavaScript; charts and live updates are added on top."""

from __future__ import annotations

from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Form, Query, Request
from fastapi.responses import RedirectResponse, Response
from fieldwatch_contract import clock

from fieldwatch_cloud import words
from fieldwatch_cloud.access.roles import Permission
from fieldwatch_cloud.alerts.standing import AHEAD, State
from fieldwatch_cloud.store import USER_VERDICTS, cards
from fieldwatch_cloud.store.incident_reads import of_alert
from fieldwatch_cloud.web import commands
from fieldwatch_cloud.web.api.alerts import ALERT_CURSOR, alert_fields, cursor_of, place_of
from fieldwatch_cloud.web.api.common import NOTE_LIMIT, Reads, known, store_of
from fieldwatch_cloud.web.frame import Pages, frame, html
from fieldwatch_cloud.web.problems import ProblemError
from fieldwatch_cloud.web.queries import DayBalance
from fieldwatch_cloud.web.routes import Route, needs, person
from fieldwatch_cloud.web.seen import look
from fieldwatch_cloud.web.series import HEAT_COLUMNS, SPANS, cut, stretch
from fieldwatch_cloud.web.tiles import Tiles, Wish

LEDGER_DAYS = 7
ALERTS_SHOWN = 50

router = APIRouter(include_in_schema=False, route_class=Route)


@router.get("/static/{name:path}")
@needs(Permission.OPEN)
def static(request: Request, name: str) -> Response:
    """Return a static file under its hashed name."""
    asset = request.app.state.assets.get(name)
    if asset is None:
        raise ProblemError(404, "Not Found", "No such file.")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "ETag": f'"{asset.name}"'}
    return Response(asset.content, media_type=asset.media_type, headers=headers)


@router.get("/favicon.ico")
@needs(Permission.OPEN)
def favicon(request: Request) -> Response:
    """Send browsers that ask here to the picture."""
    return RedirectResponse(request.app.state.assets.url("favicon.svg"), status_code=303)


@router.get("/")
@needs(Permission.SEE)
def fleet(
    request: Request,
    queries: Reads,
    pages: Pages,
    q: Annotated[str, Query(max_length=100)] = "",
    state: State | Literal[""] = "",
    site: Annotated[str, Query(max_length=64)] = "",
    page: Annotated[int, Query(ge=1, le=100_000)] = 1,
) -> Response:
    """All devices, worst first, or those asked for."""
    tiles: Tiles = request.app.state.tiles
    wish = Wish(q.strip(), state, site, page)
    made = tiles.get(queries, wish)
    head = frame(request, queries, "fleet") | {"position": made.position}
    return html(request, pages.render("fleet.html", fleet=made, wish=wish, **head))


@router.get("/devices/{device}")
@needs(Permission.SEE)
def device(
    request: Request,
    queries: Reads,
    pages: Pages,
    device: str,
    span: Literal["6h", "24h", "7d", "30d"] = "24h",
    start: Annotated[str, Query(alias="from", max_length=30)] = "",
    to: Annotated[str, Query(max_length=30)] = "",
) -> Response:
    """One device: scores, who made them, readings, conservation, health."""
    head = frame(request, queries, "fleet")
    now = known(queries, device)
    newest = (now.last_ts or clock.now()) + clock.SECOND
    try:
        shown = stretch(newest, span, start, to)
    except ValueError as error:
        raise ProblemError(422, "No such range", str(error)) from None
    reported, health = queries.health(device) or (None, None)
    dated = clock.parse_iso(health["ts"]) if health is not None else None
    if dated is not None and reported is not None and abs(dated - reported) <= AHEAD:
        dated = None
    heat = queries.heat(device, cut(shown.start, shown.end, None, HEAT_COLUMNS, now.period or 0))
    sensors = queries.sensors(device)
    days = queries.conservation(device, LEDGER_DAYS)
    alerts = queries.alerts(device=device, limit=10)
    body = pages.render(
        "device.html",
        device=now,
        site=now.card.site or store_of(request).incidents.routing.site(device),
        shown=shown,
        beside=shown.addresses(newest),
        spans=list(SPANS),
        health=health,
        reported=reported,
        dated=dated,
        heat=heat,
        sensors=_worst_first(sensors, heat.sensors),
        days=days,
        day_words=day_words,
        reasons=sorted({reason for day in days for reason in day.refused}),
        alerts=alerts,
        announcements=queries.announcements(device),
        announcement_words=announcement_words,
        commands=commands.shown(request.app.state.store, device, clock.now()),
        **head,
    )
    return html(request, body)


@router.post("/devices/{device}/name")
@needs(Permission.ARRANGE)
def name_device(
    request: Request,
    device: str,
    name: Annotated[str, Form(max_length=1000)] = "",
    site: Annotated[str, Form(max_length=1000)] = "",
    tags: Annotated[str, Form(max_length=1000)] = "",
) -> Response:
    """Keep what people call a device, and show it again."""
    try:
        new = cards.parse(name, site, tags)
    except ValueError as error:
        raise ProblemError(422, "Not kept", str(error)) from None
    if not store_of(request).name(device, new, person(request).name):
        raise ProblemError(404, "Unknown device", f"No device {device!r} has reported yet.")
    return RedirectResponse(f"/devices/{quote(device)}", status_code=303)


@router.get("/alerts")
@needs(Permission.SEE)
def alerts(
    request: Request,
    queries: Reads,
    pages: Pages,
    state: Literal["open", "resolved", "all"] = "open",
    device: Annotated[str, Query(max_length=64)] = "",
    cursor: Annotated[str | None, Query(pattern=ALERT_CURSOR)] = None,
) -> Response:
    """Alerts, newest first."""
    head = frame(request, queries, "alerts")
    wanted = None if state == "all" else state
    rows = queries.alerts(wanted, None, ALERTS_SHOWN + 1, place_of(cursor), device.strip())
    shown = rows[:ALERTS_SHOWN]
    query = f"state={state}" + (f"&device={quote(device)}" if device else "")
    body = pages.render(
        "alerts.html",
        alerts=shown,
        state=state,
        only=device.strip(),
        first=cursor is None,
        query=query,
        next=quote(cursor_of(shown[-1])) if len(rows) > ALERTS_SHOWN else None,
        **head,
    )
    return html(request, body)


@router.get("/alerts/{alert_id}")
@needs(Permission.SEE)
def alert(request: Request, queries: Reads, pages: Pages, alert_id: str) -> Response:
    """One alert: what, where, since when, why, and what people say of it."""
    head = frame(request, queries, "alerts")
    seen = look(queries, alert_id)
    if seen is None:
        raise ProblemError(404, "Unknown alert", "There is no such alert.")
    row = seen.alert
    with store_of(request).read() as db:
        incident = of_alert(db, alert_id)
    body = pages.render(
        "alert.html",
        incident=incident,
        seen=seen,
        alert=row,
        facts=alert_fields(row),
        choices=USER_VERDICTS,
        late=words.LATE,
        device=queries.device(row.device),
        note_limit=NOTE_LIMIT,
        others=[other for other in queries.alerts(device=row.device, limit=6) if other.alert_id != alert_id][:5],
        **head,
    )
    return html(request, body)


@router.post("/alerts/{alert_id}/verdict")
@needs(Permission.ANSWER)
def judge(
    request: Request,
    alert_id: str,
    verdict: Annotated[str, Form(max_length=16)] = "",
    note: Annotated[str, Form(max_length=20 * NOTE_LIMIT)] = "",
) -> Response:
    """Store the verdict of the form and show the alert again."""
    chosen = next((known for known in USER_VERDICTS if known == verdict), None)
    if chosen is None:
        raise ProblemError(422, "No verdict", f"verdict must be one of {', '.join(USER_VERDICTS)}.")
    text = note.strip()
    if len(text) > NOTE_LIMIT:
        raise ProblemError(422, "Note too long", f"A note has at most {NOTE_LIMIT} characters, this one {len(text)}.")
    if not store_of(request).add_verdict(alert_id, chosen, text, person(request).name):
        raise ProblemError(404, "Unknown alert", "There is no such alert.")
    return RedirectResponse(f"/alerts/{quote(alert_id)}#verdict", status_code=303)


@router.get("/api")
@needs(Permission.SEE)
def api_page(request: Request, queries: Reads, pages: Pages) -> Response:
    """What the API offers, from its own OpenAPI document."""
    document = request.app.openapi()
    operations = [
        {"method": method.upper(), "path": path, "summary": one.get("summary", ""), "says": one.get("description", "")}
        | {"parameters": [parameter["name"] for parameter in one.get("parameters", []) if parameter["in"] == "query"]}
        for path, methods in document["paths"].items()
        for method, one in methods.items()
    ]
    return html(request, pages.render("api.html", operations=operations, **frame(request, queries, "api")))


def _worst_first(sensors: list[str], worst: list[str]) -> list[str]:
    """Order the sensors with readings: those that made the score first."""
    known_ones = set(sensors)
    return [sensor for sensor in worst if sensor in known_ones] + [one for one in sensors if one not in set(worst)]


def day_words(day: DayBalance) -> tuple[str, str]:
    """Judge a day of the ledger: return a CSS class and a sentence."""
    if not day.balanced:
        return "bad", "the device's own count does not add up"
    if day.missing:
        return "bad", f"{day.missing} scored minutes are not in the store"
    if day.evicted:
        return "warn", f"{day.evicted} minutes given up on the device, announced"
    if day.pending and day.ahead < day.pending:
        return "wait", f"{day.pending - day.ahead} minutes still to come"
    if day.ahead > day.pending:
        return "good", "complete; newer minutes have arrived since the count"
    return "good", "complete"


def announcement_words(row: Any) -> str:
    """Say a gap or a bundle step in one sentence."""
    data = row.data
    if row.type == "gap":
        return words.gap(data)
    bundle = data.get("bundle")
    name = f"{bundle['name']}/{bundle['version']}" if bundle else "the bundle"
    step = data.get("transition", "a step whose record is damaged")
    what = {
        "activated": f"{name} now judges",
        "refused": f"{name} was refused",
        "rolled_back": f"back to {name}",
        "update_failed": "An update failed",
    }.get(step, step)
    return f"{what}: {data['reason']}" if data.get("reason") else what
