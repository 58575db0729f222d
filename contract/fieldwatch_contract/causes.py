"""Why the broker cannot be reached, in words for the person who can act: what is wrong, and what would help.

Agent and cloud use the same messages; ``keys`` is the configuration section that the remedy names.

=====================================================  ======================================================
error                                                  message
=====================================================  ======================================================
a name server that does not answer, an unknown name    which name, and which of the two it is
a port where nothing listens, or nothing answers       is the broker running, is a firewall in between
TLS at a plain port; plain MQTT at a TLS port          which of ``mqtt://`` and ``mqtts://`` would be right
the broker's certificate: expired, not yet valid,      its certificate or this computer's clock; the key ``ca``
unknown, of another name
our certificate: expired, revoked, unknown, missing    the key ``certificate``
a reason code of MQTT 5                                the code and what it asks for
another client with our id                             two computers use the same configuration
=====================================================  ======================================================
"""

from __future__ import annotations

import socket
import ssl
from typing import Protocol

LOST = 0x80
NOT_AUTHORISED = 0x87
TAKEN_OVER = 0x8E
TOO_LARGE = 0x95
QUOTA = 0x97


class Reason(Protocol):
    """A reason code of MQTT 5, as the MQTT library has it."""

    value: int

    def getName(self) -> str:
        """Return its name in the standard."""


_ADVICE = {
    LOST: "the connection was lost",
    0x84: "it does not speak MQTT 5; use a broker that does",
    0x85: "our client id is not accepted",
    0x86: "check {keys}.username and the password file",
    NOT_AUTHORISED: "check our certificate or password and the broker's access rules",
    TAKEN_OVER: "another client has connected with our client id: do two computers run with one configuration?",
    QUOTA: "it will be tried again later",
    TOO_LARGE: "the message is sent again in smaller parts",
}
_ALERTS = {
    "CERTIFICATE_EXPIRED": "our certificate has expired: renew {keys}.certificate",
    "CERTIFICATE_REVOKED": "our certificate was revoked: a new one must be issued for {keys}.certificate",
    "CERTIFICATE_REQUIRED": "it asks for a certificate: set {keys}.certificate and {keys}.key",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it asks for a certificate: set {keys}.certificate and {keys}.key",
    "UNKNOWN_CA": "it does not know the authority that issued our certificate: check {keys}.certificate",
    "BAD_CERTIFICATE": "it does not accept our certificate: check {keys}.certificate",
    "CERTIFICATE_UNKNOWN": "it does not accept our certificate: check {keys}.certificate",
    "UNSUPPORTED_CERTIFICATE": "it does not accept certificates of this kind: check {keys}.certificate",
    "ACCESS_DENIED": "it does not let this certificate in: check the broker's access rules",
    "HANDSHAKE_FAILURE": "it agrees to no TLS version or cipher that we have, or wants a certificate",
    "PROTOCOL_VERSION": "it speaks only TLS versions that are no longer safe",
}
_VERIFY = {
    9: "its certificate is not valid yet; is this computer's clock right?",
    10: "its certificate has expired, or this computer's clock is wrong",
}


def code(reason: Reason, keys: str = "mqtt") -> str:
    """Explain a reason code of MQTT 5."""
    advice = _ADVICE.get(reason.value, "").format(keys=keys)
    text = f"{reason.getName().lower()} (0x{reason.value:02X})"
    return f"{text}; {advice}" if advice else text


def network(error: OSError | ValueError, host: str, keys: str = "mqtt") -> str:
    """Explain why connecting to ``host`` failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = f"check {keys}.ca and the host name in {keys}.url"
        return _VERIFY.get(error.verify_code, f"its certificate is not trusted: {error.verify_message}; {advice}")
    if isinstance(error, ssl.SSLError):
        return (
            alert(str(error), keys) or f"no TLS connection: {error.reason or error}; is mqtts:// right for this port?"
        )
    if isinstance(error, socket.gaierror):
        if error.errno in (socket.EAI_AGAIN, socket.EAI_FAIL):
            return f"the name server does not answer for {host}; is this computer on the network?"
        return f"this host name is unknown: {host}; check {keys}.url and the name server"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there; is the broker running?"
    if isinstance(error, ConnectionResetError):
        return "it cut the connection at once; is mqtt:// or mqtts:// right for this port?"
    if isinstance(error, TimeoutError):
        if "handshake" in str(error):
            return "it does not answer the TLS handshake; is mqtts:// right for this port?"
        return "no answer; is the address right, and does a firewall let us out?"
    return str(error) or type(error).__name__


def alert(text: str, keys: str = "mqtt") -> str:
    """Explain a TLS alert that the broker sent, from OpenSSL's text; empty where there is none in ``text``."""
    found = (advice for name, advice in _ALERTS.items() if name in text.upper().replace(" ", "_"))
    return next(found, "").format(keys=keys)


def dropped(text: str, answered: bool, tls: bool, keys: str = "mqtt") -> str:
    """Explain a connection that was cut; ``text``: the socket's last error, ``answered``: it had accepted us."""
    if said := alert(text, keys):
        return said
    if answered:
        return "the connection was lost"
    if tls:  # so the port does speak TLS; brokers with TLS 1.3 refuse a certificate after our side of the handshake
        return (
            "it closed the connection after the TLS handshake, without an answer; does it accept our certificate (not "
            f"revoked or expired, from an authority that it knows: {keys}.certificate), and does it speak MQTT 5?"
        )
    return "it closed the connection without an answer; does this port want TLS, mqtts://, and does it speak MQTT 5?"
