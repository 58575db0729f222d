"""Compares the clocks: the device's, as its newest reading tells it; this PC's; the server's.

The device's clock is compared with the time at which this PC's file system noted the write, so it does not matter how
long ago that was. A server's clock tells which of the two is right.

| the server and this PC | the log and this PC | told |
|---|---|---|
| differ | – | set this PC's clock; whether the log agrees with the server |
| agree, or no server answers | whole quarters of an hour apart, times without a zone | which zone to set |
| | the same, times with a zone | the device's clock, or the zone that it is set to |
| | more than five minutes apart | the device's clock |
| | the log behind by no more than a period | fine: a reading that is written when its period is over |
| | a day or more apart | nothing: an old file, or another epoch, which ``check`` has told |
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import urllib3
from fieldwatch_contract import clock
from fieldwatch_contract.enrolment import AUTHORITY
from fieldwatch_contract.reading.advice import zone_between
from fieldwatch_contract.reading.parse import Parser
from fieldwatch_contract.reading.settings import LogConfig

from fieldwatch_agent import web
from fieldwatch_agent.check_log import take_sample
from fieldwatch_agent.config import Config
from fieldwatch_agent.findings import Finding
from fieldwatch_agent.log.tail import Tail
from fieldwatch_agent.zones import local_zone, offset, zone_for

WHERE, ZONE = "clock", "[log.timestamp] timezone"
SKEW = 5 * clock.MINUTE
"""µs by which clocks may differ; beyond, certificates and signatures fail sooner or later."""
GLANCE = 256 * 1024
SET = "set the clock, or switch on time synchronisation"


@dataclass(frozen=True)
class Newest:
    """The log's newest reading, and when its file was written by this PC's clock (µs). ``zoned``: its time tells its
    zone. ``period``: µs."""

    ts: int
    written: int
    zoned: bool
    period: int


@dataclass(frozen=True)
class Server:
    """How far a server's clock is ahead of this PC's (µs), and what to call it."""

    name: str
    ahead: int


def compare(newest: Newest | None, server: Server | None, zone: str, local: str | None) -> Iterator[Finding]:
    """Yield what the clocks say; ``zone``: as ``[log.timestamp]`` has it, ``local``: this PC's."""
    behind = server is not None and abs(server.ahead) > SKEW
    if server is not None and not behind:
        yield Finding("ok", WHERE, f"agrees with {server.name}'s")
    away = 0 if newest is None else newest.ts - newest.written
    if server is not None and behind:
        side = "behind" if server.ahead > 0 else "ahead of"
        what = f"this PC's clock is {span(abs(server.ahead))} {side} {server.name}'s"
        if newest is not None and abs(away - server.ahead) <= SKEW:
            what += "; the log's times agree with the server, so the device's clock is right"
        yield Finding("error", WHERE, what, SET)
        return
    if newest is None or abs(away) >= clock.DAY:
        return
    if -newest.period * 1.1 <= away <= 0:
        away = 0
    others = "this PC's" if server is None else f"this PC's and {server.name}'s"
    if quarters := zone_between(away, 0):
        side = "ahead of" if quarters > 0 else "behind"
        what = f"the log's times are {hours(quarters)} {side} {others} clock"
        if newest.zoned:
            yield Finding("warning", "device's clock", f"{what}, and say their zone", "set the device's clock or zone")
            return
        ahead = quarters + offset(zone, newest.ts)
        right = zone_for(ahead, newest.ts, local)
        remedy = f'set [log.timestamp] timezone = "{right}"' if right else "set it to the zone of the device's clock"
        fixed = '; or the zone\'s name, such as "Europe/Berlin", if its clock changes in summer'
        yield Finding("warning", ZONE, f"{what}, read as {zone}", remedy + (fixed if right and "Etc/" in right else ""))
    elif abs(away) > SKEW:
        side = "ahead of" if away > 0 else "behind"
        what = f"the log's times are {span(abs(away))} {side} {others} clock"
        late = "; or its program writes late, and all is well" if away < 0 else ""
        yield Finding("warning", "device's clock", what, f"set the device's clock{late}")
    else:
        yield Finding("ok", "device's clock", f"the log's times agree with {others} clock")


def try_clocks(config: Config) -> Iterator[Finding]:
    """Yield how the clocks compare; nothing of those that cannot be asked."""
    return compare(_newest(config.log), _server(config), config.log.timestamp.timezone, local_zone())


def _newest(log: LogConfig) -> Newest | None:
    """Return the newest reading, None where there is none that can be read: ``check`` tells why."""
    try:
        files = Tail(log.path, encoding=log.encoding, format=Parser(log, ())).files()
        if not files:
            return None
        sample = take_sample(files[-1], log, GLANCE)
        written = sample.path.stat().st_mtime_ns // 1000
    except OSError:
        return None
    parser = Parser(log, ())
    for block in sample.blocks:
        parser.parse(block)
    last = parser.last_reading([line for block in sample.blocks[-2:] for line in block.lines])
    return None if last is None else Newest(last[0], written, not parser.assumed_zone, log.period)


def _server(config: Config) -> Server | None:
    """Ask the update server, or else the enrolment service, for the time."""
    asked = []
    if config.updates is not None:
        url = config.updates.url.rstrip("/") + "/metadata/timestamp.json"
        asked.append(("the update server", url, config.updates.ca))
    if config.enrolment is not None:
        ca = config.mqtt.ca if config.mqtt is not None else None
        asked.append(("the enrolment service", config.enrolment.url.rstrip("/") + AUTHORITY, ca))
    for name, url, ca in asked:
        tls = {} if ca is None else {"ca_certs": str(ca)}
        try:
            answer = web.pool(url, **tls).request("GET", url, timeout=10, retries=False, redirect=False)
            there = parsedate_to_datetime(answer.headers["Date"]).astimezone(UTC)
        except (urllib3.exceptions.HTTPError, OSError, KeyError, ValueError, TypeError):
            continue  # why it cannot be reached, the update tells
        return Server(name, int((there - datetime.now(UTC)).total_seconds() * clock.SECOND))
    return None


def hours(quarters: int) -> str:
    """Say whole quarters of an hour (µs).

    >>> hours(7_200_000_000), hours(-5_400_000_000)
    ('2 h', '1.5 h')
    """
    return f"{abs(quarters) / (60 * clock.MINUTE):g} h"


def span(size: float) -> str:
    """Say a time span (µs) as people do.

    >>> span(7_200_000_000), span(420_000_000), span(200_000_000_000)
    ('2 hours', '7 minutes', '2 days')
    """
    for unit, name in ((clock.DAY, "days"), (60 * clock.MINUTE, "hours")):
        if size >= 2 * unit:
            return f"{size / unit:.0f} {name}"
    return f"{size / clock.MINUTE:.0f} minutes"
