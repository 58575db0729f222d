"""Health reporting: to the cloud as the health event, to ``status`` through the journal, and in the service's log.

Reports are made regularly, and sooner when the set of troubles changes: with the next line, or the next look. The
service's log has each trouble when it begins, with its remedy, once an hour while it lasts, and when it is over.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from dataclasses import replace

from fieldwatch_contract import clock, support
from fieldwatch_contract.events import HealthData, LineCounts, Trouble

from fieldwatch_agent import __version__
from fieldwatch_agent.components import components
from fieldwatch_agent.config import Config
from fieldwatch_agent.enrol.watch import CertificateWatch
from fieldwatch_agent.score.pipeline import Pipeline
from fieldwatch_agent.send.journal import Journal
from fieldwatch_agent.troubles import Condition, Facts, derive

ELSEWHERE = ("journal_damaged", "disk_low", "certificate_expiring", "level_highest", "verdicts_unread")
"""Troubles that are not about the log."""
AGAIN_S = 3600.0
"""Seconds after which a lasting trouble is repeated in the service's log."""
LOOK_S = 5.0
"""Seconds between two looks for troubles while no line comes: what a waiting agent costs is mostly looking."""
COMPONENTS_S = 86_400.0
"""Seconds after which the agent's components are told again: what was queued may have been evicted."""
PASSING = frozenset({"window_unfilled"})
"""Troubles that may be over before the next report: the report of their beginning must reach the cloud."""

log = logging.getLogger("fieldwatch.agent")


class Reporter:
    """Makes the reports; keeps what was reported last, and since when each trouble exists."""

    def __init__(self, config: Config, journal: Journal) -> None:
        self._config = config
        self._journal = journal
        self._due = 0.0
        self._look = 0.0
        self._told: object = None
        self._since: dict[str, str] = {}
        self._said: dict[tuple[str, object], float] = {}
        self._state = ""
        self._certificate = CertificateWatch(config.state.dir)
        self._components_due = 0.0

    def hurry(self) -> None:
        """Make the next call report in any case."""
        self._due = 0.0

    @property
    def hurries(self) -> bool:
        """Whether a report is due at once."""
        return self._due == 0.0

    @property
    def looks(self) -> bool:
        """Whether it is time to look for troubles, or to report."""
        return time.monotonic() >= min(self._due, self._look)

    def report(
        self,
        pipeline: Pipeline | None,
        others: Sequence[Trouble],
        update: str,
        uplink: str,
        every: float,
        *,
        unheard: str = "",
    ) -> None:
        """Journal the health event every ``every`` seconds, or sooner where its essentials have changed.

        ``others``: troubles of bundles and updates, worst first; ``update``: the updater's status in words;
        ``uplink``: what keeps messages from being delivered; ``unheard``: what keeps people's verdicts from
        arriving. Raises :class:`.send.journal.JournalError`.
        """
        now = time.monotonic()
        self._look = now + LOOK_S
        state = pipeline.intake.tail.state if pipeline is not None else "waiting"
        found = derive(replace(self._facts(pipeline, now), unheard=unheard))
        bundle = pipeline.bundle.ref if pipeline is not None else None
        keys = [(each.kind, each.key) for each in found]
        essentials = (state, keys, [trouble.kind for trouble in others], uplink, bundle)
        if now < self._due and essentials == self._told:
            return
        wall = clock.iso(clock.now())
        kinds = [each.kind for each in found]
        passing = bool(PASSING.intersection(kinds).difference(self._since))
        self._since = {kind: self._since.get(kind, wall) for kind in kinds}
        newest = pipeline.newest if pipeline is not None else self._journal.progress().newest
        scoring = [trouble.detail for trouble in others if trouble.kind != "update_failing"]
        health = HealthData(
            ts=wall,
            agent=__version__,
            bundle=bundle,
            log=state,
            log_detail="; ".join([*scoring, *(each.detail for each in found if each.kind not in ELSEWHERE)]),
            last_reading=clock.iso(newest) if newest is not None else None,
            lag_bytes=pipeline.lag() if pipeline is not None else 0,
            outbox=self._journal.outbox(),
            ledger=self._journal.unreported_days(),
            update=update,
            troubles=[*others, *(each.since(self._since[each.kind]) for each in found)],
            lines=self._lines(pipeline, now),
            period=self._config.log.period / clock.SECOND,
            levels=pipeline.levels if pipeline is not None else [],
            components=components() if now >= self._components_due else None,
            supported_until=support.UNTIL.isoformat(),
        )
        if self._journal.report(health, queue=passing) and health.components is not None:
            self._components_due = now + COMPONENTS_S
        self._told = essentials
        self._due = now + every
        self._say(state, found, now)

    def _facts(self, pipeline: Pipeline | None, now: float) -> Facts:
        try:
            free = shutil.disk_usage(self._config.state.dir).free
        except OSError:
            free = None
        damage = self._journal.damage()
        certificate = self._certificate.look()
        if pipeline is None:
            return Facts(damage=damage, disk_free=free, certificate=certificate)
        recent, _ = pipeline.recent.sum(now)
        return Facts(
            log=pipeline.intake.tail.state,
            log_detail=pipeline.intake.tail.detail,
            recent=recent,
            minutes=round(pipeline.recent.span / 60),
            columns=pipeline.intake.names or pipeline.intake.columns,
            sensors=len(pipeline.bundle.manifest.sensors),
            names=pipeline.bundle.manifest.sensors,
            stuck=pipeline.stuck,
            passed_over=pipeline.intake.tail.passed_over,
            unreadable=pipeline.intake.tail.unreadable,
            unfilled=pipeline.unfilled,
            clock_wrong=pipeline.intake.clock_wrong,
            overtaken=pipeline.overtaken,
            levels=pipeline.levels,
            damage=damage,
            disk_free=free,
            certificate=certificate,
        )

    def _lines(self, pipeline: Pipeline | None, now: float) -> LineCounts | None:
        if pipeline is None:
            return None
        recent, age = pipeline.recent.sum(now)
        return LineCounts(
            since=clock.iso(clock.now() - int(age * clock.SECOND)),
            read=recent.read,
            scored=recent.scored,
            unknown=recent.unknown,
            refused=dict(recent.refused),
        )

    def _say(self, state: str, found: Sequence[Condition], now: float) -> None:
        """Write troubles to the service's log: those that begin, that last, and that are over."""
        if state != self._state:
            log.info("log %s", state)
            self._state = state
        there = {(each.kind, each.key): each for each in found}
        for key, each in there.items():
            if key not in self._said or now - self._said[key] >= AGAIN_S:
                log.warning("%s: %s%s", each.kind, each.detail, f"; {each.remedy}" if each.remedy else "")
                self._said[key] = now
        for key in [key for key in self._said if key not in there]:
            del self._said[key]
            if key[0] not in {kind for kind, _ in there}:
                log.info("%s: over", key[0])
