"""Browsers and scripts that are signed in: sessions and API tokens, and the :class:`.roles.Principal` behind each.

What it promises
    * A session is drawn anew at each sign-in, ends by itself (:mod:`.lifetimes`) and at once when it is ended here,
      its person is disabled or their role changes: the store is asked at each request.
    * A token does what its scopes say and its owner still may, until its end or until it is revoked.
    * The store holds hashes only: who reads it can use none of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fieldwatch_contract import clock
from sqlalchemy import delete, insert, select, update

from fieldwatch_cloud.access.accounts import AccessError, Person
from fieldwatch_cloud.access.lifetimes import SESSION_IDLE, SESSION_WHOLE, TOUCH, session_alive, token_end
from fieldwatch_cloud.access.roles import MAY, SCOPES, Permission, Principal, Role, of_token
from fieldwatch_cloud.access.secret import csrf_of, digest, draw
from fieldwatch_cloud.store import audit
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.database import Database

PREFIX = "fw_"
"""How every API token begins, so that one that got into a repository is found there."""
SESSIONS_EACH = 50
"""Sessions of one person; beyond it the one used longest ago ends."""


@dataclass(frozen=True)
class Sessions:
    """The sessions and tokens in ``store``."""

    store: Database

    def begin(self, person: Person, address: str, agent: str, before: str | None = None) -> str:
        """Return the cookie of a new session; the one that this browser had ``before`` ends."""
        now = clock.now()
        cookie = draw()
        s = t.session
        with self.store.write() as db:
            db.execute(delete(s).where(s.c.made_at < now - SESSION_WHOLE))
            if before:
                db.execute(delete(s).where(s.c.hash == digest(before)))
            mine = select(s.c.hash).where(s.c.person == person.id).order_by(s.c.used_at.desc())
            too_many = list(db.execute(mine.offset(SESSIONS_EACH - 1)).scalars())
            db.execute(delete(s).where(s.c.hash.in_(too_many)))
            row = {"hash": digest(cookie), "person": person.id, "made_at": now, "used_at": now}
            db.execute(insert(s), row | {"address": address[:64], "agent": agent[:200]})
        return cookie

    def find(self, cookie: str | None, touch: bool = True) -> Principal | None:
        """Return who a cookie signs in; None where the session has ended. ``touch``: this is use by a person."""
        if not cookie:
            return None
        s, p = t.session, t.person
        now = clock.now()
        key = digest(cookie)
        with self.store.read() as db:
            row = db.execute(
                select(s.c.made_at, s.c.used_at, p.c.id, p.c.name, p.c.role, p.c.disabled_at)
                .join_from(s, p, s.c.person == p.c.id)
                .where(s.c.hash == key)
            ).one_or_none()
        if row is None or row.disabled_at is not None or not session_alive(row.made_at, row.used_at, now):
            return None
        if touch and now - row.used_at >= TOUCH:
            with self.store.write() as db:
                db.execute(update(s).where(s.c.hash == key).values(used_at=now))
        role = Role(row.role)
        return Principal(row.name, MAY[role], row.id, role, csrf_of(cookie), key)

    def of(self, person: int) -> list[Any]:
        """Return a person's sessions that still count, the newest use first."""
        s = t.session
        now = clock.now()
        alive = (s.c.person == person, s.c.used_at >= now - SESSION_IDLE, s.c.made_at >= now - SESSION_WHOLE)
        with self.store.read() as db:
            return list(db.execute(select(s).where(*alive).order_by(s.c.used_at.desc())))

    def end(self, key: str, who: str) -> None:
        """End one session: signing out."""
        with self.store.write() as db:
            if db.execute(delete(t.session).where(t.session.c.hash == key)).rowcount:
                audit.record(db, who, "person.sign-out", who)

    def end_all(self, person: int, who: str) -> None:
        """End all sessions of a person, as after a lost laptop."""
        with self.store.write() as db:
            db.execute(delete(t.session).where(t.session.c.person == person))
            audit.record(db, who, "person.sign-out", who, "everywhere")

    # ---- tokens ----

    def make_token(self, person: Person, name: str, scopes: list[str], days: int, who: str) -> str:
        """Return a new API token, which is shown this once. Raises :class:`AccessError` with what is wrong."""
        now = clock.now()
        name = name.strip()
        if not 1 <= len(name) <= 80 or not name.isprintable():
            raise AccessError("a token needs a name of 1 to 80 characters that says what it is for")
        wrong = [scope for scope in scopes if scope not in set(SCOPES)]
        if wrong or not scopes:
            raise AccessError(f"scopes are {', '.join(SCOPES)}" + (f", not {wrong[0]!r}" if wrong else ""))
        beyond = [scope for scope in scopes if Permission(scope) not in MAY[person.role]]
        if beyond:
            raise AccessError(f"{person.name} is {person.role.value} and may not {beyond[0]}")
        try:
            ends = token_end(days, now)
        except ValueError as error:
            raise AccessError(str(error)) from error
        token = PREFIX + draw()
        row = {"hash": digest(token), "person": person.id, "name": name, "scopes": sorted(set(scopes))}
        with self.store.write() as db:
            db.execute(insert(t.api_token), row | {"made_at": now, "ends_at": ends})
            until = clock.iso(ends)[:10]
            audit.record(db, who, "token.create", f"{name} of {person.name}", f"{', '.join(scopes)} until {until}", now)
        return token

    def find_token(self, token: str) -> Principal | None:
        """Return who a bearer token stands for; None where it does not work (any more)."""
        k, p = t.api_token, t.person
        now = clock.now()
        with self.store.read() as db:
            row = db.execute(
                select(k.c.id, k.c.name, k.c.scopes, k.c.used_at, p.c.id.label("owner"), p.c.name.label("of"), p.c.role)
                .join_from(k, p, k.c.person == p.c.id)
                .where(k.c.hash == digest(token), k.c.ends_at > now, k.c.revoked_at.is_(None))
                .where(p.c.disabled_at.is_(None))
            ).one_or_none()
        if row is None:
            return None
        if row.used_at is None or now - row.used_at >= TOUCH:
            with self.store.write() as db:
                db.execute(update(k).where(k.c.id == row.id).values(used_at=now))
        role = Role(row.role)
        return Principal(f"token {row.name} of {row.of}", of_token(role, row.scopes), row.owner, role)

    def tokens(self, person: int | None = None) -> list[Any]:
        """Return tokens with their owners' names, the newest first; of one person, or of all."""
        k, p = t.api_token, t.person
        query = select(k, p.c.name.label("owner")).join_from(k, p, k.c.person == p.c.id).order_by(k.c.id.desc())
        if person is not None:
            query = query.where(k.c.person == person)
        with self.store.read() as db:
            return list(db.execute(query))

    def revoke(self, number: int, who: str, person: int | None = None, why: str = "") -> None:
        """End a token at once; ``person``: only one of theirs. Raises :class:`AccessError` where there is none."""
        k = t.api_token
        with self.store.write() as db:
            row = db.execute(select(k).where(k.c.id == number)).one_or_none()
            if row is None or (person is not None and row.person != person):
                raise AccessError(f"there is no token {number}")
            db.execute(update(k).where(k.c.id == number, k.c.revoked_at.is_(None)).values(revoked_at=clock.now()))
            audit.record(db, who, "token.revoke", row.name, why)
