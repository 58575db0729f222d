"""Enrolment: what a device and its installation say to one another before they know each other.

1. The token is all that a person carries to the device. Besides a secret it pins whom to trust: the digest of the
   authority that vouches for the server, and the digest of the trust root of the updates. So the first connection
   needs no other secret, and a false server gets nothing: the secret is sent only after its authority was checked.
2. The key is made on the device and never leaves it; what is sent is a request (PKCS#10) that it has signed.
3. To renew, the device signs the new request with its old key: no person, no token.

Served under :data:`AUTHORITY`, :data:`ENROL` and :data:`RENEW` of the enrolment address, over TLS. Refusals are
``{"error": …}`` with a 4xx status; a 5xx is to be tried again.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import secrets
import zlib
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

AUTHORITY, ENROL, RENEW = "/enrolment/v1/authority", "/enrolment/v1/enrol", "/enrolment/v1/renew"
PREFIX = "fw1-"
_SECRET, _DIGEST = 16, 32
_LENGTH = _SECRET + 2 * _DIGEST + 4
NO_PIN = bytes(_DIGEST)


class TokenError(ValueError):
    """What was given is no token, or not all of one."""


@dataclass(frozen=True)
class Token:
    """A secret (16 bytes), and SHA-256 digests: of the authority's certificate (DER) and of ``root.json``.

    A digest of zeros pins nothing: the server has a certificate of a public authority; there are no updates.

    >>> token = Token.draw(b"a" * 32, NO_PIN)
    >>> Token.parse(token.text()) == token
    True
    >>> Token.parse(token.text()[:-3])
    Traceback (most recent call last):
    ...
    fieldwatch_contract.enrolment.TokenError: the token is incomplete or mistyped: copy the whole of it
    """

    secret: bytes
    authority: bytes
    root: bytes

    @staticmethod
    def draw(authority: bytes, root: bytes) -> Token:
        """Return a new token; 128 random bits."""
        return Token(secrets.token_bytes(_SECRET), authority, root)

    def text(self) -> str:
        """As a person copies it; the checksum at its end tells a mistyped one."""
        body = self.secret + self.authority + self.root
        whole = body + zlib.crc32(body).to_bytes(4, "big")
        return PREFIX + base64.urlsafe_b64encode(whole).decode().rstrip("=")

    @staticmethod
    def parse(text: str) -> Token:
        """Read a token; raises :class:`TokenError`.

        It may stand in quotes, or behind the mark that PowerShell sends first, which each code page shows otherwise.
        """
        _, mark, encoded = "".join(text.split()).strip("\"'").partition(PREFIX)
        if not mark:
            raise TokenError(f"no enrolment token was given: one begins with {PREFIX!r}")
        try:
            whole = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            whole = b""
        body, check = whole[:-4], whole[-4:]
        if len(whole) != _LENGTH or zlib.crc32(body).to_bytes(4, "big") != check:
            raise TokenError("the token is incomplete or mistyped: copy the whole of it")
        return Token(body[:_SECRET], body[_SECRET : _SECRET + _DIGEST], body[_SECRET + _DIGEST :])

    def __repr__(self) -> str:
        """Without the secret: a token must not end up in a log."""
        return f"Token(secret=…, authority={self.authority.hex()[:8]}…, root={self.root.hex()[:8]}…)"


def digest(data: bytes) -> bytes:
    """Return what a token pins of ``data``: its SHA-256."""
    return hashlib.sha256(data).digest()


class _Message(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore")


class EnrolRequest(_Message):
    """The device asks for its certificate. ``device``: needed where the token is for several. PEM texts."""

    secret: str = Field(pattern=r"^[0-9a-f]{32}$")
    device: str | None = Field(default=None, max_length=64)
    request: str = Field(max_length=8192)


class RenewRequest(_Message):
    """The device asks for its next certificate: ``signature`` (hex, ECDSA with SHA-256 by the key of ``certificate``)
    is over the bytes of ``request``."""

    certificate: str = Field(max_length=8192)
    request: str = Field(max_length=8192)
    signature: str = Field(pattern=r"^[0-9a-f]{2,256}$")


class Renewed(_Message):
    """The next certificate, PEM."""

    certificate: str


class Updates(_Message):
    """Where bundles come from. ``ca``: PEM of who vouches for that server; None: a public authority. ``root``: the
    trust root, ``root.json``, whose digest the token pins."""

    url: str
    channel: str
    root: str
    ca: str | None = None


class Enrolled(_Message):
    """Everything that a device needs: its identity, and where broker and updates are. PEM texts."""

    device: str
    device_type: str | None = None
    certificate: str
    ca: str
    broker: str
    updates: Updates | None = None
