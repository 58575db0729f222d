"""Lets time pass, looks at the states of devices and of this server, and proves that the chain to people works.

What it promises
    * A snooze, a maintenance window or a flapping ends when its time has come, within :data:`TICK_S`.
    * A device's state that somebody must act on (:mod:`.alerts.standing`) is an incident once it has lasted, and so is
      a part of this server that does not work. While broker or ingest is down, the devices' silence is a consequence.
    * Dead man's switch: every :data:`SELF_TEST_S` a synthetic incident goes through incidents, routes, outbox and
      worker to the end of the chain (:class:`Chain`), which calls the configured heartbeat. Where it does not arrive,
      nobody can be told by this chain; so it is told otherwise: by :attr:`Chain.error` in ``/healthz`` and
      ``/metrics``, and by the service that misses the heartbeat.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable, Mapping

from fieldwatch_contract import clock
from sqlalchemy import Connection, delete, select
from sqlalchemy.exc import SQLAlchemyError

from fieldwatch_cloud.alerts.life import Signal
from fieldwatch_cloud.alerts.routing import SELF_TEST
from fieldwatch_cloud.alerts.sightings import Patience, Sighting, common_causes, of_finding, offline_at
from fieldwatch_cloud.notify.http import post
from fieldwatch_cloud.store import Store
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.fleet import read_fleet
from fieldwatch_cloud.store.incidents import live_states
from fieldwatch_cloud.store.outbox import Letter

TICK_S = 5.0
LOOK_S = 60
SELF_TEST_S = 600
MISSED_S = 2 * SELF_TEST_S + 60
"""After so long without an arrival the chain counts as broken."""
PART_PATIENCE = 30 * clock.SECOND
"""A part of this server needs less patience than a device far away."""
KEPT = clock.DAY
"""How long the traces of self-tests are kept."""

Parts = Callable[[], Mapping[str, str]]
"""What is wrong with each part of this server, "" where nothing is."""

log = logging.getLogger("fieldwatch.notify")


class Chain:
    """The end of the self-test's way: a channel that notes the arrival and calls the heartbeat."""

    def __init__(self, heartbeat: str | None, now: Callable[[], int] = clock.now) -> None:
        self._heartbeat = heartbeat
        self._now = now
        self._began = now()
        self.arrived: int | None = None
        """When the last one came through, µs."""

    def begin(self) -> None:
        """Count from now on: this process tells people from now on."""
        self._began, self.arrived = self._now(), None

    def send(self, letter: Letter) -> None:
        """Note the arrival; only then call the heartbeat. Raises as every channel does."""
        self.arrived = self._now()
        if self._heartbeat is not None:
            post(self._heartbeat, b"", {"User-Agent": "fieldwatch"}, ())

    @property
    def age(self) -> int:
        """Seconds since the last arrival, or since the start."""
        return (self._now() - (self.arrived or self._began)) // clock.SECOND

    @property
    def error(self) -> str:
        """What is wrong, in words; "" while all is well."""
        if self.age <= MISSED_S:
            return ""
        return f"no self-test has come through for {self.age // 60} min: nobody may be told of anything"


class Watch:
    """A thread that does all this."""

    def __init__(self, store: Store, chain: Chain, parts: Parts, now: Callable[[], int] = clock.now) -> None:
        self._store = store
        self._chain = chain
        self._parts = parts
        self._now = now
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._devices = Patience()
        self._server = Patience()
        self._looked = 0
        self._tested = 0

    def start(self) -> None:
        """Begin, with what was open before a restart."""
        with self._store.read() as db:
            before = live_states(db)
        self._server.remember(one for one in before if one.kind.startswith("server "))
        self._devices.remember(one for one in before if not one.kind.startswith("server "))
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End the thread."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join(TICK_S + 5)

    def _run(self) -> None:
        while not self._stop.wait(TICK_S):
            try:
                self.tick()
            except SQLAlchemyError as error:
                log.warning("the store cannot be used: %s", getattr(error, "orig", None) or error)
            except Exception:
                log.exception("watch: unexpected error; trying again")

    def tick(self) -> None:
        """Do what is due."""
        now = self._now()
        with self._store.read() as db:
            wakes = self._store.incidents.wakes(db, now)
        if wakes:
            with self._store.write() as db:
                self._store.incidents.pass_time(db, now)
        if now - self._looked >= LOOK_S * clock.SECOND:
            self._looked = now
            self.look(now)
        if now - self._tested >= SELF_TEST_S * clock.SECOND:
            self._tested = now
            self.self_test(now)

    def look(self, now: int) -> None:
        """Look at every device, at this server's parts, and for alerts that could not be taken in."""
        with self._store.read() as db:
            left = self._store.incidents.left(db)
        if left:
            with self._store.write() as db:
                self._store.incidents.see_alerts(db, left, now)
        down = {name: says for name, says in self._parts().items() if says}
        seen = self._server.look(_of_parts(down), now, PART_PATIENCE)
        if not down:  # else their silence is only its consequence, and we cannot see them
            seen += self._look_at_devices(now)
        if seen:
            with self._store.write() as db:
                self._store.incidents.see(db, seen, now)

    def _look_at_devices(self, now: int) -> list[Sighting]:
        routing = self._store.incidents.routing
        with self._store.read() as db:
            fleet = read_fleet(db, now)
        sites = {one.id: one.card.site or routing.site(one.id) for one in fleet}
        found = [
            sighting
            for one in fleet
            for finding in one.standing.findings
            if (sighting := of_finding(one.id, one.type, finding)) is not None
        ]
        causes = common_causes(found, Counter(sites.values()), sites.__getitem__)
        whole = {one.kind for one in causes}
        return self._devices.look(
            [*found, *causes],
            now,
            covered=lambda one: one.kind == "offline" and offline_at(sites.get(one.device, "")) in whole,
        )

    def self_test(self, now: int) -> None:
        """Send a synthetic incident on its way, and forget those of days past."""
        device = f"{SELF_TEST} {now // clock.SECOND}"
        signal = Signal(device, SELF_TEST, "warning", now, now)
        test = Sighting(device, SELF_TEST, signal, "Proof that people can be told", "server")
        with self._store.write() as db:
            self._store.incidents.see(db, [test], now)
            _forget_tests(db, now - KEPT)


def _of_parts(down: Mapping[str, str]) -> list[Sighting]:
    return [
        Sighting("", f"server {name}", Signal("", name, "critical", 0), f"{name}: {says}", "server")
        for name, says in down.items()
    ]


def _forget_tests(db: Connection, before: int) -> None:
    """Delete the traces of self-tests; they are no history of anything."""
    i, m, mi, e, s = t.incident, t.message, t.message_item, t.incident_event, t.incident_signal
    old = select(i.c.id).where(i.c.kind == SELF_TEST, i.c.begun < before)
    events = select(e.c.id).where(e.c.incident_id.in_(old))
    db.execute(delete(m).where(m.c.id.in_(select(mi.c.message_id).where(mi.c.event_id.in_(events)))))
    db.execute(delete(mi).where(mi.c.event_id.in_(events)))
    db.execute(delete(e).where(e.c.incident_id.in_(old)))
    db.execute(delete(s).where(s.c.incident_id.in_(old)))
    db.execute(delete(i).where(i.c.kind == SELF_TEST, i.c.begun < before))
