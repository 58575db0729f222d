"""Read-only access to a journal that an agent may be using: for ``status``, ``update`` and ``replay``."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from dataclasses import asdict
from pathlib import Path

from fieldwatch_agent.send import ledger
from fieldwatch_agent.send.database import DEVICE, FILE, SAID, JournalError, connect, is_damage, read_meta
from fieldwatch_agent.send.outbox import depth
from fieldwatch_agent.send.progress import COPIES, Progress


def read_progress(path: Path) -> Progress:
    """Return the progress of the last commit, from a journal that may be in use; an empty one if there is no journal.

    Raises :class:`.JournalError` where it cannot be read.
    """
    if not path.exists():
        return Progress()
    try:
        with closing(connect(path)) as db:
            return Progress.from_json(read_meta(db, COPIES[0]))
    except (sqlite3.Error, ValueError) as error:
        raise JournalError(f"{path}: cannot read the journal: {error}") from error


def read_owner(path: Path) -> str | None:
    """Return the device whose journal it is, from one that may be in use; None where that is not known.

    Raises :class:`.JournalError` where it cannot be read.
    """
    if not path.exists():
        return None
    try:
        with closing(connect(path)) as db:
            return read_meta(db, DEVICE)
    except (sqlite3.Error, ValueError) as error:
        raise JournalError(f"{path}: cannot read the journal: {error}") from error


def foreign(folder: Path, owner: str, device: str) -> tuple[str, str]:
    """Return in words that the journal in a state folder is another device's, and what helps."""
    return (
        f"{folder} has the journal of {owner}, and this device is {device}",
        f"if {owner} still has an agent, give this one a [state] dir of its own; if not, move {FILE}* out of it, "
        f"and the log is read again from its beginning, as {device}'s",
    )


def read_status(path: Path) -> dict[str, object]:
    """Return what ``status`` shows, from a journal that may be in use: epoch, progress, health, ledger, outbox, disk.

    ``damaged`` names what does not parse: the agent repairs it at its next start. Raises :class:`.JournalError` where
    there is no journal, or the file cannot be read at all.
    """
    status: dict[str, object] = {
        "epoch": None,
        "progress": None,
        "health": None,
        "ledger": [],
        "outbox": {"events": 0, "bytes": 0, "oldest": None},
        "disk_free": 0,
        "uplink": "",
        "alert_waiting": None,
        "last_alert": None,
        "rejects": [],
        "verdicts": [],
        "damaged": [],
    }
    try:
        path.stat()
    except FileNotFoundError:
        raise JournalError(f"{path}: no journal yet; has the agent run with this configuration?") from None
    except OSError as error:
        raise JournalError(f"{path}: {error.strerror}; use the agent's account, or root's") from error
    status["disk_free"] = shutil.disk_usage(path.parent).free
    damaged: list[str] = []
    try:
        with closing(connect(path)) as db:
            parts: dict[str, Callable[[], object]] = {
                "epoch": lambda: read_meta(db, "epoch"),
                "progress": lambda: _json(read_meta(db, COPIES[0])),
                "health": lambda: _json(read_meta(db, "health")),
                "ledger": lambda: [day.model_dump() for day in ledger.read(db)],
                "outbox": lambda: asdict(depth(db)),
                "uplink": lambda: read_meta(db, "uplink") or "",
                "alert_waiting": lambda: _newest_alert(db),
                "last_alert": lambda: _json(read_meta(db, "last_alert")),
                "rejects": lambda: _rejects(db),
                "verdicts": lambda: _json(read_meta(db, SAID)) or [],
            }
            for name, read in parts.items():
                try:
                    status[name] = read()
                except (ValueError, TypeError, AttributeError) as error:
                    damaged.append(f"{name}: {error}")
    except sqlite3.Error as error:
        remedy = "; the agent repairs it at its next start" if is_damage(error) else ""
        raise JournalError(f"{path}: cannot read the journal: {error}{remedy}") from error
    return status | {"damaged": damaged}


def _json(text: str | None) -> object:
    return json.loads(text) if text else None


def _newest_alert(db: sqlite3.Connection) -> object:
    row = db.execute("SELECT data FROM outbox WHERE event = 'alert' ORDER BY seq DESC LIMIT 1").fetchone()
    return _json(row[0]) if row is not None else None


def _rejects(db: sqlite3.Connection) -> list[dict[str, str]]:
    query = "SELECT at, reason, detail, line FROM reject ORDER BY id DESC LIMIT 10"
    return [
        {"at": at, "reason": reason, "detail": detail, "line": line.decode("utf-8", "replace")}
        for at, reason, detail, line in db.execute(query)
    ]
