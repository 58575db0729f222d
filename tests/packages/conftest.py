"""The built packages, a centre, and machines to install on, for the tests of packages; root's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.test_enrolment import centre
from tests.packages.machine import ROOT, Machine
from tests.packages.previous import previous

__all__ = ["centre"]


def _built(pattern: str) -> Path:
    found = sorted((ROOT / "dist").glob(pattern))
    if len(found) != 1:
        pytest.fail(f"dist/ holds {len(found)} of {pattern}, one is needed: make package", pytrace=False)
    return found[0]


@pytest.fixture(scope="session")
def package() -> Path:
    """The .deb that ``make package`` built."""
    return _built("fieldwatch-agent_*.deb")


@pytest.fixture(scope="session")
def rpm_package() -> Path:
    """The .rpm that ``make package`` built."""
    return _built("fieldwatch-agent-*.rpm")


@pytest.fixture(scope="session")
def previous_package() -> Path:
    """The .deb of the previous version."""
    return previous()


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    """A bare Debian, booted."""
    made = Machine(tmp_path).boot()
    yield made
    print(made.run("journalctl -u fieldwatch-agent --no-pager -n 60", check=False).stdout)  # shown where a test fails
    made.power_off()
