"""``make load``: run it, print what was measured under which conditions, exit 3 where a promise was not kept."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from email.utils import parseaddr
from pathlib import Path
from typing import Any

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the agent's code imports onnxruntime

from bench.load.devices import Device, Fleet
from bench.load.judge import MAIL_S, PAGE_S, Delays, lost, median
from bench.load.people import Browser, Listener, Onlooker, Reader, looking
from bench.load.programs import SITE, Post, broker, cloud, site_of
from bench.rounds import conditions
from tests.conftest import find_chromium

DONE, FAILED, USAGE, MISSED = 0, 1, 2, 3
SETTLE_S = 60.0
"""How long after the last alert the rest may take to arrive; what has not come by then is lost."""
AT_MOST = 3
"""Alerting devices of a site: with both models that is below a channel's limit of ten messages in ten minutes."""


@dataclass(frozen=True)
class Plan:
    """How much load, for how long. ``seconds``: in which alerts open at random times."""

    devices: int
    seconds: float
    alerts: int
    listeners: int
    readers: int
    browser: bool


def run(plan: Plan, folder: Path) -> dict[str, Any]:
    """Run it and return what was measured. Raises :class:`RuntimeError` where it could not be measured."""
    rng = random.Random(7)
    with contextlib.ExitStack() as stack:
        post = Post(folder)
        stack.callback(post.stop)
        mosquitto, port = stack.enter_context(broker(folder))
        served, door = stack.enter_context(cloud(folder, plan.devices, port, post))
        fleet = stack.enter_context(Fleet(plan.devices, port))
        _wait(lambda: fleet.connected == plan.devices, "all devices to connect", fleet)
        listeners = [Listener(door) for _ in range(plan.listeners)]
        pages = ["/", "/devices/load-0001", "/incidents", "/alerts", "/devices/load-0002"]
        readers = [Reader(door, pages[n:] + pages[:n], 1.0) for n in range(plan.readers)]
        waiting = Reader(door, ["/incidents"], 0.25)
        browser = Browser(door) if plan.browser else None
        onlookers: list[Onlooker] = [*listeners, *readers, waiting, *([browser] if browser else [])]
        with looking(onlookers):
            if browser is not None:
                _wait(browser.ready.is_set, "the browser", fleet, browser)
            began, spent = time.monotonic(), served.cpu
            chosen = _chosen(fleet.devices, plan.alerts, rng)
            for due, device in sorted(
                zip((rng.random() * plan.seconds for _ in chosen), chosen, strict=True), key=lambda one: one[0]
            ):
                _pause(began + due, fleet, onlookers)
                fleet.order(device.alert)
            _pause(began + plan.seconds, fleet, onlookers)
            load = (served.cpu - spent) / (time.monotonic() - began)
            memory = served.memory
            told = {one.name for one in chosen}
            _wait(lambda: told <= waiting.seen.at.keys() and told <= post.first.keys(), "", fleet)
        for one in fleet.devices:
            one.due = float("inf")
        _wait(lambda: not any(one.open for one in fleet.devices), "", fleet)
        for one in fleet.devices:
            fleet.order(one.last_report)
        time.sleep(1.0)
        _wait(lambda: not any(one.open for one in fleet.devices), "", fleet)
        shares = {"server": load, "broker": mosquitto.cpu / (time.monotonic() - began)}
    alerts = {alert: at for one in fleet.devices for alert, at in one.sent.alerts.items()}
    first = {one.name: min(one.sent.alerts.values()) for one in fleet.devices if one.sent.alerts}
    counts, wrong = lost(folder / "fieldwatch.db", fleet.devices, {_id(one) for one in post.taken})
    delays = {
        "alert → event on each of the open streams": [Delays.of(alerts, one.seen.at) for one in listeners],
        "alert → in a page that is read again": [Delays.of(first, waiting.seen.at)],
        "alert → in Chromium’s page, which follows": [Delays.of(first, browser.seen.at)] if browser else [],
        "alert → in the mailbox": [Delays.of(first, post.first)],
    }
    took = [seconds for one in readers for seconds in one.took]
    return {
        "counts": counts,
        "wrong": wrong,
        "delays": {what: max(some, key=lambda one: one.within(0.95)) for what, some in delays.items() if some},
        "pages": f"{len(took)} loads, median {median(took):.2f} s, p95 {Delays(sorted(took), 0).within(0.95):.2f} s",
        "acknowledged": max(one.slowest for one in fleet.devices),
        "shares": shares,
        "memory": memory,
    }  # fmt: skip


def _chosen(devices: Sequence[Device], count: int, rng: random.Random) -> list[Device]:
    """Choose the devices that alert, a few of each site."""
    order = rng.sample(range(len(devices)), len(devices))
    found: list[Device] = []
    taken: dict[int, int] = {}
    for number in order:
        if len(found) < count and taken.get(site_of(number), 0) < AT_MOST:
            taken[site_of(number)] = taken.get(site_of(number), 0) + 1
            found.append(devices[number])
    return found


def _id(mail: Any) -> str:
    return parseaddr(str(mail["Message-ID"]))[1].partition("@")[0].partition(".")[0]


def _check(fleet: Fleet, onlookers: Sequence[Onlooker]) -> None:
    for name, error in [("fleet", fleet.error), *((type(one).__name__.lower(), one.error) for one in onlookers)]:
        if error is not None:
            raise RuntimeError(f"{name}: {error}") from error


def _pause(until: float, fleet: Fleet, onlookers: Sequence[Onlooker]) -> None:
    while (left := until - time.monotonic()) > 0:
        _check(fleet, onlookers)
        time.sleep(min(0.2, left))


def _wait(done: Callable[[], bool], what: str, fleet: Fleet, *onlookers: Onlooker) -> None:
    """Wait; with ``what`` its absence ends the run, without it is for the judgement."""
    end = time.monotonic() + SETTLE_S
    while not done():
        _check(fleet, onlookers)
        if time.monotonic() > end:
            if what:
                raise RuntimeError(f"waited {SETTLE_S:.0f} s in vain for {what}")
            return
        time.sleep(0.1)


def missed(found: dict[str, Any]) -> list[str]:
    """Return the promises that were not kept."""
    says = list(found["wrong"])
    for what, delays in found["delays"].items():
        limit = MAIL_S if "mailbox" in what else PAGE_S
        if delays.within(0.95) > limit:
            says.append(f"{what}: {delays}; promised p95 ≤ {limit:.0f} s")
    return says


def table(plan: Plan, found: dict[str, Any]) -> str:
    """Write it for people."""
    facts = conditions()
    shares = ", ".join(f"{name} {share:.0%}" for name, share in found["shares"].items())
    rows = [
        ("load", f"{plan.devices:,} devices of 100 sensors, two models, a reading and a health report a minute each"),
        ("", f"{plan.alerts} devices alert in {plan.seconds:.0f} s"),
        ("who looks on", f"{plan.listeners} event streams, {plan.readers} readers of a page a second"),
        ("machine", f"{facts['processor']}, {facts['cores']} cores, load {facts['load']}; all programs on it"),
        *((what, str(delays)) for what, delays in found["delays"].items()),
        ("event → acknowledged to its device", f"most {found['acknowledged']:.2f} s"),
        ("page loads meanwhile", found["pages"]),
        ("CPU, of one core", shares),
        ("memory of the server", f"{found['memory']} MiB"),
        ("stored", ", ".join(f"{count:,} {name}" for name, count in found["counts"].items())),
        ("lost", "nothing" if not found["wrong"] else "; ".join(found["wrong"])),
    ]  # fmt: skip
    return "\n".join(["| | |", "|---|---|", *(f"| {what} | {says} |" for what, says in rows)])


def main(argv: Sequence[str] | None = None) -> int:
    """Run; 0 all promises kept, 1 could not be measured, 2 wrong usage, 3 a promise was not kept."""
    parser = argparse.ArgumentParser(prog="python -m bench.load", description=__doc__, epilog="example: make load")
    parser.add_argument("--devices", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=240.0, help="how long alerts open at random times")
    parser.add_argument("--alerts", type=int, default=45, help="devices that open one of each model; below 50")
    parser.add_argument("--listeners", type=int, default=8, help="event streams besides the browser's")
    parser.add_argument("--readers", type=int, default=4, help="of one page a second each")
    parser.add_argument("--no-browser", action="store_true", help="without Chromium")
    parser.add_argument("--keep", type=Path, help="folder for store and logs; default: a temporary one")
    options = parser.parse_args(argv)
    if not 2 < options.devices <= 10_000 or options.seconds <= 0:
        parser.error("--devices must be 3 to 10000, --seconds more than 0")
    if not 0 < options.alerts <= AT_MOST * -(-options.devices // SITE):
        parser.error(f"--alerts must be 1 to {AT_MOST} for each {SITE} devices: a mailbox's limit must not hold them")
    browser = not options.no_browser
    if browser and find_chromium() is None:
        print("Chromium is not on the PATH: install it, or say --no-browser", file=sys.stderr)
        return FAILED
    plan = Plan(options.devices, options.seconds, options.alerts, options.listeners, options.readers, browser)
    try:
        with contextlib.ExitStack() as stack:
            folder = options.keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fieldwatch-load-")))
            folder.mkdir(parents=True, exist_ok=True)
            found = run(plan, folder)
    except (RuntimeError, OSError) as error:
        print(f"not measured: {error}", file=sys.stderr)
        return FAILED
    print(table(plan, found))
    if says := missed(found):
        print("\n".join(f"missed: {one}" for one in says), file=sys.stderr)
        return MISSED
    return DONE


if __name__ == "__main__":
    sys.exit(main())
