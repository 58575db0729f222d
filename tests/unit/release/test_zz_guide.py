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
from fieldwatch_trainer.release.__main__ import _parser
from fieldwatch_trainer.release.keys import PASSPHRASE

from tests.bundles import make_bundle
from tests.conftest import ROOT

GUIDE = ROOT / "docs" / "release.md"


@pytest.mark.skipif(sys.platform == "win32", reason="the guide's shell is POSIX")
@pytest.mark.timeout(600)
def test_the_guide_can_be_followed(tmp_path: Path) -> None:
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    assert len(blocks) >= 9
    for number, folder in enumerate(("run", "run-2", "run-3"), start=1):
        (tmp_path / folder).mkdir()
        data = make_bundle(version=f"v{number}")
        (tmp_path / folder / "bundle.zip").write_bytes(data)
        gates = [{"id": "deaf:detector", "status": "passed", "says": "an alert at 4 of 4 events"}]
        run = {"sha256": hashlib.sha256(data).hexdigest(), "gate": {"passed": True}, "gates": gates}
        (tmp_path / folder / "run.json").write_text(json.dumps(run), encoding="utf-8")
    tools = tmp_path / "bin"
    tools.mkdir()
    program = tools / "fieldwatch-release"
    program.write_text(f'#!/bin/sh\nexec {sys.executable} /tmp/eleven/timed.py "$@"\n')
    program.chmod(0o755)
    (tools / "model_signing").symlink_to(Path(sys.executable).with_name("model_signing"))
    rooms = os.pathsep.join(str(ROOT / room) for room in ("contract", "trainer"))
    environment = os.environ | {"PATH": f"{tools}:{os.environ['PATH']}", "PYTHONPATH": rooms, PASSPHRASE: "a b c"}
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-x", "-c", "\n".join(blocks)],
        cwd=tmp_path, env=environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-1500:]
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
        assert said in done.stdout


def test_commands_that_need_more_than_this_machine_are_commands() -> None:
    """What needs a token, a store or a container is not run from the guide; its tests run it. Here: it would start."""
    blocks = re.findall(r"```console\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.S)
    lines = [line for block in blocks for line in block.splitlines() if line.startswith("fieldwatch-release ")]
    assert len(lines) >= 6
    for line in lines:
        assert _parser().parse_args(shlex.split(line, comments=True)[1:]).run
