"""Rows come back bit for bit in whatever form a sensor's values are; a dossier tells that it was changed."""

from __future__ import annotations

import base64
import json
import zlib

import numpy as np
import pytest
from fieldwatch_contract import dossier
from fieldwatch_contract.alerts import AlertState, RuleState
from fieldwatch_contract.dossier import ChangedError, Decision, Dossier, DossierError
from fieldwatch_contract.events import AlertData, BundleRef
from fieldwatch_contract.exact import UNPACKED_LIMIT, pack, unpack
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from numpy.typing import NDArray

ODD = [0.0, -0.0, 0.1, -12.34, 1e-9, 123456789.123, 5e-324, 1e100, -1e100, 0.1 + 0.2, 2.0**30, 1 / 3, np.nan]


def same(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    return one.shape == other.shape and one.tobytes() == other.tobytes()


@given(
    arrays(
        np.float64,
        array_shapes(min_dims=2, max_dims=2, min_side=0, max_side=9),
        elements=st.one_of(
            st.sampled_from(ODD),
            st.integers(-(10**6), 10**6).map(lambda whole: whole / 1000),
            st.floats(-1e100, 1e100),
        ),
    )
)
def test_rows_come_back_to_the_bit(rows: NDArray[np.float64]) -> None:
    head, again = unpack(pack({"said": [1]}, rows))
    assert head == {"said": [1]}
    assert same(rows, again)


def test_decimals_take_a_quarter_of_their_doubles() -> None:
    rows = np.round(np.cumsum(np.random.default_rng(1).normal(0, 0.05, (71, 100)), axis=0) + 40, 2)
    assert len(pack({}, rows)) < rows.nbytes / 4


def broken(line: bytes, rest: bytes = b"") -> str:
    return base64.b64encode(zlib.compress(line + b"\n" + rest)).decode()


@pytest.mark.parametrize(
    "text",
    [
        "", "§", "AAAA", pack({}, np.ones((3, 2)))[:-8],
        broken(b"[]"), broken(b"{}"), broken(b"nonsense"), broken(b'{"rows": 1}'),
        broken(b'{"rows": 9, "decimals": [0]}'),
        broken(b'{"rows": -1, "decimals": [0]}', b"\xff"), broken(b'{"rows": 1, "decimals": [77]}', b"\x80\0\0\0\1"),
        broken(b'{"rows": 1, "decimals": [0]}', b"\x80"), broken(b'{"rows": 1e400, "decimals": [0]}'),
        broken(b'{"rows": 99999999999, "decimals": [0, 0]}', b"\x80"), broken(b" " * (UNPACKED_LIMIT + 1)),
    ],
)  # fmt: skip
def test_what_is_no_packed_rows_is_told(text: str) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        unpack(text)


def decision() -> Decision:
    alert = AlertData(
        alert_id="a" * 32, transition="opened", model="detector", kind="detector", severity="warning",
        opened_at="2026-01-17T00:00:00Z", ts="2026-01-17T00:02:00Z", score=0.1 + 0.2, peak=1 / 3, threshold=0.25,
        rows=3, sensors=["Ofen °C"], shares=[1.0], bundle=BundleRef(name="press", version="v1", sha256="b" * 64),
    )  # fmt: skip
    state = RuleState(AlertState(above=2, sums=(1 / 3, 0.0)))
    return Decision(alert=alert, sensors=["Ofen °C", "b"], window=[[0.1, None], [-0.0, 1 / 3]], before=state.to_dict())


def written() -> bytes:
    return dossier.write(
        Dossier(made_at="2026-01-18T00:00:00Z", device="press-0001", alert_id="a" * 32, decisions=[decision()])
    )[0]


def test_a_decision_survives_wire_and_file_to_the_bit() -> None:
    (again,) = dossier.read(written()).decisions
    for one in (dossier.unpack(dossier.pack(decision())), again):
        assert one.alert == decision().alert
        assert same(one.rows, decision().rows)
        assert one.remembered() == decision().remembered()


def test_another_indentation_is_no_change_and_every_changed_value_is_one() -> None:
    content = json.loads(written())
    dossier.read(json.dumps(content, indent=4, sort_keys=True).encode())

    def places(value: object, path: tuple[str | int, ...] = ()) -> list[tuple[str | int, ...]]:
        if isinstance(value, dict):
            return [one for key, inner in value.items() for one in places(inner, (*path, key))]
        if isinstance(value, list) and value:
            return [one for key, inner in enumerate(value) for one in places(inner, (*path, key))]
        return [path]

    found = [place for place in places(content) if place not in {("format",), ("sha256",)}]
    assert len(found) > 40
    for *path, last in found:
        changed = json.loads(written())
        spot = changed
        for key in path:
            spot = spot[key]
        old = spot[last]
        spot[last] = np.nextafter(old, 9) if isinstance(old, float) else f"{old}x"
        with pytest.raises(ChangedError, match="changed after it was written"):
            dossier.read(json.dumps(changed).encode())


def signed(**changes: object) -> bytes:
    """A dossier with changes and the digest that fits them."""
    content = json.loads(written()) | changes
    content["sha256"] = dossier._digest(content)
    return json.dumps(content).encode()


@pytest.mark.parametrize(
    ("data", "says"),
    [
        (b"", "not JSON"), (b"timestamp,s0\n", "not JSON"), (b"[1]", "no dossier"), (b"{}", "no dossier"),
        (b"[" * 100_000, "not JSON"), (written()[:-40], "not JSON"), (b'{"format": "fieldwatch-dossier/2"}', "update"),
        (signed(decisions=[]), "decisions"), (signed(device="../etc"), "device"), (signed(decisions="x"), "decisions"),
    ],
)  # fmt: skip
def test_what_is_no_dossier_is_told(data: bytes, says: str) -> None:
    with pytest.raises(DossierError, match=says):
        dossier.read(data)
