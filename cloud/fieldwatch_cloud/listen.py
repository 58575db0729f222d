"""The ports that people and devices reach: had before anything else runs, so that a mistake is told in words.

A server library that binds by itself ends the process where it cannot, with a code and words of its own.
"""

from __future__ import annotations

import errno
import os
import socket
import ssl
from pathlib import Path


class PortError(Exception):
    """The port cannot be had; the message names the keys of the configuration, why, and what would help."""


class CertificateError(ValueError):
    """The certificate cannot be used; the message names the keys of the configuration and why."""


def listen(host: str, port: int, section: str) -> socket.socket:
    """Return a socket that is bound to ``host`` and ``port``, keys of ``section``. Raises :class:`PortError`."""
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise PortError(f"{section}.host {host!r}: {error.strerror}: name an address of this machine") from error
    sock = socket.socket(family)
    try:
        if os.name == "posix":  # on Windows it would let another program take the port from us
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(1)  # two sockets may be bound to a port that nobody listens on
    except OSError as error:
        sock.close()
        raise PortError(_words(error, host, port, section)) from error
    return sock


def _words(error: OSError, host: str, port: int, section: str) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use: set {section}.port to a free one"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{section}.host {host} is no address of this machine: set it to one, such as 127.0.0.1"
    if error.errno == errno.EACCES:
        return f"port {port} of {host} is not open to this user: set {section}.port to one of 1024 and above"
    return f"port {port} of {host} cannot be had ({error.strerror}): set {section}.host and {section}.port to others"


def check_certificate(certificate: Path, key: Path, section: str) -> None:
    """Try the files ``certificate`` and ``key`` of ``section``. Raises :class:`CertificateError`."""
    for name, path in (("certificate", certificate), ("key", key)):
        try:
            path.read_bytes()
        except OSError as error:
            raise CertificateError(f"{section}.{name} {path} cannot be read: {error.strerror}") from error
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password=_no_password)
    except (ssl.SSLError, ValueError) as error:
        files = f"{section}.certificate {certificate} with {section}.key {key}"
        says = getattr(error, "reason", None) or str(error)
        raise CertificateError(
            f"{files} cannot be used ({says}): both must be PEM, the key unlocked and the certificate's own"
        ) from error


def _no_password() -> str:
    """Without it the library would ask on the terminal, where nobody may be."""
    raise ValueError("the key is locked with a password")
