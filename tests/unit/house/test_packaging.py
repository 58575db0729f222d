"""The service unit is one that systemd accepts and that leaves little open; the build's judgements are right."""

from __future__ import annotations

import configparser
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.scripts import script

UNIT = ROOT / "packaging" / "fieldwatch-agent.service"
build, payload = script("build"), script("payload")

systemd = pytest.mark.systemd


@systemd
def test_systemd_accepts_the_unit(tmp_path):
    """With the program in its place; then nothing may be left to complain about but the man page."""
    program = tmp_path / "fieldwatch-agent"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / "fieldwatch-agent.service"
    unit.write_text(UNIT.read_text().replace("/opt/fieldwatch-agent/fieldwatch-agent", str(program)))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    unit.write_text(unit.read_text().replace("PrivateTmp=yes", "PrivateTmpp=yes"))
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, check=False
    )
    assert "PrivateTmpp" in done.stderr


@systemd
def test_the_unit_is_shut_tight():
    """Exposure of at most 2.0 of 10, as systemd itself counts."""
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", str(UNIT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


def test_the_unit_silences_telemetry_and_starts_a_command_that_exists():
    unit = configparser.ConfigParser(strict=False, interpolation=None)
    unit.optionxform = str
    unit.read(UNIT)
    assert "ORT_DISABLE_TELEMETRY=1" in UNIT.read_text()
    assert "ProcSubset" not in UNIT.read_text()  # it hides /proc/cpuinfo and makes onnxruntime slow
    _, *arguments = unit["Service"]["ExecStart"].split()
    arguments[arguments.index("--config") + 1] = "/nonexistent/agent.toml"
    done = subprocess.run(
        [sys.executable, "-m", "fieldwatch_agent", *arguments], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 2 and "/nonexistent/agent.toml" in done.stderr
    assert "Traceback" not in done.stderr


def test_size_counts_files_once(tmp_path):
    (tmp_path / "a").write_bytes(bytes(1_500_000))
    (tmp_path / "b").symlink_to(tmp_path / "a")
    assert build.size_mb(tmp_path) == 1.5


def test_the_glibc_floor_is_compared_as_numbers():
    assert payload.glibc_floor("GLIBC_2.4 (GLIBC_2.34) GLIBC_2.9 GLIBC_PRIVATE GLIBCXX_3.4.30") == (2, 34)
    assert payload.glibc_floor("") == (0, 0)


def test_a_frozen_agent_that_fails_its_self_test_is_not_delivered(tmp_path):
    folder = tmp_path / build.NAME
    folder.mkdir()
    agent = folder / build.NAME
    shutil.copy(shutil.which("false") or "/bin/false", agent)
    with pytest.raises(build.BuildError, match="self-test of the frozen agent failed"):
        build.prove(folder)
    shutil.copy(shutil.which("true") or "/bin/true", agent)
    assert build.prove(folder) in {
        "a root folder with glibc, zlib and nothing else",
        "an empty environment with a PATH that leads nowhere",
    }


def test_packaging_is_a_folder_not_a_package():
    """An __init__.py there would shadow the library of the same name, which onnxruntime needs."""
    assert not (ROOT / "packaging" / "__init__.py").exists()
    import packaging.version

    assert Path(packaging.version.__file__).is_relative_to(sys.prefix)
