"""What a plugin learns from: the lake's rows before the border, cut into folds, one device in memory at a time.

A device's rows are read again at every pass, except that small data are kept: :data:`KEEP` bytes for all devices
together. Nothing else about memory depends on how many devices there are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from fieldwatch_trainer.lake import GridRows, Lake, label_codes
from fieldwatch_trainer.models import MAINTENANCE, DeviceRows
from fieldwatch_trainer.split import Split

KEEP = 256 * 1024 * 1024
"""Bytes of rows that may stay in memory between passes."""


@dataclass
class _Kept:
    devices: dict[str, DeviceRows] = field(default_factory=dict)
    bytes: int = 0


@dataclass(frozen=True)
class Fold:
    """Which part of the data: these devices, and of their usable rows the share from ``start`` to ``stop``.

    Shares are of the rows that may be learnt from, in time order. ``gap`` rows next to a cut are left out.
    """

    devices: tuple[str, ...]
    start: float = 0.0
    stop: float = 1.0
    gap: int = 0


@dataclass(frozen=True)
class LakeData:
    """:class:`.models.TrainingData` over a lake.

    Rows at or after a device's border are not there at all. Of those before it, the rows that the window of a later
    reading contains (``embargo`` periods) are there and not used. A device without a later reading keeps all of its
    rows: there is nothing to protect. Rows of maintenance are never used.
    """

    lake: Lake
    device_type: str
    sensors: Sequence[str]
    period: int
    window: int
    split: Split
    fold: Fold
    embargo: int = 0
    _kept: _Kept = field(default_factory=_Kept, repr=False)

    @classmethod
    def of(cls, lake: Lake, device_type: str, window: int, split: Split) -> LakeData:
        """Return all training rows of a type; ``embargo`` is the window where the split has a border."""
        infos = lake.devices(device_type)
        names = tuple(info.device for info in infos)
        sensors = lake.sensors(device_type)
        return cls(lake, device_type, sensors, infos[0].period, window, split, Fold(names), window)

    def part(self, fold: Fold) -> LakeData:
        """Return another part of the same data; rows already in memory are shared."""
        return replace(self, fold=fold)

    def __iter__(self) -> Iterator[DeviceRows]:
        """Yield the fold's devices in name order."""
        for name in sorted(self.fold.devices):
            device = self._kept.devices.get(name) or self._read(name)
            yield self._cut(device)

    def _read(self, name: str) -> DeviceRows:
        border = self.split.border(name)
        grid = self.lake.grid(name, list(self.sensors), self.window)
        use = grid.reading.copy()
        if border is not None:
            before = int(np.searchsorted(grid.ts, border))
            if len(later := np.flatnonzero(grid.reading[before:])):
                use &= grid.ts < grid.ts[before + later[0]] - self.embargo * self.period
            grid = GridRows(grid.ts[:before], grid.rows[:before], grid.reading[:before], grid.duplicate)
            use = use[:before]
        label = label_codes(grid.ts, self.lake.labels(name))
        use &= label != MAINTENANCE
        device = DeviceRows(name, grid.ts, grid.rows, use, label)
        if self._kept.bytes + device.rows.nbytes <= KEEP:
            self._kept.devices[name] = device
            self._kept.bytes += device.rows.nbytes
        return device

    def _cut(self, device: DeviceRows) -> DeviceRows:
        fold = self.fold
        if fold.start <= 0 and fold.stop >= 1:
            return device
        usable = np.flatnonzero(device.use)
        use: NDArray[np.bool_] = np.zeros(len(device.use), bool)
        if len(usable):
            first, last = round(fold.start * len(usable)), round(fold.stop * len(usable))
            kept = usable[first:last]
            if fold.start > 0 and len(kept):
                kept = kept[kept >= usable[first] + fold.gap]
            if fold.stop < 1 and len(kept):
                kept = kept[kept <= usable[last - 1] - fold.gap]
            use[kept] = True
        return replace(device, use=use)
