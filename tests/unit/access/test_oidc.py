"""Sign-in through a real identity provider on this machine, and what one that lies gets: nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
from fieldwatch_cloud.access import oidc
from fieldwatch_cloud.access.oidc import Attempt, OidcError, Provider

from tests import identity

BACK = "http://127.0.0.1:8080/sign-in/back"


@pytest.fixture
def there() -> Iterator[identity.Provider]:
    with identity.provider() as known:
        yield known


def client(there: identity.Provider, secret: str = identity.SECRET) -> Provider:
    return Provider(there.issuer, identity.CLIENT, secret)


def way(url: str) -> dict[str, str]:
    """Go to the provider as a browser does; return the query it comes back with."""
    answer = httpx.get(url, follow_redirects=False)
    assert answer.status_code == 302 and answer.headers["location"].startswith(BACK)
    return {name: values[0] for name, values in parse_qs(urlsplit(answer.headers["location"]).query).items()}


def sign_in(there: identity.Provider, one: Provider | None = None) -> oidc.Identity:
    one = one or client(there)
    url, attempt = one.begin(BACK)
    kept = Attempt.unpack(attempt.packed())
    assert kept == attempt
    return one.finish(kept, way(url), BACK)


def test_who_signs_in_is_known_by_issuer_and_subject(there: identity.Provider) -> None:
    found = sign_in(there)
    assert found == oidc.Identity(there.issuer, "subject-1", "subject-1@lab.example")
    assert "code_verifier" in there.seen[0]


@pytest.mark.parametrize(
    "change",
    [
        {"nonce": "another"},
        {"nonce": None},
        {"aud": "another client"},
        {"aud": ["fieldwatch", "another"], "azp": "another"},
        {"iss": "https://evil.example"},
        {"exp": 1},
        {"iat": int(time.time()) + 3600},
        {"sub": None},
        {"sub": ""},
        {"sub": 7},
    ],
)
def test_an_id_token_that_is_not_for_this_sign_in_is_refused(there: identity.Provider, change: dict[str, Any]) -> None:
    def bend(_: dict[str, Any], claims: dict[str, Any]) -> None:
        claims.update(change)
        for name in [name for name, value in change.items() if value is None]:
            del claims[name]

    there.bend = bend
    with pytest.raises(OidcError, match="ID token"):
        sign_in(there)


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_an_id_token_that_anybody_can_sign_is_refused(there: identity.Provider, algorithm: str) -> None:
    there.bend = lambda header, _: header.update(alg=algorithm)
    with pytest.raises(OidcError, match="cannot be trusted"):
        sign_in(there)


def test_an_id_token_of_a_foreign_key_is_refused(there: identity.Provider) -> None:
    there.signing = identity.new_key("one")
    with pytest.raises(OidcError, match="cannot be trusted"):
        sign_in(there)


def test_new_keys_of_the_provider_are_fetched(there: identity.Provider, monkeypatch: pytest.MonkeyPatch) -> None:
    one = client(there)
    sign_in(there, one)
    there.key = identity.new_key("two")
    monkeypatch.setattr(oidc, "REFETCH_S", 0.0)
    assert sign_in(there, one).subject == "subject-1"


def test_an_answer_to_another_sign_in_is_refused(there: identity.Provider) -> None:
    one = client(there)
    url, attempt = one.begin(BACK)
    answer = way(url)
    for wrong, says in (
        (answer | {"state": "another"}, "another sign-in"),
        ({"code": answer["code"]}, "another sign-in"),
        (answer | {"iss": "https://evil.example"}, "another identity provider"),
        ({"state": attempt.state, "error": "access_denied"}, "access_denied"),
        ({"state": attempt.state}, "no code"),
    ):
        with pytest.raises(OidcError, match=says):
            one.finish(attempt, wrong, BACK)
    with pytest.raises(OidcError, match="ten minutes"):
        one.finish(replace(attempt, began=attempt.began - 601), answer, BACK)
    with pytest.raises(OidcError, match="invalid_grant"):  # a stolen code without the verifier
        one.finish(replace(attempt, verifier="x" * 64), answer, BACK)


def test_a_code_works_once(there: identity.Provider) -> None:
    one = client(there)
    url, attempt = one.begin(BACK)
    answer = way(url)
    one.finish(attempt, answer, BACK)
    with pytest.raises(OidcError, match="invalid_grant"):
        one.finish(attempt, answer, BACK)


def test_a_wrong_client_secret_is_told_without_the_secret(there: identity.Provider) -> None:
    with pytest.raises(OidcError, match="invalid_client") as caught:
        sign_in(there, client(there, "wrong secret"))
    assert "wrong secret" not in str(caught.value)


def test_a_provider_that_is_not_what_was_configured_is_told(there: identity.Provider) -> None:
    there.bend_discovery = lambda document: document.update(issuer="https://evil.example")
    with pytest.raises(OidcError, match=r"calls itself 'https://evil\.example'"):
        client(there).begin(BACK)
    there.bend_discovery = lambda document: document.update(authorization_endpoint="http://id.example/authorize")
    with pytest.raises(OidcError, match="no https address as authorization_endpoint"):
        client(there).begin(BACK)
    with pytest.raises(OidcError, match="cannot be reached"):
        Provider("http://127.0.0.1:1", "x").begin(BACK)


@pytest.mark.parametrize("cookie", [None, "", "x", "e30", "!!!", Attempt("a", "b", "c", 1).packed()[:-5]])
def test_a_cookie_that_is_none_of_ours_begins_nothing(cookie: str | None) -> None:
    assert Attempt.unpack(cookie) is None
