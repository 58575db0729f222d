"""What ``make package`` built keeps its promises: it is small, and honest about the glibc that it needs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.packages.machine import ROOT
from tests.scripts import script

pytestmark = pytest.mark.timeout(1200)
build, payload = script("build"), script("payload")
FROZEN = ROOT / "dist" / payload.NAME


def test_size_and_start() -> None:
    size = build.size_mb(FROZEN)
    print(f"\n{size:.0f} MB of {build.SIZE_LIMIT_MB}; --version takes {build.start_s(FROZEN):.2f} s")
    assert size <= build.SIZE_LIMIT_MB


def test_both_packages_ask_for_the_glibc_that_the_program_needs(package: Path, rpm_package: Path) -> None:
    major, minor = payload.glibc(FROZEN)
    assert (major, minor) > (2, 17), "measured"
    asked = subprocess.run(["dpkg-deb", "-f", package, "Depends"], capture_output=True, text=True, check=True).stdout
    assert f"libc6 (>= {major}.{minor})" in asked
    asked = subprocess.run(["rpm", "-qp", "--requires", rpm_package], capture_output=True, text=True, check=True).stdout
    assert f"libc.so.6(GLIBC_{major}.{minor})(64bit)" in asked.split("\n")
