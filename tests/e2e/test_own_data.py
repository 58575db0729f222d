"""A log in, an alert out: the commands of ``docs/your-own-data.md``, as they stand there, up to the replay."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT

PAGE = ROOT / "docs" / "your-own-data.md"
WANTED = ("simulate", "ingest", "check", "train", "evaluate", "score", "backtest", "replay")
NOT_HERE = ("--csv", "agent.toml", "updates")


def commands() -> list[list[str]]:
    """The page's commands in order, of the kinds wanted; the simulated fleet is made smaller."""
    found = []
    for block in re.findall(r"```sh\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S):
        for line in re.sub(r"\s+#.*|\s*>.*", "", block, flags=re.M).splitlines():
            words = shlex.split(line)
            wanted = words[:1] == ["cp"] or (len(words) > 1 and words[1] in WANTED)
            if wanted and not any(word in line for word in NOT_HERE):
                found.append(words)
    found[0][found[0].index("--devices") + 1] = "2"
    return found


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_the_page_leads_from_a_log_to_an_alert(tmp_path: Path) -> None:
    done = []
    for words in commands():
        if words[0] == "cp":
            shutil.copy(tmp_path / words[1], tmp_path / words[2])
            continue
        program = [str(Path(sys.executable).parent / words[0]), *words[1:]]
        ran = subprocess.run(program, check=False, cwd=tmp_path, capture_output=True, text=True)
        allowed = {0, 3} if words[1] == "evaluate" else {0}  # two devices may be too few for a gate
        assert ran.returncode in allowed, f"{shlex.join(words)}\n{ran.stdout[-2000:]}{ran.stderr[-2000:]}"
        done.append(words[1])
        if words[1] == "replay":
            rows = [json.loads(line) for line in ran.stdout.splitlines()]
            assert len(rows) > 1000
            assert any(row["verdict"] in ("anomalous", "faulty") for row in rows)
    assert [name for name in WANTED if name in done] == list(WANTED)
    assert done.index("ingest") < done.index("check") < done.index("train") < done.index("replay")
    for page in ("check.html", "backtest.html", "replay.html", "run/report.html"):
        assert (tmp_path / page).stat().st_size > 1000
