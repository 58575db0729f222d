"""``fieldwatch-cloud notify test ROUTE``: sends a message that says it is a test through every channel of a route."""

from __future__ import annotations

import argparse
import secrets
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING

from fieldwatch_contract import clock

from fieldwatch_cloud.alerts.routing import SELF_TEST, Routing
from fieldwatch_cloud.notify.channel import Channel, RefusedError, TryLaterError
from fieldwatch_cloud.notify.channels import Channels
from fieldwatch_cloud.notify.routes import routing_of
from fieldwatch_cloud.store import Store, sqlite_url
from fieldwatch_cloud.store.outbox import Item, Letter

if TYPE_CHECKING:
    from fieldwatch_cloud.config import Config

OK, FAILED, USAGE = 0, 1, 2


def run(options: argparse.Namespace) -> int:
    """Send the test; 0 if every channel has taken it, 1 if not, 2 if there is no such route."""
    from fieldwatch_cloud.config import load

    config = load(options.config)
    routing = routing_of(config)
    channels = channels_of(routing, options.route)
    if channels is None:
        known = ", ".join(route.name for route in routing.routes if route.name != SELF_TEST) or "none"
        print(f"no route {options.route!r} in the configuration; known: {known}", file=sys.stderr)
        return USAGE
    store = Store(sqlite_url(config.store.path))
    try:
        failed = sum(not _send(config, store, options.route, name) for name in channels)
    finally:
        store.close()
    return FAILED if failed else OK


def channels_of(routing: Routing, name: str) -> list[str] | None:
    """Return the channels of a route, each once; None where there is no such route."""
    found = [route for route in routing.routes if route.name == name != SELF_TEST]
    if not found:
        return None
    return list(dict.fromkeys(channel for route in found for step in route.steps for channel in step.channels))


def trial(channel: str, route: str, now: int) -> Letter:
    """Return a message that says it is a test."""
    incident = SimpleNamespace(
        id=0,
        device="test",
        kind="test",
        site="",
        audience="device",
        severity="warning",
        state="open",
        what="This is a test: nothing is wrong",
        remedy="",
        opened_at=now,
        ended_at=None,
        bundle=None,
    )
    event = SimpleNamespace(id=0, incident_id=0, at=now, what="opened", by="", text="")
    return Letter(secrets.token_hex(16), channel, route, None, 1, (Item(incident, event),))


def _send(config: Config, store: Store, route: str, name: str) -> bool:
    channel: Channel = Channels(config, store).find(name)
    try:
        channel.send(trial(name, route, clock.now()))
    except (TryLaterError, RefusedError) as error:
        print(f"{name}: {error}")
        return False
    print(f"{name}: taken")
    return True
