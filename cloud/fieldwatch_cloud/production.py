"""What ``mode = "production"`` refuses: settings that are right for trying things out and wrong where others come in.

In development mode everything starts that can start, so that a first look needs no certificate. The file of an
installation says ``mode = "production"`` in its first line, and then no command works with a configuration in which

1. somebody on the way could read or change what is sent: plain HTTP, MQTT or SMTP over a network;
2. a secret stands in the file, or lets everybody in who knows it: start and API tokens instead of accounts;
3. the broker does not ask who somebody is, or is the embedded one, which does not;
4. several processes would write one SQLite file.

``serve`` and ``ingest`` also refuse secret files that every account of the machine can read.

Not seen: what a channel of kind ``apprise`` does, as each of its services has a scheme of its own. The rules of the
address of the dashboard (:mod:`.access.address`) hold in both modes.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from fieldwatch_cloud.loopback import is_loopback

if TYPE_CHECKING:
    from fieldwatch_cloud.config import Config

OTHERS_READ = 0o004


def unsafe(config: Config) -> list[str]:
    """Return what of the configuration may not be in production, with the remedy; empty where all may be. No I/O."""
    return [*_web(config), *_broker(config), *_enrolment(config), *_notify(config)]


def exposed(config: Config) -> list[str]:
    """Return the secret files of the configuration that everybody on this machine can read. Missing files are not
    judged here, nor any on Windows, where rights are not in the mode.
    """
    if os.name == "nt":
        return []
    return [
        f"{key}: {path} can be read by every account of this machine: chmod o= {path}"
        for key, path in _secrets(config)
        if path.exists() and path.stat().st_mode & OTHERS_READ
    ]


def _web(config: Config) -> Iterator[str]:
    web = config.web
    if web.url is None:
        yield "web.url is missing: without it there are no accounts; give the https address that people open"
    for name in ("start_token", "api_token"):
        if getattr(web, name) is not None:
            yield f"web.{name} stands in the file: remove it; people have accounts, scripts make tokens of their own"
    if config.oidc is not None and _plain(config.oidc.issuer, "http"):
        yield f"oidc.issuer is {config.oidc.issuer}: it must be https"


def _broker(config: Config) -> Iterator[str]:
    broker = config.broker
    if broker.embedded:
        yield 'broker.url is "embedded", a broker for trying out: name one of your own, "mqtts://broker.example.org:8883"'
        return
    if urlsplit(broker.url).scheme != "mqtts":
        yield f'broker.url is {broker.url}: without TLS everybody on the way can read and change: "mqtts://…"'
    elif broker.certificate is None and broker.username is None:
        yield "broker: neither certificate nor username: a broker that lets us in so lets anybody in as ingest"
    if broker.group is not None:
        yield (
            "broker.group is for several ingest processes, and the store is an SQLite file, which one process writes: "
            "remove it"
        )


def _enrolment(config: Config) -> Iterator[str]:
    enrolment = config.enrolment
    if enrolment is None:
        return
    if urlsplit(enrolment.broker).scheme != "mqtts":
        yield f'enrolment.broker is {enrolment.broker}: devices would send without TLS: "mqtts://…"'
    if enrolment.updates is not None and _plain(enrolment.updates, "http"):
        yield f"enrolment.updates is {enrolment.updates}: devices would fetch without TLS: https"


def _notify(config: Config) -> Iterator[str]:
    notify = config.notify
    if notify.channels and urlsplit(notify.url).scheme != "https":
        yield f"notify.url is {notify.url}: links in messages must lead to the https address that people open"
    smtp = notify.smtp
    if smtp is not None and smtp.security == "none" and not is_loopback(smtp.host):
        yield f'notify.smtp.security is "none": mail would cross the network to {smtp.host} in the clear: "starttls"'
    if notify.heartbeat is not None and _plain(notify.heartbeat.get_secret_value(), "http"):
        yield "notify.heartbeat must be https"
    for name, channel in notify.channels.items():
        if channel.kind in {"webhook", "alertmanager"} and _plain(channel.url.get_secret_value(), "http"):
            yield f"notify.channels.{name}.url must be https"


def _plain(url: str, scheme: str) -> bool:
    """Tell whether a URL has the scheme without TLS and leads to another machine."""
    parts = urlsplit(url)
    return parts.scheme.lower() == scheme and not is_loopback(parts.hostname or "")


def _secrets(config: Config) -> Iterator[tuple[str, Path]]:
    named = [
        ("web.key", config.web.key),
        ("broker.key", config.broker.key),
        ("broker.password_file", config.broker.password_file),
        ("oidc.secret_file", config.oidc.secret_file if config.oidc is not None else None),
        ("notify.smtp.password_file", config.notify.smtp.password_file if config.notify.smtp is not None else None),
        *(
            (f"notify.channels.{name}.secret_file", channel.secret_file)
            for name, channel in config.notify.channels.items()
            if channel.kind == "webhook"
        ),
    ]
    if config.enrolment is not None:
        named += [
            (f"enrolment.folder/{name}", config.enrolment.folder / name) for name in ("authority.key", "server.key")
        ]
    yield from ((key, path) for key, path in named if path is not None)
