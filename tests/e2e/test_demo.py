"""The whole loop on one machine, as its first user runs it: from a fault in a log line to an alert on the dashboard."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from fieldwatch_cloud.store import Store, sqlite_url
from fieldwatch_cloud.web import WebSettings, create_app
from starlette.testclient import TestClient

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the demo may work."""
    return tmp_path / "state"


@pytest.mark.timeout(300)
def test_an_injected_fault_becomes_an_alert_on_the_dashboard(folder: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "fieldwatch_demo", "--devices", "2", "--until-alert", "--timeout", "240",
         "--dir", str(folder)],
        cwd=ROOT, capture_output=True, text=True, timeout=280, check=False,
    )  # fmt: skip
    assert ended.returncode == 0, ended.stderr[-6000:]
    assert len(ended.stdout.splitlines()) == 1, "one JSON object and nothing else"
    summary = json.loads(ended.stdout)

    written = sum(len(path.read_bytes().splitlines()) - 1 for path in (folder / "logs").glob("press-*/readings*.csv"))
    assert summary["devices"] == 2
    assert 2 * 1400 < summary["lines_read"] <= written
    assert 2 * 1400 < summary["results_stored"] <= written
    assert summary["alerts"] >= 1
    assert 0 < summary["line_to_dashboard_s"] <= summary["fault_to_dashboard_s"] < summary["total_s"]

    alert, fault = summary["alert"], summary["fault"]
    assert alert["device"] == fault["device"]
    assert alert["opened_at"] >= fault["start"]
    assert alert["score"] >= alert["threshold"]
    assert summary["sensors_right"] >= 2, f"named {alert['sensors']}, broken were {fault['sensors']}"
    assert f"{alert['device']}: " in summary["mail"]["subject"], "people were told"
    mails = [path.read_text(encoding="utf-8") for path in (folder / "mailbox").glob("*.eml")]
    assert any(summary["mail"]["message-id"] in mail and "image/png" in mail for mail in mails)
    assert leftovers(folder) == []
    _is_repeated(folder, alert["alert_id"])


def _is_repeated(folder: Path, alert: str) -> None:
    """Take the alert's dossier from the demo's store and repeat it as its reader does, with the bundle it names."""
    with closing(Store(sqlite_url(folder / "cloud" / "fieldwatch.db"))) as store:
        settings = WebSettings(api_token="b" * 32)
        client = TestClient(
            create_app(store, store.live, settings), base_url="http://127.0.0.1:8080", client=("127.0.0.1", 50000)
        )
        answer = client.get(f"/api/v1/alerts/{alert}/dossier", headers={"Authorization": f"Bearer {'b' * 32}"})
    assert answer.status_code == 200, answer.text
    path = folder / "alert.dossier.json"
    path.write_bytes(answer.content)
    done = subprocess.run(
        [sys.executable, "-m", "fieldwatch_agent", "replay", str(path), "--bundle", str(folder / "run" / "bundle.zip")],
        cwd=ROOT, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = re.search(r"(\d+) of \1 decisions are equal, bit for bit", done.stderr)
    assert found is not None, done.stderr


@pytest.mark.timeout(120)
def test_ctrl_c_ends_it_cleanly_while_children_run(folder: Path) -> None:
    demo = subprocess.Popen(
        [sys.executable, "-m", "fieldwatch_demo", "--devices", "1", "--dir", str(folder)],
        cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True,
    )  # fmt: skip
    deadline = time.monotonic() + 60
    while not leftovers(folder):
        assert demo.poll() is None and time.monotonic() < deadline, "it never started a child"
        time.sleep(0.05)
    demo.send_signal(signal.SIGINT)
    _, said = demo.communicate(timeout=60)
    assert demo.returncode == 0, said
    assert "ending" in said and "Traceback" not in said
    assert leftovers(folder) == []


def leftovers(folder: Path) -> list[str]:
    """Return the command lines of other processes that name the demo's folder, without the demo itself."""
    return [line for line in _command_lines() if str(folder) in line and " fieldwatch_demo " not in line]


def _command_lines() -> Iterator[str]:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        if path.parent.name == str(os.getpid()):
            continue
        try:
            yield path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
