"""Bundles: the same bytes from the same input, and nothing but a whole one is accepted."""

from __future__ import annotations

import io
import json
import re
import struct
import zipfile

import fieldwatch_contract.bundle
import numpy as np
import pytest
from fieldwatch_contract.bundle import (
    Baseline,
    Bundle,
    BundleBroken,
    BundleError,
    BundleFailed,
    BundleMisfit,
    Manifest,
    ModelSpec,
    check_fit,
    read_bundle,
    write_arrays,
    write_bundle,
)
from fieldwatch_contract.clock import SECOND
from fieldwatch_contract.features import KERNEL, FeatureSpec
from hypothesis import given, settings
from hypothesis import strategies as st


def manifest(**changes: object) -> Manifest:
    fields: dict[str, object] = {
        "name": "press", "version": "7", "device_type": "press", "period_s": 60, "sensors": ["a", "b"],
        "window": 3, "min_rows": 1,
        "models": [ModelSpec(name="detector", kind="detector", file="models/d.onnx", input="rows", threshold=1)],
        "baseline": Baseline(mean=[0, 0], scale=[1, 1], low=[-1, -1], high=[1, 1]),
        "files": {"models/d.onnx": ""},
    }  # fmt: skip
    return Manifest.model_validate(fields | changes)


FILES = {
    "models/d.onnx": bytes(range(256)) * 8,
    "golden.npz": write_arrays({"rows": np.arange(6.0).reshape(3, 2), "score.detector": np.ones(1, np.float32)}),
}
DATA = write_bundle(manifest(), FILES)


def rewrite(edit) -> bytes:
    """Return the bundle's zip with its members (name → bytes) edited."""
    with zipfile.ZipFile(io.BytesIO(DATA)) as archive:
        members = {info.filename: archive.read(info) for info in archive.infolist()}
    edit(members)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return out.getvalue()


def test_what_is_written_is_read(tmp_path):
    path = tmp_path / "bundle.zip"
    path.write_bytes(DATA)
    bundle = read_bundle(path)
    assert bundle.files == FILES
    assert bundle.manifest.model_dump(exclude={"files"}) == manifest().model_dump(exclude={"files"})
    assert (bundle.ref.name, bundle.ref.version, bundle.ref.sha256) == ("press", "7", bundle.sha256)
    assert bundle.arrays("golden.npz")["rows"].tolist() == [[0, 1], [2, 3], [4, 5]]
    assert read_bundle(DATA, bundle.sha256) == bundle


def test_the_same_input_gives_the_same_bytes():
    assert write_bundle(manifest(), dict(reversed(FILES.items()))) == DATA
    arrays = {"a": np.arange(3), "b": np.ones((2, 2), order="F")}
    assert write_arrays(arrays) == write_arrays(dict(reversed(arrays.items())))


@settings(max_examples=400)
@given(st.integers(0, len(DATA) - 1), st.integers(1, 255))
def test_a_flipped_byte_is_refused(place, change):
    """With the signed hash always; without it, unless it changes nothing that is read (a time stamp in the zip)."""
    damaged = bytearray(DATA)
    damaged[place] ^= change
    good = read_bundle(DATA)
    with pytest.raises(BundleBroken, match="sha256"):
        read_bundle(bytes(damaged), good.sha256)
    try:
        bundle = read_bundle(bytes(damaged))
    except BundleError:
        return
    assert (bundle.manifest, bundle.files) == (good.manifest, good.files)


@pytest.mark.parametrize("length", [0, 1, 100, len(DATA) // 2, len(DATA) - 1])
def test_a_truncated_file_is_refused(length):
    with pytest.raises(BundleBroken, match="not a readable zip"):
        read_bundle(DATA[:length])


@pytest.mark.parametrize("data", [b"", b"PK", b"hello " * 100, b"<html>404</html>"])
def test_something_else_is_refused(data):
    with pytest.raises(BundleBroken, match="not a readable zip"):
        read_bundle(data)


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda m: m.pop("manifest.json"), "no manifest.json"),
        (lambda m: m.pop("models/d.onnx"), "models/d.onnx is missing"),
        (lambda m: m.update({"models/d.onnx": b"other"}), "models/d.onnx does not have the hash"),
        (lambda m: m.update({"extra.txt": b""}), "extra.txt is in the zip but not in the manifest"),
        (lambda m: m.update({"../../etc/x": b""}), "is in the zip but not in the manifest"),
        (lambda m: m.update({"manifest.json": b"{"}), "manifest.json"),
        (lambda m: m.update({"manifest.json": b"\xff\xfe"}), "manifest.json"),
        (lambda m: m.update({"manifest.json": b"{}"}), "manifest.json: name: Field required"),
    ],
)
def test_members_that_do_not_fit_are_refused_by_name(edit, message):
    with pytest.raises(BundleBroken, match=re.escape(message)):
        read_bundle(rewrite(edit))


def test_a_member_twice_is_refused():
    out = io.BytesIO(DATA)
    with pytest.warns(UserWarning, match="Duplicate"), zipfile.ZipFile(out, "a") as archive:
        archive.writestr("models/d.onnx", FILES["models/d.onnx"])
    with pytest.raises(BundleBroken, match=r"models/d\.onnx is in the zip twice"):
        read_bundle(out.getvalue())


@pytest.mark.parametrize(
    ("kernel", "remedy"), [(KERNEL + 1, "update the program"), (KERNEL - 1, "train the bundle anew")]
)
def test_another_kernel_is_refused_with_the_remedy_that_fits(kernel, remedy):
    with pytest.raises(BundleMisfit, match=f"kernel {kernel}, this program has {KERNEL}: {remedy}"):
        read_bundle(write_bundle(manifest(kernel=kernel), FILES))


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"format": 2}, BundleMisfit),
        ({"window_kind": "tumbling"}, BundleMisfit),
        ({"format": 2, "window_kind": "tumbling"}, BundleMisfit),
        ({"window": 0}, BundleBroken),
        ({"window": 0, "format": 2}, BundleBroken),
    ],
)
def test_what_a_newer_program_may_say_is_no_damage(change, cause):
    def edit(members):
        members["manifest.json"] = json.dumps(json.loads(members["manifest.json"]) | change).encode()

    with pytest.raises(cause) as caught:
        read_bundle(rewrite(edit))
    assert caught.value.remedy == ("update the program" if cause is BundleMisfit else "")


def test_a_failed_allocation_says_nothing_of_the_bundle(monkeypatch):
    def unpack(data):
        raise MemoryError

    monkeypatch.setattr(fieldwatch_contract.bundle, "_members", unpack)
    with pytest.raises(BundleFailed, match="not enough memory"):
        read_bundle(DATA)


@pytest.mark.parametrize(
    ("device_type", "period", "says"),
    [
        ("press", 60 * SECOND, ""),
        ("press", None, ""),
        ("mill", 60 * SECOND, "trained for devices of type press, this one is mill: correct"),
        ("press", 6 * SECOND, r"made for a period of 60 s, \[log\] period is 6 s: correct"),
    ],
)
def test_what_does_not_go_with_a_device(device_type, period, says):
    own = manifest(device_type="press", period_s=60.0)
    if not says:
        check_fit(own, device_type, period)
        return
    with pytest.raises(BundleMisfit, match=says):
        check_fit(own, device_type, period)


def test_a_bomb_is_refused_by_what_comes_out_not_by_what_it_claims(monkeypatch):
    monkeypatch.setattr(fieldwatch_contract.bundle, "MAX_UNPACKED", 1 << 20)
    big = rewrite(lambda m: m.update({"models/d.onnx": bytes(8 << 20)}))
    assert len(big) < 1 << 16
    with pytest.raises(BundleBroken, match="unpacks to more than 1 MiB"):
        read_bundle(big)
    many = rewrite(lambda m: m.update({f"f{i}": bytes(300 << 10) for i in range(4)}))
    with pytest.raises(BundleBroken, match="unpacks to more than 1 MiB"):
        read_bundle(many)
    liar = big.replace(struct.pack("<I", 8 << 20), struct.pack("<I", 10))
    assert liar != big
    with pytest.raises(BundleBroken):
        read_bundle(liar)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sensors": ["a", "a"]}, "sensor names repeat"),
        ({"sensors": ["a"]}, "baseline.mean must have one number for each of 1 sensors"),
        ({"window": 0}, "window"),
        ({"period_s": 0}, "period_s"),
        ({"name": "../press"}, "name"),
        ({"version": "1/2"}, "version"),
        ({"surprise": 1}, "surprise"),
        ({"files": {}}, "models/d.onnx is not among files"),
    ],
)
def test_a_manifest_that_contradicts_itself_is_refused(changes, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        manifest(**changes)


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"lookback": 4}, "looks 4 rows back, the window is 3"),
        ({"input": "features"}, "takes features but the manifest has no feature spec"),
        ({"range": {"model": "other", "limit": 1}}, "range names unknown model other"),
        ({"name": "Detector!"}, "name"),
    ],
)
def test_a_model_that_does_not_fit_the_manifest_is_refused(model, message):
    spec = {"name": "detector", "kind": "detector", "file": "models/d.onnx", "input": "rows", "threshold": 1}
    with pytest.raises(ValueError, match=re.escape(message)):
        manifest(models=[spec | model])


def test_a_feature_model_needs_a_window_as_long_as_its_features():
    spec = {"name": "c", "kind": "classifier", "file": "models/d.onnx", "input": "features", "threshold": 1}
    with pytest.raises(ValueError, match="looks 60 rows back"):
        manifest(models=[spec], features=FeatureSpec())
    assert manifest(models=[spec], features=FeatureSpec(windows=(3,))).models[0].name == "c"


def test_period_is_whole_microseconds():
    assert manifest(period_s=0.1).period == 100_000


def test_pickles_are_never_loaded():
    out = io.BytesIO()
    np.savez(out, evil=np.array([object()], dtype=object))
    with pytest.raises(BundleBroken, match="pickle"):
        Bundle(manifest(), {"x.npz": out.getvalue()}, "").arrays("x.npz")
