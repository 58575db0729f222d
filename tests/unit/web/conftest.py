"""A small fleet in a real store, and clients of the application over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest
from fastapi import FastAPI
from fieldwatch_cloud.access.roles import Role
from fieldwatch_cloud.access.secret import csrf_of
from fieldwatch_cloud.store import Store
from fieldwatch_cloud.web import WebSettings, create_app
from fieldwatch_contract import clock
from starlette.testclient import TestClient

from tests.browser import seed

URL = "http://127.0.0.1:8080"
API_TOKEN = "b" * 32
PASSWORD = "correct horse battery"


@dataclass
class Site:
    """One application with its store."""

    store: Store
    app: FastAPI
    settings: WebSettings
    alerts: dict[str, str]
    now: int

    def stranger(self) -> TestClient:
        """A client without a session."""
        return TestClient(self.app, base_url=URL, follow_redirects=False, client=("127.0.0.1", 50000))

    def person(self) -> TestClient:
        """A client that has shown a start token."""
        client = self.stranger()
        assert client.get("/start", params={"token": self.app.state.accounts.admit()}).status_code == 303
        return client

    def member(self, role: Role) -> TestClient:
        """A client that somebody with this role has signed in with; its CSRF token is in its headers."""
        name = f"{role.value}@lab.example"
        secret = self.app.state.accounts.invite(name, role, "test")
        client = self.stranger()
        answer = client.post("/link", data={"token": secret, "password": PASSWORD, "again": PASSWORD})
        assert answer.status_code == 303
        client.headers["X-CSRF-Token"] = csrf_of(client.cookies[self.settings.address.cookie])
        return client

    def script(self) -> TestClient:
        """A client with the bearer token."""
        client = self.stranger()
        client.headers["Authorization"] = f"Bearer {API_TOKEN}"
        return client


def site(store: Store, alerts: dict[str, str], now: int) -> Site:
    """The application over ``store``."""
    settings = WebSettings(api_token=API_TOKEN)
    return Site(store, create_app(store, store.live, settings), settings, alerts, now)


@pytest.fixture(scope="session")
def seeded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """Seven devices with ten sensors and six hours; tests that write use :func:`fresh`."""
    now = clock.now()
    store, alerts = seed.make(tmp_path_factory.mktemp("web"), now, devices=7, sensors=45, hours=6)
    yield site(store, alerts, now)
    store.close()


@pytest.fixture(autouse=True)
def _cheap(cheap_passwords: None) -> None:
    """These tests sign in by the hundred; what a hash costs is ``tests/unit/access``'s."""


@pytest.fixture
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Site]]:
    """Make sites of one's own: ``fresh()`` is empty, ``fresh(devices=1, hours=1)`` has a fleet."""
    stores: list[Store] = []

    def make(**size: int) -> Site:
        now = clock.now()
        size = {"devices": 0, "sensors": 45, "hours": 5} | size
        store, alerts = seed.make(tmp_path_factory.mktemp("web"), now, **size)
        stores.append(store)
        return site(store, alerts, now)

    yield make
    for store in stores:
        store.close()


@pytest.fixture(scope="module")
def fresh_for_all(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    """A small site of a whole file of tests, with accounts."""
    now = clock.now()
    store, alerts = seed.make(tmp_path_factory.mktemp("web"), now, devices=2, sensors=45, hours=5)
    yield site(store, alerts, now)
    store.close()
