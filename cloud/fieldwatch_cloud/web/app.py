"""The application: store and live feed in, ASGI application out."""

from __future__ import annotations

import json
import logging
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import uvicorn
from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import RedirectResponse, Response
from sqlalchemy.exc import SQLAlchemyError
from starlette.exceptions import HTTPException
from starlette.middleware.gzip import GZipMiddleware
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from fieldwatch_cloud.access.accounts import Accounts
from fieldwatch_cloud.access.limits import Limiter
from fieldwatch_cloud.access.sessions import Sessions
from fieldwatch_cloud.live import LiveFeed
from fieldwatch_cloud.store import Store
from fieldwatch_cloud.web import api, commands, entry, frame, health, incidents, pages, people, server
from fieldwatch_cloud.web import telling as notifications
from fieldwatch_cloud.web.api.alerts import ALERT_CURSOR
from fieldwatch_cloud.web.api.common import TIME
from fieldwatch_cloud.web.assets import Assets
from fieldwatch_cloud.web.parts import Faulty, Monitor, Watched
from fieldwatch_cloud.web.problems import ProblemError, problem
from fieldwatch_cloud.web.queries import Queries
from fieldwatch_cloud.web.routes import SignInError
from fieldwatch_cloud.web.security import CONFIGURED, Guard
from fieldwatch_cloud.web.settings import WebSettings
from fieldwatch_cloud.web.stream import Stream
from fieldwatch_cloud.web.tiles import Tiles

log = logging.getLogger("fieldwatch.web")

_DESCRIPTION = """What the devices reported, and people's verdicts on it.

A script sends `Authorization: Bearer …` with an API token, which people make on their account page. `x-permission` of
an operation is the scope that the token needs. A session sends its CSRF token as `X-CSRF-Token` with whatever changes
something. Errors are RFC 9457 problem details; lists come in pages with a `next` cursor; times are UTC."""


ROUTERS = (
    *api.ROUTERS,
    people.api,
    pages.router,
    commands.router,
    health.router,
    incidents.router,
    notifications.router,
    server.router,
    entry.router,
    people.router,
)
"""All routes. Each names its permission: a router of another route class could not be trusted to ask."""


def create_app(
    store: Store,
    live: LiveFeed,
    settings: WebSettings,
    ingest: Watched | None = None,
    telling: Faulty | None = None,
) -> FastAPI:
    """Return the dashboard and API over ``store``; ``live`` is the feed that ingest publishes to.

    ``ingest``, ``telling``: those of this process, or :class:`.parts.Elsewhere`; the pages show their health.
    Without accounts ``settings.start_url`` opens it, and ``app.state.accounts.admit(token)`` makes one more such link.
    """
    monitor = Monitor(store, ingest, telling)

    @asynccontextmanager
    async def watched(_: FastAPI) -> AsyncIterator[None]:
        monitor.start()
        try:
            yield
        finally:
            monitor.stop()

    app = FastAPI(
        title="Fieldwatch",
        version="1",
        lifespan=watched,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        openapi_url=None,
    )
    accounts, sessions, limits = Accounts(store), Sessions(store), Limiter()
    if not accounts.exist():
        accounts.admit(settings.start_token)
    app.state.settings = settings
    app.state.store = store
    app.state.queries = Queries(store.engine)
    app.state.accounts = accounts
    app.state.sessions = sessions
    app.state.limits = limits
    app.state.monitor = monitor
    app.state.ingest = ingest
    app.state.telling = telling
    app.state.stream = Stream(live)
    app.state.assets = Assets()
    app.state.pages = frame.Renderer(app.state.assets, settings.address.prefix)
    app.state.tiles = Tiles(app.state.pages, app.state.stream, store.incidents)
    app.state.still_allowed = _still_allowed

    for router in ROUTERS:
        app.include_router(router)
    app.add_exception_handler(ProblemError, _on_problem)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(SQLAlchemyError, _on_database)
    app.add_middleware(GZipMiddleware, minimum_size=1000, compresslevel=6)
    app.add_middleware(Guard, settings=settings, sessions=sessions, limits=limits)
    app.add_middleware(Head)
    _describe_security(app)
    return app


class Head:
    """Answers HEAD as GET without the body; the framework answers 405. A stream has no end, so it has no HEAD."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http" or scope["method"] != "HEAD" or scope["path"].endswith("/events"):
            await self.app(scope, receive, send)
            return

        async def without_body(message: Message) -> None:
            await send({**message, "body": b""} if message["type"] == "http.response.body" else message)

        await self.app(dict(scope, method="GET"), receive, without_body)


class _Server(uvicorn.Server):
    """Says when it can be reached, and ends the event streams before it waits for open connections: those never end
    by themselves.
    """

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        stream: Stream = self.config.app.state.stream  # type: ignore[union-attr]
        stream.close()
        await super().shutdown(sockets)


def make_server(app: FastAPI, settings: WebSettings, ready: Callable[[], None] = lambda: None) -> uvicorn.Server:
    """Return the server for ``app``: ``run()`` it, or ``await serve()`` beside other tasks.

    ``ready`` is called once the port takes connections. A stop waits two seconds for answers that are under way.
    """
    return _Server(
        uvicorn.Config(
            app,
            host=settings.host,
            port=settings.port,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            ssl_certfile=settings.certificate,
            ssl_keyfile=settings.key,
            timeout_graceful_shutdown=2,
        ),
        ready,
    )


def _still_allowed(request: Request) -> Callable[[], bool]:
    """Return a question that a long answer asks again and again: may this reader still read?"""
    sessions: Sessions = request.app.state.sessions
    settings: WebSettings = request.app.state.settings
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        if request.state.principal is CONFIGURED:
            return lambda: True
        return lambda: sessions.find_token(token.strip()) is not None
    cookie = request.cookies.get(settings.address.cookie)
    return lambda: sessions.find(cookie, touch=False) is not None


def _for_people(request: Request) -> bool:
    return not request.url.path.startswith(("/api/v1", "/static/", "/healthz", "/readyz", "/metrics"))


def _answer(
    request: Request,
    status: int,
    title: str,
    detail: str,
    errors: list[dict[str, Any]] | None = None,
    wait: float | None = None,
) -> Response:
    if _for_people(request):
        return frame.error_page(request, status, title, detail)
    return problem(status, title, detail, errors, wait)


async def _on_problem(request: Request, error: Exception) -> Response:
    assert isinstance(error, ProblemError)
    if isinstance(error, SignInError) and _for_people(request):
        here = f"{request.url.path}?{request.url.query}" if request.url.query else request.url.path
        then = f"?then={quote(here)}" if request.method == "GET" and here != "/" else ""
        return RedirectResponse(f"/sign-in{then}", status_code=303)
    return _answer(request, error.status, error.title, error.detail, None, error.wait)


async def _on_http(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    detail = f"{request.method} {request.url.path} is not served here." if error.status_code in (404, 405) else ""
    answer = _answer(request, error.status_code, str(error.detail), detail)
    answer.headers.update(error.headers or {})
    return answer


async def _on_invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    found = [{"where": [str(part) for part in one["loc"]], "what": _what(one)} for one in error.errors()]
    first = f"{'.'.join(found[0]['where'])}: {found[0]['what']}" if found else ""
    return _answer(request, 422, "Wrong parameter", first, json.loads(json.dumps(found, default=str)))


def _what(error: Any) -> str:
    """Say in words what the pattern of a parameter means."""
    pattern = error.get("ctx", {}).get("pattern")
    known = {
        TIME: "must be a time from 1970 to 2099 as 2026-01-17T10:00:00Z",
        ALERT_CURSOR: "must be the 'next' of the last page",
    }
    return known.get(pattern, str(error["msg"]))


async def _on_database(request: Request, error: Exception) -> Response:
    log.error("%s %s: %s", request.method, request.url.path, error)
    cause = getattr(error, "orig", None) or error
    return _answer(request, 503, "Database not usable", f"{str(cause).capitalize()}. /healthz tells how the parts are.")


def _describe_security(app: FastAPI) -> None:
    """Name both ways in in the OpenAPI document, and drop FastAPI's own error shape, which is never sent."""
    original = app.openapi

    def openapi() -> dict[str, Any]:
        document = original()
        components = document.setdefault("components", {})
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "session": {"type": "apiKey", "in": "cookie", "name": app.state.settings.address.cookie},
        }
        document["security"] = [{"bearer": []}, {"session": []}]
        for name in ("HTTPValidationError", "ValidationError"):
            components.get("schemas", {}).pop(name, None)
        return document

    app.openapi = openapi  # type: ignore[method-assign]
