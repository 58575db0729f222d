"""Why messages are not delivered, in words for the person at the device: what is wrong, and what would help.

=====================================================  ======================================================
error                                                  message
=====================================================  ======================================================
a name server that does not answer, an unknown name    which name, and which of the two it is
a port where nothing listens, or nothing answers       is the broker running, is a firewall in between
TLS at a plain port; plain MQTT at a TLS port          which of ``mqtt://`` and ``mqtts://`` would be right
the broker's certificate: expired, not yet valid,      its certificate or this computer's clock; ``mqtt.ca``
unknown, of another name
our certificate: expired, revoked, unknown, missing    ``mqtt.certificate``
a reason code of MQTT 5                                the code and what it asks for
another client with our id                             two computers use the same configuration
=====================================================  ======================================================
"""

from __future__ import annotations

import socket
import ssl
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from paho.mqtt.reasoncodes import ReasonCode

LOST = 0x80
NOT_AUTHORISED = 0x87
TAKEN_OVER = 0x8E
TOO_LARGE = 0x95
QUOTA = 0x97

_ADVICE = {
    LOST: "the connection was lost",
    0x84: "it does not speak MQTT 5; use a broker that does",
    0x85: "the device id is not accepted as client id",
    0x86: "check mqtt.username and the password file",
    NOT_AUTHORISED: "check the device's certificate or password and the broker's access rules",
    TAKEN_OVER: "another client has connected with this device's id: do two computers run with one configuration?",
    QUOTA: "it will be tried again later",
    TOO_LARGE: "the message is sent again in smaller parts",
}
_ALERTS = {
    "CERTIFICATE_EXPIRED": "our certificate has expired: renew mqtt.certificate",
    "CERTIFICATE_REVOKED": "our certificate was revoked: enrol the device again",
    "CERTIFICATE_REQUIRED": "it asks for a certificate: set mqtt.certificate and mqtt.key",
    "PEER_DID_NOT_RETURN_A_CERTIFICATE": "it asks for a certificate: set mqtt.certificate and mqtt.key",
    "UNKNOWN_CA": "it does not know the authority that issued our certificate: check mqtt.certificate",
    "BAD_CERTIFICATE": "it does not accept our certificate: check mqtt.certificate",
    "CERTIFICATE_UNKNOWN": "it does not accept our certificate: check mqtt.certificate",
    "UNSUPPORTED_CERTIFICATE": "it does not accept certificates of this kind: check mqtt.certificate",
    "ACCESS_DENIED": "it does not let this certificate in: check the broker's access rules",
    "HANDSHAKE_FAILURE": "it agrees to no TLS version or cipher that we have, or wants a certificate",
    "PROTOCOL_VERSION": "it speaks only TLS versions that are no longer safe",
}
_VERIFY = {
    9: "its certificate is not valid yet; is this computer's clock right?",
    10: "its certificate has expired, or this computer's clock is wrong",
}


def code(reason: ReasonCode) -> str:
    """Explain a reason code of MQTT 5."""
    advice = _ADVICE.get(reason.value)
    text = f"{reason.getName().lower()} (0x{reason.value:02X})"
    return f"{text}; {advice}" if advice else text


def network(error: OSError | ValueError, host: str) -> str:
    """Explain why connecting to ``host`` failed."""
    if isinstance(error, ssl.SSLCertVerificationError):
        advice = "check mqtt.ca and the host name in mqtt.url"
        return _VERIFY.get(error.verify_code, f"its certificate is not trusted: {error.verify_message}; {advice}")
    if isinstance(error, ssl.SSLError):
        return alert(str(error)) or f"no TLS connection: {error.reason or error}; is mqtts:// right for this port?"
    if isinstance(error, socket.gaierror):
        if error.errno in (socket.EAI_AGAIN, socket.EAI_FAIL):
            return f"the name server does not answer for {host}; is this computer on the network?"
        return f"this host name is unknown: {host}; check mqtt.url and the name server"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there; is the broker running?"
    if isinstance(error, ConnectionResetError):
        return "it cut the connection at once; is mqtt:// or mqtts:// right for this port?"
    if isinstance(error, TimeoutError):
        if "handshake" in str(error):
            return "it does not answer the TLS handshake; is mqtts:// right for this port?"
        return "no answer; is the address right, and does a firewall let us out?"
    return str(error) or type(error).__name__


def alert(text: str) -> str:
    """Explain a TLS alert that the broker sent, from OpenSSL's text; empty where there is none in ``text``."""
    return next((advice for name, advice in _ALERTS.items() if name in text.upper().replace(" ", "_")), "")


def dropped(text: str, answered: bool, tls: bool) -> str:
    """Explain a connection that was cut; ``text``: the socket's last error, ``answered``: it had accepted us."""
    if said := alert(text):
        return said
    if answered:
        return "the connection was lost"
    other = "mqtt:// without TLS" if tls else "TLS, mqtts://"
    return f"it closed the connection without an answer; does this port want {other}, and does it speak MQTT 5?"
