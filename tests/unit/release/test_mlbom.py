"""The ML-BOM beside a bundle: valid, the same each time, and of this very bundle or refused."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from fieldwatch_contract.bundle import Bundle, read_bundle
from fieldwatch_trainer.release import actions, ceremony, mlbom
from fieldwatch_trainer.release.__main__ import main
from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.metadata import File
from fieldwatch_trainer.release.proposal import Proposal, Wish
from fieldwatch_trainer.release.verify import verify

from tests.updates import Site

TARGET = "prod/press/v1.zip"
RUN: dict[str, Any] = {
    "versions": {"python": "3.11.7", "feature_kernel": "2", "numpy": "2.4.6", "lightgbm": "4.7.0"},
    "code": "c" * 64,
    "seed": 7,
    "models": {"detector": {"facts": {"method": "each sensor from the others"}}},
    "data": {
        "lake": "s3://lake/press",
        "digests": [{"name": "readings/a.parquet", "sha256": "a" * 64},
                    {"name": "readings/t", "sha256": "b" * 64, "log": "00000000000000000007.json"}],
    },
    "evaluation": {
        "scope": "time held back",
        "models": {
            "detector": {"event_recall": 0.75, "alert_precision": None, "intervals": {"event_recall": [0.5, 1.0]}}
        },
    },
}  # fmt: skip


@pytest.fixture(scope="module")
def bundle(v1: bytes) -> Bundle:
    return read_bundle(v1)


def named(made: dict[str, Any]) -> dict[str, str]:
    return {one["name"]: one["value"] for one in made["properties"]}


def test_it_satisfies_the_schema_and_is_the_same_each_time(bundle: Bundle) -> None:
    validator = JsonStrictValidator(SchemaVersion.V1_6)
    for run in (RUN, {}):
        text = mlbom.document(TARGET, bundle, run)
        assert validator.validate_str(text.decode()) is None
        assert mlbom.document(TARGET, bundle, json.loads(json.dumps(run))) == text
    assert validator.validate_str(text.decode().replace('"machine-learning-model"', '"model"')) is not None


def test_models_formats_data_libraries_and_figures_are_named(bundle: Bundle) -> None:
    made = json.loads(mlbom.document(TARGET, bundle, RUN))
    whole = made["metadata"]["component"]
    assert (whole["type"], whole["name"], whole["version"]) == ("machine-learning-model", "press", "v1")
    assert whole["hashes"] == [{"alg": "SHA-256", "content": bundle.sha256}]
    members = {one["name"]: one["hashes"][0]["content"] for one in whole["components"]}
    assert members == bundle.manifest.files, "every member, with the digest that the bundle states"
    (model,) = [one for one in whole["components"] if one["type"] == "machine-learning-model"]
    assert model["name"] == bundle.manifest.models[0].file
    assert named(model)["fieldwatch:format"] == "ONNX" and "ai.onnx " in named(model)["fieldwatch:format:opsets"]
    parameters = model["modelCard"]["modelParameters"]
    assert parameters["outputs"][0] == {"format": "float32, score"}
    data = {one["bom-ref"]: one["hashes"][0]["content"] for one in made["components"] if one["type"] == "data"}
    assert data == {"data:readings/a.parquet": "a" * 64, "data:readings/t": "b" * 64}
    assert [one["ref"] for one in parameters["datasets"]] == list(data)
    assert {one.get("purl") for one in made["components"]} - {None} == {
        "pkg:generic/cpython@3.11.7", "pkg:pypi/lightgbm@4.7.0", "pkg:pypi/numpy@2.4.6"
    }  # fmt: skip
    assert model["modelCard"]["quantitativeAnalysis"]["performanceMetrics"] == [
        {"type": "event_recall", "value": "0.75", "slice": "time held back",
         "confidenceInterval": {"lowerBound": "0.5", "upperBound": "1.0"}}
    ]  # fmt: skip
    assert "Not a safety function" in model["modelCard"]["considerations"]["useCases"][0]


def test_without_a_run_it_says_that_the_training_is_not_known(bundle: Bundle) -> None:
    text = mlbom.document(TARGET, bundle, {})
    assert json.loads(text)["compositions"][1]["aggregate"] == "unknown"
    assert mlbom.read(text, TARGET, bundle).endswith("of the training nothing is known.")
    assert "2 files and tables of data, 2 libraries" in mlbom.read(mlbom.document(TARGET, bundle, RUN), TARGET, bundle)


def _member(made: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = made["metadata"]["component"]["components"][0]
    return found


def _forget(made: dict[str, Any]) -> None:
    made["metadata"]["component"]["components"].pop()


SPOILT: dict[str, Any] = {
    "another digest": lambda made: _member(made)["hashes"][0].update(content="0" * 64),
    "a member less": _forget,
    "a model that is told as a file": lambda made: _member(made).update(type="file"),
    "a member twice": lambda made: made["metadata"]["component"]["components"].append(_member(made)),
    "another version": lambda made: made["metadata"]["component"].update(version="v2"),
    "no components": lambda made: made.pop("components"),
    "another format": lambda made: made.update(specVersion="1.4"),
}


@pytest.mark.parametrize("how", SPOILT)
def test_one_that_is_not_of_these_bytes_is_refused(how: str, bundle: Bundle) -> None:
    made = json.loads(mlbom.document(TARGET, bundle, RUN))
    SPOILT[how](made)
    with pytest.raises(ReleaseError, match=r"prod/press/v1\.cdx\.json (speaks of another|does not name|is no ML-BOM)"):
        mlbom.read(json.dumps(made).encode(), TARGET, bundle)


def test_it_is_published_verified_and_promoted_with_the_bundle(
    site: Site, tmp_path: Path, v1: bytes, bundle: Bundle, capsys: pytest.CaptureFixture[str]
) -> None:
    run = tmp_path / "run"
    run.mkdir()
    (run / "bundle.zip").write_bytes(v1)
    (run / "run.json").write_text(json.dumps(RUN | {"sha256": bundle.sha256, "gate": {"passed": True}, "gates": []}))
    dev = Site.make(tmp_path / "dev")
    done = actions.publish(dev.repo, [dev.keys], run / "bundle.zip", "stable", accept=["no-gates"])
    assert any(word.startswith("ML-BOM (CycloneDX 1.6): ") for word in done.words)
    assert dev.file(done).read_bytes() == v1, "the bundle's bytes know nothing of it"
    actions.promote(site.repo, [site.keys], "press/v1", "stable", str(dev.repo), dev.root, "stable")
    (at_home,) = (dev.repo / "targets/prod/press").glob("*.v1.cdx.json")
    (taken,) = (site.repo / "targets/prod/press").glob("*.v1.cdx.json")
    assert taken.read_bytes() == at_home.read_bytes() != mlbom.document(TARGET, bundle, {})
    found = verify(str(site.repo), site.root)
    assert (found.beside, found.no_bom) == (["prod/press/v1.cdx.json", "prod/press/v1.intoto.json"], [])
    assert main(["verify", str(site.repo)]) == 0
    assert "of their very bytes: prod/press/v1.cdx.json, " in capsys.readouterr().out


def test_verify_refuses_one_that_was_signed_and_is_wrong(
    site: Site, v1: bytes, v2: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    wrong = mlbom.document(TARGET, read_bundle(v2), {})
    with monkeypatch.context() as tool:  # one that looks at nothing
        tool.setattr(mlbom, "document", lambda *_: wrong)
        tool.setattr(mlbom, "read", lambda *_: "")
        site.publish(v1)
        assert verify(str(site.repo), site.root).beside == ["prod/press/v1.cdx.json"]
    with pytest.raises(ReleaseError, match=r"prod/press/v1\.cdx\.json speaks of another bundle than"):
        verify(str(site.repo), site.root)


def test_one_of_another_bundle_is_not_countersigned(
    site: Site, tmp_path: Path, v1: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "bundle.zip").write_bytes(v1)
    file, one = tmp_path / "proposal", tmp_path / "one"
    one.mkdir()
    (site.keys / "prod-1.pem").rename(one / "prod-1.pem")
    ceremony.sign(site.repo, [site.keys], tmp_path / "bundle.zip", file, Wish("stable"), accept=["no-gates"])
    countersign = ["countersign", str(file), "--keys", str(one), "--root", str(site.keys / "root.json")]
    assert main([*countersign, "--dry-run"]) == 0
    assert "ML-BOM (CycloneDX 1.6): " in capsys.readouterr().out
    held = Proposal.from_bytes(file.read_bytes())
    forged = [File(f.path, f.data.replace(b'"press"', b'"pross"')) if "cdx" in f.path else f for f in held.files]
    file.write_bytes(dataclasses.replace(held, files=tuple(forged)).to_bytes())
    assert main([*countersign, "--yes"]) == 3
    assert "prod/press/v1.cdx.json in the proposal does not hold" in capsys.readouterr().err
