"""Accounts: who may come in, by which link or password, in which role.

What it promises
    * A person comes in by invitation alone. A link works once, until its end, and only its newest one of each kind.
    * Wrong name, wrong password and disabled account look the same from outside, and take the same time.
    * Who is disabled, changes role or gets a new password loses every session at once; their tokens do no more than
      the new role allows.
    * There is always an admin left: the last active one can neither be disabled nor made something else.
    * Each change is in the audit trail, in the same transaction.

The demo's person (:data:`DEMO`) has no password: the start link of a server that nobody else can reach signs them in.
They end when the first admin has set a password or signed in through the identity provider.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from fieldwatch_contract import clock
from sqlalchemy import Connection, and_, delete, func, insert, or_, select, update

from fieldwatch_cloud.access import passwords
from fieldwatch_cloud.access.lifetimes import LINKS
from fieldwatch_cloud.access.roles import Role
from fieldwatch_cloud.access.secret import digest, draw
from fieldwatch_cloud.store import audit
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.database import Database

DEMO = "demo"
NAME = re.compile(r"[a-z0-9][a-z0-9._+@-]{1,98}[a-z0-9]")
"""An e-mail address or a short name, in lower case."""

LinkKind = Literal["invitation", "reset", "start"]


class AccessError(Exception):
    """What was asked for cannot be done; the message says why and what would."""


@dataclass(frozen=True)
class Person:
    """An account. Times µs; ``signs_in``: by which means they can."""

    id: int
    name: str
    role: Role
    signs_in: tuple[Literal["password", "provider"], ...]
    made_at: int
    last_at: int | None
    disabled_at: int | None
    invited_until: int | None = None

    @property
    def state(self) -> Literal["active", "disabled", "invited", "invitation expired"]:
        """What the account is, in a word."""
        if self.disabled_at is not None:
            return "disabled"
        if self.signs_in or self.name == DEMO:
            return "active"
        return "invited" if self.invited_until is not None else "invitation expired"


@dataclass(frozen=True)
class Link:
    """A link that still works: whose, and what for."""

    person: int
    name: str
    role: Role
    kind: LinkKind


def valid_name(text: str) -> str:
    """Return the name as it is kept. Raises :class:`AccessError` for one that cannot be."""
    name = text.strip().lower()
    if not NAME.fullmatch(name):
        raise AccessError(
            f"{text.strip()[:100]!r} is not a name: an e-mail address, or 3 to 100 letters, digits and . _ + @ -"
        )
    return name


@dataclass(frozen=True)
class Accounts:
    """The accounts in ``store``; ``who`` in its methods is the one who acts, as the audit trail writes it."""

    store: Database

    # ---- questions ----

    def everybody(self) -> list[Person]:
        """Return all accounts, by name."""
        with self.store.read() as db:
            return _people(db, clock.now())

    def person(self, name: str) -> Person:
        """Return the account of this name. Raises :class:`AccessError` where there is none."""
        wanted = name.strip().lower()
        found = next((one for one in self.everybody() if one.name == wanted), None)
        if found is None:
            raise AccessError(f"there is no account {name!r}; `fieldwatch-cloud user list` shows all")
        return found

    def exist(self) -> bool:
        """Tell whether anybody but the demo's person has, or was given, an account."""
        return any(one.name != DEMO and one.disabled_at is None for one in self.everybody())

    def link(self, secret: str) -> Link | None:
        """Return what a link is for; None where it does not work (any more)."""
        with self.store.read() as db:
            return _link(db, secret, clock.now())

    # ---- by an administrator ----

    def invite(self, name: str, role: Role, who: str, why: str = "") -> str:
        """Make an account, or renew the invitation of one that nobody has used; return the link's secret."""
        name = valid_name(name)
        now = clock.now()
        with self.store.write() as db:
            found = _by_name(db, name)
            if name == DEMO or (found is not None and (found.password or found.subject)):
                raise AccessError(f"{name} has an account already: `user reset` gives a new link, `user role` a role")
            if found is None:
                person = _add(db, name, role, now)
            else:
                person = found.id
                values = {"role": role.value, "disabled_at": None}
                db.execute(update(t.person).where(t.person.c.id == person).values(**values))
            secret = _draw_link(db, person, "invitation", now)
            audit.record(db, who, "person.invite", name, f"as {role.value}{_because(why)}", now)
        return secret

    def reset(self, name: str, who: str, why: str = "") -> str:
        """Return the secret of a link by which the person sets a new password."""
        now = clock.now()
        with self.store.write() as db:
            found = _known(db, name)
            if found.disabled_at is not None:
                raise AccessError(f"{found.name} is disabled: `user enable` first")
            secret = _draw_link(db, found.id, "reset", now)
            audit.record(db, who, "person.reset", found.name, why, now)
        return secret

    def disable(self, name: str, who: str, why: str = "") -> None:
        """Shut an account at once: sessions end, tokens and links work no more."""
        now = clock.now()
        with self.store.write() as db:
            found = _known(db, name)
            _keep_an_admin(db, found)
            db.execute(update(t.person).where(t.person.c.id == found.id).values(disabled_at=now))
            _end_sessions(db, found.id)
            db.execute(delete(t.link).where(t.link.c.person == found.id))
            audit.record(db, who, "person.disable", found.name, why, now)

    def enable(self, name: str, who: str, why: str = "") -> None:
        """Open a disabled account again, with its role and password."""
        with self.store.write() as db:
            found = _known(db, name)
            db.execute(update(t.person).where(t.person.c.id == found.id).values(disabled_at=None))
            audit.record(db, who, "person.enable", found.name, why)

    def change_role(self, name: str, role: Role, who: str, why: str = "") -> None:
        """Give another role; the person signs in again."""
        with self.store.write() as db:
            found = _known(db, name)
            if role is not Role.ADMIN:
                _keep_an_admin(db, found)
            db.execute(update(t.person).where(t.person.c.id == found.id).values(role=role.value))
            _end_sessions(db, found.id)
            audit.record(db, who, "person.role", found.name, f"from {found.role} to {role.value}{_because(why)}")

    # ---- by the person ----

    def set_password(self, secret: str, password: str) -> Person:
        """Spend an invitation or reset link and set the password. Raises :class:`AccessError` with what is wrong."""
        now = clock.now()
        found = self.link(secret)
        if found is None or found.kind == "start":
            raise AccessError("This link works no more. Ask an administrator for a new one.")
        if said := passwords.objection(password, found.name):
            raise AccessError(said)
        stored = passwords.hashed(password)
        with self.store.write() as db:
            link = _spend(db, secret, now)
            db.execute(update(t.person).where(t.person.c.id == link.person).values(password=stored, last_at=now))
            _end_sessions(db, link.person)
            _end_demo(db, link.role)
            audit.record(db, link.name, "person.password", link.name, f"by {link.kind} link", now)
            return _person(db, link.person, now)

    def change_password(self, person: int, old: str, new: str) -> None:
        """Change one's own password; every session ends. Raises :class:`AccessError` with what is wrong."""
        with self.store.read() as db:
            found = db.execute(select(t.person).where(t.person.c.id == person)).one()
        if not passwords.fits(found.password, old):
            raise AccessError("The present password is another one.")
        if said := passwords.objection(new, found.name):
            raise AccessError(said)
        stored = passwords.hashed(new)
        with self.store.write() as db:
            db.execute(update(t.person).where(t.person.c.id == person).values(password=stored))
            _end_sessions(db, person)
            audit.record(db, found.name, "person.password", found.name, "changed")

    def by_password(self, name: str, password: str) -> Person | None:
        """Return whose name and password these are; None for anybody else. Takes the same time for both."""
        now = clock.now()
        with self.store.read() as db:
            found = _by_name(db, name.strip().lower())
        stored = None if found is None or found.disabled_at is not None else found.password
        if not passwords.fits(stored, password) or found is None or stored is None:
            return None
        values: dict[str, Any] = {"last_at": now}
        if passwords.outdated(stored):
            values["password"] = passwords.hashed(password)
        with self.store.write() as db:
            db.execute(update(t.person).where(t.person.c.id == found.id).values(**values))
            audit.record(db, found.name, "person.sign-in", found.name, "by password", now)
            return _person(db, found.id, now)

    def by_provider(self, issuer: str, subject: str, invitation: str | None) -> Person:
        """Return whose identity this is; an invitation binds it to its account, once.

        Identity is ``(issuer, subject)`` and never an e-mail address, which a provider may give to somebody else.
        Raises :class:`AccessError` where nobody has it.
        """
        now = clock.now()
        p = t.person
        with self.store.write() as db:
            found = db.execute(select(p).where(p.c.issuer == issuer, p.c.subject == subject)).one_or_none()
            if found is None and invitation is not None:
                link = _spend(db, invitation, now)
                db.execute(update(p).where(p.c.id == link.person).values(issuer=issuer, subject=subject))
                _end_demo(db, link.role)
                audit.record(db, link.name, "person.bind", link.name, f"to {subject} of {issuer}", now)
                found = db.execute(select(p).where(p.c.id == link.person)).one()
            if found is None or found.disabled_at is not None:
                raise AccessError("You are known to the identity provider, but have no account here. Ask for one.")
            db.execute(update(p).where(p.c.id == found.id).values(last_at=now))
            audit.record(db, found.name, "person.sign-in", found.name, "by the identity provider", now)
            return _person(db, found.id, now)

    # ---- the demo ----

    def admit(self, secret: str | None = None) -> str:
        """Make, or take, the secret of a start link for the demo's person, and return it.

        Raises :class:`AccessError` where accounts exist: then people sign in.
        """
        if self.exist():
            raise AccessError(
                "there are accounts: people sign in; `fieldwatch-cloud user reset NAME` lets one in again"
            )
        now = clock.now()
        with self.store.write() as db:
            found = _by_name(db, DEMO)
            if found is None:
                person = _add(db, DEMO, Role.ADMIN, now)
            else:
                person = found.id
                db.execute(update(t.person).where(t.person.c.id == person).values(disabled_at=None))
            return _draw_link(db, person, "start", now, secret)

    def enter(self, secret: str) -> Person | None:
        """Spend a start link; None for one that does not work."""
        now = clock.now()
        with self.store.write() as db:
            link = _link(db, secret, now)
            if link is None or link.kind != "start":
                return None
            _spend(db, secret, now)
            db.execute(update(t.person).where(t.person.c.id == link.person).values(last_at=now))
            audit.record(db, DEMO, "person.sign-in", DEMO, "by start link", now)
            return _person(db, link.person, now)


def _add(db: Connection, name: str, role: Role, now: int) -> int:
    row = {"name": name, "role": role.value, "made_at": now}
    return int(db.execute(insert(t.person).returning(t.person.c.id), row).scalar_one())


def _by_name(db: Connection, name: str) -> Any:
    return db.execute(select(t.person).where(t.person.c.name == name)).one_or_none()


def _known(db: Connection, name: str) -> Any:
    found = _by_name(db, name.strip().lower())
    if found is None:
        raise AccessError(f"there is no account {name!r}; `fieldwatch-cloud user list` shows all")
    return found


def _person(db: Connection, number: int, now: int) -> Person:
    return next(one for one in _people(db, now) if one.id == number)


def _people(db: Connection, now: int) -> list[Person]:
    p, k = t.person, t.link
    until = select(func.max(k.c.ends_at)).where(k.c.person == p.c.id, k.c.kind == "invitation", k.c.ends_at > now)
    rows = db.execute(select(p, until.scalar_subquery().label("until")).order_by(p.c.name))
    return [
        Person(
            row.id,
            row.name,
            Role(row.role),
            (*(("password",) if row.password else ()), *(("provider",) if row.subject else ())),
            row.made_at,
            row.last_at,
            row.disabled_at,
            row.until,
        )
        for row in rows
    ]


def _draw_link(db: Connection, person: int, kind: LinkKind, now: int, secret: str | None = None) -> str:
    """Replace the person's links of this kind by a new one."""
    secret = secret or draw()
    db.execute(
        delete(t.link).where(or_(and_(t.link.c.person == person, t.link.c.kind == kind), t.link.c.ends_at < now))
    )
    row = {"hash": digest(secret), "person": person, "kind": kind, "made_at": now, "ends_at": now + LINKS[kind]}
    db.execute(insert(t.link), row)
    return secret


def _link(db: Connection, secret: str, now: int) -> Link | None:
    k, p = t.link, t.person
    row = db.execute(
        select(p.c.id, p.c.name, p.c.role, k.c.kind)
        .join_from(k, p, k.c.person == p.c.id)
        .where(k.c.hash == digest(secret), k.c.ends_at > now, p.c.disabled_at.is_(None))
    ).one_or_none()
    return None if row is None else Link(row.id, row.name, Role(row.role), row.kind)


def _spend(db: Connection, secret: str, now: int) -> Link:
    """Use a link up; of two at once only one succeeds, because the delete counts."""
    link = _link(db, secret, now)
    if link is None or db.execute(delete(t.link).where(t.link.c.hash == digest(secret))).rowcount != 1:
        raise AccessError("This link works no more. Ask an administrator for a new one.")
    return link


def _end_sessions(db: Connection, person: int) -> None:
    db.execute(delete(t.session).where(t.session.c.person == person))


def _end_demo(db: Connection, role: Role) -> None:
    """Shut the demo's account once a real admin can sign in."""
    demo = _by_name(db, DEMO)
    if role is not Role.ADMIN or demo is None or demo.disabled_at is not None:
        return
    now = clock.now()
    db.execute(update(t.person).where(t.person.c.id == demo.id).values(disabled_at=now))
    _end_sessions(db, demo.id)
    db.execute(delete(t.link).where(t.link.c.person == demo.id))
    audit.record(db, "fieldwatch", "person.disable", DEMO, "an administrator has an account now", now)


def _keep_an_admin(db: Connection, found: Any) -> None:
    p = t.person
    if found.role != Role.ADMIN.value or found.name == DEMO or not (found.password or found.subject):
        return
    others = select(func.count()).where(
        p.c.role == Role.ADMIN.value,
        p.c.id != found.id,
        p.c.disabled_at.is_(None),
        or_(p.c.password.is_not(None), p.c.subject.is_not(None)),
    )
    if not db.execute(others).scalar_one():
        raise AccessError(f"{found.name} is the last administrator: make somebody else one first")


def _because(why: str) -> str:
    return f": {why}" if why else ""
