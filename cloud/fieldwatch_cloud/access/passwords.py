"""Passwords: argon2id with the library's current cost, checked in the same time whether the account exists or not.

A hash takes 64 MiB, so only :data:`AT_ONCE` are computed at once: a flood of sign-ins must not take the machine's
memory. A hash of an older cost is replaced at the next sign-in.
"""

from __future__ import annotations

import threading
from functools import lru_cache

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

SHORTEST = 12
LONGEST = 200
AT_ONCE = 2

HASHER = PasswordHasher()
_gate = threading.BoundedSemaphore(AT_ONCE)


def objection(password: str, name: str) -> str:
    """Return why ``password`` is not taken for the account ``name``, "" where it is.

    Length counts, not kinds of characters (NIST SP 800-63B).

    >>> objection("short", "ada")
    'A password has at least 12 characters, this one 5.'
    >>> objection("correct horse battery", "ada")
    ''
    """
    if len(password) < SHORTEST:
        return f"A password has at least {SHORTEST} characters, this one {len(password)}."
    if len(password) > LONGEST:
        return f"A password has at most {LONGEST} characters, this one {len(password)}."
    if name.split("@", maxsplit=1)[0].lower() in password.lower() and len(password) < 2 * SHORTEST:
        return "A password must not contain the name of its account."
    if len(set(password)) < 5:
        return "This password is one or a few characters again and again."
    return ""


def hashed(password: str) -> str:
    """Return the hash to store."""
    with _gate:
        return HASHER.hash(password)


def fits(stored: str | None, password: str) -> bool:
    """Tell whether ``password`` is the one of ``stored``; takes as long where there is none stored."""
    with _gate:
        try:
            right = HASHER.verify(stored or _stand_in(), password[: LONGEST + 1])
        except (VerificationError, InvalidHashError):
            return False
    return right and stored is not None


def outdated(stored: str) -> bool:
    """Tell whether the hash is of an older cost."""
    return HASHER.check_needs_rehash(stored)


@lru_cache(maxsize=1)
def _stand_in() -> str:
    return HASHER.hash("nobody has this password")
