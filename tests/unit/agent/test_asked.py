"""Which commands are taken, and what may be told: the rules, one by one."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from fieldwatch_agent.command.rules import HOUR, PER_HOUR, REFUSALS_PER_HOUR, SKEW, Range, Refusal, judge, shown
from fieldwatch_agent.send.raised import KEPT, Raised, from_json, with_new
from fieldwatch_agent.send.seen import REMEMBERED, Seen, kept
from fieldwatch_agent.send.seen import from_json as seen_from_json
from fieldwatch_agent.send.seen import to_json as seen_to_json
from fieldwatch_contract import clock
from fieldwatch_contract.commands import COMMAND_BYTES, EVIDENCE_ROWS, KINDS, LIFETIME, Command

from tests.delivery import alert

DEVICE = "press-0001"
NOW = clock.parse_iso("2026-11-26T10:00:00Z")
ID = "ab" * 16
RANGE = {"start": "2026-11-26T08:00:00Z", "end": "2026-11-26T09:00:00Z"}


def command(kind: str = "replay", arguments: dict[str, Any] | None = None, **changes: Any) -> dict[str, Any]:
    data = {
        "kind": kind,
        "arguments": RANGE if arguments is None else arguments,
        "expires_at": changes.pop("expires_at", clock.iso(NOW + LIFETIME // 4)),
        "issuer": "eva@lab.example",
    }
    event = {"id": ID, "specversion": "1.0", "source": "//fieldwatch/cloud", "subject": DEVICE}
    event |= {"type": "fieldwatch.command.v1", "time": clock.iso(NOW), "data": data}
    return event | {"datacontenttype": "application/json"} | changes


def judged(value: Any, known: list[Seen] | None = None, allow: Any = KINDS, now: int = NOW) -> Command | Refusal | None:
    payload = value if isinstance(value, bytes) else json.dumps(value).encode()
    return judge(payload, DEVICE, allow, known or [], now)


def test_what_is_right_is_taken_once() -> None:
    for kind, arguments in (("update", {}), ("replay", RANGE), ("evidence", RANGE), ("evidence", {"alert_id": ID})):
        assert isinstance(judged(command(kind, arguments)), Command)
    for state in ("waiting", "begun", "ended"):
        assert judged(command(), [Seen(ID, NOW - HOUR, state)]) is None  # type: ignore[arg-type]
    assert judged(b'{"id": "' + ID.encode() + b'"}', [Seen(ID, NOW, "ended", refused=True)]) is None
    assert isinstance(judged(command(later="an attribute of a later cloud")), Command)


REFUSED: list[tuple[Any, str, str]] = [
    (b"\xff\x00", "", "cannot be read"),
    (b"[]", "", "cannot be read"),
    (b"[" * 10_000, "", "cannot be read"),
    (b"x" * (COMMAND_BYTES + 1), "", f"more than {COMMAND_BYTES} bytes"),
    (command(id="../../etc"), "", "cannot be read: id"),
    (command(type="fieldwatch.alert.v1"), ID, "cannot be read: type"),
    (command(source="//elsewhere"), ID, "cannot be read: source"),
    (command(time="soon"), ID, "cannot be read: time"),
    (command(data=7), ID, "cannot be read: data"),
    (command("rm -rf"), ID, "cannot be read: data.kind"),
    (command("reboot"), ID, "knows no command reboot"),
    (command(subject="press-0002"), ID, "it is for 'press-0002', this is press-0001"),
    (command(subject="+"), ID, "it is for '+'"),
    (command(time="2026-99-99T99:99:99Z"), ID, "its times cannot be read"),
    (command(expires_at=clock.iso(NOW)), ID, "an hour is the most"),
    (command(expires_at=clock.iso(NOW + LIFETIME + clock.SECOND)), ID, "an hour is the most"),
    (command(time=clock.iso(NOW - LIFETIME), expires_at=clock.iso(NOW)), ID, "it was to begin until"),
    (command(time=clock.iso(NOW + SKEW + clock.SECOND)), ID, "is that clock wrong?"),
    (command("update", RANGE), ID, "update takes no arguments"),
    (command("replay", {}), ID, "replay needs start and end"),
    (command("replay", {"alert_id": ID}), ID, "replay needs start and end"),
    (command("evidence", {"start": RANGE["start"]}), ID, "evidence needs alert_id, or start and end"),
    (command("evidence", RANGE | {"alert_id": ID}), ID, "evidence needs alert_id, or start and end"),
    (command("evidence", {"alert_id": "../x"}), ID, "arguments: alert_id"),
    (command("replay", RANGE | {"file": "/etc/shadow"}), ID, "arguments: file"),
    (command("replay", {"start": RANGE["end"], "end": RANGE["start"]}), ID, "is not before"),
    (command("replay", RANGE | {"start": "2025-11-26T08:00:00Z"}), ID, "at most 31 are scored at once"),
    (command("replay", RANGE | {"start": "2026-99-26T08:00:00Z"}), ID, "must be times"),
]


@pytest.mark.parametrize(("value", "name", "why"), REFUSED, ids=[why for _, _, why in REFUSED])
def test_what_is_refused_says_why(value: Any, name: str, why: str) -> None:
    found = judged(value)
    assert isinstance(found, Refusal) and (found.id, found.silent) == (name, False)
    assert why in found.why


def test_the_configuration_decides_which_kinds_there_are() -> None:
    for allow in ((), ("update",), ("update", "evidence")):
        found = judged(command(), allow=allow)
        assert isinstance(found, Refusal) and "[commands] allow" in found.why
    assert isinstance(judged(command(), allow=("replay",)), Command)


def test_more_than_a_few_an_hour_are_refused_and_more_refusals_than_many_are_not_answered() -> None:
    taken = [Seen(f"{n:032x}", NOW - clock.MINUTE, "ended") for n in range(PER_HOUR)]
    found = judged(command(), taken)
    assert isinstance(found, Refusal) and "takes no more" in found.why
    assert isinstance(judged(command(), taken[1:]), Command)
    old = [replace(each, at=NOW - 2 * HOUR) for each in taken]
    assert isinstance(judged(command(), old), Command)
    refused = [Seen("", NOW, "ended", refused=True)] * REFUSALS_PER_HOUR
    assert isinstance(judged(command(), refused), Command), "refusals do not count as commands"
    found = judged(b"flood", refused)
    assert isinstance(found, Refusal) and found.silent


NEWEST = clock.parse_iso("2026-11-26T09:59:00Z")
OPENED = clock.parse_iso("2026-11-26T06:00:00Z")


def may(
    privacy: Any, kind: str, arguments: dict[str, str], over: bool = True, opened: int = OPENED
) -> tuple[Range, str] | str:
    raised = {ID: Raised("classifier", opened, opened + 30 * clock.MINUTE, over)}
    asked = Command.model_validate(command(kind, arguments))
    found = shown(asked, privacy, raised, NEWEST, clock.MINUTE)
    return found.why if isinstance(found, Refusal) else found


def test_evidence_never_shows_more_than_the_privacy_setting() -> None:
    whole = Range(clock.parse_iso(RANGE["start"]), clock.parse_iso(RANGE["end"]))
    around = Range(OPENED - 119 * clock.MINUTE, OPENED + 30 * clock.MINUTE)
    for privacy in ("none", "scores"):
        for arguments in (RANGE, {"alert_id": ID}):
            assert "no reading may leave" in str(may(privacy, "evidence", arguments))
    assert "with an alert alone" in str(may("on-alert", "evidence", RANGE))
    assert "no such alert" in str(may("on-alert", "evidence", {"alert_id": "cd" * 16}))
    assert may("on-alert", "evidence", {"alert_id": ID}) == may("full", "evidence", {"alert_id": ID})
    assert may("full", "evidence", {"alert_id": ID}) == (around, "classifier")
    assert may("full", "evidence", RANGE) == (whole, "")
    for privacy in ("none", "scores", "on-alert", "full"):
        assert may(privacy, "replay", RANGE) == (whole, ""), "scores are sent anyway"


def test_what_is_not_scored_yet_is_not_shown_and_an_open_alert_goes_on() -> None:
    later = RANGE | {"end": "2026-11-26T23:00:00Z"}
    for kind in ("evidence", "replay"):
        found = may("full", kind, later)
        assert isinstance(found, tuple) and found[0].end == NEWEST
    still = may("on-alert", "evidence", {"alert_id": ID}, over=False)
    assert isinstance(still, tuple) and still[0].end == NEWEST
    still = may("on-alert", "evidence", {"alert_id": ID}, over=False, opened=OPENED - HOUR)
    assert isinstance(still, tuple) and still[0].end - still[0].start == (EVIDENCE_ROWS - 1) * clock.MINUTE


def test_the_newest_alerts_are_remembered_and_what_is_damaged_is_begun_anew() -> None:
    text = None
    for minute in range(KEPT + 5):
        text = with_new(text, [alert(10 * minute).model_dump_json()])
    text = with_new(text, [alert(109, "resolved", opened=100).model_dump_json()])
    known = from_json(text)
    assert len(known) == KEPT
    first = known[alert(100).alert_id]
    assert first.over and first.last - first.opened == 9 * clock.MINUTE
    assert list(known)[-1] == alert(100).alert_id and alert(0).alert_id not in known
    for wrong in ("[]", "7", '{"a": 1}', '{"a": [1, 2]}', "x"):
        with pytest.raises(ValueError):
            from_json(wrong)
        assert list(from_json(with_new(wrong, [alert(1).model_dump_json()]))) == [alert(1).alert_id]


def test_a_command_is_remembered_longer_than_it_may_be_repeated() -> None:
    commands = [
        Seen("a" * 32, NOW, "ended"),
        Seen("b" * 32, NOW, "waiting", text="{}"),
        Seen("c" * 32, NOW, "begun", text="{}"),
    ]
    assert kept(commands, NOW + LIFETIME + SKEW) == tuple(commands)
    assert [each.id[0] for each in kept(commands, NOW + REMEMBERED + 1)] == ["b", "c"]
    assert seen_from_json(seen_to_json(commands)) == tuple(commands)
    for wrong in ("7", '[{"id": 1}]', '[{"id": "", "at": 0, "state": "x"}]', "x", "{"):
        with pytest.raises(ValueError):
            seen_from_json(wrong)
