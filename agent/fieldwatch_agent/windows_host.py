"""The agent inside Windows' service manager: what ``service run`` is, which the service manager starts and nobody else.

What it promises
    * RUNNING is said before anything heavy is imported: Windows gives a service 30 seconds (error 1053).
    * A stop is asked of the loop, which ends after its block; until then the service manager hears every
      :data:`CHECK_S` that it goes on, and after :data:`STOP_S` it is STOPPED and the process ends, for Windows starts
      again what ends without that word. A shutdown asks the same, and Windows waits for it (preshutdown).
    * A loop that hangs is ended (:mod:`.watchdog`).
    * Whatever ends without having been asked to ends the process with an exit code, not with the state STOPPED: only
      then does Windows start it again.
    * Why it ended is in the event log, also where the service's own log cannot be written. There are no streams here.

What is Windows' alone is in :mod:`.windows_manager`.
"""

from __future__ import annotations

import os
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from fieldwatch_agent.exits import CRASHED, FAILED, USAGE
from fieldwatch_agent.watchdog import Watchdog, say_last

if TYPE_CHECKING:
    from fieldwatch_agent.service import Service

CHECK_S = 5.0
STOP_S = 30.0
HINT_MS = 20_000
"""What the service manager is told to wait for the next word while the service stops."""


class Hosted:
    """The service, between the manager's control thread and its own.

    ``pending`` says that it is still stopping, ``stopped`` that it has; ``tell`` writes into the event log; ``leave``
    ends the process.
    """

    def __init__(
        self,
        config: Path,
        pending: Callable[[], object],
        stopped: Callable[[], object],
        tell: Callable[[str], object],
        leave: Callable[[int], object] = os._exit,
    ) -> None:
        self._config = config
        self._pending = pending
        self._stopped = stopped
        self._tell = tell
        self._leave = leave
        self._watchdog = Watchdog(tell, leave)
        self._service: Service | None = None
        self._wanted = threading.Event()
        self._ended = threading.Event()
        self._lock = threading.Lock()

    def run(self) -> None:
        """Run until :meth:`stop`; return only then."""
        self._watchdog.start()
        try:
            code = self._work()
        except BaseException:
            self._tell(f"The agent ended by a fault of the program:\n{traceback.format_exc()}")
            code = CRASHED
        self._watchdog.close()
        with self._lock:  # from here on nobody says that it is still stopping
            self._ended.set()
        if not self._wanted.is_set():
            self._leave(code or FAILED)

    def stop(self) -> None:
        """Ask it to end; returns at once, as a control handler must."""
        if self._wanted.is_set():
            return
        self._wanted.set()
        self._pending()
        if self._service is not None:
            self._service.stop()
        threading.Thread(target=self._wait, name="stopping", daemon=True).start()

    def _wait(self) -> None:
        for _ in range(int(STOP_S / CHECK_S)):
            if self._ended.wait(CHECK_S):
                return
            with self._lock:
                if not self._ended.is_set():
                    self._pending()
        words = f"The agent did not stop within {STOP_S:.0f} s and was ended; nothing that it has read is lost."
        say_last(self._tell, words)
        self._stopped()
        self._leave(FAILED)

    def _work(self) -> int:
        from fieldwatch_agent import service_log
        from fieldwatch_agent.config import ConfigError, load
        from fieldwatch_agent.send.journal import JournalError
        from fieldwatch_agent.service import run

        try:
            config = load(self._config)
            service_log.begin(config, verbose=False)
            return run(config, self._config, until_idle=False, on_start=self._began, manager=self._watchdog)
        except (ConfigError, JournalError) as error:
            self._tell(f"The agent cannot run: {error}")
            return USAGE if isinstance(error, ConfigError) else FAILED

    def _began(self, service: Service) -> None:
        self._service = service
        if self._wanted.is_set():  # it was asked to stop while it was still being imported
            service.stop()
