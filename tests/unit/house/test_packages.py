"""The Debian and the RPM package: what is in them, whose it is, and that the same folder gives the same bytes."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.scripts import script

deb, rpm, payload = script("deb"), script("rpm"), script("payload")

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
    for name in (payload.SBOM, payload.LICENCES):
        (folder.parent / name).write_text("what sbom.py wrote")
    return folder


@contextmanager
def narrow_umask() -> Iterator[None]:
    """As of an account that shows its files to nobody."""
    before = os.umask(0o077)
    try:
        yield
    finally:
        os.umask(before)


def make(program: Path, dist: Path) -> Path:
    built: Path = deb.build(program, dist, (2, 36))
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
                 "/usr/share/bash-completion/completions/fieldwatch-agent",
                 f"/usr/share/doc/fieldwatch-agent/{payload.SBOM}",
                 f"/usr/share/doc/fieldwatch-agent/{payload.LICENCES}"):  # fmt: skip
        assert path in rows
    assert not [path for path in rows if path.startswith(("/etc", "/var", "/home"))], "those are made, not shipped"
    info = subprocess.run(["dpkg-deb", "-f", package], capture_output=True, text=True, check=True).stdout
    assert "libc6 (>= 2.36)" in info and f"Version: {payload.version()}" in info


@pytest.mark.dpkg
def test_the_same_folder_gives_the_same_bytes(program: Path, tmp_path: Path) -> None:
    first = make(program, tmp_path / "one").read_bytes()
    (program / "_internal" / "lib.so").touch()
    with narrow_umask():
        assert make(program, tmp_path / "two").read_bytes() == first


@pytest.mark.rpm
def test_the_rpm_has_the_same_files_and_owners(program: Path, tmp_path: Path) -> None:
    package = rpm.build(program, tmp_path, (2, 36))

    def query(*arguments: str) -> str:
        return subprocess.run(["rpm", "-qp", *arguments, package], capture_output=True, text=True, check=True).stdout

    rows = {line.split()[8]: (line.split()[0], line.split()[2]) for line in query("-lv").splitlines()}
    assert {owner for _, owner in rows.values()} == {"root"}
    assert rows["/opt/fieldwatch-agent/fieldwatch-agent"][0] == "-rwxr-xr-x"
    assert rows["/opt/fieldwatch-agent/_internal/lib.so"][0] == "-rw-r--r--"
    listed = subprocess.run(
        ["dpkg-deb", "-c", make(program, tmp_path / "out")], capture_output=True, text=True, check=True
    )
    shipped = {line.split()[5].removeprefix(".") for line in listed.stdout.splitlines() if line[0] != "d"}
    moved = {
        path.replace("/lib/systemd/", "/usr/lib/systemd/", 1) if path.startswith("/lib/") else path for path in shipped
    }
    assert {path for path, row in rows.items() if row[0][0] != "d"} == {
        path for path in moved if "changelog" not in path
    }
    folders = {path for path, row in rows.items() if row[0][0] == "d"}
    assert all(path.startswith("/opt/fieldwatch-agent") for path in folders), "no folder of the system is claimed"
    needs = query("--requires").split("\n")
    assert "libc.so.6(GLIBC_2.36)(64bit)" in needs and "systemd >= 250" in needs
    assert not [each for each in needs if "libpython" in each or "numpy" in each], "nothing that is inside is required"
    scripts = query("--scripts")
    for part in (rpm.POST, rpm.PREUN, rpm.POSTUN):
        assert part.strip() in scripts


@pytest.mark.rpm
def test_the_same_folder_gives_the_same_rpm(program: Path, tmp_path: Path) -> None:
    first = rpm.build(program, tmp_path / "one", (2, 36)).read_bytes()
    (program / "_internal" / "lib.so").touch()
    with narrow_umask():
        assert rpm.build(program, tmp_path / "two", (2, 36)).read_bytes() == first


@pytest.mark.objdump
def test_the_needed_glibc_is_measured(tmp_path: Path) -> None:
    """On the interpreter that runs this, which needs the C library as the frozen agent does."""
    folder = tmp_path / payload.NAME
    folder.mkdir()
    shutil.copy(os.path.realpath(sys.executable), folder / payload.NAME)
    major, minor = payload.glibc(folder)
    assert major == 2 and minor >= 2
    (folder / payload.NAME).write_bytes(b"no program")
    assert payload.glibc(folder) == (0, 0)


@posix
@pytest.mark.parametrize("name", ["POSTINST", "PRERM", "POSTRM"])
def test_the_scripts_are_sh_and_fail_at_the_first_error(name: str) -> None:
    text = getattr(deb, name)
    assert text.startswith("#!/bin/sh\nset -e\n")
    assert subprocess.run(["sh", "-n"], input=text, text=True, check=False).returncode == 0


@posix
@pytest.mark.parametrize("name", ["POST", "PREUN", "POSTUN"])
def test_the_scriptlets_are_sh(name: str) -> None:
    assert subprocess.run(["sh", "-n"], input=getattr(rpm, name), text=True, check=False).returncode == 0


@posix
def test_manual_and_completion_follow_the_program() -> None:
    page = payload.manual("usage: x\n\n.hidden\noptions:\n  -h", "1.2")
    assert page.startswith(".TH FIELDWATCH-AGENT 1") and '.SH "options"' in page and "\\&.hidden" in page
    text = payload.completion(["run", "check"])
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
        assert str(path) in rpm.POST
