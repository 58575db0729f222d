"""The service's side of commands: takes them, has one at a time carried out, and answers; nothing waits for it.

What it promises
    * The journal knows a command before anything is done for it, and that it is begun before it is begun. Its reply is
      queued in the transaction that ends it. So each is done at most once and answered once, wherever the agent is
      killed: one that was begun then is answered as failed and not begun again.
    * ``update`` runs the service's own updater; the others run in a process of their own (:mod:`.answer`), for at most
      :data:`LIMIT_S`.
"""

from __future__ import annotations

import logging
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from typing import IO

from fieldwatch_contract import clock
from fieldwatch_contract.commands import Command, ReplyData
from pydantic import ValidationError

from fieldwatch_agent import system
from fieldwatch_agent.command.answer import Task
from fieldwatch_agent.command.rules import Refusal, judge, overdue, shown
from fieldwatch_agent.config import Config
from fieldwatch_agent.exits import DONE, REFUSED
from fieldwatch_agent.send.journal import Journal, JournalError
from fieldwatch_agent.send.mailbox import Letterbox
from fieldwatch_agent.send.seen import Seen
from fieldwatch_agent.update.activation import Activation
from fieldwatch_agent.update.child import Updating

LIMIT_S = 600.0

log = logging.getLogger("fieldwatch.agent")


class Desk:
    """Belongs to the service's loop. Its methods raise :class:`.JournalError` where the journal cannot be written."""

    def __init__(
        self,
        config: Config,
        program: Sequence[str],
        journal: Journal,
        letters: Letterbox,
        updating: Updating | None,
        activation: Activation,
    ) -> None:
        """``program``: the command line of :mod:`.answer`; ``letters``: what came from the cloud."""
        self._config = config
        self._program = list(program)
        self._journal = journal
        self._letters = letters
        self._updating = updating
        self._activation = activation
        self._known: tuple[Seen, ...] | None = None
        self._active: Command | None = None
        self._worker: _Worker | None = None
        self._update = 0
        self._reply: ReplyData | None = None

    @property
    def busy(self) -> bool:
        """Whether a command is not answered yet."""
        return any(each.state != "ended" for each in self._known or ())

    def follow(self) -> bool:
        """Take what has come, go on with what was begun, begin the next; tell whether something is to be sent."""
        if self._known is None:
            self._known = self._remembered()
        answered = self._take(self._letters.take())
        if self._active is not None:
            self._reply = self._reply or self._result(self._active)
            if self._reply is None:
                return answered
            self._end(self._reply)
            self._active = self._worker = self._reply = None
            return True
        waiting = next((each for each in self._known if each.state == "waiting"), None)
        if waiting is None:
            return answered
        return self._begin(Command.model_validate_json(waiting.text)) or answered

    def stop(self) -> None:
        """End the process that carries out a command; the next start answers it as failed."""
        if self._worker is not None:
            self._worker.stop()

    # ---- taking ----

    def _remembered(self) -> tuple[Seen, ...]:
        """Return what the journal remembers, after what was cut short is answered."""
        known = self._journal.commands()
        if not (cut := [each for each in known if each.state == "begun"]):
            return known
        what = "the agent ended while it carried this out, and does not begin it again; give a new command"
        replies = [ReplyData(command=each.id, kind=_kind(each), outcome="failed", detail=what) for each in cut]
        ended = tuple(replace(each, state="ended", text="") if each in cut else each for each in known)
        self._journal.remember(ended, replies)
        return ended

    def _take(self, payloads: list[bytes]) -> bool:
        if not payloads:
            return False
        now, known, replies = clock.now(), list(self._known or ()), []
        for payload in payloads:
            found = judge(payload, self._config.device.id, self._config.commands.allow, known, now)
            if isinstance(found, Command):
                log.info("command %s: %s, from %s", found.id, found.data.kind, found.data.issuer)
                known.append(Seen(found.id, now, "waiting", text=found.model_dump_json()))
            elif found is not None:
                log.warning("command %s refused: %s", found.id or "without an id", found.why)
                if not found.silent:
                    known.append(Seen(found.id, now, "ended", refused=True))
                    replies.append(_refused(found))
        if len(known) == len(self._known or ()):
            return False
        try:
            self._keep(known, replies)
        except JournalError:
            for payload in payloads:
                self._letters.put(payload)
            raise
        return bool(replies)

    # ---- carrying out ----

    def _begin(self, command: Command) -> bool:
        """Begin a command; tell whether it was answered at once."""
        if late := overdue(command, clock.now()):
            self._end(_refused(Refusal(command.id, command.data.kind, late)))
            return True
        if command.data.kind == "update":
            if self._updating is None:
                what = "this device's configuration has no [updates]: there is no server to ask"
                self._end(_refused(Refusal(command.id, "update", what)))
                return True
            self._mark(command.id)
            self._update = self._updating.hurry()
            self._active = command
            return False
        newest = self._journal.progress().newest
        if newest is None:
            self._end(_refused(Refusal(command.id, command.data.kind, "this device has not scored any reading yet")))
            return True
        period, evidence = self._config.log.period, self._config.privacy.evidence
        told = shown(command, evidence, self._journal.raised(), newest, period)
        if isinstance(told, Refusal):
            self._end(_refused(told))
            return True
        self._mark(command.id)
        self._active = command
        task = {"command": command.id, "kind": command.data.kind, "start": told[0].start, "end": told[0].end}
        self._worker = _Worker(self._program, Task.model_validate(task | {"model": told[1]}))
        return False

    def _result(self, command: Command) -> ReplyData | None:
        """Return the reply once a command has come to its end."""
        if self._worker is not None:
            return self._worker.reply()
        if self._updating is None or self._updating.ended < self._update:
            return None
        self._activation.catch_up()
        state, failure = self._activation.state(), self._updating.trouble()
        detail = failure.detail if failure is not None else state.note
        # refused is well: what is offered may not run here, and detail says why
        well = failure is None and self._updating.code in (DONE, REFUSED)
        bundle = f"{state.current.name}/{state.current.version}" if state.current is not None else ""
        return ReplyData(
            command=command.id,
            kind="update",
            outcome="done" if well else "failed",
            detail=detail or (f"{bundle} is what this device should run" if bundle else "nothing is offered yet"),
            bundle=bundle,
        )

    def _mark(self, name: str) -> None:
        self._keep([replace(each, state="begun") if each.id == name else each for each in self._known or ()], [])

    def _end(self, reply: ReplyData) -> None:
        known = [
            replace(each, state="ended", text="") if each.id == reply.command else each for each in self._known or ()
        ]
        self._keep(known, [reply])
        log.info("command %s: %s: %s", reply.command, reply.outcome, reply.detail)

    def _keep(self, known: Sequence[Seen], replies: Sequence[ReplyData]) -> None:
        self._journal.remember(known, replies)
        self._known = tuple(known)


class _Worker:
    """The process that carries out a command."""

    def __init__(self, program: Sequence[str], task: Task) -> None:
        self._task = task
        self._until = system.awake() + LIMIT_S
        self._failure = ""
        self._output: IO[bytes] | None = None
        self._process: subprocess.Popen[bytes] | None = None
        try:
            self._output = tempfile.TemporaryFile()  # noqa: SIM115 - a pipe would block when it is full
            with tempfile.TemporaryFile() as order:
                order.write(task.model_dump_json().encode())
                order.seek(0)
                self._process = subprocess.Popen(list(program), stdin=order, stdout=self._output)
        except OSError as error:
            self._failure = f"the process for it cannot be started: {error}"

    def reply(self) -> ReplyData | None:
        """Return the answer once there is one."""
        code = self._process.poll() if self._process is not None else 0
        if code is None:
            if system.awake() > self._until:
                self._failure = f"it was not done within {LIMIT_S:.0f} s, and was ended"
                self.stop()
            return None
        output = b""
        if self._output is not None:
            with self._output:
                self._output.seek(0)
                output = self._output.read()
        if not self._failure:
            try:
                return ReplyData.model_validate_json(output)
            except ValidationError:
                self._failure = f"the process for it ended without a result (exit code {code})"
        task = self._task
        return ReplyData(command=task.command, kind=task.kind, outcome="failed", detail=self._failure)

    def stop(self) -> None:
        """End it."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()


def _refused(refusal: Refusal) -> ReplyData:
    return ReplyData(command=refusal.id, kind=refusal.kind, outcome="refused", detail=refusal.why)


def _kind(command: Seen) -> str:
    return Command.model_validate_json(command.text).data.kind
