"""Commands about access: ``user``, ``token``, ``audit``, ``link``. They work while the server runs, on the same store.

Whoever may read and write the store's file may do all of this: that is the way in when nobody can sign in any more.
"""

from __future__ import annotations

import argparse
import getpass
import json
import re
import sys
from collections.abc import Callable
from functools import wraps
from typing import Any

from fieldwatch_contract import clock

from fieldwatch_cloud.access.accounts import AccessError, Accounts
from fieldwatch_cloud.access.address import Address
from fieldwatch_cloud.access.roles import Role
from fieldwatch_cloud.access.sessions import Sessions
from fieldwatch_cloud.config import Config, ConfigError, load
from fieldwatch_cloud.store.audit import check, entries
from fieldwatch_cloud.store.database import Database, sqlite_url

OK, FAILED, REFUSED = 0, 1, 3

Command = Callable[[argparse.Namespace, Config, Database], int]


def _command(act: Command) -> Callable[[argparse.Namespace], int]:
    """Open the store of the configuration for a command."""

    @wraps(act)
    def run(options: argparse.Namespace) -> int:
        config = load(options.config)
        store = Database(sqlite_url(config.store.path))
        try:
            return act(options, config, store)
        except AccessError as error:
            print(error, file=sys.stderr)
            return FAILED
        finally:
            store.close()

    return run


def address_of(config: Config) -> Address:
    """Return where people reach the dashboard. Raises :class:`ConfigError` where that would not be safe."""
    web = config.web
    try:
        return Address(web.host, web.port, web.url, tuple(web.proxies), web.certificate is not None)
    except ValueError as error:
        raise ConfigError([str(error)]) from error


@_command
def invite(options: argparse.Namespace, config: Config, store: Database) -> int:
    """Make an account."""
    return _link(config, Accounts(store).invite(options.name, Role(options.role), _who(), options.why), options.name)


@_command
def reset(options: argparse.Namespace, config: Config, store: Database) -> int:
    """Make a link for a new password."""
    return _link(config, Accounts(store).reset(options.name, _who(), options.why), options.name)


@_command
def disable(options: argparse.Namespace, config: Config, store: Database) -> int:
    """Shut an account."""
    Accounts(store).disable(options.name, _who(), options.why)
    return _say(f"{options.name} is disabled: sessions, links and tokens have ended")


@_command
def enable(options: argparse.Namespace, config: Config, store: Database) -> int:
    """Open an account again."""
    Accounts(store).enable(options.name, _who(), options.why)
    return _say(f"{options.name} can sign in again")


@_command
def role(options: argparse.Namespace, config: Config, store: Database) -> int:
    """Give another role."""
    Accounts(store).change_role(options.name, Role(options.role), _who(), options.why)
    return _say(f"{options.name} is {options.role} now, and signs in again")


@_command
def people(options: argparse.Namespace, config: Config, store: Database) -> int:
    """List the accounts."""
    found = Accounts(store).everybody()
    if options.json:
        rows: list[dict[str, object]] = [
            {"name": one.name, "role": one.role.value, "state": one.state, "signs_in": one.signs_in}
            | {"made_at": clock.iso(one.made_at), "last_sign_in": _iso(one.last_at)}
            for one in found
        ]
        return _say(json.dumps(rows, indent=2))
    return _table([(one.name, one.role.value, one.state, _iso(one.last_at) or "never") for one in found])


@_command
def create(options: argparse.Namespace, config: Config, store: Database) -> int:
    """Make an API token."""
    owner = Accounts(store).person(options.name)
    token = Sessions(store).make_token(owner, options.purpose, options.scope, options.days, _who())
    print("shown this once; send it as: Authorization: Bearer …", file=sys.stderr)
    return _say(token)


@_command
def tokens(options: argparse.Namespace, config: Config, store: Database) -> int:
    """List the API tokens."""
    now = clock.now()
    rows = [
        {"id": row.id, "for": row.name, "owner": row.owner, "scopes": row.scopes, "ends_at": clock.iso(row.ends_at)}
        | {"state": "revoked" if row.revoked_at is not None else "ended" if row.ends_at < now else "works"}
        for row in Sessions(store).tokens()
    ]
    if options.json:
        return _say(json.dumps(rows, indent=2))
    return _table(
        [(str(r["id"]), str(r["owner"]), r["state"], ",".join(r["scopes"]), r["ends_at"][:10], r["for"]) for r in rows]
    )


@_command
def revoke(options: argparse.Namespace, config: Config, store: Database) -> int:
    """End an API token."""
    Sessions(store).revoke(options.number, _who(), why=options.why)
    return _say(f"token {options.number} has ended")


@_command
def verify(options: argparse.Namespace, config: Config, store: Database) -> int:
    """Check the audit trail."""
    expect = None
    if options.expect is not None:
        parts = re.fullmatch(r"(\d{1,15}):([0-9a-f]{64})", options.expect)
        if parts is None:
            raise ConfigError([f"--expect {options.expect!r} is not NUMBER:HASH, as this command prints it"])
        expect = (int(parts[1]), parts[2])
    with store.read() as db:
        number, end, wrong = check(entries(db), expect)
    if wrong:
        print(f"the audit trail is broken: {wrong}", file=sys.stderr)
        return REFUSED
    return _say(f"{number} entries, unbroken; the end: {number}:{end}")


@_command
def start_link(options: argparse.Namespace, config: Config, store: Database) -> int:
    """Make a start link."""
    address = address_of(config)
    if address.url is not None:
        raise AccessError("web.url lets others in: `fieldwatch-cloud user invite NAME --role admin` makes an account")
    return _say(f"{address.home}start?token={Accounts(store).admit()}")


def _link(config: Config, secret: str, name: str) -> int:
    print(f"for {name}; works once, and replaces earlier links:", file=sys.stderr)
    return _say(f"{address_of(config).home}link?token={secret}")


def _who() -> str:
    try:
        return f"command line ({getpass.getuser()})"
    except (KeyError, OSError):  # a user id without a name, as in containers
        return "command line"


def _iso(ts: int | None) -> str | None:
    return None if ts is None else clock.iso(ts)


def _table(rows: list[tuple[Any, ...]]) -> int:
    widths = [max(len(str(row[i])) for row in rows) for i in range(len(rows[0]))] if rows else []
    for row in rows:
        _say("  ".join(f"{cell!s:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    return OK


def _say(text: str) -> int:
    print(text)
    return OK
