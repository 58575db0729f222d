"""Plays Windows on Linux: refuses, below one folder, what Windows refuses, by the open handles that really exist.

Who has a file open is read from ``/proc/self/fd``, so handles of SQLite and of other libraries count as well as ours.
Refused, with the error that Python raises there:

=============================================  ====================================================================
rename, delete                                 while any handle on the file does not share deletion: Python's ``open``
                                               and SQLite never do, only ``open_shared`` does
replace                                        while the target has any handle, or is a folder or read-only
rename of a folder                             while a file in it is open
rename onto a name that exists                 always
open                                           what somebody holds without sharing it (:meth:`Windows.held`); a folder
names                                          reserved (``con``, ``nul.txt``), ending in a dot or blank, with one of
                                               ``<>:"|?*`` or a control character; paths of 260 characters and more
symbolic links                                 always: a service's account may make none
=============================================  ====================================================================

Failures of a test rather than errors, because Windows would go on and do something else: a second name that differs in
case alone; a text file without an encoding (it would be that of the country); one of our modules that opens a file of
the instrument (``foreign``) without sharing it, so that the instrument's rotation would fail because of us.

A share can be taken away (:meth:`Windows.away`): what is asked of it fails with the errors of a network that is down.

Not seen: handles of other processes, byte-range locks (``durable.lock`` keeps ``flock``), rights (ACLs), a delete that
waits for the last handle, drive letters and UNC paths, SQLite's own opening of ``-wal`` and ``-shm`` files. Files are
told apart by inode, as Windows does by its file id.
"""

from __future__ import annotations

import builtins
import errno
import io
import os
import re
import sqlite3
import stat
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent import system
from fieldwatch_agent.log import shared_file

FOLDER = len(r"C:\ProgramData\Fieldwatch\state")
"""Characters that stand for the folder itself in the length of a path."""
LONGEST = 259
RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])[ ]*(\..*)?", re.IGNORECASE)
FORBIDDEN = re.compile(r'[<>:"|?*\x00-\x1f]')
HELD = "The process cannot access the file because it is being used by another process"

File = tuple[int, int]


class Windows:
    """What is refused below ``root`` while :meth:`begin` is in force."""

    def __init__(self, root: Path) -> None:
        self.root = str(root)
        self.foreign = ""
        """Pattern of file names that belong to the instrument."""
        self.refused: list[str] = []
        """What was refused: the act and the name."""
        self._away = Away("", OSError(), frozenset())
        self._sharing: dict[int, tuple[File, str]] = {}  # handle → the file, and what it lets others do
        self._open = builtins.open
        self._stat = os.stat

    def begin(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Refuse from now on, until the monkeypatch ends."""
        monkeypatch.setattr(system, "WINDOWS", True)
        for module in (builtins, io):
            monkeypatch.setattr(module, "open", self._opening(self._open))
        for name, check in (
            ("open", self._check_open), ("rename", self._check_rename), ("replace", self._check_replace),
            ("unlink", self._check_delete), ("remove", self._check_delete), ("rmdir", self._check_name),
            ("mkdir", self._check_name), ("symlink", self._check_link),
        ):  # fmt: skip
            monkeypatch.setattr(os, name, self._checked(getattr(os, name), check))
        for name in ("stat", "lstat", "listdir", "scandir"):
            monkeypatch.setattr(os, name, self._reaching(getattr(os, name), name.replace("lstat", "stat")))
        monkeypatch.setattr(sqlite3, "connect", self._connecting(sqlite3.connect))
        ours = shared_file.open_shared
        for module in [each for name, each in sys.modules.items() if name.startswith("fieldwatch_agent.")]:
            if getattr(module, "open_shared", None) is ours:
                monkeypatch.setattr(module, "open_shared", self._shared(ours))

    @contextmanager
    def held(self, path: Path, sharing: str = "") -> Iterator[None]:
        """Hold a file as another program does: a virus scanner, a backup; ``sharing``: of "r", "w" and "d"."""
        with self._open(path, "rb") as file:
            self._sharing[file.fileno()] = self._file(file.fileno()), sharing
            yield

    @contextmanager
    def away(self, share: Path, error: OSError, *acts: str) -> Iterator[None]:
        """Let what is asked of a folder fail: ``acts`` of "stat", "listdir", "scandir", "open" and "read"."""
        self._away = Away(str(share), error, frozenset(acts))
        yield
        self._away = Away("", OSError(), frozenset())

    def handles(self, path: Path | str) -> list[str]:
        """What each open handle on the file lets others do."""
        try:
            status = self._stat(path)
        except OSError:
            return []
        return [sharing for file, sharing in self._handles() if file == (status.st_dev, status.st_ino)]

    # ---- what is open ------------------------------------------------------------------------------------------

    def _file(self, handle: int) -> File:
        status = os.fstat(handle)
        return status.st_dev, status.st_ino

    def _handles(self) -> Iterator[tuple[File, str]]:
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208
            try:
                file = self._file(int(name))
            except OSError:
                continue
            known, sharing = self._sharing.get(int(name), (None, ""))
            yield file, sharing if known == file else "rw"

    # ---- what is refused -----------------------------------------------------------------------------------------

    def _refuse(self, act: str, path: str, code: int = errno.EACCES, text: str = HELD) -> OSError:
        self.refused.append(f"{act} {os.path.basename(path)}")  # noqa: PTH119
        return OSError(code, text, path)

    def _check_name(self, path: str, *_: Any) -> None:
        inside = os.path.relpath(path, self.root)
        if FOLDER + 1 + len(inside) > LONGEST:
            raise self._refuse("long", path, errno.ENOENT, "The system cannot find the path specified")
        for part in Path(inside).parts:
            if RESERVED.fullmatch(part) or FORBIDDEN.search(part) or (part.strip(".") and part[-1] in ". "):
                raise self._refuse("name", path, errno.EINVAL, "The filename, directory name, or volume label syntax")
        folder, name = os.path.split(path)
        if not os.path.lexists(path) and os.path.isdir(folder):  # noqa: PTH112
            same = [other for other in os.listdir(folder) if other.casefold() == name.casefold()]  # noqa: PTH208
            assert not same, f"{path}: on Windows this is {same[0]}"

    def _check_open(self, path: str, mode: Any = "r", *_: Any) -> None:
        self._check_name(path)
        if os.path.isdir(path):  # noqa: PTH112
            raise self._refuse("open", path, text="Permission denied")
        writes = mode & (os.O_WRONLY | os.O_RDWR) if isinstance(mode, int) else set(mode) & set("wax+")
        if any(("w" if writes else "r") not in sharing for sharing in self.handles(path)):
            raise self._refuse("open", path)

    def _check_rename(self, source: str, target: str, *_: Any) -> None:
        self._check_name(target)
        if os.path.lexists(target) and source.casefold() != target.casefold():
            raise self._refuse("rename", target, errno.EEXIST, "Cannot create a file when that file already exists")
        self._check_movable("rename", source)

    def _check_replace(self, source: str, target: str, *_: Any) -> None:
        self._check_name(target)
        self._check_movable("replace", source)
        if self.handles(target) or os.path.isdir(target) or self._read_only(target):  # noqa: PTH112
            raise self._refuse("replace", target)

    def _check_delete(self, path: str, *_: Any) -> None:
        self._check_movable("delete", path)
        if self._read_only(path):
            raise self._refuse("delete", path, text="Access is denied")

    def _check_movable(self, act: str, path: str) -> None:
        inside = [os.path.join(at, name) for at, _, names in os.walk(path) for name in names]  # noqa: PTH118
        if any("d" not in sharing for each in (path, *inside) for sharing in self.handles(each)):
            raise self._refuse(act, path)

    def _check_link(self, _: str, link: str, *__: Any) -> None:
        if self._ours(link):
            error = self._refuse("link", link, errno.EPERM, "A required privilege is not held by the client")
            error.winerror = 1314  # type: ignore[attr-defined]
            raise error

    def _read_only(self, path: str) -> bool:
        return os.path.lexists(path) and not self._stat(path, follow_symlinks=False).st_mode & stat.S_IWUSR

    # ---- standing in front of Python's own -----------------------------------------------------------------------

    def _ours(self, path: object) -> bool:
        return isinstance(path, str) and os.path.abspath(path).startswith(self.root + os.sep)  # noqa: PTH100

    def _checked(self, act: Callable[..., Any], check: Callable[..., None]) -> Callable[..., Any]:
        def checked(*arguments: Any, **more: Any) -> Any:
            plain = [os.fspath(each) if isinstance(each, os.PathLike) else each for each in arguments]
            if check == self._check_link or (self._ours(plain[0]) and more.get("dir_fd") is None):
                check(*plain)
            return act(*arguments, **more)

        return checked

    def _reaching(self, act: Callable[..., Any], name: str) -> Callable[..., Any]:
        def reaching(*arguments: Any, **more: Any) -> Any:
            self._away.check(name, arguments[0] if arguments else ".")
            return act(*arguments, **more)

        return reaching

    def _opening(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def opening(path: Any, mode: str = "r", *arguments: Any, **more: Any) -> Any:
            name = os.fspath(path) if isinstance(path, os.PathLike) else path
            if not self._ours(name) or more.get("opener") is not None:  # a temporary file, which nobody else knows
                return act(path, mode, *arguments, **more)
            self._away.check("open", name)
            self._check_open(name, mode)
            encoding = arguments[1] if len(arguments) > 1 else more.get("encoding")
            who = _caller()
            told = "b" in mode or encoding not in {None, "locale"} or not who.startswith("fieldwatch_")
            assert told, f"{who}: {name} is opened without an encoding"
            alien = self.foreign and fnmatch(os.path.basename(name), self.foreign)  # noqa: PTH119
            assert not alien or who == shared_file.__name__ or not who.startswith("fieldwatch_"), (
                f"{who}: {name} is opened without sharing: the instrument could not rotate it"
            )
            file = act(path, mode, *arguments, **more)
            self._sharing.pop(file.fileno(), None)
            return file

        return opening

    def _shared(self, act: Callable[[Path], Any]) -> Callable[[Path], Any]:
        def opening(path: Path) -> Any:
            file = act(path)
            if self._ours(str(path)):
                self._sharing[file.fileno()] = self._file(file.fileno()), "rwd"
            return Reached(file, lambda: self._away.check("read", str(path)))

        return opening

    def _connecting(self, act: Callable[..., Any]) -> Callable[..., Any]:
        def connecting(database: Any, *arguments: Any, **more: Any) -> Any:
            name = os.fspath(database) if isinstance(database, os.PathLike) else database
            if self._ours(name) and any(set("rw") - set(sharing) for sharing in self.handles(name)):
                self.refused.append(f"connect {os.path.basename(name)}")  # noqa: PTH119
                raise sqlite3.OperationalError("unable to open database file")
            return act(database, *arguments, **more)

        return connecting


class Away:
    """A share that cannot be reached: a folder, the error, and what fails with it."""

    def __init__(self, share: str, error: OSError, acts: frozenset[str]) -> None:
        self._share = share
        self._error = error
        self._acts = acts

    def check(self, act: str, path: Any) -> None:
        """Raise the error where it would occur."""
        if act in self._acts and not isinstance(path, int) and f"{os.fspath(path)}/".startswith(f"{self._share}/"):
            error = OSError(self._error.errno, self._error.strerror, os.fspath(path))
            if (number := getattr(self._error, "winerror", None)) is not None:
                error.winerror = number  # type: ignore[attr-defined]
            raise error


class Reached:
    """A file that was opened, reading from which may fail later."""

    def __init__(self, file: Any, check: Callable[[], None]) -> None:
        self._file = file
        self._check = check

    def read(self, size: int = -1) -> Any:
        """As the file's own."""
        self._check()
        return self._file.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()


def _caller() -> str:
    """The module that wants to open a file: the first one on the stack that is ours or the tests'."""
    frame = sys._getframe(2)
    while frame is not None:
        name = frame.f_globals.get("__name__", "")
        if name.startswith(("fieldwatch_", "tests.")):
            return str(name)
        frame = frame.f_back  # type: ignore[assignment]
    return ""
