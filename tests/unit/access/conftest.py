"""A store that ends with the test, and the accounts in it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fieldwatch_cloud.access.accounts import Accounts
from fieldwatch_cloud.access.sessions import Sessions
from fieldwatch_cloud.store import Store

from tests.delivery import make_store


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    """An empty store."""
    made = make_store(tmp_path)
    yield made
    made.close()


@pytest.fixture
def accounts(store: Store) -> Accounts:
    """The accounts in it: none yet."""
    return Accounts(store)


@pytest.fixture
def sessions(store: Store) -> Sessions:
    """The sessions in it."""
    return Sessions(store)
