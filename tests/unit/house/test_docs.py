"""The documents lead somewhere: links, files and every command line they show."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from functools import cache

import pytest

from tests.conftest import ROOT

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *(ROOT / "docs").glob("*.md")])
ROOMS = "agent|bench|cloud|config|contract|demo|docs|packaging|tests|trainer"
MADE = {"contract/schemas/released/"}
"""Named in the documents, there only after a release."""
MODULES = {
    "fieldwatch-agent": "agent", "fieldwatch-trainer": "trainer", "fieldwatch-release": "trainer.release",
    "fieldwatch-cloud": "cloud", "fieldwatch-demo": "demo",
}  # fmt: skip


def command_lines() -> list[str]:
    """Every command of ours in a shell block of the documents, without its comment."""
    found = set()
    for document in DOCUMENTS:
        for block in re.findall(r"```sh\n(.*?)```", document.read_text(encoding="utf-8"), re.S):
            for line in re.sub(r"\s+#.*", "", block, flags=re.M).splitlines():
                for part in re.split(r"&&|&$|>", line):
                    if re.match(r"\s*(\S*/)?fieldwatch-\w+ ", part):
                        found.add(part.strip())
    return sorted(found)


@cache
def help_of(module: str, *command: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", module, *command, "--help"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_files_are_there(document):
    text = document.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    named = set(re.findall(rf"`((?:{ROOMS})/[\w./-]+)`", text)) - MADE
    missing = [link for link in links if not (document.parent / link).exists()]
    missing += [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_documents_show_commands_of_every_program():
    assert {line.split()[0].rpartition("/")[2] for line in command_lines()} == set(MODULES)


@pytest.mark.parametrize("line", command_lines())
def test_commands_have_the_options_that_are_shown(line):
    program, *words = shlex.split(line)
    module = MODULES[program.rpartition("/")[2]]
    command: list[str] = []
    for word in words:
        if not re.fullmatch(r"[a-z][a-z-]*", word) or len(command) == 2:
            break
        if re.search(rf"^\s+{re.escape(word)}\b", help_of(module, *command), re.M):
            command.append(word)
        else:
            break
    text = help_of(module, *command)
    for option in (word for word in words if word.startswith("--")):
        assert re.search(rf"(?<![\w-]){re.escape(option)}(?![\w-])", text), f"{option} is not in the help of {command}"


def test_the_screenshot_stays_small():
    assert (ROOT / "docs" / "alert.png").stat().st_size < 200_000
