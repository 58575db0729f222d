"""The API against its own OpenAPI document: what the schemas allow is taken, what they forbid is refused."""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from fieldwatch_cloud.access.limits import Limiter, Rule
from fieldwatch_cloud.access.roles import Role
from fieldwatch_cloud.live import Notice
from fieldwatch_cloud.store import tables as t
from fieldwatch_cloud.web import WebSettings, create_app
from fieldwatch_cloud.web.api.common import TIME
from fieldwatch_cloud.web.stream import told
from fieldwatch_contract import clock
from fieldwatch_contract.clock import parse_iso
from fieldwatch_contract.commands import Arguments
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from sqlalchemy import Float, update
from starlette.testclient import TestClient

from tests.browser import seed
from tests.conftest import find_port, serving
from tests.unit.web.conftest import API_TOKEN, Site


class Unlimited(Limiter):
    """Thousands of wrong tokens are the point here; ``test_access`` has the limits."""

    def wait(self, rule: Rule, key: str, now: float) -> float:
        return 0.0


@dataclass(frozen=True)
class Served:
    """A real server, and the cookie of an administrator's session on it."""

    url: str
    cookie: str


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """A small fleet."""
    store, _ = seed.make(tmp_path_factory.mktemp("contract"), clock.now(), devices=3, sensors=45, hours=5)
    settings = WebSettings(port=find_port(), api_token=API_TOKEN)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fieldwatch_cloud.web.app.Limiter", Unlimited)
        app = create_app(store, store.live, settings)
    with closing(store), serving(app, settings):
        demo = app.state.accounts.enter(app.state.accounts.admit())
        session = app.state.sessions.begin(demo, "127.0.0.1", "test")
        yield Served(settings.url, f"{settings.address.cookie}={session}")


SCRIPT = ["-H", f"Authorization: Bearer {API_TOKEN}", "--exclude-path-regex", "/(events|users|audit)$"]
ADMIN = ["--include-path-regex", "/(users|audit)$", "--exclude-checks", "ignored_auth"]


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("who", "examples", "least"),
    [("script", 5, 40), pytest.param("script", 25, 500, marks=pytest.mark.soak), ("admin", 25, 20)],
)
def test_schemathesis_finds_nothing(served: Served, tmp_path: Path, who: str, examples: int, least: int) -> None:
    """C7: four schemas were looser than their checks. The endless stream is left out; tokens do not administer."""
    program = Path(sys.executable).with_name("schemathesis")
    chosen = SCRIPT if who == "script" else [*ADMIN, "-H", f"Cookie: {served.cookie}"]
    command = [program, "run", f"{served.url}api/v1/openapi.json", "--no-color", "--wait-for-schema", "30", *chosen]
    options = ["--max-examples", str(examples), "--seed", "1", "--continue-on-failure"]
    done = subprocess.run([*command, *options], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-8000:]
    tested = re.search(r"(\d+) generated", done.stdout)
    assert tested is not None and int(tested[1]) >= least


@given(st.datetimes(timezones=st.just(None)).map(lambda one: one.isoformat() + "Z"))
def test_a_time_that_the_schema_allows_is_read(text: str) -> None:
    allowed = re.fullmatch(TIME[1:-1], text) is not None
    assert allowed == ("1970" <= text[:4] <= "2099")
    if allowed:
        assert parse_iso(text) >= 0


@given(st.from_regex(TIME[1:-1], fullmatch=True, alphabet=st.characters(codec="ascii")))
def test_every_text_of_the_pattern_is_a_time(text: str) -> None:
    parse_iso(text)


def damaged(site: Site, value: float) -> None:
    """Put ``value`` wherever the store has a number that a device reported."""
    with site.store.write() as db:
        for table in (t.alert, t.alert_event, t.result, t.result_1h):
            for column in table.c:
                if isinstance(column.type, Float):
                    db.execute(update(table).values({column.name: value}))


@pytest.mark.parametrize("value", [math.inf, -math.inf, 1e308])
def test_a_number_that_json_does_not_have_breaks_no_answer(fresh: Callable[..., Site], value: float) -> None:
    """C7: ``peak: null`` against its own schema, ``Infinity`` in JSON."""
    site = fresh(devices=2)
    damaged(site, value)
    document = site.app.openapi()
    admin: TestClient = site.member(Role.ADMIN)
    known = {"device": "press-0001", "alert_id": site.alerts["warning"], "number": 1}
    known["command"] = site.store.give_command("press-0001", "update", Arguments(), "ana")
    seen = 0
    for path, methods in document["paths"].items():
        if "get" not in methods or path.endswith(("/events", "/readings", "/dossier", ".parquet")):
            continue
        answer = admin.get(path.format(**known))
        assert answer.status_code == 200, (path, answer.text)
        content = json.loads(answer.text, parse_constant=pytest.fail)
        schema = methods["get"]["responses"]["200"]["content"]["application/json"]["schema"]
        Draft202012Validator({**schema, "components": document["components"]}).validate(content)
        seen += 1
    assert seen > 10
    for page in ("/", "/alerts?state=all", "/devices/press-0001", f"/alerts/{site.alerts['warning']}"):
        assert admin.get(page).status_code == 200, page


def test_an_endless_number_does_not_end_the_stream() -> None:
    alert = {"alert_id": "x", "state": "open", "transition": "opened", "severity": "warning", "kind": "detector"}
    data = alert | {"model": "detector", "opened_at": 1, "last_at": 1, "peak": math.inf}
    assert json.dumps(told(Notice("alert", "press-0001", data)), allow_nan=False)
