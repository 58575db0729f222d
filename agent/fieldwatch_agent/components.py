"""Which libraries this agent runs with, so that the centre can tell which devices a vulnerability concerns.

In a package the list lies beside this module (``components.json``): ``make package`` writes it with the SBOM, of what
is really in the folder, so it is as complete as the SBOM, but for the Rust crates within libraries. Elsewhere it is
asked of the environment: ``fieldwatch``, what it requires, what that requires, and what these say of the native
libraries in them. Most say nothing, so that such a list is not complete, and says so. Nothing is imported for it: an
idle agent stays small.
"""

from __future__ import annotations

import json
import re
import sqlite3
import ssl
from functools import cache
from importlib import metadata
from pathlib import Path
from platform import python_version

from fieldwatch_contract.events import Components
from pydantic import ValidationError

FILE = Path(__file__).with_name("components.json")
_EXTRA = re.compile(r"extra\s*==\s*['\"]([^'\"]+)")
_REQUIREMENT = re.compile(r"([A-Za-z0-9._-]+)\s*(?:\[([^\]]*)\])?")


@cache
def components() -> Components | None:
    """Return what this program consists of, as it does while it runs; None where it was frozen without its list."""
    try:
        return Components.model_validate_json(FILE.read_bytes())
    except (OSError, ValidationError):
        return _installed()


def _installed() -> Components | None:
    required = _required("fieldwatch")
    if not required:
        return None
    found: dict[str, set[str]] = {}
    for name, version in _linked():
        found.setdefault(name, set()).add(version)
    for dist in required:
        for name, version in [(_canonical(dist.name), dist.version), *_within(dist)]:
            found.setdefault(name, set()).add(version)
    return Components(versions={name: sorted(found[name]) for name in sorted(found)}, complete=False)


def _linked() -> list[tuple[str, str]]:
    """Return Python and what is linked into it and into zstandard, with the names that the SBOM uses."""
    from pyexpat import EXPAT_VERSION

    from zstandard import ZSTD_VERSION

    return [
        ("cpython", python_version()),
        ("expat", EXPAT_VERSION.removeprefix("expat_")),
        ("sqlite3", sqlite3.sqlite_version),
        ("zstd", ".".join(map(str, ZSTD_VERSION))),
        ("openssl", ssl.OPENSSL_VERSION.removeprefix("OpenSSL ").partition(" ")[0]),
    ]


def _within(dist: metadata.Distribution) -> list[tuple[str, str]]:
    """Return the native libraries that a wheel's own SBOM names."""
    found = []
    for file in dist.files or []:
        if file.parent.name == "sboms" and file.suffix == ".json":
            try:
                stated = json.loads(file.read_text(encoding="utf-8")).get("components", [])
                named = [(str(one["name"]), str(one["version"]), str(one.get("purl"))) for one in stated]
            except (OSError, ValueError, KeyError, TypeError, AttributeError):
                continue  # the list is not complete, and says so
            found += [(name.lower(), version) for name, version, purl in named if not purl.startswith("pkg:cargo/")]
    return found


def _required(root: str) -> list[metadata.Distribution]:
    """Return ``root`` and all that it requires. Of markers only extras count: what is installed may run."""
    waiting: list[tuple[str, frozenset[str]]] = [(root, frozenset())]
    seen = set(waiting)
    found = []
    while waiting:
        name, extras = waiting.pop()
        try:
            dist = metadata.distribution(name)
        except metadata.PackageNotFoundError:
            continue
        found.append(dist)
        for line in dist.requires or []:
            requirement, _, marker = line.partition(";")
            asked, needed = _REQUIREMENT.match(requirement.strip()), _EXTRA.search(marker)
            if asked is None or (needed is not None and needed[1] not in extras):
                continue
            of = frozenset(part.strip() for part in (asked[2] or "").split(",") if part.strip())
            if (one := (_canonical(asked[1]), of)) not in seen:
                seen.add(one)
                waiting.append(one)
    return found


def _canonical(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
