"""What people call devices: names, sites and tags, on the pages, in the search, in routes."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
from fieldwatch_cloud.access.roles import Role
from fieldwatch_cloud.alerts.routing import Route, Routing, Step
from fieldwatch_cloud.notify.letters import word
from fieldwatch_cloud.store import outbox
from fieldwatch_cloud.store import tables as t
from fieldwatch_contract import clock
from starlette.testclient import TestClient

from tests.browser import seed
from tests.delivery import rows
from tests.unit.web.conftest import Site

Fresh = Callable[..., Site]


@pytest.fixture(scope="module")
def engineer(fresh_for_all: Site) -> TestClient:
    """An engineer."""
    return fresh_for_all.member(Role.ENGINEER)


def device(site: Site, name: str, alert: bool = False) -> None:
    one = seed.Device(name, site.now - site.now % clock.MINUTE, 12, epoch="2b" if alert else "1a")
    one.state("online", one.at, "started")
    one.results({"detector": np.array([1.7 if alert else 0.2])}, [1, 2])
    if alert:
        one.alert(site.store, [1], ["opened"], "detector", [1, 2])
    one.store(site.store)


def ids(page: str) -> set[str]:
    return set(re.findall(r'id="d-([^"]+)"', page))


def test_a_name_a_site_and_tags_are_kept_shown_found_and_audited(fresh: Fresh) -> None:
    site = fresh()
    for name in ("press-0001", "press-0002"):
        device(site, name)
    engineer = site.member(Role.ENGINEER)
    form = {"name": " Cold  room ", "site": "Berlin", "tags": "gmp, Night gmp"}
    answer = engineer.post("/devices/press-0001/name", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/devices/press-0001")
    page = engineer.get("/devices/press-0001").text
    for shown in ("Cold room", '<a href="/?site=Berlin">Berlin</a>', ">gmp</a>", ">Night</a>"):
        assert shown in page
    for query in ("q=COLD", "q=night", "site=Berlin", "site=Berlin&q=cold&state=normal"):
        assert ids(engineer.get(f"/?{query}").text) == {"press-0001"}, query
    for query in ("site=berlin", "q=cold&site=Paris", "q=room2"):
        assert ids(engineer.get(f"/?{query}").text) == set(), query
    (entry,) = [row for row in rows(site.store, t.audit) if row["action"] == "device.name"]
    assert (entry["who"], entry["target"]) == ("engineer@lab.example", "press-0001")
    assert entry["why"] == "name Cold room, site Berlin, tags Night gmp, before: nothing"
    assert engineer.post("/devices/press-0001/name", data={}).status_code == 303
    assert rows(site.store, t.card) == []
    assert site.member(Role.VIEWER).post("/devices/press-0001/name", data=form).status_code == 403


@pytest.mark.parametrize(
    ("form", "says"),
    [
        ({"name": "x" * 81}, "at most 80"),
        ({"site": "x" * 65}, "at most 64"),
        ({"site": "lab*"}, "pattern of sites"),
        ({"name": "a\x07b"}, "plain words"),
        ({"tags": "x" * 41}, "at most 40"),
        ({"tags": " ".join(map(str, range(21)))}, "at most 20 tags"),
    ],
)
def test_what_cannot_be_kept_is_named(engineer: TestClient, form: dict[str, str], says: str) -> None:
    answer = engineer.post("/devices/press-0001/name", data=form)
    assert answer.status_code == 422
    assert says in answer.text


def test_routes_follow_the_site_that_people_set(fresh: Fresh) -> None:
    """Also for what is live; without one the configuration's site counts again."""
    site = fresh()
    site.store.incidents.routing = Routing(sites={"hamburg": ("press-*",)})
    device(site, "press-0001", alert=True)
    engineer = site.member(Role.ENGINEER)
    assert [row["site"] for row in rows(site.store, t.incident)] == ["hamburg"]
    assert ids(engineer.get("/?site=hamburg").text) == {"press-0001"}
    engineer.post("/devices/press-0001/name", data={"name": "Lab 2", "site": "berlin"})
    assert [row["site"] for row in rows(site.store, t.incident)] == ["berlin"]
    with site.store.read() as db:
        assert site.store.incidents.site(db, "press-0001") == "berlin"
    for query, found in (
        ("site=berlin", 1),
        ("site=hamburg", 0),
        ("q=lab+2", 1),
        ("q=FLOW", 1),
        ("q=voltage", 0),
        ("q=press", 1),
    ):
        page = engineer.get(f"/incidents?{query}").text
        assert len(re.findall(r'<a href="/incidents/\d+">', page)) == found, query
    engineer.post("/devices/press-0001/name", data={"name": "Lab 2"})
    assert [row["site"] for row in rows(site.store, t.incident)] == ["hamburg"]


def test_messages_say_the_name_too(fresh: Fresh) -> None:
    site = fresh()
    device(site, "press-0001")
    site.member(Role.ENGINEER).post("/devices/press-0001/name", data={"name": "Line 2 <old>"})
    site.store.incidents.routing = Routing((Route("lab", (Step(("mail ana@x",)),)),))
    device(site, "press-0001", alert=True)
    with site.store.write() as db:
        letter = outbox.claim(db, clock.now() + 5 * clock.MINUTE)
    assert letter is not None
    text = word(letter, "https://w.example")
    assert text.subject.startswith("[Fieldwatch] press-0001 (Line 2 <old>): unusual readings in ")
    assert text.data["news"][0]["incident"]["name"] == "Line 2 <old>"


def test_a_program_names_devices_too(fresh: Fresh) -> None:
    site = fresh()
    device(site, "press-0001")
    script = site.script()
    body = {"name": "Line 2", "site": "berlin", "tags": ["gmp", "b"]}
    answer = script.put("/api/v1/devices/press-0001/card", json=body)
    assert answer.status_code == 200, answer.text
    assert {key: answer.json()[key] for key in body} == body | {"tags": ["b", "gmp"]}
    assert script.get("/api/v1/devices/press-0001").json()["name"] == "Line 2"
    assert script.put("/api/v1/devices/nobody-1/card", json=body).status_code == 404
    for wrong in (
        {"site": "*"},
        {"tags": ["a b"]},
        {"tags": ["a\x85b"]},
        {"name": "a\nb"},
        {"tags": ["a"] * 21},
        {"x": 1},
    ):
        assert script.put("/api/v1/devices/press-0001/card", json=wrong).status_code == 422, wrong
    viewer = site.member(Role.VIEWER)
    assert viewer.put("/api/v1/devices/press-0001/card", json=body).status_code == 403
    assert [row["who"] for row in rows(site.store, t.audit) if row["action"] == "device.name"] == ["web.api_token"]
