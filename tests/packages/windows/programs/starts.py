"""Starts a service; prints, as JSON, after how many seconds it said RUNNING and after how many it had loaded a library;
``early``: whether the library was seen in a process that had not said RUNNING.

``python starts.py SERVICE LIBRARY PATIENCE``. It looks for the library first and for the state then: where RUNNING
comes before the library, no pause between the two looks can make it seem otherwise.
"""

from __future__ import annotations

import json
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


def has(process: int, library: str) -> bool:
    try:
        handle = win32api.OpenProcess(win32con.PROCESS_QUERY_INFORMATION | win32con.PROCESS_VM_READ, False, process)
    except pywintypes.error:
        return False
    try:
        modules = win32process.EnumProcessModules(handle)
        names = [win32process.GetModuleFileNameEx(handle, each) for each in modules]
    except pywintypes.error:
        return False  # it is only just being made
    finally:
        handle.Close()
    return any(name.lower().endswith(library) for name in names)


def main() -> None:
    service, library, patience = sys.argv[1], sys.argv[2], float(sys.argv[3])
    may_look()
    manager = win32service.OpenSCManager(None, None, win32service.SC_MANAGER_CONNECT)
    handle = win32service.OpenService(manager, service, win32service.SERVICE_START | win32service.SERVICE_QUERY_STATUS)
    begun = time.monotonic()
    win32service.StartService(handle, None)
    told: dict[str, Any] = {"running": None, "loaded": None, "early": False}
    while (told["running"] is None or told["loaded"] is None) and time.monotonic() < begun + patience:
        process = win32service.QueryServiceStatusEx(handle)["ProcessId"]
        loaded = bool(process) and has(process, library)
        running = win32service.QueryServiceStatusEx(handle)["CurrentState"] == win32service.SERVICE_RUNNING
        passed = round(time.monotonic() - begun, 2)
        if running and told["running"] is None:
            told["running"] = passed
        if loaded and told["loaded"] is None:
            told["loaded"] = passed
        told["early"] = told["early"] or (loaded and not running)
        time.sleep(0.01)
    print(json.dumps(told))


main()
