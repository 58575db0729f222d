"""The demo from start to end: build the house, let the logs grow, break something, show where it can be seen.

With ``until_alert`` the last step is a question to the dashboard's API: is there an alert of the broken device that
opened after the fault began? The answer, with what was counted on the way, is one JSON object.
"""

from __future__ import annotations

import time
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fieldwatch_contract import clock
from fieldwatch_contract.clock import parse_iso

from fieldwatch_demo.device import Device, Fault
from fieldwatch_demo.failure import DemoError
from fieldwatch_demo.fleet import fault_truth
from fieldwatch_demo.folder import prepare
from fieldwatch_demo.progress import Progress
from fieldwatch_demo.stages import House, make_plan, write_history
from fieldwatch_demo.stop import Overdue, Stop, Stopped

FIRST_LINES = 5
"""Live lines of each device that are stored before a fault begins."""
FAULT_HOURS = 2.0
SLOW_AFTER = 45.0
"""Seconds from the first fault to a slow one in another device, where the demo runs on."""
NEXT_AFTER = 40.0
"""Seconds without an alert until another device is broken, with ``until_alert``."""
POLL = 0.25


@dataclass(frozen=True)
class Options:
    """What the command line says; ``timeout`` in seconds, from the start of the agents to the alert."""

    devices: int = 3
    speed: float = 60.0
    folder: Path = Path("demo-state")
    open: bool = False
    until_alert: bool = False
    timeout: float = 180.0


def run(options: Options, stop: Stop, progress: Progress) -> tuple[int, dict[str, Any] | None]:
    """Run the demo; return its exit code and, with ``until_alert``, the summary.

    Every child has ended when it returns. Raises :class:`.folder.FolderError` where the folder cannot be used.
    """
    began = time.monotonic()
    with prepare(options.folder):
        house = House(options.folder.resolve(), make_plan(options.devices, options.speed, clock.now()), stop, progress)
        summary = None
        try:
            _build(house, options)
            if not options.until_alert:
                _show(house, options)
            summary = _until_alert(house)
            summary |= {"total_s": round(time.monotonic() - began, 1), "steps_s": progress.seconds}
            return 0, summary
        except Stopped:
            progress.say("\nending")
            return int(options.until_alert), None
        except Overdue:
            return _failed(progress, house.unfinished(options.timeout)), None
        except DemoError as error:
            return _failed(progress, error), None
        except (OSError, ValueError) as error:
            return _failed(progress, DemoError(str(error), f"read {house.folder / 'output'}")), None
        finally:
            house.stop()


def _failed(progress: Progress, error: DemoError) -> int:
    """Tell why; what a person needs comes last."""
    if error.details:
        progress.say(f"\n{error.details}")
    progress.say(f"\nfieldwatch-demo failed at step '{progress.current}': {error}\nremedy: {error.remedy}")
    return 1


def _build(house: House, options: Options) -> None:
    """Everything up to growing logs."""
    step, count = house.progress.step, len(house.plan.watched)
    fleet = house.plan.fleet
    house.progress.say(
        f"Fieldwatch demo: {count} × {fleet.type} with {len(fleet.devices[0].plant.sensors)} sensors in {house.folder}"
    )
    with step("simulate", f"simulate {len(fleet.devices)} devices: logs, lake, ground truth"):
        lines = write_history(house.plan, house.folder)
    with step("train", "train detector and classifier on the lake"):
        house.train()
    with step("release", "make keys, sign and publish the bundle"):
        house.release()
    with step("serve", "start broker, ingest and dashboard"):
        house.serve()
    if options.until_alert:  # setting up and training take what they take
        house.stop_asked.deadline = time.monotonic() + options.timeout
    with step("agents", f"{count} agents: fetch and verify the bundle, start"):
        house.start_agents()
    with step("backlog", f"agents catch up with {lines} lines, cloud stores them"):
        house.catch_up(lines)
    with step("live", f"logs grow, {options.speed:g} × real time"):
        house.go_live(options.speed)
        house.wait_for_live(FIRST_LINES)


def _show(house: House, options: Options) -> None:
    """Keep everything running until it is asked to end, and break something now and then. Never returns."""
    say = house.progress.say
    say(f"\n  dashboard   {house.start_url}   (the link works once)")
    assert house.mailbox is not None
    say(f"  mailbox     {house.mailbox.url}   (what people are told)")
    say(f"  logs        {house.folder / 'logs'}")
    say(f"  output      {house.folder / 'output'}")
    assert house.live is not None
    say(f"  devices     write a line a minute, {options.speed:g} minutes a minute, until their clocks, now at")
    say(f"              {clock.iso(house.live.reached)[:16].replace('T', ' ')} UTC, have caught up with the time")
    say("  Ctrl-C ends everything\n")
    if options.open:
        webbrowser.open(house.start_url)
    sudden = _break(house, house.plan.watched[0], slow=False)
    say(f"  {clock.iso(clock.now())[11:19]}  {_told(*sudden)}")
    slow_at = time.monotonic() + SLOW_AFTER
    slow: tuple[Device, Fault] | None = None
    seen: set[str] = set()
    while True:
        house.stop_asked.pause(1.0)
        house.expect_alive()
        if slow is None and time.monotonic() > slow_at:
            slow = _break(house, house.plan.watched[-1], slow=True)
            say(f"  {clock.iso(clock.now())[11:19]}  {_told(*slow)}")
        for alert in house.dashboard.open_alerts():
            if alert["alert_id"] not in seen:
                seen.add(alert["alert_id"])
                sensors = ", ".join(alert["sensors"][:3])
                say(f"  {clock.iso(clock.now())[11:19]}  alert: {alert['device']}, {alert['model']}: {sensors}")


def _until_alert(house: House) -> dict[str, Any]:
    """Break a device, wait for its alert on the dashboard, and return what was counted.

    A device may be in an alert already, then its fault opens none: where nothing comes, another one is broken too.
    """
    with house.progress.step("alert", "break a device, wait for its alert on the dashboard"):
        taken = {alert["device"] for alert in house.dashboard.open_alerts()}
        whole = sorted(house.plan.watched, key=lambda device: device.name in taken)
        broken: list[tuple[Device, Fault]] = []
        again = 0.0
        while True:
            if whole and time.monotonic() > again:
                broken.append(_break(house, whole.pop(0), slow=False))
                house.progress.current = f"wait for an alert of {_told(*broken[-1])}"
                again = time.monotonic() + NEXT_AFTER
            found = next(((each, alerts[0]) for each in broken if (alerts := _alerts(house, *each))), None)
            if found is not None:
                break
            house.expect_alive()
            house.stop_asked.pause(POLL)
        seen = time.time()
    (device, fault), alert = found
    with house.progress.step("mail", "wait for the mail about it in the mailbox"):
        while (mail := house.mail_about(device.name)) is None:
            house.expect_alive()
            house.stop_asked.pause(POLL)
    opened = parse_iso(house.dashboard.get(f"alerts/{alert['alert_id']}")["transitions"][0]["ts"])
    return {
        "devices": len(house.plan.watched),
        "results_stored": house.stored(),
        "lines_read": sum(house.read(each) for each in house.plan.watched),
        "alerts": len(house.dashboard.get("alerts?limit=1000")["items"]),
        "fault_to_dashboard_s": _since(house, device, device.time(fault.start), seen),
        "line_to_dashboard_s": _since(house, device, opened, seen),
        "alert": {
            key: alert[key]
            for key in ("alert_id", "device", "model", "severity", "state", "opened_at", "score", "threshold", "bundle")
        }
        | {"sensors": alert["sensors"][:10]},
        "mail": mail,
        "fault": fault_truth(device, fault),
        "sensors_right": len(set(alert["sensors"][: len(fault.sensors)]) & set(fault.sensors)),
    }


def _alerts(house: House, device: Device, fault: Fault) -> list[dict[str, Any]]:
    """Return the alerts of a broken device since its fault began."""
    return house.dashboard.alerts(device.name, device.time(fault.start))


def _break(house: House, device: Device, slow: bool) -> tuple[Device, Fault]:
    """Let a fault begin with the device's next line."""
    assert house.live is not None
    kind = next(kind for kind in device.plant.faults if kind.slow == slow)
    return device, house.live.inject(device.name, kind, sum(kind.hours) / 2 if slow else FAULT_HOURS)


def _since(house: House, device: Device, ts: int, seen: float) -> float | None:
    """Return the seconds from the writing of the line of ``ts`` to ``seen``."""
    assert house.live is not None
    written = house.live.written_at(device.name, ts)
    return None if written is None else round(seen - written, 2)


def _told(device: Device, fault: Fault) -> str:
    how = "a slow fault begins" if fault.kind.slow else "a sudden fault"
    return f"{how} in {device.name}: {fault.kind.name} ({', '.join(fault.sensors[:3])})"
