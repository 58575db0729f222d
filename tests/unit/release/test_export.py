"""A stick for a laboratory without a network: same bundles, own root, months of validity that nobody can misuse."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fieldwatch_agent.update.updater import pull
from fieldwatch_trainer.release.__main__ import main
from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.roles import OFFLINE
from fieldwatch_trainer.release.verify import verify

from tests.updates import Site


def export(site: Site, out: Path, *more: str) -> int:
    return main(["export", str(out), "--site", "lab-7", "--repo", str(site.repo), *more])


def test_a_site_gets_the_same_bundles_without_any_key_of_the_release_engineers(
    site: Site, tmp_path: Path, v1: bytes, v2: bytes
) -> None:
    site.publish(v1)
    out, state = tmp_path / "lab", tmp_path / "state"
    shutil.rmtree(site.keys)
    assert export(site, out, "--dry-run") == 0
    assert not out.exists()
    assert export(site, out) == 0
    root = (out / "root.json").read_bytes()
    prod = [json.loads(next((folder / "metadata").glob("2.prod.json")).read_bytes()) for folder in (site.repo, out)]
    assert prod[0] == prod[1]
    result = pull(out, root, state, "press-0001", "press", "stable")
    assert (result.outcome, result.bundle) == ("activated", "press/v1")
    half_a_year = datetime.now(UTC) + timedelta(days=179)
    assert verify(str(out), root, half_a_year).bundles == ["prod/press/v1.zip"]
    with pytest.raises(ReleaseError, match="is expired"):
        verify(str(site.repo), site.root, half_a_year)


def test_the_next_export_brings_the_next_release_to_devices_that_took_the_first(
    site: Site, tmp_path: Path, v1: bytes, v2: bytes
) -> None:
    site.publish(v1)
    out, state = tmp_path / "lab", tmp_path / "state"
    export(site, out)
    root = (out / "root.json").read_bytes()
    pull(out, root, state, "press-0001", "press", "stable")
    site.publish(v2)
    main(["keys", "rotate", "prod-1", "--repo", str(site.repo)])
    assert export(site, out) == 0
    assert verify(str(out), root).bundles == ["prod/press/v1.zip", "prod/press/v2.zip"]
    result = pull(out, root, state, "press-0001", "press", "stable")
    assert (result.outcome, result.bundle) == ("activated", "press/v2")


def test_a_stick_that_holds_for_months_is_nothing_to_a_device_on_line(site: Site, tmp_path: Path, v1: bytes) -> None:
    site.publish(v1)
    out = tmp_path / "lab"
    export(site, out)
    for name in ("timestamp.json", "1.snapshot.json"):
        shutil.copy(out / "metadata" / name, site.repo / "metadata" / name)
    with pytest.raises(ReleaseError, match="UnsignedMetadataError"):
        verify(str(site.repo), site.root)


def test_it_does_not_promise_longer_than_the_bundles_hold(
    tmp_path: Path, v1: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    site = Site.make(tmp_path, datetime.now(UTC) - timedelta(days=300))
    site.publish(v1, now=datetime.now(UTC) - timedelta(days=300))
    main(["refresh", "--repo", str(site.repo)])
    capsys.readouterr()
    assert export(site, tmp_path / "lab") == 0
    assert "Not longer, because prod ends then" in capsys.readouterr().out


def test_slips_are_refused(site: Site, tmp_path: Path, v1: bytes) -> None:
    site.publish(v1)
    assert export(site, site.repo) == 3
    assert export(site, tmp_path / "lab", "--keys", str(tmp_path / "lab" / "keys")) == 3
    assert export(site, tmp_path / "lab", "--keys", str(site.keys)) == 1
    assert not (tmp_path / "lab").exists()
    site.file(site.publish(v1)).write_bytes(b"")
    assert export(site, tmp_path / "lab") == 1
    assert len(list(site.keys.glob("*.pem"))) == len(OFFLINE) + 3
