"""Uplinks and ingests that end with the test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_agent.send.journal import Journal
from fieldwatch_agent.send.uplink import Uplink
from fieldwatch_cloud.config import BrokerConfig
from fieldwatch_cloud.ingest import Ingest
from fieldwatch_cloud.store import Store

from tests.conftest import wait_until
from tests.delivery import DEVICE, QUICK, make_store, mqtt


@pytest.fixture
def linked() -> Iterator[Callable[..., Uplink]]:
    """Start an uplink that ends with the test."""
    started: list[Uplink] = []

    def start(journal: Journal, url: str, **more: Any) -> Uplink:
        started.append(Uplink(mqtt(url, **more), DEVICE, journal, QUICK))
        started[-1].start()
        return started[-1]

    yield start
    for uplink in started:
        uplink.stop()


@pytest.fixture
def taken(tmp_path: Path) -> Iterator[Callable[..., Store]]:
    """Start an ingest and return its store; both end with the test."""
    started: list[Ingest] = []
    store = make_store(tmp_path)

    def start(url: str, **more: Any) -> Store:
        started.append(Ingest(store, BrokerConfig.model_validate({"url": url, **more})))
        started[-1].start()
        wait_until(lambda: started[-1].connected, "ingest to subscribe")
        return store

    yield start
    for ingest in started:
        ingest.stop()
    store.close()
