"""The wire format: CloudEvents 1.0 in structured JSON mode, one pydantic model per event type.

An event's identity is ``id`` = ``<device>:<epoch>:<seq>``: ``epoch`` is drawn when a journal is created, ``seq`` counts
everything the device ever sent in that epoch, so a missing number shows. A result's natural key is
``(device, ts, model)`` and an alert's is ``alert_id``, both functions of the log alone: a device whose journal was
lost reads its log again, sends the same facts under a new epoch, and changes nothing.

Within a major version (``….v1``) fields are only added. Readers ignore what they do not know; writers are strict
because they build these models.

Source: CloudEvents 1.0.2, JSON format 1.0.2 (batch mode for ``bulk``).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, TypeAdapter

from fieldwatch_contract.commands import ReplyData
from fieldwatch_contract.fields import Evidence, Finite, Number, Timestamp, Wire, Words
from fieldwatch_contract.level import AtBound
from fieldwatch_contract.verdicts import Kind, Verdict

CONTENT_TYPE = "application/cloudevents+json"
BATCH_CONTENT_TYPE = "application/cloudevents-batch+json"
BULK_LIMIT = 48 * 1024
"""Largest MQTT payload we send, in bytes; cloud brokers refuse above 64 KiB to 128 KiB."""
BULK_EVENTS = 2_000
"""Most events in one batch: the payload's size does not bound them, as a million empty events compress to 200 bytes."""

MOST_VERDICTS = 200
"""Verdicts in one document, the latest ones: about 30 KB."""
MOST_COMPONENTS = 1_000
"""Libraries that an agent may name; it has about 50."""
MODEL_NAME = r"^[a-z][a-z0-9_-]{0,31}$"


class ModelScore(Wire):
    """What one model says of one reading."""

    model: str = Field(description="name within the bundle: detector, classifier, …")
    kind: Kind
    score: float | None = Field(description="null where the model could not score the row")
    threshold: Finite
    verdict: Verdict
    sensors: list[str] = Field(default=[], description="most responsible first")
    shares: list[Finite] = Field(default=[], description="of the score, in the order of sensors, sum at most 1")
    why: str = Field(
        default="",
        description="of a verdict unknown: few_rows, sensors_missing, out_of_range, no_score, window_unfilled; an open "
        "list, additive in v1",
    )


class ResultData(Wire):
    """One reading scored by every model of the bundle."""

    ts: Timestamp
    bundle: str = Field(description="<name>/<version>")
    scores: list[ModelScore]
    values: dict[str, float | None] | None = Field(
        default=None, description="the reading itself; only where the device's privacy is 'full'"
    )


class BundleRef(Wire):
    """Which bundle judged."""

    name: str
    version: str
    sha256: str


class AlertData(Wire):
    """A transition in an alert's life; later transitions of the same ``alert_id`` supersede earlier ones."""

    alert_id: str = Field(description="function of device, model and opened_at, see contract.alerts.alert_id")
    transition: Literal["opened", "updated", "resolved"]
    model: str
    kind: Kind
    severity: Literal["warning", "critical"]
    opened_at: Timestamp
    ts: Timestamp = Field(description="time of the row that caused this transition")
    score: Finite
    peak: Finite
    threshold: Finite = Field(description="the bundle's")
    rows: int = Field(description="rows at or above the level so far")
    sensors: list[str]
    shares: list[Finite]
    bundle: BundleRef
    evidence: Evidence | None = None
    reason: str = Field(
        default="", description="why it ended, where not because the score is low again; additive in v1"
    )
    level: Finite | None = Field(
        default=None, description="what the score had to reach when it opened; null: the threshold; additive in v1"
    )
    like: str | None = Field(
        default=None, description="id of the alert, called false, that it resembles; additive in v1"
    )
    at_bound: AtBound = Field(
        default="", description="the end of the bundle's ladder at which the level is; additive in v1"
    )


class LedgerDay(Wire):
    """Conservation for one UTC day: ``read = scored + Σ refused + evicted + pending``, each counted on its own.

    ``scored`` are results the cloud acknowledged, ``pending`` results still in the outbox.
    """

    day: str
    read: int
    scored: int
    refused: dict[str, int]
    evicted: int
    pending: int


class OutboxState(Wire):
    """What waits to be acknowledged."""

    events: int
    bytes: int
    oldest: Timestamp | None


class Trouble(Wire):
    """Something at the device that a person must know of, for as long as it lasts.

    ``kind`` is an open list, so that an older reader still shows what it does not know. In use: ``log_missing``,
    ``log_unreadable``, ``log_silent``, ``lines_refused``, ``lines_lost``, ``file_passed_over``, ``window_unfilled``,
    ``sensors_missing``, ``columns_unknown``, ``values_unreadable``, ``models_unknown``, ``sensors_stuck``,
    ``clock_wrong``, ``no_bundle``, ``bundle_misfit``, ``bundle_failing``, ``update_failing``, ``agent_stalled``,
    ``journal_damaged``, ``disk_low``, ``certificate_expiring``, ``level_highest``, ``verdicts_unread``.
    """

    kind: str
    detail: Words = Field(description="what is wrong, in words, with file, line or sensor")
    remedy: str = Field(default="", description="what the person at the device can do; empty where nothing is needed")
    since: Timestamp | None = Field(default=None, description="null where it cannot be known")


class LineCounts(Wire):
    """What became of the lines of the last minutes; ``refused`` by reason. ``scored`` counts readings with results."""

    since: Timestamp = Field(description="the counts begin here, by the device's clock")
    read: int
    scored: int
    unknown: int = Field(description="readings that every model called unknown")
    refused: dict[str, int]


class LevelNow(Wire):
    """The level of one model's alerts, where the bundle lets it move."""

    model: str
    level: Finite
    at_bound: AtBound = Field(default="", description="the end of the bundle's ladder at which it is")


class Components(Wire):
    """Which libraries the agent runs with: names as in its SBOM, small letters, several versions where it has several.

    Told with the first report after a start and once a day.
    """

    versions: dict[Annotated[str, Field(max_length=100)], list[Annotated[str, Field(max_length=100)]]] = Field(
        max_length=MOST_COMPONENTS
    )
    complete: bool = Field(
        description="whether every Python package and native file that it brings along is named, and what these say is "
        "linked into them; false: Python packages are, native libraries within them may be missing"
    )


class HealthData(Wire):
    """The agent's own state, once a minute and after a change."""

    ts: Timestamp
    agent: str = Field(description="version of the agent")
    bundle: BundleRef | None
    log: Literal["following", "silent", "missing", "unreadable", "waiting"]
    log_detail: Words = ""
    last_reading: Timestamp | None
    lag_bytes: int
    outbox: OutboxState
    ledger: list[LedgerDay] = Field(description="the newest days, and older ones whose numbers have changed since")
    update: str = Field(default="", description="state of the updater in words; empty when all is well")
    troubles: list[Trouble] = Field(default=[], description="what a person must know of, worst first; additive in v1")
    lines: LineCounts | None = Field(default=None, description="of the last ten minutes or so; additive in v1")
    period: Finite | None = Field(
        default=None, gt=0, le=31 * 86_400, description="seconds between two readings; additive in v1"
    )
    levels: list[LevelNow] = Field(default=[], description="what scores must reach for an alert; additive in v1")
    components: Components | None = Field(
        default=None, description="what the agent consists of; null in most reports; additive in v1"
    )
    supported_until: str | None = Field(
        default=None,
        pattern=r"^\d{4}-\d\d-\d\d$",
        description="last day on which this version of the agent gets security mends; additive in v1",
    )


class GapData(Wire):
    """Something is missing and this says what: no minute vanishes in silence."""

    reason: Literal["evicted", "log_truncated", "log_vanished", "journal_rebuilt"]
    detail: Words
    start: Timestamp | None = None
    end: Timestamp | None = None
    lines: int | None = Field(default=None, description="null where it cannot be known")


class ModelData(Wire):
    """A step in a bundle's life on the device."""

    transition: Literal["activated", "refused", "rolled_back", "update_failed"]
    bundle: BundleRef | None
    previous: BundleRef | None = None
    reason: str = ""


class _Event(Wire):
    specversion: Literal["1.0"] = "1.0"
    id: str = Field(pattern=r"^[a-z0-9-]{3,64}:[0-9a-f]+:[0-9]{1,16}$")
    source: str = Field(description="//fieldwatch/<device>")
    subject: str = Field(description="the device")
    time: Timestamp = Field(description="when the event was journalled, by the device's clock")
    datacontenttype: Literal["application/json"] = "application/json"


class AlertEvent(_Event):
    """``evt/alert``."""

    type: Literal["fieldwatch.alert.v1"] = "fieldwatch.alert.v1"
    data: AlertData


class ResultEvent(_Event):
    """``evt/result``."""

    type: Literal["fieldwatch.result.v1"] = "fieldwatch.result.v1"
    data: ResultData


class HealthEvent(_Event):
    """``evt/health``."""

    type: Literal["fieldwatch.health.v1"] = "fieldwatch.health.v1"
    data: HealthData


class GapEvent(_Event):
    """``evt/gap``."""

    type: Literal["fieldwatch.gap.v1"] = "fieldwatch.gap.v1"
    data: GapData


class ModelEvent(_Event):
    """``evt/model``."""

    type: Literal["fieldwatch.model.v1"] = "fieldwatch.model.v1"
    data: ModelData


class ReplyEvent(_Event):
    """``reply``: a device's answer to a command."""

    type: Literal["fieldwatch.reply.v1"] = "fieldwatch.reply.v1"
    data: ReplyData


Event = Annotated[
    AlertEvent | ResultEvent | HealthEvent | GapEvent | ModelEvent | ReplyEvent, Field(discriminator="type")
]
EVENT: TypeAdapter[Event] = TypeAdapter(Event)
EVENTS: TypeAdapter[list[Event]] = TypeAdapter(Annotated[list[Event], Field(max_length=BULK_EVENTS)])
EVENT_TYPES: dict[str, type[_Event]] = {
    "alert": AlertEvent,
    "result": ResultEvent,
    "health": HealthEvent,
    "gap": GapEvent,
    "model": ModelEvent,
    "reply": ReplyEvent,
}


class Ack(Wire):
    """Cloud → device: everything up to ``upto`` is settled, and the numbers in ``also``; see :mod:`.delivery`.

    Settled is what is stored, but for the numbers in ``refused``: those the cloud could not store, and sending them
    again would change nothing.
    """

    epoch: str
    upto: Number
    also: list[Number] = Field(default=[], description="above upto")
    refused: list[Number] = Field(default=[], description="settled, but in quarantine and not stored; additive in v1")


class AlertVerdict(Wire):
    """What a person said of one alert."""

    alert_id: str = Field(pattern=r"^[0-9a-f]{32}$")
    model: str = Field(pattern=MODEL_NAME)
    verdict: Annotated[str, Field(max_length=32)] | None = Field(
        description="real or false; null: withdrawn. Any other word is taken like null: it moves nothing"
    )
    since: Timestamp | None = Field(
        default=None,
        description="the device's time just after the alert's newest transition that was stored then: "
        "it holds for no row before",
    )


class Verdicts(Wire):
    """Cloud → device, the retained ``verdicts``: what people said of its latest alerts.

    Data for the alert rule (:mod:`.level`), which moves within the bounds of the signed bundle; it can order nothing.
    An alert that is not in it any more keeps what was said of it.
    """

    verdicts: list[AlertVerdict] = Field(max_length=MOST_VERDICTS)


class DeviceState(Wire):
    """The retained ``state``; the last will is the same with ``offline`` and the same connection id."""

    status: Literal["online", "offline"]
    since: Timestamp
    connection: str = Field(description="a late will of an older connection is recognised by it")
    epoch: str
    reason: str = ""


def envelope(device: str, epoch: str, seq: int, event: str, time: str, data: str | bytes) -> bytes:
    """Return the event as JSON bytes around ``data``, which is JSON already.

    The journal keeps data as text; wrapping its bytes spares a parse and a dump per event on the way out.
    """
    head = (
        f'{{"specversion":"1.0","id":"{device}:{epoch}:{seq}","source":"//fieldwatch/{device}",'
        f'"subject":"{device}","type":"fieldwatch.{event}.v1","time":"{time}",'
        f'"datacontenttype":"application/json","data":'
    )
    return b"".join((head.encode(), data.encode() if isinstance(data, str) else data, b"}"))
