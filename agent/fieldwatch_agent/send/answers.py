"""What follows from the broker's answer to a message with events: rules without I/O.

=============================================  ====================================================================
the broker                                     then
=============================================  ====================================================================
takes it                                       wait for the cloud's acknowledgement (``puback``: it is settled)
takes it, and nobody has subscribed            ingest does not run: pause, then try with one message
refuses it as too large                        smaller messages from now on, and everything is sent again
forbids it, or has taken too much of us        a matter of us and not of this message: a long pause
refuses several events for what they are       one event a message, to find the one
refuses a single event for what it is          set aside; the others go on
=============================================  ====================================================================
"""

from __future__ import annotations

from enum import Enum, auto

from fieldwatch_contract.causes import NOT_AUTHORISED, QUOTA, TOO_LARGE

NO_SUBSCRIBERS = 0x10
FAILURE = 0x80
"""Reason codes from here on are refusals."""


class Then(Enum):
    """What follows from an answer."""

    TAKEN = auto()
    PAUSE_FOR_INGEST = auto()
    SMALLER = auto()
    LONG_PAUSE = auto()
    ONE_BY_ONE = auto()
    SET_ASIDE = auto()


def follows(code: int, events: int, application: bool, shrinks: bool) -> Then:
    """Decide by MQTT 5's reason code and the number of events in the message.

    ``application``: the cloud acknowledges, so a subscriber is needed. ``shrinks``: messages can be made smaller.
    """
    if code < FAILURE:
        return Then.PAUSE_FOR_INGEST if code == NO_SUBSCRIBERS and application else Then.TAKEN
    if code == TOO_LARGE and shrinks:
        return Then.SMALLER
    if code in (NOT_AUTHORISED, QUOTA):
        return Then.LONG_PAUSE
    return Then.ONE_BY_ONE if events > 1 else Then.SET_ASIDE
