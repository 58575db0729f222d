"""Telling people through servers that fail in every way: nobody is never told, twice only where the answer was lost.

Real SMTP and HTTP servers, the real outbox and worker. What a server took is counted by message id.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import random
import ssl
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_cloud.config import Config
from fieldwatch_cloud.ingest.decode import decode
from fieldwatch_cloud.notify import Channels, Worker, channel, http, mail, routing_of
from fieldwatch_cloud.notify.hook import Webhook
from fieldwatch_cloud.notify.worker import TELLING
from fieldwatch_cloud.store import Store, outbox, sqlite_url
from fieldwatch_cloud.store import tables as t
from fieldwatch_contract import clock

from tests.authority import Authority
from tests.conftest import find_port, wait_until
from tests.delivery import DEVICE, START, alert, alert_draft, rows
from tests.mailbox import Act, Answer, Dripping, Hooks, Mailbox
from tests.unit.cloud.wire import message

SECRET = "0123456789abcdef-secret"
LOOPBACK = "127.0.0.0/8"
Told = Callable[..., Store]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits that a test can meet."""
    monkeypatch.setattr(outbox, "FIRST_WAIT", 20_000)
    monkeypatch.setattr(outbox, "LONGEST_WAIT", 100_000)
    for module in (channel, http, mail):
        monkeypatch.setattr(module, "TIMEOUT_S", 0.5)
    for module in (http, mail):
        monkeypatch.setattr(module, "TOTAL_S", 4.0)


@pytest.fixture
def servers() -> Iterator[list[Any]]:
    """Servers to be ended."""
    made: list[Any] = []
    yield made
    for one in made:
        one.stop()


def smtp(port: int, **more: Any) -> dict[str, Any]:
    return {"host": "127.0.0.1", "port": port, "security": "none", "sender": "Fieldwatch <watch@lab.example>"} | more


def configured(channels: dict[str, Any], **more: Any) -> Config:
    routes = [{"name": "all", "steps": [{"to": list(channels)}]}]
    return Config.model_validate({"alerts": {"routes": routes}, "notify": {"channels": channels, **more}})


@pytest.fixture
def tell(tmp_path: Path) -> Iterator[Told]:
    """Start a worker over a new store with so many alerts in it."""
    running: list[tuple[Worker, Store]] = []

    def start(config: Config, alerts: int = 1) -> Store:
        store = Store(sqlite_url(tmp_path / "cloud.db"), routing=routing_of(config))
        for number in range(alerts):
            device = f"press-{number:04d}"
            draft = alert_draft(alert(60, device=device))
            store.ingest(decode([message(1, draft, device)]), START + 61 * clock.MINUTE)
        worker = Worker(store, Channels(config, store))
        worker.start()
        running.append((worker, store))
        return store

    yield start
    for worker, store in running:
        worker.stop()
        store.close()


def settled(store: Store) -> dict[str, int]:
    """Wait until every message is sent or dead, and count them."""

    def done() -> bool:
        return all(row["state"] in ("sent", "dead", "dropped") for row in rows(store, t.message))

    wait_until(done, "every message to be settled", 60)
    return dict(Counter(row["state"] for row in rows(store, t.message)))


def plan(*acts: Any, then: Any) -> Callable[[int], Any]:
    return lambda n: acts[n - 1] if n <= len(acts) else then


def test_a_mail_gets_through_whatever_happens_and_twice_only_where_the_answer_was_lost(
    tell: Told, servers: list[Any]
) -> None:
    acts: list[Act] = ["451", "cut before", "slow", "cut", "450 rcpt"]
    box = Mailbox(plan(*acts, then="take"))
    servers.append(box)
    store = tell(configured({"lab": {"kind": "email", "to": ["ana@lab.example"]}}, smtp=smtp(box.port)))
    assert settled(store) == {"sent": 1}
    (row,) = rows(store, t.message)
    assert (row["attempts"], box.attempts) == (6, 6)
    assert box.ids() == [f"<{row['id']}@lab.example>"] * 3, "taken by slow, cut and the last: one id"


@pytest.mark.parametrize("act", ["554", "550 rcpt"])
def test_a_mail_that_is_refused_for_good_is_dead_and_another_channel_tells_of_it(
    tell: Told, servers: list[Any], tmp_path: Path, act: Act
) -> None:
    box, hooks = Mailbox(lambda _: act), Hooks()
    servers += [box, hooks]
    channels = {"lab": {"kind": "email", "to": ["ana@lab.example"]}, "ops": hook(hooks, tmp_path)}
    store = tell(configured(channels, smtp=smtp(box.port)))
    wait_until(lambda: len(hooks.taken) == 2, "the other channel to tell of it")
    settled(store)
    dead = [row for row in rows(store, t.message) if row["state"] == "dead"]
    assert {row["channel"] for row in dead} == {"lab ana@lab.example"}
    assert all(act[:3] in row["error"] for row in dead)
    assert len(dead) == 2, "that it cannot be told of itself is not told for ever"
    news = [json.loads(body)["news"][0]["incident"] for _, _, body in hooks.taken]
    assert [one["kind"] for one in news] == ["fault", TELLING]
    assert "could not be delivered to lab ana@lab.example" in news[1]["says"]


def test_each_address_is_told_for_itself(tell: Told, servers: list[Any]) -> None:
    """One that is refused for now is tried again; the others are not told twice."""
    box = Mailbox(plan("450 rcpt", then="take"))
    servers.append(box)
    addresses = [f"p{n}@lab.example" for n in range(3)]
    store = tell(configured({"lab": {"kind": "email", "to": addresses}}, smtp=smtp(box.port)))
    assert settled(store) == {"sent": 3}
    assert sorted(str(one["To"]) for one in box.taken) == addresses


@pytest.mark.parametrize("case", ["right", "foreign", "other host", "no starttls"])
def test_mail_goes_out_over_tls_that_was_checked_or_not_at_all(
    tell: Told, servers: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    ours, foreign = Authority(tmp_path, "ours"), Authority(tmp_path, "foreign")
    issuer = foreign if case == "foreign" else ours
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*issuer.issue("server", "elsewhere.example" if case == "other host" else "localhost"))
    box = Mailbox(tls=None if case == "no starttls" else tls)
    servers.append(box)
    monkeypatch.setattr(outbox, "ATTEMPTS", 3)
    more = {"host": "localhost", "security": "starttls", "ca": str(ours.file)}
    store = tell(configured({"lab": {"kind": "email", "to": ["ana@lab.example"]}}, smtp=smtp(box.port, **more)))
    found = settled(store)
    if case == "right":
        assert (found, len(box.taken)) == ({"sent": 1}, 1)
    else:
        assert set(found) == {"dead"}
        assert box.taken == []
        errors = {row["error"] for row in rows(store, t.message)}
        says = {"foreign": "certificate verify failed", "other host": "mismatch", "no starttls": "STARTTLS"}[case]
        assert all(says in error for error in errors), errors


def test_a_server_that_is_away_gets_the_mail_when_it_is_back(tell: Told, servers: list[Any]) -> None:
    port = find_port()
    store = tell(configured({"lab": {"kind": "email", "to": ["ana@lab.example"]}}, smtp=smtp(port)))
    wait_until(lambda: rows(store, t.message)[0]["attempts"] >= 2, "two attempts")
    assert "refused" in rows(store, t.message)[0]["error"]
    box = Mailbox(port=port)
    servers.append(box)
    assert settled(store) == {"sent": 1}
    assert len(box.taken) == 1


# ---- webhooks --------------------------------------------------------------------------------------------------


def hook(hooks: Hooks, folder: Path, **more: Any) -> dict[str, Any]:
    secret = folder / "hook-secret"
    secret.write_text(SECRET + "\n")
    url = f"http://127.0.0.1:{hooks.port}/in?x=1"
    return {"kind": "webhook", "url": url, "secret_file": str(secret), "allow": [LOOPBACK]} | more


def test_a_webhook_gets_through_whatever_happens_signed_and_under_one_id(
    tell: Told, servers: list[Any], tmp_path: Path
) -> None:
    acts: list[Answer] = [500, "cut before", 429, "slow", 503, "cut", "drip"]
    hooks = Hooks(plan(*acts, then=204))
    servers.append(hooks)
    store = tell(configured({"ops": hook(hooks, tmp_path)}))
    assert settled(store) == {"sent": 1}
    (row,) = rows(store, t.message)
    assert (row["attempts"], hooks.attempts) == (8, 8)
    assert [headers["fieldwatch-message"] for _, headers, _ in hooks.taken] == [row["id"]] * 4
    for path, headers, body in hooks.taken:
        assert path == "/in?x=1"
        at, signature = (part.split("=", 1)[1] for part in headers["fieldwatch-signature"].split(","))
        wanted = hmac.new(SECRET.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        assert signature == wanted
        assert abs(int(at) - clock.now() // clock.SECOND) < 300
    (news,) = json.loads(hooks.taken[-1][2])["news"]
    assert (news["what"], news["incident"]["device"]) == ("opened", "press-0000")


def test_a_redirect_is_not_followed(tell: Told, servers: list[Any], tmp_path: Path) -> None:
    inner = Hooks()
    outer = Hooks(lambda _: 307)
    outer.location = f"http://127.0.0.1:{inner.port}/secret"
    servers += [inner, outer]
    store = tell(configured({"ops": hook(outer, tmp_path)}))
    assert set(settled(store)) == {"dead"}
    assert inner.attempts == 0
    assert "redirects are not followed" in rows(store, t.message)[0]["error"]


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:{port}/",
        "http://localhost:{port}/",
        "http://[::1]:{port}/",
        "http://[::ffff:127.0.0.1]:{port}/",
        "http://2130706433:{port}/",
        "http://0.0.0.0:{port}/",
        "http://169.254.169.254/latest/meta-data/",
        "http://10.0.0.1/",
        "http://[fd00::1]/",
        "http://[fe80::1]/",
        "http://[64:ff9b::7f00:1]/",
        "http://[2002:7f00:1::]/",
        "http://[::7f00:1]/",
        "http://224.0.0.1/",
        "http://[ff0e::1]/",
        "http://240.0.0.1/",
        "http://[64:ff9b:1::1]/",
        "ftp://198.51.100.7/",
        "http://user:secret@93.184.216.34/",
    ],
)
def test_a_webhook_reaches_no_private_place(tell: Told, servers: list[Any], tmp_path: Path, url: str) -> None:
    hooks = Hooks()
    servers.append(hooks)
    store = tell(configured({"ops": hook(hooks, tmp_path, url=url.format(port=hooks.port), allow=[])}))
    assert set(settled(store)) == {"dead"}
    assert hooks.attempts == 0
    assert {row["attempts"] for row in rows(store, t.message)} == {1}, "refused, not tried"
    assert "secret" not in str(rows(store, t.message)), "an error must not tell a password"


def test_the_address_that_was_judged_is_the_one_that_is_called(
    servers: list[Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """DNS rebinding: the name leads to a public address when it is judged and to ours a moment later."""
    hooks = Hooks()
    servers.append(hooks)
    asked: list[str] = []

    def lookup(host: str, port: int) -> list[str]:
        asked.append(host)
        return ["192.0.2.1"] if len(asked) > 1 else ["127.0.0.1"]

    monkeypatch.setattr("fieldwatch_cloud.notify.guard.resolve", lookup)
    from ipaddress import ip_network

    http.post(f"http://rebind.example:{hooks.port}/", b"x", {}, [ip_network(LOOPBACK)])
    assert asked == ["rebind.example"]
    (_, headers, _) = hooks.taken[0]
    assert headers["host"] == f"rebind.example:{hooks.port}"


@pytest.mark.parametrize("right", [True, False])
def test_https_is_checked_against_the_name_though_the_address_is_pinned(
    servers: list[Any], tmp_path: Path, right: bool
) -> None:
    authority = Authority(tmp_path, "ours")
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(*authority.issue("server", "localhost" if right else "elsewhere.example"))
    hooks = Hooks(tls=tls)
    servers.append(hooks)
    from ipaddress import ip_network

    trust = ssl.create_default_context(cafile=str(authority.file))
    allow = [ip_network(LOOPBACK), ip_network("::1/128")]
    url = f"https://localhost:{hooks.port}/"
    if right:
        http.post(url, b"x", {}, allow, trust)
        assert len(hooks.taken) == 1
    else:
        with pytest.raises(channel.TryLaterError, match="certificate"):
            http.post(url, b"x", {}, allow, trust)
        assert hooks.taken == []


def test_a_secret_that_is_missing_or_short_sends_nothing(servers: list[Any], tmp_path: Path) -> None:
    (tmp_path / "short").write_text("abc")
    letter = outbox.Letter("0" * 32, "ops", "all", None, 1, ())
    for name, says in (("none", "cannot be read"), ("short", "shorter than 16")):
        with pytest.raises(channel.RefusedError, match=says):
            Webhook("http://127.0.0.1:1/", tmp_path / name, (), "http://x").send(letter)


# ---- all together ----------------------------------------------------------------------------------------------


def test_nobody_is_never_told_and_twice_only_where_the_answer_was_lost(
    tell: Told, servers: list[Any], tmp_path: Path
) -> None:
    """Thirty alerts to a mail and a web server that fail at random, with the worker's lease running out on the way."""
    dice = random.Random(8)
    fails: list[Act] = ["451", "cut before", "cut", "450 rcpt", "take", "take"]
    answers: list[Answer] = [500, "cut before", "cut", 429, 200, 200]
    box, hooks = Mailbox(lambda _: dice.choice(fails)), Hooks(lambda _: dice.choice(answers))
    servers += [box, hooks]
    channels = {"lab": {"kind": "email", "to": ["ana@lab.example"]}, "ops": hook(hooks, tmp_path)}
    store = tell(configured(channels, smtp=smtp(box.port)), 30)
    assert set(settled(store)) == {"sent"}
    messages = {row["id"]: row for row in rows(store, t.message)}
    mails = Counter(one.strip("<>").split("@")[0] for one in box.ids())
    posts = Counter(headers["fieldwatch-message"] for _, headers, _ in hooks.taken)
    assert set(mails) | set(posts) == set(messages), "every message was taken"
    assert not set(mails) & set(posts)
    for found in (mails, posts):
        assert all(count <= messages[one]["attempts"] for one, count in found.items())
    news = sum(
        len(json.loads(body)["news"]) for body in {h["fieldwatch-message"]: b for _, h, b in hooks.taken}.values()
    )
    assert news == 30, "ten alone and the rest of the storm in one"


def test_a_worker_that_is_killed_while_it_sends_sends_again_under_the_same_id(
    servers: list[Any], tmp_path: Path
) -> None:
    """The first worker takes a message and is never heard of again; a second one comes when the lease has run out."""
    box = Mailbox()
    servers.append(box)
    config = configured({"lab": {"kind": "email", "to": ["ana@lab.example"]}}, smtp=smtp(box.port))
    store = Store(sqlite_url(tmp_path / "cloud.db"), routing=routing_of(config))
    store.ingest(decode([message(1, alert_draft(alert(60)), DEVICE)]), START + 61 * clock.MINUTE)
    with store.write() as db:
        letter = outbox.claim(db, clock.now())
    assert letter is not None
    Channels(config, store).find(letter.channel).send(letter)  # taken by the server; the worker dies before it notes it
    later = clock.now() + outbox.LEASE + clock.SECOND
    worker = Worker(store, Channels(config, store), lambda: later)
    worker.start()
    wait_until(lambda: len(box.taken) == 2, "the second worker")
    wait_until(lambda: rows(store, t.message)[0]["state"] == "sent", "it to be settled")
    worker.stop()
    assert len(set(box.ids())) == 1
    store.close()


def test_a_message_that_makes_us_fail_is_dead_and_the_next_one_goes_out(
    tell: Told, servers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from fieldwatch_cloud.notify import mail as module

    real = module.word

    def fail(letter: Any, base: str) -> Any:
        if letter.items[0].incident.device == "press-0000":
            raise ZeroDivisionError("a mistake of ours")
        return real(letter, base)

    monkeypatch.setattr(module, "word", fail)
    box = Mailbox()
    servers.append(box)
    store = tell(configured({"lab": {"kind": "email", "to": ["ana@lab.example"]}}, smtp=smtp(box.port)), 2)
    assert settled(store)["dead"] == 1
    dead = next(row for row in rows(store, t.message) if row["state"] == "dead")
    assert dead["error"] == "unexpected: ZeroDivisionError: a mistake of ours"
    subjects = [str(one["Subject"]) for one in box.taken]
    assert any("press-0001" in subject for subject in subjects)
    assert any("could not be delivered" in subject for subject in subjects)


def test_a_slow_channel_holds_up_nobody(tell: Told, servers: list[Any], tmp_path: Path) -> None:
    """The mail server never answers in time; the web hook is told meanwhile."""
    box, hooks = Mailbox(lambda _: "slow"), Hooks()
    servers += [box, hooks]
    channels = {"lab": {"kind": "email", "to": ["ana@lab.example"]}, "ops": hook(hooks, tmp_path)}
    store = tell(configured(channels, smtp=smtp(box.port)), 5)
    wait_until(lambda: len(hooks.taken) == 5, "the other channel")
    assert all(row["state"] != "sent" for row in rows(store, t.message) if row["channel"].startswith("lab"))


def test_a_server_that_drips_for_ever_holds_up_no_attempt(tell: Told, servers: list[Any]) -> None:
    """Every read is within its limit, the whole is not: the attempt ends, and the next one follows."""
    box = Dripping()
    servers.append(box)
    store = tell(configured({"lab": {"kind": "email", "to": ["ana@lab.example"]}}, smtp=smtp(box.port)))
    wait_until(lambda: box.attempts >= 2 and box.left >= 1, "a second attempt")
    assert rows(store, t.message)[0]["state"] != "sent"


ODD = {
    "header": "s1\r\nBcc: evil@lab.example\r\n\r\nx",
    "control": "\x00\x07\x1b[31m",
    "direction": "a\u202egnp.exe",
    "dot": "\n.\r\nQUIT\r\n",
    "long": "x" * 5000,
    "other letters": "Öl °C 🌡" * 300,
    "separators": "a\u2028Bcc: b\x85c",
}


def test_whatever_a_sensor_is_called_its_alert_is_one_sound_mail(tell: Told, servers: list[Any]) -> None:
    """Devices choose the names of sensors; a server that is strict must take the mail, and no name makes a header."""
    box, hooks = Mailbox(), Hooks()
    servers += [box, hooks]
    channels = {"lab": {"kind": "email", "to": ["ana@lab.example"]},
                "team": {"kind": "apprise", "url": f"json://127.0.0.1:{hooks.port}/"}}  # fmt: skip
    store = tell(configured(channels, smtp=smtp(box.port)), 0)
    for number, name in enumerate(ODD.values()):
        device = f"press-{number:04d}"
        one = alert(60, device=device)
        one.sensors = [name]
        assert one.evidence is not None
        one.evidence.sensors = [name]
        store.ingest(decode([message(1, alert_draft(one), device)]), START + 61 * clock.MINUTE)
    assert settled(store) == {"sent": 2 * len(ODD)}
    assert len(box.taken) == len(hooks.taken) == len(ODD)
    usual = {"Subject", "From", "To", "Date", "Message-ID", "Auto-Submitted", "X-Fieldwatch-Incidents", "MIME-Version",
             "Content-Type"}  # fmt: skip
    for found in box.taken:
        assert set(found.keys()) - {"X-Peer", "X-MailFrom", "X-RcptTo"} == usual
        assert len(str(found["Subject"])) <= 200
        texts = [
            str(found["Subject"]),
            *(part.get_content() for part in found.walk() if "text" in part["Content-Type"]),
        ]
        assert not [
            one for text in texts for one in text if (one < " " and one not in "\r\n") or one in "\x7f\u202e\u2028"
        ]
    assert any("Öl °C 🌡" in str(found["Subject"]) for found in box.taken), "letters and signs stay"


@pytest.mark.parametrize(
    ("address", "says"),
    [
        ("ünal@lab.example", "no address"),
        ("ana@läb.example", "xn--"),
        ("Ana <ana@lab.example>", "no address"),
        ("ana@lab.example\r\nRCPT TO:<b@lab.example>", "no address"),
        ("ana@lab.example, ben@lab.example", "no address"),
        ("lab-mail", "no address"),
    ],
)
def test_an_address_that_no_server_takes_is_refused_when_the_server_starts(address: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        configured({"lab": {"kind": "email", "to": [address]}}, smtp=smtp(25))
    with pytest.raises(ValueError, match="sender"):
        configured({"lab": {"kind": "email", "to": ["ana@lab.example"]}}, smtp=smtp(25, sender="Fieldwatch"))


def test_a_mail_says_what_and_where_shows_the_sensor_and_leads_to_a_page(tell: Told, servers: list[Any]) -> None:
    box = Mailbox()
    servers.append(box)
    store = tell(
        configured({"lab": {"kind": "email", "to": ["ana@lab.example"]}}, smtp=smtp(box.port), url="https://w.example/")
    )
    settled(store)
    (found,) = box.taken
    assert found["Subject"] == "[Fieldwatch] press-0000: unusual readings in s1, since 2026-11-01 01:00 UTC"
    plain = found.get_body(("plain",))
    assert plain is not None
    text = plain.get_content().replace("\r\n", "\n")
    assert "Look at it and answer: https://w.example/incidents/1\n" in text
    html = found.get_body(("html",))
    assert html is not None
    (picture,) = [part for part in found.walk() if part.get_content_type() == "image/png"]
    assert picture.get_payload(decode=True)[:8] == b"\x89PNG\r\n\x1a\n"  # type: ignore[index]
    assert f'src="cid:{picture["Content-ID"].strip("<>")}"' in html.get_content()
    assert "s1: in training -0.5 to 2.5, since the alert began as far as 9.5" in html.get_content()


def test_alertmanager_hears_of_beginning_and_end_under_the_same_labels(tell: Told, servers: list[Any]) -> None:
    hooks = Hooks()
    servers.append(hooks)
    manager = {"kind": "alertmanager", "url": f"http://127.0.0.1:{hooks.port}", "allow": [LOOPBACK]}
    store = tell(configured({"am": manager}))
    settled(store)
    draft = alert_draft(alert(65, "resolved", "press-0000", 60))
    store.ingest(decode([message(2, draft, "press-0000")]), START + 66 * clock.MINUTE)
    settled(store)
    first, second = (json.loads(body)[0] for _, _, body in hooks.taken)
    assert [path for path, _, _ in hooks.taken] == ["/api/v2/alerts"] * 2
    assert first["labels"] == second["labels"]
    assert first["labels"]["alertname"] == "fieldwatch fault"
    assert first["endsAt"] > "2026-11-25"
    assert second["endsAt"] == clock.iso(START + 65 * clock.MINUTE)


def test_apprise_takes_the_rest(tell: Told, servers: list[Any]) -> None:
    hooks = Hooks(plan(500, then=200))
    servers.append(hooks)
    store = tell(configured({"team": {"kind": "apprise", "url": f"json://127.0.0.1:{hooks.port}/"}}))
    assert settled(store) == {"sent": 1}
    body = json.loads(hooks.taken[-1][2])
    assert body["title"].startswith("[Fieldwatch] press-0000: unusual readings in s1")
    assert (body["type"], hooks.attempts) == ("warning", 2)
