"""The demo's mailbox takes what Python's own SMTP client sends, and shows it on a page."""

from __future__ import annotations

import smtplib
import urllib.request
from email.message import EmailMessage
from pathlib import Path

from fieldwatch_demo.mailbox import Mailbox


def test_a_mail_is_taken_kept_and_shown_with_its_picture(tmp_path: Path) -> None:
    box = Mailbox(tmp_path / "mails")
    mail = EmailMessage()
    mail["Subject"], mail["From"], mail["To"] = "press-0001: <b>hot</b>", "a@demo.example", "b@demo.example"
    mail.set_content("plain\n.\n..two dots\n")
    mail.add_alternative('<html><body><p>hot</p><img src="cid:one@x"></body></html>', "html")
    mail.get_payload()[-1].add_related(b"\x89PNG", "image", "png", cid="<one@x>")
    with smtplib.SMTP("127.0.0.1", box.port, timeout=10) as client:
        client.send_message(mail)
        client.send_message(mail)
    assert len(box.mails) == 2
    plain = box.mails[0].get_body(("plain",))
    assert plain is not None
    assert plain.get_content().splitlines() == ["plain", ".", "..two dots"]
    assert len(list((tmp_path / "mails").glob("*.eml"))) == 2

    def get(path: str) -> bytes:
        with urllib.request.urlopen(box.url + path, timeout=10) as answer:
            return bytes(answer.read())

    assert b"press-0001: &lt;b&gt;hot&lt;/b&gt;" in get("")
    assert b'src="/1/one@x"' in get("1")
    assert get("1/one@x") == b"\x89PNG"
    box.stop()
