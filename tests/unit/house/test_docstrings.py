"""Examples in docstrings are run: one that no longer holds misleads."""

from __future__ import annotations

import doctest
import importlib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
ROOMS = ("contract", "agent", "trainer", "cloud", "demo")
MODULES = [
    ".".join(path.relative_to(ROOT / room).with_suffix("").parts)
    for room in ROOMS
    for path in sorted((ROOT / room).rglob("*.py"))
    if ">>> " in path.read_text(encoding="utf-8")
]


@pytest.mark.parametrize("name", MODULES)
def test_examples_hold(name: str) -> None:
    module = importlib.import_module(name)
    outcome = doctest.testmod(module, extraglobs={"np": importlib.import_module("numpy")})
    assert outcome.attempted > 0
    assert outcome.failed == 0
