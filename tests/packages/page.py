"""``docs/install.md`` taken apart, so that each of its commands is run and none is forgotten.

A *step* is a line of a console block, with the text that the page wants typed into the editor that it opens, or a span
of the prose in code type that has a blank in it: a command, its end, or what a program says. :class:`Walk` gives out
the steps of some headings, each of which must be asked for; what is asked for and is not on the page fails too.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from subprocess import CompletedProcess

from tests.markdown import in_code
from tests.packages.machine import ROOT, Machine

PAGE = ROOT / "docs" / "install.md"


@dataclass(frozen=True)
class Step:
    """``typed``: what goes into the editor that the command opens."""

    text: str
    typed: str = ""


def steps(page: Path = PAGE) -> dict[str, list[Step]]:
    """Return the steps by heading, in order, what stands twice below one heading once; the text before the first
    heading has the empty one.
    """
    found: dict[str, list[Step]] = {}
    for part in re.split(r"^## ", page.read_text(encoding="utf-8"), flags=re.M):
        heading, _, body = part.partition("\n")
        mine = found.setdefault("" if heading.startswith("# ") else heading, [])
        for kind, text in in_code(body):
            assert kind in {None, "console"}, f"who would run a block of {kind or 'no language'}?"
            for step in _lines(text) if kind else [Step(text)]:
                if " " in step.text and step not in mine:
                    mine.append(step)
    return found


def _lines(block: str) -> list[Step]:
    """Read a block: ``# command   # text to type``, more such text below it in lines that begin with blanks."""
    made: list[tuple[str, list[str]]] = []
    for line in block.splitlines():
        command, mark, comment = re.fullmatch(r"(.*?)(?: {2,}(#) ?(.*))?", line).groups()  # type: ignore[union-attr]
        if command.strip():
            assert command.startswith("# "), f"a line that is no command of root: {line}"
            made.append((command.removeprefix("# "), []))
        if mark:
            made[-1][1].append(comment)
    return [Step(command, "\n".join(typed)) for command, typed in made]


class Walk:
    """The steps below some headings, run on a machine. ``here``: what stands for a text of the page."""

    EDITOR = "/usr/local/bin/types"

    def __init__(self, headings: Sequence[str], machine: Machine, here: Mapping[str, str]) -> None:
        page = steps()
        self.left = [step for heading in headings for step in page[heading]]
        self.machine = machine
        self._here = here

    def step(self, beginning: str) -> str:
        """Return the first step left that begins so, as it is to be run here."""
        return self._translated(self._take(beginning).text)

    def run(
        self, beginning: str, *, before: str = "", more: str = "", stdin: str = "", check: bool = True
    ) -> CompletedProcess[str]:
        """Run it in root's home, with words that the page leaves out."""
        return self.machine.run(self._line(before, self.step(beginning), more), stdin=stdin, check=check)

    def talk(self, beginning: str, answers: Sequence[tuple[str, str]], *, more: str = "") -> str:
        """Run it at a terminal, where somebody answers."""
        return self.machine.talk(self._line("", self.step(beginning), more), answers)

    def edit(self, beginning: str) -> str:
        """Run it at a terminal, and type into its editor what the page has beside it; return that."""
        taken = self._take(beginning)
        typed = self._translated(taken.typed)
        assert typed, f"the page does not say what to type into the editor of: {taken.text}"
        editor = self.machine.root / self.EDITOR.lstrip("/")
        editor.write_text(f"#!/bin/sh\nprintf '%s\\n' {shlex.quote(typed)} > \"$1\"\n")
        editor.chmod(0o755)
        self.machine.talk(self._line(f"SYSTEMD_EDITOR={self.EDITOR}", self._translated(taken.text), ""))
        editor.unlink()
        return typed

    def says(self, beginning: str, told: str) -> None:
        """Find what the page quotes in what a program has told."""
        quoted = self.step(beginning).rstrip(" …")
        assert quoted in told, f"the page quotes {quoted!r}, told was:\n{told}"

    def _take(self, beginning: str) -> Step:
        found = next((step for step in self.left if step.text.startswith(beginning)), None)
        assert found is not None, f"{beginning!r} is not on the page, or was run; left are {self.left}"
        self.left.remove(found)
        return found

    def _translated(self, text: str) -> str:
        for written, ours in self._here.items():
            text = text.replace(written, ours)
        return text

    @staticmethod
    def _line(*words: str) -> str:
        return f"cd /root; {' '.join(word for word in words if word)}"
