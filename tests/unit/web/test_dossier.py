"""A decision taken away: from a real agent's log through the store to a file that ``replay`` repeats; who took it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from fieldwatch_agent.__main__ import main
from fieldwatch_agent.config import Config
from fieldwatch_agent.send.journal import Outbox
from fieldwatch_agent.service import Service
from fieldwatch_agent.update.activation import Activation
from fieldwatch_cloud.access.roles import Role
from fieldwatch_cloud.ingest.decode import Message, decode
from fieldwatch_cloud.store import Store, sqlite_url
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.store.audit import entries
from fieldwatch_contract import clock, events
from fieldwatch_contract.alerts import alert_id
from fieldwatch_contract.dossier import read
from fieldwatch_contract.topics import topic
from sqlalchemy import select

from tests.bundles import make_bundle
from tests.unit.web.conftest import Site, site
from tests.unit.web.test_pages import text_of

DEVICE = "press-0001"
BUNDLE = make_bundle(6, lookback=5, classifier=True, min_rows=3)


def chain(folder: Path, privacy: str) -> Site:
    """A device with a fault, its agent, and a cloud that has all it sent."""
    start = clock.now() // clock.MINUTE * clock.MINUTE - 60 * clock.MINUTE
    values = np.round(np.random.default_rng(3).normal(10, 1, (60, 6)), 3)
    values[30:40, 2] += 70
    lines = [
        f"{clock.iso(start + minute * clock.MINUTE)},{','.join(map(str, row))}\n"
        for minute, row in enumerate(values.tolist())
    ]
    (folder / "log.csv").write_text("timestamp,s0,s1,s2,s3,s4,s5\n" + "".join(lines))
    config = Config.model_validate(
        {
            "device": {"id": DEVICE, "type": "press"},
            "log": {"path": str(folder / "log.csv"), "period": "60s"},
            "state": {"dir": str(folder / "state")},
            "privacy": {"evidence": privacy},
        }
    )
    activation = Activation(config.state.dir)
    activation.switch(activation.stage(BUNDLE))
    assert Service(config, folder / "agent.toml").run(until_idle=True) == 0
    with closing(Outbox(config.state.dir / "journal.db")) as outbox:
        sent = [
            Message(
                topic(DEVICE, f"evt/{m.event}"),
                events.envelope(DEVICE, outbox.epoch, m.seq, m.event, m.time, m.data),
            )
            for m in outbox.pending(0, 10**6)
        ]
    store = Store(sqlite_url(folder / "cloud.db"))
    assert store.ingest(decode(sent)).refused == 0
    with store.read() as db:
        found = {row.model: row.alert_id for row in db.execute(select(t.alert))}
    return site(store, found, clock.now())


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Of a device that sends evidence."""
    made = chain(tmp_path_factory.mktemp("dossier"), "on-alert")
    yield made
    made.store.close()


@pytest.mark.parametrize("model", ["detector", "classifier"])
def test_what_is_taken_away_is_repeated_to_the_bit(
    told: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str], model: str
) -> None:
    alert = told.alerts[model]
    assert told.store.add_verdict(alert, "real", "Ventil klemmt 🔧", "ana")
    answer = told.script().get(f"/api/v1/alerts/{alert}/dossier")
    assert answer.status_code == 200, answer.text
    name = re.search(r'filename="([a-z0-9T.-]+\.dossier\.json)"', answer.headers["content-disposition"])
    assert name is not None and DEVICE in name[1]
    path = tmp_path / name[1]
    path.write_bytes(answer.content)
    (tmp_path / "bundle.zip").write_bytes(BUNDLE)
    assert main(["replay", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "2 of 2 decisions are equal, bit for bit" in err
    stored = told.script().get(f"/api/v1/alerts/{alert}").json()
    computed = [json.loads(line)["computed"] for line in out.splitlines()]
    assert [(one["transition"], one["score"], one["peak"]) for one in computed] == [
        (one["transition"], one["score"], one["peak"]) for one in stored["transitions"]
    ]
    assert computed[0]["bundle"]["sha256"] == stored["bundle_sha256"]
    assert computed[0]["sensors"][0] == "s2"
    assert ("ana", "judged", "real: Ventil klemmt 🔧") in [
        (one.who, one.what, one.text) for one in read(answer.content).answers
    ]
    assert {one["evidence"]["exact"] for one in stored["evidence"]} == {""}, "the page does not carry it"

    changed = json.loads(answer.content)
    value = changed["decisions"][0]["window"][-1][2]
    changed["decisions"][0]["window"][-1][2] = float(np.nextafter(value, 0))
    path.write_text(json.dumps(changed))
    assert main(["replay", str(path)]) == 3
    assert "changed after it was written" in capsys.readouterr().err


def test_the_audit_trail_has_who_took_which(told: Site) -> None:
    alert = told.alerts["detector"]
    viewer, engineer = told.member(Role.VIEWER), told.member(Role.ENGINEER)
    path = f"/api/v1/alerts/{alert}/dossier"
    assert viewer.get(path).status_code == 403
    assert path not in viewer.get(f"/alerts/{alert}").text
    assert path in engineer.get(f"/alerts/{alert}").text
    taken = engineer.get(path)
    with told.store.read() as db:
        (entry,) = [one for one in entries(db) if one.who == "engineer@lab.example" and one.action == "dossier.take"]
    assert (entry.target, entry.why) == (f"alert {alert} of {DEVICE}", f"sha256 {taken.json()['sha256']}")


def test_privacy_leaves_no_dossier_and_says_so(tmp_path: Path) -> None:
    private = chain(tmp_path, "scores")
    with closing(private.store):
        alert = private.alerts["detector"]
        answer = private.script().get(f"/api/v1/alerts/{alert}/dossier")
        assert answer.status_code == 404
        assert "keeps them in the lab" in answer.json()["detail"]
        words = text_of(private.person().get(f"/alerts/{alert}").text)
        assert "No dossier: the readings that this was decided by stay in the lab" in words
        with private.store.read() as db:
            assert not [one for one in entries(db) if one.action == "dossier.take"], "nothing was taken"


def test_an_alert_of_an_earlier_agent_has_no_dossier_and_says_why(seeded: Site) -> None:
    alert = seeded.alerts["critical"]
    answer = seeded.script().get(f"/api/v1/alerts/{alert}/dossier")
    assert answer.status_code == 404
    assert "earlier version" in answer.json()["detail"]
    assert "No dossier: this agent is of an earlier version" in text_of(seeded.person().get(f"/alerts/{alert}").text)
    assert seeded.script().get("/api/v1/alerts/none/dossier").status_code == 404


def test_a_spoilt_dossier_costs_only_itself(tmp_path: Path) -> None:
    """What a device sends as ``exact`` is looked at when it is taken; it never keeps an alert from being stored."""
    opened = "2026-01-17T00:00:00Z"
    with closing(Store(sqlite_url(tmp_path / "cloud.db"))) as store:
        made = site(store, {}, clock.now())
        for number, exact in enumerate(("A" * 55, "AAAA", "x" * 10_000)):
            device = f"press-000{number}"
            alert = {
                "alert_id": alert_id(device, "detector", clock.parse_iso(opened)), "transition": "opened",
                "model": "detector", "kind": "detector", "severity": "warning", "opened_at": opened, "ts": opened,
                "score": 9.0, "peak": 9.0, "threshold": 3.0, "rows": 3, "sensors": ["s0"], "shares": [1.0],
                "bundle": {"name": "press", "version": "v1", "sha256": "ab" * 32},
                "evidence": {"times": [], "sensors": [], "values": [], "mean": [], "scale": [], "scores": [],
                             "exact": exact},
            }  # fmt: skip
            text = events.envelope(device, "ab", 1, "alert", opened, json.dumps(alert))
            assert store.ingest(decode([Message(topic(device, "evt/alert"), text)])).refused == 0
            answer = made.script().get(f"/api/v1/alerts/{alert['alert_id']}/dossier")
            assert (answer.status_code, "cannot be read" in answer.json()["detail"]) == (404, True)
            assert made.person().get(f"/alerts/{alert['alert_id']}").status_code == 200
