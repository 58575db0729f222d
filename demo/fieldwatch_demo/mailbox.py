"""A mailbox on this machine: takes what the cloud sends by SMTP, and shows it on a page. It delivers nothing further.

Enough of RFC 5321 for one well-behaved client on 127.0.0.1: no TLS, no sign-in. The mails also lie as ``.eml`` files in
the folder, for any mail program.
"""

from __future__ import annotations

import email.policy
import http.server
import re
import socketserver
import threading
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import EmailMessage
from email.utils import format_datetime
from html import escape
from pathlib import Path

_STYLE = (
    "body{font:16px/1.5 system-ui;max-width:44rem;margin:2rem auto;padding:0 1rem}li{margin:.6rem 0}img{max-width:100%}"
)


class Mailbox:
    """Keeps mails in ``folder``; ``port`` takes SMTP, ``url`` shows them."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._lock = threading.Lock()
        self.mails: list[EmailMessage] = []
        self._smtp = _server(socketserver.ThreadingTCPServer, _Smtp, self)
        self._web = _server(http.server.ThreadingHTTPServer, _Page, self)
        self.port = int(self._smtp.server_address[1])
        self.url = f"http://127.0.0.1:{self._web.server_address[1]}/"

    def stop(self) -> None:
        """Close both ports."""
        for server in (self._smtp, self._web):
            server.shutdown()
            server.server_close()

    def take(self, content: bytes) -> None:
        """Keep a mail."""
        found = message_from_bytes(content, policy=email.policy.default)
        assert isinstance(found, EmailMessage)
        found["Received"] = f"by the demo's mailbox; {format_datetime(datetime.now(UTC))}"
        with self._lock:
            self.mails.append(found)
            (self._folder / f"{len(self.mails):04d}.eml").write_bytes(content)

    def page(self, path: str) -> tuple[str, bytes] | None:
        """Return type and content at ``path``: the list, a mail, or a picture of it; None where there is nothing."""
        if path == "/":
            return "text/html; charset=utf-8", self._list().encode()
        match = re.fullmatch(r"/(\d{1,6})(?:/([\w@.-]+))?", path)
        number = int(match[1]) if match else 0
        if match is None or not 0 < number <= len(self.mails):
            return None
        mail = self.mails[number - 1]
        if match[2] is None:
            return "text/html; charset=utf-8", _shown(mail, number).encode()
        for part in mail.walk():
            if str(part.get("Content-ID", "")).strip("<>") == match[2]:
                content = part.get_payload(decode=True)
                return part.get_content_type(), content if isinstance(content, bytes) else b""
        return None

    def _list(self) -> str:
        lines = [
            f'<li><a href="/{number}">{escape(str(mail["Subject"]))}</a><br>{escape(str(mail["Date"]))}</li>'
            for number, mail in reversed(list(enumerate(self.mails, 1)))
        ]
        body = f"<ul>{''.join(lines)}</ul>" if lines else "<p>No mail yet; it comes with the first alert.</p>"
        return _html("Mailbox of the demo", f'<meta http-equiv="refresh" content="3">{body}')


def _shown(mail: EmailMessage, number: int) -> str:
    html = mail.get_body(("html",))
    inner = re.sub(r"^.*<body>|</body>.*$", "", html.get_content(), flags=re.S) if html is not None else ""
    inner = re.sub(r'src="cid:([^"]+)"', rf'src="/{number}/\1"', inner)
    head = "".join(
        f"<dt>{name}</dt><dd>{escape(str(mail[name]))}</dd>" for name in ("From", "To", "Date", "Message-ID")
    )
    return _html(str(mail["Subject"]), f'<p><a href="/">All mails</a></p><dl>{head}</dl>{inner}')


def _html(title: str, body: str) -> str:
    head = f"<title>{escape(title)}</title><style>{_STYLE}</style>"
    return f'<!doctype html><html lang="en"><head>{head}</head><body><h1>{escape(title)}</h1>{body}</body></html>'


Server = socketserver.ThreadingTCPServer | http.server.ThreadingHTTPServer


def _server(kind: type[Server], handler: type, box: Mailbox) -> Server:
    made = kind(("127.0.0.1", 0), type(handler.__name__, (handler,), {"box": box}))
    made.daemon_threads = True
    threading.Thread(target=made.serve_forever, name="mailbox", daemon=True).start()
    return made


class _Smtp(socketserver.StreamRequestHandler):
    box: Mailbox

    def handle(self) -> None:
        self._say("220 mailbox of the demo")
        while line := self.rfile.readline(1000):
            verb = line[:4].upper().strip()
            if verb == b"DATA":
                self._say("354 go on")
                self.box.take(self._content())
                self._say("250 taken")
            elif verb == b"QUIT":
                self._say("221 bye")
                return
            else:
                self._say("250 fine" if verb in (b"HELO", b"EHLO", b"MAIL", b"RCPT", b"RSET", b"NOOP") else "502 no")

    def _content(self) -> bytes:
        """Read up to the line with a dot alone; a dot that begins a line was doubled (RFC 5321, 4.5.2)."""
        lines = []
        while (line := self.rfile.readline()) not in (b".\r\n", b""):
            lines.append(line[1:] if line.startswith(b".") else line)
        return b"".join(lines)

    def _say(self, text: str) -> None:
        self.wfile.write(text.encode() + b"\r\n")


class _Page(http.server.BaseHTTPRequestHandler):
    box: Mailbox

    def do_GET(self) -> None:
        found = self.box.page(self.path.split("?", 1)[0])
        self.send_response(404 if found is None else 200)
        self.send_header("Content-Type", found[0] if found else "text/plain")
        self.end_headers()
        self.wfile.write(found[1] if found else b"nothing here")

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
