"""Examines an installed agent: everything that ``check`` finds without a network, then the network itself.

It tries what the service does, with the service's own code: the connection to the broker up to ingest, an update into a
folder that is thrown away, with the bundle's self-test. It changes nothing that lasts, and leaves a running service
alone: two programs with one identity would push each other off the broker, so then it reports what the service says.
As root it examines under the service's account, because what root may read says nothing about the service.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from fieldwatch_agent import durable
from fieldwatch_agent.check import check
from fieldwatch_agent.config import Config
from fieldwatch_agent.doctor.broker import try_broker
from fieldwatch_agent.doctor.clocks import try_clocks
from fieldwatch_agent.doctor.updates import try_updates
from fieldwatch_agent.findings import Finding
from fieldwatch_agent.send.file import LOCK
from fieldwatch_agent.send.journal import FILE, JournalError, read_status


def examine(config: Config) -> list[Finding]:
    """Return all findings, the good ones too."""
    running, found = _running(config), check(config)
    wrong = {each.where.partition(" ")[0] for each in found if each.level == "error"}
    clocks = list(try_clocks(config))
    if any(each.level != "ok" for each in clocks):  # the doctor knows more than check: which of the clocks is right
        found = [each for each in found if (each.where, each.level) != ("[log.timestamp]", "warning")]
    found += [*_service(config, running), *clocks]
    if not running and "[mqtt]" not in wrong:  # what is wrong without a network needs no trial
        found += try_broker(config)
    if "[updates]" not in wrong:
        found += try_updates(config)
    return found


def _running(config: Config) -> bool:
    try:
        with durable.lock(config.state.dir / LOCK):
            return False
    except durable.Busy:
        return True
    except OSError:
        return False  # no state folder yet, or one that check complains of


def _service(config: Config, running: bool) -> Iterator[Finding]:
    where = "service"
    if not running:
        yield Finding("warning", where, "does not run", "start it when everything else is well")
        return
    try:
        status: dict[str, Any] = read_status(config.state.dir / FILE)
    except JournalError as error:
        yield Finding("error", where, f"runs, but its journal cannot be read: {error}", "see its log")
        return
    if status["uplink"]:
        yield Finding("error", where, f"runs, and says of the broker: {status['uplink']}", "mend that; it tries again")
    else:
        yield Finding("ok", where, f"runs, {status['outbox']['events']} events wait to be acknowledged")
    for trouble in (status["health"] or {}).get("troubles") or []:
        yield Finding("error", where, f"{trouble['kind']}: {trouble['detail']}", trouble["remedy"])
