"""Where a bundle comes from is stated beside it, signed with it, and read by whoever countersigns."""

from __future__ import annotations

import dataclasses
import json
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_contract.bundle import read_bundle
from fieldwatch_trainer.release import actions, ceremony, signature
from fieldwatch_trainer.release.__main__ import main
from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.metadata import File
from fieldwatch_trainer.release.proposal import Proposal, Wish
from fieldwatch_trainer.release.verify import verify

from tests.updates import Site


@pytest.fixture
def run(tmp_path: Path, v1: bytes) -> Path:
    """A run's folder, as training leaves it."""
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "bundle.zip").write_bytes(v1)
    facts: dict[str, Any] = {
        "name": "press",
        "version": "v1",
        "sha256": read_bundle(v1).sha256,
        "device_type": "press",
        "versions": {"fieldwatch": "0.1.0"},
        "seed": 7,
        "data": {"lake": "s3://lake/press", "device_days": 90, "devices": 3, "first": "2026-01-01T00:00:00Z",
                 "last": "2026-01-31T00:00:00Z", "labels": {"fault": 4},
                 "digests": [{"name": "readings/a.parquet", "sha256": "a" * 64},
                             {"name": "readings/t", "sha256": "b" * 64, "log": "00000000000000000007.json"}]},
        "code": "c" * 64,
        "gate": {"rows": 4096, "differing": 0, "passed": True},
        "gates": [{"id": "deaf:detector", "status": "passed", "says": "an alert at 4 of 4 events"}],
        "evaluation": {"detector": {"average_precision": 0.9}},
    }  # fmt: skip
    (folder / "run.json").write_text(json.dumps(facts))
    return folder


def stated(site: Site) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(next((site.repo / "targets/prod/press").glob("*.v1.intoto.json")).read_bytes())
    return found


def test_it_is_a_statement_about_these_bytes_that_other_tools_read(site: Site, run: Path, v1: bytes) -> None:
    done = actions.publish(site.repo, [site.keys], run / "bundle.zip", "stable")
    assert "Trained by urn:fieldwatch:trainer:0.1.0 on 90 days of 3 devices from s3://lake/press" in done.words[1]
    made = stated(site)
    assert made["subject"] == [{"name": "prod/press/v1.zip", "digest": {"sha256": read_bundle(v1).sha256}}]
    assert (made["_type"], made["predicateType"]) == (
        "https://in-toto.io/Statement/v1",
        "https://slsa.dev/provenance/v1",
    )
    inputs = made["predicate"]["buildDefinition"]["resolvedDependencies"][1:]
    assert [(item["name"], item["digest"]["sha256"][0], item.get("annotations")) for item in inputs] == [
        ("readings/a.parquet", "a", None),
        ("readings/t", "b", {"log": "00000000000000000007.json"}),
        ("fieldwatch", "c", None),
    ]
    assert "Input files and tables named by SHA-256: 2; SHA-256 of the code: cccccccccccc." in done.words
    assert site.file(done).read_bytes() == v1, "the bundle's bytes know nothing of it"
    assert verify(str(site.repo), site.root).signers == ["prod-1", "prod-2", "prod-3"]
    assert verify(str(site.repo), site.root).bundles == ["prod/press/v1.zip"]


def test_publishing_again_needs_no_key_of_prod(site: Site, run: Path) -> None:
    (run / "run.json").rename(run / "later.json")
    done = actions.publish(site.repo, [site.keys], run / "bundle.zip", "stable", 1000, accept=["no-gates"])
    assert "published without provenance" in done.words[1]
    (run / "later.json").rename(run / "run.json")
    for path in site.keys.glob("prod-*.pem"):
        path.unlink()
    actions.publish(site.repo, [site.keys], run / "bundle.zip", "stable", 2000)


def test_a_run_of_another_bundle_is_refused(site: Site, run: Path, v2: bytes) -> None:
    (run / "bundle.zip").write_bytes(v2)
    with pytest.raises(ReleaseError, match=r"run\.json beside the bundle is of press/v1: bring its own"):
        actions.publish(site.repo, [site.keys], run / "bundle.zip", "stable")
    (run / "run.json").write_text("no json")
    with pytest.raises(ReleaseError, match=r"run\.json: not what a training run writes"):
        actions.publish(site.repo, [site.keys], run / "bundle.zip", "stable")
    assert Folder(site.repo).load(datetime.now(UTC)).bundles() == []


def test_who_countersigns_reads_data_and_gate(site: Site, run: Path, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "proposal"
    ceremony.sign(site.repo, [site.keys], run / "bundle.zip", file, Wish("stable"))
    assert main(["countersign", str(file), "--keys", str(site.keys), "--dry-run"]) == 3, "all keys have signed"
    one = tmp_path / "one"
    one.mkdir()
    (site.keys / "prod-1.pem").rename(one / "prod-1.pem")
    file.unlink()
    ceremony.sign(site.repo, [site.keys], run / "bundle.zip", file, Wish("stable"))
    capsys.readouterr()
    root = ["--root", str(site.keys / "root.json")]
    assert main(["countersign", str(file), "--keys", str(one), "--dry-run", *root]) == 0
    said = capsys.readouterr().out
    assert "on 90 days of 3 devices from s3://lake/press, 2026-01-01T00:00:00Z to" in said
    assert 'Gate, as the run states it: {"differing": 0, "passed": true, "rows": 4096}.' in said
    held = Proposal.from_bytes(file.read_bytes())
    forged = tuple(
        File(f.path, f.data.replace(b"lake/press", b"lake/evil!")) if "intoto" in f.path else f for f in held.files
    )
    file.write_bytes(dataclasses.replace(held, files=forged).to_bytes())
    assert main(["countersign", str(file), "--keys", str(one), "--yes", *root]) == 3
    assert "prod/press/v1.intoto.json in the proposal does not hold" in capsys.readouterr().err


def test_promotion_takes_it_along(tmp_path: Path, site: Site, run: Path) -> None:
    dev = Site.make(tmp_path / "dev")
    actions.publish(dev.repo, [dev.keys], run / "bundle.zip", "stable")
    actions.promote(site.repo, [site.keys], "press/v1", "stable", str(dev.repo), dev.root, "stable")
    assert stated(site) == stated(dev)
    assert verify(str(site.repo), site.root).bundles == ["prod/press/v1.zip"]


def test_a_run_of_an_older_trainer_states_what_it_knows(site: Site, run: Path) -> None:
    facts = json.loads((run / "run.json").read_text())
    del facts["code"], facts["data"]["digests"]
    (run / "run.json").write_text(json.dumps(facts))
    done = actions.publish(site.repo, [site.keys], run / "bundle.zip", "stable")
    assert "Input files and tables named by SHA-256: 0; SHA-256 of the code: unknown." in done.words
    assert verify(str(site.repo), site.root).bundles == ["prod/press/v1.zip"]


# ---- the model signature ---------------------------------------------------------------------------------------


def audit(bundle: Path, signature: Path, public: Path) -> tuple[int, str]:
    """What an auditor runs who has three files and none of our programs."""
    program = Path(sys.executable).with_name("model_signing")
    command = [program, "verify", "key", bundle, "--signature", signature, "--public_key", public]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("encrypted", [False, True])
def test_an_auditor_verifies_with_the_public_key_alone(
    site: Site, run: Path, tmp_path: Path, v1: bytes, v2: bytes, monkeypatch: pytest.MonkeyPatch, encrypted: bool
) -> None:
    monkeypatch.setenv("FIELDWATCH_RELEASE_PASSPHRASE", "correct horse")
    desk = tmp_path / "desk"
    assert main(["keys", "new", "auditors", "--model", "--keys", str(desk), *["--encrypt"] * encrypted]) == 0
    assert (b"ENCRYPTED" in (desk / "auditors.key").read_bytes()) is encrypted
    command = ["publish", str(run / "bundle.zip"), "--channel", "stable", "--repo", str(site.repo)]
    assert main([*command, "--model-key", str(desk / "auditors.key")]) == 0
    assert site.file(actions.find(site.repo, "press/v1")).read_bytes() == v1, "the bundle's bytes stay the same"
    assert verify(str(site.repo), site.root).bundles == ["prod/press/v1.zip"]

    room = tmp_path / "auditor"
    room.mkdir()
    (room / "bundle.zip").write_bytes(v1)
    shutil.copy(desk / "auditors.pub", room / "auditors.pub")
    shutil.copy(next((site.repo / "targets/prod/press").glob("*.v1.oms.json")), room / "v1.oms.json")
    files = (room / "bundle.zip", room / "v1.oms.json", room / "auditors.pub")
    assert audit(*files) == (0, "Verification succeeded\n")
    (room / "bundle.zip").write_bytes(v2)
    assert audit(*files)[0] == 1, "another bundle"
    (room / "bundle.zip").write_bytes(v1)
    assert main(["keys", "new", "others", "--model", "--keys", str(room)]) == 0
    assert audit(*files[:2], room / "others.pub")[0] == 1, "another key"


def test_a_model_signature_of_another_bundle_is_neither_countersigned_nor_verified(
    site: Site, run: Path, tmp_path: Path, v2: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    desk, file, one = tmp_path / "desk", tmp_path / "proposal", tmp_path / "one"
    signature.new_key(desk, "auditors")
    one.mkdir()
    (site.keys / "prod-1.pem").rename(one / "prod-1.pem")
    key = desk / "auditors.key"
    ceremony.sign(site.repo, [site.keys], run / "bundle.zip", file, Wish("stable"), model_key=key)
    root = ["--root", str(site.keys / "root.json")]
    assert main(["countersign", str(file), "--keys", str(one), "--dry-run", *root]) == 0
    assert "Model signature for auditors, by the key whose public half has SHA-256" in capsys.readouterr().out
    other = signature.sign(v2, "prod/press/v2.zip", key)
    with pytest.raises(ReleaseError, match=r"prod/press/v1\.oms\.json speaks of another bundle"):
        signature.read(other, "prod/press/v1.zip", read_bundle((run / "bundle.zip").read_bytes()).sha256)
    for rubbish in (b"", b"{}", b"[]", b'{"dsseEnvelope": {"payload": "e30="}}'):
        with pytest.raises(ReleaseError, match=r"v1\.oms\.json is no model signature"):
            signature.read(rubbish, "prod/press/v1.zip", "0" * 64)
    with pytest.raises(ReleaseError, match=r"signs no model .* 'keys new NAME --model' makes a key that does"):
        signature.sign(v2, "prod/press/v2.zip", site.keys / "root-1.pem")
    with pytest.raises(ReleaseError, match="cannot be read: No such file"):
        signature.sign(v2, "prod/press/v2.zip", tmp_path / "none.key")
    with pytest.raises(ReleaseError, match=r"auditors\.key exists: keys are never replaced"):
        signature.new_key(desk, "auditors")
