"""``make lock``: pins what pyproject.toml asks for, with hashes and without the address of an index.

One file for each thing that is installed: ``agent`` (what the frozen agent consists of), ``freeze`` (and what freezes
it), ``cloud`` (its container), ``demo``, ``dev``, and ``lock``, the program that pins. A version that is pinned stays
as long as pyproject.toml allows it; all files pin the same versions, so that each can be installed on top of another.

But for ``lowest``: it pins the lowest versions that pyproject.toml claims, and the tools for tests as ``dev`` does, so
that ``make test-lowest`` can show that the claim holds.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COMMON = (
    "--quiet", "--universal", "--python-version", "3.11", "--generate-hashes", "--no-emit-index-url", "--no-header",
    "--no-annotate", "--no-strip-extras",
)  # fmt: skip
DEV = ("--constraint", "requirements/dev.txt")


def pin(name: str, *what: str) -> None:
    """Write ``requirements/<name>.txt``."""
    command = [sys.executable, "-m", "uv", "pip", "compile", *COMMON, *what, "-o", f"requirements/{name}.txt"]
    print("pin", name, flush=True)
    subprocess.run(command, cwd=ROOT, check=True)
    lock = ROOT / "requirements" / f"{name}.txt"
    lock.write_text(with_plain_names(lock.read_text(encoding="utf-8")), encoding="utf-8")


def with_plain_names(text: str) -> str:
    """Return a lock in which ``name[extra]==1`` also stands as ``name==1``.

    pip meets a package under either name, in an order of its own, and with hashes it wants the one that it meets first.
    """
    blocks = re.findall(r"^\S.*(?:\n .*)*\n", text, re.M)
    plain = [re.sub(r"^([\w.-]+)\[.*?\]==", r"\1==", block) for block in blocks]
    return "".join(block for pair in zip(blocks, plain, strict=True) for block in dict.fromkeys(pair))


def tools() -> str:
    """Return the pins in ``dev.txt`` of what the extras ``dev`` and ``freeze`` themselves ask for: the tools."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    asked = (re.split(r"[^\w.-]", line, maxsplit=1)[0].lower() for line in (*extras["dev"], *extras["freeze"]))
    names = set(asked) - {"fieldwatch"}
    locked = (ROOT / "requirements" / "dev.txt").read_text(encoding="utf-8")
    pins = re.findall(r"^([\w.-]+)(==\S+(?: ;[^\\\n]*)?)", locked, re.M)
    return "".join(f"{name}{pin}\n" for name, pin in pins if name in names)


if __name__ == "__main__":
    pin("dev", "pyproject.toml", "--extra", "dev")
    pin("demo", "pyproject.toml", "--extra", "demo", "--extra", "checkout", *DEV)
    pin("agent", "pyproject.toml", *DEV)
    pin("freeze", "pyproject.toml", "--extra", "freeze", "--extra", "checkout", *DEV)
    pin("cloud", "pyproject.toml", "--extra", "cloud", *DEV)
    pin("lock", "requirements/lock.in", *DEV)
    with tempfile.TemporaryDirectory() as folder:
        constraint = Path(folder) / "tools.txt"
        constraint.write_text(tools(), encoding="utf-8")
        lowest = ("--resolution", "lowest-direct", "--constraint", str(constraint))
        pin("lowest", "pyproject.toml", "--extra", "dev", *lowest)
