"""The commands that this device has received, as the journal remembers them: so that none is done twice.

=============  =====================================================================================================
state          after a restart
=============  =====================================================================================================
``waiting``    it is begun, unless its time is over
``begun``      it was cut short: answered as failed, and not begun again, as it may be what ended the agent
``ended``      done, failed or refused, and answered: nothing
=============  =====================================================================================================

An id is remembered for :data:`REMEMBERED` after the command's end, longer than the cloud or a broker may repeat it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from fieldwatch_contract.commands import LIFETIME

State = Literal["waiting", "begun", "ended"]
REMEMBERED = 2 * LIFETIME
MOST = 500
"""Commands remembered at most; the rules take fewer in that time."""


@dataclass(frozen=True)
class Seen:
    """A command: ``at`` (µs) it came; ``refused`` at once; ``text``: its JSON, empty once it is answered."""

    id: str
    at: int
    state: State
    refused: bool = False
    text: str = ""


def kept(commands: Iterable[Seen], now: int) -> tuple[Seen, ...]:
    """Return those that must still be remembered at ``now`` (µs), oldest first; a clock that was wrong keeps them."""
    found = [each for each in commands if each.state != "ended" or each.at > now - REMEMBERED]
    return tuple(found[-MOST:])


def to_json(commands: Sequence[Seen]) -> str:
    """Return them as the journal keeps them."""
    return json.dumps([asdict(each) for each in commands])


def from_json(text: str | None) -> tuple[Seen, ...]:
    """Read what :func:`to_json` gave. Raises :class:`ValueError` for anything else."""
    try:
        found = tuple(Seen(**each) for each in json.loads(text or "[]"))
    except TypeError as error:
        raise ValueError(f"no commands: {error}") from error
    if any(each.state not in get_args(State) or not isinstance(each.at, int) for each in found):
        raise ValueError("no commands: a state or time is none")
    return found
