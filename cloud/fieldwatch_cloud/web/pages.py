"""The pages: the API's content in HTML that works without JavaScript; charts and live updates are added on top."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import dataclass
from importlib.resources import files
from typing import Annotated, Any, Literal
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request
from fastapi.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from fieldwatch_contract import clock
from jinja2 import Environment, FunctionLoader, StrictUndefined

from fieldwatch_cloud import words
from fieldwatch_cloud.alerts.standing import State, counts, fleet_notes
from fieldwatch_cloud.live import LiveFeed, Resync
from fieldwatch_cloud.store import USER_VERDICTS, Store, unpack_evidence
from fieldwatch_cloud.store.fleet import told_by
from fieldwatch_cloud.web.api import NOTE_LIMIT, Reads, alert_fields, cursor_of, known, place_of
from fieldwatch_cloud.web.assets import Assets
from fieldwatch_cloud.web.parts import Monitor
from fieldwatch_cloud.web.problems import ProblemError
from fieldwatch_cloud.web.queries import DayBalance, Queries
from fieldwatch_cloud.web.security import Session, Sessions, cookie_name, csrf_holds
from fieldwatch_cloud.web.series import HEAT_COLUMNS, SPANS, cut
from fieldwatch_cloud.web.settings import WebSettings
from fieldwatch_cloud.web.stream import Stream

FLEET_AGE = 5.0
"""Seconds for which a rendered fleet page is cached, unless an alert or a lost connection comes in."""
LEDGER_DAYS = 7
ALERTS_SHOWN = 50

router = APIRouter(include_in_schema=False)


class Renderer:
    """Templates, and the fleet rendered last."""

    def __init__(self, assets: Assets, stream: Stream) -> None:
        folder = files("fieldwatch_cloud.web") / "templates"
        self._environment = Environment(
            loader=FunctionLoader(lambda name: (folder / name).read_text(encoding="utf-8")),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.globals.update(
            asset=assets.url,
            age=words.age,
            moment=words.moment,
            second=words.second,
            number=words.number,
            times=words.times,
            size=words.size,
            duration=words.duration,
            iso=clock.iso,
            parse_iso=clock.parse_iso,
            state_words=words.STATE_WORDS,
            part_words=words.PART_WORDS,
            spark=spark_path,
            alert_what=words.alert_what,
            alert_means=words.alert_means,
            verdict_words=words.VERDICT_WORDS,
        )
        self._environment.filters["sentence"] = words.sentence
        self._stream = stream
        self._lock = threading.Lock()
        self._fleet: _Fleet | None = None

    def render(self, name: str, **context: Any) -> str:
        """Return the page."""
        return self._environment.get_template(name).render(now=clock.now(), **context)

    def fleet(self, queries: Queries) -> _Fleet:
        """Return the fleet as HTML, at most :data:`FLEET_AGE` old and never older than the newest alert."""
        live = self._stream.live
        with self._lock:
            kept = self._fleet
            if kept is None or time.monotonic() - kept.made > FLEET_AGE or _is_news(live, kept):
                number, position = live.last, self._stream.position
                devices = queries.fleet()
                standings = [one.standing for one in devices]
                html = self.render(
                    "tiles.html",
                    troubled=[one for one in devices if one.standing.condition != "normal"],
                    well=[one for one in devices if one.standing.condition == "normal"],
                    counts=counts(standings),
                    notes=fleet_notes(standings),
                )
                told = {one.id: one.told for one in devices}
                kept = self._fleet = _Fleet(html if devices else "", time.monotonic(), number, position, told)
            return kept


@dataclass(frozen=True)
class _Fleet:
    """The rendered tiles, when and at which place of the feed they were made, and what each device's report told."""

    html: str
    made: float
    number: int
    position: str
    told: dict[str, list[State]]


def _is_news(live: LiveFeed, kept: _Fleet) -> bool:
    """Tell whether something urgent happened after ``kept`` was rendered."""
    _, notices = live.after(kept.number)
    if isinstance(notices, Resync):
        return True
    return any(
        notice.kind in ("alert", "state", "event")
        or (notice.kind == "health" and told_by(notice.data) != kept.told.get(notice.device, []))
        for _, notice in notices
    )


def _renderer(request: Request) -> Renderer:
    renderer: Renderer = request.app.state.pages
    return renderer


Pages = Annotated[Renderer, Depends(_renderer)]


def spark_path(hours: list[float | None]) -> str:
    """Draw 24 hourly ratios as an SVG path, 4 units an hour and 24 high; ``static/fleet.js`` continues it.

    Linear up to the threshold at half height, logarithmic from there to ten times the threshold at the top, so that
    quiet devices differ and loud ones fit.

    >>> spark_path([0.0, 1.0, None, 10.0])
    'M0 24L4 12M12 0'
    """
    from math import log10

    parts = []
    pen = "M"
    for index, value in enumerate(hours):
        if value is None:
            pen = "M"
            continue
        height = max(0.0, value) / 2 if value <= 1 else 0.5 + 0.5 * min(1.0, log10(value))
        parts.append(f"{pen}{index * 4} {round(24 * (1 - height))}")
        pen = "L"
    return "".join(parts)


def html(request: Request, body: str, status: int = 200) -> Response:
    """Return a page, or 304 where the browser has it."""
    etag = f'W/"{hashlib.sha256(body.encode()).hexdigest()[:20]}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if status == 200 and etag in [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return HTMLResponse(body, status_code=status, headers=headers)


def error_page(request: Request, status: int, title: str, detail: str) -> Response:
    """Return an error in the manner of the other pages."""
    session = getattr(request.state, "session", None)
    monitor: Monitor = request.app.state.monitor
    inside = session is not None
    frame = {"position": "", "here": "", "open_alerts": 0, "inside": inside, "down": monitor.down() if inside else []}
    body = _renderer(request).render("error.html", status=status, title=title, detail=detail, **frame)
    return HTMLResponse(body, status_code=status, headers={"Cache-Control": "no-store"})


@router.get("/start")
def start(request: Request, pages: Pages, token: Annotated[str, Query(max_length=200)] = "") -> Response:
    """Exchange the start token for a session, or say how to get in."""
    settings: WebSettings = request.app.state.settings
    sessions: Sessions = request.app.state.sessions
    if request.state.session is not None:
        return RedirectResponse("/", status_code=303)
    cookie = sessions.exchange(token) if token else None
    if cookie is None:
        frame = {"position": "", "here": "", "open_alerts": 0, "inside": False, "down": []}
        body = pages.render("start.html", spent=bool(token), **frame)
        return HTMLResponse(body, status_code=403 if token else 401, headers={"Cache-Control": "no-store"})
    answer = RedirectResponse("/", status_code=303, headers={"Cache-Control": "no-store"})
    answer.set_cookie(cookie_name(settings), cookie, httponly=True, samesite="lax", path="/")
    return answer


@router.get("/healthz")
def healthz(request: Request) -> Response:
    """Tell whether each part of this server works: 503 where one does not."""
    monitor: Monitor = request.app.state.monitor
    parts = monitor.parts()
    well = all(part.ok for part in parts)
    told = {
        part.name: {"status": "ok"}
        if part.ok
        else {"status": "down", "says": part.says, "since": clock.iso(part.since or clock.now())}
        for part in parts
    }
    body = {"status": "ok" if well else "down", "parts": told}
    return JSONResponse(body, status_code=200 if well else 503, headers={"Cache-Control": "no-store"})


@router.get("/static/{name:path}")
def static(request: Request, name: str) -> Response:
    """Return a static file under its hashed name."""
    asset = request.app.state.assets.get(name)
    if asset is None:
        raise ProblemError(404, "Not Found", "No such file.")
    headers = {"Cache-Control": "public, max-age=31536000, immutable", "ETag": f'"{asset.name}"'}
    return Response(asset.content, media_type=asset.media_type, headers=headers)


@router.get("/favicon.ico")
def favicon(request: Request) -> Response:
    """Send browsers that ask here to the picture."""
    return RedirectResponse(request.app.state.assets.url("favicon.svg"), status_code=303)


@router.get("/")
def fleet(request: Request, queries: Reads, pages: Pages) -> Response:
    """All devices, worst first."""
    made = pages.fleet(queries)
    frame = _frame(request, queries, "fleet") | {"position": made.position}
    return html(request, pages.render("fleet.html", fleet=made, **frame))


@router.get("/devices/{device}")
def device(
    request: Request, queries: Reads, pages: Pages, device: str, span: Literal["6h", "24h", "7d", "30d"] = "24h"
) -> Response:
    """One device: scores, who made them, readings, conservation, health."""
    frame = _frame(request, queries, "fleet")
    now = known(queries, device)
    end = (now.last_ts or clock.now()) + clock.SECOND
    start = end - SPANS[span]
    health = queries.health(device)
    heat = queries.heat(device, cut(start, end, None, HEAT_COLUMNS))
    sensors = queries.sensors(device)
    days = queries.conservation(device, LEDGER_DAYS)
    alerts = queries.alerts(device=device, limit=10)
    body = pages.render(
        "device.html",
        device=now,
        span=span,
        spans=list(SPANS),
        start=start,
        end=end,
        health=health[1] if health else None,
        health_at=health[0] if health else None,
        heat=heat,
        sensors=_worst_first(sensors, heat.sensors),
        days=days,
        day_words=day_words,
        reasons=sorted({reason for day in days for reason in day.refused}),
        alerts=alerts,
        announcements=queries.announcements(device),
        announcement_words=announcement_words,
        **frame,
    )
    return html(request, body)


@router.get("/alerts")
def alerts(
    request: Request,
    queries: Reads,
    pages: Pages,
    state: Literal["open", "resolved", "all"] = "open",
    device: Annotated[str | None, Query(max_length=64)] = None,
    cursor: Annotated[str | None, Query(max_length=240)] = None,
) -> Response:
    """Alerts, newest first."""
    frame = _frame(request, queries, "alerts")
    wanted = None if state == "all" else state
    rows = queries.alerts(wanted, device or None, ALERTS_SHOWN + 1, place_of(cursor))
    shown = rows[:ALERTS_SHOWN]
    query = f"state={state}" + (f"&device={quote(device)}" if device else "")
    body = pages.render(
        "alerts.html",
        alerts=shown,
        state=state,
        only=device or "",
        first=cursor is None,
        query=query,
        next=quote(cursor_of(shown[-1])) if len(rows) > ALERTS_SHOWN else None,
        **frame,
    )
    return html(request, body)


@router.get("/alerts/{alert_id}")
def alert(request: Request, queries: Reads, pages: Pages, alert_id: str) -> Response:
    """One alert: what, where, since when, why, and what people say of it."""
    frame = _frame(request, queries, "alerts")
    found = queries.alert(alert_id)
    if found is None:
        raise ProblemError(404, "Unknown alert", "There is no such alert.")
    row = found.alert
    evidence = queries.evidence(alert_id)
    # That of the recovery shows the sensors when they were well again.
    telling = [one for one in evidence if one[0] != "resolved"] or evidence
    newest = unpack_evidence(telling[-1][2]) if telling else None
    session: Session | None = request.state.session
    body = pages.render(
        "alert.html",
        alert=row,
        facts=alert_fields(row),
        events=found.events,
        verdicts=found.verdicts,
        choices=USER_VERDICTS,
        evidence=newest,
        table=_table(newest) if newest else [],
        late=words.LATE,
        device=queries.device(row.device),
        csrf=session.csrf if session else "",
        note_limit=NOTE_LIMIT,
        others=[other for other in queries.alerts(device=row.device, limit=6) if other.alert_id != alert_id][:5],
        **frame,
    )
    return html(request, body)


@router.post("/alerts/{alert_id}/verdict")
async def judge(request: Request, alert_id: str) -> Response:
    """Store the verdict of the form and show the alert again."""
    form = await request.form()
    verdict, note, csrf = (form.get(name) for name in ("verdict", "note", "csrf"))
    if not csrf_holds(request.state.session, csrf if isinstance(csrf, str) else None):
        raise ProblemError(403, "Wrong CSRF token", "Load the page again and repeat.")
    chosen = next((known for known in USER_VERDICTS if known == verdict), None)
    if chosen is None:
        raise ProblemError(422, "No verdict", f"verdict must be one of {', '.join(USER_VERDICTS)}.")
    text = note.strip() if isinstance(note, str) else ""
    if len(text) > NOTE_LIMIT:
        raise ProblemError(422, "Note too long", f"A note has at most {NOTE_LIMIT} characters, this one {len(text)}.")
    store: Store = request.app.state.store
    from starlette.concurrency import run_in_threadpool

    if not await run_in_threadpool(store.add_verdict, alert_id, chosen, text):
        raise ProblemError(404, "Unknown alert", "There is no such alert.")
    return RedirectResponse(f"/alerts/{quote(alert_id)}#verdict", status_code=303)


@router.get("/api")
def api_page(request: Request, queries: Reads, pages: Pages) -> Response:
    """What the API offers, from its own OpenAPI document."""
    document = request.app.openapi()
    operations = [
        {"method": method.upper(), "path": path, "summary": one.get("summary", ""), "says": one.get("description", "")}
        | {"parameters": [parameter["name"] for parameter in one.get("parameters", []) if parameter["in"] == "query"]}
        for path, methods in document["paths"].items()
        for method, one in methods.items()
    ]
    return html(request, pages.render("api.html", operations=operations, **_frame(request, queries, "api")))


def _frame(request: Request, queries: Queries, here: str) -> dict[str, Any]:
    """Return what every page's head shows; asked for before anything else, so that no news falls between."""
    stream: Stream = request.app.state.stream
    monitor: Monitor = request.app.state.monitor
    frame = {"position": stream.position, "here": here, "inside": True}
    return frame | {"down": monitor.down(), "open_alerts": queries.open_alerts()}


def _worst_first(sensors: list[str], worst: list[str]) -> list[str]:
    """Order the sensors with readings: those that made the score first."""
    known_ones = set(sensors)
    return [sensor for sensor in worst if sensor in known_ones] + [one for one in sensors if one not in set(worst)]


def _table(evidence: Any) -> list[dict[str, Any]]:
    """Say each drawn sensor in numbers: its newest reading, its highest distance from training, in scales."""
    rows = []
    for sensor, values, mean, scale in zip(
        evidence.sensors, evidence.values, evidence.mean, evidence.scale, strict=False
    ):
        numbers = [value for value in values if value is not None]
        if not numbers:
            continue
        far = max(numbers, key=lambda value: abs(value - mean))
        rows.append(
            {
                "sensor": sensor,
                "last": numbers[-1],
                "far": far,
                "z": (far - mean) / scale if scale > 0 else None,
                "low": mean - 3 * scale,
                "high": mean + 3 * scale,
            }
        )
    return rows


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
