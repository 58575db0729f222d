"""What every page has: the renderer, its head, and how it answers.

Templates write addresses from the root (``/alerts``); under a path (``web.url = "https://lab.example/watch/"``) the
renderer puts the path before them. Text is escaped, so that only real attributes look like one.
"""

from __future__ import annotations

import hashlib
import re
from importlib.resources import files
from typing import Annotated, Any

from fastapi import Depends, Request
from fastapi.responses import HTMLResponse, Response
from fieldwatch_contract import clock
from jinja2 import Environment, FunctionLoader, StrictUndefined

from fieldwatch_cloud import words
from fieldwatch_cloud.access.roles import NOBODY, Permission, Principal
from fieldwatch_cloud.web.assets import Assets
from fieldwatch_cloud.web.parts import Monitor
from fieldwatch_cloud.web.queries import Queries
from fieldwatch_cloud.web.stream import Stream

_ROOTED = re.compile(r'( (?:href|src|action|formaction)=")/(?!/)')


class Renderer:
    """The templates; ``prefix``: the path under which people reach the pages."""

    def __init__(self, assets: Assets, prefix: str = "") -> None:
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
            part_tasks=words.PART_TASKS,
            alert_what=words.alert_what,
            alert_means=words.alert_means,
            verdict_words=words.VERDICT_WORDS,
            audience_words=words.AUDIENCE_WORDS,
            span_words=words.span,
        )
        self._environment.filters["sentence"] = words.sentence
        self._prefix = prefix

    def render(self, name: str, /, **context: Any) -> str:
        """Return the page."""
        page = self._environment.get_template(name).render(now=clock.now(), prefix=self._prefix, **context)
        return _ROOTED.sub(rf"\g<1>{self._prefix}/", page) if self._prefix else page


def _renderer(request: Request) -> Renderer:
    renderer: Renderer = request.app.state.pages
    return renderer


Pages = Annotated[Renderer, Depends(_renderer)]


def html(request: Request, body: str) -> Response:
    """Return a page, or 304 where the browser has it."""
    etag = f'W/"{hashlib.sha256(body.encode()).hexdigest()[:20]}"'
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    if etag in [tag.strip() for tag in request.headers.get("if-none-match", "").split(",")]:
        return Response(status_code=304, headers=headers)
    return HTMLResponse(body, headers=headers)


def frame(request: Request, queries: Queries, here: str) -> dict[str, Any]:
    """Return what every page's head shows; asked for before anything else, so that no news falls between."""
    stream: Stream = request.app.state.stream
    monitor: Monitor = request.app.state.monitor
    who: Principal = request.state.principal
    shown = {"position": stream.position, "here": here, "inside": True, "who": who, "csrf": who.csrf}
    return shown | {"may": who.may, "down": monitor.down(), "unanswered": queries.unanswered()}


def outside() -> dict[str, Any]:
    """Return the same for a page that everybody may see."""
    shown = {"position": "", "here": "", "inside": False, "who": NOBODY, "csrf": ""}
    return shown | {"may": NOBODY.may, "down": [], "unanswered": 0}


def error_page(request: Request, status: int, title: str, detail: str) -> Response:
    """Return an error in the manner of the other pages."""
    who: Principal = getattr(request.state, "principal", NOBODY)
    monitor: Monitor = request.app.state.monitor
    shown = outside()
    if who.may(Permission.SEE):
        shown |= {"inside": True, "who": who, "csrf": who.csrf, "may": who.may, "down": monitor.down()}
    body = _renderer(request).render("error.html", status=status, title=title, detail=detail, **shown)
    return HTMLResponse(body, status_code=status, headers={"Cache-Control": "no-store"})
