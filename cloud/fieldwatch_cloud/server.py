"""The server: its parts, started in an order in which none misses the others, and ended in the reverse one.

====== ========================================================= ==============================
part   does                                                      how many processes may run it
====== ========================================================= ==============================
ingest takes what devices send from the broker into the store    any number, with ``broker.group``
worker tells people: messages, escalation, states, self-test     one does; others wait
web    pages and REST                                            any number
====== ========================================================= ==============================

``serve`` is all of them in one process, and the embedded broker and the enrolment service with them. One configuration
serves every process; what they have in common is the store.
"""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from fieldwatch_cloud.config import Config, ConfigError
from fieldwatch_cloud.ingest import Ingest
from fieldwatch_cloud.ingest.broker import Broker
from fieldwatch_cloud.listen import CertificateError, check_certificate, listen
from fieldwatch_cloud.notify import Telling, routing_of
from fieldwatch_cloud.notify.telling import PART as TELLING
from fieldwatch_cloud.store import Store, runners, sqlite_url
from fieldwatch_cloud.store.notices import Follower

if TYPE_CHECKING:
    import socket

    from fieldwatch_cloud.web import WebSettings
    from fieldwatch_cloud.web.parts import Monitor

Part = Literal["ingest", "worker", "web"]
ALL: frozenset[Part] = frozenset(("ingest", "worker", "web"))
INGEST_S = 10.0
"""How long ``serve`` waits for its subscription before it announces the dashboard."""


def run(config: Config, where: Path | None, parts: frozenset[Part]) -> None:
    """Run ``parts`` until a signal ends them; ``where``: the configuration's file, for messages.

    Raises :class:`.config.ConfigError`, :class:`.listen.PortError`, :class:`.store.StoreError`,
    :class:`.ingest.broker.BrokerError`, :class:`.enrolment.folder.FolderError`, each with words for whoever started it.
    """
    whole = parts == ALL
    if "ingest" in parts and config.broker.embedded and not whole:
        named = where or "the default configuration"
        raise ConfigError([f'{named}: broker.url is "embedded", which `serve` starts: name the broker to take from'])
    _keep_secrets(config, where)
    with ExitStack() as stack:
        settings = web_settings(config, where) if "web" in parts else None
        sock = _port(stack, settings) if settings is not None else None
        store = Store(sqlite_url(config.store.path), routing=routing_of(config))
        stack.callback(store.close)
        if settings is not None:
            _let_nobody_in_unknown(store, settings, where)
        ingest = _ingest(stack, store, config, wait=whole) if "ingest" in parts else None
        if whole and config.enrolment is not None:
            from fieldwatch_cloud.enrolment.commands import make_service

            enrolment = make_service(config.enrolment)
            stack.callback(enrolment.stop)
            enrolment.start()
        telling = Telling(store, config) if "worker" in parts else None
        if settings is not None and sock is not None:
            _web(stack, store, settings, sock, ingest, telling)
        else:
            _wait(stack, store, ingest, telling)


def _keep_secrets(config: Config, where: Path | None) -> None:
    """Raise :class:`.config.ConfigError` where in production everybody on this machine could read a secret file."""
    from fieldwatch_cloud.production import exposed

    if config.production and (problems := exposed(config)):
        raise ConfigError([f"{where}: in production {problem}" for problem in problems])


def _port(stack: ExitStack, settings: WebSettings) -> socket.socket:
    sock = listen(settings.host, settings.port, "web")
    stack.callback(sock.close)
    return sock


def _let_nobody_in_unknown(store: Store, settings: WebSettings, where: Path | None) -> None:
    from fieldwatch_cloud.access.accounts import Accounts

    if settings.public is not None and not Accounts(store).exist():
        invite = f"fieldwatch-cloud user invite NAME --role admin --config {where}"
        raise ConfigError([f"{where}: web.url lets others in, and nobody has an account: first `{invite}`"])


def _ingest(stack: ExitStack, store: Store, config: Config, wait: bool) -> Ingest:
    url = None
    if config.broker.embedded:
        broker = Broker(config.store.path.parent / "broker", config.broker.port, config.broker.program).start()
        stack.callback(broker.stop)
        print(broker.note, file=sys.stderr)
        url = broker.url
    ingest = Ingest(store, config.broker, url)
    stack.callback(ingest.stop)
    ingest.start()
    presence = runners.Presence(store, "ingest", lambda: ingest.error or "")
    stack.callback(presence.stop)
    presence.start()
    if wait:
        ingest.wait_connected(INGEST_S)  # be ready for an agent's first event before the dashboard is announced
    return ingest


def _web(
    stack: ExitStack,
    store: Store,
    settings: WebSettings,
    sock: socket.socket,
    ingest: Ingest | None,
    telling: Telling | None,
) -> None:
    from fieldwatch_cloud.web import create_app, make_server
    from fieldwatch_cloud.web.parts import Elsewhere

    follower = Follower(store)
    stack.callback(follower.stop)
    follower.start()
    others = Elsewhere(store, "ingest", "ingest"), Elsewhere(store, TELLING, "worker")
    app = create_app(store, store.live, settings, ingest or others[0], telling or others[1])
    _tell(stack, telling, app.state.monitor)
    says = f"dashboard: {settings.url if app.state.accounts.exist() else settings.start_url}"
    server = make_server(app, settings, ready=lambda: print(says, flush=True))  # who reads it may come at once
    # The server handles these signals and then raises the same signal again, which must be ignored.
    _on_signal(lambda: None)
    server.run(sockets=[sock])


def _wait(stack: ExitStack, store: Store, ingest: Ingest | None, telling: Telling | None) -> None:
    """Do without pages, until a signal comes."""
    ended = threading.Event()
    _on_signal(ended.set)
    if telling is not None:
        from fieldwatch_cloud.web.parts import Elsewhere, Monitor

        monitor = Monitor(store, ingest or Elsewhere(store, "ingest", "ingest"), telling)
        stack.callback(monitor.stop)
        monitor.start()
        _tell(stack, telling, monitor)
    print("running", flush=True)
    while not ended.wait(1.0):  # short waits: on Windows a signal does not interrupt a wait
        pass


def _tell(stack: ExitStack, telling: Telling | None, monitor: Monitor) -> None:
    if telling is not None:
        stack.callback(telling.stop)
        telling.start(monitor.others)


def _on_signal(act: Callable[[], None]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: act())


def web_settings(config: Config, where: Path | None) -> WebSettings:
    """Put together what the dashboard is told. Raises :class:`.config.ConfigError` where that cannot be."""
    from fieldwatch_cloud.access.oidc import Provider
    from fieldwatch_cloud.web import WebSettings

    web, oidc = config.web, config.oidc
    tokens = {"start_token": web.start_token, "api_token": web.api_token}
    try:
        provider = None
        if oidc is not None:
            secret = oidc.secret_file.read_text(encoding="utf-8").strip() if oidc.secret_file is not None else None
            provider = Provider(oidc.issuer, oidc.client_id, secret, oidc.name)
        settings = WebSettings(
            host=web.host,
            port=web.port,
            public=web.url,
            proxies=tuple(web.proxies),
            certificate=web.certificate,
            key=web.key,
            provider=provider,
            **{name: token.get_secret_value() for name, token in tokens.items() if token is not None},
        )
        if web.certificate is not None and web.key is not None:
            check_certificate(web.certificate, web.key, "web")
    except OSError as error:
        raise ConfigError([f"{where}: oidc.secret_file: {error.strerror}: {error.filename}"]) from error
    except (CertificateError, ValueError) as error:
        raise ConfigError([f"{where}: {error}"]) from error
    return settings
