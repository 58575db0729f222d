"""The Debian and the RPM package: what is in them, whose it is, and that the same folder gives the same bytes."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.packages import previous as history
from tests.scripts import script

deb, rpm, payload, completion = script("deb"), script("rpm"), script("payload"), script("completion")

posix = pytest.mark.skipif(os.name == "nt", reason="the package's scripts run in a POSIX shell, which Windows lacks")


@pytest.fixture
def program(tmp_path: Path) -> Path:
    """A folder like the frozen agent's, with a program that knows --help."""
    folder = tmp_path / "dist" / "fieldwatch-agent"
    (folder / "_internal").mkdir(parents=True)
    (folder / "_internal" / "lib.so").write_bytes(b"\x7fELF")
    (folder / "_internal" / "libz.so.1").write_bytes(b"\x7fELF")
    (folder / "_internal" / "libz.so.1").chmod(0o755)
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
    for library in ("lib.so", "libz.so.1"):
        assert rows[f"/opt/fieldwatch-agent/_internal/{library}"][0] == "-rw-r--r--"
    for path in ("/lib/systemd/system/fieldwatch-agent.service", "/usr/lib/sysusers.d/fieldwatch-agent.conf",
                 "/usr/share/man/man1/fieldwatch-agent.1.gz", "/usr/share/doc/fieldwatch-agent/copyright",
                 "/usr/share/bash-completion/completions/fieldwatch-agent",
                 "/usr/share/zsh/vendor-completions/_fieldwatch-agent",
                 "/usr/share/fish/vendor_completions.d/fieldwatch-agent.fish",
                 "/usr/share/lintian/overrides/fieldwatch-agent",
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
    for library in ("lib.so", "libz.so.1"):
        assert rows[f"/opt/fieldwatch-agent/_internal/{library}"][0] == "-rw-r--r--"
    listed = subprocess.run(
        ["dpkg-deb", "-c", make(program, tmp_path / "out")], capture_output=True, text=True, check=True
    )
    shipped = {line.split()[5].removeprefix(".") for line in listed.stdout.splitlines() if line[0] != "d"}
    moved = {
        re.sub("^/lib/systemd/", "/usr/lib/systemd/", path).replace("zsh/vendor-completions", "zsh/site-functions")
        for path in shipped
    }
    assert {path for path, row in rows.items() if row[0][0] != "d"} == {
        path for path in moved if "changelog" not in path and "lintian" not in path
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


def test_the_manual_follows_the_program() -> None:
    page = payload.manual("usage: x\n\n.hidden\noptions:\n  -h", "1.2")
    assert page.startswith(".TH FIELDWATCH-AGENT 1") and '.SH "options"' in page and "\\&.hidden" in page


def a_program() -> argparse.ArgumentParser:
    """With all that a shell may stumble over in its help, and each kind of argument."""
    parser = argparse.ArgumentParser(prog="fieldwatch-agent")
    verbs = parser.add_subparsers()
    run = verbs.add_parser("run", help="say it's [100%%]: $HOME \\ now")
    run.add_argument("--config", type=Path, help="the agent's [file]: a:b")
    run.add_argument("--level", choices=["high", "low"])
    run.add_argument("--set", action="append")
    run.add_argument("--quick", action="store_true")
    run.add_argument("logs", nargs="+", metavar="LOG")
    verbs.add_parser("service", help="runs").add_argument("verb", choices=["start", "stop"])
    return parser


@posix
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("r", "run"), ("-", "--help -h"), ("run --", "--config --help --level --quick --set"), ("run --q", "--quick"),
        ("service st", "start stop"), ("service x", ""), ("run a", "a b.csv"), ("run --config a", "a b.csv"),
        ("run --level l", "low"),
    ],
)  # fmt: skip
def test_what_bash_completes(typed: str, offered: str, tmp_path: Path) -> None:
    (tmp_path / "a b.csv").touch()
    words = " ".join(f"'{word}'" for word in ["fieldwatch-agent", *typed.split(" ")])
    ask = f"COMP_WORDS=({words}); COMP_CWORD={typed.count(' ') + 1}; _fieldwatch_agent"
    text = f"{completion.bash(a_program())}\n{ask}; printf '%s\\n' \"${{COMPREPLY[@]}}\""
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert " ".join(sorted(done.stdout.splitlines())) == offered


@posix
def test_what_zsh_is_told() -> None:
    """Tried in a zsh by hand; here what it reads: bash's quotes and blocks are the same."""
    text = completion.zsh(a_program())
    assert text.startswith("#compdef fieldwatch-agent\n")
    assert subprocess.run(["bash", "-n"], input=text, text=True, check=False).returncode == 0
    (described,) = re.findall(r"commands=\((.*?)\n    \)", text, re.S)
    assert shlex.split(described) == ["run:say it's [100%]: $HOME \\ now", "service:runs"]
    (run,) = re.findall(r" run\) _arguments (.*) ;;", text)
    assert shlex.split(run)[2:] == [
        "--config=[the agent's \\[file\\]\\: a\\:b]:config:_files", "--level=[]:level:(high low)",
        "*--set=[]:set:_files", "--quick[]", "*:log:_files",
    ]  # fmt: skip
    assert "'1:verb:(start stop)' ;;" in text


def test_what_fish_is_told() -> None:
    """Tried in a fish by hand; here what it reads."""
    lines = completion.fish(a_program()).splitlines()
    word = r"(?:'(?:[^'\\]|\\['\\])*'|[\w-]+)"
    assert all(re.fullmatch(rf"complete(?: {word})+", line) for line in lines)
    after = "complete -c fieldwatch-agent -n '__fish_seen_subcommand_from run' "
    assert [line.removeprefix(after) for line in lines if line.startswith(after)][1:] == [
        r"-l config -r -F -d 'the agent\'s [file]: a:b'", "-l level -r -a 'high low' -d ''", "-l set -r -F -d ''",
        "-l quick -d ''", "-F",
    ]  # fmt: skip
    assert r"-a run -d 'say it\'s [100%]: $HOME \\ now'" in lines[2]


def test_every_command_of_the_agent_is_completed_by_each_shell() -> None:
    from fieldwatch_agent.__main__ import _parser

    known = completion.commands(_parser())
    assert {"run", "setup", "doctor", "self-test"} <= {command.name for command in known}
    for shell in (completion.bash, completion.zsh, completion.fish):
        text = shell(_parser())
        for command in known:
            assert command.help and re.search(rf"\b{command.name}\b", text)
            assert all(flag.names[-1].removeprefix("--") in text for flag in command.flags)


def test_unit_account_and_folders_have_one_name() -> None:
    unit = (ROOT / "packaging" / "fieldwatch-agent.service").read_text()
    account = re.search(r"^u (\S+)", (ROOT / "packaging" / "fieldwatch-agent.sysusers").read_text(), re.M)
    from fieldwatch_agent import places

    assert account is not None and account[1] == places.USER
    assert f"User={places.USER}" in unit and f"--config {places.config_file()}" in unit
    assert f"FIELDWATCH_STATE__DIR={places.state_folder()}" in unit
    for path in (places.state_folder(), places.config_file().parent):
        assert str(path) in deb.POSTINST and str(path) in deb.POSTRM, "made, and taken away again by purge"
        assert str(path) in rpm.POST


def test_without_history_the_upgrade_is_skipped_with_the_remedy_and_fails_where_everything_is_required(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(history, "ROOT", tmp_path)
    for remedy in ("git clone the repository", "git fetch --unshallow"):
        monkeypatch.delenv("FIELDWATCH_REQUIRE_ALL", raising=False)
        with pytest.raises(pytest.skip.Exception, match=remedy):
            history.previous()
        monkeypatch.setenv("FIELDWATCH_REQUIRE_ALL", "1")
        with pytest.raises(pytest.fail.Exception, match=f"{remedy}; FIELDWATCH_REQUIRE_ALL=1 wants it"):
            history.previous()
        subprocess.run(["git", "init", "-q", tmp_path], check=True)
        (tmp_path / ".git" / "shallow").write_text("0" * 40 + "\n")
    (tmp_path / ".git" / "shallow").unlink()
    assert history.history_missing(tmp_path) is None
