"""Health checks of this server's parts, for ``/healthz`` and the head of every page.

======== =====================================================================================================
part     down when
======== =====================================================================================================
database it cannot be written (tried with a real transaction), its file was removed or replaced, its disk is
         full, or the try itself has not come back for :data:`HUNG_S`
ingest   its thread has ended or makes no progress for :data:`STUCK_S`, or it cannot store what it was sent
broker   ingest is not subscribed there
telling  no self-test has come through the chain to people for a while, or its thread has ended
======== =====================================================================================================

While a part is down nothing new is stored, and a page whose stream is alive would look current: so every page shows it.
The checks run in a separate thread, so that a hanging disk delays no response.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from fieldwatch_contract import clock
from sqlalchemy.exc import SQLAlchemyError

from fieldwatch_cloud.live import Notice
from fieldwatch_cloud.store import Store, StoreError, runners

INTERVAL_S = 3.0
HUNG_S = 15.0
STUCK_S = 45.0
"""Longer than a writer waits for the database (30 s), which is reported as the database's fault."""
START_S = 10.0
"""How long ingest may take to connect before that counts as a fault."""


class Watched(Protocol):
    """What the monitor needs from ingest."""

    @property
    def connected(self) -> bool:
        """Whether it is subscribed at the broker."""

    @property
    def error(self) -> str | None:
        """What keeps events from being stored, in words."""

    @property
    def idle(self) -> float | None:
        """Seconds since its thread last went round; None where it does not run."""


class Faulty(Protocol):
    """What the monitor needs from telling."""

    @property
    def error(self) -> str:
        """Why people may not be told, in words; "" while all is well."""


class Elsewhere:
    """A part that runs in other processes, as the store knows them; ``command`` starts one."""

    connected = True
    idle = 0.0

    def __init__(self, store: Store, part: str, command: str) -> None:
        self._store = store
        self._part = part
        self._command = command
        self.error = ""
        """What is wrong, in words; "" while one of them works."""

    def look(self) -> None:
        """Read it. Raises :class:`sqlalchemy.exc.SQLAlchemyError`."""
        with self._store.read() as db:
            says = [row.says for row in runners.running(db, self._part, clock.now())]
        if says:
            self.error = "" if "" in says else says[0]
        else:
            self.error = f"no process does it: start `fieldwatch-cloud {self._command}` with this configuration"


@dataclass(frozen=True)
class Part:
    """One part. ``says``: what is wrong; ``since`` when, µs."""

    name: str
    says: str = ""
    since: int | None = None

    @property
    def ok(self) -> bool:
        """Whether it works."""
        return not self.says


def judge_ingest(connected: bool, error: str | None, idle: float | None, running: float) -> dict[str, str]:
    """Return what is wrong with broker and ingest, "" where nothing is; ``running``: seconds since the start."""
    broker = ingest = ""
    if idle is None:
        ingest = "ingest has ended: restart this server"
    elif idle > STUCK_S:
        ingest = f"ingest makes no progress for {idle:.0f} s"
    elif not connected and (error or running > START_S):
        broker = error or "no answer to our connection yet"
    elif connected and error:
        ingest = error
    return {"broker": broker, "ingest": ingest}


@dataclass
class Monitor:
    """Looks after the parts; :meth:`start` makes it tell the live feed when one goes down or comes back."""

    store: Store
    ingest: Watched | None = None
    telling: Faulty | None = None
    now: Callable[[], int] = clock.now
    _since: dict[str, int] = field(default_factory=dict)
    _began: float = field(default_factory=time.monotonic)
    _tried: float = 0.0
    _database: str = ""
    _told: list[Part] = field(default_factory=list)
    _thread: threading.Thread | None = None
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def parts(self) -> list[Part]:
        """Return all parts as they are; never waits for the database while the thread runs."""
        if self._thread is None:
            self._try_database()
        hung = time.monotonic() - self._tried
        found = {"database": f"the database does not answer for {hung:.0f} s" if hung > HUNG_S else self._database}
        if (ingest := self.ingest) is not None:
            found |= judge_ingest(ingest.connected, ingest.error, ingest.idle, time.monotonic() - self._began)
        if self.telling is not None:
            found["telling"] = self.telling.error
        with self._lock:
            for name, says in found.items():
                if not says:
                    self._since.pop(name, None)
                elif name not in self._since:
                    self._since[name] = self.now()
            return [Part(name, says, self._since.get(name)) for name, says in found.items()]

    def others(self) -> dict[str, str]:
        """Return what is wrong with each part but telling, which cannot be told by itself."""
        return {part.name: part.says for part in self.parts() if part.name != "telling"}

    def down(self) -> list[Part]:
        """Return the parts that do not work."""
        return [part for part in self.parts() if not part.ok]

    def start(self) -> None:
        """Begin to watch."""
        self._stop.clear()
        self._tried = time.monotonic()
        for work in (self._watch_database, self._watch):
            self._thread = threading.Thread(target=work, name="parts", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        """End both threads; one that hangs in the database ends with the process."""
        self._stop.set()
        self._thread = None

    def _watch_database(self) -> None:
        while not self._stop.is_set():
            self._try_database()
            self._stop.wait(INTERVAL_S)

    def _watch(self) -> None:
        while not self._stop.wait(INTERVAL_S / 3):
            down = self.down()
            if [(part.name, part.since) for part in down] != [(part.name, part.since) for part in self._told]:
                self._told = down
                self.store.live.publish([Notice("parts", "", {"down": [vars(part) for part in down]})])

    def _try_database(self) -> None:
        try:
            self.store.probe()
            for part in (self.ingest, self.telling):
                if isinstance(part, Elsewhere):
                    part.look()
            self._database = ""
        except SQLAlchemyError as error:
            self._database = f"the database cannot be read: {getattr(error, 'orig', None) or error}"
        except StoreError as error:
            self._database = str(error)
        self._tried = time.monotonic()
