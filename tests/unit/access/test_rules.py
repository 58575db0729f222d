"""Rules of access without I/O: roles, lifetimes, limits, passwords, addresses."""

from __future__ import annotations

import itertools

import pytest
from fieldwatch_cloud.access import limits, passwords
from fieldwatch_cloud.access.address import Address
from fieldwatch_cloud.access.lifetimes import SESSION_IDLE, SESSION_WHOLE, session_alive, token_end
from fieldwatch_cloud.access.roles import MAY, NOBODY, SCOPES, Permission, Role, of_token
from fieldwatch_contract import clock

PUBLIC = "https://watch.example.org/"


def test_each_role_may_more_than_the_one_before() -> None:
    order = [Role.VIEWER, Role.ENGINEER, Role.RELEASE, Role.ADMIN]
    for less, more in itertools.pairwise(order):
        assert MAY[less] < MAY[more]
    assert NOBODY.permissions == {Permission.OPEN}
    assert MAY[Role.ADMIN] == set(Permission)


def test_a_token_does_never_more_than_its_owner() -> None:
    for role in Role:
        assert of_token(role, list(Permission)) <= MAY[role]
        assert Permission.ADMINISTER not in of_token(role, list(Permission))
        assert Permission.OWN not in of_token(role, list(Permission))
        assert of_token(role, []) == {Permission.OPEN}
    assert of_token(Role.ADMIN, SCOPES) >= set(SCOPES)


@pytest.mark.parametrize(
    ("made", "used", "now", "alive"),
    [
        (0, 0, SESSION_IDLE, True),
        (0, 0, SESSION_IDLE + 1, False),
        (0, SESSION_WHOLE, SESSION_WHOLE, True),
        (0, SESSION_WHOLE, SESSION_WHOLE + 1, False),
    ],
)
def test_a_session_ends_idle_and_whole(made: int, used: int, now: int, alive: bool) -> None:
    assert session_alive(made, used, now) is alive


def test_a_token_ends() -> None:
    assert token_end(1, 5) == clock.DAY + 5
    for days in (0, 367, -1):
        with pytest.raises(ValueError, match="1 to 366 days"):
            token_end(days, 0)


def test_tries_are_limited_by_key_and_forgotten() -> None:
    rule = limits.Rule(3, 60)
    limiter = limits.Limiter()
    for second in range(3):
        assert limiter.wait(rule, "a", second) == 0
        limiter.count(rule, "a", second)
    assert limiter.wait(rule, "a", 10) == 50
    assert limiter.wait(rule, "b", 10) == 0
    assert limiter.wait(rule, "a", 60) == 0
    limiter.count(rule, "a", 60)
    assert limiter.wait(rule, "a", 61) == 0
    for _ in range(2):
        limiter.count(rule, "a", 61)
    assert limiter.wait(rule, "a", 61) > 0
    limiter.forget(rule, "a")
    assert limiter.wait(rule, "a", 61) == 0


def test_ever_new_names_do_not_fill_the_memory() -> None:
    limiter = limits.Limiter()
    for number in range(limits.KEYS + 50):
        limiter.count(limits.SIGN_IN_NAME, str(number), 0)
    assert len(limiter._windows) == limits.KEYS


@pytest.mark.parametrize("password", ["short", "a" * 201, "aaaaaaaaaaaaaaaaaa", "adalovelace1", ""])
def test_weak_passwords_are_not_taken(password: str) -> None:
    assert passwords.objection(password, "ada@lab.example")


def test_passwords_are_argon2id_and_never_equal() -> None:
    one, other = passwords.hashed("correct horse battery"), passwords.hashed("correct horse battery")
    assert one.startswith("$argon2id$") and one != other
    assert passwords.fits(one, "correct horse battery")
    assert not passwords.fits(one, "correct horse batterz")
    assert not passwords.fits(None, "nobody has this password")
    assert not passwords.fits("damaged", "correct horse battery")
    assert not passwords.outdated(one)
    assert passwords.outdated("$argon2id$v=19$m=8,t=1,p=1$c29tZXNhbHQ$YTJjYjJhYTJjYjJhYTJjYg")


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"host": "0.0.0.0"}, "TLS proxy"),
        ({"host": "::"}, "TLS proxy"),
        ({"host": "lab.example"}, "TLS proxy"),
        ({"host": "0.0.0.0", "tls": True}, "web.url"),
        ({"host": "0.0.0.0", "url": PUBLIC}, "who speaks TLS"),
        ({"url": "http://watch.example.org/"}, "must be as https"),
        ({"url": "https:///x"}, "must be as https"),
        ({"url": "https://me@watch.example.org/"}, "must be as https"),
        ({"proxies": ("10.0.0.5",)}, "needs web.url"),
        ({"url": PUBLIC, "proxies": ("the proxy",)}, "addresses or networks"),
    ],
)
def test_no_way_in_by_which_a_password_could_be_read(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Address(**settings)  # type: ignore[arg-type]


def test_ways_in_that_are_safe() -> None:
    for settings in (
        {},
        {"host": "::1"},
        {"url": PUBLIC},  # a proxy on this machine
        {"host": "0.0.0.0", "url": PUBLIC, "proxies": ("10.0.0.0/8",)},
        {"host": "0.0.0.0", "url": PUBLIC, "tls": True},
    ):
        Address(**settings)  # type: ignore[arg-type]


def test_the_public_address_fixes_scheme_cookie_and_path() -> None:
    here, there = Address(port=81), Address(url="https://lab.example/watch/", port=81)
    assert (here.home, here.prefix, here.secure, here.cookie) == ("http://127.0.0.1:81/", "", False, "fieldwatch_81")
    assert (there.home, there.prefix, there.secure) == ("https://lab.example/watch/", "/watch", True)
    assert there.cookie == "__Host-fieldwatch"


def test_hosts_and_origins() -> None:
    there = Address(url=PUBLIC)
    assert there.knows_host("watch.example.org") and there.knows_host("localhost:8080")
    assert not there.knows_host("evil.example") and not there.knows_host(None) and not there.knows_host("[")
    assert there.knows_origin("https://watch.example.org", "127.0.0.1:8080")
    assert there.knows_origin(None, "x")
    assert there.knows_origin("http://127.0.0.1:8080", "127.0.0.1:8080")  # a tunnel
    for origin in (
        "http://watch.example.org",
        "https://watch.example.org.evil",
        "null",
        "https://watch.example.org:444",
    ):
        assert not there.knows_origin(origin, "watch.example.org")
    assert not Address().knows_origin("http://localhost:1", "127.0.0.1:8080")


def test_only_a_proxy_of_ours_says_who_asks() -> None:
    there = Address(host="10.0.0.2", url=PUBLIC, proxies=("10.0.0.5", "10.0.1.0/24"))
    assert there.client("10.0.0.5", ["1.1.1.1, 192.0.2.7, 10.0.1.9"]) == "192.0.2.7"
    assert there.client("10.0.0.5", ["1.1.1.1", "192.0.2.7"]) == "192.0.2.7"
    assert there.client("10.0.0.5", []) == "10.0.0.5"
    assert there.client("10.0.0.5", ["<script>"]) == "10.0.0.5"
    assert there.client("10.0.0.6", ["1.1.1.1"]) == "10.0.0.6"
    assert Address(url=PUBLIC).client("127.0.0.1", ["192.0.2.7"]) == "192.0.2.7"  # a proxy on this machine
    assert Address().client("127.0.0.1", ["192.0.2.7"]) == "127.0.0.1"
    assert there.came_safely("10.0.0.5") and there.came_safely("127.0.0.1")
    assert not there.came_safely("10.0.0.6") and not there.came_safely("not an address")
