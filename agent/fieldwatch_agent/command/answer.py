"""Carries out one command that needs the log, in a process of its own (``fieldwatch-agent answer``).

A long range takes a while and memory, and may show a fault of the program: the service goes on scoring meanwhile and
survives it. What may be told was decided before (:mod:`.rules`); this does it and writes nothing.
"""

from __future__ import annotations

from typing import Literal

from fieldwatch_contract.bundle import BundleError
from fieldwatch_contract.commands import ReplyData
from pydantic import BaseModel

from fieldwatch_agent.config import Config
from fieldwatch_agent.score.again import NotThereError, Range, evidence_of, summaries
from fieldwatch_agent.update.activation import Activation


class Task(BaseModel):
    """What to tell of which range (µs); ``model``: whose scores, "" for any. ``command``: its id."""

    command: str
    kind: Literal["evidence", "replay"]
    start: int
    end: int
    model: str = ""


def answer(config: Config, task: Task) -> ReplyData:
    """Return the reply; never raises for what the log or the bundle is like."""
    wanted = Range(task.start, task.end)
    reply = ReplyData(command=task.command, kind=task.kind, outcome="done", detail=f"readings from {wanted}")
    failed = reply.model_copy(update={"outcome": "failed"})
    try:
        bundle = Activation(config.state.dir).current()
        if bundle is None:
            return failed.model_copy(update={"detail": "no bundle is active here, so nothing can be scored"})
        named = {"bundle": f"{bundle.manifest.name}/{bundle.manifest.version}"}
        if task.kind == "replay":
            return reply.model_copy(update=named | {"replay": summaries(config.log, bundle, wanted)})
        return reply.model_copy(update=named | {"evidence": evidence_of(config.log, bundle, wanted, task.model)})
    except NotThereError as error:
        return failed.model_copy(update={"outcome": "refused", "detail": str(error)})
    except (BundleError, OSError, MemoryError) as error:
        return failed.model_copy(update={"detail": f"{type(error).__name__}: {error}"})
