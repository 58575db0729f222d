"""Progress, the checkpoint of reading: what a restart needs, as stored in the journal.

The position is the one thing that cannot be recovered from the log, so it is stored twice (:data:`COPIES`): a corrupt
copy is detected by its checksum and restored from the other.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from fieldwatch_contract.alerts import RuleState

COPIES = ("progress", "progress_copy")


@dataclass(frozen=True)
class Progress:
    """How far the log was read, and what a restart needs: all of it a function of the log read so far.

    ``position``: after the last journalled line. ``rewind``: where a restart begins to re-read in order to refill the
    window (replay position). Both are the tail's JSON. ``newest``: µs of the newest row. ``alerts``: the state of the
    alert rule, by model name. ``rows``: which periods since ``rewind`` have a row, as text of
    :class:`.acceptance.Rows`; empty in older journals. ``bundle``: sha256 of the bundle that ``alerts`` belong to;
    empty in older journals. ``kept``: the states of the bundle before it, by its sha256, in case it comes back.
    """

    position: str | None = None
    rewind: str | None = None
    newest: int | None = None
    alerts: Mapping[str, RuleState] = field(default_factory=dict)
    rows: str = ""
    bundle: str = ""
    kept: Mapping[str, Mapping[str, RuleState]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return it as stored in the journal: once a row on a live device, and ``asdict`` takes ten times as long."""
        return json.dumps(vars(self), default=vars)

    @classmethod
    def from_json(cls, text: str | None) -> Progress:
        """Read what :meth:`to_json` wrote; None: nothing was read yet. Raises :class:`ValueError` for anything else."""
        if text is None:
            return cls()
        try:
            value = json.loads(text)
            value["alerts"] = _states(value["alerts"])
            value["kept"] = {bundle: _states(states) for bundle, states in value.get("kept", {}).items()}
            found = cls(**value)
            for place in (found.position, found.rewind):
                if place is not None:
                    json.loads(place)
            if not isinstance(found.newest, int | None):
                raise ValueError(f"newest is {found.newest!r}")
            return found
        except (TypeError, KeyError, AttributeError, ValueError) as error:
            raise ValueError(f"the read position does not parse: {error}") from error


def _states(value: Mapping[str, Mapping[str, object]]) -> dict[str, RuleState]:
    return {model: RuleState.from_dict(state) for model, state in value.items()}
