"""Devices as they stand, their ledgers, and the fleet in numbers."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Query, Request
from fieldwatch_contract import clock
from pydantic import BaseModel, ConfigDict, Field

from fieldwatch_cloud.access.roles import Permission
from fieldwatch_cloud.alerts.standing import State, counts, fleet_notes
from fieldwatch_cloud.store import cards
from fieldwatch_cloud.store.fleet import DeviceNow
from fieldwatch_cloud.web.api.common import (
    FORBIDDEN,
    NOT_FOUND,
    DeviceId,
    Limit,
    Model,
    Number,
    Reads,
    iso,
    known,
    make_router,
    store_of,
)
from fieldwatch_cloud.web.parts import Monitor
from fieldwatch_cloud.web.routes import needs, person

router = make_router()

PLAIN = r"^[^\x00-\x1f\x7f]*$"
SITE = r"^[^*\x00-\x1f\x7f]*$"
TAG = rf"^[^\s,\x00-\x1f\x7f-\xa0\ufeff]{{1,{cards.TAG_LIMIT}}}$"
"""What is white space beyond ASCII differs between languages: what one of them counts as such is named."""


class ModelOut(Model):
    """One model's result for the newest reading."""

    model: str
    kind: str
    score: Number
    threshold: Number
    ratio: Number = Field(description="score / threshold; 1 or more raises")
    verdict: str
    why: str | None = Field(description="of a verdict unknown: why the model did not judge")


class FindingOut(Model):
    """One thing that is wrong with a device."""

    state: State
    word: str
    reason: str
    who: str = Field(description="who can act; empty where nobody needs to")
    remedy: str
    since: str | None


class CardIn(BaseModel):
    """What people call a device; what is left out is empty afterwards."""

    model_config = ConfigDict(extra="forbid")

    name: str = Field(default="", max_length=cards.NAME_LIMIT, pattern=PLAIN)
    site: str = Field(default="", max_length=cards.SITE_LIMIT, pattern=SITE, examples=["berlin"])
    tags: list[Annotated[str, Field(pattern=TAG)]] = Field(default=[], max_length=cards.TAGS)


class DeviceOut(Model):
    """A device as the fleet page shows it."""

    id: str
    name: str = Field(description="what people call it; empty where nobody wrote it")
    site: str = Field(description="the one that people set; empty: that of the configuration counts")
    tags: list[str]
    type: str | None
    bundle: str | None = Field(description="<name>/<version>")
    agent: str | None = Field(description="version of the agent")
    condition: State = Field(description="the worst of its states; normal where there is none")
    state: str = Field(description="its two worst states in words, and how many more there are")
    findings: list[FindingOut] = Field(description="everything that is wrong, worst first")
    status: str = Field(description="of the connection: online, offline, unknown")
    status_reason: str | None = Field(description="why, in the device’s words")
    open_alerts: int
    ratio: Number = Field(description="highest score / threshold of the newest reading")
    last_reading: str | None
    last_seen: str
    models: list[ModelOut]
    hours: list[Number] = Field(description="highest ratio of each of the 24 hours up to the last reading")


class DevicePage(Model):
    """A page of devices, by id."""

    items: list[DeviceOut]
    next: str | None


class PartOut(Model):
    """A part of this server."""

    name: str
    ok: bool
    says: str
    since: str | None


class SummaryOut(Model):
    """The fleet in numbers: a device with two troubles counts in both of its states."""

    devices: int
    states: dict[State, int]
    notes: list[str] = Field(description="what concerns most devices at once")
    parts: list[PartOut]


class DayOut(Model):
    """``read = scored + Σ refused + evicted + pending`` by the device's count; ``stored`` is the cloud's."""

    day: str
    read: int
    scored: int
    refused: dict[str, int]
    evicted: int
    pending: int
    stored: int
    balanced: bool
    missing: int = Field(description="counted as stored by the device, not found in the store")
    counted_at: str | None


class ConservationOut(Model):
    """The ledger of a device, newest day first."""

    device: str
    days: list[DayOut]


class AnnouncementOut(Model):
    """A gap or a step of the bundle, as the device announced it."""

    type: str
    time: str
    received: str
    data: dict[str, Any]


class AnnouncementsOut(Model):
    """Newest first."""

    items: list[AnnouncementOut]


def device_out(device: DeviceNow) -> DeviceOut:
    """Write a device for the API."""
    return DeviceOut(
        id=device.id,
        name=device.card.name,
        site=device.card.site,
        tags=list(device.card.tags),
        type=device.type,
        bundle=device.bundle,
        agent=device.agent,
        condition=device.standing.condition,
        state=device.standing.word,
        findings=[FindingOut(**vars(one) | {"since": iso(one.since)}) for one in device.standing.findings],
        status=device.status,
        status_reason=device.status_reason,
        open_alerts=device.open_alerts,
        ratio=device.ratio,
        last_reading=iso(device.last_ts),
        last_seen=clock.iso(device.last_seen),
        models=[ModelOut.model_validate(model) for model in device.models],
        hours=device.spark,
    )


@router.get("/devices", summary="Devices, by id")
@needs(Permission.SEE)
def devices(
    queries: Reads,
    limit: Limit = 1000,
    cursor: Annotated[str | None, Query(max_length=64, description="'next' of the last page")] = None,
) -> DevicePage:
    """List the devices that have ever reported."""
    rest = sorted((one for one in queries.fleet() if cursor is None or one.id > cursor), key=lambda one: one.id)
    more = len(rest) > limit
    return DevicePage(items=[device_out(one) for one in rest[:limit]], next=rest[limit - 1].id if more else None)


@router.get("/summary", summary="The fleet in numbers")
@needs(Permission.SEE)
def summary(request: Request, queries: Reads) -> SummaryOut:
    """Count the devices in each state, and tell which parts of this server work."""
    devices = [one.standing for one in queries.fleet()]
    monitor: Monitor = request.app.state.monitor
    return SummaryOut(
        devices=len(devices),
        states=counts(devices),
        notes=fleet_notes(devices),
        parts=[PartOut(name=part.name, ok=part.ok, says=part.says, since=iso(part.since)) for part in monitor.parts()],
    )


@router.get("/devices/{device}", summary="One device", responses=NOT_FOUND)
@needs(Permission.SEE)
def device(queries: Reads, device: DeviceId) -> DeviceOut:
    """Return one device as it stands."""
    return device_out(known(queries, device))


@router.put("/devices/{device}/card", summary="Name a device", responses=NOT_FOUND | FORBIDDEN)
@needs(Permission.ARRANGE)
def name_device(request: Request, queries: Reads, device: DeviceId, body: CardIn) -> DeviceOut:
    """Write what people call a device: its name, site and tags. Routes follow the site, also for what is live."""
    known(queries, device)
    new = cards.make(body.name, body.site, body.tags)
    store_of(request).name(device, new, person(request).name)
    return device_out(known(queries, device))


@router.get("/devices/{device}/conservation", summary="Conservation ledger", responses=NOT_FOUND)
@needs(Permission.SEE)
def conservation(queries: Reads, device: DeviceId, days: Annotated[int, Query(ge=1, le=40)] = 7) -> ConservationOut:
    """Return the device's daily ledger next to the cloud's own count."""
    known(queries, device)
    return ConservationOut(
        device=device,
        days=[
            DayOut(
                day=day.day,
                read=day.read,
                scored=day.scored,
                refused=day.refused,
                evicted=day.evicted,
                pending=day.pending,
                stored=day.stored,
                balanced=day.balanced,
                missing=day.missing,
                counted_at=iso(day.at),
            )
            for day in queries.conservation(device, days)
        ],
    )


@router.get("/devices/{device}/announcements", summary="Gaps and bundle changes", responses=NOT_FOUND)
@needs(Permission.SEE)
def announcements(
    queries: Reads, device: DeviceId, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> AnnouncementsOut:
    """Return what the device announced about missing lines and about its bundle, newest first."""
    known(queries, device)
    return AnnouncementsOut(
        items=[
            AnnouncementOut(
                type=row.type, time=clock.iso(row.time), received=clock.iso(row.received), data=dict(row.data)
            )
            for row in queries.announcements(device, limit)
        ]
    )
