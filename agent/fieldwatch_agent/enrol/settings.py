"""Writes ``agent.toml`` for a device: what is known, the rest as comments to be found when needed.

A file that is there is never written anew: sections are put in place of those of the same name, or added, and all
others stay as they are, to the letter.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

IDENTITY = "device.pem"
"""Key and certificate in one file, so that a renewal replaces both at once, whenever the power fails."""
CA, UPDATES_CA, ROOT = "ca.pem", "updates-ca.pem", "root.json"
"""The other files in the folder of the identity."""


class Unwritable(ValueError):
    """The file cannot be written as it should: a section is not safely replaced, or what goes into it is no text; the
    message says what to do."""


@dataclass(frozen=True)
class Enrolled:
    """What enrolment gave. ``identity``: the folder with key and certificates; ``updates``: their address."""

    url: str
    broker: str
    identity: Path
    updates: str | None
    channel: str
    updates_ca: bool


@dataclass(frozen=True)
class Settings:
    """What goes into the file. ``log``: the keys of ``[log]``; ``enrolled`` None: nothing is sent and fetched yet."""

    device: str
    device_type: str
    log: Mapping[str, Any]
    state: Path
    enrolled: Enrolled | None = None


def render(settings: Settings) -> str:
    """Return the text of ``agent.toml``."""
    sections = "\n".join([*own_sections(settings).values(), *_cloud_text(settings.enrolled)])
    return f"""\
# The agent of this device. Change it as you like; then: fieldwatch-agent check --config THIS FILE
# All keys: docs/operate-agent.md. Relative paths start at this file's folder.

{sections}
[state]
dir = {_text(settings.state)}

[service]
# log_file = "/var/log/fieldwatch-agent/agent.log"   # beside systemd's journal; rotated
log_format = "text"             # or "json", one object a line

[privacy]
evidence = "on-alert"           # none | scores | on-alert | full: what may leave the laboratory
"""


def own_sections(settings: Settings) -> dict[str, str]:
    """Return the sections that say which device and log this is, by name."""
    device = f"""\
[device]
id = {_text(settings.device)}     # the certificate's common name: do not change it once enrolled
type = {_text(settings.device_type)}     # chooses the model family
"""
    return {"device": device, "log": _log(settings.log)}


def cloud_sections(enrolled: Enrolled) -> dict[str, str]:
    """Return the sections that enrolment gives, by name."""
    files = enrolled.identity
    made = {
        "enrolment": f"""\
[enrolment]
url = {_text(enrolled.url)}   # where the certificate is renewed
""",
        "mqtt": f"""\
[mqtt]
url = {_text(enrolled.broker)}
ca = {_text(files / CA)}
certificate = {_text(files / IDENTITY)}   # key and certificate in one file
key = {_text(files / IDENTITY)}
""",
    }
    if enrolled.updates is not None:
        own = f"ca = {_text(files / UPDATES_CA)}"
        made["updates"] = f"""\
[updates]
url = {_text(enrolled.updates)}
root = {_text(files / ROOT)}   # the trust root, checked against the token
{own if enrolled.updates_ca else "# ca = …   # default: the system's certificate store"}
channel = {_text(enrolled.channel)}
interval = "15m"
"""
    return made


def _cloud_text(enrolled: Enrolled | None) -> list[str]:
    if enrolled is not None:
        return list(cloud_sections(enrolled).values())
    return ["""\
# Not enrolled yet: results stay on this PC, and bundles come by hand. To enrol, with the token you are given:
#     fieldwatch-agent setup --url https://HOST:8443 --config THIS FILE
# Without an enrolment service, fill in: [mqtt] url, ca, certificate, key; [updates] url, root (config/prod/agent.toml)
"""]  # fmt: skip


_LOG_WORDS = {
    "path": "a glob; rotated files are found and read oldest first",
    "format": "csv | long | jsonl",
    "period": "time between two readings; the bundle's",
    "missing": 'numbers and words that mean "no value"',
}
_LOG_HINTS = {
    "decimal": '","', "thousands": '"."', "missing": "[-9999]", "encoding": '"cp1252"', "delimiter": '";"',
    "columns": '["Time", "s1"]   # where the log has no line of names',
}  # fmt: skip


def _log(keys: Mapping[str, Any]) -> str:
    """Return ``[log]``; the keys that are not said stand there as comments."""
    lines = ["[log]"]
    for key, value in keys.items():
        if key != "timestamp" or not isinstance(value, dict):
            told = f"   # {_LOG_WORDS[key]}" if key in _LOG_WORDS else ""
            lines.append(f"{key} = {_value(value)}{told}")
    hints = [f"# {key} = {hint}" for key, hint in _LOG_HINTS.items() if key not in keys]
    lines += ["# These are detected; say one where that fails:", *hints]
    time = keys.get("timestamp", {})
    if isinstance(time, dict):
        lines.append("[log.timestamp]" if time else "# [log.timestamp]")
        lines += [f"{key} = {_value(value)}" for key, value in time.items()]
        own = {"column": '"Time"', "format": '"%m/%d/%Y %H:%M:%S"', "timezone": '"Europe/Berlin"   # default: UTC'}
        lines += [f"# {key} = {hint}" for key, hint in own.items() if key not in time]
    return "\n".join(lines) + "\n"


def replace(text: str, sections: Mapping[str, str]) -> str:
    """Put sections in place of those of the same name, or at the end; everything else stays to the letter.

    Raises :class:`Unwritable` where that would change anything else.
    """
    before = tomllib.loads(text)
    lines = text.replace("\r\n", "\n").split("\n")
    for name, section in sections.items():
        lines = _replace_one(lines, name, section.rstrip("\n").split("\n"))
    made = "\n".join(lines)
    try:
        after = tomllib.loads(made)
        wanted = before | tomllib.loads("\n".join(sections.values()))
    except tomllib.TOMLDecodeError:
        after, wanted = {}, before
    if after != wanted:
        named = ", ".join(f"[{name}]" for name in sections)
        raise Unwritable(f"cannot be changed without touching other things: edit {named} by hand")
    return made


def _replace_one(lines: list[str], name: str, section: list[str]) -> list[str]:
    mine = re.compile(rf"\s*\[\s*{re.escape(name)}\s*(\.[^\]]*)?\]")
    kept: list[str] = []
    place: int | None = None
    inside = False
    for line in lines:
        if re.match(r"\s*\[[^\[\]]+\]\s*(#.*)?$", line):
            inside = mine.match(line) is not None
            if inside and place is None:
                place = len(kept)
        if not inside:
            kept.append(line)
    if place is None:
        end = ["", *section, ""] if kept and kept[-1] == "" else ["", "", *section, ""]
        return [*kept[: len(kept) - (kept[-1:] == [""])], *end]
    return [*kept[:place], *section, "", *kept[place:]]


def _value(value: Any) -> str:
    """As TOML."""
    if isinstance(value, list | tuple):
        return f"[{', '.join(_value(each) for each in value)}]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int | float) else _text(value)


def _text(value: str | Path) -> str:
    """As TOML: a literal string where that is possible, so that Windows paths stay readable."""
    text = str(value)
    if not text.isprintable():
        if any("\ud800" <= each <= "\udfff" for each in text):
            raise Unwritable(f"{text!r} is no text in UTF-8, so it cannot stand in agent.toml: give it another name")
        return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
    return f"'{text}'" if "\\" in text and "'" not in text else json.dumps(text, ensure_ascii=False)
