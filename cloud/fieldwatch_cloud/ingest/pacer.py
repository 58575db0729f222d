"""When a device is told what is stored: seldom enough for a fleet, at once where it waits for it. No I/O."""

from __future__ import annotations

from fieldwatch_contract.delivery import Receipt
from fieldwatch_contract.events import Ack

ACK_INTERVAL_S = 1.0
ACK_ROWS = 1_000
"""A device with this many newly stored events is acknowledged at once: its window may be full."""


class AckPacer:
    """Rate-limits acknowledgements: one per device and second, but at once after an alert or many rows. No I/O.

    Waiting receipts of the same device and epoch are merged into one that names everything that arrived meanwhile.
    """

    def __init__(self) -> None:
        self._waiting: dict[tuple[str, str], tuple[Receipt, bool]] = {}
        self._told: dict[tuple[str, str], float] = {}

    def add(self, device: str, receipt: Receipt, urgent: bool) -> None:
        """Add what has arrived from a device."""
        key = (device, receipt.epoch)
        before, was_urgent = self._waiting.get(key, (receipt, False))
        self._waiting[key] = (before.then(receipt), urgent or was_urgent)

    def due(self, now: float) -> list[tuple[str, Ack]]:
        """Return what to publish now."""
        result = []
        for key, (receipt, urgent) in list(self._waiting.items()):
            many = len(receipt.arrived) >= ACK_ROWS
            if urgent or many or now - self._told.get(key, -ACK_INTERVAL_S) >= ACK_INTERVAL_S:
                del self._waiting[key]
                self._told[key] = now
                result.append((key[0], receipt.ack()))
        return result

    def wait(self, now: float) -> float | None:
        """Return the seconds until something is due; None while nothing waits."""
        if not self._waiting:
            return None
        return max(0.0, min(self._told.get(key, now - ACK_INTERVAL_S) for key in self._waiting) + ACK_INTERVAL_S - now)
