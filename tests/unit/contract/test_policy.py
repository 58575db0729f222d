"""Rollout policy: shares that only add devices, halts that start nothing, revocation that nobody escapes."""

from __future__ import annotations

import pytest
from fieldwatch_contract.clock import SECOND, parse_iso
from fieldwatch_contract.policy import SHARES, Policy, Release, bundle_path, policy_path
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

NOW = parse_iso("2026-03-01T12:00:00Z")
DEVICES = [f"press-{number:05d}" for number in range(20_000)]


def release(letter: str, bp: int = SHARES, **kwargs: object) -> Release:
    return Release(target=f"prod/press/{letter}.zip", sha256=letter * 64, salt=f"salt-{letter}", bp=bp, **kwargs)


def test_buckets_are_even_and_independent_between_rollouts():
    """20,000 devices over ten tenths: chi-square with 9 degrees of freedom stays below its 0.1 % point, 27.9."""
    one, other = release("a"), release("b")
    tenths = [0] * 10
    both = 0
    for device in DEVICES:
        tenths[one.bucket(device) // 1000] += 1
        both += one.bucket(device) < 1000 and other.bucket(device) < 1000
    assert sum((count - 2000) ** 2 / 2000 for count in tenths) < 27.9
    assert 140 < both < 260  # 1 % of 20,000: the same devices are not the first every time


def test_buckets_stay_what_they_are():
    """Fixed values: another hash would send half the fleet a release it was not chosen for."""
    assert [release("a").bucket(f"press-000{n}") for n in range(4)] == [6521, 5407, 2716, 232]


@given(st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=3, max_size=64), st.integers(0, SHARES))
def test_raising_a_share_only_adds(device, bp):
    if release("a", bp).admits(device, NOW):
        assert all(release("a", more).admits(device, NOW) for more in (bp, min(bp + 1, SHARES), SHARES))
    assert not release("a", 0).admits(device, NOW)
    assert release("a", SHARES).admits(device, NOW)


def test_deny_beats_allow_beats_share():
    assert release("a", 0, allow=("x-1",)).admits("x-1", NOW)
    assert not release("a", SHARES, deny=("x-1",)).admits("x-1", NOW)
    assert not release("a", SHARES, allow=("x-1",), deny=("x-1",)).admits("x-1", NOW)


def test_a_start_is_spread_and_each_device_keeps_its_moment():
    spread = release("a", not_before="2026-03-01T12:00:00Z", spread_s=1000)
    devices = DEVICES[:500]
    started = [sum(spread.admits(d, NOW + after * SECOND) for d in devices) for after in (-1, 0, 250, 500, 1000)]
    assert started[0] == 0 and started[-1] == len(devices)
    assert 80 < started[2] < 170 and 200 < started[3] < 300
    assert started == sorted(started)


def test_a_device_takes_the_newest_that_admits_it():
    policy = Policy(releases=(release("c", 0), release("b", SHARES), release("a")))
    chosen = policy.choose("x-1", NOW, None)
    assert chosen is not None and chosen.sha256 == "b" * 64
    assert policy.choose("x-1", NOW, "b" * 64) is None


def test_a_shrinking_share_takes_nothing_away():
    policy = Policy(releases=(release("b", 0), release("a")))
    assert policy.choose("x-1", NOW, "b" * 64) is None


def test_a_halt_starts_nothing():
    policy = Policy(releases=(release("b"), release("a")), halt=True)
    assert policy.choose("x-1", NOW, "a" * 64) is None
    assert policy.choose("x-1", NOW, None) == policy.releases[-1], "a new device gets what is proven"
    partly = Policy(releases=(release("b"), release("a", 1000)), halt=True)
    assert partly.choose("x-1", NOW, None) is None, "nothing is proven for everybody"


def test_revocation_falls_back_to_what_is_left():
    policy = Policy(releases=(release("b"), release("a", 0)), revoke=("b" * 64,))
    chosen = policy.choose("x-1", NOW, "b" * 64)
    assert chosen is not None and chosen.sha256 == "a" * 64
    assert policy.choose("x-1", NOW, None) is None  # nobody is *started* on a share of 0


def test_revocation_during_a_halt_does_not_start_the_halted_release():
    policy = Policy(releases=(release("c"), release("b"), release("a", 0)), revoke=("b" * 64,), halt=True)
    chosen = policy.choose("x-1", NOW, "b" * 64)
    assert chosen is not None and chosen.sha256 == "a" * 64


def test_nothing_is_chosen_where_everything_is_revoked():
    policy = Policy(releases=(release("b"),), revoke=("b" * 64,))
    assert policy.choose("x-1", NOW, "b" * 64) is None


@pytest.mark.parametrize("wrong", [{"bp": -1}, {"bp": SHARES + 1}, {"sha256": "abc"}, {"spread_s": -1}])
def test_a_policy_outside_its_ranges_is_refused(wrong):
    fields = {"target": "t", "sha256": "a" * 64, "salt": "s", "bp": 1} | wrong
    with pytest.raises(ValidationError):
        Release(**fields)


def test_paths_are_part_of_the_contract():
    assert policy_path("press", "stable") == "policy/press/stable.json"
    assert bundle_path("press", "7") == "prod/press/7.zip"
