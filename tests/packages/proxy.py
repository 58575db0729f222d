"""A proxy as laboratories have it: opens connections for who says name and password, and alone knows some names."""

from __future__ import annotations

import base64
import select
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.conftest import running


@dataclass
class Proxy:
    """``known``: the port of this machine behind each ``host:port``; ``asked``: what was opened, ``refused``: what was
    asked for by strangers, both in order.
    """

    known: Mapping[str, int]
    port: int = 0
    asked: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@contextmanager
def proxy(login: str, known: Mapping[str, int]) -> Iterator[Proxy]:
    """Run it on a free port of 127.0.0.1 until the end of the block; ``login``: ``name:password``."""
    state = Proxy(known)
    wanted = f"Basic {base64.b64encode(login.encode()).decode()}"

    class Handler(BaseHTTPRequestHandler):
        def do_CONNECT(self) -> None:
            if self.headers.get("Proxy-Authorization") != wanted:
                state.refused.append(self.path)
                self.send_error(407)
                return
            if self.path not in known:
                self.send_error(502, "unknown host")
                return
            with socket.create_connection(("127.0.0.1", known[self.path])) as there:
                state.asked.append(self.path)
                self.send_response(200)
                self.end_headers()
                _relay(self.connection, there)
            self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Handler)) as state.port:
        yield state


def _relay(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways until one side ends."""
    to = {one: other, other: one}
    while True:
        for each in select.select(list(to), [], [])[0]:
            try:
                data = each.recv(65536)
                to[each].sendall(data)
            except OSError:
                return
            if not data:
                return
