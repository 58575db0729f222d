"""What scripts read, held against what was stored."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.web.queries import HEAT_EMPTY, Queries
from fieldwatch_contract import clock
from fieldwatch_contract.fields import Evidence
from sqlalchemy import event, select
from sqlalchemy.dialects import postgresql

from tests.browser import seed
from tests.unit.web.conftest import Site

API = "/api/v1"


def get(site: Site, path: str, **params: Any) -> Any:
    answer = site.script().get(API + path, params={key.rstrip("_"): value for key, value in params.items()})
    assert answer.status_code == 200, answer.text
    return answer.json()


def stored(site: Site, device: str, model: str) -> list[Any]:
    r = t.result
    with site.store.read() as db:
        query = select(r).where(r.c.device == device, r.c.model == model).order_by(r.c.ts)
        return list(db.execute(query))


def test_devices_come_in_pages(seeded: Site) -> None:
    every = get(seeded, "/devices")
    assert every["next"] is None
    names = [item["id"] for item in every["items"]]
    assert names == sorted(names)
    assert len(names) == 7
    met: list[str] = []
    cursor = None
    while True:
        page = get(seeded, "/devices", limit=3, **({"cursor": cursor} if cursor else {}))
        met += [item["id"] for item in page["items"]]
        cursor = page["next"]
        if cursor is None:
            break
    assert met == names


def test_device_says_how_it_is(seeded: Site) -> None:
    device = get(seeded, "/devices/press-0001")
    assert (device["condition"], device["state"], device["open_alerts"]) == ("critical", "2 open alerts", 2)
    newest = stored(seeded, "press-0001", "detector")[-1]
    detector = next(model for model in device["models"] if model["model"] == "detector")
    assert detector["score"] == newest.score
    assert detector["ratio"] == newest.score / newest.threshold
    assert device["ratio"] == max(model["ratio"] for model in device["models"])
    assert device["last_reading"] == clock.iso(newest.ts)
    assert len(device["hours"]) == 24
    assert max(value for value in device["hours"] if value is not None) >= device["ratio"]


@pytest.mark.parametrize("step", [60, 600, 3600])
def test_results_are_the_extremes_of_each_step(seeded: Site, step: int) -> None:
    answer = get(
        seeded, "/devices/press-0001/results", step=step, from_=clock.iso(seeded.now - 8 * 3600 * clock.SECOND)
    )
    for model in answer["models"]:
        buckets: dict[float, list[Any]] = {}
        for row in stored(seeded, "press-0001", model["model"]):
            start = row.ts // clock.SECOND
            buckets.setdefault(start - start % step, []).append(row)
        assert model["t"] == sorted(buckets)
        assert model["rows"] == [len(buckets[start]) for start in model["t"]]
        assert model["low"] == [min(row.score for row in buckets[start]) for start in model["t"]]
        assert model["high"] == [max(row.score for row in buckets[start]) for start in model["t"]]
        assert model["raised"] == [sum(row.verdict in (1, 2) for row in buckets[start]) for start in model["t"]]
    assert {alert["device"] for alert in answer["alerts"]} == {"press-0001"}


def test_results_keep_rows_without_a_score(seeded: Site) -> None:
    answer = get(
        seeded, "/devices/centrifuge-0007/results", step=60, from_=clock.iso(seeded.now - 8 * 3600 * clock.SECOND)
    )
    detector = answer["models"][0]
    assert detector["unknown"].count(1) == 90
    assert detector["high"].count(None) == 90


def test_results_of_one_model_in_a_range(seeded: Site) -> None:
    rows = stored(seeded, "press-0001", "classifier")[100:160]
    answer = get(
        seeded,
        "/devices/press-0001/results",
        model="classifier",
        from_=clock.iso(rows[0].ts),
        to=clock.iso(rows[-1].ts + 1),
        step=60,
    )
    assert [model["model"] for model in answer["models"]] == ["classifier"]
    assert answer["models"][0]["high"] == [row.score for row in rows]


@pytest.mark.parametrize(
    ("params", "status", "says"),
    [
        ({"from": "2026-01-02T00:00:00Z", "to": "2026-01-01T00:00:00Z"}, 409, "before"),
        ({"from": "2099-01-01T00:00:00+01:00"}, 409, "before"),
        ({"from": "2026-01-01T00:00:00Z", "step": "60"}, 409, "at most 1000"),
        ({"from": "yesterday"}, 422, "as 2026-01-17T10:00:00Z"),
        ({"from": "2026-02-29T00:00:00Z"}, 422, "as 2026-01-17T10:00:00Z"),
        ({"to": "0001-01-01T00:00:00Z"}, 422, "1970"),
        ({"step": "0"}, 422, "greater than or equal"),
    ],
)
def test_wrong_ranges_are_problems(seeded: Site, params: dict[str, str], status: int, says: str) -> None:
    answer = seeded.script().get(f"{API}/devices/press-0001/results", params=params)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert says in answer.json()["detail"]


def test_heat_is_share_times_ratio_of_the_worst_row(seeded: Site) -> None:
    answer = get(seeded, "/devices/press-0001/heat", step=600)
    columns, sensors = answer["columns"], answer["sensors"]
    cells = np.frombuffer(base64.b64decode(answer["cells"]), np.uint8).reshape(len(sensors), columns)
    start = clock.parse_iso(answer["start"])
    expected: dict[tuple[str, int], float] = {}
    filled = set()
    for model in ("detector", "classifier"):
        worst: dict[int, Any] = {}
        for row in stored(seeded, "press-0001", model):
            column = (row.ts - start) // (600 * clock.SECOND)
            filled.add(column)
            if column not in worst or row.score > worst[column].score:
                worst[column] = row
        for column, row in worst.items():
            for sensor, share in zip(row.sensors, row.shares, strict=True):
                value = share * row.score / row.threshold
                expected[sensor, column] = max(value, expected.get((sensor, column), 0.0))
    for index, sensor in enumerate(sensors):
        for column in range(columns):
            if column not in filled:
                assert cells[index, column] == HEAT_EMPTY
            else:
                assert cells[index, column] == min(254, round(expected.get((sensor, column), 0.0) * 64))
    assert sensors[0] == seed.Device("press-0001", 0, 45).names[3]
    assert answer["peak"] == sorted(answer["peak"], reverse=True)


def test_readings_are_there_only_where_they_left_the_lab(seeded: Site) -> None:
    name = seed.Device("x", 0, 45).names[4]
    since = clock.iso(seeded.now - 8 * 3600 * clock.SECOND)
    answer = get(seeded, "/devices/centrifuge-0003/readings", sensors=name, step=60, from_=since)
    with seeded.store.read() as db:
        rows = db.execute(t.reading.select().where(t.reading.c.device == "centrifuge-0003").order_by(t.reading.c.ts))
        values = [row._mapping["values"][name] for row in rows]
    assert answer["traces"][0]["low"] == answer["traces"][0]["high"] == values
    script = seeded.script()
    missing = script.get(f"{API}/devices/press-0001/readings", params={"sensors": name})
    assert (missing.status_code, missing.json()["title"]) == (404, "No readings")
    unknown = script.get(f"{API}/devices/centrifuge-0003/readings", params={"sensors": "nothing"})
    assert (unknown.status_code, unknown.json()["title"]) == (404, "Unknown sensor")
    many = {"sensors": [str(number) for number in range(21)]}
    assert script.get(f"{API}/devices/centrifuge-0003/readings", params=many).status_code == 422


def test_conservation_holds_or_says_what_is_missing(seeded: Site) -> None:
    for day in get(seeded, "/devices/press-0001/conservation")["days"]:
        assert day["read"] == day["scored"] + sum(day["refused"].values()) + day["evicted"] + day["pending"]
        assert day["balanced"]
        assert (day["stored"], day["missing"]) == (day["scored"], 0)
    short = get(seeded, "/devices/incubator-0004/conservation")["days"][0]
    assert short["balanced"]
    assert short["missing"] == short["scored"] - short["stored"] == 3


def test_a_ledger_that_does_not_add_up_is_seen(fresh: Callable[..., Site]) -> None:
    site = fresh(devices=1)
    with site.store.write() as db:
        db.execute(t.ledger.update().values(read=t.ledger.c.read + 1))
    day = get(site, "/devices/press-0001/conservation")["days"][0]
    assert not day["balanced"]
    assert "does not add up" in site.person().get("/devices/press-0001").text


def test_a_rebuilt_journal_does_not_count_twice(fresh: Callable[..., Site]) -> None:
    site = fresh(devices=1)
    before = get(site, "/devices/press-0001/conservation")["days"][0]
    again = seed.Device("press-0001", site.now - site.now % clock.MINUTE, 45, epoch="beef")
    again.health(300, at=site.now + clock.SECOND)
    again.store(site.store)
    after = get(site, "/devices/press-0001/conservation")["days"][0]
    assert {key: before[key] for key in ("read", "scored", "stored")} == {
        key: after[key] for key in ("read", "scored", "stored")
    }
    assert "journal was rebuilt" in site.person().get("/devices/press-0001").text


def test_announcements(seeded: Site) -> None:
    items = get(seeded, "/devices/press-0001/announcements")["items"]
    assert [item["type"] for item in items] == ["model", "gap"], "what was said last first, whatever its date"
    assert items[1]["data"]["reason"] == "log_truncated"


def test_alerts_come_in_pages_newest_first(seeded: Site) -> None:
    every = get(seeded, "/alerts")["items"]
    assert [item["opened_at"] for item in every] == sorted((item["opened_at"] for item in every), reverse=True)
    assert len(every) == 5
    met, cursor = [], None
    while True:
        page = get(seeded, "/alerts", limit=2, **({"cursor": cursor} if cursor else {}))
        met += page["items"]
        cursor = page["next"]
        if cursor is None:
            break
    assert met == every
    assert {item["device"] for item in get(seeded, "/alerts", state="open")["items"]} == {"press-0001", "freezer-0002"}
    assert seeded.script().get(f"{API}/alerts", params={"cursor": "x"}).status_code == 422


def test_alert_has_life_evidence_and_verdicts(seeded: Site) -> None:
    alert = get(seeded, f"/alerts/{seeded.alerts['resolved']}")
    assert [one["transition"] for one in alert["transitions"]] == ["opened", "updated", "resolved"]
    assert (alert["state"], alert["verdict"]) == ("resolved", "real")
    assert [one["verdict"] for one in alert["verdicts"]] == ["real", "unclear"]
    assert len(alert["evidence"]) == 3
    evidence = Evidence.model_validate(alert["evidence"][1]["evidence"])
    assert evidence.sensors == alert["sensors"] != []
    assert len(base64.b64decode(evidence.z)) == len(evidence.all_sensors) * len(evidence.times)
    private = get(seeded, f"/alerts/{seeded.alerts['private']}")
    assert private["evidence"] == []
    assert not any(one["late"] for one in alert["transitions"])
    assert get(seeded, f"/alerts/{seeded.alerts['warning']}")["transitions"][0]["late"]


def test_verdicts_become_labels(fresh: Callable[..., Site]) -> None:
    site = fresh(devices=2)
    script = site.script()
    said = [("critical", "real"), ("warning", "real"), ("warning", "false"), ("critical", "unclear")]
    for role, verdict in said:
        body = {"verdict": verdict, "note": f" {role} "}
        answer = script.post(f"{API}/alerts/{site.alerts[role]}/verdict", json=body)
        assert (answer.status_code, answer.json()["note"]) == (201, role)
    items = get(site, "/labels")["items"]
    assert [(item["verdict"], item["label"]) for item in items] == [
        ("real", "fault"),
        ("real", "anomaly"),
        ("false", "normal"),
        ("unclear", None),
    ]
    assert [item["device"] for item in items] == ["press-0001", "freezer-0002", "freezer-0002", "press-0001"]
    page = get(site, "/labels", limit=3)
    assert get(site, "/labels", cursor=page["next"])["items"] == items[3:]
    path = f"{API}/alerts/{site.alerts['critical']}/verdict"
    assert script.post(path, json={"verdict": "maybe"}).status_code == 422
    assert script.post(path, json={"verdict": "real", "more": 1}).status_code == 422
    assert script.post(path, content=b"{").status_code == 422
    assert script.post(f"{API}/alerts/none/verdict", json={"verdict": "real"}).status_code == 404


def test_what_is_unknown_is_a_documented_404(seeded: Site) -> None:
    document = get(seeded, "/openapi.json")
    tried = 0
    alone = {"/ask/update": "a script may not", "/ask/evidence": "its body names times", "/ask/replay": "the same"}
    for path, methods in document["paths"].items():
        if "{" not in path or any(path.endswith(each) for each in alone):  # those in test_commands
            continue
        for method, one in methods.items():
            assert "application/problem+json" in one["responses"]["404"]["content"], path
            url = re.sub(r"{[^}]+}", "nobody-0001", path.replace("{number}", "987654"))
            act = path.rpartition("/")[2]
            body = {
                "verdict": {"verdict": "real"},
                "snooze": {"until": clock.iso(seeded.now + clock.DAY)},
                "comment": {"text": "x"},
                "assign": {"to": "ada"},
                "close": {"why": "x"},
            }.get(act, {} if method != "get" else None)
            answer = seeded.script().request(method, url, json=body, params={"sensors": "x"})
            assert answer.status_code == 404, (method, path)
            assert answer.headers["content-type"] == "application/problem+json"
            tried += 1
    assert tried >= 8


def test_the_openapi_document_names_only_errors_that_are_sent(seeded: Site) -> None:
    text = seeded.script().get(f"{API}/openapi.json").text
    assert "HTTPValidationError" not in text
    for path in ("/nowhere", "/devices/UPPER", "/devices?limit=0", "/devices?limit=1001"):
        answer = seeded.script().get(API + path)
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == answer.status_code


def test_queries_are_plain_sql_for_postgresql_too(seeded: Site) -> None:
    """Every statement compiles for PostgreSQL, and groups by names: it would refuse an expression bound twice."""
    statements: list[Any] = []
    engine = seeded.store.engine

    def keep(_: Any, statement: Any, *__: Any) -> None:
        statements.append(statement)

    event.listen(engine, "before_execute", keep)
    try:
        queries = Queries(engine)
        queries.fleet()
        script = seeded.script()
        for path in ("results", "heat", "conservation", "announcements", "readings?sensors=temp_01"):
            assert script.get(f"{API}/devices/centrifuge-0003/{path}").status_code == 200
        for path in ("/alerts?cursor=5.x", "/labels", f"/alerts/{seeded.alerts['resolved']}"):
            assert script.get(API + path).status_code == 200
        assert seeded.person().get("/devices/press-0001").status_code == 200
    finally:
        event.remove(engine, "before_execute", keep)
    assert len(statements) >= 20
    for statement in statements:
        text = str(statement.compile(dialect=postgresql.dialect()))
        for group in re.findall(r"GROUP BY (.*?)(?:ORDER BY|\)|$)", text, re.S):
            assert "%(" not in group, text
