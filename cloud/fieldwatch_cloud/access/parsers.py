"""The command line of ``user``, ``token``, ``audit`` and ``link``; a command loads its libraries when it runs."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from fieldwatch_cloud.access.lifetimes import TOKEN_DAYS
from fieldwatch_cloud.access.roles import SCOPES, Role

Add = Callable[[str, str, str], argparse.ArgumentParser]
Group = Callable[[str, str], Add]
ROLES = [role.value for role in Role]


def groups(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> Group:
    """Return what makes a command with commands below it: ``group(name, what they do)`` gives the ``add`` of those."""

    def group(name: str, text: str) -> Add:
        outer = commands.add_parser(name, help=text, description=text)
        inner = outer.add_subparsers(title="commands", required=True, metavar="COMMAND")

        def add(verb: str, what: str, example: str) -> argparse.ArgumentParser:
            one = inner.add_parser(verb, help=what, description=what, epilog=f"example: {example}")
            one.add_argument("--config", type=Path, help="cloud.toml of the server")
            return one

        return add

    return group


def add_parsers(group: Group, add: Add) -> None:
    """Add the commands' parsers."""
    user = group("user", "invite people, change their roles, let them in again")
    for verb, what, example in (
        (
            "invite",
            "make an account, and a link by which its person comes in",
            "invite ada@lab.example --role engineer",
        ),
        ("reset", "make a link to set a new password", "reset ada@lab.example"),
        ("role", "give another role", "role ada@lab.example admin"),
        ("disable", "shut an account at once", 'disable ada@lab.example --why "left the lab"'),
        ("enable", "open a disabled account again", "enable ada@lab.example"),
    ):
        one = user(verb, what, f"fieldwatch-cloud user {example}")
        one.add_argument("name", help="an e-mail address or a short name")
        if verb == "invite":
            one.add_argument("--role", choices=ROLES, required=True)
        if verb == "role":
            one.add_argument("role", choices=ROLES)
        one.add_argument("--why", default="", help="for the audit trail")
        one.set_defaults(run=_later(verb))
    one = user("list", "show all accounts", "fieldwatch-cloud user list")
    one.add_argument("--json", action="store_true", help="for programs")
    one.set_defaults(run=_later("people"))

    token = group("token", "API tokens for scripts")
    one = token("create", "make one and show it once", "fieldwatch-cloud token create ada --for nightly --scope export")
    one.add_argument("name", help="whose it is: it may never do more than they may")
    one.add_argument("--for", dest="purpose", metavar="PURPOSE", required=True, help="what it is for, in a few words")
    scopes = [scope.value for scope in SCOPES]
    one.add_argument("--scope", action="append", choices=scopes, required=True, help="what it may do; repeatable")
    one.add_argument("--days", type=int, default=TOKEN_DAYS, help="how long it lives (default %(default)s)")
    one.set_defaults(run=_later("create"))
    one = token("list", "show all tokens", "fieldwatch-cloud token list")
    one.add_argument("--json", action="store_true", help="for programs")
    one.set_defaults(run=_later("tokens"))
    one = token("revoke", "end one at once", 'fieldwatch-cloud token revoke 3 --why "leaked"')
    one.add_argument("number", type=int, help="as `token list` shows it")
    one.add_argument("--why", default="", help="for the audit trail")
    one.set_defaults(run=_later("revoke"))

    audit = group("audit", "the audit trail; `export audit` takes it away")
    one = audit("verify", "check that no entry was changed or removed", "fieldwatch-cloud audit verify")
    one.add_argument("--expect", metavar="NUMBER:HASH", help="an end noted earlier, which must still be there")
    one.set_defaults(run=_later("verify"))

    one = add("link", "make a new start link, as long as there are no accounts", "fieldwatch-cloud link")
    one.set_defaults(run=_later("start_link"))


def _later(name: str) -> Callable[[argparse.Namespace], int]:
    def run(options: argparse.Namespace) -> int:
        from fieldwatch_cloud.access import commands

        return int(getattr(commands, name)(options))

    return run
