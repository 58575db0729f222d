"""What other programs ask about this server: does each part work, may requests come, how much of everything.

``/healthz`` and ``/readyz`` are for everybody, ``/metrics`` (Prometheus) for a token of scope ``see``. Nothing here
names a device: a label for each would be a time series for each.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from fieldwatch_contract import clock
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector
from sqlalchemy import func, select

from fieldwatch_cloud.access.roles import Permission
from fieldwatch_cloud.alerts.routing import SELF_TEST
from fieldwatch_cloud.alerts.standing import NO_CONTACT
from fieldwatch_cloud.ingest import Ingest
from fieldwatch_cloud.notify import Telling
from fieldwatch_cloud.store import Store, outbox
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.web.parts import Monitor
from fieldwatch_cloud.web.routes import Route, needs

OVERDUE_S = 60
"""A message that nobody has tried to send for so long after it was due means that the worker does not work."""

router = APIRouter(include_in_schema=False, route_class=Route)


def _parts(request: Request) -> dict[str, dict[str, str]]:
    monitor: Monitor = request.app.state.monitor
    return {
        part.name: {"status": "ok"}
        if part.ok
        else {"status": "down", "says": part.says, "since": clock.iso(part.since or clock.now())}
        for part in monitor.parts()
    }


def _answer(parts: dict[str, dict[str, str]], well: str, ill: str) -> Response:
    ok = all(part["status"] == "ok" for part in parts.values())
    body = {"status": well if ok else ill, "parts": parts}
    return JSONResponse(body, status_code=200 if ok else 503, headers={"Cache-Control": "no-store"})


@router.get("/healthz")
@needs(Permission.OPEN)
def healthz(request: Request) -> Response:
    """Tell whether each part of this server works: 503 where one does not."""
    return _answer(_parts(request), "ok", "down")


@router.get("/readyz")
@needs(Permission.OPEN)
def readyz(request: Request) -> Response:
    """Tell whether this server does its whole work: its parts, and messages go out when they are due."""
    parts = _parts(request)
    if parts["database"]["status"] == "ok":
        store: Store = request.app.state.store
        now = clock.now()
        with store.read() as db:
            since = outbox.untried(db)
        late = since is not None and now - since > OVERDUE_S * clock.SECOND
        parts["outbox"] = {"status": "ok"}
        if late and since is not None:
            parts["outbox"] = {"status": "down", "says": "messages are due and not sent", "since": clock.iso(since)}
    return _answer(parts, "ready", "not ready")


@router.get("/metrics")
@needs(Permission.SEE)
def metrics(request: Request) -> Response:
    """Return the numbers of this process and of the store in Prometheus' text format."""
    registry = CollectorRegistry()
    registry.register(_Numbers(request.app.state))
    return Response(generate_latest(registry), media_type="text/plain; version=0.0.4; charset=utf-8")


class _Numbers(Collector):
    """Reads everything when it is asked."""

    def __init__(self, state: Any) -> None:
        self._state = state

    def collect(self) -> Iterable[Metric]:
        """Yield all metrics."""
        state = self._state
        up = GaugeMetricFamily("fieldwatch_up", "Whether a part of this server works", labels=["part"])
        for part in state.monitor.parts():
            up.add_metric([part.name], float(part.ok))
        yield up
        yield _gauge("streams", "Open live streams of browsers", state.stream.open)
        if isinstance(ingest := state.ingest, Ingest):
            for name, value in vars(ingest.stats).items():
                yield _counter(f"ingest_{name}", "Ingest since the start of this process", value)
        if isinstance(telling := state.telling, Telling):
            for name, value in vars(telling.worker.tally).items():
                yield _counter(f"messages_{name}", "Attempts to tell people since the start of this process", value)
            yield _gauge("self_test_age_seconds", "Since a self-test has come through", telling.chain.age)
        yield from self._stored()

    def _stored(self) -> Iterable[Metric]:
        store: Store = self._state.store
        now = clock.now()
        d, i, m = t.device.c, t.incident.c, t.message.c
        with store.read() as db:
            yield _by("devices", "Devices by connection", db, select(d.status, func.count()).group_by(d.status))
            silent = select(func.count()).where(d.last_seen < now - NO_CONTACT)
            yield _gauge("devices_silent", "Devices of which nothing came for ten minutes", db.execute(silent).scalar())
            live = select(i.state, func.count()).where(i.kind != SELF_TEST).group_by(i.state)
            yield _by("incidents", "Incidents by state", db, live)
            waiting = select(m.state, func.count()).group_by(m.state)
            yield _by("outbox", "Messages to people by state", db, waiting)
            since = outbox.untried(db)
            late = 0 if since is None else max(0, now - since) / clock.SECOND
            yield _gauge("outbox_overdue_seconds", "How long the oldest due message has not been tried", late)
            unrouted = select(func.count()).where(t.incident_event.c.what == "unrouted")
            yield _counter(
                "unrouted", "News of which nobody was told, as no route takes it", db.execute(unrouted).scalar()
            )
            aside = select(func.max(t.quarantine.c.id))
            yield _counter("quarantined", "Payloads set aside", db.execute(aside).scalar() or 0)


def _gauge(name: str, says: str, value: Any) -> Metric:
    return GaugeMetricFamily(f"fieldwatch_{name}", says, float(value or 0))


def _counter(name: str, says: str, value: Any) -> Metric:
    return CounterMetricFamily(f"fieldwatch_{name}", says, float(value or 0))


def _by(name: str, says: str, db: Any, query: Any) -> Metric:
    metric = GaugeMetricFamily(f"fieldwatch_{name}", says, labels=["state"])
    for state, count in db.execute(query):
        metric.add_metric([str(state)], float(count))
    return metric
