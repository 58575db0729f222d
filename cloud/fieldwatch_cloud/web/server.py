"""The page about this server itself: whether each part works, what came in, and what it could not read."""

from __future__ import annotations

from fastapi import APIRouter, Request
from fastapi.responses import Response
from sqlalchemy import func, select

from fieldwatch_cloud.access.roles import Permission
from fieldwatch_cloud.store import incident_reads as reads
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.web.api.common import Reads, store_of
from fieldwatch_cloud.web.frame import Pages, frame, html
from fieldwatch_cloud.web.routes import Route, needs

SHOWN = 20

router = APIRouter(include_in_schema=False, route_class=Route)


@router.get("/server")
@needs(Permission.SEE)
def server(request: Request, queries: Reads, pages: Pages) -> Response:
    """The parts of this server, one by one."""
    head = frame(request, queries, "server")
    state, q = request.app.state, t.quarantine.c
    parts = state.monitor.parts()
    body: dict[str, object] = {"parts": parts, "streams": state.stream.open, "counts": {}, "aside": [], "devices": {}}
    if all(part.ok for part in parts if part.name == "database"):
        with store_of(request).read() as db:
            newest = select(q.received, q.topic, q.reason).order_by(q.id.desc()).limit(SHOWN)
            devices = select(t.device.c.status, func.count()).group_by(t.device.c.status)
            body |= {
                "counts": reads.counts(db),
                "aside": db.execute(newest).all(),
                "devices": {row[0]: row[1] for row in db.execute(devices)},
            }
    ingest, telling = state.ingest, state.telling
    body |= {"came": vars(ingest.stats) if ingest is not None else {}}
    body |= {"arrived": telling.chain.arrived if telling is not None else None, "tells": telling is not None}
    return html(request, pages.render("server.html", **body, **head))
