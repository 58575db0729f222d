"""A power cut, for programs that write through :mod:`fieldwatch_trainer.release.disk`: what may a disk hold after it?

:class:`Disk` stands between that module and the system: every call goes through to the real folder and is written
down. POSIX promises that a file's bytes outlive a cut after ``fsync`` of the file, and a name (created, renamed,
removed) after ``fsync`` of its folder; all else may be there or not, each by itself. :meth:`Disk.after` lays out such a
folder: with nothing but what was promised, with every name but no bytes, or with a draw from all that may be.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_trainer.release import disk


class PowerCut(BaseException):
    """No program catches it."""


@dataclass
class Node:
    """A file (``now`` and ``kept`` are bytes) or a folder (they are names with nodes): as written, as flushed."""

    now: Any
    kept: Any


@dataclass
class Disk:
    """The calls of one program on a folder. ``cut``: the call, counted from 0, before which the power goes."""

    base: Path
    cut: int | None = None
    calls: list[str] = field(default_factory=list)
    _open: dict[int, Node] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._root = _read(self.base)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)

    @contextmanager
    def recorded(self) -> Iterator[None]:
        """Within the block the release room writes through here; a cut ends it silently."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(disk, "os", self)
            try:
                yield
            except PowerCut:
                return

    def open(self, path: Path, flags: int, mode: int = 0o777) -> int:
        self._call("open", path)
        handle = os.open(path, flags, mode)
        node = self._find(path)
        if node is None:
            node = self._find(path.parent).now.setdefault(path.name, Node(b"", b""))
        if flags & os.O_TRUNC:
            node.now = b""
        self._open[handle] = node
        return handle

    def write(self, handle: int, data: memoryview) -> int:
        self._call("write")
        half = data[: (len(data) + 1) // 2]  # a short write is allowed, so it happens here
        self._open[handle].now += bytes(half)
        return os.write(handle, half)

    def fsync(self, handle: int) -> None:
        self._call("fsync")
        node = self._open[handle]
        node.kept = dict(node.now) if isinstance(node.now, dict) else node.now

    def close(self, handle: int) -> None:
        del self._open[handle]
        os.close(handle)

    def replace(self, old: Path, new: Path) -> None:
        self._call("replace", new)
        Path(old).replace(new)
        folder = self._find(new.parent).now
        folder[new.name] = folder.pop(old.name)

    def mkdir(self, path: Path, mode: int) -> None:
        self._call("mkdir", path)
        path.mkdir(mode)
        self._find(path.parent).now[path.name] = Node({}, {})

    def unlink(self, path: Path) -> None:
        self._call("unlink", path)
        path.unlink()
        del self._find(path.parent).now[path.name]

    def live(self) -> dict[str, bytes]:
        """Every file as the program sees it; equal to the real folder, or somebody wrote past this record."""
        return dict(_files(self._root, lambda node: node.now))

    def after(self, target: Path, how: str) -> Path:
        """Lay out in ``target`` what a cut now may leave: ``promised``, ``names`` or a number to draw by."""
        draw = random.Random(how)
        for name, data in _files(self._root, lambda node: _choice(node, how, draw)):
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return target

    def _call(self, what: str, path: Path | None = None) -> None:
        if len(self.calls) == self.cut:
            raise PowerCut
        self.calls.append(f"{what} {path.name if path else ''}".strip())

    def _find(self, path: Path) -> Any:
        node = self._root
        for part in path.relative_to(self.base).parts:
            if part not in node.now:
                return None
            node = node.now[part]
        return node


def _choice(node: Node, how: str, draw: random.Random) -> Any:
    if how == "promised":
        return node.kept
    if isinstance(node.now, bytes):
        return node.kept if how == "names" else draw.choice([node.kept, node.now])
    if how == "names":
        return node.now
    names: dict[str, Node] = {}
    for name in sorted(node.now.keys() | node.kept.keys()):
        found = draw.choice([node.now, node.kept]).get(name)
        if found is not None:
            names[name] = found
    return names


def _files(node: Node, side: Callable[[Node], Any], name: str = "") -> Iterator[tuple[str, bytes]]:
    value = side(node)
    if isinstance(value, bytes):
        yield name, value
        return
    for part, child in value.items():
        yield from _files(child, side, f"{name}/{part}".lstrip("/"))


def _read(path: Path) -> Node:
    if path.is_file():
        return Node(path.read_bytes(), path.read_bytes())
    names = {child.name: _read(child) for child in sorted(path.iterdir()) if child.name != ".publisher"}
    return Node(names, dict(names))
