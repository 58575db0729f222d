"""What the pages say."""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Callable, Iterator
from html import unescape

import pytest
from fieldwatch_cloud.live import Notice
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.web.series import BUCKETS
from fieldwatch_contract import clock

from tests.browser import seed
from tests.conftest import wait_until
from tests.unit.web.conftest import Site, site

WIRE_LIMIT = 40_000
"""Bytes of the fleet page of 1,000 devices."""
PAGE_LIMIT = 60_000
"""Bytes of a page of the fleet of 10,000 devices."""


def text_of(html: str) -> str:
    """The words of a page."""
    body = re.sub(r"<(svg|head)\b.*?</\1>", " ", html, flags=re.S)
    return " ".join(unescape(re.sub(r"<[^>]+>", " ", body)).split())


def test_fleet_is_worst_first(seeded: Site) -> None:
    tiles = re.findall(r'<a class="tile (\w+)[^"]*" id="d-([^"]+)"', seeded.person().get("/").text)
    conditions = [condition for condition, _ in tiles]
    assert [name for _, name in tiles][:2] == ["press-0001", "freezer-0002"]
    assert conditions[:2] == ["critical", "warning"]
    assert conditions[2:] == ["offline", "log", "lost", "lost", "normal"]
    words = text_of(seeded.person().get("/").text)
    assert (
        "7 devices: 1 with a critical alert 1 with an open alert 1 out of contact 1 without a log to read "
        "2 with lost lines 1 normal" in words
    )


def test_every_tile_says_its_condition_in_words(seeded: Site) -> None:
    html = seeded.person().get("/").text
    words = {
        name: text_of(tile) for name, tile in re.findall(r'<a class="tile[^>]*id="d-([^"]+)"[^>]*>(.*?)</a>', html)
    }
    assert "2 open alerts" in words["press-0001"]
    assert "connection lost" in words["press-0005"]
    assert "log silent" in words["freezer-0006"]
    assert "results given up" in words["centrifuge-0003"]
    assert "results missing here" in words["incubator-0004"]
    assert "normal" in words["centrifuge-0007"]
    assert all("ago" in tile or "just now" in tile for tile in words.values())


def gone(site: Site, how: str) -> str:
    """A device with an open alert that went two hours ago; returns the alert's id."""
    device = seed.Device("press-0001", site.now - site.now % clock.MINUTE - 120 * clock.MINUTE, 45)
    device.state("online", device.at - t.HOUR)
    device.results({"detector": seed.np.array([0.2, 1.4, 1.5])}, [1, 2])
    alert = device.alert(site.store, [2], ["opened"], "detector", [1, 2])
    if how == "offline":
        device.state("offline", device.at)
        device.store(site.store, device.at + clock.MINUTE)
    if how == "log silent":
        device.health(3, log="silent", at=site.now)
        device.store(site.store, site.now)
    return alert


@pytest.mark.parametrize("how", ["no contact", "offline", "log silent"])
def test_a_device_that_is_gone_with_an_open_alert_counts_as_gone(fresh: Callable[..., Site], how: str) -> None:
    site = fresh()
    alert = gone(site, how)
    person = site.person()
    fleet = person.get("/").text
    assert re.findall(r'class="tile (\w+) needs".* data-states="([^"]+)"', fleet) == [
        ("warning", f"warning {'log' if how == 'log silent' else 'offline'}")
    ]
    words = text_of(fleet)
    assert f"1 open alert, {how}" in words
    counted = "1 without a log to read" if how == "log silent" else "1 out of contact"
    assert f"1 device: 1 with an open alert {counted} Needs a person" in words
    words = text_of(person.get(f"/alerts/{alert}").text)
    assert re.search(rf"{how.capitalize()} since \S+ \S+ UTC : this alert is as of its last reading, 2 h ago", words)
    assert f"press-0001 1 open alert, {how}" in words.split("Life of the alert")[1]


def test_a_device_in_contact_says_nothing_of_it(seeded: Site) -> None:
    assert (
        "this alert is as of its last reading" not in seeded.person().get(f"/alerts/{seeded.alerts['critical']}").text
    )


ORDERED = [("above", "press-0002"), ("unknown", "press-0003"), ("normal", "press-0001")]


def test_a_reading_above_the_threshold_is_no_quiet_device(fresh: Callable[..., Site]) -> None:
    site = fresh()
    for name, ratio in (("press-0001", 0.3), ("press-0002", 1.2), ("press-0003", seed.np.nan)):
        device = seed.Device(name, site.now - site.now % clock.MINUTE, 45)
        device.results({"classifier": seed.np.array([ratio])}, [1])
        device.store(site.store, site.now)
    tiles = re.findall(r'class="tile (\w+)[^"]*" id="d-([^"]+)".*?<use href="#(\w+)"', site.person().get("/").text)
    assert tiles == [(one, name, one) for one, name in ORDERED]
    device = site.script().get("/api/v1/devices/press-0002").json()
    assert (device["condition"], device["state"]) == ("above", "above threshold")


def test_empty_fleet_says_what_to_do(fresh: Callable[..., Site]) -> None:
    assert "No device has reported yet" in fresh().person().get("/").text
    assert "No open alert" in fresh().person().get("/alerts").text


def test_device_page(seeded: Site) -> None:
    words = text_of(seeded.person().get("/devices/press-0001").text)
    assert "Signs of a known fault in" in words
    assert "press/2026.11.2 now judges" in words
    assert "The log was cut: the file became shorter" in words
    assert "The readings of this device stay in its lab" in words
    assert "+ refused: malformed 4" in words
    assert "complete" in words


def test_device_page_offers_readings_where_privacy_is_full(seeded: Site) -> None:
    html = seeded.person().get("/devices/centrifuge-0003").text
    assert 'id="readings"' in html
    assert "stay in its lab" not in html


def test_the_ledger_is_judged_by_our_own_count(seeded: Site) -> None:
    person = seeded.person()
    assert "3 scored minutes are not in the store" in person.get("/devices/incubator-0004").text
    assert "12 minutes given up on the device, announced" in person.get("/devices/centrifuge-0003").text
    assert "30 minutes still to come" in person.get("/devices/freezer-0002").text


def test_alert_page_names_device_what_since_model_and_sensors(seeded: Site) -> None:
    words = text_of(seeded.person().get(f"/alerts/{seeded.alerts['critical']}").text)
    since = clock.iso(seeded.now - seeded.now % clock.MINUTE - 40 * clock.MINUTE)[:16].replace("T", " ")
    names = seed.Device("press-0001", 0, 45).names
    assert f"press-0001 : signs of a known fault in {names[3]}, {names[14]} and 1 more since {since} UTC" in words
    assert "classifier, press/2026.11.2" in words
    assert "Threshold 0.62" in words
    assert "Nobody has judged this alert yet" in words
    assert "opened" in words
    assert "updated" in words
    assert "late" not in words.split("Life of the alert")[1]


def test_alert_page_says_what_it_means_and_what_to_do(seeded: Site) -> None:
    person = seeded.person()
    after_title = {
        "critical": "Looks like the time before a known fault. Look at these sensors at the device now,",
        "warning": "The readings are unlike those of this device when it is well; no known fault is recognised. Look",
        "resolved": "It is over: say below what it was.",
    }
    for role, says in after_title.items():
        html = person.get(f"/alerts/{seeded.alerts[role]}").text
        assert says in text_of(html.split("</h1>")[1].split("<dl")[0])
    words = text_of(html)
    assert words.index("Responsible sensors") < words.index("SHA-256 c3c3c3c3c3c3")


def test_late_transitions_are_marked(seeded: Site) -> None:
    words = text_of(seeded.person().get(f"/alerts/{seeded.alerts['warning']}").text)
    assert "late, after 47 min" in words


def test_resolved_alert_still_shows_the_sensors_of_the_trouble(seeded: Site) -> None:
    html = seeded.person().get(f"/alerts/{seeded.alerts['resolved']}").text
    blamed = [seed.Device("centrifuge-0003", 0, 45).names[i] for i in (8, 30, 31)]
    table = html.split('aria-label="Responsible sensors in numbers"')[1].split("</table>")[0]
    assert re.findall(r'<th scope="row" class="mono">([^<]+)', table) == blamed
    assert "No sensor is named" not in html


def test_alert_without_evidence_says_why(seeded: Site) -> None:
    words = text_of(seeded.person().get(f"/alerts/{seeded.alerts['private']}").text)
    assert "keeps them in the lab" in words
    assert "False alarm" in words
    assert "Filter change by the night shift." in words


def test_alert_list_filters(seeded: Site) -> None:
    person = seeded.person()

    def listed(query: str) -> set[str]:
        return set(re.findall(r'<td class="mono"><a href="/devices/([^"]+)"', person.get(f"/alerts{query}").text))

    assert listed("") == {"press-0001", "freezer-0002"}
    assert listed("?state=resolved") == {"centrifuge-0003", "incubator-0004"}
    assert listed("?state=all") == {"press-0001", "freezer-0002", "centrifuge-0003", "incubator-0004"}
    assert listed("?state=all&device=freezer-0002") == {"freezer-0002"}
    assert person.get("/alerts?state=nonsense").status_code == 422


def test_verdict_form_stores_a_label_and_shows_it(fresh: Callable[..., Site]) -> None:
    site = fresh(devices=2)
    person = site.person()
    path = f"/alerts/{site.alerts['critical']}"
    found = re.search(r'name="csrf" value="([^"]+)"', person.get(path).text)
    assert found is not None
    form = {"csrf": found[1], "verdict": "real", "note": " Bearing <b>worn</b> "}
    answer = person.post(f"{path}/verdict", data=form)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{path}#verdict")
    html = person.get(path).text
    assert "Real fault" in html
    assert "Bearing &lt;b&gt;worn&lt;/b&gt;" in html
    with site.store.read() as db:
        rows = db.execute(t.verdict.select()).all()
    assert [(row.alert_id, row.verdict, row.note) for row in rows] == [
        (site.alerts["critical"], "real", "Bearing <b>worn</b>")
    ]


def test_wrong_verdicts_are_refused(fresh: Callable[..., Site]) -> None:
    site = fresh(devices=2)
    person = site.person()
    path = f"/alerts/{site.alerts['critical']}"
    found = re.search(r'name="csrf" value="([^"]+)"', person.get(path).text)
    assert found is not None
    assert person.post(f"{path}/verdict", data={"csrf": found[1], "verdict": "maybe"}).status_code == 422
    assert person.post(f"{path}/verdict", data={"csrf": found[1]}).status_code == 422
    long = {"csrf": found[1], "verdict": "real", "note": "x" * 2001}
    assert person.post(f"{path}/verdict", data=long).status_code == 422
    assert person.post("/alerts/none/verdict", data={"csrf": found[1], "verdict": "real"}).status_code == 404


def test_hostile_text_stays_text(fresh: Callable[..., Site]) -> None:
    site = fresh()
    evil = "<script>alert(1)</script>'\"&"
    device = seed.Device("press-0001", site.now - site.now % clock.MINUTE, 3)
    data = {
        "ts": clock.iso(device.at),
        "bundle": "press/1",
        "scores": [
            {
                "model": "detector",
                "kind": "detector",
                "score": 9.0,
                "threshold": 3.0,
                "verdict": "anomalous",
                "sensors": [evil],
                "shares": [0.9],
            }
        ],
        "values": {evil: 1.5},
    }
    device.send("result", json.dumps(data))
    gap = {"reason": "log_truncated", "detail": evil}
    device.send("gap", json.dumps(gap))
    device.store(site.store)
    html = site.person().get("/devices/press-0001").text
    assert "alert(1)" in html
    assert "<script>alert" not in html
    readings = site.script().get("/api/v1/devices/press-0001/readings", params={"sensors": evil})
    assert readings.json()["traces"][0]["high"] == [1.5]


def test_unknown_things_are_told_plainly(seeded: Site) -> None:
    person = seeded.person()
    for path in ("/devices/nobody-1", "/alerts/none", "/nowhere", "/devices/press-0001?span=9y"):
        answer = person.get(path)
        assert answer.status_code in (404, 422), path
        assert answer.headers["content-type"].startswith("text/html")
        assert "Back to the fleet" in answer.text


def test_unchanged_page_is_not_sent_again(seeded: Site) -> None:
    person = seeded.person()

    def spared() -> bool:
        first = person.get("/api")
        again = person.get("/api", headers={"If-None-Match": first.headers["etag"]})
        return (again.status_code, again.content) == (304, b"")

    wait_until(spared, "an answer without a page")  # between two requests the minute may end, or news come
    assert person.get("/api", headers={"If-None-Match": 'W/"other"'}).status_code == 200


def test_fleet_is_cached_but_an_alert_is_news(fresh: Callable[..., Site]) -> None:
    site = fresh(devices=2)
    tiles, queries = site.app.state.tiles, site.app.state.queries
    first = tiles.get(queries)
    site.store.live.publish([Notice("result", "press-0001", {"ts": 0, "n": 1, "scores": []})])
    assert tiles.get(queries) is first
    report = {"log": "following", "bundle": {}}
    site.store.live.publish([Notice("health", "press-0001", report)])
    assert tiles.get(queries) is first  # nothing that it did not say before
    site.store.live.publish([Notice("health", "press-0001", report | {"log": "silent"})])
    second = tiles.get(queries)
    assert second is not first
    site.store.live.publish([Notice("alert", "press-0001", {})])
    assert tiles.get(queries) is not second


def names_on(page: str) -> list[str]:
    return re.findall(r' id="d-([^"]+)"', page)


@pytest.mark.parametrize("troubled", [20, 1000])
def test_fleet_of_a_thousand_devices_is_small_on_the_wire(fresh: Callable[..., Site], troubled: int) -> None:
    site = fresh()
    seed.many(site.store, site.now, 1000, troubled)
    answer = site.person().get("/", headers={"Accept-Encoding": "gzip"})
    assert answer.headers["content-encoding"] == "gzip"
    assert len(names_on(answer.text)) == 1000
    page = int(answer.headers["content-length"])
    files = set(re.findall(r'(?:src|href)="(/static/[^"]+\.(?:js|css))"', answer.text))
    kept = sum(len(gzip.compress(site.person().get(link).content, 6)) for link in files)
    assert page + kept <= WIRE_LIMIT, (page, kept)


def test_fleet_of_ten_thousand_comes_in_pages(fresh: Callable[..., Site]) -> None:
    """C7: 6 MB and 15 s."""
    site = fresh()
    seed.many(site.store, site.now, 10_000, 1500)
    person = site.person()
    seen: list[str] = []
    link: str | None = "/"
    while link is not None:
        answer = person.get(link, headers={"Accept-Encoding": "gzip"})
        assert int(answer.headers["content-length"]) <= PAGE_LIMIT
        seen += names_on(answer.text)
        following = re.search(r'<a href="([^"]+)" rel="next"', answer.text)
        link = unescape(following[1]) if following else None
    assert len(seen) == len(set(seen)) == 10_000
    assert all(int(name[-5:]) < 1500 for name in seen[:1500])  # worst first, over the pages
    assert names_on(person.get("/?page=99999").text) == seen[-1000:]


@pytest.mark.parametrize(
    ("query", "count"),
    [
        ("q=00005", 1),
        ("q=CENTRIFUGE", 25),
        ("q=FLOW_7", 1),
        ("q=flow%257", 0),
        ("q=2026.11.2", 100),
        ("state=offline", 10),
        ("state=offline&q=press", 3),
        ("state=normal", 90),
        ("q=no+such", 0),
        ("q=%22", 0),
    ],
)
def test_search_by_part_of_a_name_or_sensor_in_the_address(hundred: Site, query: str, count: int) -> None:
    page = hundred.person().get(f"/?{query}").text
    assert len(names_on(page)) == count
    assert f"{count} of 100" in page
    if not count:
        assert "No device has" in page


def test_a_search_that_cannot_be_is_told(hundred: Site) -> None:
    assert hundred.person().get("/?state=nothing").status_code == 422
    assert hundred.person().get(f"/?q={'x' * 101}").status_code == 422
    assert hundred.person().get("/?page=0").status_code == 422


def test_well_devices_are_cells_where_there_are_many(hundred: Site) -> None:
    page = hundred.person().get("/").text
    assert page.count('<a class="tile') == 10
    cells = re.findall(
        r'<a class="l[0-3]" id="d-([^"]+)" href="/devices/([^"]+)" aria-label="([^"]+)">(\d{5})</a>', page
    )
    assert len(cells) == 90
    assert all(one == link == label and one.endswith(tail) for one, link, label, tail in cells)


@pytest.fixture(scope="module")
def hundred(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A hundred devices, ten of them offline."""
    now = clock.now()
    store, _ = seed.make(tmp_path_factory.mktemp("hundred"), now, devices=0, sensors=45, hours=5)
    made = site(store, {}, now)
    seed.many(store, now, 100, 10)
    yield made
    store.close()


def test_static_files_are_hashed_and_kept(seeded: Site) -> None:
    person = seeded.person()
    links = set(re.findall(r'(?:src|href)="(/static/[^"]+)"', person.get("/devices/press-0001").text))
    assert len(links) >= 5
    for link in links:
        answer = seeded.stranger().get(link)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
    assert person.get("/static/style.css").status_code == 404
    assert person.get("/static/../app.py").status_code == 404


def test_charts_never_get_more_than_two_thousand_points(seeded: Site) -> None:
    for span in ("6h", "24h", "7d", "30d"):
        assert seeded.person().get(f"/devices/press-0001?span={span}").status_code == 200
    for start in ("2026-01-01T00:00:00Z", "1990-01-01T00:00:00Z"):
        answer = seeded.script().get("/api/v1/devices/press-0001/results", params={"from": start}).json()
        assert all(len(model["t"]) <= BUCKETS for model in answer["models"])
        assert sum(answer["models"][0]["rows"]) == 360


def test_an_alert_shows_what_similar_ones_turned_out_to_be(fresh: Callable[..., Site]) -> None:
    site = fresh(devices=2)
    with site.store.write() as db:
        row = db.execute(t.alert.select().where(t.alert.c.alert_id == site.alerts["critical"])).one()
        same = dict(row._mapping)
        for number, (device, sensors) in enumerate(
            [("press-0077", row.sensors[:3]), ("press-0078", [*row.sensors[:1], "x", "y"]), ("press-0079", ["z"])]
        ):
            ts = row.opened_at - (number + 1) * clock.DAY
            db.execute(
                t.alert.insert(), same | {"alert_id": device, "device": device, "sensors": sensors, "opened_at": ts}
            )
        db.execute(
            t.alert.insert(), same | {"alert_id": "later", "device": "press-0080", "opened_at": row.opened_at + 1}
        )
    site.store.add_verdict("press-0077", "real", "bearing worn")
    html = site.person().get(f"/alerts/{row.alert_id}").text
    shown = text_of(html[html.index('id="similar"') :])
    assert shown.index("press-0077") < shown.index("press-0078")
    assert "bearing worn" in shown
    assert "press-0079" not in shown and "press-0080" not in shown
