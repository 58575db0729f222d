"""docs/release.md is a walk from the key ceremony to the tenth year: its commands are run as they stand."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from fieldwatch_trainer.release.__main__ import _parser, main
from fieldwatch_trainer.release.keys import PASSPHRASE

from tests.bundles import make_bundle
from tests.conftest import ROOT

GUIDE = ROOT / "docs" / "release.md"
OURS = "fieldwatch-release "


def _lines(kind: str) -> list[str]:
    """Return the lines of the guide's blocks of a kind, in order."""
    blocks = re.findall(rf"```{kind}\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    return [line for block in blocks for line in block.splitlines() if line]


@pytest.mark.skipif(sys.platform == "win32", reason="the guide's shell is POSIX")
@pytest.mark.timeout(600)
def test_the_guide_can_be_followed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Line by line: our program in this process, where no start of Python is waited for, everything else in a shell."""
    for number, folder in enumerate(("run", "run-2", "run-3"), start=1):
        (tmp_path / folder).mkdir()
        data = make_bundle(version=f"v{number}")
        (tmp_path / folder / "bundle.zip").write_bytes(data)
        gates = [{"id": "deaf:detector", "status": "passed", "says": "an alert at 4 of 4 events"}]
        run = {"sha256": hashlib.sha256(data).hexdigest(), "gate": {"passed": True}, "gates": gates}
        (tmp_path / folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv(PASSPHRASE, "a b c")
    monkeypatch.setattr(os, "fsync", lambda handle: None)  # the power stays on here: test_power.py cuts it
    lines = _lines("sh")
    assert sum(line.startswith(OURS) for line in lines) >= 30
    told = []
    for line in lines:
        if line.startswith(OURS):
            words = shlex.split(line, comments=True)
            assert not set("$*?;|&<>`").intersection("".join(words)), f"the shell would change this line: {line}"
            code = main(words[1:])
            out, err = capsys.readouterr()
        else:
            done = subprocess.run(["bash", "-euc", line], capture_output=True, text=True, check=False)
            code, out, err = done.returncode, done.stdout, done.stderr
        assert code == 0, f"{line}\n{out}{err}"
        told.append(out)
    for said in (
        "Still to sign: prod wants 1 more of prod-2, prod-3.",
        "of 340 devices go from press/v1 to press/v2",
        "of 340 devices go from press/v2 to press/v1",
        "The drill held",
        "a device installed before follows to root version 11",
        "of 340 devices go from press/v1 to press/v3",
        "Exported for lab-7.",
        "Verification succeeded",
    ):
        assert any(said in out for out in told), said


def test_commands_that_need_more_than_this_machine_are_commands() -> None:
    """What needs a token, a store or a container is not run from the guide; its tests run it. Here: it would start."""
    lines = [line for line in _lines("console") if line.startswith(OURS)]
    assert len(lines) >= 6
    for line in lines:
        assert _parser().parse_args(shlex.split(line, comments=True)[1:]).run
