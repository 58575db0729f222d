"""Errors as RFC 9457 problem details: one shape for every error that the API or a guard gives."""

from __future__ import annotations

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
    """Raised by a route; becomes the answer."""

    def __init__(self, status: int, title: str, detail: str) -> None:
        super().__init__(detail)
        self.status = status
        self.title = title
        self.detail = detail


def problem(status: int, title: str, detail: str, errors: list[dict[str, Any]] | None = None) -> JSONResponse:
    """Return the response."""
    body = Problem(title=title or HTTPStatus(status).phrase, status=status, detail=detail, errors=errors or [])
    return JSONResponse(body.model_dump(exclude_defaults=False), status_code=status, media_type=MEDIA_TYPE)
