"""Recovery of a damaged journal: repair in place what can be repaired, otherwise move the file away and start anew.

=====================================  ==============================================================================
damaged                                what is done
=====================================  ==============================================================================
an index that disagrees                rebuilt from its table
one of the two read positions          restored from the other one
epoch or high-water mark               a new epoch: nothing is renumbered, everything waiting is sent again
a row of the ledger                    removed
a day whose counts do not add up       its damaged messages are set aside, then ``read`` is what became of its lines
what only ``status`` shows             removed
what people said of alerts             removed: the cloud says it again with the next connection
which commands were done,              removed: a command of the last hour that comes again may be done again, and
which alerts were raised               evidence of older alerts is refused
a message in the outbox                moved to the rejects when it would be sent (:mod:`.send.outbox`)
both read positions, the structure,    the whole file is set aside (renamed); a new one, with a new epoch, takes over
another format                         the alerts, gaps, bundle changes and replies that are readable, and the log is
                                       re-read
=====================================  ==============================================================================

All damage is announced with a ``gap`` of reason ``journal_rebuilt`` and noted for the trouble ``journal_damaged``. A
file that was set aside is never deleted, and its write-ahead log is renamed with it: left behind, it would be replayed
into the new file. Until the new journal is there it is called ``journal.db.damaged``: whoever finds that goes on where
a full disk, a program that held a file or a kill has cut short.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sqlite3
from contextlib import closing, suppress
from pathlib import Path

from fieldwatch_contract import clock
from fieldwatch_contract.events import GapData

from fieldwatch_agent import durable
from fieldwatch_agent.send import ledger, raised, said, seen
from fieldwatch_agent.send.database import (
    COMMANDS,
    DAMAGE,
    DEVICE,
    EPOCH,
    RAISED,
    SAID,
    SCHEMA,
    VERSION,
    Damaged,
    Draft,
    columns,
    connect,
    damage_noted,
    enqueue,
    given,
    is_damage,
    migrate,
    new_epoch,
    note_damage,
    read_meta,
    transaction,
    verify,
    write_meta,
)
from fieldwatch_agent.send.outbox import DAMAGED, damaged, set_aside
from fieldwatch_agent.send.progress import COPIES, Progress

PARTS = ("-wal", "-shm", "")
"""What the names of a journal's files end in, in the order in which they are renamed."""
CARRIED = ("alert", "gap", "model", "reply")
"""Events that a new journal takes over; results are recomputed from the log, and health is reported again."""
_SHOWN = ("health", "uplink", "last_alert", "running", DAMAGE)
_MOST = 2**53

log = logging.getLogger("fieldwatch.journal")


def open_sound(path: Path, suspicion: str = "") -> sqlite3.Connection:
    """Open the journal at ``path``: repaired or replaced if it was damaged, created if there was none.

    ``suspicion``: why it must not be trusted even if the check finds it sound. Raises :class:`OSError` and
    :class:`sqlite3.Error` where the file cannot be used now.
    """
    leaving = path.with_name(f"{path.name}.damaged")
    if leaving.exists() and path.exists():  # the new one is there; only the name was not given
        _rename(leaving, _aside(path))
    if any(leaving.with_name(leaving.name + suffix).exists() for suffix in PARTS):
        damage = "found so before, and not replaced then"
    elif not path.exists():
        return _make(path, [])
    else:
        damage = suspicion or _heal(path)
    if not damage:
        return connect(path)
    _rename(path, leaving)
    carried, aside = _salvage(leaving), _aside(path)
    log.error("%s: damaged: %s; set aside as %s", path, damage, aside.name)
    detail = f"the journal was damaged ({damage}) and set aside as {aside.name}; the log is read again"
    made = _make(path, [*carried, _gap(detail)], detail, _owner(leaving))
    with suppress(OSError):  # held: the next one who opens the journal does it
        _rename(leaving, aside)
    return made


def _gap(detail: str) -> Draft:
    gap = GapData(reason="journal_rebuilt", detail=detail)
    return Draft("gap", clock.day_of(clock.now()), gap.model_dump_json())


def _heal(path: Path) -> str:
    """Repair in place what can be repaired; return the damage that remains, empty where the journal is sound."""
    try:
        with closing(connect(path)) as db:
            verdict = str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])
            healed = []
            if "index outbox_" in verdict:
                db.execute("REINDEX")
                healed.append(f"an index was rebuilt ({verdict})")
                verdict = str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])
            if verdict != "ok":
                return verdict
            version = int(db.execute("PRAGMA user_version").fetchone()[0])
            if not 0 < version <= VERSION:
                return f"format {version}, this program writes {VERSION}"
            if version < VERSION:
                migrate(db, version)
            if columns(db) != _expected():
                return f"its tables are not those of a journal: {columns(db)}"
            with transaction(db):
                healed += _heal_rows(db)
                if healed:
                    detail = f"the journal was damaged and repaired: {'; '.join(healed)}"
                    log.error("%s: %s", path, detail)
                    note_damage(db, detail)
                    enqueue(db, clock.iso(clock.now()), [_gap(detail)])
            return ""
    except sqlite3.Error as error:
        if not is_damage(error):
            raise
        return str(error)
    except (Damaged, UnicodeError) as error:
        return str(error)


def _expected() -> dict[str, list[str]]:
    with closing(sqlite3.connect(":memory:")) as db:
        db.executescript(SCHEMA)
        return columns(db)


def _heal_rows(db: sqlite3.Connection) -> list[str]:
    """Repair meta and ledger; return what was wrong. Raises :class:`.Damaged` where the read position is lost."""
    healed = _heal_progress(db)
    highest = db.execute("SELECT seq FROM sqlite_sequence WHERE name = 'outbox'").fetchone()
    newest = db.execute("SELECT max(seq) FROM outbox").fetchone()[0] or 0
    if highest is not None and not (type(highest[0]) is int and newest <= highest[0] < _MOST):
        raise Damaged(f"the highest number given out is {highest[0]!r}, the newest waiting event has {newest}")
    try:
        epoch, sent = read_meta(db, "epoch"), read_meta(db, "sent")
        if epoch is None or not EPOCH.fullmatch(epoch) or int(sent or 0) < 0:
            raise Damaged("there is no epoch")
        if int(sent or 0) > given(db):  # numbers would be given out again, and their acknowledgements believed
            raise Damaged(f"event {sent} was sent, and {given(db)} is the highest number given out")
    except ValueError as error:
        new_epoch(db)
        healed.append(f"{error}: everything waiting is sent under a new epoch")
    for key in _SHOWN:
        try:
            text = read_meta(db, key)
            if text is not None and key in ("health", "last_alert") and not isinstance(json.loads(text), dict):
                raise Damaged(f"{key} is no object")
            if key == DAMAGE:
                damage_noted(db)
        except ValueError:
            db.execute("DELETE FROM meta WHERE key = ?", (key,))
            healed.append(f"{key}, which is only shown, was removed")
    try:
        said.from_json(read_meta(db, SAID))
    except ValueError:
        db.execute("DELETE FROM meta WHERE key = ?", (SAID,))
        healed.append("what people said of alerts was removed: the cloud says it again")
    for key, read in ((COMMANDS, seen.from_json), (RAISED, raised.from_json), (DEVICE, str)):
        try:
            read(read_meta(db, key))
        except ValueError:
            db.execute("DELETE FROM meta WHERE key = ?", (key,))
            healed.append(f"{key} was removed")
    lost = ledger.sift(db)
    healed += [f"removed: {row[:200]}" for row in lost]
    if ledger.unbalanced(db) or lost:
        if broken := damaged(db):
            set_aside(db, broken, "damaged", DAMAGED)
            healed.append(f"{len(broken)} event(s) of the outbox were damaged and set aside")
        healed += [f"ledger: {day}" for day in ledger.unbalanced(db)]
        ledger.rebalance(db)
    return healed


def _heal_progress(db: sqlite3.Connection) -> list[str]:
    sound: list[str | None] = []
    broken: list[str] = []
    for key in COPIES:
        try:
            text = read_meta(db, key)
            Progress.from_json(text)
            sound.append(text)
        except ValueError as error:
            broken.append(str(error))
    kept = [text for text in sound if text is not None]
    if not kept:
        if broken:
            raise Damaged("; ".join(broken))
        return []  # nothing was read yet
    if broken or len(kept) < len(COPIES):
        for key in COPIES:
            write_meta(db, key, kept[0])
    return [f"{error}: taken from its copy" for error in broken]


def _aside(path: Path) -> Path:
    """Return a name for a damaged journal that no other one has."""
    stamp = clock.now() // clock.SECOND
    while (aside := path.with_name(f"{path.name}.damaged-{stamp}")).exists():
        stamp += 1
    return aside


def _rename(path: Path, to: Path) -> None:
    """Rename a damaged journal, its write-ahead log first: left behind, it would be replayed into the new file."""
    for suffix in PARTS:
        with suppress(FileNotFoundError):
            durable.replace(path.with_name(path.name + suffix), to.with_name(to.name + suffix))
    durable.sync_folder(path.parent)


def _salvage(aside: Path) -> list[Draft]:
    """Return the readable events of a damaged journal that cannot be recomputed, oldest first.

    It is read from both ends, so that an unreadable page in the middle costs only that page.
    """
    found: dict[int, Draft] = {}
    for order in ("ASC", "DESC"):
        try:
            with closing(_read_only(aside)) as db:
                total = "sum" if "sum" in columns(db)["outbox"] else "NULL"
                query = f"SELECT seq, event, time, day, data, {total} FROM outbox NOT INDEXED ORDER BY seq {order}"  # noqa: S608
                db.text_factory = bytes
                for row in db.execute(query):
                    if row[0] in found:
                        break
                    for event in verify([row])[0]:
                        if event.event in CARRIED:
                            found[event.seq] = Draft(event.event, row[3].decode(), event.data.decode())
        except (sqlite3.Error, ValueError, KeyError):
            continue
    return [found[seq] for seq in sorted(found)]


def _owner(aside: Path) -> str | None:
    """Return the device whose journal a damaged one is, where it still says so: what is salvaged is that device's."""
    try:
        with closing(_read_only(aside)) as db:
            return read_meta(db, DEVICE)
    except (sqlite3.Error, ValueError):
        return None


def _read_only(aside: Path) -> sqlite3.Connection:
    """Open a damaged journal; a file without a write-ahead log is not even touched."""
    alone = not aside.with_name(aside.name + "-wal").exists()
    return sqlite3.connect(f"{aside.as_uri()}?mode=ro{'&immutable=1' * alone}", uri=True)


def _make(path: Path, drafts: list[Draft], damage: str = "", owner: str | None = None) -> sqlite3.Connection:
    """Create a journal with ``drafts`` in its outbox, a note of ``damage``, and its ``owner`` where that is known; it
    gets its name when it is complete.
    """
    fresh = path.with_name(path.name + ".new")
    for name in (fresh.name, fresh.name + "-wal", fresh.name + "-shm", path.name + "-wal", path.name + "-shm"):
        if not durable.remove(path.with_name(name)):  # an orphaned write-ahead log would be replayed into the new file
            raise PermissionError(errno.EACCES, "is held by another program", str(path.with_name(name)))
    with closing(connect(fresh, new=True)) as db, transaction(db):
        for statement in SCHEMA.split(";"):
            db.execute(statement)
        db.execute(f"PRAGMA user_version = {VERSION}")
        new_epoch(db)
        if damage:
            note_damage(db, damage)
        if owner is not None:
            write_meta(db, DEVICE, owner)
        enqueue(db, clock.iso(clock.now()), drafts)
    with fresh.open("rb+") as file:
        os.fsync(file.fileno())
    durable.replace(fresh, path)
    durable.sync_folder(path.parent)
    return connect(path)
