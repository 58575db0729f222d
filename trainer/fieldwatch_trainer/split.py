"""Training time and testing time, by device, with an embargo between them.

``train`` learns from rows before a device's ``train_until``; ``score`` and ``evaluate`` take those from there on. A
row's score depends on the W rows that end with it, so a training row within W periods of the first test row shares
rows with it: such rows (``embargo``) are not learnt from. They still are the past of what follows. A device without a
reading from the border on has no test row, and keeps its last rows: those of a run to failure are the fault.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from fieldwatch_contract.clock import iso, parse_iso


class SplitError(Exception):
    """The split cannot be read or does not fit; the message names the file, device or value."""


@dataclass(frozen=True)
class Split:
    """Where training ends: ``until`` (µs) for every device not in ``by_device``; None means never."""

    until: int | None = None
    by_device: Mapping[str, int] = field(default_factory=dict)

    def border(self, device: str) -> int | None:
        """Return the first time (µs) that is not for training, None where all of it is."""
        return self.by_device.get(device, self.until)

    def check(self, devices: list[str], where: str) -> None:
        """Raise :class:`SplitError` where the split names devices, but none or not all of these."""
        if self.until is not None or not self.by_device:
            return
        missing = [device for device in devices if device not in self.by_device]
        if len(missing) == len(devices):
            raise SplitError(
                f"{where}: no overlap with these devices ({', '.join(devices[:5])}); "
                f"train_until names {', '.join(sorted(self.by_device)[:5])}"
            )
        if missing:
            raise SplitError(
                f"{where}: train_until lacks device {missing[0]!r}; name it, with a time when training ends"
            )


def read_split(path: Path) -> Split:
    """Read ``{"train_until": {device: RFC 3339 time}}``, or one time for all devices in place of the object."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise SplitError(f"{path}: {error.strerror or error}") from error
    except ValueError as error:
        raise SplitError(f"{path}: not JSON: {error}") from error
    times = content.get("train_until") if isinstance(content, dict) else None
    if isinstance(times, str):
        return Split(until=_time(times, f"{path}: train_until"))
    if not isinstance(times, dict) or not times:
        raise SplitError(f'{path}: must hold {{"train_until": {{device: time}}}}')
    return Split(by_device={str(d): _time(t, f"{path}: train_until of {d}") for d, t in sorted(times.items())})


def choose(train_until: str | None, split: str | None) -> Split:
    """Make the split that the command line asks for."""
    if split is not None:
        return read_split(Path(split))
    return Split(until=_time(train_until, "--train-until") if train_until is not None else None)


def described(split: Split, devices: list[str]) -> str:
    """Return the newest border of these devices as text, empty where there is none."""
    borders = [border for device in devices if (border := split.border(device)) is not None]
    return iso(max(borders)) if borders else ""


def _time(text: object, where: str) -> int:
    try:
        return parse_iso(str(text))
    except ValueError:
        raise SplitError(f"{where}: {text!r} is not a time like 2026-01-17T10:54:00Z") from None
