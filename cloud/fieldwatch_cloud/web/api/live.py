"""The stream of what changes."""

from __future__ import annotations

from typing import Annotated

from fastapi import Header, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse

from fieldwatch_cloud.access.roles import Permission
from fieldwatch_cloud.web.api.common import make_router, problem_of
from fieldwatch_cloud.web.problems import ProblemError
from fieldwatch_cloud.web.routes import needs
from fieldwatch_cloud.web.stream import STREAMS, Stream

router = make_router()


def _stream(request: Request) -> Stream:
    stream: Stream = request.app.state.stream
    return stream


@router.get(
    "/events",
    summary="What changes, as it changes",
    response_class=StreamingResponse,
    responses={
        200: {"content": {"text/event-stream": {}}, "description": "server-sent events; ids count up"},
        503: problem_of("Too many streams are open"),
    },
)
@needs(Permission.SEE)
async def events(
    request: Request,
    after: Annotated[str | None, Query(max_length=40, description="id of the last event seen")] = None,
    last_event_id: Annotated[str | None, Header(max_length=40)] = None,
) -> Response:
    """Follow the live feed: ``result, alert, state, health, event, verdict``, and ``resync`` and ``beat``."""
    stream = _stream(request)
    if stream.open >= STREAMS:
        raise ProblemError(503, "Too many streams", f"{STREAMS} event streams are open; close some windows.")
    return StreamingResponse(
        stream.follow(last_event_id or after, request.app.state.still_allowed(request)),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


@router.get("/openapi.json", include_in_schema=False)
@needs(Permission.SEE)
def openapi(request: Request) -> JSONResponse:
    """Return this API's OpenAPI document."""
    return JSONResponse(request.app.openapi())
