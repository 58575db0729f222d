"""Starts a service; prints, as JSON, after how many seconds it said RUNNING and after how many it had loaded a library;
``early``: whether the library was seen in its program before it had said RUNNING.

``python starts.py SERVICE PROGRAM LIBRARY PATIENCE``. It looks for the library first and for the state then: where
RUNNING comes before the library, no pause between the two looks can make it seem otherwise.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from typing import Any

import pywintypes
import win32api
import win32con
import win32process
import win32security
import win32service


def may_look() -> None:
    """Into the processes of other accounts: administrators may, once they have asked."""
    wanted = win32security.LookupPrivilegeValue(None, win32con.SE_DEBUG_NAME)
    rights = win32security.TOKEN_ADJUST_PRIVILEGES | win32security.TOKEN_QUERY
    token = win32security.OpenProcessToken(win32api.GetCurrentProcess(), rights)
    win32security.AdjustTokenPrivileges(token, False, [(wanted, win32con.SE_PRIVILEGE_ENABLED)])


def modules(process: int) -> list[str]:
    """The files that a process has loaded, its program first; none where it cannot be seen or is being made."""
    try:
        handle = win32api.OpenProcess(win32con.PROCESS_QUERY_INFORMATION | win32con.PROCESS_VM_READ, False, process)
    except pywintypes.error:
        return []
    try:
        found = win32process.EnumProcessModules(handle)
        return [win32process.GetModuleFileNameEx(handle, each).lower() for each in found]
    except pywintypes.error:
        return []
    finally:
        handle.Close()


def has(program: str, library: str) -> bool:
    """Whether a process of the program has the library. The service manager may tell its number only when it runs."""
    for process in win32process.EnumProcesses():
        loaded = modules(process)
        if loaded and loaded[0].endswith(program) and any(each.endswith(library) for each in loaded):
            return True
    return False


def main() -> None:
    service, program, library, patience = *sys.argv[1:4], float(sys.argv[4])
    may_look()
    manager = win32service.OpenSCManager(None, None, win32service.SC_MANAGER_CONNECT)
    handle = win32service.OpenService(manager, service, win32service.SERVICE_QUERY_STATUS)
    begun = time.monotonic()
    quiet = subprocess.DEVNULL  # in a process of its own, as the call waits for a while and lets nobody else work
    starting = subprocess.Popen(["sc", "start", service], stdin=quiet, stdout=quiet, stderr=quiet)
    told: dict[str, Any] = {"running": None, "loaded": None, "early": False}
    while (told["running"] is None or told["loaded"] is None) and time.monotonic() < begun + patience:
        loaded = has(program, library)
        running = win32service.QueryServiceStatusEx(handle)["CurrentState"] == win32service.SERVICE_RUNNING
        passed = round(time.monotonic() - begun, 2)
        if running and told["running"] is None:
            told["running"] = passed
        if loaded and told["loaded"] is None:
            told["loaded"] = passed
        told["early"] = told["early"] or (loaded and not running)
        time.sleep(0.01)
    starting.wait()
    print(json.dumps(told))


main()
