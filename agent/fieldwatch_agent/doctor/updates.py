"""Tries an update, from the server up to the bundle's self-test here, in a folder that is thrown away.

What this device trusts already goes along, so that an old copy of the repository is noticed as the service would.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from fieldwatch_agent import durable
from fieldwatch_agent.config import Config
from fieldwatch_agent.findings import Finding
from fieldwatch_agent.update.explain import NOTHING
from fieldwatch_agent.update.troubles import FETCH, REMEDY
from fieldwatch_agent.update.updater import pull

WHERE = "updates"


def try_updates(config: Config) -> Iterator[Finding]:
    """Yield what comes of an update; nothing where the configuration has none."""
    updates = config.updates
    if updates is None:
        return
    try:
        root = durable.read(updates.root)
    except OSError:
        return  # check has said it
    with tempfile.TemporaryDirectory(prefix="fieldwatch-doctor-", ignore_cleanup_errors=True) as folder:
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
