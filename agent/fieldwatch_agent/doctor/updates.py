"""Tries an update, from the server up to the bundle's self-test here, in a folder that is thrown away.

What this device trusts already goes along, so that an old copy of the repository is noticed as the service would.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import urllib3

from fieldwatch_agent import durable, web
from fieldwatch_agent.config import Config
from fieldwatch_agent.findings import Finding
from fieldwatch_agent.update.explain import NOTHING
from fieldwatch_agent.update.troubles import FETCH, REMEDY
from fieldwatch_agent.update.updater import pull

WHERE = "updates"
SKEW_S = 300.0
"""Seconds by which clocks may differ; beyond, certificates and signatures fail sooner or later."""


def try_clock(config: Config) -> Iterator[Finding]:
    """Yield how this PC's clock compares with the update server's; nothing where that says no time."""
    if config.updates is None:
        return
    tls = {} if config.updates.ca is None else {"ca_certs": str(config.updates.ca)}
    url = config.updates.url.rstrip("/") + "/metadata/timestamp.json"
    try:
        answer = web.pool(url, **tls).request("GET", url, timeout=10, retries=False, redirect=False)
        server = parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
    except (urllib3.exceptions.HTTPError, OSError, KeyError, ValueError, TypeError):
        return  # why it cannot be reached, the update tells
    behind = (server - datetime.now(UTC)).total_seconds()
    if abs(behind) > SKEW_S:
        which = "behind" if behind > 0 else "ahead of"
        what = f"this PC's clock is {_span(abs(behind))} {which} the update server's"
        yield Finding("error", "clock", what, "set the clock, or switch on time synchronisation")
    else:
        yield Finding("ok", "clock", "agrees with the update server's")


def try_updates(config: Config) -> Iterator[Finding]:
    """Yield what comes of an update; nothing where the configuration has none."""
    updates = config.updates
    if updates is None:
        return
    try:
        root = durable.read(updates.root)
    except OSError:
        return  # check has said it
    if updates.ca is not None and not updates.ca.is_file():
        yield Finding("error", WHERE, f"updates.ca: there is no file {updates.ca}", "it says which server to trust")
        return
    with tempfile.TemporaryDirectory(prefix="fieldwatch-doctor-") as folder:
        scratch = Path(folder)
        trusted = config.state.dir / "tuf"
        if trusted.is_dir():
            shutil.copytree(trusted, scratch / "tuf")
        device = config.device
        result = pull(updates.url, root, scratch, device.id, device.type, updates.channel, ca=updates.ca)
    if result.outcome in {"failed", "refused"}:
        remedy = REMEDY.get(result.trouble or "", FETCH)
        yield Finding("error", WHERE, result.detail.replace(f"; {NOTHING}", ""), remedy)  # of the scratch
    elif result.trouble == "ending":
        yield Finding("warning", WHERE, result.detail, REMEDY["ending"])
    elif result.outcome == "activated":
        yield Finding(
            "ok", WHERE, f"{result.detail.partition(' is active')[0]} comes whole and passes its self-test here"
        )
    else:
        yield Finding("ok", WHERE, result.detail)


def _span(seconds: float) -> str:
    for size, unit in ((86_400, "days"), (3600, "hours")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds / 60:.0f} minutes"
