"""The enrolment service: the desk behind HTTPS, apart from the dashboard.

Devices reach it from their laboratories, people reach the dashboard: two doors, so that opening the one opens nothing
of the other. It has three routes, answers nobody without a token or a certificate, and its own certificate comes from
the authority that the token pins. A flood of guesses is slowed down: 128 random bits cannot be guessed, but each guess
costs us a transaction. Who floods is turned away alone: devices elsewhere enrol and renew meanwhile.
"""

from __future__ import annotations

import ipaddress
import ssl
import threading
import time
from collections import deque
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response
from fieldwatch_contract.enrolment import AUTHORITY, ENROL, RENEW, Enrolled, EnrolRequest, Renewed, RenewRequest

from fieldwatch_cloud.enrolment.authority import Refused
from fieldwatch_cloud.enrolment.desk import Desk
from fieldwatch_cloud.enrolment.folder import FolderError
from fieldwatch_cloud.listen import listen

BODY_LIMIT = 32_768
"""Bytes of a request; a certificate request takes half a kilobyte."""
REFUSALS_A_MINUTE = 120
"""Refusals of one network before its requests are turned away for the rest of a minute (429, to be tried again)."""
NETWORKS = 10_000
"""Networks whose refusals are remembered; the one that was refused first is forgotten for the next."""


class Brake:
    """Counts refusals of the last minute; no more than :data:`REFUSALS_A_MINUTE` are looked at."""

    def __init__(self) -> None:
        self._refusals: dict[str, deque[float]] = {}
        self._lock = threading.Lock()

    def count(self, network: str) -> None:
        """A request from there was refused."""
        with self._lock:
            if network not in self._refusals and len(self._refusals) == NETWORKS:
                del self._refusals[next(iter(self._refusals))]
            self._refusals.setdefault(network, deque(maxlen=REFUSALS_A_MINUTE)).append(time.monotonic())

    def on(self, network: str) -> bool:
        """Whether requests from there are turned away."""
        with self._lock:
            times = self._refusals.get(network)
            return times is not None and len(times) == REFUSALS_A_MINUTE and time.monotonic() - times[0] < 60


def network(address: str) -> str:
    """Return the network of an address: itself, or with IPv6 the /64, as each machine draws addresses from one.

    >>> network("192.0.2.7"), network("2001:db8::7"), network("2001:db8::8")
    ('192.0.2.7', '2001:db8::/64', '2001:db8::/64')
    >>> network("::ffff:192.0.2.7")  # as a socket of both kinds names it
    '192.0.2.7'
    """
    try:
        found = ipaddress.IPv6Address(address.partition("%")[0])
    except ValueError:
        return address
    return str(found.ipv4_mapped or ipaddress.IPv6Network((found, 64), strict=False))


def create_app(desk: Desk) -> FastAPI:
    """Return the application with its three routes."""
    app = FastAPI(title="Fieldwatch enrolment", docs_url=None, redoc_url=None, openapi_url=None)
    brake = Brake()

    @app.exception_handler(Refused)
    def refused(request: Request, error: Exception) -> JSONResponse:
        brake.count(_from(request))
        return JSONResponse({"error": str(error)}, 403)

    @app.middleware("http")
    async def slow_down(request: Request, call_next: Any) -> Response:
        if brake.on(_from(request)):
            return JSONResponse({"error": "too many refused requests: try again in a minute"}, 429)
        if request.method == "POST" and not _short(request.headers.get("content-length", "")):
            return JSONResponse({"error": f"a request has a Content-Length of at most {BODY_LIMIT}"}, 413)
        answer: Response = await call_next(request)
        return answer

    @app.get(AUTHORITY)
    def authority() -> Response:
        return Response(desk.ca, media_type="application/x-pem-file")

    @app.post(ENROL)
    def enrol(request: EnrolRequest) -> Enrolled:
        return desk.enrol(request)

    @app.post(RENEW)
    def renew(request: RenewRequest) -> Renewed:
        return desk.renew(request)

    return app


def _from(request: Request) -> str:
    return network(request.client.host if request.client else "")


def _short(length: str) -> bool:
    return length.isdecimal() and int(length) <= BODY_LIMIT


class Service:
    """The application on a port, in a thread of its own."""

    def __init__(self, desk: Desk, host: str, port: int, certificate: Path, key: Path) -> None:
        self._host, self._port = host, port
        config = uvicorn.Config(
            create_app(desk),
            host=host,
            port=port,
            ssl_certfile=str(certificate),
            ssl_keyfile=str(key),
            ssl_version=ssl.PROTOCOL_TLS_SERVER,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,  # anybody can write one, and would be turned away under a new address each time
            h11_max_incomplete_event_size=65_536,
            limit_concurrency=200,
            timeout_keep_alive=5,
        )
        self._server = uvicorn.Server(config)
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen; returns when the port answers. Raises :class:`.listen.PortError` where it cannot be had, and
        :class:`.folder.FolderError` where the server's certificate cannot be used."""
        config = self._server.config
        try:
            config.load()
        except (OSError, ValueError) as error:
            raise FolderError(
                f"{config.ssl_certfile} and {config.ssl_keyfile} cannot be used ({error}): "
                "'fieldwatch-cloud enrolment certify' makes new ones"
            ) from error
        sock = listen(self._host, self._port, "enrolment")
        self._thread = threading.Thread(target=self._server.run, args=([sock],), name="enrolment", daemon=True)
        self._thread.start()
        while not self._server.started and self._thread.is_alive():
            time.sleep(0.02)

    def stop(self) -> None:
        """Finish what is being answered, then end."""
        self._server.should_exit = True
        if self._thread is not None:
            self._thread.join(10)
