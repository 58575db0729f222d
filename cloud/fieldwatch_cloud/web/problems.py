"""Errors as RFC 9457 problem details: one shape for every error that the API or a guard gives."""

from __future__ import annotations

import math
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, Field
from starlette.responses import JSONResponse

MEDIA_TYPE = "application/problem+json"


class Problem(BaseModel):
    """RFC 9457. ``type`` is always ``about:blank``: the status and the text say it all."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    errors: list[dict[str, Any]] = Field(default=[], description="which parameters are wrong, and why")


class ProblemError(Exception):
    """Raised by a route; becomes the answer. ``wait``: seconds after which trying again makes sense."""

    def __init__(self, status: int, title: str, detail: str, wait: float | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail
        self.wait = wait


def problem(
    status: int,
    title: str,
    detail: str,
    errors: list[dict[str, Any]] | None = None,
    wait: float | None = None,
) -> JSONResponse:
    """Return the response."""
    body = Problem(title=title or HTTPStatus(status).phrase, status=status, detail=detail, errors=errors or [])
    headers = {"Retry-After": str(math.ceil(wait))} if wait is not None else None
    if status == HTTPStatus.UNAUTHORIZED:
        headers = {"WWW-Authenticate": "Bearer"}
    return JSONResponse(body.model_dump(exclude_defaults=False), status, headers, MEDIA_TYPE)
