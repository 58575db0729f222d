"""Static files under names with a hash of their content (cache busting): cached indefinitely, never stale.

``/static/fleet.3f2a9c1b.js`` is ``static/fleet.js``. JavaScript modules import one another by plain relative names
(``./live.js``); those are rewritten to the hashed names when the file is loaded, so that a module is never fetched
twice under two names.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}
_IMPORT = re.compile(rb'(from\s+|import\s+)"\./([\w.-]+\.js)"')


@dataclass(frozen=True)
class Asset:
    """One file as it is sent."""

    content: bytes
    media_type: str
    name: str


class Assets:
    """All static files, in memory: there are few and they are small."""

    def __init__(self) -> None:
        self._sources = dict(_walk(files("fieldwatch_cloud.web") / "static", ""))
        self._by_source: dict[str, Asset] = {}
        self._by_name: dict[str, Asset] = {}
        for source in self._sources:
            self._load(source, ())

    def url(self, source: str) -> str:
        """Return the address of ``static/<source>``. Raises :class:`KeyError` where there is none."""
        return f"/static/{self._by_source[source].name}"

    def get(self, name: str) -> Asset | None:
        """Return the asset with this hashed name."""
        return self._by_name.get(name)

    def _load(self, source: str, above: tuple[str, ...]) -> Asset:
        if source in above:
            raise ValueError(f"static modules import in a circle: {' → '.join([*above, source])}")
        if source in self._by_source:
            return self._by_source[source]
        content = self._sources[source]
        stem, _, suffix = source.rpartition(".")
        if suffix == "js" and "/" not in source:
            content = _IMPORT.sub(lambda m: self._hashed_import(m, (*above, source)), content)
        name = f"{stem}.{hashlib.sha256(content).hexdigest()[:10]}.{suffix}"
        asset = Asset(content, TYPES[f".{suffix}"], name)
        self._by_source[source] = self._by_name[name] = asset
        return asset

    def _hashed_import(self, match: re.Match[bytes], above: tuple[str, ...]) -> bytes:
        target = self._load(match[2].decode(), above)
        return match[1] + b'"./' + target.name.encode() + b'"'


def _walk(folder: Traversable, prefix: str) -> list[tuple[str, bytes]]:
    found: list[tuple[str, bytes]] = []
    for entry in folder.iterdir():
        if entry.is_dir():
            found += _walk(entry, f"{prefix}{entry.name}/")
        elif any(entry.name.endswith(suffix) for suffix in TYPES):
            found.append((prefix + entry.name, entry.read_bytes()))
    return found
