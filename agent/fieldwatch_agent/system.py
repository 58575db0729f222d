"""What differs between Windows and POSIX and is no call of Python's: asked here, and set by tests that play Windows."""

from __future__ import annotations

import errno
import os
import re
from io import TextIOWrapper
from typing import TextIO

WINDOWS = os.name == "nt"
_RESERVED = re.compile(r"con|prn|aux|nul|com[0-9]|lpt[0-9]")


def folder_name(device: str) -> str:
    """Return the name that a device's folder can have: on Windows ``con`` and ``com1`` are no files, in any folder.

    No device's id has an underscore, so the name is nobody else's.
    """
    return f"{device}_" if WINDOWS and _RESERVED.fullmatch(device) else device


def reader_left(error: OSError) -> bool:
    """Tell whether who read our output has closed it, as ``head`` does; Windows says only that something is invalid."""
    closed = error.errno == errno.EINVAL and error.filename is None
    return isinstance(error, BrokenPipeError) or (WINDOWS and closed)


def speak_plainly(*streams: TextIO | None) -> None:
    """Let nothing that is printed end the program: to a file or a pipe it is UTF-8, which our own programs read; a
    terminal without a character shows its number.

    Windows would write in the code page of the country, and raise for a µ or an arrow that it lacks. A service has no
    streams at all.
    """
    for stream in streams:
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding=None if stream.isatty() else "utf-8", errors="backslashreplace")
