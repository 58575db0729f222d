"""Writes ``agent.toml`` for an enrolled device: what enrolment knows, the rest as comments to be found when needed."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Settings:
    """What goes into the file. ``identity``: the folder with key and certificates; ``log``: path or glob."""

    device: str
    device_type: str
    log: str
    period: str
    enrolment: str
    broker: str
    identity: Path
    state: Path
    updates: str | None
    channel: str
    updates_ca: bool


def render(settings: Settings) -> str:
    """Return the text of ``agent.toml``."""
    files = settings.identity
    updates = ""
    if settings.updates is not None:
        own = f"ca = {_text(files / 'updates-ca.pem')}"
        ca = own if settings.updates_ca else "# ca = …   # default: the system's certificate store"
        updates = f"""
[updates]
url = {_text(settings.updates)}
root = {_text(files / "root.json")}   # the trust root, checked against the token
{ca}
channel = {_text(settings.channel)}
interval = "15m"
"""
    return f"""\
# Written by 'fieldwatch-agent enroll'. Change it as you like; then: fieldwatch-agent check --config THIS FILE
# All keys: docs/operate-agent.md. Relative paths start at this file's folder.

[device]
id = {_text(settings.device)}     # the certificate's common name: do not change it
type = {_text(settings.device_type)}

[log]
path = {_text(settings.log)}   # a glob; rotated files are found and read oldest first
period = {_text(settings.period)}
# timestamp = "Time"            # these are detected; set one where that fails
# decimal = ","
# missing = [-9999]

[enrolment]
url = {_text(settings.enrolment)}   # where the certificate is renewed

[mqtt]
url = {_text(settings.broker)}
ca = {_text(files / "ca.pem")}
certificate = {_text(files / "device.pem")}   # key and certificate in one file
key = {_text(files / "device.pem")}
{updates}
[state]
dir = {_text(settings.state)}

[privacy]
evidence = "on-alert"           # none | scores | on-alert | full: what may leave the laboratory
"""


def _text(value: str | Path) -> str:
    """As TOML: a literal string where that is possible, so that Windows paths stay readable."""
    text = str(value)
    return f"'{text}'" if "\\" in text and "'" not in text else json.dumps(text, ensure_ascii=False)
