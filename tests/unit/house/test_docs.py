"""The documents lead somewhere: links, files and every command line that they or the pages show."""

from __future__ import annotations

import argparse
import re
import shlex
from html import unescape
from importlib import import_module

import pytest

from tests.conftest import ROOT
from tests.markdown import in_code

DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md")])
ROOMS = "agent|bench|cloud|config|contract|demo|docs|packaging|tests|trainer"
MADE = {"contract/fieldwatch_contract/schemas/released/"}
"""Named in the documents, there only after a release."""
TEMPLATES = sorted((ROOT / "cloud" / "fieldwatch_cloud" / "web" / "templates").glob("*.html"))
MODULES = {
    "fieldwatch-agent": "fieldwatch_agent", "fieldwatch-trainer": "fieldwatch_trainer",
    "fieldwatch-release": "fieldwatch_trainer.release", "fieldwatch-cloud": "fieldwatch_cloud",
    "fieldwatch-demo": "fieldwatch_demo",
}  # fmt: skip


COMMAND = re.compile(r"(?:\S*/)?fieldwatch-[a-z]+ .+")


def command_lines() -> list[str]:
    """Every command of ours in the documents, in shell blocks (without its comment) and in the text, and in pages."""
    shown: list[str] = []
    for document in DOCUMENTS:
        for language, text in in_code(document.read_text(encoding="utf-8")):
            if language == "sh":
                for line in re.sub(r"\s+#.*", "", text, flags=re.M).splitlines():
                    shown += re.split(r"&&|&$|>", re.sub(r"^([A-Z_]+=\S+ )+", "", line))
            elif language == "console":
                lines = [line.removeprefix("# ") for line in text.splitlines() if line.startswith("# ")]
                shown += [re.split(r" {2,}#| < ", re.sub(r"^([a-z_]+=\S+ )+", "", line))[0] for line in lines]
            elif language is None:
                shown.append(text.partition(" > ")[0])
    for template in TEMPLATES:
        shown += map(unescape, re.findall(r"<code>([^<]+)</code>", template.read_text(encoding="utf-8")))
    return sorted({line.strip() for line in shown if COMMAND.fullmatch(line.strip())})


def lenient(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser, content without what must be given: text that speaks of a command leaves out what it is not about."""
    for group in parser._mutually_exclusive_groups:
        group.required = False
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for command in action.choices.values():
                lenient(command)
        else:
            action.required = False
    return parser


def parser_of(program: str, words: list[str]) -> argparse.ArgumentParser:
    """The program's own parser; the trainer makes the one of ``check`` only where it is wanted."""
    make = import_module(f"{MODULES[program]}.__main__")._parser
    return lenient(make(words[0]) if program == "fieldwatch-trainer" else make())


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_and_named_files_are_there(document):
    text = document.read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    named = set(re.findall(rf"`((?:{ROOMS})/[\w./-]+)`", text)) - MADE
    missing = [link for link in links if not (document.parent / link).exists()]
    missing += [name for name in named if not (ROOT / name).exists()]
    assert not missing


def test_every_test_that_a_document_names_is_there():
    text = "".join(path.read_text(encoding="utf-8") for path in DOCUMENTS)
    named = set(re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", text))
    assert len(named) > 20, "docs/versioning.md names them"
    missing = [
        f"{path}::{name}" for path, name in named
        if not (ROOT / path).exists() or f"def {name}(" not in (ROOT / path).read_text(encoding="utf-8")
    ]  # fmt: skip
    assert not missing


def test_each_file_of_an_earlier_version_has_a_test_that_reads_it():
    """``tests/data`` keeps what earlier versions wrote; the document's tests are the ones that open it."""
    text = (ROOT / "docs" / "versioning.md").read_text(encoding="utf-8")
    readers = {ROOT / path for path in re.findall(r"`(tests/[\w/]+\.py)::", text)}
    code = "".join(path.read_text(encoding="utf-8") for path in readers)
    kept = [path.name for path in (ROOT / "tests" / "data").iterdir() if re.search(r"-v\d|-[0-9a-f]{7}$", path.stem)]
    assert len(kept) >= 4
    assert [name for name in kept if name not in code] == []


def test_documents_show_commands_of_every_program():
    assert {line.split()[0].rpartition("/")[2] for line in command_lines()} == set(MODULES)


@pytest.mark.parametrize("line", command_lines())
def test_the_programs_understand_the_commands_that_are_shown(line, monkeypatch):
    def refuse(parser: argparse.ArgumentParser, message: str) -> None:
        raise AssertionError(f"{parser.prog}: {message}")

    monkeypatch.setattr(argparse.ArgumentParser, "error", refuse)
    program, *words = shlex.split(line)
    program = program.rpartition("/")[2]
    parser_of(program, words).parse_args(words)


def test_pages_show_commands():
    assert "fieldwatch-agent check --config agent.toml" in command_lines()


def test_pictures_stay_small_and_are_used():
    pictures = list((ROOT / "docs").glob("*.png"))
    assert pictures
    sizes = [one.stat().st_size for one in pictures]
    assert max(sizes) < 150_000
    assert sum(sizes) < 1_000_000
    text = "".join(document.read_text(encoding="utf-8") for document in DOCUMENTS)
    assert [one.name for one in pictures if one.name not in text] == []
