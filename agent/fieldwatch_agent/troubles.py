"""Counters and states → troubles: what a person must know, worst first, each with a remedy. No I/O.

| kind | there while |
|---|---|
| ``clock_wrong`` | this computer's clock is behind the log: lines wait unread, or the newest row is ahead of it |
| ``log_missing`` | no file matches, or the one being read is gone |
| ``log_unreadable`` | the log, or one of its files, cannot be read |
| ``log_silent`` | the log has had no new line for some periods |
| ``lines_refused`` | a line of the last minutes (:data:`.score.tally.SPAN_S`) was refused |
| ``lines_lost`` | in the last minutes lines disappeared before they were read |
| ``file_passed_over`` | a file is skipped although it may hold unread lines |
| ``window_unfilled`` | the next row's window lacks rows that could not be read again after a restart |
| ``sensors_missing`` | the header in effect has no column for a sensor of the bundle |
| ``models_unknown`` | a model could not judge half of the readings of the last minutes |
| ``sensors_stuck`` | a sensor stands still for much longer than it ever did in training (:mod:`.still`) |
| ``values_unreadable`` | a value of the last minutes was no number |
| ``columns_unknown`` | the header in effect has columns that the bundle does not know, or one twice |
| ``journal_damaged`` | the journal was found damaged within the last day; it is repaired |
| ``disk_low`` | the disk with the state folder has little room |
| ``certificate_expiring`` | the device's certificate ends within a month and was not renewed, or has ended |
| ``level_highest`` | a model has raised so many alerts that its level is the highest that the bundle allows |
| ``verdicts_unread`` | what people say of alerts does not arrive: the broker's document is none, or it gives none |

Troubles of bundles and updates are added by the caller. A trouble ends when its cause does; nobody has to acknowledge
it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial

from fieldwatch_contract.clock import iso
from fieldwatch_contract.events import LevelNow, Trouble
from fieldwatch_contract.reading import words
from fieldwatch_contract.reading.occurred import Names
from fieldwatch_contract.reading.parse import Columns
from fieldwatch_contract.still import Stuck
from fieldwatch_contract.verdicts import IN_WORDS, Why

from fieldwatch_agent.enrol.watch import Certificate
from fieldwatch_agent.score.tally import Tally

LITTLE_ROOM = 20_000_000
"""Bytes: what SQLite's write-ahead log and a new bundle may need at the same time."""
CERTIFICATE_DAYS = 30
"""A certificate that ends sooner is a trouble, and a warning of ``check``."""
UNJUDGED_SHARE = 0.5
REREAD = (
    "set this computer's clock; if it is right, it was wrong when that reading was accepted: stop the agent, move "
    "journal.db* out of its state folder, start it, and the log is read again"
)

some = partial(words.some, most=3)
"""The first few names: a trouble is a line or two."""

_REMEDIES = {
    "columns": "compare the line with the header: has the device's program changed? 'fieldwatch-agent check' says more",
    "timestamp": "set in [log.timestamp] how the time is written; 'fieldwatch-agent check' shows what is understood",
    "header": "make sure the file begins with the column names, one of them the time, or name them in [log]; if it "
    "does, the bundle is for another device",
    "encoding": "set [log] encoding to that of the file",
    "future": "set the device's clock, or this computer's if that one is wrong",
    "late": "check whether the device's clock was set back, or an old file was put next to the log",
    "duplicate": "check that [log] period is the time between two readings, and that only one program writes the log",
    "empty": "find out why the device writes a time without values",
    "malformed": "check the quotation marks in the line",
    "too_long": "check that the log has line ends, and that [log] encoding is right",
    "torn": "nothing, if the device's program was stopped in the middle of a line",
}
_UNJUDGED = {
    Why.FEW_ROWS: "nothing: it judges when enough readings have come",
    Why.SENSORS_MISSING: "check why the log has no values for them: 'fieldwatch-agent check' names the sensors",
    Why.OUT_OF_RANGE: "check whether the device runs in a way that the model has not seen: then train it again",
}
_LOG_STATES = {
    "missing": ("log_missing", "check that the device writes its log, and that [log] path points to it"),
    "waiting": ("log_missing", "check that the device writes its log, and that [log] path points to it"),
    "unreadable": (
        "log_unreadable",
        "give the agent's account the right to read it; check what holds it open, and that its share answers",
    ),
    "silent": ("log_silent", "check that the device is measuring and writes its log"),
}


@dataclass(frozen=True)
class Facts:
    """A snapshot of what the agent knows about itself.

    ``log``, ``log_detail``: the tail's state. ``recent``: what became of the lines of the last ``minutes``.
    ``sensors``: how many the bundle has; ``names``: of those that ``stuck`` gives by their index. ``unfilled``,
    ``clock_wrong``, ``overtaken`` (the newest row is ahead of the clock): in words, empty where all is well.
    ``unheard``: why what people say of alerts does not arrive.
    ``damage``: what was found damaged in the journal lately, oldest first.
    """

    log: str = "following"
    log_detail: str = ""
    recent: Tally = field(default_factory=Tally)
    minutes: int = 10
    columns: Columns | Names | None = None
    sensors: int = 0
    names: Sequence[str] = ()
    stuck: Sequence[Stuck] = ()
    passed_over: Sequence[str] = ()
    unreadable: Sequence[str] = ()
    unfilled: str = ""
    clock_wrong: str = ""
    overtaken: str = ""
    levels: Sequence[LevelNow] = ()
    unheard: str = ""
    damage: Sequence[str] = ()
    disk_free: int | None = None
    certificate: Certificate | None = None


@dataclass(frozen=True)
class Condition:
    """A trouble without its start time; ``key`` identifies it among those of its kind, whatever counts and examples."""

    kind: str
    detail: str
    remedy: str = ""
    key: object = None

    def since(self, since: str | None) -> Trouble:
        """Return it for the wire."""
        return Trouble(kind=self.kind, detail=self.detail, remedy=self.remedy, since=since)


def derive(facts: Facts) -> list[Condition]:
    """Return the troubles that follow from ``facts``, worst first."""
    of_readings = [*_of_the_log(facts), *_of_lines(facts), *_of_columns(facts)]
    of_alerts = [*_of_levels(facts), *_of_verdicts(facts)]
    return [*of_readings, *of_alerts, *_of_the_journal(facts), *_of_the_disk(facts), *_of_the_certificate(facts)]


def _of_the_log(facts: Facts) -> list[Condition]:
    found = []
    if facts.clock_wrong or facts.overtaken:
        detail = "; ".join(filter(None, [facts.clock_wrong, facts.overtaken]))
        remedy = REREAD if facts.overtaken else "set this computer's clock; if it is right, move that file aside"
        found.append(Condition("clock_wrong", detail, remedy))
    if facts.log in _LOG_STATES and not facts.clock_wrong:
        kind, remedy = _LOG_STATES[facts.log]
        found.append(Condition(kind, facts.log_detail, remedy))
    if facts.unreadable and facts.log != "unreadable":
        found.append(
            Condition("log_unreadable", f"cannot be read: {some(facts.unreadable)}", _LOG_STATES["unreadable"][1])
        )
    return found


def _of_lines(facts: Facts) -> list[Condition]:
    recent, span = facts.recent, f"the last {facts.minutes} minutes"
    found = []
    if refused := sum(recent.refused.values()):
        worst = recent.refused.most_common()
        reason = worst[0][0]
        counts = ", ".join(f"{count} {name}" for name, count in worst)
        example = f"; {recent.examples[reason]}" if reason in recent.examples else ""
        detail = f"{refused} of {recent.read} lines of {span} were refused: {counts}{example}"
        found.append(Condition("lines_refused", detail, _REMEDIES.get(reason, ""), frozenset(recent.refused)))
    if recent.lost:
        found.append(
            Condition("lines_lost", some(recent.lost, most=2), "check how the log is rotated", tuple(recent.lost))
        )
    if facts.passed_over:
        remedy = "move copies out of the folder; if it is no copy, check whether the device's clock was set back"
        detail = f"files skipped: {some(facts.passed_over)}"
        found.append(Condition("file_passed_over", detail, remedy, tuple(facts.passed_over)))
    if facts.unfilled:
        remedy = "nothing, if the files come back; otherwise verdicts return when the window is full of new readings"
        found.append(Condition("window_unfilled", facts.unfilled, remedy))
    found += _unjudged(recent, span)
    found += _stuck(facts)
    if recent.bad_values:
        worst = recent.bad_values.most_common()
        detail = f"values that are not numbers: {some([f'{sensor} {count}×' for sensor, count in worst])}"
        remedy = "they count as missing; check what the device writes there"
        found.append(Condition("values_unreadable", detail, remedy, frozenset(recent.bad_values)))
    return found


def _unjudged(recent: Tally, span: str) -> list[Condition]:
    told, reasons = [], set()
    for model in dict.fromkeys(model for model, _ in recent.unjudged):
        own = {why: n for (name, why), n in recent.unjudged.items() if name == model and why != Why.WINDOW_UNFILLED}
        if own and sum(own.values()) >= UNJUDGED_SHARE * recent.scored:
            why = max(own, key=lambda each: own[each])
            reasons.add(why)
            told.append(f"{model} could not judge {sum(own.values())} of {recent.scored} ({IN_WORDS.get(why, why)})")
    if not told:
        return []
    remedy = "; ".join(_UNJUDGED.get(why, _UNJUDGED[Why.OUT_OF_RANGE]) for why in Why if why in reasons)
    return [Condition("models_unknown", f"readings of {span}: {'; '.join(told)}", remedy, frozenset(reasons))]


def _stuck(facts: Facts) -> list[Condition]:
    if not facts.stuck:
        return []
    longest_first = sorted(facts.stuck, key=lambda each: each.since)
    told = [
        f"{facts.names[each.sensor]} at {each.value:.6g} since {iso(each.since)}, where it moved at the latest after "
        f"{each.longest} readings in training"
        for each in longest_first
    ]
    remedy = "look at the sensor and its wiring; nothing, if the device is at rest"
    return [Condition("sensors_stuck", f"stands still: {some(told)}", remedy, frozenset(s.sensor for s in facts.stuck))]


def _of_columns(facts: Facts) -> list[Condition]:
    columns = facts.columns
    if columns is None:
        return []
    found = []
    without_header = isinstance(columns, Names)
    if columns.missing:
        absent = "do not occur in the log" if without_header else "have no column"
        detail = f"{len(columns.missing)} of the bundle's {facts.sensors} sensors {absent}: {some(columns.missing)}"
        remedy = "were columns renamed or removed? The model judges without them, or not at all"
        found.append(Condition("sensors_missing", detail, remedy, columns.missing))
    others = "names" if without_header else "columns"
    ignored = [f"{len(columns.unknown)} {others} are unknown to the bundle: {some(columns.unknown)}"]
    ignored = ignored if columns.unknown else []
    if columns.repeated:
        ignored.append(f"columns that occur twice, of which the first counts: {some(columns.repeated)}")
    if ignored:
        remedy = "nothing, if the model does not need them; otherwise train it with them"
        key = (columns.unknown, columns.repeated)
        found.append(Condition("columns_unknown", "; ".join(ignored), remedy, key))
    return found


def _of_the_journal(facts: Facts) -> list[Condition]:
    if not facts.damage:
        return []
    remedy = "see that the disk is sound and nobody else writes into the state folder; what was set aside lies there"
    return [Condition("journal_damaged", some(facts.damage[::-1], most=2), remedy, tuple(facts.damage))]


def _of_the_disk(facts: Facts) -> list[Condition]:
    if facts.disk_free is None or facts.disk_free >= LITTLE_ROOM:
        return []
    return [Condition("disk_low", f"{facts.disk_free / 1e6:.1f} MB free where the state is", "make room on that disk")]


def _of_the_certificate(facts: Facts) -> list[Condition]:
    """Renewal begins at a third of the life: who reads this has a month in which something must be done."""
    certificate = facts.certificate
    if certificate is None or certificate.days > CERTIFICATE_DAYS:
        return []
    ends = f"expires in {certificate.days:.0f} days" if certificate.days > 0 else "has expired"
    why = f"; it is not renewed: {certificate.problem}" if certificate.problem else ""
    remedy = "'fieldwatch-agent update --config F' tries to renew it; else a new one must be issued"
    detail = f"the device's certificate {ends}, on {certificate.until}{why}"
    return [Condition("certificate_expiring", detail, remedy, certificate.until)]


def _of_levels(facts: Facts) -> list[Condition]:
    highest = [level for level in facts.levels if level.at_bound == "highest"]
    if not highest:
        return []
    told = some([f"{each.model} ({each.level:.3g})" for each in highest])
    detail = f"the level of alerts has risen as far as the bundle allows: {told}; what is weaker raises no alert"
    remedy = "judge the alerts on the dashboard; if the device works otherwise than in training, train the model again"
    return [Condition("level_highest", detail, remedy, frozenset(each.model for each in highest))]


def _of_verdicts(facts: Facts) -> list[Condition]:
    if not facts.unheard:
        return []
    detail = f"what people say of alerts does not reach this device: {facts.unheard}; its levels move without them"
    remedy = (
        "judge any of its alerts on the dashboard, and the cloud writes the document anew; if that does not help, see "
        "in the broker's access rules that the device may read its 'verdicts', and that only the cloud may write them"
    )
    return [Condition("verdicts_unread", detail, remedy)]
