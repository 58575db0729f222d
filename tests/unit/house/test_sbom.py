"""What the frozen agent consists of: nothing left out, nothing stale, valid, and no licence that forbids it."""

from __future__ import annotations

import doctest
import json
import shutil
import struct
import sys
from importlib import metadata
from pathlib import Path

import pytest
from fieldwatch_cloud import affected
from fieldwatch_contract.events import Components

from tests.scripts import script

payload, licences, parts, sbom = script("payload"), script("licences"), script("parts"), script("sbom")
Part, PartError = sbom.Part, sbom.PartError
collect = sbom.collect

linux = pytest.mark.skipif(sys.platform != "linux", reason="the native files of Linux wheels")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out as the frozen agent's, with real native files of this environment's wheels."""
    made = tmp_path_factory.mktemp("dist") / payload.NAME
    for name, pattern in {
        "numpy": "openblas", "cryptography": "_rust", "zstandard": "backend_c.", "onnxruntime": "pybind11_state"
    }.items():  # fmt: skip
        (file,) = [each for each in metadata.files(name) or () if pattern in each.name and ".so" in each.name]
        target = made / "_internal" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(file.locate(), target)
    (made / "_internal" / "alias.so").symlink_to(f"numpy.libs/{next((made / '_internal/numpy.libs').iterdir()).name}")
    (made / "_internal" / "notes.so").write_text("a text is no native file, whatever it is called")
    (made / payload.NAME).write_bytes(b"\x7fELF the bootloader")
    return made


@pytest.fixture(scope="module")
def found(folder: Path) -> list[Part]:
    made: list[Part] = collect(folder, {"fieldwatch_agent", "json", "numpy", "paho", "pyi_rth_inspect", "tuf"})
    return made


def by_name(found: list[Part]) -> dict[str, list[Part]]:
    named: dict[str, list[Part]] = {}
    for part in sbom.flat(found):
        named.setdefault(part.name, []).append(part)
    return named


@linux
def test_every_native_file_and_module_has_its_component(found: list[Part], folder: Path) -> None:
    assert {part.name for part in found} == {
        "numpy", "cryptography", "zstandard", "onnxruntime", "paho-mqtt", "tuf", "pyinstaller", "cpython"
    }  # fmt: skip
    named = by_name(found)
    import zstandard

    assert named["onnxruntime"][0].version == metadata.version("onnxruntime")
    assert [part.version for part in named["zstd"]] == [".".join(map(str, zstandard.ZSTD_VERSION))]
    (openblas,) = named["openblas"]
    assert openblas.version.startswith("0.3.") and openblas.files[0][0].startswith("_internal/numpy.libs/")
    (openssl,) = [part for part in named["openssl"] if not part.purl.startswith("pkg:cargo/")]
    from cryptography.hazmat.backends.openssl import backend

    assert openssl.version in backend.openssl_version_text(), "the one that is linked in, not this Python's"
    assert sorted(path for part in sbom.flat(found) for path, _ in part.files) == parts.natives(folder)
    assert len(parts.natives(folder)) == 5, "each once, links and texts not"


@linux
def test_the_document_is_valid_and_the_same_each_time(found: list[Part], folder: Path) -> None:
    text = sbom.document(found)
    assert sbom.document(list(reversed(found))) == text
    document = json.loads(text)
    assert document["specVersion"] == "1.6" and "timestamp" not in document["metadata"]
    assert sbom.differences(text, folder) == []
    with pytest.raises(PartError, match=r"does not satisfy CycloneDX 1\.6"):
        sbom.document([Part("x", "1", "pkg:generic/x@1", files=(("lib.so", "no digest"),))])


@linux
def test_a_file_that_was_signed_has_its_new_digest_in_the_document(found: list[Part], folder: Path) -> None:
    text, file = sbom.document(found), folder / payload.NAME
    before = parts.sha256(file)
    file.write_bytes(file.read_bytes() + b" and a signature")
    signed = sbom.signed(text, payload.NAME, before, parts.sha256(file))
    assert sbom.differences(text, folder) != [] == sbom.differences(signed, folder)
    assert json.loads(signed)["serialNumber"] != json.loads(text)["serialNumber"]
    with pytest.raises(PartError, match=f"{payload.NAME}: the SBOM does not name these bytes"):
        sbom.signed(signed, payload.NAME, before, before)
    file.write_bytes(file.read_bytes().removesuffix(b" and a signature"))


@linux
def test_the_agent_tells_what_is_in_the_folder(found: list[Part]) -> None:
    """All of it but Rust crates, some of which have the names of native libraries."""
    told = Components.model_validate_json(sbom.told(found))
    assert told.complete
    assert told.versions["onnxruntime"] == [metadata.version("onnxruntime")]
    assert told.versions["fieldwatch"] == [payload.version()]
    named = by_name(found)
    crates = {name for name, all_of in named.items() if all(part.purl.startswith("pkg:cargo/") for part in all_of)}
    assert crates and set(told.versions) == set(named) - crates | {"fieldwatch"}
    assert told.versions["openssl"] == [part.version for part in named["openssl"] if "pkg:cargo/" not in part.purl]


@linux
def test_what_is_added_gone_or_changed_is_told(found: list[Part], folder: Path, tmp_path: Path) -> None:
    text = sbom.document(found)
    shutil.copytree(folder, tmp_path / "copy", symlinks=True)
    inside = tmp_path / "copy" / "_internal"
    (inside / "new").write_bytes(b"\x7fELF without an ending")
    next(inside.glob("zstandard/*.so")).unlink()
    with next(inside.glob("numpy.libs/*")).open("ab") as file:
        file.write(b"x")
    told = sorted(line.split(": ")[1] for line in sbom.differences(text, tmp_path / "copy"))
    assert told == ["in the SBOM, not in the folder", "in the folder, not in the SBOM", "other bytes than in the SBOM"]


@linux
@pytest.mark.parametrize("place", ["libunknown.so.1", "libssl.so.3", "numpy.libs/libmystery-1234.so", "deep/tool"])
def test_a_native_file_of_unknown_origin_stops_it_by_name(place: str, tmp_path: Path) -> None:
    """``libssl.so.3``: the name of a system library with other bytes."""
    path = tmp_path / "_internal" / place
    path.parent.mkdir(parents=True)
    path.write_bytes(b"\x7fELF")
    with pytest.raises(PartError, match=f"_internal/{place}: "):
        collect(tmp_path, set())


def test_a_module_of_unknown_origin_stops_it_by_name(tmp_path: Path) -> None:
    with pytest.raises(PartError, match="module crept_in"):
        collect(tmp_path, {"crept_in"})


def test_a_distribution_that_is_not_here_stops_it_by_name(tmp_path: Path) -> None:
    (tmp_path / "_internal" / "from_elsewhere-1.0.dist-info").mkdir(parents=True)
    with pytest.raises(PartError, match="from_elsewhere: its metadata"):
        collect(tmp_path, set())


@linux
@pytest.mark.parametrize(
    "place", ["pytest/__init__.py", "pytest.py", f"pytest-{pytest.__version__}.dist-info/METADATA"]
)
def test_a_package_that_the_lock_file_does_not_name_stops_it(place: str, tmp_path: Path) -> None:
    """Whichever way it crept in: as a folder, a file, or metadata alone."""
    path = tmp_path / "_internal" / place
    path.parent.mkdir(parents=True)
    path.touch()
    lock = sbom.LOCK.read_text(encoding="utf-8")
    (told,) = sbom.strangers(collect(tmp_path, {"paho", "json"}), lock)
    assert told.startswith(f"pytest {pytest.__version__}: in the frozen agent, but not in requirements/agent.txt; ")
    assert "exclude its modules" in told and "make lock" in told
    (told,) = sbom.strangers(collect(tmp_path / "empty", {"pytest"}), lock)
    assert told.startswith("pytest "), "as a module within the program"


def test_the_lock_file_s_versions_hold() -> None:
    lock = "Some_Lib[extra]==1.0 ; python_version < '3.12' \\\n    --hash=x\nsome-lib==2.0 \\\n    --hash=y==9\n"

    def told(version: str, purl: str = "pkg:pypi/some-lib") -> list[str]:
        found: list[str] = sbom.strangers([Part("some-lib", version, f"{purl}@{version}")], lock)
        return found

    assert told("1.0") == told("2.0") == []
    assert told("3.0") == ["some-lib 3.0: requirements/agent.txt pins 1.0 or 2.0; run make dev, then freeze again"]
    assert told("3.0", "pkg:generic/some-lib") == [], "what is no Python package has no pin"


def test_what_is_installed_is_what_is_pinned(found: list[Part]) -> None:
    """Left out where other versions are meant to be: ``make test-lowest``, ``matrix.yml``."""
    assert sbom.strangers(found, sbom.LOCK.read_text(encoding="utf-8")) == []


@linux
@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="dpkg-query says whose a system library is")
def test_a_library_of_the_system_has_the_name_and_version_of_its_source(tmp_path: Path) -> None:
    library = next((path for path in Path("/usr/lib").glob("*-linux-gnu/libssl.so.3")), None)
    if library is None:
        pytest.skip("this Debian has no OpenSSL 3")
    (tmp_path / "_internal").mkdir()
    shutil.copy(library, tmp_path / "_internal" / "libssl.so.3")
    (part,) = collect(tmp_path, set())
    assert (part.name, part.licence, part.version[:2]) == ("openssl", "Apache-2.0", "3.")
    assert part.purl.startswith("pkg:deb/debian/libssl3") and "~" not in part.version


def resource(*numbers: int) -> bytes:
    """A library for Windows, as far as its version is concerned: VS_FIXEDFILEINFO behind its key."""
    key = b"\0\0" + "VS_VERSION_INFO".encode("utf-16-le") + b"\0\0\0\0"
    high, low = numbers[0] << 16 | numbers[1], numbers[2] << 16 | numbers[3]
    return b"MZ" + key + struct.pack("<4I", 0xFEEF04BD, 0x10000, high, low) + bytes(36)


def test_on_windows_a_library_is_whose_bytes_lie_beside_the_interpreter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And Microsoft's runtime may be the system's; where another program left one, it stops the build."""
    python, system, frozen = (tmp_path / name for name in ("python", "Windows", "frozen"))
    for folder in (python / "DLLs", system / "System32", frozen):
        folder.mkdir(parents=True)
    monkeypatch.setattr(sys, "base_prefix", str(python))
    monkeypatch.setenv("SYSTEMROOT", str(system))

    def owner(name: str, content: bytes, beside: Path) -> Part | None:
        for folder in (beside, frozen):
            (folder / name).write_bytes(content)
        found: Part | None = parts._of_windows(frozen / name)
        return found

    for each in (*parts.VENDORED, *parts.BESIDE_PYTHON):
        assert affected.parse(each.name).name == each.name, "the centre can be asked for it"
    openssl = owner("libssl-3.dll", resource(3, 0, 13, 0), python / "DLLs")
    assert openssl == owner("libcrypto-3.dll", resource(3, 0, 13, 0), python / "DLLs"), "one component, two files"
    assert openssl is not None and (openssl.name, openssl.version) == ("openssl", "3.0.13")
    own = owner("_ssl.pyd", b"MZ", python / "DLLs")
    assert own is not None and own.name == parts.PYTHON
    runtime = owner("VCRUNTIME140_1.dll", resource(14, 38, 33126, 1), system / "System32")
    assert runtime is not None and runtime.version == "14.38.33126.1" and not sbom.objections([runtime])
    wine = owner("msvcp140.dll", resource(14, 40, 0, 0) + b"Wine builtin DLL", system / "System32")
    assert wine is None, "it has the name and the place of Microsoft's"
    assert owner("sqlite3.dll", resource(3, 45, 1, 0), system / "System32") is None, "not Python's"
    with pytest.raises(parts.PartError, match=r"libffi-8\.dll: its version is not where"):
        owner("libffi-8.dll", b"MZ of another build", python / "DLLs")
    (frozen / "libssl-3.dll").write_bytes(resource(1, 1, 1, 0))
    assert parts._of_windows(frozen / "libssl-3.dll") is None, "the same name with other bytes"


@linux
def test_the_report_has_each_licence_and_its_text(found: list[Part]) -> None:
    assert sbom.objections(found) == []
    text = sbom.report(found)
    assert "paho-mqtt " in text and ": EPL-2.0 OR BSD-3-Clause\n" in text
    assert "Redistribution and use in source and binary forms" in text


def test_the_examples_hold() -> None:
    outcome = doctest.testmod(licences)
    assert outcome.attempted > 0 and outcome.failed == 0


@pytest.mark.parametrize(
    ("licence", "file", "allowed"),
    [
        ("MIT", False, True), ("GPL-3.0-only", False, False), ("", False, False), ("ask us", False, False),
        ("GPL-3.0-only OR MIT", False, True), ("GPL-3.0-only AND MIT", False, False),
        ("(MIT OR GPL-2.0-only) AND Zlib", False, True), ("GPL-2.0-or-later WITH Bootloader-exception", False, True),
        ("GPL-2.0-or-later", False, False), ("LGPL-2.1-or-later", False, False), ("LGPL-2.1-or-later", True, True),
        ("MIT AND LicenseRef-unheard-of", False, False),
    ],
)  # fmt: skip
def test_which_licences_may_be_shipped(licence: str, file: bool, allowed: bool) -> None:
    files = (("lib.so", "0" * 64),) if file else ()
    inner = Part("inner", "1", "pkg:generic/inner@1", licence, files)
    outer = Part("outer", "1", "pkg:generic/outer@1", "MIT", inside=(inner,))
    told = sbom.objections([outer])
    assert bool(told) is not allowed
    assert all(line.startswith("inner 1: ") for line in told)
