"""The service: runs the pipeline, keeps the uplink and the updater going, and reports health.

One loop, one thread that writes. The uplink runs in a separate thread on its own connection to the journal; the updater
is a short-lived child process, so that neither its memory nor a crash affects the service. Nothing here may stop the
scoring: a failed update, a broker that refuses and a full disk are reported in ``health`` and in the log, and the last
good bundle keeps scoring.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from fieldwatch_contract import clock
from fieldwatch_contract.bundle import BundleError
from fieldwatch_contract.events import Trouble

from fieldwatch_agent import __version__, memory, system
from fieldwatch_agent.bell import Bell
from fieldwatch_agent.command.desk import Desk
from fieldwatch_agent.config import Config
from fieldwatch_agent.health import Reporter
from fieldwatch_agent.log.watch import Watcher
from fieldwatch_agent.score.pipeline import Pipeline, Step
from fieldwatch_agent.send.journal import Draft, Journal, JournalError, JournalGone
from fieldwatch_agent.send.uplink import Uplink
from fieldwatch_agent.supervisor import Manager, Supervisor
from fieldwatch_agent.update.activation import Activation
from fieldwatch_agent.update.child import Updating
from fieldwatch_agent.update.takeup import Takeup

POLL_S = 1.0
"""Poll interval of the log in seconds; the file watcher only shortens it."""
HEALTH_S = 60.0
RETRY_S = 5.0
"""Pause in seconds after the journal could not be written."""
IDLE_LIMIT_S = 60.0
"""``--until-idle`` gives up after this long without progress."""
NAP_S = 30.0
"""A sleep of fewer seconds is left to the keepalive."""
ALERTS_SAID = 10
"""Alert transitions logged per block; a backlog brings many at once."""
MANY_LINES = 50
RELEASE_S = 10.0
"""Seconds after a backlog of more than :data:`MANY_LINES` until memory is handed back: it has been sent by then."""
RELEASE_AGAIN_S = 600.0
"""Seconds between two releases while the device is live."""
CHECK_S = 86_400.0
"""Seconds between two looks at the whole journal, beside the one at the start."""

log = logging.getLogger("fieldwatch.agent")


class Service:
    """One device's agent."""

    def __init__(self, config: Config, config_path: Path, manager: Manager | None = None) -> None:
        """Open the journal; ``manager``: who looks after the service, by default systemd, where it does.

        Raises :class:`.send.journal.JournalError` where the state folder cannot be written, or is another device's.
        """
        memory.share_heap()
        self._config = config
        self._bell = Bell()
        self._journal = Journal(config.state.dir, config.state.outbox_limit)
        try:
            self._journal.claim(config.device.id)
        except BaseException:
            self._journal.close()
            raise
        self._activation = Activation(config.state.dir)
        self._takeup = Takeup(self._activation, (BundleError, JournalError, MemoryError))
        self._updating: Updating | None = None
        if config.updates is not None:
            command = own_command("update", "--config", str(config_path))
            self._updating = Updating(command, config.updates.interval / clock.SECOND)
        self._uplink = Uplink(config.mqtt, config.device.id, self._journal) if config.mqtt is not None else None
        self._desk: Desk | None = None
        if self._uplink is not None:
            command = own_command("answer", "--config", str(config_path))
            letters = self._uplink.commands
            self._desk = Desk(config, command, self._journal, letters, self._updating, self._activation)
        self._pipeline: Pipeline | None = None
        self._unwritten = ""
        self._reporter = Reporter(config, self._journal)
        self._manager = manager or Supervisor()
        self._slept = system.slept()
        self._release_due = time.monotonic() + RELEASE_S  # frees the memory that start-up used
        self._check_due = time.monotonic() + CHECK_S

    def stop(self) -> None:
        """Ask the loop to end after the current block; safe in a signal handler and from any thread."""
        self._bell.stop()

    def run(self, until_idle: bool = False) -> int:
        """Run until :meth:`stop` or, with ``until_idle``, until all is read and acknowledged; return the exit code.

        Raises :class:`.JournalGone` where the journal was removed while it was in use.
        """
        log.info("agent %s, device %s, journal %s", __version__, self._config.device.id, self._journal.epoch)
        watcher = Watcher(self._config.log.path, self._bell.ring)
        if self._uplink is not None:
            self._uplink.start()
        self._manager.ready()
        wanted = False
        try:
            code = self._loop(until_idle)
            wanted = True
            self._manager.stopping()
            self._journal.stopped()
            return code
        finally:
            watcher.close()
            if self._uplink is not None:
                self._uplink.stop(wanted)
            if self._desk is not None:
                self._desk.stop()
            if self._updating is not None and self._updating.stop():
                self._activation.tested()  # a self-test that we stopped says nothing about the bundle
            self._journal.close()

    def _loop(self, until_idle: bool) -> int:
        progress = time.monotonic()
        waiting = math.inf
        backlog = 0
        while not self._bell.stopped:
            if self._uplink is not None:
                self._uplink.beat()
            self._manager.beat()
            self._notice_sleep()
            step = None
            try:
                self._follow_activation()
                self._hear()
                self._obey()
                step = self._step()
                self._check_journal()
                if step is not None or self._reporter.looks:
                    self._report()
            except JournalGone:
                raise
            except JournalError as error:
                if str(error) != self._unwritten:
                    log.error("%s; nothing is lost, retrying every %.0f s", error, RETRY_S)
                self._unwritten = str(error)
                self._manager.status(self._doing())
                self._reporter.hurry()  # the next report proves that the journal can be written
                self._give_up_pipeline()
                if until_idle and time.monotonic() - progress > IDLE_LIMIT_S:
                    return 1
                self._bell.pause(RETRY_S)
                continue
            if self._unwritten:
                log.info("the journal can be written again: continuing from the last commit")
                self._unwritten = ""
            if self._updating is not None:
                self._updating.follow()
            if step is not None:
                if step.lines:
                    waiting, progress = math.inf, time.monotonic()
                backlog += step.lines
                if self._uplink is not None:
                    self._uplink.wake()
                continue
            if backlog > MANY_LINES:
                self._release_due = time.monotonic() + RELEASE_S
                self._reporter.hurry()  # caught up: what was reported on the way is outdated
            backlog = 0
            if time.monotonic() >= self._release_due:
                self._release_due = time.monotonic() + RELEASE_AGAIN_S
                self._journal.release()
                memory.release()
            if until_idle:
                depth = self._journal.outbox().events
                if self._idle(depth):
                    return 0
                if depth < waiting:  # a health event that is queued and acknowledged is no progress
                    waiting, progress = depth, time.monotonic()
                if time.monotonic() - progress > IDLE_LIMIT_S:
                    log.error("not idle after %.0f s without progress: %s", IDLE_LIMIT_S, self._why_not_idle(depth))
                    return 1
            self._bell.wait(POLL_S / 4 if until_idle else POLL_S)
        return 0

    def _notice_sleep(self) -> None:
        """After a sleep: tell the cloud at once that we are there, over a new connection."""
        before, self._slept = self._slept, system.slept()
        if self._slept - before < NAP_S:
            return
        log.info("this computer has slept for %.0f s", self._slept - before)
        self._reporter.hurry()
        if self._uplink is not None:
            self._uplink.woken()

    def _check_journal(self) -> None:
        if time.monotonic() >= self._check_due:
            self._check_due = time.monotonic() + CHECK_S
            self._journal.check()

    def _hear(self) -> None:
        """Journal what people said of alerts: from the next row on it holds."""
        document = self._uplink.verdicts.take() if self._uplink is not None else None
        if self._uplink is None or document is None:
            return
        try:
            said = self._journal.hear(document)
        except JournalError:
            self._uplink.verdicts.put_back(document)
            raise
        if self._pipeline is not None:
            self._pipeline.hear(said)

    def _obey(self) -> None:
        """Take the commands that came, and go on with what they ask for."""
        if self._desk is not None and self._uplink is not None and self._desk.follow():
            self._uplink.wake()

    def _step(self) -> Step | None:
        if self._pipeline is None:
            return None
        try:
            step = self._pipeline.step(self._takeup.block)
        except (BundleError, MemoryError) as error:
            self._takeup.failed(error)
            self._give_up_pipeline()
            return None
        if step is not None:
            if step.scored:
                self._takeup.scored()
            self._say_alerts(step.alerts)
        return step

    def _say_alerts(self, transitions: Sequence[str]) -> None:
        for each in transitions[-ALERTS_SAID:]:
            log.warning("alert: %s", each)
        if len(transitions) > ALERTS_SAID:
            log.warning("alert: and %d transitions before these, in the results", len(transitions) - ALERTS_SAID)

    def _give_up_pipeline(self) -> None:
        """Discard the pipeline, whose grid is ahead of the journal: start again from the last commit."""
        self._pipeline = None
        self._takeup.dropped()

    def _follow_activation(self) -> None:
        """Journal the updater's events, and load the active bundle if it has changed."""
        self._activation.catch_up()
        events = self._activation.events()
        if events:
            day = clock.day_of(clock.now())
            self._journal.enqueue([Draft("model", day, event.model_dump_json()) for event in events])
            self._activation.announced(len(events))
            self._reporter.hurry()
        if self._takeup.due():
            pipeline = self._takeup.load(lambda bundle: Pipeline(self._config, bundle, self._journal))
            self._pipeline = pipeline or self._pipeline

    def _bundle_troubles(self) -> list[Trouble]:
        """The troubles with bundle and updates, worst first."""
        mine = [self._takeup.trouble(), self._updating.trouble() if self._updating is not None else None]
        seen = [trouble for trouble in mine if trouble is not None]
        kinds = {trouble.kind for trouble in seen}
        return seen + [trouble for trouble in self._activation.troubles() if trouble.kind not in kinds]

    @property
    def _trouble(self) -> str:
        """Why nothing is scored, in words; empty while it is."""
        return next((t.detail for t in self._bundle_troubles() if t.kind != "update_failing"), "")

    def _doing(self) -> str:
        """What the service does, in one line for its manager."""
        if self._pipeline is None:
            return self._unwritten or self._trouble or "starting"
        newest = self._pipeline.newest
        read = f"newest reading {clock.iso(newest)[:16]}" if newest is not None else "no reading yet"
        uplink = f"; {self._uplink.error}" if self._uplink is not None and self._uplink.error else ""
        ref = self._pipeline.bundle.ref
        return f"scoring with {ref.name}/{ref.version}, {read}{uplink}"

    def _report(self) -> None:
        """Report health, if that is due or something has changed."""
        self._manager.status(self._doing())
        troubles = self._bundle_troubles()
        uplink = (self._uplink.error or "") if self._uplink is not None else ""
        unheard = self._uplink.verdicts.problem if self._uplink is not None else ""
        self._reporter.report(self._pipeline, troubles, self._activation.note(), uplink, HEALTH_S, unheard=unheard)

    def _idle(self, depth: int) -> bool:
        updating = self._updating is not None and self._updating.running
        asked = self._desk is not None and self._desk.busy
        if self._pipeline is None or updating or asked or self._reporter.hurries or self._pipeline.waiting:
            return False
        if self._uplink is None:
            return True
        if depth == 0 and not self._journal.all_reported():
            self._reporter.hurry()  # the last acknowledgement changed ledger days: report them too
            return False
        return depth == 0

    def _why_not_idle(self, depth: int) -> str:
        if self._pipeline is None:
            return self._trouble
        if self._pipeline.waiting:
            return self._pipeline.waiting
        error = self._uplink.error if self._uplink is not None else None
        return f"{depth} events not acknowledged; {error or 'the cloud does not acknowledge'}"


def own_command(*arguments: str) -> list[str]:
    """Return the command line that runs this program again, frozen or not."""
    if getattr(sys, "frozen", False):
        return [sys.executable, *arguments]
    return [sys.executable, "-m", "fieldwatch_agent", *arguments]


def run(
    config: Config,
    config_path: Path,
    until_idle: bool,
    on_start: Callable[[Service], None],
    manager: Manager | None = None,
) -> int:
    """Run the service; ``on_start`` receives it before the loop begins, to wire up signals."""
    service = Service(config, config_path, manager)
    on_start(service)
    return service.run(until_idle)
