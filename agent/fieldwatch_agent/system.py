"""What differs between Windows and POSIX and is no call of Python's: asked here, and set by tests that play Windows."""

from __future__ import annotations

import ctypes
import errno
import os
import re
import sys
import time
from io import TextIOWrapper
from typing import TextIO

WINDOWS = os.name == "nt"
CONSOLE = "oem" if sys.platform == "win32" else "utf-8"
"""How the system's own programs print: Windows' in the code page of the country's consoles."""
_RESERVED = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]")


def folder_name(device: str) -> str:
    """Return the name that a device's folder can have: on Windows ``con`` and ``com1`` are no files, in any folder.

    No device's id has an underscore, so the name is nobody else's.
    """
    return f"{device}_" if WINDOWS and _RESERVED.fullmatch(device) else device


if sys.platform == "win32":
    _unbiased = ctypes.WinDLL("kernel32").QueryUnbiasedInterruptTime

    def awake() -> float:
        """Return the seconds that this computer has been awake for: a clock that stands still while it sleeps."""
        ticks = ctypes.c_ulonglong()
        _unbiased(ctypes.byref(ticks))
        return ticks.value / 1e7

    def _since_boot() -> float:
        return time.monotonic()

else:

    def awake() -> float:
        """Return the seconds that this computer has been awake for: a clock that stands still while it sleeps."""
        return time.monotonic()

    def _since_boot() -> float:
        return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def slept() -> float:
    """Return the seconds that this computer has slept for since it was started; only differences mean anything."""
    return _since_boot() - awake()


def reader_left(error: OSError) -> bool:
    """Tell whether who read our output has closed it, as ``head`` does; Windows says only that something is invalid."""
    closed = error.errno == errno.EINVAL and error.filename is None
    return isinstance(error, BrokenPipeError) or (WINDOWS and closed)


def printed(output: bytes) -> str:
    """Return what a program of the system has printed."""
    return output.decode(CONSOLE, errors="replace").strip()


def decode(content: bytes) -> str:
    """Return the text of a file that a person has made; raises :class:`UnicodeDecodeError`.

    It is UTF-8, but Notepad may put a byte order mark before it, and what PowerShell redirects is UTF-16.
    """
    return content.decode("utf-16" if content.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig")


def speak_plainly(*streams: TextIO | None) -> None:
    """Let nothing that is printed end the program: to a file or a pipe it is UTF-8, which our own programs read; a
    terminal without a character shows its number.

    Windows would write in the code page of the country, and raise for a µ or an arrow that it lacks. A service has no
    streams at all.
    """
    for stream in streams:
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")
