"""Which names occur in a log without column names: a line a value, or an object a line.

A renamed sensor shows in no header there. It is missing if none of the first :data:`ENOUGH` readings has it, and what
occurs in its place is unknown. A name that occurs later is no longer missing.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

ENOUGH = 60
"""Readings after which a sensor that has not occurred is called missing."""
MOST = 10_000
"""Names remembered at most; a log whose keys are never the same must not fill the memory."""


@dataclass(frozen=True)
class Names:
    """The bundle's sensors that do not occur, and the names that occur and are none of its sensors."""

    missing: tuple[str, ...]
    unknown: tuple[str, ...]
    repeated: tuple[str, ...] = ()


class Occurred:
    """Collects the names of one log."""

    def __init__(self, sensors: Sequence[str]) -> None:
        """``sensors``: the bundle's."""
        self._sensors = tuple(sensors)
        self._known = frozenset(sensors)
        self._met: dict[str, None] = {}
        self.readings = 0

    def take(self, names: Iterable[str]) -> None:
        """Note the names of a line."""
        if len(self._met) < MOST:
            self._met.update(dict.fromkeys(names))

    @property
    def met(self) -> tuple[str, ...]:
        """Every name so far."""
        return tuple(self._met)

    @property
    def names(self) -> Names | None:
        """What is missing and what is unknown, None before there were enough readings."""
        if self.readings < ENOUGH:
            return None
        return Names(
            tuple(sensor for sensor in self._sensors if sensor not in self._met),
            tuple(name for name in self._met if name not in self._known),
        )
