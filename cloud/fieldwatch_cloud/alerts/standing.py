"""A device's health status: what is wrong with it, worst first, since when, who can act. No I/O; times in µs.

A device is ``normal`` only if none of these cases applies. Consequences of a worse case are left out: an offline device
has old readings, too.

========= ======================== ==================================================================== =============
state     words on the tile        when                                                                 who acts
========= ======================== ==================================================================== =============
critical  1 open alert             a critical alert is open                                             device
warning   1 open alert             an alert is open                                                     device
above     above threshold          the newest reading is anomalous or faulty, and no alert is open yet  nobody yet
offline   connection lost          the broker told so: agent killed, PC off, or network down            PC, network
offline   no contact               reported as online, but nothing came for :data:`NO_CONTACT`          PC, network
offline   offline                  an agent that gave no reason, or another one than these              PC, network
stalled   agent stalled            the agent says that its own work makes no progress                   PC
log       log silent               the log grows no more: the instrument has stopped                    device
log       log missing, unreadable  the agent cannot read the file                                       PC
refused   lines refused            lines of the last minutes were refused; for an agent that does not   PC
                                   count them, today's refusals have grown
clock     clock ahead              a reading or report came dated more than :data:`AHEAD` ahead of us   PC
clock     clock behind             reports come as they are made, and dated long before                 PC
stale     readings old             the newest one is older than three periods and :data:`OLD`           PC
lost      lines lost               a gap was announced in the last day, lines were given up, or the     PC, server
                                   ledger does not add up
unknown   not judged               a model said ``unknown``, no reading has come, or there is no bundle models
trouble   the trouble's own words  what else the agent tells, known to us or not                        by kind
stopped   stopped                  somebody stopped the agent                                           who did
note      normal, columns ignored  the log has columns that the models do not use: a note, no trouble   nobody
note      normal, support ends     the agent's version gets no security mends any more, or not for      PC
                                   longer than :data:`.support.SOON`
normal    normal                   otherwise
========= ======================== ==================================================================== =============
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from typing import Any, Literal, cast, get_args

from fieldwatch_contract import clock, support
from fieldwatch_contract.verdicts import IN_WORDS, Why

from fieldwatch_cloud.words import age, duration, moment, sentence, size

State = Literal[
    "critical",
    "warning",
    "above",
    "offline",
    "stalled",
    "log",
    "refused",
    "clock",
    "stale",
    "lost",
    "unknown",
    "trouble",
    "stopped",
    "note",
    "normal",
]
STATES: tuple[State, ...] = get_args(State)
"""Worst first."""
ORDER: dict[str, int] = {state: rank for rank, state in enumerate(STATES)}
AWAY: frozenset[str] = frozenset({"offline", "stalled", "log", "stale", "stopped"})
"""States in which nothing new comes."""

NO_CONTACT = 10 * clock.MINUTE
"""A device reports every minute; after ten minutes of silence it is out of contact (our clock)."""
AHEAD = 10 * clock.MINUTE
"""How far a device's clock may be ahead of ours."""
OLD = 10 * clock.MINUTE
OLD_PERIODS = 3
RECENT = clock.DAY
"""How long a gap is shown on the device, from when we received it."""
CLOCK_AHEAD, CLOCK_BEHIND = "clock ahead", "clock behind"
SUPPORT_ENDED, SUPPORT_ENDS = "support has ended", "support ends soon"
AT_ONCE = 5 * clock.MINUTE
"""Devices that went offline within this time went together."""

DEVICE = "the person at the device"
PC = "the person who looks after the PC beside the device"
NETWORK = "the people who run the lab's PCs and network"
SERVER = "the people who run this server"
MODELS = "the people who release the models"

_COMPARE = "Compare both clocks; they should follow a time server."
_STOPPED = {"stopped", "shutdown"}  # the second is the word of agents before 0.2
_LOG = {
    "silent": ("log_silent", "The instrument has stopped, or no longer writes its log"),
    "missing": ("log_missing", "No file matches the configured path"),
    "unreadable": ("log_unreadable", "The agent cannot read the log file"),
}
_KINDS: dict[str, tuple[State, str, str]] = {
    "log_silent": ("log", "log silent", DEVICE),
    "log_missing": ("log", "log missing", PC),
    "log_unreadable": ("log", "log unreadable", PC),
    "agent_stalled": ("stalled", "agent stalled", PC),
    "lines_refused": ("refused", "lines refused", PC),
    "clock_wrong": ("clock", "clock wrong", PC),
    "lines_lost": ("lost", "lines lost", PC),
    "file_passed_over": ("lost", "file skipped", PC),
    "no_bundle": ("unknown", "no bundle", MODELS),
    "bundle_misfit": ("unknown", "bundle does not fit", PC),
    "bundle_failing": ("unknown", "bundle failing", MODELS),
    "window_unfilled": ("unknown", "window not filled", PC),
    "models_unknown": ("unknown", "not judged", MODELS),
    "sensors_missing": ("trouble", "sensors missing", PC),
    "sensors_stuck": ("trouble", "sensor stuck", DEVICE),
    "columns_unknown": ("note", "columns ignored", PC),
    "values_unreadable": ("trouble", "values unreadable", PC),
    "update_failing": ("trouble", "update failing", PC),
    "journal_damaged": ("trouble", "journal damaged", PC),
    "disk_low": ("trouble", "disk low", PC),
    "certificate_expiring": ("trouble", "certificate expiring", PC),
    "level_highest": ("trouble", "alert level at its highest", MODELS),
    "verdicts_unread": ("trouble", "verdicts unread", SERVER),
}
"""The kinds of :class:`.events.Trouble` that we know. Another one is shown under its own name."""


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong. ``who`` can act; ``remedy`` is the device's own advice, where it gave one."""

    state: State
    word: str
    reason: str
    who: str = ""
    remedy: str = ""
    since: int | None = None


@dataclass(frozen=True)
class Facts:
    """What is known about a device.

    ``status_since``, ``last_seen``, ``first_seen``, ``gap_at`` and ``ahead_at`` (when something came that was dated
    ``ahead_by`` ahead of us) are by our clock, ``last_ts`` (the newest reading) by the device's. ``health``, its newest
    report, was made at ``health_at`` by its clock, which is ``behind_by`` behind, and came at ``health_received`` by
    ours. ``period``: between two readings, None if unknown. ``alert``: what the worst open alert is about, in words.
    ``verdicts``: of each model on the newest reading; ``why`` one did not judge it. ``health`` is
    :class:`.events.HealthData` as sent; ``earlier``: the ledger of a report some ten minutes before it. ``missing``:
    scored readings that are not in the store.
    """

    last_seen: int
    first_seen: int
    status: str = "unknown"
    reason: str | None = None
    status_since: int | None = None
    last_ts: int | None = None
    period: int | None = None
    open_alerts: int = 0
    critical: bool = False
    alert: str = ""
    alert_at: int | None = None
    verdicts: Mapping[str, str] = field(default_factory=dict)
    why: str = ""
    health: Mapping[str, Any] | None = None
    health_at: int | None = None
    health_received: int | None = None
    behind_by: int = 0
    ahead_at: int | None = None
    ahead_by: int = 0
    earlier: Sequence[Mapping[str, Any]] | None = None
    gaps: int = 0
    gap: str = ""
    gap_at: int | None = None
    missing: int = 0


@dataclass(frozen=True)
class Standing:
    """A device's health status: its findings, worst first; none if it is well."""

    findings: tuple[Finding, ...] = ()

    @property
    def condition(self) -> State:
        """The worst state; a note leaves the device normal."""
        return self.states[0]

    @property
    def states(self) -> list[State]:
        """All states, worst first, each once."""
        return list(dict.fromkeys(one.state for one in self.findings if one.state != "note")) or ["normal"]

    @property
    def word(self) -> str:
        """The two worst findings in words, and how many more there are."""
        words = list(dict.fromkeys(one.word for one in self.findings))
        if self.condition == "normal":
            words.insert(0, "normal")
        more = f" +{len(words) - 2}" if len(words) > 2 else ""
        return ", ".join(words[:2]) + more

    @property
    def away(self) -> Finding | None:
        """Why nothing new comes from it; None while something does."""
        return next((one for one in self.findings if one.state in AWAY), None)


def standing(facts: Facts, now: int) -> Standing:
    """Return a device's health status from everything that is known about it."""
    health = facts.health or {}
    found = [*_alerts(facts), *_connection(facts, now), *of_health(health)]
    gone = any(one.state in ("offline", "stopped") for one in found)
    if not any(one.state == "refused" for one in found):
        found += _growing(health, facts.earlier)
    found += _clock(facts, now)
    explained = gone or any(one.state in ("stalled", "log", "clock") for one in found)
    told = any(one.state == "unknown" for one in found)
    found += _readings(facts, now, explained, told)
    found += [*_losses(facts), *_support(health, now)]
    if not gone:
        found += _reports(facts, now)
    return Standing(tuple(sorted(found, key=lambda one: ORDER[one.state])))


def of_health(health: Mapping[str, Any]) -> list[Finding]:
    """Return the findings of a health report alone: the agent's troubles, its log, its lines, its updater."""
    if not health:
        return []
    troubles = health.get("troubles") or []
    kinds = {trouble["kind"] for trouble in troubles}
    lines = health.get("lines")
    found = [_trouble(trouble, lines) for trouble in troubles]
    log, detail = health.get("log"), health.get("log_detail") or ""
    if log in _LOG and _LOG[log][0] not in kinds:
        kind, says = _LOG[log]
        found.append(
            Finding(
                *_KINDS[kind][:2], f"{says}{f': {detail}' if detail else ''}.", _KINDS[kind][2], since=_last(health)
            )
        )
    if lines is not None and "lines_refused" not in kinds and (refused := sum(lines["refused"].values())):
        since = moment(clock.parse_iso(lines["since"]))
        reason = f"{refused:,} of {lines['read']:,} lines since {since}: {_counts(lines['refused'])}."
        found.append(Finding("refused", _refused(lines), reason, PC))
    unknown = lines is not None and lines["unknown"] and 2 * lines["unknown"] >= lines["scored"]
    if lines is not None and unknown and not kinds & {"models_unknown", "window_unfilled"}:
        reason = f"{lines['unknown']:,} of the last {lines['scored']:,} readings were judged by no model."
        found.append(Finding("unknown", "not judged", reason, MODELS))
    if health.get("bundle") is None and not kinds & {"no_bundle", "bundle_misfit", "bundle_failing"}:
        reason = detail if log == "waiting" and detail else "No models are installed: nothing is judged."
        found.append(Finding("unknown", "no bundle", reason, MODELS))
    elif detail and log not in _LOG and not troubles and lines is None:  # an agent that puts all into this one text
        found.append(Finding("trouble", "log needs a look", detail, PC))
    if health.get("update") and "update_failing" not in kinds:
        found.append(Finding("trouble", "update failing", str(health["update"]), PC))
    return found


def _refused(lines: Mapping[str, Any] | None) -> str:
    return "lines refused" if lines is None or lines["scored"] else "all lines refused"


def _trouble(trouble: Mapping[str, Any], lines: Mapping[str, Any] | None) -> Finding:
    state, word, who = _KINDS.get(trouble["kind"], ("trouble", trouble["kind"].replace("_", " "), PC))
    word = _refused(lines) if state == "refused" else word
    since = clock.parse_iso(trouble["since"]) if trouble.get("since") else None
    return Finding(state, word, trouble["detail"], who, trouble.get("remedy") or "", since)


def _alerts(facts: Facts) -> Iterable[Finding]:
    if facts.open_alerts:
        word = f"{facts.open_alerts} open alert{'' if facts.open_alerts == 1 else 's'}"
        reason = f"{sentence(facts.alert)}. " if facts.alert else ""
        reason += "Look at the device, then say what it was."
        yield Finding("critical" if facts.critical else "warning", word, reason, DEVICE, since=facts.alert_at)
    elif raised := sorted(model for model, verdict in facts.verdicts.items() if verdict in ("anomalous", "faulty")):
        reason = f"The newest reading is above the threshold of {_and(raised)}; an alert follows if the next ones are."
        yield Finding("above", "above threshold", reason)


def _connection(facts: Facts, now: int) -> Iterable[Finding]:
    since = facts.status_since or facts.last_seen
    if facts.status == "offline":
        reason = facts.reason or ""
        if reason in _STOPPED:
            says = "The agent was stopped on purpose. Nothing is watched until it is started again."
            yield Finding("stopped", "stopped", says, "the person who stopped it", since=since)
        elif reason == "connection lost":
            says = "The broker lost the agent: it was killed, its PC is off, or the network between them is down."
            yield Finding("offline", "connection lost", says, NETWORK, since=since)
        else:
            says = f"The agent went with the words “{reason}”." if reason else "The agent went and gave no reason."
            yield Finding("offline", f"offline: {reason}" if reason else "offline", says, NETWORK, since=since)
        return
    if now - facts.last_seen > NO_CONTACT:
        says = (
            "Nothing has come from it, and the broker did not say that it went: its network may hang, its PC sleep, or "
            "the way from the broker to us be cut."
        )
        yield Finding("offline", "no contact", says, NETWORK, since=facts.last_seen)
    if facts.status == "online" and facts.reason == "stalled":
        says = "The agent is connected, but its work makes no progress: a disk or a network share may hang."
        yield Finding("stalled", "agent stalled", says, PC, "Restart the agent's service.", since)


def _growing(health: Mapping[str, Any], earlier: Sequence[Mapping[str, Any]] | None) -> Iterable[Finding]:
    """Tell of refused lines by the ledgers of two reports, for an agent that does not count the last minutes."""
    days = health.get("ledger") or []
    if not days or health.get("lines") is not None:
        return
    newest = max(day["day"] for day in days)
    before = {day["day"]: day for day in earlier or ()}
    grown: dict[str, int] = {}
    read = 0
    for day in days:
        old = before.get(day["day"])
        if earlier is None or (old is None and day["day"] != newest):
            continue
        read += day["read"] - (old["read"] if old else 0)
        for reason, count in day["refused"].items():
            grown[reason] = grown.get(reason, 0) + count - (old["refused"].get(reason, 0) if old else 0)
    grown = {reason: count for reason, count in grown.items() if count > 0}
    if grown:
        yield Finding("refused", "lines refused", f"Of the newest {read:,} lines: {_counts(grown)}.", PC)
        return
    today = next(day for day in days if day["day"] == newest)
    if today["read"] and sum(today["refused"].values()) == today["read"]:
        reason = f"All {today['read']:,} lines of {newest}: {_counts(today['refused'])}."
        yield Finding("refused", "all lines refused", reason, PC)


def _clock(facts: Facts, now: int) -> Iterable[Finding]:
    ahead = [facts.last_ts - now] if facts.last_ts is not None else []
    if facts.health_at is not None and facts.health_received is not None:
        ahead.append(facts.health_at - facts.health_received)
    if facts.ahead_at is not None and now - facts.ahead_at <= NO_CONTACT:
        ahead.append(facts.ahead_by)
    if max(ahead, default=0) > AHEAD:
        says = (
            f"It sends times that are {duration(max(ahead))} ahead of this server: the clock or the time zone of its "
            "PC is wrong, or this server’s clock is behind."
        )
        yield Finding("clock", CLOCK_AHEAD, says, PC, _COMPARE)
    elif facts.behind_by:
        says = (
            f"Its reports come as it makes them, dated {duration(facts.behind_by)} behind this server: the clock or "
            "the time zone of its PC is wrong, or this server’s clock is ahead."
        )
        yield Finding("clock", CLOCK_BEHIND, says, PC, _COMPARE)


def _readings(facts: Facts, now: int, explained: bool, told: bool) -> Iterable[Finding]:
    """Tell of readings that are old, and of models that do not judge, where nothing else has told why."""
    if facts.last_ts is None:
        yield Finding("unknown", "no reading yet", "No reading of this device has been scored.", PC)
        return
    period = facts.period or clock.MINUTE
    if not explained and now - facts.last_ts > max(OLD, OLD_PERIODS * period):
        lag = (facts.health or {}).get("lag_bytes") or 0
        waiting = ((facts.health or {}).get("outbox") or {}).get("events") or 0
        behind = [f"{size(lag)} of log to read"] * bool(lag) + [f"{waiting:,} events to send"] * bool(waiting)
        why = f" The agent is catching up: {_and(behind)}." if behind else ""
        says = f"The newest reading is of {moment(facts.last_ts)}, {age(facts.last_ts, now)}; one is due every "
        yield Finding("stale", "readings old", f"{says}{duration(period)}.{why}", PC, since=facts.last_ts)
    silent = sorted(model for model, verdict in facts.verdicts.items() if verdict == "unknown")
    if (silent or not facts.verdicts) and not told:
        some = silent and len(silent) < len(facts.verdicts)
        why = (
            IN_WORDS.get(cast("Why", facts.why), facts.why)
            or "it is unlike the training data, too many sensors are missing, or the window is not filled yet"
        )
        says = f"The newest reading was not judged by {_and(silent) or 'any model'}: {why}."
        yield Finding("unknown", f"{silent[0]} does not judge" if some else "not judged", says, PC)


def _losses(facts: Facts) -> Iterable[Finding]:
    if facts.gaps:
        more = f" (and {facts.gaps - 1} more in the last day)" if facts.gaps > 1 else ""
        yield Finding("lost", "lines lost", f"{facts.gap}{more}", PC, since=facts.gap_at)
    days = (facts.health or {}).get("ledger") or []
    newest = max((day["day"] for day in days), default="")
    for day in days:
        counted = day["scored"] + sum(day["refused"].values()) + day["evicted"] + day["pending"]
        if day["read"] != counted:
            says = f"On {day['day']} the agent read {day['read']:,} lines and can account for {counted:,}."
            yield Finding("lost", "ledger does not add up", says, SERVER)
    given_up = sum(day["evicted"] for day in days if day["day"] == newest)
    if given_up and not facts.gaps:
        says = f"{given_up:,} results of {newest} were given up unsent: the device’s storage for them was full."
        yield Finding("lost", "results given up", says, NETWORK)
    if facts.missing:
        says = f"{facts.missing:,} readings that the device counts as delivered are not in this store."
        yield Finding("lost", "results missing here", says, SERVER)


def _reports(facts: Facts, now: int) -> Iterable[Finding]:
    """Report a device that sends data but no health reports."""
    at = facts.first_seen if facts.health_received is None else facts.health_received
    fresh = facts.last_ts is not None and now - facts.last_ts <= NO_CONTACT
    if now - at > NO_CONTACT and (facts.health_received is None or fresh):
        never = facts.health_received is None
        says = "has sent no report of its own state" + ("" if never else f" since {moment(at)}")
        yield Finding("trouble", "no health report", f"The agent {says}; one is due every minute.", PC, since=at)


def _support(health: Mapping[str, Any], now: int) -> Iterable[Finding]:
    """Tell that the support of the agent's version has ended or soon will; nothing where it does not say until when."""
    if not health.get("supported_until"):
        return
    until, today = date.fromisoformat(health["supported_until"]), date.fromisoformat(clock.day_of(now))
    if says := support.says(until, today):
        reason = f"{sentence(says)}: agent {health['agent']} gets no security mends after that day."
        yield Finding("note", SUPPORT_ENDED if today > until else SUPPORT_ENDS, reason, PC, "Update the agent.")


def fleet_notes(devices: Sequence[Standing]) -> list[str]:
    """Return problems that most devices have at once, so probably from one cause; and how many agents to update."""
    notes = []
    since = sorted(
        one.since for device in devices if (one := device.away) and one.state == "offline" and one.since is not None
    )
    together: list[int] = []
    for index, first in enumerate(since):
        group = [at for at in since[index:] if at - first <= AT_ONCE]
        if len(group) > len(together):
            together = group
    if _most(len(together), len(devices)):
        notes.append(
            f"{len(together)} of {len(devices)} devices went within {duration(AT_ONCE)}, from {moment(together[0])} "
            "on: network or broker?"
        )
    late = ", and does ingest keep up"  # what waits here for long, and as long each time, looks the same
    for word, are, more in ((CLOCK_AHEAD, "ahead of", ""), (CLOCK_BEHIND, "behind", late)):
        off = sum(any(one.word == word for one in device.findings) for device in devices)
        if _most(off, len(devices)):
            says = f"The clocks of {off} of {len(devices)} devices are {are} ours"
            notes.append(f"{says}: is this server’s clock right{more}?")
    for word in (SUPPORT_ENDED, SUPPORT_ENDS):
        if old := sum(any(one.word == word for one in device.findings) for device in devices):
            notes.append(f"{old} of {len(devices)} devices have an agent whose {word}: plan its update.")
    return notes


def counts(devices: Iterable[Standing]) -> dict[State, int]:
    """Count the devices in each state, worst first; one with two troubles counts in both."""
    found = [state for device in devices for state in device.states]
    return {state: found.count(state) for state in STATES if state in found}


def _most(some: int, of: int) -> bool:
    return some >= 2 and 2 * some > of


def _last(health: Mapping[str, Any]) -> int | None:
    return clock.parse_iso(health["last_reading"]) if health.get("last_reading") else None


def _counts(by_reason: Mapping[str, int]) -> str:
    worst = sorted(by_reason.items(), key=lambda one: (-one[1], one[0]))
    return ", ".join(f"{count:,} refused as {reason}" for reason, count in worst)


def _and(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1] if names else ""]))
