"""``check`` of paths as a Windows service sees them: what works for a person there and not for the service.

| path | why the service cannot use it |
|---|---|
| on a network drive, ``Z:\\logs`` | drive letters belong to the person who connected them |
| of 260 characters or more | Windows refuses it as missing, unless its long paths are switched on |
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Iterator
from pathlib import PureWindowsPath

from fieldwatch_agent.config import Config
from fieldwatch_agent.findings import Finding

LONGEST = 259
NAMES = 90
"""Characters of the longest name that the agent makes below its state folder: a bundle, while it is written."""
_REMOTE = 4


def check_paths(config: Config) -> Iterator[Finding]:
    """Yield what is wrong with the paths of a configuration."""
    given = {
        "[log] path": (config.log.path, 0),
        "[state] dir": (str(config.state.dir), NAMES),
        "[service] log_file": (str(config.service.log_file or ""), 2),
    }
    for where, (text, more) in given.items():
        path = PureWindowsPath(text)
        if path.drive.endswith(":") and is_remote(path.drive + "\\"):
            remedy = r"write the share's own name, as in '\\server\share\logs\*.csv'"
            yield Finding("error", where, f"{text} is on a network drive, which no service sees", remedy)
        if len(text) + more > LONGEST:
            what = f"{text} has {len(text)} characters, Windows takes {LONGEST - more} here"
            yield Finding("warning", where, what, "choose a shorter path, or switch on Windows' long paths")


def is_remote(drive: str) -> bool:
    """Tell whether a drive such as ``Z:\\`` is a share that somebody has connected."""
    if sys.platform == "win32":
        return bool(ctypes.windll.kernel32.GetDriveTypeW(drive) == _REMOTE)
    return False
