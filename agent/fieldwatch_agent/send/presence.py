"""The device's retained ``state``: online or offline, and why. No I/O.

=====================================  ==========================================================
reason                                 when
=====================================  ==========================================================
started                                online for the first time after a clean shutdown
started after a crash or power loss    the same after a run that was not shut down cleanly
reconnected                            online again
stalled                                the uplink is alive, the agent's main loop makes no progress
stopped                                offline on purpose
connection lost                        published by the broker for us: the last will
=====================================  ==========================================================
"""

from __future__ import annotations

import logging
from typing import Literal

from fieldwatch_contract import clock
from fieldwatch_contract.events import DeviceState

STARTED, CRASHED, RECONNECTED = "started", "started after a crash or power loss", "reconnected"
STALLED, STOPPED, LOST = "stalled", "stopped", "connection lost"

log = logging.getLogger("fieldwatch.uplink")


class Presence:
    """Chooses the reason; also the watchdog of the main loop, with :meth:`beat` as its heartbeat.

    ``retain``: whether the broker supports retained messages.
    """

    def __init__(self, crashed: bool, patience: float) -> None:
        """``patience``: seconds without a heartbeat after which the loop is called stalled; ``now`` everywhere is of a
        clock that stands still while the computer sleeps."""
        self.retain = True
        self._reason = CRASHED if crashed else STARTED
        self._patience = patience
        self._beat: float | None = None
        self._stalled = False

    def beat(self, now: float) -> None:
        """Note that the loop is alive; from the first call on its silence is reported."""
        self._beat = now

    def turned(self, now: float) -> bool:
        """Tell whether the loop has stalled or recovered since the last call."""
        stalled = self._beat is not None and now - self._beat > self._patience
        if stalled == self._stalled:
            return False
        self._stalled = stalled
        if stalled:
            log.error("the main loop has made no progress for %.0f s", self._patience)
        return True

    def lost(self) -> None:
        """Note that a connection has ended: the next one is a reconnection."""
        self._reason = RECONNECTED

    def online(self, connection: str, epoch: str) -> bytes:
        """Return the state of a device that is online."""
        return _state("online", connection, epoch, STALLED if self._stalled else self._reason)

    def offline(self, connection: str, epoch: str, reason: str) -> bytes:
        """Return the state of a device that is offline."""
        return _state("offline", connection, epoch, reason)


def _state(status: Literal["online", "offline"], connection: str, epoch: str, reason: str) -> bytes:
    since = clock.iso(clock.now())
    state = DeviceState(status=status, since=since, connection=connection, epoch=epoch, reason=reason)
    return state.model_dump_json().encode()
