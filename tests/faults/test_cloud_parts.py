"""A part of the cloud that is down is told so: by ``/healthz``, and by the head of every page.

The server is the real one; the broker is killed, the disk is a small one that is filled, the database is locked, made
read-only and removed.
"""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import ROOT, Broker, Spawn, find_port, wait_until

PATIENCE = 60.0


class Cloud:
    """A running ``fieldwatch-cloud serve`` whose database lies in ``folder``."""

    def __init__(self, spawn: Spawn, env: Mapping[str, str], folder: Path, database: Path, broker: str) -> None:
        port = find_port()
        config = folder / "cloud.toml"
        config.write_text(
            f'[web]\nport = {port}\nstart_token = "{"1" * 32}"\n[store]\npath = "{database}"\n'
            f'[broker]\nurl = "{broker}"\n'
        )
        command = [sys.executable, "-m", "fieldwatch_cloud", "serve", "--config", config]
        child = spawn(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = child.stdout.readline()
        assert line.startswith("dashboard: "), line
        self.url = f"http://127.0.0.1:{port}"
        self._opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
        wait_until(lambda: self.health()[0] == 200, "a cloud that is well")
        self._opener.open(f"{self.url}/start?token={'1' * 32}", timeout=30).close()

    def health(self) -> tuple[int, dict[str, Any]]:
        """What ``/healthz`` says."""
        try:
            with urllib.request.urlopen(f"{self.url}/healthz", timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, {}

    def page(self) -> str:
        """The fleet page, whatever its status."""
        try:
            with self._opener.open(self.url, timeout=10) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError as error:
            return str(error.read().decode())

    def wait_down(self, part: str, says: str) -> None:
        """Wait until a part is told to be down in these words, by both."""

        def told() -> bool:
            status, body = self.health()
            found = body.get("parts", {}).get(part, {})
            return status == 503 and body["status"] == "down" and says in found.get("says", "")

        wait_until(told, f"{part}: {says}", PATIENCE)
        others = {name for name, found in self.health()[1]["parts"].items() if found["status"] == "down"}
        assert part in others
        page = self.page()
        assert f'data-name="{part}"' in page
        assert says in page

    def wait_well(self) -> None:
        """Wait until every part works again."""
        wait_until(lambda: self.health()[0] == 200, "all parts to work again", PATIENCE)
        assert "data-name=" not in self.page().split("<main")[0]


@pytest.fixture
def cloud(
    spawn: Spawn, clean_env: Mapping[str, str], tmp_path: Path, mosquitto: Callable[..., Broker]
) -> Callable[..., tuple[Cloud, Broker]]:
    """Start a cloud and its broker: ``cloud(database=path)``."""

    def start(database: Path | None = None) -> tuple[Cloud, Broker]:
        broker = mosquitto()
        return Cloud(spawn, clean_env, tmp_path, database or tmp_path / "cloud.db", broker.url), broker

    return start


Start = Callable[..., tuple[Cloud, Broker]]


def test_a_broker_that_is_gone_is_told(cloud: Start) -> None:
    server, broker = cloud()
    assert set(server.health()[1]["parts"]) == {"database", "broker", "ingest", "telling"}
    broker.kill()
    server.wait_down("broker", f"broker 127.0.0.1:{broker.port}")
    assert server.health()[1]["parts"]["database"] == {"status": "ok"}
    broker.start()
    server.wait_well()


def test_a_database_that_somebody_locks_is_told(cloud: Start, tmp_path: Path) -> None:
    server, _ = cloud()
    lock = sqlite3.connect(tmp_path / "cloud.db", isolation_level=None)
    lock.execute("BEGIN IMMEDIATE")
    server.wait_down("database", "the database")
    lock.execute("ROLLBACK")
    lock.close()
    server.wait_well()


def test_a_database_that_was_removed_is_told(cloud: Start, tmp_path: Path) -> None:
    server, _ = cloud()
    away = tmp_path / "elsewhere.db"
    (tmp_path / "cloud.db").rename(away)
    server.wait_down("database", "cannot be reached")
    (tmp_path / "cloud.db").write_bytes(away.read_bytes())
    server.wait_down("database", "was replaced")
    away.rename(tmp_path / "cloud.db")
    server.wait_well()


def _mounted(folder: Path) -> bool:
    command = ["mount", "-t", "tmpfs", "-o", "size=12m", "tmpfs", str(folder)]
    return os.name == "posix" and os.geteuid() == 0 and subprocess.run(command, check=False).returncode == 0


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 12 MiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    if not _mounted(folder):
        if os.environ.get("FIELDWATCH_REQUIRE_ALL") == "1":
            pytest.fail("no small disk could be mounted, and FIELDWATCH_REQUIRE_ALL=1 wants it", pytrace=False)
        pytest.skip("only root may mount a small disk here")
    yield folder
    subprocess.run(["umount", "-l", str(folder)], check=False)


def test_a_disk_that_is_full_is_told(cloud: Start, small_disk: Path) -> None:
    server, _ = cloud(small_disk / "cloud.db")
    filler = small_disk / "filler"
    with pytest.raises(OSError, match="No space"), filler.open("wb", buffering=0) as out:
        while True:
            out.write(b"\0" * 65536)
    server.wait_down("database", "the disk of the database is full")
    filler.unlink()
    server.wait_well()


def test_a_database_that_refuses_to_be_written_is_told(cloud: Start, tmp_path: Path) -> None:
    """A trigger stands for the failing disk: no disk with an open file can be made read-only."""
    server, _ = cloud()
    with sqlite3.connect(tmp_path / "cloud.db") as other:
        other.execute(
            "CREATE TRIGGER broken BEFORE UPDATE ON heartbeat BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
        )
    server.wait_down("database", "disk I/O error")
    with sqlite3.connect(tmp_path / "cloud.db") as other:
        other.execute("DROP TRIGGER broken")
    server.wait_well()
