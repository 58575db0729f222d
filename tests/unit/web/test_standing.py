"""How a device is: each case of the table in the module, what follows from what, and what most devices share."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Any

import pytest
from fieldwatch_cloud.alerts import standing as module
from fieldwatch_cloud.alerts.standing import Facts, Standing, counts, fleet_notes, standing
from fieldwatch_cloud.words import STATE_WORDS
from fieldwatch_contract import clock
from fieldwatch_contract.events import HealthData, Trouble

NOW = clock.parse_iso("2026-11-05T12:00:00Z")
MINUTE = clock.MINUTE
TODAY = "2026-11-05"


def day(**numbers: Any) -> dict[str, Any]:
    """A day of the ledger."""
    return {"day": TODAY, "read": 700, "scored": 700, "refused": {}, "evicted": 0, "pending": 0} | numbers


def health(**more: Any) -> dict[str, Any]:
    """A report of an agent that is well; ``lines=None``: of one that does not count them."""
    data: dict[str, Any] = {
        "ts": clock.iso(NOW),
        "agent": "0.2.0",
        "bundle": {"name": "press", "version": "1", "sha256": "ab" * 32},
        "log": "following",
        "log_detail": "",
        "last_reading": clock.iso(NOW),
        "lag_bytes": 0,
        "outbox": {"events": 0, "bytes": 0, "oldest": None},
        "ledger": [day()],
        "lines": {"since": clock.iso(NOW - 10 * MINUTE), "read": 10, "scored": 10, "unknown": 0, "refused": {}},
    }
    return HealthData.model_validate(data | more).model_dump(mode="json")


def lines(**numbers: Any) -> dict[str, Any]:
    """The newest lines of a report."""
    return {"since": clock.iso(NOW - 10 * MINUTE), "read": 10, "scored": 10, "unknown": 0, "refused": {}} | numbers


def trouble(kind: str, detail: str = "so it is", remedy: str = "") -> dict[str, Any]:
    return {"kind": kind, "detail": detail, "remedy": remedy, "since": clock.iso(NOW - MINUTE)}


WELL = Facts(
    last_seen=NOW,
    first_seen=NOW - clock.DAY,
    status="online",
    reason="started",
    status_since=NOW - clock.DAY,
    last_ts=NOW - MINUTE,
    period=MINUTE,
    verdicts={"detector": "normal", "classifier": "normal"},
    health=health(),
    health_at=NOW,
    health_received=NOW,
)


def judge(**more: Any) -> Standing:
    return standing(replace(WELL, **more), NOW)


def test_a_device_is_normal_where_nothing_is_wrong() -> None:
    assert (judge().condition, judge().word, judge().findings) == ("normal", "normal", ())


OLD_AGENT = {"lines": None}
CASES: list[tuple[dict[str, Any], str, str, str]] = [
    ({"open_alerts": 1, "critical": True, "alert": "signs of wear"}, "critical", "1 open alert", "Signs of wear. Look"),
    ({"open_alerts": 2}, "warning", "2 open alerts", "Look at the device"),
    (
        {"verdicts": {"detector": "normal", "classifier": "faulty"}},
        "above",
        "above threshold",
        "threshold of classifier",
    ),
    ({"verdicts": {"detector": "anomalous"}}, "above", "above threshold", "threshold of detector"),
    ({"status": "offline", "reason": "connection lost"}, "offline", "connection lost", "its PC is off, or the network"),
    ({"status": "offline", "reason": ""}, "offline", "offline", "gave no reason"),
    ({"status": "offline", "reason": "eaten by a grue"}, "offline", "offline: eaten by a grue", "eaten by a grue"),
    ({"last_seen": NOW - 11 * MINUTE}, "offline", "no contact", "Nothing has come from it"),
    ({"reason": "stalled"}, "stalled", "agent stalled", "makes no progress"),
    ({"health": health(log="silent", log_detail="no new line for 42 min")}, "log", "log silent", "for 42 min"),
    ({"health": health(log="missing")}, "log", "log missing", "No file matches"),
    (
        {"health": health(log="unreadable", log_detail="Permission denied")},
        "log",
        "log unreadable",
        "Permission denied",
    ),
    ({"health": health(lines=lines(scored=8, refused={"columns": 2}))}, "refused", "lines refused", "2 of 10 lines"),
    ({"health": health(lines=lines(scored=0, refused={"future": 10}))}, "refused", "all lines refused", "as future"),
    (  # an old agent: the ledger of ten minutes before had fewer refusals
        {"health": health(**OLD_AGENT, ledger=[day(read=700, scored=690, refused={"late": 10})])}
        | {"earlier": [day(read=692, scored=690, refused={"late": 2})]},
        "refused",
        "lines refused",
        "Of the newest 8 lines: 8 refused as late",
    ),
    (  # the day is new since
        {"health": health(**OLD_AGENT, ledger=[day(read=5, scored=0, refused={"late": 5})])}
        | {"earlier": [day() | {"day": "2026-11-04"}]},
        "refused",
        "lines refused",
        "5 refused as late",
    ),
    (  # an old agent's only report
        {"health": health(**OLD_AGENT, ledger=[day(read=5, scored=0, refused={"late": 5})])},
        "refused",
        "all lines refused",
        "All 5 lines of 2026-11-05",
    ),
    ({"last_ts": NOW + 20 * 60 * MINUTE}, "clock", "clock ahead", "20 h ahead of this server"),
    ({"health_at": NOW + 11 * MINUTE}, "clock", "clock ahead", "11 min ahead of this server"),
    ({"behind_by": 5 * 60 * MINUTE}, "clock", "clock behind", "dated 5 h behind this server"),
    ({"ahead_at": NOW - 9 * MINUTE, "ahead_by": 400 * clock.DAY}, "clock", "clock ahead", "400 d ahead"),
    ({"last_ts": NOW - 9 * clock.DAY}, "stale", "readings old", "9 d ago; one is due every 1 min"),
    ({"last_ts": NOW - 11 * MINUTE}, "stale", "readings old", "11 min ago"),
    ({"last_ts": NOW - 11 * MINUTE, "period": None}, "stale", "readings old", "11 min ago"),
    ({"last_ts": NOW - 181 * MINUTE, "period": 60 * MINUTE}, "stale", "readings old", "due every 60 min"),
    (
        {
            "last_ts": NOW - clock.DAY,
            "health": health(lag_bytes=2048, outbox={"events": 7, "bytes": 9, "oldest": None}),
        },
        "stale",
        "readings old",
        "catching up: 2.0 KiB of log to read and 7 events to send",
    ),
    ({"gaps": 1, "gap": "The log was cut (5,000 lines)", "gap_at": NOW - MINUTE}, "lost", "lines lost", "5,000 lines"),
    ({"gaps": 3, "gap": "The log vanished"}, "lost", "lines lost", "vanished (and 2 more in the last day)"),
    ({"missing": 3}, "lost", "results missing here", "3 readings that the device counts as delivered"),
    (
        {"health": health(ledger=[day(read=701)])},
        "lost",
        "ledger does not add up",
        "read 701 lines and can account for 700",
    ),
    ({"health": health(ledger=[day(scored=690, evicted=10)])}, "lost", "results given up", "10 results"),
    (
        {"verdicts": {"detector": "unknown", "classifier": "normal"}},
        "unknown",
        "detector does not judge",
        "by detector",
    ),
    ({"verdicts": {"detector": "unknown", "classifier": "unknown"}}, "unknown", "not judged", "detector"),
    ({"verdicts": {}}, "unknown", "not judged", "by any model"),
    (
        {"verdicts": {"detector": "unknown"}, "why": "few_rows"},
        "unknown",
        "not judged",
        "too few readings in the window",
    ),
    ({"verdicts": {"detector": "unknown"}, "why": "bad mood"}, "unknown", "not judged", "by detector: bad mood."),
    ({"last_ts": None, "verdicts": {}}, "unknown", "no reading yet", "No reading"),
    ({"health": health(bundle=None)}, "unknown", "no bundle", "No models are installed"),
    ({"health": health(lines=lines(unknown=5))}, "unknown", "not judged", "5 of the last 10 readings"),
    ({"health": health(update="the server does not answer")}, "trouble", "update failing", "does not answer"),
    ({"health": health(**OLD_AGENT, log_detail="2 columns are unknown")}, "trouble", "log needs a look", "2 columns"),
    ({"health": None, "health_received": None}, "trouble", "no health report", "one is due every minute"),
    (
        {"health_received": NOW - 11 * MINUTE, "health_at": NOW - 11 * MINUTE},
        "trouble",
        "no health report",
        "since 2026-11-05 11:49 UTC",
    ),
    ({"status": "offline", "reason": "stopped"}, "stopped", "stopped", "on purpose"),
    ({"status": "offline", "reason": "shutdown"}, "stopped", "stopped", "on purpose"),
]


@pytest.mark.parametrize(
    ("facts", "state", "word", "reason"), CASES, ids=[f"{c[1]}-{c[2]}-{i}" for i, c in enumerate(CASES)]
)
def test_each_case_is_told_in_words(facts: dict[str, Any], state: str, word: str, reason: str) -> None:
    found = judge(**facts)
    assert (found.condition, found.word, len(found.findings)) == (state, word, 1)
    assert reason in found.findings[0].reason
    assert found.findings[0].who or state == "above"


def test_every_kind_of_trouble_in_the_contract_has_its_words_and_who_acts() -> None:
    listed = (Trouble.__doc__ or "").partition("In use:")[2]
    assert set(re.findall(r"``(\w+)``", listed)) == set(module._KINDS)


@pytest.mark.parametrize("kind", [*module._KINDS, "gremlins_in_the_pipes"])
def test_each_trouble_is_shown_with_its_detail_and_remedy(kind: str) -> None:
    told = trouble(kind, "pump.csv, line 4: three fields", "set delimiter")
    found = judge(health=health(troubles=[told]))
    (one,) = found.findings
    assert (one.reason, one.remedy, one.since) == ("pump.csv, line 4: three fields", "set delimiter", NOW - MINUTE)
    assert (found.condition == "normal") == (kind == "columns_unknown")
    assert one.word in found.word
    assert one.who
    if kind not in module._KINDS:
        assert one.word == "gremlins in the pipes"


def test_a_note_leaves_a_device_normal_and_is_told() -> None:
    found = judge(health=health(troubles=[trouble("columns_unknown", "2 columns: remarks, batch")]))
    assert (found.condition, found.states, found.word) == ("normal", ["normal"], "normal, columns ignored")
    worse = judge(health=health(troubles=[trouble("columns_unknown")]), missing=1)
    assert (worse.condition, worse.states, worse.word) == ("lost", ["lost"], "results missing here, columns ignored")


@pytest.mark.parametrize(
    ("until", "word", "reason"),
    [
        ("2026-11-04", "normal, support has ended", "Support ended on 2026-11-04: agent 0.2.0 gets no security mends"),
        ("2026-11-05", "normal, support ends soon", "Support ends on 2026-11-05: "),
        ("2027-02-03", "normal, support ends soon", "Support ends on 2027-02-03: "),
        ("2027-02-04", "normal", ""),
        (None, "normal", ""),
    ],
)
def test_the_end_of_support_is_a_note_and_no_alarm(until: str | None, word: str, reason: str) -> None:
    found = judge(health=health(supported_until=until))
    assert (found.condition, found.word) == ("normal", word)
    assert "".join(one.reason for one in found.findings).startswith(reason)
    assert [one.who for one in found.findings] == ([module.PC] if reason else [])


def test_agents_to_be_updated_are_counted_once_for_the_fleet() -> None:
    ended, ends, well = (judge(health=health(supported_until=f"{year}-01-01")) for year in (2026, 2027, 2028))
    assert fleet_notes([ended, ended, ends, well]) == [
        "2 of 4 devices have an agent whose support has ended: plan its update.",
        "1 of 4 devices have an agent whose support ends soon: plan its update.",
    ]


def test_a_device_of_which_every_line_is_refused_says_so() -> None:
    told = [trouble("lines_refused", "10 of 10 lines", "set delimiter")]
    some = judge(health=health(troubles=told, lines=lines(scored=1, refused={"columns": 9})))
    every = judge(health=health(troubles=told, lines=lines(scored=0, refused={"columns": 10})))
    assert (some.word, every.word) == ("lines refused", "all lines refused")


def test_a_model_that_does_not_judge_is_told_once() -> None:
    told = health(troubles=[trouble("models_unknown", "detector could not judge 6 of 10 (out of range)")])
    found = judge(health=told, verdicts={"detector": "unknown", "classifier": "normal"})
    assert [one.word for one in found.findings] == ["not judged"]


TWICE = ("log_silent", "lines_refused", "update_failing", "no_bundle", "models_unknown")


def test_what_an_agent_tells_twice_is_shown_once() -> None:
    twice = health(
        log="silent",
        update="no answer",
        lines=lines(scored=2, unknown=2, refused={"late": 10}),
        bundle=None,
        troubles=[trouble(kind) for kind in TWICE],
    )
    assert len(judge(health=twice).findings) == len(TWICE)


@pytest.mark.parametrize(
    "cause",
    [
        {"status": "offline", "reason": "connection lost"},
        {"status": "offline", "reason": "stopped"},
        {"last_seen": NOW - 9 * clock.DAY},
        {"health": health(log="silent")},
        {"reason": "stalled"},
    ],
)
def test_old_readings_are_no_second_trouble_where_something_explains_them(cause: dict[str, Any]) -> None:
    found = judge(**cause, last_ts=NOW - 9 * clock.DAY)
    assert found.condition != "normal"
    assert "stale" not in found.states
    assert found.away is found.findings[0]


def test_the_worst_comes_first_and_the_rest_is_counted() -> None:
    found = judge(
        open_alerts=1,
        status="offline",
        reason="connection lost",
        health=health(lines=lines(scored=3, refused={"late": 7}), update="no answer"),
    )
    assert found.states == ["warning", "offline", "refused", "trouble"]
    assert found.word == "1 open alert, connection lost +2"
    assert found.away is not None
    assert found.away.word == "connection lost"


@pytest.mark.parametrize(
    "facts",
    [
        {"last_ts": NOW - 9 * MINUTE},
        {"last_ts": NOW + 9 * MINUTE},
        {"ahead_at": NOW - 11 * MINUTE, "ahead_by": clock.DAY},
        {"last_ts": NOW - 179 * MINUTE, "period": 60 * MINUTE},
        {"last_seen": NOW - 9 * MINUTE},
        {"health_at": NOW - 9 * MINUTE},
        {"health_received": NOW - 9 * MINUTE},
        {"health_at": NOW - 8 * clock.DAY},  # it was long on its way
        {"health": None, "health_at": None, "health_received": None, "first_seen": NOW - 9 * MINUTE},
        {"health": health(lines=lines(unknown=4))},
        {"health": health(**OLD_AGENT, ledger=[day(scored=690, refused={"late": 10})])},
        {"health": health(**OLD_AGENT, ledger=[day(scored=690, refused={"late": 10})])}
        | {"earlier": [day(read=692, scored=682, refused={"late": 10})]},
        {"reason": "started after a crash or power loss"},
        {"reason": "reconnected"},
        {"reason": None, "status": "unknown"},
    ],
)
def test_what_is_well_stays_normal(facts: dict[str, Any]) -> None:
    assert judge(**facts).findings == ()


def test_most_devices_at_once_are_hardly_each_at_fault() -> None:
    def lost(minute: int) -> Standing:
        return judge(status="offline", reason="connection lost", status_since=NOW - minute * MINUTE)

    well = judge()
    assert fleet_notes([lost(30), lost(31), lost(34), well]) == [
        "3 of 4 devices went within 5 min, from 2026-11-05 11:26 UTC on: network or broker?"
    ]
    assert fleet_notes([lost(30), lost(31), well, well]) == []
    assert fleet_notes([lost(30), lost(90), lost(150)]) == []
    assert fleet_notes([lost(30)]) == []
    stopped = judge(status="offline", reason="stopped", status_since=NOW)
    assert fleet_notes([stopped, stopped, stopped]) == []
    ahead = judge(last_ts=NOW + 20 * 60 * MINUTE)
    assert fleet_notes([ahead, ahead, well]) == [
        "The clocks of 2 of 3 devices are ahead of ours: is this server’s clock right?"
    ]
    behind = judge(behind_by=clock.DAY)
    assert fleet_notes([behind, behind, well]) == [
        "The clocks of 2 of 3 devices are behind ours: is this server’s clock right, and does ingest keep up?"
    ]


def test_the_counts_hide_nothing() -> None:
    both = judge(open_alerts=1, status="offline", reason="connection lost")
    assert counts([both, judge(), judge(missing=1)]) == {"warning": 1, "offline": 1, "lost": 1, "normal": 1}
    assert set(STATE_WORDS) == set(module.STATES)
