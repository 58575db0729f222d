"""A bundle that its gates refuse, or that nobody has judged, is not published, unless a person accepts it by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_contract.bundle import read_bundle
from fieldwatch_trainer import record
from fieldwatch_trainer.release import actions
from fieldwatch_trainer.release.__main__ import main
from fieldwatch_trainer.release.errors import Refused
from fieldwatch_trainer.release.folder import Folder

from tests.updates import Site

DEAF = {"id": "deaf:classifier", "status": "failed", "says": "deaf: an alert at none of 12 events"}
WELL = {"id": "chance:detector", "status": "passed", "says": "average precision .8"}
OPEN = {"id": "leak-sensor", "status": "unknown", "says": "b alone tells faulty from normal rows"}


def make(folder: Path, data: bytes, gates: list[dict[str, Any]] | None, **more: Any) -> Path:
    folder.mkdir(exist_ok=True)
    (folder / "bundle.zip").write_bytes(data)
    run = {"name": "press", "version": "v1", "sha256": read_bundle(data).sha256, "data": {"lake": "lake", "rows": 9},
           "gate": {"passed": True}, "versions": {}} | more  # fmt: skip
    (folder / "run.json").write_text(json.dumps(run | ({} if gates is None else {"gates": gates})))
    return folder / "bundle.zip"


def publish(site: Site, bundle: Path, *more: str) -> int:
    return main(["publish", str(bundle), "--repo", str(site.repo), "--channel", "stable", *more])


def test_what_passed_is_published_and_what_is_not_known_is_said(
    site: Site, tmp_path: Path, v1: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    assert publish(site, make(tmp_path / "run", v1, [WELL, OPEN])) == 0
    said = capsys.readouterr().out
    assert "Not known: leak-sensor: b alone tells faulty from normal rows." in said and "ACCEPTED" not in said


def test_a_deaf_model_is_refused_by_publish_and_sign_and_accepted_only_by_its_name(
    site: Site, tmp_path: Path, v1: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make(tmp_path / "run", v1, [WELL, DEAF])
    assert publish(site, bundle) == 3
    assert "deaf:classifier: deaf: an alert at none of 12 events (train)" in capsys.readouterr().err
    proposal = ["--out", str(tmp_path / "p"), "--repo", str(site.repo), "--channel", "stable"]
    assert main(["sign", str(bundle), *proposal]) == 3
    assert publish(site, bundle, "--accept", "no-gates") == 3
    assert "refused: deaf:classifier" in capsys.readouterr().err
    assert Folder(site.repo).load(actions.utc_now()).bundles() == []
    assert publish(site, bundle, "--accept", "deaf:classifier") == 0
    assert "ACCEPTED although refused: deaf:classifier: deaf" in capsys.readouterr().out
    (stated,) = (site.repo / "targets/prod/press").glob("*.intoto.json")
    found = {
        one["name"]: one["annotations"]
        for one in json.loads(stated.read_bytes())["predicate"]["runDetails"]["byproducts"]
    }
    assert found["accepted"] == ["deaf:classifier: deaf: an alert at none of 12 events (train)"], (
        "signed with the bundle"
    )


@pytest.mark.parametrize("gates", [None, []])
def test_nobody_has_judged_it(
    site: Site, tmp_path: Path, v1: bytes, gates: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make(tmp_path / "run", v1, gates)
    assert publish(site, bundle) == 3
    assert "no-gates: nobody has judged this bundle" in capsys.readouterr().err
    assert publish(site, bundle, "--accept", "no-gates") == 0


def test_a_later_judge_is_heard_and_only_on_this_bundle(
    site: Site, tmp_path: Path, v1: bytes, v2: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = make(tmp_path / "run", v1, [WELL])
    judged = {"sha256": read_bundle(v2).sha256, "lake": "lake", "gates": [DEAF]}
    record.note(bundle, "evaluate", judged)
    assert publish(site, bundle, "--dry-run") == 0, "that was another bundle"
    record.note(bundle, "evaluate", judged | {"sha256": read_bundle(v1).sha256})
    capsys.readouterr()
    assert publish(site, bundle, "--dry-run") == 3
    assert "deaf:classifier: deaf: an alert at none of 12 events (evaluate)" in capsys.readouterr().err
    record.note(bundle, "evaluate", {"sha256": read_bundle(v1).sha256, "lake": "lake", "gates": [WELL]})
    assert publish(site, bundle, "--dry-run") == 0, "judged again on the same lake"
    assert len(record.read(bundle.parent, read_bundle(v1).sha256)) == 1


def test_a_record_that_is_damaged_or_cannot_be_written_is_none(tmp_path: Path, v1: bytes) -> None:
    bundle = make(tmp_path / "run", v1, [WELL])
    (bundle.parent / "gates.json").write_text('{"records": 7}')
    sha256 = read_bundle(v1).sha256
    assert record.read(bundle.parent, sha256) == []
    (bundle.parent / "gates.json").unlink()
    (bundle.parent / "gates.json").mkdir()
    record.note(bundle, "evaluate", {"sha256": sha256, "lake": "lake", "gates": [DEAF]})
    assert record.read(bundle.parent, sha256) == [] and not list(bundle.parent.glob("*.part"))


def test_a_parity_gate_that_failed_refuses(site: Site, tmp_path: Path, v1: bytes) -> None:
    bundle = make(tmp_path / "run", v1, [WELL], gate={"passed": False})
    with pytest.raises(Refused, match="parity: what a device computes is what was trained"):
        actions.publish(site.repo, [site.keys], bundle, "stable")
