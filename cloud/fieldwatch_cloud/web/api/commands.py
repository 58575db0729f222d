"""Commands to devices: give one, and see what became of it."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import Path, Query, Request
from fieldwatch_contract import clock
from fieldwatch_contract.commands import Arguments, Kind, ModelReplay, problem
from fieldwatch_contract.fields import Evidence
from pydantic import BaseModel, ConfigDict, Field
from starlette.convertors import Convertor, register_url_convertor

from fieldwatch_cloud.access.roles import Permission
from fieldwatch_cloud.store import commands as stored
from fieldwatch_cloud.web.api.common import (
    FORBIDDEN,
    NOT_FOUND,
    TIME,
    DeviceId,
    Model,
    Reads,
    iso,
    known,
    make_router,
    problem_of,
    store_of,
)
from fieldwatch_cloud.web.problems import ProblemError
from fieldwatch_cloud.web.routes import needs, person

router = make_router()

ANSWERS: dict[int | str, dict[str, Any]] = (
    NOT_FOUND
    | FORBIDDEN
    | {409: problem_of("The range cannot be asked for, or the device has too many unanswered commands")}
)
Time = Annotated[str, Field(pattern=TIME, examples=["2026-11-01T00:00:00Z"])]


class RangeIn(BaseModel):
    """A time range, RFC 3339, both ends included."""

    model_config = ConfigDict(extra="forbid")

    start: Time
    end: Time


class AlertIn(BaseModel):
    """An alert of the device, as ``alert_id`` names it."""

    model_config = ConfigDict(extra="forbid")

    alert_id: str = Field(pattern=r"^[0-9a-f]{32}$")


class CommandOut(Model):
    """A command, and what became of it."""

    id: str
    device: str
    kind: str
    arguments: dict[str, Any]
    issuer: str
    state: stored.State = Field(description="waiting, sent, expired, unanswered, or as the device answered")
    given_at: str
    ends_at: str = Field(description="the device does not begin later")
    published_at: str | None
    answered_at: str | None
    detail: str | None = Field(description="in the device’s words")


class CommandDetailOut(CommandOut):
    """A command with the device’s answer."""

    bundle: str | None = Field(description="<name>/<version>, with which the range was scored")
    replay: list[ModelReplay]
    evidence: Evidence | None


class CommandsOut(Model):
    """Newest first."""

    items: list[CommandOut]


@router.post("/devices/{device}/ask/update", summary="Let a device ask for updates now", status_code=202,
             responses=ANSWERS)  # fmt: skip
@needs(Permission.RELEASE)
def update(request: Request, device: DeviceId) -> CommandOut:
    """Ask a device to fetch its bundle now: what its policy offers it, nothing else."""
    return give(request, device, "update", Arguments())


@router.post("/devices/{device}/ask/evidence", summary="Ask a device for readings", status_code=202,
             responses=ANSWERS)  # fmt: skip
@needs(Permission.ANSWER)
def evidence(request: Request, device: DeviceId, body: AlertIn | RangeIn) -> CommandOut:
    """Ask for the readings around an alert, or of a time range. The device’s privacy setting decides."""
    return give(request, device, "evidence", Arguments(**_utc(body)))


@router.post("/devices/{device}/ask/replay", summary="Let a device score a range again", status_code=202,
             responses=ANSWERS)  # fmt: skip
@needs(Permission.ANSWER)
def replay(request: Request, device: DeviceId, body: RangeIn) -> CommandOut:
    """Ask a device to score a range of its log with the bundle that it uses now, and to tell the sums."""
    return give(request, device, "replay", Arguments(**_utc(body)))


@router.get("/devices/{device}/commands", summary="Commands to a device", responses=NOT_FOUND)
@needs(Permission.SEE)
def commands(
    request: Request, queries: Reads, device: DeviceId, limit: Annotated[int, Query(ge=1, le=200)] = 50
) -> CommandsOut:
    """List them, newest first."""
    known(queries, device)
    with store_of(request).read() as db:
        return CommandsOut(items=[_out(each) for each in stored.of_device(db, device, limit)])


class _CommandId(Convertor[str]):
    """A command's id in a path, so that ``/commands/update`` is no unknown command but a wrong method: 405."""

    regex = "[0-9a-f]{32}"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


register_url_convertor("command_id", _CommandId())


@router.get(
    "/devices/{device}/commands/{command:command_id}", summary="One command with its answer", responses=NOT_FOUND
)
@needs(Permission.SEE)
def command(
    request: Request, device: DeviceId, command: Annotated[str, Path(pattern=r"^[0-9a-f]{32}$")]
) -> CommandDetailOut:
    """Return a command, and what the device answered."""
    with store_of(request).read() as db:
        found = stored.one(db, device, command)
    if found is None:
        raise ProblemError(404, "Unknown command", "This device was given no such command.")
    reply = found.reply
    return CommandDetailOut(
        **_out(found).model_dump(),
        bundle=(reply.bundle or None) if reply is not None else None,
        replay=reply.replay if reply is not None else [],
        evidence=reply.evidence if reply is not None else None,
    )


def give(request: Request, device: str, kind: Kind, arguments: Arguments) -> CommandOut:
    """Store a command of whoever asks. Raises :class:`.ProblemError` where it cannot be given."""
    if wrong := problem(kind, arguments):
        raise ProblemError(409, "Not to be asked for", f"{wrong[:1].upper()}{wrong[1:]}.")
    store = store_of(request)
    try:
        name = store.give_command(device, kind, arguments, person(request).name)
    except stored.UnknownDeviceError:
        raise ProblemError(404, "Unknown device", f"No device {device!r} has reported yet.") from None
    except stored.TooManyError:
        detail = f"{device} has {stored.MOST_OPEN} commands that it has not answered; wait until it has, or they end."
        raise ProblemError(409, "Too many commands", detail) from None
    with store.read() as db:
        found = stored.one(db, device, name)
    assert found is not None
    return _out(found)


def _utc(body: RangeIn | AlertIn) -> dict[str, str]:
    """Return the fields as devices take them: times in UTC."""
    return {
        key: value if key == "alert_id" else clock.iso(clock.parse_iso(value))
        for key, value in body.model_dump().items()
    }


def _out(given: stored.Given) -> CommandOut:
    return CommandOut(
        id=given.id,
        device=given.device,
        kind=given.kind,
        arguments=given.arguments,
        issuer=given.issuer,
        state=given.state(clock.now()),
        given_at=clock.iso(given.given_at),
        ends_at=clock.iso(given.ends_at),
        published_at=iso(given.published_at),
        answered_at=iso(given.answered_at),
        detail=given.detail,
    )
