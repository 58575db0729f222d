"""Renders the broker's configuration and access rules, so that nobody has to write them by hand.

What they promise, whatever a certificate's owner tries:

1. Identity is the certificate's common name. The broker takes user name *and* client id from it; what a client calls
   itself is ignored, so that nobody can take another's place.
2. A device writes its own events, bulks, state and replies, and reads its own acknowledgements, verdicts and commands.
3. Ingest reads what devices write and writes what they read. Its name holds a dot, which no device id can
   (:data:`.topics.DEVICE_ID`), so that no device certificate can be mistaken for it.
4. Everything else is refused, also without a certificate, and with a revoked one when connecting.

A broker may hand a message of a shared subscription to a member that may not read it, and drop it there (Mosquitto's
access file knows no rule for subscribing). Nothing is lost by that, as only ingest's acknowledgement empties an outbox,
but delivery is delayed: so the group's name is drawn at random, and must be kept as a secret.

The rules are the topic table of ``docs/architecture.md``; no I/O here.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal

from fieldwatch_contract.topics import DEVICE_ID, PREFIX

Kind = Literal["mosquitto", "emqx"]

INGEST = "fieldwatch.ingest"
"""The default name of ingest: the common name of its certificate, and so its client id."""

DEVICE_WRITES = ("evt/+", "bulk", "state", "reply")
INGEST_READS = ("evt/#", "bulk", "state", "reply")
"""As ingest subscribes (:data:`.topics.ALL_EVENTS`): a broker that checks subscriptions compares the filters."""
DEVICE_READS = ("ack", "verdicts", "command")
PACKET_LIMIT = 262_144
"""Bytes of one message; an alert with its picture stays below half of it."""
QUEUE_LIMIT = 100_000
"""Messages that wait for ingest while it is away."""


@dataclass(frozen=True)
class Files:
    """Where the broker finds its certificates, and where it writes; absolute paths of the broker's own machine."""

    ca: PurePath
    certificate: PurePath
    key: PurePath
    crl: PurePath | None
    data: PurePath
    rules: PurePath


def render(kind: Kind, files: Files, *, port: int = 8883, ingest: Sequence[str] = (INGEST,)) -> dict[str, str]:
    """Return file name → text. ``ingest``: the names of the ingest processes, one certificate each.

    Raises :class:`ValueError` for a name that a device could have, or that cannot be written into the rules, and for a
    port or path that would make other settings of it.
    """
    for name in ingest:
        if problem := unfit(name):
            raise ValueError(problem)
    if not 1 <= port <= 65535:
        raise ValueError(f"--port {port}: a port is 1 to 65535")
    for path in (files.ca, files.certificate, files.key, files.crl, files.data, files.rules):
        if path is not None and not (path.is_absolute() and str(path).isprintable() and '"' not in str(path)):
            raise ValueError(f"{str(path)!r}: the broker needs a whole path, without quotes and line ends")
    return _mosquitto(files, port, ingest) if kind == "mosquitto" else _emqx(files, port, ingest)


def unfit(name: str) -> str:
    """Say why ``name`` cannot be ingest's; empty where it can.

    >>> unfit("fieldwatch.ingest")
    ''
    >>> unfit("fieldwatch-ingest")
    "'fieldwatch-ingest' could be a device's id: give ingest a name with a dot, such as 'fieldwatch.ingest'"
    """
    if DEVICE_ID.fullmatch(name):
        return f"{name!r} could be a device's id: give ingest a name with a dot, such as {INGEST!r}"
    if not name or not all(character.isascii() and (character.isalnum() or character in ".-_") for character in name):
        return f"{name!r} is no name for ingest: letters, digits, '.', '-' and '_' only"
    return ""


def group_name() -> str:
    """Draw the name of the group in which several ingest processes share the load (``[broker] group``)."""
    return f"ingest-{secrets.token_hex(8)}"


def _mosquitto(files: Files, port: int, ingest: Sequence[str]) -> dict[str, str]:
    revoked = [f"crlfile {files.crl}"] if files.crl else []
    conf = [
        "# Written by 'fieldwatch-cloud broker-config mosquitto'. Mosquitto 2.0 or later.",
        "per_listener_settings false",
        f"listener {port}",
        f"cafile {files.ca}",
        f"certfile {files.certificate}",
        f"keyfile {files.key}",
        *revoked,
        "tls_version tlsv1.2",
        "",
        "# Who somebody is, the certificate says: user name and client id are its common name.",
        "require_certificate true",
        "use_identity_as_username true",
        "use_username_as_clientid true",
        "allow_anonymous false",
        f"acl_file {files.rules}",
        "",
        f"max_packet_size {PACKET_LIMIT}",
        f"max_queued_messages {QUEUE_LIMIT}",
        "max_inflight_messages 200",
        "max_keepalive 300",
        "persistent_client_expiration 7d",
        "persistence true",
        f"persistence_location {files.data}/",
        "autosave_interval 60",
        "log_timestamp_format %Y-%m-%dT%H:%M:%S",
    ]
    rules = ["# Written by 'fieldwatch-cloud broker-config mosquitto'. What no line allows is refused."]
    for name in ingest:
        rules += ["", f"user {name}"]
        rules += [f"topic read {PREFIX}/+/{channel}" for channel in INGEST_READS]
        rules += [f"topic write {PREFIX}/+/{channel}" for channel in DEVICE_READS]
    rules += ["", "# %u: the certificate's common name, which is the device's id"]
    rules += [f"pattern write {PREFIX}/%u/{channel}" for channel in DEVICE_WRITES]
    rules += [f"pattern read {PREFIX}/%u/{channel}" for channel in DEVICE_READS]
    return {"mosquitto.conf": "\n".join(conf) + "\n", files.rules.name: "\n".join(rules) + "\n"}


def _emqx(files: Files, port: int, ingest: Sequence[str]) -> dict[str, str]:
    conf = f"""\
# Written by 'fieldwatch-cloud broker-config emqx'. EMQX 5: the end of etc/emqx.conf.
# A revoked device is shut out by EMQX's own list: emqx ctl banned add --type clientid DEVICE
listeners.tcp.default.enable = false
listeners.ws.default.enable = false
listeners.wss.default.enable = false
listeners.ssl.default {{
  bind = "0.0.0.0:{port}"
  ssl_options.cacertfile = "{files.ca.as_posix()}"
  ssl_options.certfile = "{files.certificate.as_posix()}"
  ssl_options.keyfile = "{files.key.as_posix()}"
  ssl_options.verify = verify_peer
  ssl_options.fail_if_no_peer_cert = true
  ssl_options.versions = ["tlsv1.3", "tlsv1.2"]
}}
# Who somebody is, the certificate says: user name and client id are its common name.
mqtt.peer_cert_as_username = cn
mqtt.peer_cert_as_clientid = cn
mqtt.max_packet_size = {PACKET_LIMIT}
mqtt.max_mqueue_len = {QUEUE_LIMIT}
authorization.no_match = deny
authorization.cache.enable = true
authorization.sources = [{{type = file, enable = true, path = "{files.rules.as_posix()}"}}]
"""
    rules = ["%% Written by 'fieldwatch-cloud broker-config emqx'. The first rule that fits decides."]

    def rule(who: str, action: str, names: Sequence[str]) -> str:
        return f"{{allow, {who}, {action}, [{', '.join(_quoted(name) for name in names)}]}}."

    for name in ingest:
        who = f"{{username, {_quoted(name)}}}"
        rules.append(rule(who, "subscribe", [f"{PREFIX}/+/{channel}" for channel in INGEST_READS]))
        rules.append(rule(who, "publish", [f"{PREFIX}/+/{channel}" for channel in DEVICE_READS]))
    own = f"{PREFIX}/${{username}}"
    rules.append(rule("all", "publish", [f"{own}/{channel}" for channel in DEVICE_WRITES]))
    rules.append(rule("all", "subscribe", [f"{own}/{channel}" for channel in DEVICE_READS]))
    rules.append("{deny, all}.")
    return {"emqx.conf": conf, files.rules.name: "\n".join(rules) + "\n"}


def _quoted(text: str) -> str:
    """In double quotes, as Erlang and HOCON write it; names hold nothing that would need escaping."""
    return f'"{text}"'
