"""A repository with its keys, and two bundles to put into it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bundles import make_bundle
from tests.updates import Site


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """An empty repository."""
    return Site.make(tmp_path)


@pytest.fixture(scope="session")
def v1() -> bytes:
    return make_bundle(version="v1")


@pytest.fixture(scope="session")
def v2() -> bytes:
    return make_bundle(version="v2")
