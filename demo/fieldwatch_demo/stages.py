"""The whole house on one machine, built and started as an operator would: command lines, configuration files, HTTP.

Nothing of agent, trainer or cloud is imported here. The demo works only if the commands that the documents name work,
and what it prints can be typed by hand. Everything listens on 127.0.0.1, on ports that were free at the start.

Simulated time starts some hours in the past, so that it can run faster than the clock for a while without the
readings of tomorrow:

=================  ==========================================================================
``HISTORY_DAYS``   in the lake, with labelled faults: what the trainer learns from
``BACKLOG_DAYS``   in the logs, never seen by the trainer: the agents catch up with it
live               from then on, at ``speed``, until simulated time has caught up with the clock
=================  ==========================================================================
"""

from __future__ import annotations

import functools
import http.server
import json
import secrets
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldwatch_contract import clock
from fieldwatch_contract.clock import DAY, MINUTE, SECOND, iso

from fieldwatch_demo.children import Children
from fieldwatch_demo.device import Device
from fieldwatch_demo.failure import DemoError
from fieldwatch_demo.fleet import Fleet, Lake, fault, make_fleet, truth, write_log
from fieldwatch_demo.live import Live, LogWriter
from fieldwatch_demo.mailbox import Mailbox
from fieldwatch_demo.progress import Progress
from fieldwatch_demo.stop import Stop

TYPE = "press"
CHANNEL = "stable"
PERIOD = MINUTE
HISTORY_DAYS = 4
BACKLOG_DAYS = 1
FLEET = 6
"""Devices in the lake at least: a fleet to learn from, also where only one of them is watched."""
CATCH_UP_MINUTES = 25
"""Minutes of the wall clock until simulated time has caught up with it."""

BUDGET = 0.05
"""False alarms a device-day, a tenth of the trainer's default: at 60 × speed a device-day lasts 24 minutes."""

PATIENCE = 60.0
"""Seconds in which a server must answer and the backlog must arrive."""


_ROUTES = """
[alerts]
late = "60d"   # simulated time lies behind the clock: what would be old news elsewhere is news here

[[alerts.routes]]
name = "lab"
match = {kind = ["fault"]}
steps = [{to = ["lab"]}]
"""
"""Who is told of what; the channel is in the configuration above it."""


class StageError(DemoError):
    """A stage did not come to its end; the message says what was and was not seen."""


@dataclass(frozen=True)
class Plan:
    """What to simulate, decided once: rows of the fleet's devices at which the three parts of time begin."""

    fleet: Fleet
    watched: list[Device]
    history: int
    backlog: int
    live: int


def make_plan(devices: int, speed: float, now: int, seed: int = 1) -> Plan:
    """Return the fleet and its times for a demo that starts at ``now`` (µs) with ``devices`` devices watched."""
    lag = min(round(max(speed - 1, 0) * CATCH_UP_MINUTES), 20 * DAY // MINUTE) * MINUTE
    start = (now - lag) // DAY * DAY - (HISTORY_DAYS + BACKLOG_DAYS) * DAY
    fleet = make_fleet(TYPE, max(devices, FLEET), HISTORY_DAYS + BACKLOG_DAYS, start, seed, period=PERIOD)
    first = fleet.devices[0]
    live = first.index(now - lag)
    backlog = live - BACKLOG_DAYS * first.per_day
    for device in fleet.devices:
        device.faults = [each for each in device.faults if each.stop <= backlog]
    watched = fleet.devices[:devices]
    if devices > 1:  # yesterday's fault, repaired: the dashboard has a history from the start
        last = watched[-1]
        kind = next(kind for kind in last.plant.faults if not kind.slow)
        last.faults.append(fault(last, kind, backlog + last.per_day // 2, hours=1.0))
    return Plan(fleet, watched, backlog - HISTORY_DAYS * first.per_day, backlog, live)


def write_history(made: Plan, folder: Path) -> int:
    """Write the lake, the logs as they stand before the demo begins, and ``truth.json``; return the logs' lines."""
    lake = Lake(folder / "lake", made.fleet.type)
    lines = 0
    for device in made.fleet.devices:
        rows = device.rows(made.history, made.live)
        cut = made.backlog - made.history
        known = [each for each in device.faults if made.history < each.stop <= made.backlog]
        lake.add(device, rows.part(0, cut), known)
        if device in made.watched:
            lines += write_log(device, folder / "logs" / device.name, rows.part(cut, len(rows.ts)), rotate=True)
    lake.close()
    (folder / "truth.json").write_text(json.dumps(truth(made.fleet), indent=1) + "\n", encoding="utf-8")
    return lines


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def toml(sections: dict[str, dict[str, object]]) -> str:
    """Write sections of strings, numbers and booleans as TOML; JSON's literals are TOML's too."""
    blocks = []
    for name, values in sections.items():
        blocks.append("\n".join([f"[{name}]", *(f"{key} = {json.dumps(value)}" for key, value in values.items())]))
    return "\n\n".join(blocks) + "\n"


class UpdateServer:
    """Serves the release repository as the static files it is, from a thread of this process."""

    def __init__(self, folder: Path) -> None:
        handler = functools.partial(_Quiet, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, name="update server", daemon=True).start()

    def stop(self) -> None:
        """Close the port."""
        self._server.shutdown()
        self._server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: the agents tell what they fetched."""


class Dashboard:
    """The cloud's REST API, asked as any script would: with the bearer token of its configuration."""

    def __init__(self, url: str, token: str) -> None:
        self.url = url
        self.token = token

    def get(self, path: str) -> Any:
        """Return the JSON at ``/api/v1/<path>``. Raises :class:`OSError` where the server does not answer so."""
        request = urllib.request.Request(  # noqa: S310
            f"{self.url}api/v1/{path}", headers={"Authorization": f"Bearer {self.token}"}
        )
        with urllib.request.urlopen(request, timeout=10) as answer:  # noqa: S310
            return json.load(answer)

    def ready(self) -> bool:
        """Tell whether it answers."""
        try:
            self.get("devices")
        except urllib.error.HTTPError:
            raise
        except OSError:
            return False
        return True

    def stored(self, device: str, since: int) -> int:
        """Return how many of a device's readings from ``since`` (µs) on have a stored result."""
        span = f"from={iso(since)}&to={iso(clock.now() + DAY)}&step={DAY // SECOND}"
        try:
            models = self.get(f"devices/{device}/results?{span}")["models"]
        except urllib.error.HTTPError as error:
            if error.code == 404:  # it has not reported yet
                return 0
            raise
        return max((sum(model["rows"]) for model in models), default=0)

    def alerts(self, device: str, since: int) -> list[dict[str, Any]]:
        """Return the device's alerts opened at or after ``since`` (µs), oldest first, of a detector before others."""
        items = self.get(f"alerts?device={device}&limit=100")["items"]
        items.sort(key=lambda item: (item["opened_at"], item["kind"] != "detector"))
        return [item for item in items if clock.parse_iso(item["opened_at"]) >= since]

    def open_alerts(self) -> list[dict[str, Any]]:
        """Return the alerts that are open, oldest first."""
        items: list[dict[str, Any]] = self.get("alerts?state=open&limit=100")["items"]
        return items[::-1]


class House:
    """Everything that runs; :meth:`stop` ends it."""

    def __init__(self, folder: Path, plan: Plan, stop: Stop, progress: Progress) -> None:
        self.folder = folder
        self.plan = plan
        self.stop_asked = stop
        self.progress = progress
        self.children = Children(folder / "output", stop.pause)
        self.server: UpdateServer | None = None
        self.mailbox: Mailbox | None = None
        self.live: Live | None = None
        self.broker = free_port()
        self.start_token = secrets.token_hex(16)
        self.dashboard = Dashboard(f"http://127.0.0.1:{free_port()}/", secrets.token_hex(16))

    @property
    def since(self) -> int:
        """Time (µs) of the first row in the agents' logs."""
        return self.plan.watched[0].time(self.plan.backlog)

    @property
    def start_url(self) -> str:
        """Where a person enters the dashboard; it works once."""
        return f"{self.dashboard.url}start?token={self.start_token}"

    def train(self) -> None:
        """Train on the lake."""
        self.children.run(
            "train", "fieldwatch_trainer", "train", "--lake", str(self.folder / "lake"), "--device-type", TYPE,
            "--out", str(self.folder / "run"), "--budget", str(BUDGET),
        )  # fmt: skip

    def release(self) -> None:
        """Make keys and repository, sign the bundle, put it out for everybody."""
        repository, keys = str(self.folder / "repository"), str(self.folder / "keys")
        self.children.run("release", "fieldwatch_trainer.release", "init", repository, "--keys", keys)
        self.children.run(
            "release", "fieldwatch_trainer.release", "publish", str(self.folder / "run" / "bundle.zip"),
            "--repo", repository, "--keys", keys, "--channel", CHANNEL,
        )  # fmt: skip
        self.server = UpdateServer(self.folder / "repository")

    def serve(self) -> None:
        """Start a mailbox, and the cloud: broker, ingest, store, dashboard, mail."""
        self.mailbox = Mailbox(self.folder / "mailbox")
        config = self.folder / "cloud" / "cloud.toml"
        _write_private(config, toml(self._cloud_config(self.mailbox.port)) + _ROUTES)
        cloud = self.children.start("cloud", "fieldwatch_cloud", "serve", "--config", str(config))
        deadline = time.monotonic() + PATIENCE
        while not self.dashboard.ready():
            cloud.expect_alive()
            if time.monotonic() > deadline:
                raise StageError(
                    f"the dashboard did not answer within {PATIENCE:.0f} s", f"read {cloud.log}", cloud.tail()
                )
            self.stop_asked.pause(0.1)

    def _cloud_config(self, mail: int) -> dict[str, dict[str, object]]:
        """``mail``: the mailbox's port."""
        port = int(self.dashboard.url.rstrip("/").rsplit(":", 1)[1])
        return {
            "store": {"path": (self.folder / "cloud" / "fieldwatch.db").as_posix()},
            "broker": {"port": self.broker},
            "web": {"port": port, "start_token": self.start_token, "api_token": self.dashboard.token},
            "notify": {"url": self.dashboard.url},
            "notify.smtp": {
                "host": "127.0.0.1",
                "port": mail,
                "security": "none",
                "sender": "Fieldwatch <fieldwatch@demo.example>",
            },
            "notify.channels.lab": {"kind": "email", "to": ["lab@demo.example"]},
        }

    def mail_about(self, device: str) -> dict[str, str] | None:
        """Return subject, id and arrival of the newest mail about a device; None until one has come."""
        assert self.mailbox is not None
        for mail in reversed(list(self.mailbox.mails)):
            if f"{device}: " in str(mail["Subject"]):
                return {name.lower(): str(mail[name]) for name in ("Subject", "Message-ID", "Received")}
        return None

    def configure_agent(self, device: Device) -> Path:
        """Write a device's ``agent.toml`` and return its path."""
        assert self.server is not None
        path = self.folder / "agents" / device.name / "agent.toml"
        path.parent.mkdir(parents=True)
        sections: dict[str, dict[str, object]] = {
            "device": {"id": device.name, "type": TYPE},
            "log": {"path": (self.folder / "logs" / device.name / "readings*.csv").as_posix(), "period": "60s"},
            "mqtt": {"url": f"mqtt://127.0.0.1:{self.broker}"},
            "updates": {
                "url": self.server.url,
                "root": (self.folder / "repository" / "root.json").as_posix(),
                "channel": CHANNEL,
                "interval": "1m",
            },
            "state": {"dir": "state"},
            "privacy": {"evidence": "full"},
        }
        path.write_text(toml(sections), encoding="utf-8")
        return path

    def start_agents(self) -> None:
        """Pull the bundle on each device, then start its agent."""
        paths = {device.name: self.configure_agent(device) for device in self.plan.watched}
        pulls = [
            self.children.start(f"update-{name}", "fieldwatch_agent", "update", "--once", "--config", str(path))
            for name, path in paths.items()
        ]
        self.children.wait(*pulls)
        for name, path in paths.items():
            self.children.start(name, "fieldwatch_agent", "run", "--config", str(path))

    def catch_up(self, lines: int) -> None:
        """Wait until the cloud has stored the backlog of ``lines`` lines."""
        self._wait(lambda: self.stored() >= lines, f"{lines} readings of the backlog to be stored")

    def stored(self) -> int:
        """Return how many readings of all watched devices have a stored result."""
        return sum(self.dashboard.stored(device.name, self.since) for device in self.plan.watched)

    def read(self, device: Device) -> int:
        """Return how many lines the device's agent has read, by its own ledger."""
        config = self.folder / "agents" / device.name / "agent.toml"
        status = subprocess.run(
            [sys.executable, "-m", "fieldwatch_agent", "status", "--json", "--config", str(config)],
            capture_output=True, text=True, encoding="utf-8", timeout=PATIENCE, check=False,
        )  # fmt: skip
        if status.returncode != 0:
            raise StageError(f"fieldwatch-agent status of {device.name} failed: {status.stderr.strip()}")
        return sum(day["read"] for day in json.loads(status.stdout)["ledger"])

    def go_live(self, speed: float) -> None:
        """Let the logs grow."""
        first = self.plan.watched[0]
        folder = self.folder / "logs"
        writers = [LogWriter(device, folder / device.name, self.plan.live) for device in self.plan.watched]
        self.live = Live(writers, first.time(self.plan.live), speed)
        self.live.start()

    def wait_for_live(self, lines: int) -> None:
        """Wait until ``lines`` live lines of each device have been written."""
        assert self.live is not None
        written = self.live.written.values()
        self._wait(lambda: min(each.lines for each in written) >= lines, f"{lines} live lines of each device")

    def account(self) -> str:
        """Say how far each device's lines have come: the first number that lags names the stage that is stuck."""
        parts = [child.tail() for child in self.children.running]
        for device in self.plan.watched:
            written = self.live.written[device.name].lines if self.live else 0
            read = _or_unknown(functools.partial(self.read, device))
            stored = _or_unknown(functools.partial(self.dashboard.stored, device.name, self.since))
            parts.append(f"{device.name}: {written} lines written live; with the backlog {read} read, {stored} stored")
        return "\n".join(parts)

    def unfinished(self, seconds: float) -> StageError:
        """Return the error of a demo that has had its time, ``seconds`` since its agents started."""
        return StageError(
            f"not done {seconds:g} s after the agents started",
            "where the numbers above still grow, give this machine more time: --timeout 600; "
            f"else read {self.folder / 'output'}",
            self.account(),
        )

    def expect_alive(self) -> None:
        """Raise where a program or the loggers have ended."""
        self.children.expect_alive()
        if self.live is not None and self.live.error is not None:
            raise StageError(f"the simulated loggers ended: {self.live.error!r}")

    def _wait(self, condition: Callable[[], bool], what: str) -> None:
        """Wait; with a deadline of the whole demo (:attr:`.stop.Stop.deadline`) until then, else for a while."""
        deadline = time.monotonic() + PATIENCE
        while not condition():
            self.expect_alive()
            if self.stop_asked.deadline is None and time.monotonic() > deadline:
                raise StageError(
                    f"waited {PATIENCE:.0f} s for {what}, in vain", f"read {self.folder / 'output'}", self.account()
                )
            self.stop_asked.pause(0.2)

    def stop(self) -> None:
        """End loggers, agents, cloud and update server: the agents first, so that they can say goodbye."""
        if self.live is not None:
            self.live.stop()
        self.children.stop(keep={"cloud"})
        self.children.stop()
        for server in (self.server, self.mailbox):
            if server is not None:
                server.stop()


def _or_unknown(count: Callable[[], int]) -> str:
    """Return a count as text, also where what should tell it is out of order."""
    try:
        return str(count())
    except (StageError, OSError, ValueError, subprocess.SubprocessError) as error:
        return f"an unknown number ({error})"


def _write_private(path: Path, text: str) -> None:
    """Write a file with secrets: only its owner may read it."""
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
