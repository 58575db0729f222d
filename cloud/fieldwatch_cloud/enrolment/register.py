"""The register: which tokens are good, which certificates were issued, which are revoked. One SQLite file.

Rules: a token is good once for each of its devices, until it expires. The same key with the same token is answered
again, as the first answer may have been lost on its way. A device id has one certificate that counts: who wants it for
another PC needs a token that says so (``replace``), and the old certificate is revoked by its use. What is revoked
stays so: neither the token that brought it nor its renewal brings another, not even one that is being issued just then.
The secret itself is not kept, only its digest. What is no device's is recorded under a name that no device can have.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from fieldwatch_contract.enrolment import Token, digest

from fieldwatch_cloud.enrolment.authority import Refused

_SCHEMA = """
CREATE TABLE IF NOT EXISTS token (
    secret BLOB NOT NULL, device TEXT NOT NULL, device_type TEXT, expires REAL NOT NULL, replaces INTEGER NOT NULL,
    used REAL, key BLOB, PRIMARY KEY (secret, device)) STRICT;
CREATE TABLE IF NOT EXISTS certificate (
    serial TEXT PRIMARY KEY, name TEXT NOT NULL, issued REAL NOT NULL, expires REAL NOT NULL, revoked REAL) STRICT;
CREATE INDEX IF NOT EXISTS certificate_name ON certificate (name);
"""
WAIT_S = 10.0
SPENT = b""
"""Instead of a key: the token was used, and what came of it was revoked."""


@dataclass(frozen=True)
class Device:
    """A device to be enrolled."""

    id: str
    type: str | None = None


@dataclass(frozen=True)
class Issued:
    """A certificate on record; times as POSIX seconds."""

    serial: int
    name: str
    issued: float
    expires: float
    revoked: float | None


@dataclass(frozen=True)
class Redeemed:
    """A token's use by the key with this digest, as what a certificate is issued on."""

    secret: bytes
    device: str
    key: bytes

    def stands(self, db: sqlite3.Connection) -> bool:
        """Tell whether the device was not revoked since."""
        query = "SELECT 1 FROM token WHERE secret = ? AND device = ? AND key = ?"
        return db.execute(query, (digest(self.secret), self.device, self.key)).fetchone() is not None


@dataclass(frozen=True)
class Renewed:
    """An older certificate, as what a new one is issued on."""

    serial: int

    def stands(self, db: sqlite3.Connection) -> bool:
        """Tell whether it is on record and not revoked."""
        query = "SELECT 1 FROM certificate WHERE serial = ? AND revoked IS NULL"
        return db.execute(query, (str(self.serial),)).fetchone() is not None


class RegisterError(Exception):
    """The register cannot be used; the message says why and what to do."""


class Register:
    """Opens the file for each call: several processes may work on it. Every call may raise :class:`RegisterError`."""

    def __init__(self, path: Path) -> None:
        """An existing one: without it nobody knows any more who was revoked."""
        self._path = path
        if not path.is_file():
            raise RegisterError(
                f"{path} is missing: it says which certificates were revoked; restore it from a backup of that folder"
            )
        with self._transaction() as db:
            db.execute("SELECT 1 FROM token, certificate LIMIT 1")  # a file that was emptied is no register either

    @staticmethod
    def create(path: Path) -> Register:
        """Make an empty one, or take the one that is there."""
        path.touch(0o640)
        try:
            with closing(sqlite3.connect(path)) as db:
                db.executescript(_SCHEMA)
        except sqlite3.Error as error:
            raise _unusable(path, error) from error
        return Register(path)

    def add(self, token: Token, devices: Sequence[Device], now: datetime, life: timedelta, replaces: bool) -> None:
        """Record a token for ``devices``; raises as :meth:`add_all` does."""
        self.add_all([(token, devices)], now, life, replaces)

    def add_all(
        self, tokens: Sequence[tuple[Token, Sequence[Device]]], now: datetime, life: timedelta, replaces: bool
    ) -> None:
        """Record tokens, each for its devices; all of them or none.

        Raises :class:`.authority.Refused` where a device is enrolled already and the token may not replace it.
        """
        with self._transaction() as db:
            enrolled = [one.id for _, devices in tokens for one in devices if self._current(db, one.id, now)]
            if enrolled and not replaces:
                names = ", ".join(enrolled[:5]) + (f" and {len(enrolled) - 5} more" if len(enrolled) > 5 else "")
                raise Refused(f"enrolled already: {names}. To enrol them anew, on another PC, say --replace")
            end = (now + life).timestamp()
            db.executemany(
                "INSERT INTO token (secret, device, device_type, expires, replaces) VALUES (?, ?, ?, ?, ?)",
                [
                    (digest(token.secret), device.id, device.type, end, int(replaces))
                    for token, devices in tokens
                    for device in devices
                ],
            )

    def redeem(self, secret: bytes, device: str | None, key: bytes, now: datetime) -> Device:
        """Return for which device ``secret`` is good, and note that it was used for ``key`` (its digest).

        Revokes an earlier certificate of that device if the token may. Raises :class:`.authority.Refused`.
        """
        with self._transaction() as db:
            rows = db.execute("SELECT * FROM token WHERE secret = ?", (digest(secret),)).fetchall()
            if not rows:
                raise Refused("this token is not known here: was it issued by another installation?")
            if device is None and len(rows) > 1:
                raise Refused("this token is for several devices: say which one this is (--device ID)")
            row = next((row for row in rows if device in {None, row["device"]}), None)
            if row is None:
                raise Refused(f"this token is not for {device}")
            if now.timestamp() > row["expires"]:
                raise Refused("this token has expired: ask for a new one ('fieldwatch-cloud enroll DEVICE')")
            if row["key"] == SPENT:
                raise Refused("this token was used already, and its certificate was revoked: ask for a new one")
            if row["used"] is not None and row["key"] != key:
                raise Refused("this token was used already, by another key: ask for a new one, and find out by whom")
            name = str(row["device"])
            if row["used"] is None:
                if self._current(db, name, now) and not row["replaces"]:
                    raise Refused(f"{name} is enrolled already, on another PC")
                self._revoke(db, name, now)
            db.execute(
                "UPDATE token SET used = coalesce(used, ?), key = ? WHERE secret = ? AND device = ?",
                (now.timestamp(), key, digest(secret), name),
            )
            return Device(name, row["device_type"])

    def note(
        self, serial: int, name: str, issued: datetime, expires: datetime, basis: Redeemed | Renewed | None = None
    ) -> None:
        """Record an issued certificate; it may be handed out after that.

        Raises :class:`.authority.Refused` where its ``basis`` was revoked since it was looked at.
        """
        with self._transaction() as db:
            if basis is not None and not basis.stands(db):
                raise Refused("the certificate was revoked at this moment: ask for a new token")
            db.execute(
                "INSERT INTO certificate (serial, name, issued, expires) VALUES (?, ?, ?, ?)",
                (str(serial), name, issued.timestamp(), expires.timestamp()),
            )

    def revoke(self, name: str, now: datetime) -> int:
        """Revoke every certificate of ``name``, and its tokens; return how many certificates it were."""
        with self._transaction() as db:
            db.execute("DELETE FROM token WHERE device = ? AND used IS NULL", (name,))
            return self._revoke(db, name, now)

    @contextmanager
    def revoked(self) -> Iterator[list[int]]:
        """The serial numbers of all revoked certificates. Until the block ends nobody revokes one, in any process: what
        is written of them is never older than what is there.
        """
        with self._transaction() as db:
            rows = db.execute("SELECT serial FROM certificate WHERE revoked IS NOT NULL ORDER BY rowid").fetchall()
            yield [int(row["serial"]) for row in rows]

    def issued(self, serial: int) -> Issued | None:
        """Return what is on record of a certificate."""
        with self._transaction() as db:
            row = db.execute("SELECT * FROM certificate WHERE serial = ?", (str(serial),)).fetchone()
            return None if row is None else Issued(int(row[0]), row[1], row[2], row[3], row[4])

    @staticmethod
    def _current(db: sqlite3.Connection, name: str, now: datetime) -> bool:
        found = db.execute(
            "SELECT 1 FROM certificate WHERE name = ? AND revoked IS NULL AND expires > ?", (name, now.timestamp())
        )
        return found.fetchone() is not None

    @staticmethod
    def _revoke(db: sqlite3.Connection, name: str, now: datetime) -> int:
        db.execute("UPDATE token SET key = ? WHERE device = ? AND used IS NOT NULL", (SPENT, name))
        query = "UPDATE certificate SET revoked = ? WHERE name = ? AND revoked IS NULL"
        return db.execute(query, (now.timestamp(), name)).rowcount

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        existing = f"{self._path.absolute().as_uri()}?mode=rw"  # one that was lost meanwhile is not made anew, empty
        try:
            db = sqlite3.connect(existing, timeout=WAIT_S, isolation_level=None, uri=True)
        except sqlite3.Error as error:
            raise _unusable(self._path, error) from error
        db.row_factory = sqlite3.Row
        try:
            db.execute("PRAGMA synchronous = FULL")
            db.execute("BEGIN IMMEDIATE")
            yield db
            if db.in_transaction:
                db.execute("COMMIT")
        except BaseException as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            if isinstance(error, sqlite3.Error):
                raise _unusable(self._path, error) from error
            raise
        finally:
            db.close()


def _unusable(path: Path, error: sqlite3.Error) -> RegisterError:
    remedy = "give this account the right to write it and its folder, or restore it from a backup of that folder"
    return RegisterError(f"{path} cannot be used: {error}; {remedy}")
