"""Every route × every role, generated from the application itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from fastapi.routing import APIRoute
from fieldwatch_cloud.access.roles import MAY, Permission, Role
from fieldwatch_cloud.web.app import ROUTERS
from fieldwatch_cloud.web.routes import SAFE_METHODS, Route, needs
from starlette.testclient import TestClient

from tests.unit.web.conftest import Site

ROUTES = [
    (method, route.path_format, route.permission)
    for router in ROUTERS
    for route in router.routes
    if isinstance(route, Route)
    for method in sorted(route.methods - {"HEAD"})
]
KNOWN = {"device": "press-0001", "number": "999999", "action": "enable", "alert_id": "none", "name": "x.js"}
KNOWN |= {"command": "0" * 32}
ENDLESS = "/api/v1/events"


def path_of(template: str) -> str:
    return re.sub(r"{(\w+)}", lambda found: KNOWN.get(found[1], "1"), template)


@pytest.fixture(scope="module")
def members(fresh_for_all: Site) -> Iterator[dict[Role, TestClient]]:
    """A client of each role."""
    yield {role: fresh_for_all.member(role) for role in Role}


def test_every_route_asks(seeded: Site) -> None:
    for router in ROUTERS:
        for route in router.routes:
            assert isinstance(route, Route), f"{route} asks nobody"
            assert route.permission in Permission
    documented = {
        (method.upper(), path, one["x-permission"])
        for path, methods in seeded.app.openapi()["paths"].items()
        for method, one in methods.items()
    }
    assert documented <= {(method, path, permission.value) for method, path, permission in ROUTES}
    served = {(m.upper(), p) for p, ms in seeded.app.openapi()["paths"].items() for m in ms}
    hidden = [route for route in seeded.app.routes if isinstance(route, APIRoute) and not isinstance(route, Route)]
    assert served and not hidden


def test_a_route_without_a_permission_is_none() -> None:
    with pytest.raises(TypeError, match="name its permission"):
        Route("/x", lambda: None)
    assert Route("/x", needs(Permission.SEE)(lambda: None)).permission is Permission.SEE


OPEN = {
    "/readyz",
    "/healthz",
    "/static/{name}",
    "/favicon.ico",
    "/start",
    "/sign-in",
    "/link",
    "/sign-in/provider",
    "/sign-in/back",
}


def test_what_is_open_is_meant_to_be_open() -> None:
    assert {path for _, path, permission in ROUTES if permission is Permission.OPEN} == OPEN


ENDING = ("/sign-out", "/account/sessions")
"""They end the session: ``test_access`` has them."""
MATRIX = [one for one in ROUTES if one[1] not in ENDING]


@pytest.mark.parametrize(("method", "path", "permission"), MATRIX, ids=[f"{m} {p}" for m, p, _ in MATRIX])
def test_every_role_on_every_route(
    members: dict[Role, TestClient], fresh_for_all: Site, method: str, path: str, permission: Permission
) -> None:
    stranger = fresh_for_all.stranger().request(method, path_of(path))
    if permission is Permission.OPEN:
        assert stranger.status_code != 500
    elif path.startswith(("/api/v1", "/metrics")):
        assert stranger.status_code == 401
    else:
        assert stranger.status_code == 303 and stranger.headers["location"].startswith("/sign-in")
    for role, member in members.items():
        if path == ENDLESS and permission in MAY[role]:
            continue  # a stream: test_stream
        answer = member.request(method, path_of(path))
        if permission in MAY[role]:
            assert answer.status_code not in (401, 403, 500) or permission is Permission.OPEN, (role, answer.text)
        else:
            assert answer.status_code == 403, (role, answer.text)
            assert "Not allowed" in answer.text
    if method not in SAFE_METHODS and permission is not Permission.OPEN:
        admin = members[Role.ADMIN]
        for wrong in ("", "x"):
            answer = admin.request(method, path_of(path), headers={"X-CSRF-Token": wrong})
            assert answer.status_code == 403 and "CSRF" in answer.text


def test_a_viewer_can_do_none_of_what_an_engineer_can(fresh: Callable[..., Site]) -> None:
    site = fresh(devices=2)
    viewer, engineer = site.member(Role.VIEWER), site.member(Role.ENGINEER)
    path = f"/alerts/{site.alerts['warning']}"
    changing = [one for one in ROUTES if one[0] not in SAFE_METHODS and one[2] not in (Permission.OPEN, Permission.OWN)]
    assert changing and all(permission not in MAY[Role.VIEWER] for _, _, permission in changing)
    assert viewer.post(f"/api/v1{path}/verdict", json={"verdict": "false"}).status_code == 403
    assert viewer.post(f"{path}/verdict", data={"verdict": "false"}).status_code == 403
    assert 'name="verdict"' not in viewer.get(path).text
    assert 'name="verdict"' in engineer.get(path).text
    assert engineer.post(f"/api/v1{path}/verdict", json={"verdict": "false"}).status_code == 201
    assert engineer.get("/users").status_code == 403
