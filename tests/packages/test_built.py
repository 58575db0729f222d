"""What ``make package`` built keeps its promises: it is small, and honest about the glibc that it needs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.packages.machine import ROOT
from tests.scripts import script

pytestmark = pytest.mark.timeout(1200)
build, payload, sbom = script("build"), script("payload"), script("sbom")
FROZEN = ROOT / "dist" / payload.NAME


def test_size_and_start() -> None:
    size = build.size_mb(FROZEN)
    print(f"\n{size:.0f} MB of {build.SIZE_LIMIT_MB}; --version takes {build.start_s(FROZEN):.2f} s")
    assert size <= build.SIZE_LIMIT_MB


def test_the_package_says_what_it_consists_of(package: Path, tmp_path: Path) -> None:
    subprocess.run(["dpkg-deb", "-x", package, tmp_path], check=True)
    text = (tmp_path / f"usr/share/doc/{payload.NAME}" / payload.SBOM).read_text(encoding="utf-8")
    assert sbom.differences(text, tmp_path / "opt" / payload.NAME) == []
    for name in ("cpython", "numpy", "onnxruntime", "openblas", "openssl", "sqlite3", "zlib"):
        assert f'"name": "{name}"' in text, name
    assert (tmp_path / f"usr/share/doc/{payload.NAME}" / payload.LICENCES).stat().st_size > 100_000


def test_both_packages_ask_for_the_glibc_that_the_program_needs(package: Path, rpm_package: Path) -> None:
    major, minor = payload.glibc(FROZEN)
    assert (major, minor) > (2, 17), "measured"
    asked = subprocess.run(["dpkg-deb", "-f", package, "Depends"], capture_output=True, text=True, check=True).stdout
    assert f"libc6 (>= {major}.{minor})" in asked
    asked = subprocess.run(["rpm", "-qp", "--requires", rpm_package], capture_output=True, text=True, check=True).stdout
    assert f"libc.so.6(GLIBC_{major}.{minor})(64bit)" in asked.split("\n")
