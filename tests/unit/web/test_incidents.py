"""People answer: the pages of incidents and notifications, and what other programs ask."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from fieldwatch_cloud.access.roles import Role
from fieldwatch_cloud.alerts.routing import Route, Routing, Step
from fieldwatch_cloud.notify.watch import Chain
from fieldwatch_cloud.store import outbox
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.web import create_app
from fieldwatch_cloud.web.stream import told
from fieldwatch_contract import clock
from prometheus_client.parser import text_string_to_metric_families
from sqlalchemy import insert
from starlette.testclient import TestClient

from tests.browser import seed
from tests.delivery import rows
from tests.unit.web.conftest import Site

Fresh = Callable[..., Site]


def numbers(client: TestClient, state: str = "live") -> list[int]:
    return [int(one) for one in re.findall(r'href="/incidents/(\d+)"', client.get(f"/incidents?state={state}").text)]


def test_a_person_s_whole_answer_is_in_the_timeline_and_the_audit_trail(fresh: Fresh) -> None:
    site = fresh(devices=3)
    engineer = site.member(Role.ENGINEER)
    number = numbers(engineer)[0]
    path = f"/incidents/{number}"
    for act, form, shows in (
        ("acknowledge", {"why": "on my way"}, "engineer@lab.example: on my way"),
        ("assign", {"to": "ben"}, "<dt>Assigned to</dt><dd>ben</dd>"),
        ("comment", {"why": "the pump <is> loud"}, "the pump &lt;is&gt; loud"),
        ("snooze", {"until": "4h", "why": "lunch"}, "snoozed until"),
        ("close", {"why": "pump changed"}, "closed"),
    ):
        answer = engineer.post(f"{path}/{act}", data=form)
        assert (answer.status_code, answer.headers["location"]) == (303, f"{path}#timeline")
        assert shows in engineer.get(path).text, act
    assert number not in numbers(engineer)
    assert number in numbers(engineer, "over")
    audit = [(row["who"], row["action"], row["target"]) for row in rows(site.store, t.audit)]
    for act in ("acknowledge", "assign", "comment", "snooze", "close"):
        assert ("engineer@lab.example", f"incident.{act}", str(number)) in audit
    again = engineer.post(f"{path}/acknowledge")
    assert again.status_code == 409
    assert "It is closed: nobody can acknowledge it any more." in again.text


@pytest.mark.parametrize(
    ("act", "form", "says"),
    [
        ("snooze", {"until": "always"}, "A snooze ends"),
        ("snooze", {}, "A snooze ends"),
        ("close", {"why": " "}, "Say why"),
        ("assign", {}, "to whom"),
        ("comment", {}, "Write what"),
    ],
)
def test_what_is_missing_in_an_answer_is_named(fresh: Fresh, act: str, form: dict[str, str], says: str) -> None:
    site = fresh(devices=3)
    engineer = site.member(Role.ENGINEER)
    number = numbers(engineer)[0]
    answer = engineer.post(f"/incidents/{number}/{act}", data=form)
    assert answer.status_code == 422
    assert says in answer.text


def test_a_link_only_shows(fresh: Fresh) -> None:
    """A mail program that follows every link acknowledges nothing."""
    site = fresh(devices=3)
    engineer = site.member(Role.ENGINEER)
    before = rows(site.store, t.incident_event)
    for number in numbers(engineer):
        for act in ("acknowledge", "close"):
            assert engineer.get(f"/incidents/{number}/{act}").status_code == 405
        assert engineer.get(f"/incidents/{number}").status_code == 200
    assert rows(site.store, t.incident_event) == before


def test_a_viewer_sees_and_cannot_answer(fresh: Fresh) -> None:
    viewer = fresh(devices=3).member(Role.VIEWER)
    page = viewer.get(f"/incidents/{numbers(viewer)[0]}").text
    assert "<form" not in page.split("<main")[1]
    assert "Plan</button>" not in viewer.get("/telling").text


def test_an_alert_leads_to_its_incident_and_back(fresh: Fresh) -> None:
    site = fresh(devices=7)
    person = site.person()
    alert = site.alerts["critical"]
    (number,) = re.findall(r'href="/incidents/(\d+)"', person.get(f"/alerts/{alert}").text)
    assert f'href="/alerts/{alert}"' in person.get(f"/incidents/{number}").text


def test_without_a_route_the_page_says_that_nobody_is_told(fresh: Fresh) -> None:
    assert "nobody is told of anything" in fresh().person().get("/telling").text


def test_one_answer_is_for_several_and_says_for_how_many_it_was_not(fresh: Fresh) -> None:
    site = fresh(devices=3)
    engineer = site.member(Role.ENGINEER)
    first, second = numbers(engineer)[:2]
    engineer.post(f"/incidents/{second}/close", data={"why": "belt changed"})
    form = {"number": [first, second, 999], "act": "acknowledge", "then": "/incidents?state=all"}
    answer = engineer.post("/incidents", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, "/incidents?state=all&failed=2")
    assert "2 of them could not be changed" in engineer.get(answer.headers["location"]).text
    states = {row["id"]: row["state"] for row in rows(site.store, t.incident)}
    assert (states[first], states[second]) == ("acknowledged", "closed")
    done = [row["target"] for row in rows(site.store, t.audit) if row["action"] == "incident.acknowledge"]
    assert done == [str(first)]
    for wrong in ({}, {"act": "acknowledge"}, {"number": [first]}, form | {"act": "snooze"}, form | {"act": "close"}):
        assert engineer.post("/incidents", data=wrong).status_code == 422, wrong
    many = {"number": list(range(1, 300)), "act": "acknowledge"}
    assert engineer.post("/incidents", data=many).status_code == 422
    elsewhere = engineer.post("/incidents", data=form | {"then": "https://evil.example/incidents"})
    assert elsewhere.headers["location"] == "/incidents?failed=2"


def test_a_verdict_on_an_incident_counts_for_each_of_its_alerts(fresh: Fresh) -> None:
    site = fresh(devices=1)
    engineer = site.member(Role.ENGINEER)
    (number,) = numbers(engineer)
    answer = engineer.post(f"/incidents/{number}/verdict", data={"verdict": "real", "why": "bearing <b>worn</b>"})
    assert (answer.status_code, answer.headers["location"]) == (303, f"/incidents/{number}#verdict")
    alerts = {row["alert_id"] for row in rows(site.store, t.alert)}
    assert len(alerts) == 2
    said = {(row["alert_id"], row["verdict"]) for row in rows(site.store, t.verdict)}
    assert said == {(one, "real") for one in alerts}
    page = engineer.get(f"/incidents/{number}").text
    assert page.count("bearing &lt;b&gt;worn") == 2, "with the verdict, and once in the timeline"
    assert engineer.post(f"/incidents/{number}/verdict", data={"verdict": "maybe"}).status_code == 422
    assert engineer.post("/incidents/999/verdict", data={"verdict": "real"}).status_code == 404
    assert [row["action"] for row in rows(site.store, t.audit)].count("alert.judge") == 2


def test_what_waits_comes_first_the_worst_of_it_first(fresh: Fresh) -> None:
    site = fresh(devices=3)
    engineer = site.member(Role.ENGINEER)
    order = numbers(engineer, "all")
    by_number = {row["id"]: row for row in rows(site.store, t.incident)}
    assert [by_number[one]["severity"] for one in order[:2]] == ["critical", "warning"]
    assert by_number[order[2]]["state"] == "resolved"
    engineer.post(f"/incidents/{order[0]}/snooze", data={"until": "1h", "then": "/incidents"})
    assert numbers(engineer) == [order[1], order[0]], "what is snoozed waits for nobody"
    count = re.search(r"waiting: </span>(\d+)<", engineer.get("/").text)
    assert count is not None and count[1] == "1"


def test_one_fault_on_two_devices_is_an_issue_with_a_page(fresh: Fresh) -> None:
    site = fresh(devices=1)
    engineer = site.member(Role.ENGINEER)
    assert "No fault is on several devices" in engineer.get("/issues").text
    seed.same_fault(site.store, site.now)
    assert 'href="/issues/1"' in engineer.get("/incidents").text
    assert "on 2 devices of type press" in engineer.get("/issues").text
    page = engineer.get("/issues/1").text
    assert set(re.findall(r'href="/devices/([^"]+)"', page)) == {"press-0001", "press-0031"}
    shown = sorted({int(one) for one in re.findall(r'name="number" value="(\d+)"', page)})
    answer = engineer.post("/incidents", data={"number": shown, "act": "snooze", "until": "1d", "then": "/issues/1"})
    assert answer.headers["location"] == "/issues/1"
    assert engineer.get("/issues/1").text.count("snoozed until") == 2
    assert engineer.get("/issues/2").status_code == 404


def test_the_page_of_this_server_names_its_parts_and_what_it_could_not_read(fresh: Fresh) -> None:
    site = fresh()
    person = site.person()
    assert "Everything that came could be read" in person.get("/server").text
    row = {"sha256": "a" * 64, "topic": "fieldwatch/v1/d/x/evt/alert", "reason": "no <b>JSON</b>", "payload": b"{"}
    with site.store.write() as db:
        db.execute(insert(t.quarantine), row | {"received": site.now})
    page = person.get("/server").text
    assert "no &lt;b&gt;JSON&lt;/b&gt;" in page
    assert "database works" in page


def test_a_message_that_was_given_up_is_shown_and_can_be_tried_again(fresh: Fresh) -> None:
    site = fresh()
    engineer = site.member(Role.ENGINEER)
    site.store.incidents.routing = Routing((Route("lab", (Step(("mail ana@x",)),)),))
    row = {"id": "ab" * 16, "channel": "mail ana@x", "route": "lab", "step": 0, "state": "dead", "due_at": 1}
    with site.store.write() as db:
        db.execute(insert(t.message), row | {"made_at": 1, "attempts": 3, "done_at": 2, "error": "550 <b>unknown</b>"})
    page = engineer.get("/telling").text
    assert "550 &lt;b&gt;unknown&lt;/b&gt;" in page
    assert engineer.post(f"/telling/messages/{'ab' * 16}/retry").status_code == 303
    assert rows(site.store, t.message)[0]["state"] == "waiting"
    assert engineer.post(f"/telling/messages/{'ab' * 16}/retry").status_code == 404


def test_a_maintenance_window_is_planned_by_a_form(fresh: Fresh) -> None:
    site = fresh()
    engineer = site.member(Role.ENGINEER)
    form = {"device": "press-*", "length": "4h", "begin": "2099-01-01T00:00:00Z", "why": "belt change"}
    assert engineer.post("/telling/maintenance", data=form).status_code == 303
    (row,) = rows(site.store, t.maintenance)
    assert (row["device"], row["site"], clock.iso(row["end"])) == ("press-*", "*", "2099-01-01T04:00:00Z")
    assert "belt change" in engineer.get("/telling").text
    for wrong in ({"why": ""}, {"length": "for ever"}, {"begin": "tomorrow"}, {"begin": "2020-01-01T00:00:00Z"}):
        assert engineer.post("/telling/maintenance", data=form | wrong).status_code == 422


def test_a_maintenance_window_ends_before_its_time_and_people_are_told_again(fresh: Fresh) -> None:
    site = fresh(devices=1)
    engineer = site.member(Role.ENGINEER)
    form = {"device": "press-*", "length": "7d", "why": "belt change"}
    engineer.post("/telling/maintenance", data=form)
    now = clock.now()
    with site.store.write() as db:
        site.store.incidents.pass_time(db, now)
    (number,) = numbers(engineer)
    assert "in maintenance" in engineer.get(f"/incidents/{number}").text
    (window,) = re.findall(r"/telling/maintenance/(\d+)/end", engineer.get("/telling").text)
    assert site.member(Role.VIEWER).post(f"/telling/maintenance/{window}/end").status_code == 403
    assert engineer.post(f"/telling/maintenance/{window}/end").status_code == 303
    with site.store.write() as db:
        site.store.incidents.pass_time(db, clock.now())
    assert "in maintenance" not in engineer.get(f"/incidents/{number}").text
    assert "None is planned" in engineer.get("/telling").text
    assert engineer.post(f"/telling/maintenance/{window}/end").status_code == 404
    assert [row["action"] for row in rows(site.store, t.audit)][-1] == "maintenance.end"


# ---- what other programs ask -----------------------------------------------------------------------------------


def test_ready_means_that_messages_go_out(fresh: Fresh) -> None:
    site = fresh()
    client = site.stranger()
    assert client.get("/readyz").json()["status"] == "ready"
    late = clock.now() - 61 * clock.SECOND
    row = {"id": "cd" * 16, "channel": "mail", "route": "lab", "step": 0, "state": "waiting", "due_at": late}
    with site.store.write() as db:
        db.execute(insert(t.message), row | {"made_at": late, "attempts": 0})
    answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["parts"]["outbox"] == {
        "status": "down", "says": "messages are due and not sent", "since": clock.iso(late)
    }  # fmt: skip
    assert client.get("/healthz").status_code == 200, "every part works, or does as far as it knows"
    with site.store.write() as db:
        assert outbox.claim(db, clock.now()) is None, "it holds nothing"
    assert client.get("/readyz").status_code == 200


class Broken:
    """Telling whose self-test does not come through."""

    error = "no self-test has come through for 21 min: nobody may be told of anything"


def test_a_chain_that_is_broken_is_told_another_way(fresh: Fresh) -> None:
    site = fresh()
    app = create_app(site.store, site.store.live, site.settings, telling=Broken())
    answer = Site(site.store, app, site.settings, {}, site.now).stranger().get("/healthz")
    assert answer.status_code == 503
    assert "no self-test" in answer.json()["parts"]["telling"]["says"]


def test_the_chain_counts_as_broken_after_two_missed_tests() -> None:
    at = [clock.now()]
    chain = Chain(None, lambda: at[0])
    at[0] += 1260 * clock.SECOND
    assert chain.error == ""
    at[0] += clock.SECOND
    assert chain.error == "no self-test has come through for 21 min: nobody may be told of anything"


def test_metrics_are_prometheus_and_name_no_device(fresh: Fresh) -> None:
    site = fresh(devices=3)
    assert site.stranger().get("/metrics").status_code == 401
    text = site.script().get("/metrics").text
    found = {metric.name: metric for metric in text_string_to_metric_families(text)}
    assert {"fieldwatch_up", "fieldwatch_devices", "fieldwatch_incidents", "fieldwatch_outbox"} <= set(found)
    live = {one.labels["state"]: one.value for one in found["fieldwatch_incidents"].samples}
    assert live["open"] == sum(row["state"] == "open" for row in rows(site.store, t.incident))
    (untold,) = found["fieldwatch_unrouted"].samples
    assert untold.value > 0
    assert "press-" not in text


def test_an_answer_refreshes_other_people_s_pages(fresh: Fresh) -> None:
    site = fresh(devices=3)
    engineer = site.member(Role.ENGINEER)
    before = site.store.live.last
    assert engineer.post(f"/incidents/{numbers(engineer)[0]}/acknowledge").status_code == 303
    _, news = site.store.live.after(before)
    assert isinstance(news, list)
    ((_, notice),) = news
    assert (notice.kind, told(notice)["type"]) == ("event", "incident")
