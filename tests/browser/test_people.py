"""A person's way: invited, in by a link, answers an alert, out, in again by password, shut out at once."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from pathlib import Path

from fieldwatch_cloud.access.accounts import Accounts
from fieldwatch_cloud.access.roles import Role
from fieldwatch_cloud.store.audit import check, entries
from fieldwatch_cloud.web import WebSettings, create_app, make_server
from fieldwatch_contract import clock
from playwright.sync_api import Browser, expect

from tests.browser import seed
from tests.conftest import find_port, wait_until

PASSWORD = "correct horse battery"


def test_a_persons_way(tmp_path: Path, chromium_path: str, _chromium: Callable[[str], Browser]) -> None:
    store, alerts = seed.make(tmp_path, clock.now(), devices=2, sensors=45, hours=5)
    settings = WebSettings(port=find_port())
    server = make_server(create_app(store, store.live, settings), settings)
    thread = threading.Thread(target=server.run, daemon=True)
    thread.start()
    wait_until(lambda: server.started, "the server")
    admin, ada = (_chromium(chromium_path).new_context() for _ in range(2))
    try:
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
    finally:
        admin.close()
        ada.close()
        server.should_exit = True
        thread.join(20)
        store.close()
