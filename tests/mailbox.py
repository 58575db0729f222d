"""Mail and web servers that take messages, refuse them, or fail in the middle; they keep what they took."""

from __future__ import annotations

import asyncio
import email.policy
import ssl
import time
from collections.abc import Callable
from contextlib import ExitStack
from email import message_from_bytes
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import StreamRequestHandler, ThreadingTCPServer
from typing import Any, Literal

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.conftest import find_port, running

Act = Literal["take", "451", "554", "cut", "cut before", "slow", "550 rcpt", "450 rcpt"]


TO_MAIL = """
[alerts]
late = "9999d"
[[alerts.routes]]
name = "lab"
match = {{kind = ["fault"]}}
steps = [{{to = ["lab-mail"]}}]
[notify.smtp]
host = "127.0.0.1"
port = {smtp}
security = "none"
sender = "fieldwatch@lab.example"
[notify.channels.lab-mail]
kind = "email"
to = {to}
"""
"""A part of ``cloud.toml``: every fault is a mail to ``to`` (a list), through the server at port ``smtp``."""


class Mailbox:
    """A real SMTP server. ``act(n)`` says what it does with attempt number n: ``cut`` takes the mail and hangs up
    instead of answering, ``cut before`` hangs up without having taken it, ``slow`` answers after the client has gone.
    """

    def __init__(
        self, act: Callable[[int], Act] = lambda _: "take", tls: ssl.SSLContext | None = None, port: int = 0
    ) -> None:
        self.taken: list[EmailMessage] = []
        self.attempts = 0
        self._act = act
        self._now: Act = "take"
        self.port = port or find_port()
        """Where it listens."""
        starttls = {"tls_context": tls, "require_starttls": True} if tls is not None else {}
        self._server = Controller(self, hostname="127.0.0.1", port=self.port, **starttls)
        self._server.start()

    def stop(self) -> None:
        """End it."""
        self._server.stop()

    async def handle_RCPT(self, server: SMTP, session: Session, envelope: Envelope, address: str, _: Any) -> str:
        """Begin an attempt."""
        self.attempts += 1
        self._now = self._act(self.attempts)
        if self._now.endswith("rcpt"):
            return f"{self._now[:3]} not this one"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:
        """Do with a message as the plan says."""
        act = self._now
        if act in ("take", "cut", "slow"):
            assert isinstance(envelope.content, bytes)
            found = message_from_bytes(envelope.content, policy=email.policy.default)
            assert isinstance(found, EmailMessage)
            self.taken.append(found)
        if act.startswith("cut"):
            server.transport.abort()
        if act == "slow":
            await asyncio.sleep(1.0)
        return {"451": "451 later", "554": "554 never"}.get(act, "250 taken")

    def ids(self) -> list[str]:
        """The Message-IDs of what it took, in order."""
        return [str(one["Message-ID"]) for one in self.taken]


Answer = int | Literal["cut", "cut before", "slow", "drip"]


class Hooks:
    """A web server. ``act(n)``: the status of its n-th answer, with ``location``; else it fails as a mailbox does."""

    def __init__(self, act: Callable[[int], Answer] = lambda _: 200, tls: ssl.SSLContext | None = None) -> None:
        self.taken: list[tuple[str, dict[str, str], bytes]] = []
        self.attempts = 0
        self.location = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.attempts += 1
                now = act(outer.attempts)
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if now in ("cut", "slow", "drip") or (isinstance(now, int) and now < 300):
                    outer.taken.append((self.path, {k.lower(): v for k, v in self.headers.items()}, body))
                if now in ("cut", "cut before"):
                    self.connection.close()
                    return
                if now == "slow":
                    time.sleep(1.0)
                if now == "drip":
                    self.wfile.write(b"HTTP/1.1 200 OK\r\nX-Drip: ")
                    while True:  # until the client has gone
                        self.wfile.write(b"1")
                        self.wfile.flush()
                        time.sleep(0.05)
                self.send_response(now if isinstance(now, int) else 200)
                if outer.location:
                    self.send_header("Location", outer.location)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        class Server(ThreadingHTTPServer):
            def handle_error(self, *_: object) -> None:
                """A client that has gone is what these tests make."""

        server = Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True)
        self._running = ExitStack()
        self.port = self._running.enter_context(running(server))

    def stop(self) -> None:
        """End it."""
        self._running.close()


class Dripping:
    """A mail server that greets a byte at a time for ever; ``attempts`` counts who came, ``left`` who went."""

    def __init__(self) -> None:
        self.attempts = 0
        self.left = 0
        outer = self

        class Handler(StreamRequestHandler):
            def handle(self) -> None:
                outer.attempts += 1
                try:
                    self.wfile.write(b"220 ")
                    while True:
                        self.wfile.write(b"x")
                        time.sleep(0.05)
                except OSError:
                    outer.left += 1

        self._running = ExitStack()
        self.port = self._running.enter_context(running(ThreadingTCPServer(("127.0.0.1", 0), Handler)))

    def stop(self) -> None:
        """End it."""
        self._running.close()
