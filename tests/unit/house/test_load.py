"""`make load` judges what it saw: a lost event, an alert that nobody saw, and a slow one are each told."""

from __future__ import annotations

import json
import math
import random
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from fieldwatch_cloud.ingest.decode import Message, decode
from fieldwatch_cloud.store import Store, sqlite_url
from fieldwatch_contract import topics

from bench.load.__main__ import missed
from bench.load.devices import Device, material
from bench.load.judge import Delays, lost
from bench.load.programs import site_of, sites


def test_the_delay_of_a_share_counts_what_was_not_seen() -> None:
    sent = {str(number): 0.0 for number in range(20)}
    seen = {str(number): number / 10 for number in range(19)}
    found = Delays.of(sent, seen)
    assert (found.within(0.5), found.within(0.95), found.unseen) == (0.9, 1.8, 1)
    assert Delays.of(sent, {}).within(0.5) == math.inf
    kept = {"wrong": [], "delays": {"on a page": found, "in the mailbox": Delays([9.9], 0)}}
    assert missed(kept) == []
    late = {"wrong": [], "delays": {"on a page": Delays([2.1], 0), "in the mailbox": Delays([10.1], 0)}}
    assert len(missed(late)) == 2


def test_every_device_has_one_site() -> None:
    patterns = sites(1000)
    for number in range(1000):
        named = [name for name, pattern in patterns.items() if fnmatchcase(f"load-{number:04d}", pattern)]
        assert named == [f"lab{site_of(number)}"]


@pytest.mark.parametrize("gone", [None, "result", "health", "alert"])
def test_an_event_that_the_store_does_not_have_is_told(tmp_path: Path, gone: str | None) -> None:
    device = Device("load-0000", 1, material(), random.Random(1))
    device._result()
    device._health()
    device.alert()
    published = [(json.loads(payload)["type"].split(".")[1], payload) for _, _, payload in device._waiting.values()]
    assert [kind for kind, _ in published] == ["result", "health", "alert", "alert"]
    store = Store(sqlite_url(tmp_path / "fieldwatch.db"))
    for kind, payload in published:
        if kind != gone:
            store.ingest(decode([Message(topics.topic(device.name, f"evt/{kind}"), payload)]))
    store.close()
    device._waiting.clear()
    _, wrong = lost(tmp_path / "fieldwatch.db", [device], set())
    expected = {"result": "results: 2 sent, 2 not stored", "health": "health reports", "alert": "alerts: 2 sent, 2 not"}
    if gone is None:
        assert [one for one in wrong if "route" not in one] == []
    else:
        assert any(one.startswith(expected[gone]) for one in wrong), wrong
