"""``service``: the unit that is written, and what is refused. Installing for real needs root: tests/packages/."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
from fieldwatch_agent import places, systemd
from fieldwatch_agent.__main__ import main

from tests.conftest import ROOT

INSTEAD = "let what starts programs here run 'fieldwatch-agent run --config /etc/fieldwatch-agent/agent.toml'"
TEMPLATE = (ROOT / "packaging" / systemd.NAME).read_text()


@pytest.mark.systemd
def test_the_unit_of_a_virtual_environment_is_accepted_and_as_tight_as_the_packages(tmp_path: Path) -> None:
    program = tmp_path / "a folder with %i" / "python"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    path = tmp_path / systemd.NAME
    path.write_text(systemd.unit(TEMPLATE, [str(program), "-m", "fieldwatch_agent", "run", "--config", "/etc/a.toml"]))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    command = ["systemd-analyze", "security", "--offline=true", "--threshold=20", path]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    changed = [line for line in path.read_text().splitlines() if line not in TEMPLATE.splitlines()]
    assert [line.partition("=")[0] for line in changed] == ["ExecStart"]


@pytest.mark.parametrize("path", ["/home/kim/venv/bin/python", "/run/user/7/agent.py", "/tmp/x"])
def test_a_program_that_the_service_could_not_see_is_named(path: str) -> None:
    assert systemd.unseen([Path("/opt/fw/bin/python"), Path(path)]).startswith(f"{path} is not visible to the service")
    assert systemd.unseen([Path("/opt/fw/bin/python"), Path("/homework/python")]) == ""


def test_a_link_into_a_home_is_looked_through(tmp_path: Path) -> None:
    """As where the Python of a virtual environment is a link to one in somebody's home."""
    link = tmp_path / "python"
    link.symlink_to("/home/kim/python3.11")
    assert "/home/kim/python3.11 is not visible" in systemd.unseen([link])


@pytest.mark.parametrize("verb", ["install", "uninstall", "start", "stop", "status"])
def test_without_systemd_it_says_what_a_service_must_run(
    verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["service", verb]) == 1
    assert capsys.readouterr().err == f"there is no systemd here: {INSTEAD}\n"


@pytest.mark.parametrize("verb", ["install", "uninstall", "start", "stop", "status"])
def test_where_systemd_is_installed_but_did_not_start_the_computer_it_is_not_asked(
    verb: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As in a container: ``systemctl`` would speak of PID 1 and a bus."""
    systemctl, missing = tmp_path / "systemctl", tmp_path / "missing"
    systemctl.write_text(f"#!/bin/sh\ntouch {tmp_path}/asked\n")
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(places, "SYSTEMD", missing)
    assert main(["service", verb]) == 1
    said = capsys.readouterr().err
    assert said == f"systemd did not start this computer ({missing} is missing): {INSTEAD}\n"
    assert places.start_service() == "" and not (tmp_path / "asked").exists()


def test_the_wheel_carries_the_packages_unit() -> None:
    import tomllib

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]
    (source,) = project["wheel"]["force-include"]
    assert project["wheel"]["force-include"][source] == f"fieldwatch_agent/{systemd.NAME}"
    assert (ROOT / source).read_text() == TEMPLATE and source in project["sdist"]["only-include"]
    assert places.USER in TEMPLATE


def test_the_version_needs_no_library(clean_env: Mapping[str, str]) -> None:
    code = "import sys; from fieldwatch_agent.__main__ import main\ntry: main(['--version'])\nexcept SystemExit: pass\n"
    heavy = "print(sorted({'numpy', 'onnxruntime', 'pydantic', 'paho', 'tuf', 'cryptography'} & set(sys.modules)))"
    done = subprocess.run(
        [sys.executable, "-c", code + heavy], env=clean_env, capture_output=True, text=True, check=True
    )
    said = done.stdout.splitlines()
    assert said[0].startswith("fieldwatch-agent ") and said[1] == "[]"
