"""Accounts, sessions and tokens in a real store."""

from __future__ import annotations

import pytest
from fieldwatch_cloud.access import lifetimes
from fieldwatch_cloud.access.accounts import DEMO, AccessError, Accounts, Person
from fieldwatch_cloud.access.roles import MAY, Permission, Role
from fieldwatch_cloud.access.sessions import SESSIONS_EACH, Sessions
from fieldwatch_cloud.store import Store
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.audit import entries
from fieldwatch_contract import clock
from sqlalchemy import select

pytestmark = pytest.mark.usefixtures("cheap_passwords")

GOOD = "correct horse battery"
ANOTHER = "wrong mule capacitor"


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The clock: ``time[0] += …`` moves it (µs)."""
    now = [clock.now()]
    monkeypatch.setattr(clock, "now", lambda: now[0])
    return now


def member(accounts: Accounts, name: str, role: Role = Role.ENGINEER) -> Person:
    return accounts.set_password(accounts.invite(name, role, "test"), GOOD)


def audited(store: Store) -> list[tuple[str, str, str]]:
    with store.read() as db:
        return [(one.who, one.action, one.target) for one in entries(db)]


def test_an_invitation_lets_one_person_in_once(accounts: Accounts, store: Store) -> None:
    secret = accounts.invite(" Ada@Lab.example ", Role.ENGINEER, "command line (root)", "new colleague")
    assert accounts.by_password("ada@lab.example", GOOD) is None
    ada = accounts.set_password(secret, GOOD)
    assert (ada.name, ada.role, ada.state, ada.signs_in) == ("ada@lab.example", Role.ENGINEER, "active", ("password",))
    with pytest.raises(AccessError, match="works no more"):
        accounts.set_password(secret, ANOTHER)
    found = accounts.by_password("ADA@lab.example", GOOD)
    assert found is not None and found.id == ada.id
    assert [action for _, action, _ in audited(store)] == ["person.invite", "person.password", "person.sign-in"]


def test_nothing_in_the_store_lets_anybody_in(accounts: Accounts, sessions: Sessions, store: Store) -> None:
    secret = accounts.invite("ada", Role.ADMIN, "test")
    ada = accounts.set_password(secret, GOOD)
    again = accounts.reset("ada", "test")
    cookie = sessions.begin(ada, "127.0.0.1", "browser")
    token = sessions.make_token(ada, "nightly", ["see"], 1, "ada")
    with store.read() as db:
        rows = [str(row) for table in t.metadata.sorted_tables for row in db.execute(select(table))]
    for one in (secret, again, cookie, token, token[3:], GOOD):
        assert not any(one in row for row in rows)


def test_only_the_newest_link_works_and_only_until_its_end(accounts: Accounts, time: list[int]) -> None:
    first = accounts.invite("ada", Role.VIEWER, "test")
    second = accounts.invite("ada", Role.ENGINEER, "test")
    assert accounts.link(first) is None
    found = accounts.link(second)
    assert found is not None and found.role is Role.ENGINEER
    assert accounts.person("ada").state == "invited"
    time[0] += lifetimes.LINKS["invitation"]
    assert accounts.link(second) is None
    assert accounts.person("ada").state == "invitation expired"
    third = accounts.invite("ada", Role.ENGINEER, "test")
    accounts.set_password(third, GOOD)
    with pytest.raises(AccessError, match="has an account already"):
        accounts.invite("ada", Role.ADMIN, "test")


@pytest.mark.parametrize("name", ["", "a", "Ada Lovelace", "ada\nroot", "x" * 101, "-ada", "ädä", DEMO])
def test_names_are_addresses_or_short_names(accounts: Accounts, name: str) -> None:
    with pytest.raises(AccessError):
        accounts.invite(name, Role.VIEWER, "test")


def test_a_weak_password_does_not_spend_the_link(accounts: Accounts) -> None:
    secret = accounts.invite("ada", Role.VIEWER, "test")
    with pytest.raises(AccessError, match="at least 12"):
        accounts.set_password(secret, "short")
    assert accounts.set_password(secret, GOOD).name == "ada"


def test_a_reset_ends_what_was_open(accounts: Accounts, sessions: Sessions) -> None:
    ada = member(accounts, "ada")
    cookie = sessions.begin(ada, "127.0.0.1", "browser")
    secret = accounts.reset("ada", "test", "forgotten")
    assert sessions.find(cookie) is not None
    accounts.set_password(secret, ANOTHER)
    assert sessions.find(cookie) is None
    assert accounts.by_password("ada", GOOD) is None
    assert accounts.by_password("ada", ANOTHER) is not None


def test_one_changes_ones_own_password_knowing_the_old_one(accounts: Accounts, sessions: Sessions) -> None:
    ada = member(accounts, "ada")
    cookie = sessions.begin(ada, "127.0.0.1", "browser")
    with pytest.raises(AccessError, match="another one"):
        accounts.change_password(ada.id, ANOTHER, ANOTHER)
    with pytest.raises(AccessError, match="at least"):
        accounts.change_password(ada.id, GOOD, "short")
    assert sessions.find(cookie) is not None
    accounts.change_password(ada.id, GOOD, ANOTHER)
    assert sessions.find(cookie) is None
    assert accounts.by_password("ada", ANOTHER) is not None


def test_who_is_disabled_is_out_at_once(accounts: Accounts, sessions: Sessions) -> None:
    member(accounts, "chief", Role.ADMIN)
    ada = member(accounts, "ada")
    cookie, token = sessions.begin(ada, "a", "b"), sessions.make_token(ada, "x", ["see"], 1, "ada")
    link = accounts.reset("ada", "test")
    assert sessions.find(cookie) and sessions.find_token(token)
    accounts.disable("ada", "chief", "left the lab")
    assert sessions.find(cookie) is None
    assert sessions.find_token(token) is None
    assert accounts.link(link) is None
    assert accounts.by_password("ada", GOOD) is None
    with pytest.raises(AccessError, match="is disabled"):
        accounts.reset("ada", "chief")
    accounts.enable("ada", "chief")
    assert sessions.find(cookie) is None
    assert accounts.by_password("ada", GOOD) is not None


def test_another_role_counts_at_once(accounts: Accounts, sessions: Sessions) -> None:
    ada = member(accounts, "ada")
    cookie = sessions.begin(ada, "a", "b")
    token = sessions.make_token(ada, "x", ["see", "answer"], 1, "ada")
    accounts.change_role("ada", Role.VIEWER, "chief")
    assert sessions.find(cookie) is None
    found = sessions.find_token(token)
    assert found is not None
    assert found.may(Permission.SEE) and not found.may(Permission.ANSWER)


def test_an_admin_is_always_left(accounts: Accounts) -> None:
    member(accounts, "chief", Role.ADMIN)
    accounts.invite("second", Role.ADMIN, "test")  # has not come yet, so does not count
    for act in (
        lambda: accounts.disable("chief", "chief"),
        lambda: accounts.change_role("chief", Role.VIEWER, "chief"),
    ):
        with pytest.raises(AccessError, match="last administrator"):
            act()
    member(accounts, "third", Role.ADMIN)
    accounts.disable("chief", "third")


def test_a_session_ends_idle_whole_and_when_told(accounts: Accounts, sessions: Sessions, time: list[int]) -> None:
    ada = member(accounts, "ada")
    cookie = sessions.begin(ada, "127.0.0.1", "browser")
    found = sessions.find(cookie)
    assert found is not None and found.permissions == MAY[Role.ENGINEER] and found.csrf
    time[0] += lifetimes.SESSION_IDLE
    assert sessions.find(cookie, touch=False) is not None
    time[0] += 1
    assert sessions.find(cookie) is None

    cookie = sessions.begin(ada, "127.0.0.1", "browser")
    for _ in range(14):  # used all the time
        time[0] += lifetimes.SESSION_IDLE
        assert sessions.find(cookie) is not None
    time[0] += 1
    assert sessions.find(cookie) is None

    cookie = sessions.begin(ada, "127.0.0.1", "browser")
    found = sessions.find(cookie)
    assert found is not None
    sessions.end(found.session, "ada")
    assert sessions.find(cookie) is None


def test_signing_in_draws_a_new_session_and_ends_the_one_before(accounts: Accounts, sessions: Sessions) -> None:
    ada = member(accounts, "ada")
    first = sessions.begin(ada, "a", "b")
    second = sessions.begin(ada, "a", "b", before=first)
    assert first != second and sessions.find(first) is None and sessions.find(second) is not None
    sessions.end_all(ada.id, "ada")
    assert sessions.find(second) is None


def test_one_person_has_so_many_sessions(accounts: Accounts, sessions: Sessions, time: list[int]) -> None:
    ada = member(accounts, "ada")
    cookies = []
    for _ in range(SESSIONS_EACH + 1):
        time[0] += 1
        cookies.append(sessions.begin(ada, "a", "b"))
    assert sessions.find(cookies[0]) is None
    assert sessions.find(cookies[1]) is not None
    assert len(sessions.of(ada.id)) == SESSIONS_EACH


@pytest.mark.parametrize("cookie", [None, "", "x", "ä" * 5000])
def test_what_is_no_cookie_signs_nobody_in(sessions: Sessions, cookie: str | None) -> None:
    assert sessions.find(cookie) is None
    assert sessions.find_token(cookie or "") is None


def test_tokens_have_scope_end_and_owner(accounts: Accounts, sessions: Sessions, time: list[int]) -> None:
    ada = member(accounts, "ada", Role.VIEWER)
    for name, scopes, days, says in (
        ("x", ["answer"], 1, "may not answer"),
        ("x", ["administer"], 1, "scopes are"),
        ("x", [], 1, "scopes are"),
        ("x", ["see"], 400, "1 to 366 days"),
        (" ", ["see"], 1, "needs a name"),
        ("a\nb", ["see"], 1, "needs a name"),
    ):
        with pytest.raises(AccessError, match=says):
            sessions.make_token(ada, name, scopes, days, "ada")
    token = sessions.make_token(ada, "nightly export", ["see"], 2, "ada")
    found = sessions.find_token(token)
    assert found is not None and found.name == "token nightly export of ada" and found.csrf == ""
    assert found.permissions == {Permission.OPEN, Permission.SEE}
    time[0] += 2 * clock.DAY
    assert sessions.find_token(token) is None

    token = sessions.make_token(ada, "another", ["see"], 2, "ada")
    number = sessions.tokens(ada.id)[0].id
    bob = member(accounts, "bob")
    with pytest.raises(AccessError, match="no token"):
        sessions.revoke(number, "bob", person=bob.id)
    sessions.revoke(number, "ada", person=ada.id)
    assert sessions.find_token(token) is None


def test_an_identity_is_bound_by_an_invitation_and_by_nothing_else(accounts: Accounts) -> None:
    with pytest.raises(AccessError, match="no account here"):
        accounts.by_provider("https://id.example", "s-1", None)
    secret = accounts.invite("ada@lab.example", Role.ENGINEER, "test")
    ada = accounts.by_provider("https://id.example", "s-1", secret)
    assert ada.name == "ada@lab.example" and ada.signs_in == ("provider",)
    assert accounts.by_provider("https://id.example", "s-1", None).id == ada.id
    for issuer, subject in (("https://other.example", "s-1"), ("https://id.example", "s-2")):
        with pytest.raises(AccessError, match="no account here"):
            accounts.by_provider(issuer, subject, None)
    with pytest.raises(AccessError, match="works no more"):
        accounts.by_provider("https://id.example", "s-2", secret)
    assert accounts.by_password("ada@lab.example", "") is None
    member(accounts, "chief", Role.ADMIN)
    accounts.disable("ada@lab.example", "chief")
    with pytest.raises(AccessError, match="no account here"):
        accounts.by_provider("https://id.example", "s-1", None)


def test_the_demo_ends_when_an_admin_has_an_account(accounts: Accounts, sessions: Sessions) -> None:
    secret = accounts.admit()
    assert not accounts.exist()
    demo = accounts.enter(secret)
    assert demo is not None and demo.role is Role.ADMIN
    assert accounts.enter(secret) is None
    cookie = sessions.begin(demo, "a", "b")
    member(accounts, "ada", Role.VIEWER)
    assert sessions.find(cookie) is not None
    member(accounts, "chief", Role.ADMIN)
    assert sessions.find(cookie) is None
    with pytest.raises(AccessError, match="people sign in"):
        accounts.admit()


def test_a_start_link_sets_no_password_and_an_invitation_is_no_start_link(accounts: Accounts) -> None:
    with pytest.raises(AccessError, match="works no more"):
        accounts.set_password(accounts.admit(), GOOD)
    assert accounts.enter(accounts.invite("ada", Role.VIEWER, "test")) is None
