"""People's way in and out, as a browser goes it; and scripts with tokens."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fieldwatch_cloud.access import lifetimes, limits
from fieldwatch_cloud.access.oidc import Provider
from fieldwatch_cloud.access.roles import Role
from fieldwatch_cloud.access.secret import csrf_of
from fieldwatch_cloud.store import Store
from fieldwatch_cloud.store.audit import entries
from fieldwatch_cloud.web import WebSettings, create_app
from fieldwatch_cloud.web.entry import inside_path
from fieldwatch_contract import clock
from starlette.testclient import TestClient

from tests import identity
from tests.delivery import make_store
from tests.unit.web.conftest import PASSWORD, URL, Site

PUBLIC = "https://watch.example.org/"


def sign_in(client: TestClient, name: str, password: str = PASSWORD, **form: str) -> httpx.Response:
    return client.post("/sign-in", data={"name": name, "password": password} | form)


@pytest.fixture
def moving(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The clock: ``moving[0] += …`` moves it (µs)."""
    now = [clock.now()]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    return now


@pytest.fixture
def public(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """A site that others reach: ``public(url=…, provider=…)``; requests come from the proxy 10.0.0.5."""
    stores: list[Store] = []

    def make(url: str = PUBLIC, provider: Provider | None = None) -> Site:
        store = make_store(tmp_path_factory.mktemp("public"))
        stores.append(store)
        settings = WebSettings(host="10.0.0.2", public=url, proxies=("10.0.0.5",), provider=provider)
        return Site(store, create_app(store, store.live, settings), settings, {}, 0)

    yield make
    for store in stores:
        store.close()


def behind_proxy(site: Site, peer: str = "10.0.0.5", base: str = PUBLIC) -> TestClient:
    return TestClient(site.app, base_url=base, follow_redirects=False, client=(peer, 50000))


def invited(
    site: Site, client: TestClient, name: str = "ada@lab.example", role: Role = Role.ENGINEER
) -> httpx.Response:
    secret = site.app.state.accounts.invite(name, role, "test")
    return client.post("/link", data={"token": secret, "password": PASSWORD, "again": PASSWORD})


def test_invited_signed_in_signed_out(fresh: Callable[..., Site]) -> None:
    site = fresh(devices=1)
    secret = site.app.state.accounts.invite("ada@lab.example", Role.ENGINEER, "test")
    browser = site.stranger()
    page = browser.get("/link", params={"token": secret})
    assert page.status_code == 200 and "ada@lab.example" in page.text and page.headers["cache-control"] == "no-store"
    for password, again, says in ((PASSWORD, "another one here", "differ"), ("short", "short", "at least 12")):
        answer = browser.post("/link", data={"token": secret, "password": password, "again": again})
        assert answer.status_code == 403 and says in answer.text
    answer = browser.post("/link", data={"token": secret, "password": PASSWORD, "again": PASSWORD})
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert "ada@lab.example" in browser.get("/").text
    assert "works no more" in site.stranger().get("/link", params={"token": secret}).text

    kept = browser.cookies[site.settings.address.cookie]
    answer = browser.post("/sign-out", headers={"X-CSRF-Token": csrf_of(kept)})
    assert (answer.status_code, answer.headers["location"]) == (303, "/sign-in")
    assert site.settings.address.cookie not in browser.cookies
    thief = site.stranger()
    thief.cookies.set(site.settings.address.cookie, kept)
    assert thief.get("/alerts").headers["location"] == "/sign-in?then=/alerts"

    answer = browser.get("/alerts?state=all")
    assert answer.headers["location"] == "/sign-in?then=/alerts%3Fstate%3Dall"
    form = browser.get(answer.headers["location"]).text
    assert 'value="/alerts?state=all"' in form
    answer = sign_in(browser, "Ada@lab.example", then="/alerts?state=all")
    assert (answer.status_code, answer.headers["location"]) == (303, "/alerts?state=all")
    assert browser.cookies[site.settings.address.cookie] != kept


def test_wrong_name_and_wrong_password_look_the_same(fresh: Callable[..., Site]) -> None:
    site = fresh()
    site.member(Role.ADMIN)
    site.member(Role.VIEWER)
    site.app.state.accounts.disable("viewer@lab.example", "test")
    answers = [
        sign_in(site.stranger(), "admin@lab.example", "wrong password"),
        sign_in(site.stranger(), "nobody@lab.example", "wrong password"),
        sign_in(site.stranger(), "viewer@lab.example"),
        sign_in(site.stranger(), "demo", ""),
    ]
    texts = {re.sub(r'value="[^"]*"', "", answer.text) for answer in answers}
    assert {answer.status_code for answer in answers} == {403}
    assert len(texts) == 1


def test_guessing_passwords_is_slowed_down_for_the_guesser_alone(fresh: Callable[..., Site]) -> None:
    site = fresh()
    site.member(Role.ADMIN)
    for _ in range(limits.SIGN_IN_PAIR.most):
        assert sign_in(site.stranger(), "admin@lab.example", "wrong").status_code == 403
    refused = sign_in(site.stranger(), "admin@lab.example")
    assert refused.status_code == 429 and int(refused.headers["retry-after"]) > 0
    elsewhere = TestClient(site.app, base_url=URL, follow_redirects=False, client=("127.0.0.2", 1))
    assert sign_in(elsewhere, "admin@lab.example").status_code == 303


def test_guessing_tokens_and_links_is_slowed_down(fresh: Callable[..., Site]) -> None:
    site = fresh()
    for _ in range(limits.LINK_ADDRESS.most):
        assert site.stranger().get("/link", params={"token": "x"}).status_code == 403
    assert site.stranger().get("/link", params={"token": "x"}).status_code == 429
    answer = site.stranger().get("/api/v1/me", headers={"Authorization": "Bearer fw_x"})
    assert answer.status_code == 429 and answer.headers["content-type"] == "application/problem+json"


def test_bulk_reads_are_limited(fresh: Callable[..., Site]) -> None:
    site = fresh()
    script = site.script()
    codes = [script.get("/api/v1/labels").status_code for _ in range(limits.EXPORTS.most + 1)]
    assert codes == [200] * limits.EXPORTS.most + [429]
    assert script.get("/api/v1/devices").status_code == 200


def test_twelve_idle_hours_lock_nobody_out(fresh: Callable[..., Site], moving: list[int]) -> None:
    """C3: before accounts a browser that slept was locked out until the server was started again."""
    site = fresh()
    demo, ada = site.person(), site.member(Role.ENGINEER)
    moving[0] += lifetimes.SESSION_IDLE + 1
    assert demo.get("/").status_code == 303 and ada.get("/").status_code == 303
    assert sign_in(ada, "engineer@lab.example").status_code == 303
    assert ada.get("/").status_code == 200

    alone = fresh()
    browser = alone.person()
    moving[0] += lifetimes.SESSION_IDLE + 1
    assert browser.get("/").status_code == 303
    assert "fieldwatch-cloud link" in browser.get("/start").text
    assert browser.get("/start", params={"token": alone.app.state.accounts.admit()}).status_code == 303
    assert browser.get("/").status_code == 200


def test_sessions_outlive_a_restart_of_the_server(fresh: Callable[..., Site]) -> None:
    site = fresh()
    member = site.member(Role.VIEWER)
    again = create_app(site.store, site.store.live, site.settings)
    browser = TestClient(again, base_url=URL, client=("127.0.0.1", 1), cookies=dict(member.cookies))
    assert browser.get("/").status_code == 200


@pytest.mark.parametrize(
    "then",
    ["https://evil.example", "//evil.example", "/\\evil.example", "javascript:alert(1)", "/a\r\nX: y", "", "alerts"],
)
def test_signing_in_leads_nowhere_else(then: str) -> None:
    assert inside_path(then) == "/"


def test_a_foreign_page_cannot_sign_anybody_in(fresh: Callable[..., Site]) -> None:
    site = fresh()
    site.member(Role.VIEWER)
    form = {"name": "viewer@lab.example", "password": PASSWORD}
    for headers in ({"Origin": "http://evil.example"}, {"Sec-Fetch-Site": "cross-site"}):
        assert site.stranger().post("/sign-in", data=form, headers=headers).status_code == 403


def test_people_are_invited_and_shut_out_by_page(fresh: Callable[..., Site]) -> None:
    site = fresh()
    admin = site.member(Role.ADMIN)
    page = admin.post("/users", data={"name": "Bob@lab.example", "role": "viewer", "why": "intern"})
    link = re.search(r"http://127\.0\.0\.1:8080(/link\?token=[\w-]+)", page.text)
    assert page.status_code == 200 and link is not None
    bob = site.stranger()
    token = parse_qs(urlsplit(link[1]).query)["token"][0]
    assert bob.post("/link", data={"token": token, "password": PASSWORD, "again": PASSWORD}).status_code == 303
    assert bob.get("/").status_code == 200
    number = site.app.state.accounts.person("bob@lab.example").id
    assert admin.post(f"/users/{number}/role", data={"role": "engineer"}).status_code == 303
    assert bob.get("/").status_code == 303  # signs in again, as an engineer
    assert sign_in(bob, "bob@lab.example").status_code == 303
    assert admin.post(f"/users/{number}/disable", data={"why": "left"}).status_code == 303
    assert bob.get("/").status_code == 303
    assert sign_in(bob, "bob@lab.example").status_code == 403
    said = admin.post("/users", data={"name": "not a name", "role": "viewer"})
    assert said.status_code == 422 and "is not a name" in said.text
    own = site.app.state.accounts.person("admin@lab.example").id
    assert "last administrator" in admin.post(f"/users/{own}/disable").text
    with site.store.read() as db:
        trail = [(one.who, one.action, one.target, one.why) for one in entries(db)]
    assert ("admin@lab.example", "person.invite", "bob@lab.example", "as viewer: intern") in trail
    assert ("admin@lab.example", "person.disable", "bob@lab.example", "left") in trail
    shown = admin.get("/audit").text
    assert "person.disable" in shown and "left" in shown
    listed = admin.get("/api/v1/audit").json()
    assert [one["action"] for one in listed["items"]] == [action for _, action, _, _ in reversed(trail)]
    accounts = {one["name"]: one["state"] for one in admin.get("/api/v1/users").json()["items"]}
    assert accounts == {"admin@lab.example": "active", "bob@lab.example": "disabled", "demo": "disabled"}


def test_a_token_made_on_the_page_works_until_revoked(fresh: Callable[..., Site]) -> None:
    site = fresh()
    member = site.member(Role.ENGINEER)
    page = member.post("/account/tokens", data={"name": "nightly", "scope": ["see", "export"], "days": "3"})
    token = re.search(r"fw_[\w-]{43}", page.text)
    assert page.status_code == 200 and token is not None
    script = site.stranger()
    script.headers["Authorization"] = f"Bearer {token[0]}"
    assert script.get("/api/v1/me").json() == {
        "name": "token nightly of engineer@lab.example",
        "role": "engineer",
        "permissions": ["export", "open", "see"],
    }
    assert script.get("/api/v1/labels").status_code == 200
    assert script.post("/api/v1/alerts/x/verdict", json={"verdict": "real"}).status_code == 403
    assert script.get("/account").status_code == 403
    assert token[0] not in member.get("/account").text
    number = site.app.state.sessions.tokens()[0].id
    assert site.member(Role.VIEWER).post(f"/account/tokens/{number}/revoke").status_code == 404
    assert script.get("/api/v1/me").status_code == 200
    assert member.post(f"/account/tokens/{number}/revoke").status_code == 303
    assert script.get("/api/v1/me").status_code == 401


def test_a_new_password_ends_the_other_sessions(fresh: Callable[..., Site]) -> None:
    site = fresh()
    member, other = site.member(Role.VIEWER), site.stranger()
    assert sign_in(other, "viewer@lab.example").status_code == 303
    form = {"old": PASSWORD, "password": "another horse battery", "again": "another horse battery"}
    assert "another one" in member.post("/account/password", data=form | {"old": "wrong"}).text
    assert "differ" in member.post("/account/password", data=form | {"again": "x"}).text
    assert other.get("/").status_code == 200
    assert member.post("/account/password", data=form).status_code == 303
    assert member.get("/account").status_code == 200
    assert other.get("/").status_code == 303
    member.headers["X-CSRF-Token"] = csrf_of(member.cookies[site.settings.address.cookie])
    assert member.post("/account/sessions").status_code == 303
    assert member.get("/").status_code == 303


def test_behind_a_tls_proxy(public: Callable[..., Site]) -> None:
    site = public()
    browser = behind_proxy(site)
    answer = invited(site, browser, role=Role.ADMIN)
    assert answer.status_code == 303
    cookie = answer.headers["set-cookie"]
    assert cookie.startswith("__Host-fieldwatch=") and "domain" not in cookie.lower()
    for flag in ("Secure", "HttpOnly", "SameSite=lax", "Path=/"):
        assert flag in cookie
    page = browser.get("/", headers={"X-Forwarded-For": "192.0.2.7"})
    assert page.status_code == 200
    assert page.headers["strict-transport-security"].startswith("max-age=31536000")
    assert behind_proxy(site, base="https://evil.example/").get("/").status_code == 421
    direct = behind_proxy(site, peer="10.0.0.9").post("/sign-in", data={"name": "ada@lab.example", "password": "x"})
    assert direct.status_code == 403 and "Not over TLS" in direct.text
    csrf = csrf_of(browser.cookies["__Host-fieldwatch"])
    for origin, status in (("https://watch.example.org", 303), ("http://watch.example.org", 403)):
        form = {"csrf": csrf, "name": "x", "scope": "see"}
        answer = browser.post(
            "/account/sessions" if status == 303 else "/account/tokens", data=form, headers={"Origin": origin}
        )
        assert answer.status_code == status


def test_the_limit_is_for_who_asks_not_for_the_proxy(public: Callable[..., Site]) -> None:
    site = public()
    invited(site, behind_proxy(site))
    for _ in range(limits.SIGN_IN_PAIR.most):
        behind_proxy(site).post(
            "/sign-in",
            data={"name": "ada@lab.example", "password": "x"},
            headers={"X-Forwarded-For": "6.6.6.6, 192.0.2.66"},
        )
    good = {"name": "ada@lab.example", "password": PASSWORD}
    refused = behind_proxy(site).post("/sign-in", data=good, headers={"X-Forwarded-For": "7.7.7.7, 192.0.2.66"})
    assert refused.status_code == 429
    answer = behind_proxy(site).post("/sign-in", data=good, headers={"X-Forwarded-For": "192.0.2.7"})
    assert answer.status_code == 303


@pytest.mark.parametrize("taken_off", [True, False])
def test_under_a_path(public: Callable[..., Site], taken_off: bool) -> None:
    base = "https://lab.example/watch"
    site = public(f"{base}/")
    browser = behind_proxy(site, base="https://lab.example")
    before = "" if taken_off else "/watch"
    secret = site.app.state.accounts.invite("ada", Role.ADMIN, "test")
    form = {"token": secret, "password": PASSWORD, "again": PASSWORD}
    answer = browser.post(f"{before}/link", data=form)
    assert answer.headers["location"] == "/watch/"
    page = browser.get(f"{before}/")
    assert page.status_code == 200
    addresses = re.findall(r' (?:href|src|action)="(/[^"]*)"', page.text)
    assert addresses and all(address.startswith("/watch/") for address in addresses)
    style = next(address for address in addresses if address.endswith(".css"))
    assert browser.get(style.removeprefix("/watch") if taken_off else style).status_code == 200
    assert (
        behind_proxy(site, base="https://lab.example")
        .get(f"{before}/alerts")
        .headers["location"]
        .startswith("/watch/sign-in")
    )
    assert (
        f"{base}/link?token="
        in browser.post(
            f"{before}/users",
            data={"name": "bob", "role": "viewer", "csrf": csrf_of(browser.cookies["__Host-fieldwatch"])},
        ).text
    )


def test_no_start_link_and_no_configured_token_where_others_come_in(public: Callable[..., Site]) -> None:
    with pytest.raises(ValueError, match="token create"):
        WebSettings(public=PUBLIC, api_token="a" * 32)
    site = public()
    invited(site, behind_proxy(site))
    answer = behind_proxy(site).get("/start")
    assert answer.headers["location"] == "/sign-in"


def test_through_the_identity_provider(public: Callable[..., Site]) -> None:
    with identity.provider() as there:
        site = public(provider=Provider(there.issuer, identity.CLIENT, identity.SECRET, "the institute"))
        secret = site.app.state.accounts.invite("ada@lab.example", Role.ENGINEER, "test")
        browser = behind_proxy(site)
        assert "Use the institute" in browser.get("/link", params={"token": secret}).text

        def come(client: TestClient, **query: str) -> httpx.Response:
            leave = client.get("/sign-in/provider", params=query)
            assert leave.status_code == 303 and leave.headers["location"].startswith(there.issuer)
            back = httpx.get(leave.headers["location"]).headers["location"]
            assert back.startswith(f"{PUBLIC}sign-in/back?")
            return client.get(back.removeprefix(PUBLIC.rstrip("/")))

        there.subject = "stranger"
        refused = come(behind_proxy(site))
        assert refused.status_code == 403 and "no account here" in refused.text
        there.subject = "ada-at-the-institute"
        answer = come(browser, token=secret, then="/alerts")
        assert (answer.status_code, answer.headers["location"]) == (303, "/alerts")
        assert "ada@lab.example" in browser.get("/").text
        another = behind_proxy(site)
        assert come(another).status_code == 303 and another.get("/").status_code == 200
        there.subject = "stranger"
        assert come(behind_proxy(site), token=secret).status_code == 403  # the invitation was for one

        victim = behind_proxy(site)
        answer = victim.get("/sign-in/back", params={"code": "stolen", "state": "stolen"})
        assert answer.status_code == 403 and "not begun here" in answer.text


def test_an_identity_provider_that_is_down_is_told(public: Callable[..., Site]) -> None:
    site = public(provider=Provider("http://127.0.0.1:1", "x"))
    invited(site, behind_proxy(site))
    answer = behind_proxy(site).get("/sign-in/provider")
    assert answer.status_code == 502 and "cannot be reached" in answer.text


def test_who_judged_an_alert_is_in_the_trail(fresh: Callable[..., Site]) -> None:
    site = fresh(devices=2)
    alert = site.alerts["warning"]
    member = site.member(Role.ENGINEER)
    assert member.post(f"/alerts/{alert}/verdict", data={"verdict": "real", "note": "bearing worn"}).status_code == 303
    assert member.post(f"/api/v1/alerts/{alert}/verdict", json={"verdict": "false"}).status_code == 201
    with site.store.read() as db:
        found = [(one.who, one.target, one.why) for one in entries(db) if one.action == "alert.judge"]
    target = f"alert {alert} of freezer-0002"
    assert found == [
        ("engineer@lab.example", target, "real: bearing worn"),
        ("engineer@lab.example", target, "false: "),
    ]
