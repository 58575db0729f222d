"""Reads ``packaging/centre/compose.yaml`` as Docker Compose would: variables of an environment filled in, merges done.

Containers cannot run where the tests do. What a container would do is therefore done by its program on this machine:
:meth:`Service.outside` says where a path of the container lies here, or fails where nothing is mounted there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

import yaml

from tests.conftest import ROOT

FOLDER = ROOT / "packaging" / "centre"
VARIABLE = re.compile(r"\$\{(\w+)(?::\?[^}]*)?\}")


def variables(environment: str) -> dict[str, str]:
    """Return what ``config/ENVIRONMENT/centre.env`` says."""
    lines = (ROOT / "config" / environment / "centre.env").read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@dataclass(frozen=True)
class Mount:
    """``source`` on the machine, as it is written; ``target`` in the container."""

    source: str
    target: str
    read_only: bool


@dataclass(frozen=True)
class Service:
    """One container."""

    name: str
    raw: dict[str, Any]

    @property
    def mounts(self) -> list[Mount]:
        """What is mounted, the deepest target first."""
        found = []
        for entry in self.raw.get("volumes", []):
            if isinstance(entry, dict):
                found.append(Mount(entry["source"], entry["target"], bool(entry.get("read_only"))))
            else:
                source, target, *mode = entry.split(":")
                found.append(Mount(source, target, mode == ["ro"]))
        return sorted(found, key=lambda mount: -len(mount.target))

    @property
    def command(self) -> list[str]:
        """Its arguments."""
        return [str(word) for word in self.raw.get("command", [])]

    def outside(self, path: str) -> str:
        """Return where ``path`` of the container lies on the machine. Raises :class:`LookupError`."""
        for mount in self.mounts:
            if PurePosixPath(path).is_relative_to(mount.target):
                return mount.source + path.removeprefix(mount.target)
        raise LookupError(f"{self.name}: nothing is mounted at {path}")


def document(values: dict[str, str]) -> dict[str, Any]:
    """Return the whole file with variables filled in. Raises :class:`KeyError` for one that has no value."""
    text = VARIABLE.sub(lambda found: values[found[1]], (FOLDER / "compose.yaml").read_text(encoding="utf-8"))
    loaded = yaml.safe_load(text)
    assert isinstance(loaded, dict)
    return loaded


def services(values: dict[str, str]) -> dict[str, Service]:
    """Return the containers by name."""
    return {name: Service(name, raw) for name, raw in document(values)["services"].items()}
