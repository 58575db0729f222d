"""``service`` on Windows: makes the program a service, one for each configuration, and undoes it.

The default configuration's service is :data:`.places.SERVICE`; another's is called after its device, so that one
installation serves several instruments. It needs an administrator.

| done by ``install`` | undone by |
|---|---|
| the service: starts with Windows (delayed), restarted after 5, 30 and then 60 s | ``uninstall`` |
| its account ``NT SERVICE\\<name>``, which has no password and exists as long as the service | ``uninstall`` |
| a source in the event log, Application | ``uninstall`` |
| rights on the folders of configuration (the service reads it) and state | removing the folders: results are in them |

Windows quotes what it runs: a path with blanks and no quotes would let ``C:\\Program.exe`` run as the service.
"""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath, PureWindowsPath
from typing import TYPE_CHECKING

from fieldwatch_agent import places, system
from fieldwatch_agent.places import ServiceError

if TYPE_CHECKING:
    from fieldwatch_agent.config import Config

DISPLAY = "Fieldwatch agent"


def name_of(config: Path, device: str) -> str:
    """Return the name of the service that runs a configuration."""
    return places.SERVICE if config == places.config_file() else f"{places.SERVICE}-{device}"


def command_line(program: Sequence[str], config: PurePath) -> str:
    """Return what Windows runs, the program always in quotes."""
    rest = subprocess.list2cmdline([*program[1:], "service", "run", "--config", str(config)])
    return f'"{program[0]}" {rest}'


def other(command: str | None, config: PureWindowsPath) -> str:
    """Return the configuration that a service runs if it is not ours; "" where it is, or there is no service (None)."""
    runs = (command or "").partition(" --config ")[2].strip('"')
    return runs if runs and PureWindowsPath(runs) != config else ""


def rights(service: str, config: PurePath, state: PurePath) -> list[list[str]]:
    """Return the calls of ``icacls`` that give each folder to who needs it, and to nobody else.

    Where the one folder holds the other, the outer one comes first: what it passes on is replaced in the inner one.
    """
    folders = {config.parent: "RX"} | {state: "M"} | {state / "identity": "M"}
    return [
        places.icacls(folder, {places.sid_of(service): folders[folder]})
        for folder in sorted(folders, key=lambda folder: len(folder.parts))
    ]


def install(config: Path | None = None, every: bool = False) -> Iterator[str]:
    """Install and start the service; yield each thing that was done. Raises :class:`ServiceError`.

    ``every``: one for each configuration beside the default one's folder, as after an upgrade.
    """
    if every:
        for path in sorted(places.config_file().parent.parent.glob(f"*/{places.config_file().name}")):
            yield from _install(path)
    else:
        yield from _install((config or places.config_file()).absolute())


def _install(path: Path) -> Iterator[str]:
    from fieldwatch_agent import windows_manager as manager
    from fieldwatch_agent.service import own_command  # it brings all libraries along; the other verbs are quick

    told = _load(path)
    service = name_of(path, told.device.id)
    command = command_line(own_command(), path)
    (told.state.dir / "identity").mkdir(parents=True, exist_ok=True)
    with manager.refusals():
        runs = other(manager.command_of(service), PureWindowsPath(path))
        if runs and Path(runs).exists():  # else it was moved here
            raise ServiceError(
                f"the service {service} runs {runs}: two instruments on one PC need two ids; correct [device] id in "
                f"one of the two, or run 'fieldwatch-agent service uninstall --config {runs}' first"
            )
        yield from manager.create(service, command, f"{DISPLAY} ({told.device.id})")
    for call in rights(service, path, told.state.dir):
        _call(call)
        yield f"rights of {call[1]}"
    with manager.refusals():
        manager.start(service)
    yield f"the service {service} runs; it starts with this computer"


def uninstall(config: Path | None = None, every: bool = False) -> Iterator[str]:
    """Stop and remove the service, or ``every`` instrument's; raises :class:`ServiceError`."""
    from fieldwatch_agent import windows_manager as manager

    with manager.refusals():
        for service in _chosen(config, every):
            manager.remove(service)
            yield f"the service {service} is stopped and removed, its account and its source in the event log with it"
    yield "kept: configuration and state; see docs/install-windows.md for removing them"


def control(verb: str, config: Path | None = None, every: bool = False) -> Iterator[str]:
    """``start`` or ``stop``; raises :class:`ServiceError`."""
    from fieldwatch_agent import windows_manager as manager

    with manager.refusals():
        for service in _chosen(config, every):
            if verb == "start":
                manager.start(service)
                yield f"the service {service} runs"
            else:
                manager.stop(service)
                yield f"the service {service} is stopped, until this computer starts again"


def state(config: Path | None = None) -> tuple[bool, str]:
    """Return whether the service runs, and in words what it does. Raises :class:`ServiceError`."""
    from fieldwatch_agent import windows_manager as manager

    with manager.refusals():
        return manager.state(_service_of((config or places.config_file()).absolute()))


def _load(path: Path) -> Config:
    from fieldwatch_agent.config import ConfigError, load

    if not path.exists():
        raise ServiceError(f"{path} is not there: run 'fieldwatch-agent setup' first, as an administrator")
    try:
        return load(path)
    except ConfigError as error:
        raise ServiceError(str(error)) from error


def _chosen(config: Path | None, every: bool) -> list[str]:
    from fieldwatch_agent import windows_manager as manager

    return manager.installed() if every else [_service_of((config or places.config_file()).absolute())]


def _service_of(path: Path) -> str:
    return places.SERVICE if path == places.config_file() else name_of(path, _load(path).device.id)


def _call(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, check=False)
    except OSError as error:
        raise ServiceError(f"{command[0]}: {error.strerror or error}") from error
    if done.returncode != 0:
        told = system.printed(done.stderr or done.stdout)
        raise ServiceError(f"{subprocess.list2cmdline(command)}: {told}")
