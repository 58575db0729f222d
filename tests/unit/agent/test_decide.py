"""What is said of scores: valid events, the same however the log is cut into blocks, never more than privacy allows."""

from __future__ import annotations

import base64
import json

import numpy as np
import pytest
from fieldwatch_agent.score.decide import EVIDENCE_ROWS, Decider, Privacy
from fieldwatch_agent.send.journal import Draft
from fieldwatch_contract import events
from fieldwatch_contract.alerts import RuleState
from fieldwatch_contract.bundle import read_bundle
from fieldwatch_contract.grid import Grid
from fieldwatch_contract.scoring import Scorer
from numpy.typing import NDArray

from tests.bundles import make_bundle

MINUTE = 60_000_000


def device(rows: int, sensors: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """A quiet device with a fault of the last sensor in rows 200 to 229, a gap, and holes."""
    rng = np.random.default_rng(5)
    ts = np.arange(rows) * MINUTE + 1_768_000_020_000_000
    values = rng.normal(10, 1, (rows, sensors))
    values[200:230, -1] += 60
    values[rng.random(values.shape) < 0.02] = np.nan
    kept = np.ones(rows, bool)
    kept[100:103] = False
    return ts[kept], values[kept]


def said(privacy: Privacy, cut: int, sensors: int = 4, rows: int = 300) -> list[Draft]:
    bundle = read_bundle(make_bundle(sensors, lookback=5, classifier=True, threshold=max(36, sensors)))
    manifest = bundle.manifest
    seen = max(manifest.window, EVIDENCE_ROWS)
    grid = Grid(manifest.period, seen, sensors)
    scorer = Scorer(bundle)
    decider = Decider("press-0001", bundle, privacy)
    ts, values = device(rows, sensors)
    alerts: dict[str, RuleState] = {}
    drafts: list[Draft] = []
    for start in range(0, len(ts), cut):
        block = grid.place(ts[start : start + cut], values[start : start + cut])
        result = decider.decide(block, scorer.score(block.rows[seen - manifest.window :]), alerts)
        alerts = result.alerts
        drafts += result.drafts
    return drafts


def without_scores(draft: Draft) -> object:
    """An alert's picture shows scores as far as the block reaches; everything else must not depend on it."""
    data = json.loads(draft.data)
    if data.get("evidence"):
        data["evidence"].pop("scores")
    return draft.event, draft.day, data


@pytest.mark.parametrize("cut", [1, 7, 64])
def test_nothing_depends_on_how_the_log_is_cut(cut: int) -> None:
    whole, pieces = said("full", 1000), said("full", cut)
    for event in ("result", "alert"):
        assert [without_scores(d) for d in whole if d.event == event] == [
            without_scores(d) for d in pieces if d.event == event
        ]


def test_every_draft_is_a_valid_event_and_the_fault_has_a_life() -> None:
    drafts = said("on-alert", 50)
    for seq, draft in enumerate(drafts, 1):
        text = events.envelope("press-0001", "ab12", seq, draft.event, "2026-01-17T10:54:00Z", draft.data)
        events.EVENT.validate_json(text)
    results = [json.loads(draft.data) for draft in drafts if draft.event == "result"]
    assert len(results) == 297
    assert all(len(result["scores"]) == 2 for result in results)
    alerts = [json.loads(draft.data) for draft in drafts if draft.event == "alert"]
    detector = [alert for alert in alerts if alert["model"] == "detector"]
    assert [alert["transition"] for alert in detector] == ["opened", "resolved"]
    assert len({alert["alert_id"] for alert in detector}) == 1
    assert detector[0]["sensors"] == ["s3"], "those who have next to nothing to do with it are not named"
    evidence = detector[0]["evidence"]
    picture = np.frombuffer(base64.b64decode(evidence["z"]), np.int8).reshape(4, len(evidence["times"]))
    assert picture[3, -1] == 127
    assert evidence["times"][-1] == detector[0]["ts"]
    assert evidence["values"][evidence["sensors"].index("s3")][-1] > 50


@pytest.mark.parametrize(
    ("privacy", "shares", "evidence", "values"),
    [("none", False, False, False), ("scores", True, False, False), ("on-alert", True, True, False),
     ("full", True, True, True)],
)  # fmt: skip
def test_privacy_holds(privacy: Privacy, shares: bool, evidence: bool, values: bool) -> None:
    drafts = said(privacy, 100)
    results = [json.loads(draft.data) for draft in drafts if draft.event == "result"]
    alerts = [json.loads(draft.data) for draft in drafts if draft.event == "alert"]
    assert any("sensors" in score for result in results for score in result["scores"]) is shares
    assert any("values" in result for result in results) is values
    assert any(alert["sensors"] for alert in alerts) is shares
    assert all((alert["evidence"] is not None) is evidence for alert in alerts)


def test_an_alert_of_a_wide_device_stays_below_what_brokers_accept() -> None:
    alerts = [draft for draft in said("full", 64, sensors=400) if draft.event == "alert"]
    assert alerts
    assert max(len(draft.data) for draft in alerts) < events.BULK_LIMIT
