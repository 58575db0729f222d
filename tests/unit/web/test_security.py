"""Who gets in, and what a browser may do with the answer."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from fieldwatch_cloud.web import WebSettings
from starlette.testclient import TestClient

from tests.unit.web.conftest import API_TOKEN, URL, Site

PAGES = ["/", "/alerts", "/api", "/devices/press-0001"]


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.1.4", "example.org", ""])
def test_binds_to_this_machine_alone(host: str) -> None:
    with pytest.raises(ValueError, match="TLS proxy"):
        WebSettings(host=host)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_addresses_are_fine(host: str) -> None:
    assert host in WebSettings(host=host).url


@pytest.mark.parametrize("token", ["", "short", "a" * 21, "a b" * 12, "ä" * 30])
def test_refuses_weak_tokens(token: str) -> None:
    for name in ("start_token", "api_token"):
        with pytest.raises(ValueError, match=f"web.{name}"):
            WebSettings(**{name: token})


def test_tokens_are_drawn_and_not_shown() -> None:
    one, other = WebSettings(), WebSettings()
    assert one.start_token != other.start_token
    assert len(bytes.fromhex(one.start_token)) == 16
    assert one.start_token not in repr(one)


def test_start_token_works_once(fresh: Callable[..., Site]) -> None:
    site = fresh()
    person = site.stranger()
    answer = person.get(site.settings.start_url.removeprefix(URL))
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=lax" in cookie
    assert "fieldwatch_8080=" in cookie
    assert person.get("/").status_code == 200

    late = site.stranger()
    assert late.get(site.settings.start_url.removeprefix(URL)).status_code == 403
    assert late.get("/").status_code == 303
    assert person.get(site.settings.start_url.removeprefix(URL)).headers["location"] == "/"


@pytest.mark.parametrize("path", PAGES)
def test_pages_need_a_session(seeded: Site, path: str) -> None:
    answer = seeded.stranger().get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in")
    assert seeded.stranger().get(answer.headers["location"]).headers["location"] == "/start"
    assert seeded.person().get(path).status_code == 200


def test_api_needs_a_session_or_the_token(seeded: Site) -> None:
    answer = seeded.stranger().get("/api/v1/devices")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    assert seeded.script().get("/api/v1/devices").status_code == 200
    wrong = seeded.stranger().get("/api/v1/devices", headers={"Authorization": f"Bearer {API_TOKEN[:-1]}x"})
    assert wrong.status_code == 401


def test_a_wrong_token_is_not_saved_by_a_session(seeded: Site) -> None:
    assert seeded.person().get("/api/v1/devices", headers={"Authorization": "Bearer x"}).status_code == 401


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8080", "127.0.0.1.evil.example", "", "[::1", "10.0.0.1"]
)
def test_foreign_host_names_get_nothing(seeded: Site, host: str) -> None:
    for path in ("/", "/start", "/healthz", "/api/v1/devices"):
        answer = seeded.person().get(path, headers={"Host": host})
        assert answer.status_code == 421, path


def test_head_is_get_without_the_page(seeded: Site) -> None:
    person = seeded.person()
    for path in ("/", "/devices/press-0001", "/api/v1/devices", "/healthz", "/nowhere"):
        full, head = person.get(path), person.head(path)
        assert (head.status_code, head.content) == (full.status_code, b"")
        assert head.headers["content-type"] == full.headers["content-type"]
    assert seeded.stranger().head("/").status_code == 303
    assert person.head("/api/v1/events").status_code == 405  # a stream never ends


@pytest.mark.parametrize("host", ["localhost:8080", "127.0.0.1", "[::1]:9"])
def test_our_host_names_work(seeded: Site, host: str) -> None:
    assert seeded.person().get("/healthz", headers={"Host": host}).json()["status"] == "ok"


@pytest.mark.parametrize("path", [*PAGES, "/nowhere", "/start", "/healthz", "/static/nothing.js", "/api/v1/devices"])
def test_every_answer_carries_the_policy(seeded: Site, path: str) -> None:
    headers = seeded.person().get(path).headers
    policy = headers["content-security-policy"]
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy
    assert "http" not in policy
    assert "frame-ancestors 'none'" in policy
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize("path", PAGES)
def test_pages_have_nothing_inline_and_nothing_foreign(seeded: Site, path: str) -> None:
    text = seeded.person().get(path).text
    assert not re.search(r"<script(?![^>]*\ssrc=)", text)
    assert not re.search(r"\s(style|on\w+)=", text)
    assert "<style" not in text
    assert set(re.findall(r'(?:src|href)="([^"]*)"', text)) <= {
        link for link in re.findall(r'(?:src|href)="([/#?][^"]*)"', text) if not link.startswith("//")
    }


def token_of(person: TestClient, path: str) -> str:
    found = re.search(r'name="csrf" value="([^"]+)"', person.get(path).text)
    assert found is not None
    return found[1]


REFUSED = [
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
    {"Origin": "http://127.0.0.1:9999"},
    {"Origin": "https://127.0.0.1:8080"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site"},
]


@pytest.mark.parametrize("headers", REFUSED)
def test_foreign_pages_cannot_judge(fresh: Callable[..., Site], headers: dict[str, str]) -> None:
    site = fresh(devices=2)
    person = site.person()
    path = f"/alerts/{site.alerts['warning']}"
    form = {"csrf": token_of(person, path), "verdict": "false"}
    assert person.post(f"{path}/verdict", data=form, headers=headers).status_code == 403
    body = {"verdict": "false"}
    answer = person.post(f"/api/v1{path}/verdict", json=body, headers=headers | {"X-CSRF-Token": form["csrf"]})
    assert answer.status_code == 403
    assert site.script().get("/api/v1/labels").json()["items"] == []


def test_the_csrf_token_is_the_sessions_own(fresh: Callable[..., Site]) -> None:
    site = fresh(devices=2)
    person, other = site.person(), site.person()
    path = f"/alerts/{site.alerts['warning']}"
    for token in ("", "x", token_of(other, path), None):
        form = {"verdict": "false"} | ({} if token is None else {"csrf": token})
        assert person.post(f"{path}/verdict", data=form).status_code == 403
        headers = {} if token is None else {"X-CSRF-Token": token}
        assert person.post(f"/api/v1{path}/verdict", json={"verdict": "false"}, headers=headers).status_code == 403
    assert site.script().get("/api/v1/labels").json()["items"] == []
    good = {"Origin": URL, "Sec-Fetch-Site": "same-origin"}
    form = {"csrf": token_of(person, path), "verdict": "false"}
    assert person.post(f"{path}/verdict", data=form, headers=good).status_code == 303
    assert len(site.script().get("/api/v1/labels").json()["items"]) == 1
