"""An update repository for tests, and a web server that can be told to fail or to lie in every way we know of."""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from fieldwatch_contract.policy import SHARES
from fieldwatch_trainer.release import actions, work
from fieldwatch_trainer.release.metadata import Published

from tests.conftest import running

UNJUDGED: dict[str, Any] = {"accept": ("no-gates",)}
"""Test bundles come without a training, so nobody has judged them."""


@dataclass
class Site:
    """A repository and its keys, made and changed by the functions behind ``fieldwatch-release``."""

    repo: Path
    keys: Path

    @classmethod
    def make(cls, folder: Path, now: datetime | None = None) -> Site:
        site = cls(folder / "repo", folder / "repo-keys")
        actions.init(site.repo, site.keys, now)
        return site

    @property
    def root(self) -> bytes:
        """What an installer embeds."""
        return self.root_file.read_bytes()

    @property
    def root_file(self) -> Path:
        return self.repo / work.ROOT

    def publish(self, data: bytes, channel: str = "stable", bp: int = SHARES, **more: Any) -> Published:
        path = self.repo.with_name("bundle.zip")
        path.write_bytes(data)
        return actions.publish(self.repo, [self.keys], path, channel, bp, **(UNJUDGED | more))

    def file(self, published: Published) -> Path:
        """Where a published bundle lies."""
        folder, _, name = published.target.rpartition("/")
        return self.repo / "targets" / folder / f"{published.sha256}.{name}"


Answer = Callable[[SimpleHTTPRequestHandler], None]


@dataclass
class Server:
    """A static file server with a log of requests; ``answers`` replaces what it says to paths that contain a key."""

    port: int
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    answers: dict[str, Answer] = field(default_factory=dict)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/"


@contextmanager
def serve(folder: Path, tls: ssl.SSLContext | None = None) -> Iterator[Server]:
    """Serve a folder on a free port of 127.0.0.1 until the end of the block."""
    state = Server(0)

    class Handler(SimpleHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append((self.path, self.headers.get("Range")))
            for key, answer in state.answers.items():
                if key in self.path:
                    try:
                        answer(self)
                    except (BrokenPipeError, ConnectionResetError):
                        self.close_connection = True
                    return
            super().do_GET()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    if tls is not None:  # whoever says nothing keeps their own thread waiting only
        server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    with running(server) as state.port:
        yield state


def status(code: int) -> Answer:
    """Answer with an error."""
    return lambda handler: handler.send_error(code)


def body(data: bytes, kind: str = "application/octet-stream", claim: int | None = None) -> Answer:
    """Answer 200 with these bytes, whatever was asked for; ``claim`` is a false Content-Length."""

    def answer(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Type", kind)
        handler.send_header("Content-Length", str(len(data) if claim is None else claim))
        handler.end_headers()
        handler.wfile.write(data)
        handler.close_connection = True

    return answer


def endless(chunk: bytes = b"x" * 65536) -> Answer:
    """Answer 200 and never stop."""

    def answer(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.end_headers()
        while True:
            handler.wfile.write(chunk)

    return answer


def drip(data: bytes, pause: float) -> Answer:
    """Answer 200, one byte a ``pause``."""

    def answer(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for byte in data:
            handler.wfile.write(bytes([byte]))
            handler.wfile.flush()
            time.sleep(pause)

    return answer


def ranged(data: bytes, cut: int | None = None, obey: bool = True) -> Answer:
    """Answer Range requests as object stores do; close the connection after ``cut`` bytes of the body.

    ``obey=False``: ignore the Range and send everything from the start, as simple servers do.
    """

    def answer(handler: SimpleHTTPRequestHandler) -> None:
        wanted = handler.headers.get("Range")
        start = int(wanted.removeprefix("bytes=").rstrip("-")) if wanted and obey else 0
        if start >= len(data):
            handler.send_error(416)
            return
        handler.send_response(206 if start else 200)
        if start:
            handler.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        handler.send_header("Content-Length", str(len(data) - start))
        handler.end_headers()
        handler.wfile.write(data[start : len(data) if cut is None else cut])
        handler.close_connection = True

    return answer


def stall(data: bytes, after: int) -> Answer:
    """Answer 200, send the first ``after`` bytes, and then nothing for a minute."""

    def answer(handler: SimpleHTTPRequestHandler) -> None:
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data[:after])
        handler.wfile.flush()
        time.sleep(60)

    return answer
