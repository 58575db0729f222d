"""``fieldwatch-cloud user``, ``token``, ``audit``, ``link``, and what ``serve`` refuses."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from fieldwatch_cloud.__main__ import main
from fieldwatch_cloud.access.accounts import Accounts
from fieldwatch_cloud.access.roles import Role
from fieldwatch_cloud.store import Store, sqlite_url
from fieldwatch_cloud.store import tables as t
from sqlalchemy import update

GOOD = "correct horse battery"
Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a command with the configuration of this test: ``run("user", "list")`` → code, output, errors."""
    config = tmp_path / "cloud.toml"
    config.write_text('[store]\npath = "store.db"\n')

    def act(*command: str, web: str = "") -> tuple[int, str, str]:
        config.write_text(f'{web}\n[store]\npath = "store.db"\n')
        capsys.readouterr()
        code = main([*command, "--config", str(config)])
        out, err = capsys.readouterr()
        return code, out, err

    return act


@pytest.fixture
def accept(tmp_path: Path) -> Callable[[str], None]:
    """Follow a printed link and set a password."""

    def follow(printed: str) -> None:
        store = Store(sqlite_url(tmp_path / "store.db"))
        Accounts(store).set_password(printed.strip().split("token=")[1], GOOD)
        store.close()

    return follow


def test_a_persons_life_on_the_command_line(run: Run, accept: Callable[[str], None]) -> None:
    code, link, said = run("user", "invite", "ada@lab.example", "--role", "admin")
    assert code == 0 and link.startswith("http://127.0.0.1:8080/link?token=") and "works once" in said
    assert run("user", "list")[1].split() == ["ada@lab.example", "admin", "invited", "never"]
    accept(link)
    assert run("user", "invite", "bob", "--role", "viewer")[0] == 0
    code, out, _ = run("user", "list", "--json")
    assert [(one["name"], one["state"]) for one in json.loads(out)] == [
        ("ada@lab.example", "active"),
        ("bob", "invited"),
    ]
    assert run("user", "role", "bob", "engineer", "--why", "promoted")[0] == 0
    code, _, said = run("user", "disable", "ada@lab.example")
    assert code == 1 and "last administrator" in said
    assert run("user", "reset", "ada@lab.example")[1].startswith("http://127.0.0.1:8080/link?token=")
    assert run("user", "disable", "bob", "--why", "left")[0] == 0
    assert run("user", "enable", "bob")[0] == 0
    code, out, _ = run("export", "audit", "--format", "jsonl")
    rows = [json.loads(line) for line in out.splitlines()]
    assert [row["action"].split(".")[1] for row in rows] == [
        "invite",
        "password",
        "invite",
        "role",
        "reset",
        "disable",
        "enable",
    ]
    assert rows[3]["why"] == "from viewer to engineer: promoted" and rows[3]["who"].startswith("command line")


@pytest.mark.parametrize(
    ("command", "says"),
    [
        (("user", "reset", "nobody"), "there is no account 'nobody'"),
        (("user", "invite", "Not A Name", "--role", "viewer"), "is not a name"),
        (("token", "create", "nobody", "--for", "x", "--scope", "see"), "there is no account"),
        (("token", "revoke", "7"), "there is no token 7"),
    ],
)
def test_mistakes_are_told(run: Run, command: tuple[str, ...], says: str) -> None:
    code, out, said = run(*command)
    assert code == 1 and says in said and out == "" and "Traceback" not in said


def test_tokens_on_the_command_line(run: Run, accept: Callable[[str], None]) -> None:
    accept(run("user", "invite", "ada", "--role", "engineer")[1])
    code, token, said = run("token", "create", "ada", "--for", "nightly export", "--scope", "export", "--days", "2")
    assert code == 0 and token.startswith("fw_") and "once" in said
    listed = json.loads(run("token", "list", "--json")[1])
    assert [(one["for"], one["owner"], one["state"]) for one in listed] == [("nightly export", "ada", "works")]
    assert token.strip() not in json.dumps(listed)
    assert run("token", "create", "ada", "--for", "x", "--scope", "release")[0] == 1
    assert run("token", "revoke", str(listed[0]["id"]), "--why", "leaked")[0] == 0
    assert "revoked" in run("token", "list")[1]


def test_a_broken_trail_is_a_refusal(run: Run, tmp_path: Path) -> None:
    run("user", "invite", "ada", "--role", "viewer")
    code, out, _ = run("audit", "verify")
    assert code == 0 and "1 entries, unbroken" in out
    end = out.strip().split()[-1]
    run("user", "invite", "bob", "--role", "viewer")
    assert run("audit", "verify", "--expect", end)[0] == 0
    assert run("audit", "verify", "--expect", f"1:{'0' * 64}")[0] == 3
    assert run("audit", "verify", "--expect", "x")[0] == 2
    store = Store(sqlite_url(tmp_path / "store.db"))
    with store.write() as db:
        db.execute(update(t.audit).where(t.audit.c.id == 1).values(why="as admin"))
    store.close()
    code, _, said = run("audit", "verify")
    assert code == 3 and "entry 1 was changed" in said


def test_a_start_link_as_long_as_there_are_no_accounts(run: Run) -> None:
    code, link, _ = run("link")
    assert code == 0 and link.startswith("http://127.0.0.1:8080/start?token=")
    run("user", "invite", "ada", "--role", "admin")
    code, _, said = run("link")
    assert code == 1 and "people sign in" in said


@pytest.mark.parametrize(
    ("web", "says"),
    [
        ('[web]\nhost = "0.0.0.0"', "give web.url (https)"),
        ('[web]\nhost = "0.0.0.0"\nurl = "https://watch.example.org/"', "who speaks TLS"),
        ('[web]\nurl = "http://watch.example.org/"', "must be as https"),
        ('[web]\nurl = "https://watch.example.org/"', "user invite NAME --role admin"),
        ('[web]\nurl = "https://watch.example.org/"\napi_token = "aaaaaaaaaaaaaaaaaaaaaaaa"', "token create"),
        ('[web]\ncertificate = "a.pem"', "certificate and key belong together"),
        ('[oidc]\nissuer = "https://id.example"\nclient_id = "x"\nsecret_file = "none"', "oidc.secret_file"),
        ('[oidc]\nissuer = "id.example"\nclient_id = "x"', "oidc.issuer"),
    ],
)
def test_what_is_not_safe_does_not_start(run: Run, web: str, says: str) -> None:
    code, _, said = run("serve", web=web)
    assert code == 2 and says in said and "Traceback" not in said


def test_links_name_the_address_that_people_open(run: Run) -> None:
    web = '[web]\nurl = "https://lab.example/watch/"'
    assert run("user", "invite", "ada", "--role", "admin", web=web)[1].startswith(
        "https://lab.example/watch/link?token="
    )
    code, _, said = run("link", web=web)
    assert code == 1 and "user invite" in said


def test_roles_on_the_command_line_are_the_roles() -> None:
    from fieldwatch_cloud.access.parsers import ROLES

    assert [Role(one) for one in ROLES] == list(Role)
