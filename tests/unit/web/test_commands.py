"""Commands over the API and on the device's page: who may give which, what is refused, what is shown."""

from __future__ import annotations

import pytest
from fieldwatch_cloud.access.roles import Role
from fieldwatch_cloud.ingest.decode import decode
from fieldwatch_cloud.store import Store, audit, commands
from fieldwatch_contract import clock
from fieldwatch_contract.commands import ModelReplay, ReplyData
from starlette.testclient import TestClient

from tests.delivery import Draft
from tests.unit.cloud.wire import message
from tests.unit.web.conftest import Site

API = "/api/v1/devices/press-0001/commands"
ASK = "/api/v1/devices/press-0001/ask"
RANGE = {"start": "2026-11-01T00:00:00Z", "end": "2026-11-01T06:00:00Z"}
ALERT = {"alert_id": "ab" * 16}


OTHER = "/api/v1/devices/freezer-0002/commands"


@pytest.fixture(scope="module")
def members(fresh_for_all: Site) -> dict[Role, TestClient]:
    """A client of each role; signing in takes its time."""
    return {role: fresh_for_all.member(role) for role in (Role.VIEWER, Role.ENGINEER, Role.RELEASE)}


def trail(store: Store) -> list[tuple[str, str]]:
    with store.read() as db:
        return [(entry.who, entry.action) for entry in audit.entries(db) if entry.action.startswith("command.")]


def test_who_may_give_which(fresh_for_all: Site, members: dict[Role, TestClient]) -> None:
    asks = [("update", None), ("evidence", ALERT), ("evidence", RANGE), ("replay", RANGE)]
    may = {
        Role.VIEWER: [403, 403, 403, 403],
        Role.ENGINEER: [403, 202, 202, 202],
        Role.RELEASE: [202, 202, 409, 409],  # five wait for an answer then
    }
    for role, codes in may.items():
        assert [members[role].post(f"{ASK}/{kind}", json=body).status_code for kind, body in asks] == codes
        page = members[role].get("/devices/press-0001").text
        assert ('name="kind"' in page) == (role is not Role.VIEWER)
        assert ("Update now" in page) == (role is Role.RELEASE)
    full = members[Role.RELEASE].post(f"{ASK}/update")
    assert full.status_code == 409 and "5 commands that it has not answered" in full.text
    assert trail(fresh_for_all.store) == [
        ("engineer@lab.example", "command.evidence"),
        ("engineer@lab.example", "command.evidence"),
        ("engineer@lab.example", "command.replay"),
        ("release@lab.example", "command.update"),
        ("release@lab.example", "command.evidence"),
    ]


@pytest.mark.parametrize(
    ("kind", "body", "code", "why"),
    [
        ("replay", {}, 422, "start"),
        ("replay", ALERT, 422, "start"),
        ("replay", RANGE | {"model": "x"}, 422, "model"),
        ("replay", RANGE | {"start": "yesterday"}, 422, "start"),
        ("evidence", {"alert_id": "../etc"}, 422, "alert_id"),
        ("replay", {"start": RANGE["end"], "end": RANGE["start"]}, 409, "is not before"),
        ("replay", RANGE | {"end": "2027-11-01T00:00:00Z"}, 409, "at most 31 are scored at once"),
    ],
)
def test_what_a_device_would_refuse_is_refused_here(
    members: dict[Role, TestClient], kind: str, body: dict[str, str], code: int, why: str
) -> None:
    answer = members[Role.RELEASE].post(f"{ASK}/{kind}", json=body)
    assert answer.status_code == code and why in answer.text, answer.text


def test_unknown_ones_are_told(members: dict[Role, TestClient]) -> None:
    member = members[Role.RELEASE]
    assert member.post("/api/v1/devices/press-9999/ask/update").status_code == 404
    assert member.get("/api/v1/devices/press-9999/commands").status_code == 404
    assert member.get(f"{API}/{'0' * 32}").status_code == 404


def test_the_answer_is_beside_what_is_stored(fresh_for_all: Site, members: dict[Role, TestClient]) -> None:
    site, engineer = fresh_for_all, members[Role.ENGINEER]
    last = site.app.state.queries.device("freezer-0002").last_ts
    start, end = clock.iso(last - 10 * clock.MINUTE)[:16], clock.iso(last)[:19]
    form = {"kind": "replay", "start": start, "end": end}
    assert engineer.post("/devices/freezer-0002/commands/look", data=form).headers["location"].endswith("#commands")
    (given,) = engineer.get(OTHER).json()["items"]
    assert given["kind"] == "replay" and given["state"] == "waiting" and given["issuer"] == "engineer@lab.example"
    assert given["arguments"]["start"].endswith("Z")
    assert "waits for the device" in engineer.get("/devices/freezer-0002").text

    sums = ModelReplay(
        model="detector", kind="detector", rows=9, raised=7, unknown=1, highest=4.5, highest_at=end + "Z"
    )
    reply = ReplyData(command=given["id"], kind="replay", outcome="done", detail="readings", replay=[sums])
    draft = Draft("reply", "2026-11-01", reply.model_dump_json())
    foreign = site.store.ingest(decode([message(7, draft, "press-0001")]))
    assert foreign.refused == 1 and engineer.get(f"{OTHER}/{given['id']}").json()["state"] != "done"
    outcome = site.store.ingest(decode([message(8, draft, "freezer-0002")]))
    assert outcome.refused == 0
    again = draft._replace(data=draft.data.replace('"done"', '"failed"'))
    assert site.store.ingest(decode([message(9, again, "freezer-0002")])).refused == 0, "the first answer counts"
    detail = engineer.get(f"{OTHER}/{given['id']}").json()
    assert detail["state"] == "done" and detail["replay"] == [sums.model_dump()]
    page = engineer.get("/devices/freezer-0002").text
    assert "7 of 9 readings raised, 1 not judged, highest 4.50; stored are" in page


def test_a_form_says_what_is_wrong(members: dict[Role, TestClient]) -> None:
    engineer = members[Role.ENGINEER]
    for form, why in (
        ({"kind": "rm"}, "Choose evidence or replay"),
        ({"kind": "replay", "start": "", "end": ""}, "is not a time"),
        ({"kind": "evidence", "alert": "x"}, "named by its id"),
        ({"kind": "replay", "alert": "ab" * 16}, "needs start and end"),
    ):
        answer = engineer.post("/devices/press-0001/commands/look", data=form)
        assert answer.status_code in (409, 422) and why in answer.text


def test_states_follow_from_what_is_stored() -> None:
    given = commands.Given("a" * 32, "press-0001", "update", {}, "eva", 0, 100, None, None, None, None, None)
    assert (given.state(99), given.state(100)) == ("waiting", "expired")
