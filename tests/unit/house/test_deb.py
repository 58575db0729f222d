"""The Debian package: what is in it, whose it is, and that the same folder gives the same bytes."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
from pathlib import Path

import pytest

from tests.conftest import ROOT

spec = importlib.util.spec_from_file_location("fieldwatch_deb", ROOT / "packaging" / "deb.py")
assert spec is not None and spec.loader is not None
deb = importlib.util.module_from_spec(spec)
spec.loader.exec_module(deb)

posix = pytest.mark.skipif(os.name == "nt", reason="the package's scripts run in a POSIX shell, which Windows lacks")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder like the frozen agent's, with a program that knows --help."""
    folder = tmp_path / "dist" / "fieldwatch-agent"
    (folder / "_internal").mkdir(parents=True)
    (folder / "_internal" / "lib.so").write_bytes(b"\x7fELF")
    agent = folder / "fieldwatch-agent"
    said = "usage: fieldwatch-agent [-h] COMMAND ...\n\noptions:\n  -h\n\n    run   runs\n    check  checks"
    agent.write_text(f"#!/bin/sh\necho '{said}'\n")
    agent.chmod(0o755)
    return folder


def make(program: Path, dist: Path) -> Path:
    built: Path = deb.build(program, dist, (2, 36), "zstd")
    return built


@pytest.mark.dpkg
def test_contents_owners_and_rights(program: Path, tmp_path: Path) -> None:
    package = make(program, tmp_path / "out")
    listed = subprocess.run(["dpkg-deb", "-c", package], capture_output=True, text=True, check=True).stdout
    rows = {line.split()[5].removeprefix("."): line.split()[:2] for line in listed.splitlines()}
    assert {owner for _, owner in rows.values()} == {"root/root"}
    assert rows["/opt/fieldwatch-agent/fieldwatch-agent"][0] == "-rwxr-xr-x"
    assert rows["/opt/fieldwatch-agent/_internal/lib.so"][0] == "-rw-r--r--"
    for path in ("/lib/systemd/system/fieldwatch-agent.service", "/usr/lib/sysusers.d/fieldwatch-agent.conf",
                 "/usr/share/man/man1/fieldwatch-agent.1.gz", "/usr/share/doc/fieldwatch-agent/copyright",
                 "/usr/share/bash-completion/completions/fieldwatch-agent"):  # fmt: skip
        assert path in rows
    assert not [path for path in rows if path.startswith(("/etc", "/var", "/home"))], "those are made, not shipped"
    info = subprocess.run(["dpkg-deb", "-f", package], capture_output=True, text=True, check=True).stdout
    assert "libc6 (>= 2.36)" in info and f"Version: {deb.version()}" in info


@pytest.mark.dpkg
def test_the_same_folder_gives_the_same_bytes(program: Path, tmp_path: Path) -> None:
    first = make(program, tmp_path / "one").read_bytes()
    (program / "_internal" / "lib.so").touch()
    assert make(program, tmp_path / "two").read_bytes() == first


@posix
@pytest.mark.parametrize("script", ["POSTINST", "PRERM", "POSTRM"])
def test_the_scripts_are_sh_and_fail_at_the_first_error(script: str) -> None:
    text = getattr(deb, script)
    assert text.startswith("#!/bin/sh\nset -e\n")
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0


@posix
def test_manual_and_completion_follow_the_program() -> None:
    page = deb.manual("usage: x\n\n.hidden\noptions:\n  -h", "1.2")
    assert page.startswith(".TH FIELDWATCH-AGENT 1") and '.SH "options"' in page and "\\&.hidden" in page
    text = deb.completion(["run", "check"])
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    typed = f"{text}\nCOMP_WORDS=(fieldwatch-agent ch); COMP_CWORD=1; _fieldwatch_agent; echo ${{COMPREPLY[@]}}"
    done = subprocess.run(["bash", "-c", typed], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "check"


def test_unit_account_and_folders_have_one_name() -> None:
    unit = (ROOT / "packaging" / "fieldwatch-agent.service").read_text()
    account = re.search(r"^u (\S+)", (ROOT / "packaging" / "fieldwatch-agent.sysusers").read_text(), re.M)
    from fieldwatch_agent.enrol import places

    assert account is not None and account[1] == places.USER
    assert f"User={places.USER}" in unit and f"--config {places.config_file()}" in unit
    assert f"FIELDWATCH_STATE__DIR={places.state_folder()}" in unit
    for path in (places.state_folder(), places.config_file().parent):
        assert str(path) in deb.POSTINST and str(path) in deb.POSTRM, "made, and taken away again by purge"
