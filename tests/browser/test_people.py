"""A person's way: invited, in by a link, told by mail, answers, takes labels away; out, in again, shut out at once."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from fieldwatch_cloud.access.accounts import Accounts
from fieldwatch_cloud.access.roles import Role
from fieldwatch_cloud.store.audit import check, entries
from fieldwatch_cloud.web import WebSettings, create_app
from fieldwatch_contract import clock, topics
from paho.mqtt import publish, subscribe
from paho.mqtt.client import MQTTv5
from playwright.sync_api import Browser, expect

from tests.browser import seed
from tests.conftest import Broker, Spawn, find_port, serving, wait_until
from tests.delivery import START, alert, alert_draft
from tests.lakes import MINUTE, LakeMaker
from tests.mailbox import TO_MAIL, Mailbox
from tests.unit.cloud.wire import message

PASSWORD = "correct horse battery"


def test_a_persons_way(tmp_path: Path, chromium_path: str, _chromium: Callable[[str], Browser]) -> None:
    store, alerts = seed.make(tmp_path, clock.now(), devices=2, sensors=45, hours=5)
    settings = WebSettings(port=find_port())
    app = create_app(store, store.live, settings)
    browser = _chromium(chromium_path)
    with closing(store), serving(app, settings), browser.new_context() as admin, browser.new_context() as ada:
        page = admin.new_page()
        page.goto(settings.start_url)
        page.get_by_role("link", name="People").click()
        page.get_by_label("Name or e-mail address").fill("ada@lab.example")
        page.get_by_label("Role").first.select_option("engineer")
        page.get_by_role("button", name="Make a link").click()
        link = re.search(r"http://\S+/link\?token=\S+", page.locator(".once").inner_text())
        assert link is not None

        person = ada.new_page()
        person.goto(link[0])
        expect(person.locator("main")).to_contain_text("For ada@lab.example, engineer.")
        person.get_by_label("Password").fill(PASSWORD)
        person.get_by_label("Again").fill(PASSWORD)
        person.keyboard.press("Enter")
        expect(person.locator("#feed")).to_have_text("live")
        assert person.url == settings.url and "token" not in person.url
        expect(person.get_by_role("link", name="People")).to_have_count(0)
        person.goto(f"{settings.url}alerts/{alerts['warning']}")
        person.get_by_label("Note").fill("bearing worn")
        person.get_by_role("button", name="Real fault").click()
        expect(person.locator("#verdict-now")).to_contain_text("bearing worn")

        person.get_by_role("link", name="ada@lab.example").click()
        person.get_by_role("button", name="Sign out", exact=True).click()
        expect(person.locator("h1")).to_have_text("Sign in")
        person.goto(f"{settings.url}alerts?state=all")
        person.get_by_label("Name or e-mail address").fill("ada@lab.example")
        person.get_by_label("Password").fill("not the password")
        person.keyboard.press("Enter")
        expect(person.get_by_role("alert")).to_contain_text("do not belong together")
        person.get_by_label("Password").fill(PASSWORD)
        person.keyboard.press("Enter")
        expect(person.locator("h1")).to_have_text("Alerts")
        assert person.url.endswith("/alerts?state=all")

        Accounts(store).disable("ada@lab.example", "test", "left")
        expect(person.locator("#feed")).to_have_text("signed out: sign in again", timeout=30_000)
        with store.read() as db:
            assert check(entries(db))[2] == ""
            assert [one.who for one in entries(db) if one.action == "alert.judge"] == ["ada@lab.example"]
        assert Accounts(store).person("ada@lab.example").role is Role.ENGINEER


DEVICE = "press-0"
TOLD = """
[web]
port = {port}
[broker]
url = "{broker}"
[notify]
url = "http://127.0.0.1:{port}/"
"""


@pytest.mark.timeout(300)
def test_from_a_mail_to_labels_that_training_takes(
    mosquitto: Callable[..., Broker],
    spawn: Spawn,
    clean_env: Mapping[str, str],
    tmp_path: Path,
    box: Mailbox,
    chromium_path: str,
    _chromium: Callable[[str], Browser],
) -> None:
    """The whole server, a real broker and mail server: what a person says reaches the device and a lake."""
    lake = LakeMaker(tmp_path / "lake")
    lake.names = ["s1", "s2", "s3", "s4"]
    lake.ts = {name: START + np.arange(lake.rows) * MINUTE for name in lake.ts}
    lake.fault(DEVICE, 700, 730, ["s1"])
    lake.labels.clear()  # that is what the person says
    lake.write()

    broker, port = mosquitto(), find_port()
    config = tmp_path / "cloud.toml"
    told = TO_MAIL.format(smtp=box.port, to=["ada@lab.example"])
    config.write_text(TOLD.format(port=port, broker=broker.url) + told)
    cloud = [sys.executable, "-m", "fieldwatch_cloud"]
    for name, role in (("boss@lab.example", "admin"), ("ada@lab.example", "engineer")):
        invited = subprocess.run(
            [*cloud, "user", "invite", name, "--role", role, "--config", config],
            env=clean_env, capture_output=True, text=True, check=True,
        )  # fmt: skip
    server = spawn([*cloud, "serve", "--config", config], env=clean_env, stdout=subprocess.PIPE,
                   stderr=subprocess.DEVNULL, text=True)  # fmt: skip
    assert server.stdout.readline().startswith("dashboard: ")

    def send(number: int, minute: int, transition: str) -> None:
        found = message(number, alert_draft(alert(minute, transition, DEVICE, 700)), DEVICE)
        publish.single(found.topic, found.payload, qos=1, port=broker.port, protocol=MQTTv5)

    send(1, 700, "opened")
    wait_until(lambda: len(box.taken) >= 1, "the mail", 60)
    mail = box.taken[0].get_body(("plain",))
    assert mail is not None
    link = re.search(r"http://\S+/incidents/\d+", mail.get_content())
    assert link is not None

    context = _chromium(chromium_path).new_context(accept_downloads=True)
    try:
        person = context.new_page()
        person.goto(link[0])
        expect(person.locator("h1")).to_have_text("Sign in")
        person.goto(invited.stdout.strip())
        person.get_by_label("Password").fill(PASSWORD)
        person.get_by_label("Again").fill(PASSWORD)
        person.keyboard.press("Enter")
        expect(person.locator("#feed")).to_have_text("live")
        person.goto(link[0])
        for button in ("I take it", "Snooze"):
            person.get_by_label("Note").fill(f"{button}: on my way")
            person.get_by_role("button", name=button, exact=True).click()
            expect(person.locator("#events")).to_contain_text(f"{button}: on my way")
        send(2, 731, "resolved")
        expect(person.locator("#facts")).to_contain_text("resolved", timeout=30_000)
        person.get_by_label("Note").fill("bearing worn")
        person.get_by_role("button", name="Real fault").click()
        expect(person.locator("#verdict")).to_contain_text("Real fault, said")

        def kept() -> bytes | None:
            """The document of verdicts as the broker keeps it; one that passes by just now is not kept yet."""
            told = subscribe.simple(topics.topic(DEVICE, "verdicts"), qos=1, port=broker.port, protocol=MQTTv5)
            return bytes(told.payload) if told.retain else None

        (said,) = json.loads(wait_until(kept, "verdicts for a device that is off now"))["verdicts"]
        assert (said["alert_id"], said["verdict"]) == (alert(700, device=DEVICE).alert_id, "real")

        person.get_by_role("link", name="Alerts", exact=True).first.click()
        person.get_by_role("link", name="all", exact=True).click()
        expect(person.locator("#alert-list")).to_contain_text("real fault")
        with person.expect_download() as taken:
            person.get_by_role("link", name="Take the labels away").click()
        taken.value.save_as(tmp_path / "lake" / taken.value.suggested_filename)
    finally:
        context.close()
    labels = pq.read_table(tmp_path / "lake" / "labels.parquet").to_pylist()
    assert [(one["device"], one["label"], one["start"].timestamp() * 1e6) for one in labels] == [
        (DEVICE, "anomaly", START + 700 * MINUTE)
    ]
    checked = subprocess.run(
        [sys.executable, "-m", "fieldwatch_trainer", "check", "--lake", tmp_path / "lake", "--json"],
        env=clean_env, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert json.loads(checked.stdout)["types"][0]["labels"] == {"anomaly": 1}
