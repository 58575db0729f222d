"""The service unit is one that systemd accepts and that leaves little open; the build's judgements are right."""

from __future__ import annotations

import configparser
import shutil
import struct
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.scripts import script

UNIT = ROOT / "packaging" / "fieldwatch-agent.service"
build, elf, payload = script("build"), script("elf"), script("payload")

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


def library(path: Path, tag: int, search: str) -> Path:
    """Write the least that is a library with a search path: two segments, strings, the dynamic table."""
    strings = b"\0libz.so.1\0" + search.encode() + b"\0"
    entries = [(1, 1), (tag, 11), (5, 0x400000 + 176), (10, len(strings)), (0, 0)]
    table = b"".join(struct.pack("<qQ", *entry) for entry in entries)
    at = 176 + len(strings)
    size = at + len(table)
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 3, 62, 1, 0, 64, 0, 0, 64, 56, 2, 64, 0, 0)
    load = struct.pack("<IIQQQQQQ", 1, 4, 0, 0x400000, 0x400000, size, size, 4096)
    dynamic = struct.pack("<IIQQQQQQ", 2, 4, at, 0x400000 + at, 0x400000 + at, len(table), len(table), 8)
    path.write_bytes(header + load + dynamic + strings + table)
    return path


@pytest.mark.objdump
@pytest.mark.parametrize("tag", [15, 29], ids=["RPATH", "RUNPATH"])
@pytest.mark.parametrize("search", ["/home/kim/python/lib", "$ORIGIN:/home/kim/python/lib"])
def test_a_library_does_not_look_where_the_interpreter_lay(tmp_path, tag, search):
    """As ``readelf``, which comes with objdump, reads it before and after; what it needs stays."""
    path = library(tmp_path / "lib.so", tag, search)

    def told():
        return subprocess.run(["readelf", "-dW", path], capture_output=True, text=True, check=True).stdout

    assert search in told() and "libz.so.1" in told()
    assert elf.forget_search_path(path) == search
    assert "PATH" not in told() and "libz.so.1" in told()
    assert elf.forget_search_path(path) is None, "nothing is left to take"
    assert path.stat().st_size == library(tmp_path / "again.so", tag, search).stat().st_size


def test_a_search_path_within_the_folder_stays(tmp_path):
    path = library(tmp_path / "lib.so", 29, "$ORIGIN/../numpy.libs:$ORIGIN")
    before = path.read_bytes()
    assert elf.forget_search_path(path) is None and path.read_bytes() == before
    path.write_bytes(b"no library")
    with pytest.raises(ValueError, match=r"lib\.so: no 64-bit"):
        elf.forget_search_path(path)


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
