"""What the first version, cc72598, made is carried on: a release repository with its keys, and a device that trusts it.

``tests/data/repository-cc72598`` has what that version's ``fieldwatch-release`` wrote, ``updates`` and, made for this
test and used nowhere else, the private keys; and the ``state`` of a device that took its bundle from there.
"""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fieldwatch_agent.update.activation import Activation
from fieldwatch_agent.update.updater import pull
from fieldwatch_trainer.release import ceremony
from fieldwatch_trainer.release.verify import verify

from tests.bundles import make_bundle
from tests.updates import Site

OLD = Path(__file__).parents[2] / "data" / "repository-cc72598"
THEN = datetime(2026, 11, 26, 18, tzinfo=UTC)
"""While the first version's signatures hold: the timestamp's do for a week."""
FIRST = "2fe4404f94d4ff491add608d339e871cad83f2291fedf28bf9e89ef98e36fe3d"


@pytest.fixture
def old(tmp_path: Path) -> Site:
    """The repository and its keys, as they were left."""
    for name in ("updates", "updates-keys"):
        shutil.copytree(OLD / name, tmp_path / name)
    return Site(tmp_path / "updates", tmp_path / "updates-keys")


@pytest.mark.parametrize("device", ["that has run since then", "that was installed now with the old root"])
def test_a_repository_of_the_first_version_is_carried_on(old: Site, tmp_path: Path, device: str) -> None:
    """However long ago that was: the yearly ceremony signs anew, and the device follows from the root that it has."""
    root = old.root
    ceremony.refresh(old.repo, [old.keys], True)
    assert old.root != root
    new = old.publish(make_bundle(4, "v2", name="self-test", device_type="self-test"))
    assert (new.facts.release_seq, old.file(new).is_file()) == (2, True)
    state = tmp_path / "state"
    if device == "that has run since then":
        shutil.copytree(OLD / "state", state)
        current = Activation(state).state().current
        assert current is not None and current.sha256 == FIRST
        Activation(state).commit(FIRST)
    result = pull(old.repo, root, state, "self-test-0001", "self-test", "stable")
    assert (result.outcome, result.bundle) == ("activated", "self-test/v2"), result
    found = Activation(state).state()
    assert found.current is not None and found.current.sha256 == new.sha256
    assert (found.previous is not None and found.previous.sha256 == FIRST) == (device == "that has run since then")


def test_what_the_first_version_signed_is_sound(old: Site) -> None:
    """Today's client takes it as it is; of what did not exist then it says that it is not there."""
    found = verify(str(old.repo), old.root, THEN)
    assert (found.bundles, found.policies) == (["prod/self-test/built-in.zip"], ["policy/self-test/stable.json"])
    assert (found.beside, found.no_bom) == ([], found.bundles)
    assert found.signers == ["prod-1", "prod-2"]


def test_another_root_than_the_devices_own_gets_nothing_in(old: Site, tmp_path: Path) -> None:
    """So that the test above can fail: a device of another installation does not follow this repository."""
    ceremony.refresh(old.repo, [old.keys], True)
    stranger = Site.make(tmp_path / "stranger")
    result = pull(old.repo, stranger.root, tmp_path / "state", "self-test-0001", "self-test", "stable")
    assert (result.outcome, Activation(tmp_path / "state").state().current) == ("failed", None), result
