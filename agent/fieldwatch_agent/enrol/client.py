"""The network side of enrolment: three requests, each answered or explained.

The order protects the token: the authority's certificate is fetched first, from whoever answers, and compared with the
digest in the token; only over a connection that this authority vouches for is the secret sent.
"""

from __future__ import annotations

import json
import ssl
import warnings
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, TypeVar

import urllib3
from fieldwatch_contract.enrolment import (
    AUTHORITY,
    ENROL,
    NO_PIN,
    RENEW,
    Enrolled,
    EnrolRequest,
    Renewed,
    RenewRequest,
    Token,
)
from pydantic import BaseModel, ValidationError

from fieldwatch_agent import __version__, web
from fieldwatch_agent.enrol.identity import pinned

LIMIT = 65_536
"""Bytes of an answer."""
SAID = 500
"""Characters of what a server says that are shown."""
OUT_OF_TIME = frozenset({9, 10})
"""OpenSSL's codes of verification: not valid yet; expired."""
TIMEOUT = urllib3.Timeout(connect=10, read=30)

Answer = TypeVar("Answer", bound=BaseModel)


class Unreachable(Exception):
    """No answer, or none that can be used now: try again later. The message says why."""


class Refused(Exception):
    """The server refused, or is not the one that the token means: a person must act. The message says why."""


class Client:
    """Speaks to one enrolment service."""

    def __init__(self, url: str, authority: bytes | None) -> None:
        """``authority``: PEM of who vouches for the server; None: the system's certificate store.

        Raises :class:`Refused` where it is no PEM.
        """
        self._url = url.rstrip("/")
        self._tls: dict[str, Any] = {}
        if authority is not None:
            try:
                self._tls["ca_cert_data"] = authority.decode("ascii")
                ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=self._tls["ca_cert_data"])
            except (ssl.SSLError, ValueError) as error:
                raise Refused("who vouches for the server is no certificate in PEM ([mqtt] ca)") from error

    def enrol(self, token: Token, device: str | None, request: bytes) -> Enrolled:
        """Redeem the token; raises :class:`Unreachable` or :class:`Refused`."""
        body = EnrolRequest(secret=token.secret.hex(), device=device, request=request.decode())
        return self._post(ENROL, body, Enrolled)

    def renew(self, certificate: bytes, request: bytes, signature: bytes) -> bytes:
        """Return the next certificate; raises :class:`Unreachable` or :class:`Refused`."""
        body = RenewRequest(certificate=certificate.decode(), request=request.decode(), signature=signature.hex())
        return self._post(RENEW, body, Renewed).certificate.encode()

    def _post(self, path: str, body: BaseModel, kind: type[Answer]) -> Answer:
        status, data = _ask("POST", self._url + path, body.model_dump_json().encode(), self._tls)
        if status == 200:
            try:
                return kind.model_validate_json(data)
            except ValidationError as error:
                raise Refused(
                    f"{self._url} does not answer as an enrolment service: {error.errors()[0]['msg']}"
                ) from error
        if status in {429} or status >= 500:
            raise Unreachable(f"{self._url} answers {status}: {_why(data)}")
        raise Refused(_why(data) or f"{self._url} answers {status}: is this the enrolment address?")


def trusted_authority(url: str, token: Token) -> bytes | None:
    """Return the authority's certificate (PEM) that the token pins, fetched from ``url``; None where it pins none.

    Raises :class:`Refused` where another one is there, :class:`Unreachable` where nobody answers.
    """
    if token.authority == NO_PIN:
        return None
    with warnings.catch_warnings():  # unverified on purpose: what comes is compared with the token
        warnings.simplefilter("ignore", urllib3.exceptions.InsecureRequestWarning)
        nobody = {"cert_reqs": "CERT_NONE", "assert_hostname": False}
        status, data = _ask("GET", url.rstrip("/") + AUTHORITY, None, nobody)
    if status != 200:
        raise Refused(f"{url} answers {status}: is this the enrolment address?")
    authority = pinned(data, token.authority)
    if authority is None:
        raise Refused(
            f"{url} belongs to another authority than this token: the address is wrong, the token is of another "
            "installation, or somebody is in between; the token was not sent"
        )
    return authority


def _ask(method: str, url: str, body: bytes | None, tls: Mapping[str, Any]) -> tuple[int, bytes]:
    """Return status and body of an answer; ``tls``: urllib3's options."""
    headers = {"User-Agent": f"fieldwatch-agent/{__version__}", "Content-Type": "application/json"}
    try:
        response = web.pool(url, **tls).request(
            method, url, body=body, headers=headers, timeout=TIMEOUT, retries=False, redirect=False,
            preload_content=False,
        )  # fmt: skip
        data = response.read(LIMIT + 1)
        response.close()
    except urllib3.exceptions.SSLError as error:
        raise Refused(f"{url}: {_distrust(error)}") from error
    except web.BadProxy as error:
        raise Unreachable(f"{url} was not asked: {error}") from error
    except urllib3.exceptions.ProxyError as error:
        raise Unreachable(f"{url}: the proxy does not let us through: {error.original_error}") from error
    except urllib3.exceptions.HTTPError as error:
        raise Unreachable(f"{url}: no answer: {_cause(error)}") from error
    if len(data) > LIMIT:
        raise Refused(f"{url} answers with more than {LIMIT} bytes: is this the enrolment address?")
    return response.status, data


def _why(data: bytes) -> str:
    """Return what the server says, as one line that steers no terminal."""
    try:
        said = str(json.loads(data)["error"])
        return "".join(each if each.isprintable() else " " for each in said[:SAID])
    except (ValueError, KeyError, TypeError):
        return ""


def _distrust(error: urllib3.exceptions.SSLError) -> str:
    """Say why there is no TLS connection."""
    inner = error.args[0] if error.args else None
    if not isinstance(inner, ssl.SSLCertVerificationError):
        return f"this port does not speak TLS as the enrolment service does: is the port right? ({_cause(error)})"
    if inner.verify_code in OUT_OF_TIME:
        return (
            f"the server's certificate is not accepted: {inner.verify_message}; is this PC's clock right "
            f"({datetime.now(UTC):%Y-%m-%d %H:%M} UTC)?"
        )
    return f"the server's certificate is not accepted: {inner.verify_message}"


def _cause(error: BaseException) -> str:
    inner = error.__cause__ or error.__context__ or error
    return str(getattr(inner, "verify_message", "") or getattr(inner, "strerror", "") or inner)
