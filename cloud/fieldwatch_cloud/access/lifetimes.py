"""When links, sessions and API tokens end. No I/O; times in µs."""

from __future__ import annotations

from fieldwatch_contract import clock

SESSION_IDLE = 12 * 60 * clock.MINUTE
"""A session that is not used ends; an open page uses it every minute."""
SESSION_WHOLE = 7 * clock.DAY
"""A session ends however much it is used: who reads along for good must sign in again."""
TOUCH = clock.MINUTE
"""How exactly the use of a session or token is noted: a write a minute, not one a request."""

LINKS: dict[str, int] = {"invitation": 7 * clock.DAY, "reset": clock.DAY, "start": clock.DAY}
"""How long a link of each kind works, once."""

TOKEN_DAYS = 90
TOKEN_DAYS_MOST = 366


def session_alive(made: int, used: int, now: int) -> bool:
    """Tell whether a session of this age still counts.

    >>> session_alive(made=0, used=0, now=SESSION_IDLE), session_alive(made=0, used=0, now=SESSION_IDLE + 1)
    (True, False)
    >>> session_alive(made=0, used=SESSION_WHOLE, now=SESSION_WHOLE + 1)
    False
    """
    return now - used <= SESSION_IDLE and now - made <= SESSION_WHOLE


def token_end(days: int, now: int) -> int:
    """Return when a token made now ends. Raises :class:`ValueError` for a span that is none."""
    if not 1 <= days <= TOKEN_DAYS_MOST:
        raise ValueError(f"a token lives 1 to {TOKEN_DAYS_MOST} days, not {days}")
    return now + days * clock.DAY
