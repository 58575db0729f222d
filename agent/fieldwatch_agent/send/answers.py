"""How to react to the broker's answer to a message with events: rules without I/O.

=============================================  ====================================================================
the broker                                     reaction
=============================================  ====================================================================
accepts it                                     wait for the cloud's acknowledgement (``puback``: it is settled)
accepts it, but there is no subscriber         ingest is not running: pause, then probe with one message
rejects it as too large                        smaller messages from now on, and everything is retransmitted
rejects it, and has not rejected its other     its events go on the other topic: a batch, or one event per message
topic on this connection
forbids it, or our quota is exceeded           this concerns us, not the message: a long pause
rejects several events for their content       one event per message, to find the bad one
rejects a single event for its content         excluded; the others are sent
=============================================  ====================================================================
"""

from __future__ import annotations

from enum import Enum, auto

from fieldwatch_contract.causes import NOT_AUTHORISED, QUOTA, TOO_LARGE

NO_SUBSCRIBERS = 0x10
FAILURE = 0x80
"""Reason codes from here on are refusals."""


class Then(Enum):
    """Reaction to an answer."""

    TAKEN = auto()
    PAUSE_FOR_INGEST = auto()
    SMALLER = auto()
    OTHER_WAY = auto()
    LONG_PAUSE = auto()
    ONE_BY_ONE = auto()
    SET_ASIDE = auto()


def follows(code: int, events: int, application: bool, shrinks: bool, other_way: bool = False) -> Then:
    """Decide by MQTT 5's reason code and the number of events in the message.

    ``application``: the cloud acknowledges, so a subscriber is needed. ``shrinks``: messages can be made smaller.
    ``other_way``: there is another topic for these events.
    """
    if code < FAILURE:
        return Then.PAUSE_FOR_INGEST if code == NO_SUBSCRIBERS and application else Then.TAKEN
    if code == TOO_LARGE and shrinks:
        return Then.SMALLER
    if other_way and (code == NOT_AUTHORISED or (code not in (QUOTA, TOO_LARGE) and events == 1)):
        return Then.OTHER_WAY
    if code in (NOT_AUTHORISED, QUOTA):
        return Then.LONG_PAUSE
    return Then.ONE_BY_ONE if events > 1 else Then.SET_ASIDE
