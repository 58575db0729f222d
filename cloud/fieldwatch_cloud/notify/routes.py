"""The routes of a configuration. No I/O.

A mail channel with several addresses is told as several channels, ``name address``: one that is refused must neither be
forgotten because another was taken, nor have the others told again.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from fieldwatch_contract import clock

from fieldwatch_cloud.alerts.routing import SELF_TEST, Hours, Match, Route, Routing, Step
from fieldwatch_cloud.config import Config, EmailChannel, RouteConfig


def routing_of(config: Config) -> Routing:
    """Return the configured routes, with that of the self-test."""
    own = Route(SELF_TEST, (Step((SELF_TEST,)),), Match(kind=(SELF_TEST,)))
    routes = (own, *(_route(one, config) for one in config.alerts.routes))
    return Routing(routes, dict(config.alerts.sites), config.alerts.late * clock.SECOND)


def targets(name: str, config: Config) -> tuple[str, ...]:
    """Return the channels that a configured one is told as."""
    channel = config.notify.channels[name]
    return tuple(f"{name} {address}" for address in channel.to) if isinstance(channel, EmailChannel) else (name,)


def _route(one: RouteConfig, config: Config) -> Route:
    steps = tuple(
        Step(tuple(target for name in step.to for target in targets(name, config)), step.after * clock.SECOND)
        for step in one.steps
    )
    minute = (datetime.combine(datetime.min, one.digest_at) + timedelta(minutes=1)).time()
    return Route(
        name=one.name,
        steps=steps,
        match=Match(**one.match.model_dump()),
        hours=Hours(**one.hours.model_dump()) if one.hours is not None else None,
        digest=one.send == "digest",
        digest_at=Hours(begin=one.digest_at, end=minute, zone=one.zone),
    )
