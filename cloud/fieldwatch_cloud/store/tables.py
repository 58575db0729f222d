"""The cloud's tables, in SQLAlchemy Core and portable types only: SQLite today, PostgreSQL when it grows.

Conventions that every query may rely on:

* Times are integer µs since 1970 in UTC (:mod:`.clock`); ``received``, ``ahead_at``, ``*_received``, ``*_heard`` and
  ``*_seen`` are by our clock, all others by the device's.
* What a device reported is immutable (append-only): ``result``, ``reading``, ``alert_event`` and ``event`` are only
  inserted, the first one wins. ``device``, ``alert``, ``ledger`` and ``result_1h`` are materialised views of them.
* Primary keys are the natural keys of the contract, so that a redelivery hits the existing row.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
)

from fieldwatch_cloud.store.documents import Counts, Health, Integers, Life, Numbers, Object, Texts, Values, Versions

HOUR = 3_600_000_000
"""The step of the rollup in µs."""

metadata = MetaData()

_Serial = BigInteger().with_variant(Integer(), "sqlite")


def _table(name: str, *columns: Any) -> Table:
    """Declare a table whose primary key is its storage order (a smaller file and one lookup less in SQLite)."""
    return Table(name, metadata, *columns, sqlite_with_rowid=False)


heartbeat = Table(
    "heartbeat",  # one row, written every few seconds: whether the store can be written
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),
)

device = _table(
    "device",
    Column("id", String(64), primary_key=True),
    Column("type", String(64)),  # the bundle's name, which is the device type; null until a health event names one
    Column("first_seen", BigInteger, nullable=False),
    Column("last_seen", BigInteger, nullable=False),
    Column("status", String(8), nullable=False, default="unknown"),  # online | offline | unknown
    Column("status_since", BigInteger),
    Column("status_reason", Text),  # contract.events.DeviceState.reason
    Column("connection", Text),
    Column("connection_since", BigInteger),
    Column("connection_before", Text),  # which the known one has replaced
    Column("epoch", Text),  # the current incarnation of its journal
    Column("epoch_heard", BigInteger),  # when that was told last, or spoke last
    Column("agent_version", Text),
    Column("bundle_name", Text),
    Column("bundle_version", Text),
    Column("bundle_sha256", String(64)),
    Column("ahead_at", BigInteger),  # when (our clock) something came that was dated ahead of us
    Column("ahead_by", BigInteger),  # and how far, µs
    Column("last_ts", BigInteger),  # the newest reading that was scored
    Column("health", Health),  # the newest report, contract.events.HealthData as sent
    Column("health_epoch", Text),  # its place: the newest is the highest number of the current epoch
    Column("health_seq", BigInteger),
    Column("health_at", BigInteger),  # when it was made
    Column("health_received", BigInteger),
    Column("behind_by", BigInteger),  # how far the clock is behind ours, µs; null where it is right, or not known
)

card = _table(
    "card",  # what people call a device: store.cards
    Column("device", String(64), primary_key=True),
    Column("name", Text, nullable=False),
    Column("site", Text, nullable=False),
    Column("tags", Text, nullable=False),  # with a space between two
)

inventory = _table(
    "inventory",  # which libraries a device's agent runs with: contract.events.Components
    Column("device", String(64), primary_key=True),
    Column("epoch", Text),  # of the report that told it
    Column("seq", BigInteger),
    Column("at", BigInteger, nullable=False),
    Column("agent", Text, nullable=False),  # the version that told it
    Column("complete", Boolean, nullable=False),
    Column("versions", Versions, nullable=False),
)

result = _table(
    "result",
    Column("device", String(64), primary_key=True),
    Column("ts", BigInteger, primary_key=True),
    Column("model", String(32), primary_key=True),
    Column("kind", String(16), nullable=False),
    Column("score", Float),  # null where the model could not score the row
    Column("threshold", Float, nullable=False),
    Column("verdict", SmallInteger, nullable=False),  # contract.verdicts.CODES
    Column("why", Text),  # of a verdict unknown: contract.verdicts.Why, or what a newer agent says
    Column("sensors", Texts, nullable=False),
    Column("shares", Numbers, nullable=False),
    Column("bundle", Text, nullable=False),  # <name>/<version>
    Column("received", BigInteger, nullable=False),
)

reading = _table(
    "reading",  # only of devices whose privacy is "full"
    Column("device", String(64), primary_key=True),
    Column("ts", BigInteger, primary_key=True),
    Column("values", Values, nullable=False),
)

result_1h = _table(
    "result_1h",
    Column("device", String(64), primary_key=True),
    Column("hour", BigInteger, primary_key=True),  # start of the hour, µs
    Column("model", String(32), primary_key=True),
    Column("n", Integer, nullable=False),
    Column("raised", Integer, nullable=False),  # anomalous or faulty
    Column("unknown", Integer, nullable=False),
    Column("score_max", Float),
    Column("ratio_max", Float),  # score / threshold
)

alert = _table(
    "alert",
    Column("alert_id", Text, primary_key=True),
    Column("device", String(64), nullable=False),
    Column("model", String(32), nullable=False),
    Column("kind", String(16), nullable=False),
    Column("severity", String(16), nullable=False),
    Column("state", String(16), nullable=False),  # open | resolved
    Column("transition", String(16), nullable=False),  # the newest one: opened | updated | resolved
    Column("opened_at", BigInteger, nullable=False),
    Column("last_at", BigInteger, nullable=False),
    Column("resolved_at", BigInteger),
    Column("score", Float, nullable=False),
    Column("peak", Float, nullable=False),
    Column("threshold", Float, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("sensors", Texts, nullable=False),
    Column("shares", Numbers, nullable=False),
    Column("bundle_name", Text, nullable=False),
    Column("bundle_version", Text, nullable=False),
    Column("bundle_sha256", String(64), nullable=False),
    Column("first_received", BigInteger, nullable=False),
    Column("reason", Text),  # why it ended, where not because the score is low again
    Column("level", Float),  # what the score had to reach; null: the threshold
    Column("like", Text),  # id of the alert, called false, that it resembles
    Column("at_bound", Text),  # the end of the bundle's ladder at which the level is
    Index("alert_by_device", "device", "opened_at"),
    Index("alert_by_state", "state", "opened_at"),
)

alert_event = _table(
    "alert_event",
    Column("alert_id", Text, primary_key=True),
    Column("transition", String(16), primary_key=True),
    Column("ts", BigInteger, primary_key=True),
    Column("score", Float, nullable=False),
    Column("peak", Float, nullable=False),
    Column("rows", Integer, nullable=False),
    Column("sensors", Texts, nullable=False),
    Column("shares", Numbers, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("reason", Text),
    Column("evidence", LargeBinary),  # contract.fields.Evidence, JSON in zstd: cloud.store.packed
)

verdict = Table(
    "verdict",  # every judgement of a user is a label; the newest one of an alert counts
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("alert_id", Text, nullable=False, index=True),
    Column("verdict", String(16), nullable=False),  # real | false | unclear
    Column("note", Text, nullable=False, default=""),
    Column("at", BigInteger, nullable=False),
)

event = _table(
    "event",  # health, gap, model
    Column("device", String(64), primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
    Column("type", String(16), nullable=False),
    Column("time", BigInteger, nullable=False),
    Column("received", BigInteger, nullable=False),
    Column("data", Object, nullable=False),
    Index("event_by_type", "device", "type", "time"),
)

ledger = _table(
    "ledger",  # conservation: read = scored + sum(refused) + evicted + pending
    Column("device", String(64), primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("day", String(10), primary_key=True),
    Column("read", BigInteger, nullable=False),
    Column("scored", BigInteger, nullable=False),
    Column("refused", Counts, nullable=False),
    Column("evicted", BigInteger, nullable=False),
    Column("pending", BigInteger, nullable=False),
    Column("seq", BigInteger, nullable=False),  # of the health event that reported it
    Column("at", BigInteger, nullable=False),
)

ack = _table(
    "ack",
    Column("device", String(64), primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("upto", BigInteger, nullable=False),
    Column("also", Integers, nullable=False),  # numbers stored beyond upto, ascending
)

refused = _table(
    "refused",  # numbers that are settled although their event is in quarantine, as long as the device may send them
    Column("device", String(64), primary_key=True),
    Column("epoch", Text, primary_key=True),
    Column("seq", BigInteger, primary_key=True),
)

quarantine = Table(
    "quarantine",  # what we could not read, once each, so that nothing vanishes and a redelivery adds nothing
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("sha256", String(64), nullable=False, unique=True),  # of topic, reason and payload
    Column("topic", Text, nullable=False),
    Column("reason", Text, nullable=False),
    Column("payload", LargeBinary, nullable=False),
    Column("received", BigInteger, nullable=False),
)

incident = Table(
    "incident",  # what people answer: one fault or state of a device, whatever told of it (alerts.life)
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("device", String(64), nullable=False),  # "" = this server, or the fleet
    Column("kind", String(64), nullable=False),  # fault, or the state
    Column("audience", String(16), nullable=False),  # alerts.standing.AUDIENCES
    Column("site", Text, nullable=False),
    Column("type", Text),
    Column("bundle", Text),  # <name>/<version>
    Column("what", Text, nullable=False),  # in words, without the device
    Column("remedy", Text, nullable=False),
    Column("severity", String(16), nullable=False),
    Column("state", String(16), nullable=False),
    Column("opened_at", BigInteger, nullable=False),  # by the device's clock
    Column("ended_at", BigInteger),
    Column("begun", BigInteger, nullable=False),  # by ours
    Column("wake_at", BigInteger),  # when time alone changes it
    Column("issue_key", Text),  # alerts.issues.Key
    Column("issue_id", BigInteger, index=True),
    Column("life", Life, nullable=False),  # alerts.life.Incident
    Index("incident_by_device", "device", "kind", "opened_at"),
    Index("incident_by_state", "state", "begun"),
    Index("incident_by_wake", "wake_at"),
    Index("incident_by_key", "issue_key", "begun"),
)

incident_signal = _table(
    "incident_signal",  # which incident an opening belongs to
    Column("key", Text, primary_key=True),  # of a model's alert: its alert_id
    Column("incident_id", BigInteger, nullable=False, index=True),
)

incident_event = Table(
    "incident_event",  # the timeline: what devices, people and time did; only inserted
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("incident_id", BigInteger, nullable=False, index=True),
    Column("at", BigInteger, nullable=False),
    Column("what", String(16), nullable=False),  # alerts.life.What, or unrouted
    Column("told", Boolean, nullable=False),
    Column("by", Text, nullable=False),
    Column("text", Text, nullable=False),
)

issue = Table(
    "issue",  # the same fault on several devices
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("key", Text, nullable=False),
    Column("kind", String(64), nullable=False),
    Column("type", Text, nullable=False),
    Column("sensors", Texts, nullable=False),
    Column("bundle", Text, nullable=False),
    Column("opened_at", BigInteger, nullable=False),  # by our clock
    Column("last_at", BigInteger, nullable=False),
    Index("issue_by_key", "key", "last_at"),
)

maintenance = Table(
    "maintenance",  # planned windows: what happens within is recorded, and nobody is told
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("device", Text, nullable=False),  # patterns; * = all
    Column("site", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("begin", BigInteger, nullable=False),
    Column("end", BigInteger, nullable=False, index=True),
    Column("why", Text, nullable=False),
    Column("by", Text, nullable=False),
    Column("made_at", BigInteger, nullable=False),
)

message = _table(
    "message",  # the outbox: what is to be told, written in the transaction that made it news
    Column("id", String(32), primary_key=True),  # the same in every attempt
    Column("channel", Text, nullable=False),
    Column("route", Text, nullable=False),
    Column("batch", String(16)),  # digest | storm: gathers until it is sent
    Column("step", Integer, nullable=False),  # > 0: only where nobody has acknowledged
    Column("state", String(16), nullable=False),  # waiting | sending | sent | dead | dropped
    Column("due_at", BigInteger, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("attempts", Integer, nullable=False),
    Column("lease_until", BigInteger),  # of an attempt under way: when it counts as lost
    Column("done_at", BigInteger),
    Column("error", Text),  # of the last attempt
    Index("message_by_due", "state", "due_at"),
    Index("message_by_channel", "channel", "made_at"),
)

message_item = _table(
    "message_item",
    Column("message_id", String(32), primary_key=True),
    Column("event_id", BigInteger, primary_key=True),
)

person = Table(
    "person",  # an account
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("name", String(100), nullable=False, unique=True),  # an e-mail address or short name, lower case
    Column("role", String(16), nullable=False),  # viewer | engineer | release | admin
    Column("password", Text),  # argon2id; null: none was set
    Column("issuer", Text),  # of the identity provider, and who they are there
    Column("subject", Text),
    Column("made_at", BigInteger, nullable=False),
    Column("last_at", BigInteger),  # the last sign-in
    Column("disabled_at", BigInteger),
    Index("person_by_identity", "issuer", "subject", unique=True),
)

link = _table(
    "link",  # lets one person in, once: an invitation, a new password, the demo's start link
    Column("hash", String(64), primary_key=True),
    Column("person", BigInteger, nullable=False, index=True),
    Column("kind", String(16), nullable=False),  # invitation | reset | start
    Column("made_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
)

session = _table(
    "session",  # a browser that is signed in
    Column("hash", String(64), primary_key=True),
    Column("person", BigInteger, nullable=False, index=True),
    Column("made_at", BigInteger, nullable=False),
    Column("used_at", BigInteger, nullable=False),
    Column("address", String(64), nullable=False),
    Column("agent", String(200), nullable=False),
)

api_token = Table(
    "api_token",
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("hash", String(64), nullable=False, unique=True),
    Column("person", BigInteger, nullable=False, index=True),
    Column("name", String(80), nullable=False),
    Column("scopes", Texts, nullable=False),
    Column("made_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False),
    Column("used_at", BigInteger),
    Column("revoked_at", BigInteger),
)

command = _table(
    "command",  # what people asked of a device: store.commands
    Column("id", String(32), primary_key=True),
    Column("device", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # contract.commands.KINDS
    Column("arguments", Object, nullable=False),
    Column("issuer", Text, nullable=False),
    Column("given_at", BigInteger, nullable=False),
    Column("ends_at", BigInteger, nullable=False),  # the device does not begin later
    Column("published_at", BigInteger),  # the last time
    Column("answered_at", BigInteger),
    Column("outcome", String(16)),  # done | refused | failed
    Column("detail", Text),
    Column("reply", LargeBinary),  # contract.commands.ReplyData, JSON in zstd
    Index("command_by_device", "device", "given_at"),
    Index("command_by_end", "ends_at"),
)

audit = Table(
    "audit",  # who did what, when and why; each entry holds the hash of the one before: store.audit
    metadata,
    Column("id", _Serial, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False, index=True),
    Column("who", Text, nullable=False),
    Column("action", String(40), nullable=False),
    Column("target", Text, nullable=False),
    Column("why", Text, nullable=False),
    Column("hash", String(64), nullable=False),
)

runner = _table(
    "runner",  # which process runs which part of this server: store.runners
    Column("part", String(16), primary_key=True),
    Column("holder", String(32), primary_key=True),
    Column("until", BigInteger, nullable=False),  # by our clock
    Column("says", Text, nullable=False),  # what is wrong with it
)

notice = Table(
    "notice",  # the live feed between processes: store.notices
    metadata,
    Column("id", _Serial, primary_key=True),
    Column("origin", String(32), nullable=False),  # the process that stored what it tells of
    Column("kind", String(16), nullable=False),  # live.NoticeKind
    Column("device", String(64), nullable=False),
    Column("data", Text, nullable=False),  # JSON
    sqlite_autoincrement=True,  # a number is never used twice, though old rows go
)
