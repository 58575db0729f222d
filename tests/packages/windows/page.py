"""What ``docs/install-windows.md`` shows, to be held against a PC: its commands, and what stays after a removal.

Each line of its PowerShell blocks, and each command within its text, is of one of the kinds below; another fails the
test, so that nobody writes down what nobody has tried.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from fnmatch import fnmatchcase

from tests.conftest import ROOT
from tests.markdown import in_code

PAGE = ROOT / "docs" / "install-windows.md"
RUN = ("msiexec /i ", "fieldwatch-agent setup ", "fieldwatch-agent service ", "fieldwatch-agent run ", "$env:Path +=")
"""How the lines of blocks begin that ``test_page.py`` runs, one after the other, with names of the test."""
RUN_TOO = (
    "fieldwatch-cloud enroll press-0001 --type press", "fieldwatch-agent service status",
    "fieldwatch-agent service stop --all", "fieldwatch-agent service start --all", "fieldwatch-agent service uninstall",
    "msiexec /i", "msiexec /x",
)  # fmt: skip
"""Commands within the text that it runs too."""
NOT_RUN = {
    "py -3.11 -m venv": "Wine has no Python of python.org's, and its launcher comes with that alone",
    "pip install": "it would fetch from an index; that the wheel installs and works is tested on Linux",
    "icacls ": "Wine knows no rights",
    "Remove-Item ": "Wine has no PowerShell",
    "setx /M ": "the proxy is that of the PC's owner",
    "fieldwatch-cloud enroll --from": "a token for many devices: tests/e2e/test_enrolment.py",
    "fieldwatch-cloud enrolment revoke": "at the centre: tests/e2e/test_enrolment.py",
    "python packaging/": "the workflow for Windows runs them",
    "make ": "these tests",
}
"""How commands begin that it does not run, and why not."""
PROGRAMS = "msiexec|fieldwatch-[a-z]+|py|python|pip|icacls|setx|Remove-Item|make|sc|net|reg|taskkill|powershell"


def blocks() -> list[list[str]]:
    """The page's PowerShell blocks, each with its lines."""
    return [text.splitlines() for kind, text in in_code(PAGE.read_text(encoding="utf-8")) if kind is not None]


def within() -> list[str]:
    """The commands within the text: a program of :data:`PROGRAMS` and at least one word more."""
    spans = [text for kind, text in in_code(PAGE.read_text(encoding="utf-8")) if kind is None]
    return [span for span in spans if re.match(rf"(?:{PROGRAMS})(?:\.exe)? ", span)]


def untried(lines: list[list[str]], spans: list[str]) -> list[str]:
    """Return the commands that nobody has thought of."""
    known = tuple(NOT_RUN)
    found = [line for block in lines for line in block if not line.startswith((*RUN, *known))]
    return found + [span for span in spans if span not in RUN_TOO and not span.startswith(known)]


def staying() -> list[list[str]]:
    """The rows of the table of what stays, each with its patterns, from the drive's root."""
    text = PAGE.read_text(encoding="utf-8")
    table = re.search(r"^\| stays after `msiexec /x`.*\n\|[-|]+\n((?:\|.*\n)+)", text, re.M)
    assert table is not None
    rows = [re.findall(r"`([^`]+)`", line.split("|")[1]) for line in table[1].splitlines()]
    return [[each.replace("\\", "/").replace("%ProgramData%", "ProgramData") for each in row] for row in rows]


def unnamed(files: Iterable[str]) -> list[str]:
    """Return the files, told from the drive's root, that no row names."""
    patterns = [pattern for row in staying() for pattern in row]
    return sorted(each for each in files if not any(fnmatchcase(each, pattern) for pattern in patterns))


def gone(files: Iterable[str]) -> list[list[str]]:
    """Return the rows of which no file is there."""
    return [row for row in staying() if not any(fnmatchcase(each, pattern) for each in files for pattern in row)]
