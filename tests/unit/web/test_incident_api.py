"""Incidents by the API: a program does what a person does on the pages, by the same rules, with the same trace."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from fieldwatch_cloud.access.roles import Role
from fieldwatch_cloud.store import tables as t
from fieldwatch_contract import clock

from tests.delivery import rows
from tests.unit.web.conftest import Site

Fresh = Callable[..., Site]
API = "/api/v1/incidents"


def later(span: int) -> str:
    return clock.iso(clock.now() + span)


def test_a_whole_answer(fresh: Fresh) -> None:
    site = fresh(devices=3)
    engineer = site.member(Role.ENGINEER)
    found = engineer.get(f"{API}?state=live").json()["items"][0]
    path = f"{API}/{found['number']}"
    assert found["state"] == "open" and found["assignee"] == ""

    def act(name: str, **body: Any) -> dict[str, Any]:
        answer = engineer.post(f"{path}/{name}", json=body)
        assert answer.status_code == 200, answer.text
        after: dict[str, Any] = answer.json()
        return after

    assert act("acknowledge", why="on my way")["acknowledged_by"] == "engineer@lab.example"
    assert act("assign", to="ben")["assignee"] == "ben"
    assert act("comment", text="the pump is loud")["timeline"][-1]["text"] == "the pump is loud"
    until = later(60 * clock.MINUTE)
    assert act("snooze", until=until, why="lunch")["snoozed_until"] == until
    assert act("close", why="pump changed")["state"] == "closed"
    assert engineer.get(path).json()["timeline"][-1]["by"] == "engineer@lab.example"
    assert found["number"] in [one["number"] for one in engineer.get(f"{API}?state=over").json()["items"]]
    again = engineer.post(f"{path}/acknowledge", json={})
    assert (again.status_code, again.json()["detail"]) == (409, "It is closed: nobody can acknowledge it any more.")
    audit = [(row["action"], row["target"], row["why"]) for row in rows(site.store, t.audit)]
    for name in ("acknowledge", "assign", "comment", "snooze", "close"):
        assert any(one[:2] == (f"incident.{name}", str(found["number"])) for one in audit)
    assert ("incident.assign", str(found["number"]), "to ben") in audit


@pytest.mark.parametrize(
    ("act", "body", "status"),
    [
        ("comment", {"text": " \t"}, 422),
        ("close", {}, 422),
        ("close", {"why": ""}, 422),
        ("assign", {"to": "\u00a0"}, 422),
        ("snooze", {"why": "no end"}, 422),
        ("snooze", {"until": "2026-02-30T00:00:00Z"}, 422),
        ("snooze", {"until": "2026-01-01T00:00:00Z"}, 409),
        ("snooze", {"until": "2099-01-01T00:00:00Z"}, 409),
        ("acknowledge", {"reason": "wrong key"}, 422),
    ],
)
def test_what_is_not_an_answer_changes_nothing(fresh: Fresh, act: str, body: dict[str, str], status: int) -> None:
    site = fresh(devices=3)
    engineer = site.member(Role.ENGINEER)
    number = engineer.get(API).json()["items"][0]["number"]
    before = rows(site.store, t.incident_event)
    assert engineer.post(f"{API}/{number}/{act}", json=body).status_code == status
    assert rows(site.store, t.incident_event) == before


def test_pages_of_the_list_hold_every_incident_once(fresh: Fresh) -> None:
    engineer = fresh(devices=7).member(Role.ENGINEER)
    whole = [one["number"] for one in engineer.get(API).json()["items"]]
    assert len(whole) > 1
    found: list[int] = []
    cursor = ""
    while True:
        page = engineer.get(f"{API}?limit=1{cursor}").json()
        found += [one["number"] for one in page["items"]]
        if page["next"] is None:
            break
        cursor = f"&cursor={page['next']}"
    assert found == whole == sorted(whole, reverse=True)


def test_an_unknown_incident(fresh: Fresh) -> None:
    engineer = fresh().member(Role.ENGINEER)
    assert engineer.get(f"{API}/999").status_code == 404
    assert engineer.post(f"{API}/999/close", json={"why": "x"}).status_code == 404
