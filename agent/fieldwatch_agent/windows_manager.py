"""Every call of pywin32: Windows' service manager, seen from the commands and from within the service.

The rules are in :mod:`.windows_service` and :mod:`.windows_host`. Nothing here runs anywhere but on Windows.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pywintypes
import servicemanager
import win32api
import win32con
import win32event
import win32evtlogutil
import win32service
import win32serviceutil
import winerror

from fieldwatch_agent.places import SERVICE, ServiceError
from fieldwatch_agent.windows_host import HINT_MS, Hosted

ERROR_FAILED_SERVICE_CONTROLLER_CONNECT = 1063
"""It was a person who started the service's command."""
DESCRIPTION = "Scores the device's log on the spot and sends results and alerts."
RESTARTS_S = (5, 30, 60)
"""Pauses before a service that ended by itself is started again; the last one holds from then on."""
FORGET_S = 86_400
"""Without a failure for so long, the first pause comes again."""
PRESHUTDOWN_MS = 30_000
PATIENCE_S = 40.0
EVENT_LENGTH = 30_000
"""Most characters of a record in the event log; Windows refuses one of 31,840."""
REMEDIES = {
    winerror.ERROR_ACCESS_DENIED: "this needs an administrator: open the terminal with 'Run as administrator'",
    winerror.ERROR_SERVICE_DOES_NOT_EXIST: "the service is not installed: fieldwatch-agent service install",
    winerror.ERROR_SERVICE_MARKED_FOR_DELETE: "the service is being removed: close the list of services, try again",
    winerror.ERROR_SERVICE_DISABLED: "the service is disabled: somebody has set its start type",
}
STATES = {
    win32service.SERVICE_STOPPED: "stopped",
    win32service.SERVICE_START_PENDING: "starting",
    win32service.SERVICE_STOP_PENDING: "stopping",
    win32service.SERVICE_RUNNING: "running",
}
STARTS = {
    win32service.SERVICE_AUTO_START: "starts with Windows",
    win32service.SERVICE_DEMAND_START: "is started by hand",
    win32service.SERVICE_DISABLED: "is disabled",
}


@contextmanager
def refusals() -> Iterator[None]:
    """Turn Windows' errors into :class:`.ServiceError`."""
    try:
        yield
    except pywintypes.error as error:
        raise ServiceError(REMEDIES.get(error.winerror, f"{error.funcname}: {error.strerror}")) from error


@contextmanager
def connected(access: int) -> Iterator[Any]:
    """Open the service manager."""
    manager = win32service.OpenSCManager(None, None, access)
    try:
        yield manager
    finally:
        win32service.CloseServiceHandle(manager)


@contextmanager
def opened(service: str, access: int) -> Iterator[Any]:
    """Open a service."""
    with connected(win32service.SC_MANAGER_CONNECT) as manager:
        handle = win32service.OpenService(manager, service, access)
        try:
            yield handle
        finally:
            win32service.CloseServiceHandle(handle)


def create(service: str, command: str, display: str) -> Iterator[str]:
    """Make or correct the service, and its source in the event log; yield what was done."""
    kind, start, tell = (
        win32service.SERVICE_WIN32_OWN_PROCESS, win32service.SERVICE_AUTO_START, win32service.SERVICE_ERROR_NORMAL,
    )  # fmt: skip
    account = rf"NT SERVICE\{service}"
    with connected(win32service.SC_MANAGER_CONNECT | win32service.SC_MANAGER_CREATE_SERVICE) as manager:
        try:
            handle = win32service.CreateService(
                manager, service, display, win32service.SERVICE_ALL_ACCESS, kind, start, tell, command,
                None, False, None, account, None,
            )  # fmt: skip
        except pywintypes.error as error:
            if error.winerror != winerror.ERROR_SERVICE_EXISTS:
                raise
            handle = win32service.OpenService(manager, service, win32service.SERVICE_ALL_ACCESS)
            win32service.ChangeServiceConfig(
                handle, kind, start, tell, command, None, False, None, account, None, display
            )
        try:
            yield f"service {service}: {command}"
            yield from configure(handle)
        finally:
            win32service.CloseServiceHandle(handle)
    win32evtlogutil.AddSourceToRegistry(service, servicemanager.__file__, "Application")
    yield f"event log: Application, source {service}"


def configure(handle: Any) -> Iterator[str]:
    """Set what Windows does with the service; yield what this system does not know."""
    restart = win32service.SC_ACTION_RESTART
    settings = {
        "description": (win32service.SERVICE_CONFIG_DESCRIPTION, DESCRIPTION),
        "restart": (win32service.SERVICE_CONFIG_FAILURE_ACTIONS, {
            "ResetPeriod": FORGET_S, "RebootMsg": "", "Command": "",
            "Actions": [(restart, pause * 1000) for pause in RESTARTS_S],
        }),
        "restart after an exit code": (win32service.SERVICE_CONFIG_FAILURE_ACTIONS_FLAG, True),
        "delayed start": (win32service.SERVICE_CONFIG_DELAYED_AUTO_START_INFO, True),
        "account in rights": (win32service.SERVICE_CONFIG_SERVICE_SID_INFO,
                              win32service.SERVICE_SID_TYPE_UNRESTRICTED),
        "time at shutdown": (win32service.SERVICE_CONFIG_PRESHUTDOWN_INFO, PRESHUTDOWN_MS),
    }  # fmt: skip
    for name, (level, value) in settings.items():
        try:
            win32service.ChangeServiceConfig2(handle, level, value)
        except pywintypes.error as error:
            if error.winerror != winerror.ERROR_INVALID_LEVEL:  # Wine's: no Windows of today
                raise
            yield f"not known to this system: {name}"


def command_of(service: str) -> str | None:
    """Return what a service runs; None where there is no such service."""
    try:
        with opened(service, win32service.SERVICE_QUERY_CONFIG) as handle:
            return str(win32service.QueryServiceConfig(handle)[3])
    except pywintypes.error as error:
        if error.winerror != winerror.ERROR_SERVICE_DOES_NOT_EXIST:
            raise
        return None


def remove(service: str) -> None:
    """Stop the service and take it away, and its source in the event log."""
    with opened(service, win32service.SERVICE_ALL_ACCESS) as handle:
        ask_to_stop(handle)
        win32service.DeleteService(handle)
    try:
        win32evtlogutil.RemoveSourceFromRegistry(service, "Application")
    except pywintypes.error as error:
        if error.winerror != winerror.ERROR_FILE_NOT_FOUND:
            raise


def installed() -> list[str]:
    """Return the names of all instruments' services."""
    with connected(win32service.SC_MANAGER_CONNECT | win32service.SC_MANAGER_ENUMERATE_SERVICE) as manager:
        found = win32service.EnumServicesStatus(manager, win32service.SERVICE_WIN32, win32service.SERVICE_STATE_ALL)
    names = [str(each[0]) for each in found]
    return [name for name in names if name == SERVICE or name.startswith(f"{SERVICE}-")]


def start(service: str) -> None:
    """Start the service and wait until it runs."""
    with opened(service, win32service.SERVICE_START | win32service.SERVICE_QUERY_STATUS) as handle:
        try:
            win32service.StartService(handle, None)
        except pywintypes.error as error:
            if error.winerror != winerror.ERROR_SERVICE_ALREADY_RUNNING:
                raise
        wait_for(handle, win32service.SERVICE_RUNNING)


def stop(service: str) -> None:
    """Stop the service and wait until it has ended."""
    with opened(service, win32service.SERVICE_STOP | win32service.SERVICE_QUERY_STATUS) as handle:
        ask_to_stop(handle)


def ask_to_stop(handle: Any) -> None:
    """Stop a service and wait until its process has ended, which is a moment after it has said so.

    Until then its libraries are in use, and an installer that removes them now would leave them behind.
    """
    process = process_of(handle)
    try:
        win32service.ControlService(handle, win32service.SERVICE_CONTROL_STOP)
    except pywintypes.error as error:
        if error.winerror != winerror.ERROR_SERVICE_NOT_ACTIVE:
            raise
    wait_for(handle, win32service.SERVICE_STOPPED)
    if process is not None:
        win32event.WaitForSingleObject(process, int(PATIENCE_S * 1000))


def process_of(handle: Any) -> Any:
    """Return a handle on the service's process, closed when it is given up; None where there is none.

    None also where only the system may wait for it, as the installer does, and not who stops a service by hand: the
    process is another account's.
    """
    number = win32service.QueryServiceStatusEx(handle)["ProcessId"]
    try:
        return win32api.OpenProcess(win32con.SYNCHRONIZE, False, number)
    except pywintypes.error as error:
        if error.winerror not in {winerror.ERROR_INVALID_PARAMETER, winerror.ERROR_ACCESS_DENIED}:
            raise
        return None


def wait_for(handle: Any, wanted: int) -> None:
    """Wait for a state. Raises :class:`.ServiceError`."""
    end = time.monotonic() + PATIENCE_S
    while (now := win32service.QueryServiceStatusEx(handle)["CurrentState"]) != wanted:
        if time.monotonic() > end:
            raise ServiceError(
                f"the service is {STATES.get(now, now)} for {PATIENCE_S:.0f} s; the event log says why: "
                "Event Viewer, Windows Logs, Application"
            )
        time.sleep(0.1)


def state(service: str) -> tuple[bool, str]:
    """Return whether the service runs, and in words what it does."""
    try:
        with opened(service, win32service.SERVICE_QUERY_STATUS | win32service.SERVICE_QUERY_CONFIG) as handle:
            status = win32service.QueryServiceStatusEx(handle)
            start = win32service.QueryServiceConfig(handle)[1]
    except pywintypes.error as error:
        if error.winerror != winerror.ERROR_SERVICE_DOES_NOT_EXIST:
            raise
        return False, f"{service}: not installed: fieldwatch-agent service install"
    runs = status["CurrentState"] == win32service.SERVICE_RUNNING
    process = f", process {status['ProcessId']}" if runs else ""
    words = STATES.get(status["CurrentState"], "changing")
    return runs, f"{service}: {words}{process}, {STARTS.get(start, 'starts otherwise')}"


class Host(win32serviceutil.ServiceFramework):  # type: ignore[misc]
    """What pywin32 calls. A process of one service has the name of its service, whatever stands here."""

    _svc_name_ = SERVICE
    config: Path

    def __init__(self, arguments: list[str]) -> None:
        super().__init__(arguments)
        servicemanager.SetEventSourceName(arguments[0])
        self._hosted = Hosted(self.config, self._still_stopping, self._has_stopped, self._tell)

    def GetAcceptedControls(self) -> int:
        """Take a stop, and a shutdown before the others."""
        return int(win32service.SERVICE_ACCEPT_STOP | win32service.SERVICE_ACCEPT_PRESHUTDOWN)

    def SvcDoRun(self) -> None:
        """Run; RUNNING has been said."""
        servicemanager.LogInfoMsg(f"The agent starts with {self.config}")
        self._hosted.run()
        servicemanager.LogInfoMsg("The agent has stopped, as it was asked to")

    def SvcStop(self) -> None:
        """Ask it to end."""
        self._hosted.stop()

    def SvcOtherEx(self, control: int, event: int, data: object) -> int:
        """Ask it to end when Windows shuts down."""
        if control == win32service.SERVICE_CONTROL_PRESHUTDOWN:
            self._hosted.stop()
            return 0
        return int(winerror.ERROR_CALL_NOT_IMPLEMENTED)

    def SvcInterrogate(self) -> None:
        """Windows repeats what was said last; pywin32 would say RUNNING, also while it stops."""

    def _still_stopping(self) -> None:
        self.ReportServiceStatus(win32service.SERVICE_STOP_PENDING, waitHint=HINT_MS)

    def _has_stopped(self) -> None:
        self.ReportServiceStatus(win32service.SERVICE_STOPPED)

    def _tell(self, words: str) -> None:
        with suppress(pywintypes.error):  # a log that is full must not keep it from ending as it should
            servicemanager.LogErrorMsg(words[:EVENT_LENGTH])


def serve(config: Path) -> None:
    """Be the service until it has stopped. Raises :class:`.ServiceError` where a person has started this."""
    Host.config = config
    # who logs off ends programs, not services
    win32api.SetConsoleCtrlHandler(lambda kind: kind == win32con.CTRL_LOGOFF_EVENT, True)
    servicemanager.Initialize()
    servicemanager.PrepareToHostSingle(Host)
    try:
        servicemanager.StartServiceCtrlDispatcher()
    except pywintypes.error as error:
        if error.winerror != ERROR_FAILED_SERVICE_CONTROLLER_CONNECT:
            raise
        raise ServiceError(
            "this is what Windows starts: 'fieldwatch-agent service start', or 'run' in a window"
        ) from error
