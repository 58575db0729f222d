"""One device whose record in the store is damaged: it says so, and every page still shows the others."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

import pytest

from tests.unit.web.conftest import Site

NAME = "press-0001"


@pytest.mark.parametrize(
    ("damage", "told"),
    [
        ("UPDATE device SET health = substr(health, 1, 40) WHERE id = ?", True),
        ("UPDATE device SET health = '[1]' WHERE id = ?", True),
        ('UPDATE device SET health = \'{"log": "following"}\' WHERE id = ?', True),
        ("UPDATE device SET health = CAST(x'7b22ff' AS TEXT) WHERE id = ?", True),
        ("UPDATE device SET last_ts = 'abc' WHERE id = ?", True),
        ("UPDATE device SET last_seen = 'abc' WHERE id = ?", True),
        ("UPDATE result SET verdict = 9 WHERE device = ?", True),
        ("UPDATE result SET verdict = 'zz' WHERE device = ?", True),
        ("UPDATE result SET score = 'x' WHERE device = ?", False),
        ("UPDATE result_1h SET n = 'q', ratio_max = 'x' WHERE device = ?", False),
        ("UPDATE event SET data = '{' WHERE device = ?", False),
        ("UPDATE event SET data = '{}' WHERE device = ?", False),
        ("UPDATE alert SET sensors = '[\"a' WHERE device = ?", False),
        ("UPDATE ledger SET refused = '{' WHERE device = ?", False),
    ],
)
def test_a_damaged_record_hides_no_other_device(fresh: Callable[..., Site], damage: str, told: bool) -> None:
    site = fresh(devices=3)
    assert site.store._path is not None
    with sqlite3.connect(site.store._path) as db:
        db.execute(damage, (NAME,))
    db.close()
    person = site.person()
    for path in ("/", "/alerts", "/api/v1/devices", f"/devices/{NAME}", f"/api/v1/devices/{NAME}"):
        answer = person.get(path)
        assert answer.status_code == 200, (path, answer.text[:300])
    items = {one["id"]: one for one in person.get("/api/v1/devices").json()["items"]}
    assert len(items) == 3
    if told:
        assert items[NAME]["condition"] != "normal"
