"""Mail: one message to one address, with pictures of the responsible sensors.

``Message-ID`` is made of the message's own id, so that it is the same in every attempt: where the answer was lost after
DATA the server may have taken it, it is sent again, and a mail program shows it once.
"""

from __future__ import annotations

import smtplib
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime, make_msgid, parseaddr
from html import escape
from typing import TYPE_CHECKING, Any

from fieldwatch_contract import clock
from fieldwatch_contract.fields import Evidence

from fieldwatch_cloud.notify.channel import TIMEOUT_S, TOTAL_S, RefusedError, TryLaterError
from fieldwatch_cloud.notify.letters import Text, plain, word
from fieldwatch_cloud.notify.picture import HEIGHT, WIDTH, draw
from fieldwatch_cloud.store.outbox import Letter

if TYPE_CHECKING:
    from fieldwatch_cloud.config import SmtpConfig

PICTURES = 3
"""Sensors that are drawn, the most responsible first."""

FindEvidence = Callable[[int], Evidence | None]
"""Returns the evidence of an incident, by its number."""


@dataclass(frozen=True)
class Mail:
    """Mail to ``address``."""

    smtp: SmtpConfig
    address: str
    base: str
    evidence: FindEvidence

    def send(self, letter: Letter) -> None:
        """Send a message; it is taken when the server has answered DATA."""
        found = self.evidence(letter.items[0].incident.id) if letter.batch is None and letter.items else None
        message = compose(letter, word(letter, self.base), self.smtp.sender, self.address, found)
        try:
            with self._connect() as server:
                self._hand_over(server, message)
        except smtplib.SMTPResponseException as error:
            said = (
                error.smtp_error.decode(errors="replace") if isinstance(error.smtp_error, bytes) else error.smtp_error
            )
            raise TryLaterError(f"{self.smtp.host}: {error.smtp_code} {said}") from None
        except (smtplib.SMTPException, OSError) as error:  # TLS errors are OSErrors
            raise TryLaterError(f"{self.smtp.host}: {error or type(error).__name__}") from None

    def _hand_over(self, server: smtplib.SMTP, message: EmailMessage) -> None:
        """Speak SMTP up to the answer to DATA, and tell a refusal for good (5xx) from one for now (4xx)."""
        sender = parseaddr(self.smtp.sender)[1]
        steps: list[Callable[[], tuple[int, bytes]]] = [
            lambda: server.mail(sender),
            lambda: server.rcpt(self.address),
            lambda: server.data(_bytes(message)),
        ]
        for step in steps:
            code, said = step()
            if code >= 500:
                raise RefusedError(f"{self.smtp.host}: {code} {said.decode(errors='replace')}")
            if code >= 300:
                raise TryLaterError(f"{self.smtp.host}: {code} {said.decode(errors='replace')}")

    def _connect(self) -> smtplib.SMTP:
        smtp = self.smtp
        context = ssl.create_default_context(cafile=str(smtp.ca) if smtp.ca is not None else None)
        if smtp.security == "tls":
            server: smtplib.SMTP = _Tls(smtp.host, smtp.port, timeout=TIMEOUT_S, context=context)
        else:
            server = _Bounded(smtp.host, smtp.port, timeout=TIMEOUT_S)
        try:
            if smtp.security == "starttls":
                server.starttls(context=context)
            if smtp.username is not None and smtp.password_file is not None:
                password = smtp.password_file.read_text(encoding="utf-8").split("\n", 1)[0].rstrip("\r")
                server.login(smtp.username, password)
            server.ehlo_or_helo_if_needed()
        except BaseException:
            server.close()
            raise
        return server


class _Bounded(smtplib.SMTP):
    """A conversation that ends after :data:`TOTAL_S`: a server that sends a byte now and then keeps every single read
    within its limit, and would hold up its channel for ever.
    """

    def __init__(self, *arguments: Any, **more: Any) -> None:
        self._end = threading.Timer(TOTAL_S, self._cut)
        self._end.daemon = True
        self._end.start()
        try:
            super().__init__(*arguments, **more)
        except BaseException:
            self._end.cancel()
            raise

    def close(self) -> None:
        self._end.cancel()
        super().close()

    def _cut(self) -> None:
        if self.sock is not None:
            with suppress(OSError):
                self.sock.shutdown(socket.SHUT_RDWR)


class _Tls(_Bounded, smtplib.SMTP_SSL):
    """With TLS from the first byte."""


def compose(letter: Letter, text: Text, sender: str, to: str, evidence: Evidence | None) -> EmailMessage:
    """Return the mail: plain text, and HTML with pictures where there is evidence."""
    name, address = parseaddr(sender)
    message = EmailMessage()
    message["Subject"] = _line(text.subject)
    message["From"] = Address(name, addr_spec=address)
    message["To"] = Address(addr_spec=to)
    message["Date"] = format_datetime(datetime.fromtimestamp(letter.items[0].event.at / clock.SECOND, UTC))
    message["Message-ID"] = f"<{letter.id}@{address.rpartition('@')[2]}>"
    message["Auto-Submitted"] = "auto-generated"
    message["X-Fieldwatch-Incidents"] = ",".join(str(one.incident.id) for one in letter.items[:20])
    message.set_content(text.body)
    pictures = _pictures(evidence, letter.items[0].incident.opened_at) if evidence is not None else []
    cids = [make_msgid(domain="fieldwatch")[1:-1] for _ in pictures]
    message.add_alternative(_html(text, [(cid, says) for cid, (says, _) in zip(cids, pictures, strict=True)]), "html")
    html = message.get_payload()[-1]  # type: ignore[index]
    for cid, (_, image) in zip(cids, pictures, strict=True):
        html.add_related(image, "image", "png", cid=f"<{cid}>", disposition="inline")  # type: ignore[union-attr]
    return message


def _pictures(evidence: Evidence, opened_at: int) -> list[tuple[str, bytes]]:
    """Return what each picture shows, in words, and the picture."""
    begun = next((i for i, at in enumerate(evidence.times) if clock.parse_iso(at) >= opened_at), len(evidence.times))
    found = []
    for sensor, values, mean, scale in list(
        zip(evidence.sensors, evidence.values, evidence.mean, evidence.scale, strict=False)
    )[:PICTURES]:
        since = [value for value in values[begun:] if value is not None]
        far = max(since, key=lambda value: abs(value - mean), default=None)
        says = f"{plain(sensor)}: in training {mean - 3 * scale:.4g} to {mean + 3 * scale:.4g}"
        says += f", since the alert began as far as {far:.4g}" if far is not None else ""
        found.append((says, draw(values, mean, scale, begun)))
    return found


def _html(text: Text, pictures: list[tuple[str, str]]) -> str:
    first, *rest = text.lines
    body = [f"<p><b>{escape(first)}</b></p>"]
    for cid, says in pictures:
        image = f'<img src="cid:{cid}" alt="{escape(says)}" width="{WIDTH}" height="{HEIGHT}">'
        body.append(f"<p>{image}<br>{escape(says)}</p>")
    body += [f"<p>{escape(line)}</p>" for line in rest if line]
    body.append(f'<p><a href="{escape(text.link)}">Open in Fieldwatch</a></p>')
    return f'<!doctype html><html lang="en"><body>{"".join(body)}</body></html>'


def _line(text: str) -> str:
    """Return a header's value: no line break may begin another header, and mail programs cut long ones."""
    return " ".join(text.split())[:200]


def _bytes(message: EmailMessage) -> bytes:
    """Return what goes over the wire. A subject in ASCII stays on one line: unfolding puts a blank before some."""
    return message.as_bytes(policy=SMTP.clone(max_line_length=240) if str(message["Subject"]).isascii() else SMTP)
