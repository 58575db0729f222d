"""A store that ends with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fieldwatch_cloud.store import Store

from tests.delivery import make_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    made = make_store(tmp_path)
    yield made
    made.close()
