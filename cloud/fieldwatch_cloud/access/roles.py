"""Roles and permissions, as one table. No I/O.

A role is a set of permissions; each route names the one permission it needs; an API token has those of its scopes that
its owner still has. There are no other rules: a person may do what the table says, on all devices.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Permission(StrEnum):
    """What a route can ask for."""

    OPEN = "open"
    """Nothing: sign-in pages, static files, health."""
    OWN = "own"
    """One's own account: password, tokens, signing out."""
    SEE = "see"
    """Devices, alerts, issues, live updates."""
    ANSWER = "answer"
    """Acknowledge, snooze, comment, judge an alert."""
    EXPORT = "export"
    """Take data away in bulk: labels, dossiers."""
    ARRANGE = "arrange"
    """Routes, silences, maintenance, names and sites."""
    RELEASE = "release"
    """What concerns bundles: their effect on the fleet, halting a rollout."""
    ADMINISTER = "administer"
    """People, their roles, the audit trail."""


class Role(StrEnum):
    """What a person is here."""

    VIEWER = "viewer"
    ENGINEER = "engineer"
    RELEASE = "release"
    ADMIN = "admin"


_VIEWER = frozenset({Permission.OPEN, Permission.OWN, Permission.SEE})
_ENGINEER = _VIEWER | {Permission.ANSWER, Permission.EXPORT, Permission.ARRANGE}
_RELEASE = _ENGINEER | {Permission.RELEASE}

MAY: dict[Role, frozenset[Permission]] = {
    Role.VIEWER: _VIEWER,
    Role.ENGINEER: _ENGINEER,
    Role.RELEASE: _RELEASE,
    Role.ADMIN: frozenset(Permission),
}
"""The table."""

SCOPES: tuple[Permission, ...] = (
    Permission.SEE,
    Permission.ANSWER,
    Permission.EXPORT,
    Permission.ARRANGE,
    Permission.RELEASE,
)
"""What an API token may be made for: never people, passwords or other tokens."""


@dataclass(frozen=True)
class Principal:
    """Who a request comes from. ``name``: as the audit trail writes it; ``csrf``: of a session, "" of a script."""

    name: str
    permissions: frozenset[Permission]
    person: int | None = None
    role: Role | None = None
    csrf: str = ""
    session: str = ""

    def may(self, permission: Permission) -> bool:
        """Tell whether they have it."""
        return permission in self.permissions


NOBODY = Principal("nobody", frozenset({Permission.OPEN}))
"""Whoever has not signed in."""


def of_token(role: Role, scopes: Iterable[str]) -> frozenset[Permission]:
    """Return what a token with these scopes may do: never more than its owner may do now.

    >>> sorted(of_token(Role.VIEWER, ["see", "answer"]))
    [<Permission.OPEN: 'open'>, <Permission.SEE: 'see'>]
    """
    wanted = {scope for scope in SCOPES if scope in set(scopes)}
    return (MAY[role] & wanted) | {Permission.OPEN}
