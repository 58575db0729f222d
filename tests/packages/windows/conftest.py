"""The package, a newer one, a PC to install them on and a centre, for the tests of the Windows package."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packages.windows import pc as pcs
from tests.scripts import script

windows, msi, payload = script("windows"), script("msi"), script("payload")
ROOT: Path = payload.ROOT
FROZEN = ROOT / "dist" / "windows" / payload.NAME
NEWER: str = payload.newer()
"""The version of the same program, packed once more, for an upgrade."""


def number(package: Path) -> str:
    """The version that a package's name says."""
    found = re.search(r"-(\d[\d.]*)-x64", package.name)
    assert found is not None
    return found[1]


@pytest.fixture(scope="session")
def package() -> Path:
    """The MSI that ``make msi`` built; on Windows, what was built on Linux of the folder that was frozen on Windows."""
    if sys.platform != "win32":
        windows.require()
    found = [path for path in (ROOT / "dist").glob("fieldwatch-agent-*-x64.msi") if number(path) != NEWER]
    if len(found) != 1:
        pytest.fail(f"dist/ holds {len(found)} MSI packages, one is needed: make msi", pytrace=False)
    return found[0]


@pytest.fixture(scope="session")
def newer(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same program as a newer version."""
    if sys.platform == "win32":  # there is no wixl
        return ROOT / "dist" / f"fieldwatch-agent-{NEWER}-x64.msi"
    assert FROZEN.is_dir(), "make msi"
    made: Path = msi.build(FROZEN, tmp_path_factory.mktemp("newer"), NEWER)
    return made


@pytest.fixture(scope="session")
def furnished(package: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path] | None:
    return None if sys.platform == "win32" else pcs.furnished(tmp_path_factory.mktemp("wine") / "furnished")


@pytest.fixture
def pc(furnished: tuple[Path, Path] | None, package: Path, tmp_path: Path) -> Iterator[pcs.Pc]:
    """A PC without an agent."""
    if furnished is None:
        here = pcs.RealPc()
        there = [str(folder) for folder in (here.program, here.data, here.c / "data") if folder.exists()]
        assert not there, f"{', '.join(there)}: these tests are for a PC that may be thrown away; they remove all of it"
        yield here
        here.sweep([NEWER, number(package)])
        return
    with pcs.switched_on(tmp_path / "pc", *furnished) as made:
        yield made
