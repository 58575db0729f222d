"""Random secrets: drawn, and hashed as the store keeps them.

A secret has 256 random bits, so that a plain SHA-256 cannot be turned back; passwords, which people choose, are another
matter (:mod:`.passwords`).
"""

from __future__ import annotations

import hashlib
import secrets


def draw() -> str:
    """Return a new secret: 43 letters, digits, ``-`` and ``_``."""
    return secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """Return what the store keeps of it."""
    return hashlib.sha256(secret.encode()).hexdigest()


def csrf_of(cookie: str) -> str:
    """Return the CSRF token of a session cookie: derived, so that nothing more is to be kept."""
    return hashlib.sha256(b"csrf " + cookie.encode()).hexdigest()[:32]
