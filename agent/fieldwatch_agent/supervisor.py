"""Tells who looks after the service that its loop lives, and what it does, so that a loop that hangs is started again.

What is told is a :class:`Manager`'s methods: the loop calls :meth:`Manager.beat` once a round, at least once a second,
and nothing else is a sign of life. Who listens:

=======================  ===================================================================================
systemd                  :class:`Supervisor` speaks its notification protocol (sd_notify(3)): ``READY=1`` when
                         the loop begins, ``WATCHDOG=1`` at least twice in the time the unit allows
                         (``WATCHDOG_USEC``), and a status line for ``systemctl status``
Windows                  :mod:`.watchdog`, within this process: its service manager has nothing like that
nobody (``run`` in a     nothing happens
terminal)
=======================  ===================================================================================
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Mapping
from typing import Protocol

LONGEST_S = 300.0
"""Seconds that a round of the loop may take; the unit's ``WatchdogSec`` is the same. The longest rounds that are no
hang load a bundle, fold a block of a long log, or wait for a share that has vanished: minutes on a slow PC."""


class Manager(Protocol):
    """Who looks after the service."""

    def ready(self) -> None:
        """The service has started."""

    def beat(self) -> None:
        """The loop makes progress."""

    def status(self, text: str) -> None:
        """What the service does, in one line."""

    def stopping(self) -> None:
        """The service ends on purpose."""


class Supervisor:
    """One service's line to systemd."""

    def __init__(self, environ: Mapping[str, str] = os.environ) -> None:
        self._address = environ.get("NOTIFY_SOCKET", "")
        allowed = environ.get("WATCHDOG_USEC", "")
        ours = environ.get("WATCHDOG_PID") in {None, str(os.getpid())}
        self._every = int(allowed) / 2e6 if allowed.isdecimal() and ours else None
        self._next = 0.0
        self._status = ""

    def ready(self) -> None:
        """The service has started."""
        self._send("READY=1")

    def beat(self) -> None:
        """The loop makes progress."""
        if self._every is not None and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every / 2
            self._send("WATCHDOG=1")

    def status(self, text: str) -> None:
        """What the service does, in one line."""
        if text != self._status:
            self._status = text
            self._send(f"STATUS={text}")

    def stopping(self) -> None:
        """The service ends on purpose."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        """A manager that does not listen is its own trouble: the service goes on."""
        if not self._address or not hasattr(socket, "AF_UNIX"):
            return
        name = "\0" + self._address[1:] if self._address.startswith("@") else self._address
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.sendto(message.encode(), name)
        except OSError:
            pass
