"""How often something may be tried (rate limits): sign-in, tokens, exports. No I/O; the caller gives the time.

A fixed window per rule and key. What is counted is kept in this process: with several web processes a limit holds in
each of them. At most :data:`KEYS` keys are kept, so that guessing with ever new names cannot fill the memory; the
oldest window goes first.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

KEYS = 20_000


@dataclass(frozen=True)
class Rule:
    """At most ``most`` tries in ``seconds``."""

    most: int
    seconds: float


SIGN_IN_PAIR = Rule(10, 900)
"""Wrong passwords for one account from one address: somebody who guesses, or has forgotten it."""
SIGN_IN_NAME = Rule(100, 900)
"""For one account from everywhere: high, for a limit here also keeps its owner out."""
SIGN_IN_ADDRESS = Rule(100, 900)
"""From one address, whatever the account: a lab behind one address signs in together."""
LINK_ADDRESS = Rule(60, 900)
"""Links and bearer tokens that do not exist, from one address."""
TOKENS = Rule(20, 3600)
"""API tokens that one person makes."""
EXPORTS = Rule(120, 60)
"""Bulk reads of one person or token."""


@dataclass
class Limiter:
    """Counts tries by rule and key."""

    _windows: OrderedDict[tuple[Rule, str], tuple[float, int]] = field(default_factory=OrderedDict)

    def wait(self, rule: Rule, key: str, now: float) -> float:
        """Return the seconds until another try is allowed, 0 if it is now; counts nothing."""
        began, count = self._windows.get((rule, key), (now, 0))
        return 0.0 if count < rule.most else max(0.0, began + rule.seconds - now)

    def count(self, rule: Rule, key: str, now: float) -> None:
        """Count a try."""
        began, count = self._windows.pop((rule, key), (now, 0))
        if now - began >= rule.seconds:
            began, count = now, 0
        self._windows[rule, key] = (began, count + 1)
        while len(self._windows) > KEYS:
            self._windows.popitem(last=False)

    def forget(self, rule: Rule, key: str) -> None:
        """Start anew: the right password was given."""
        self._windows.pop((rule, key), None)
