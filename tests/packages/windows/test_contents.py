"""What the Windows package says of itself holds: every native file is named, the list is valid, nothing is Wine's.

Needs no PC: it reads what ``make package`` built. ``make test-windows`` runs it too.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from fieldwatch_cloud import affected
from fieldwatch_contract.events import Components
from packaging.version import Version

from tests.packages.machine import ROOT
from tests.scripts import script

pytestmark = pytest.mark.timeout(1800)
windows, payload, sbom, parts = script("windows"), script("payload"), script("sbom"), script("parts")
DIST = ROOT / "dist" / "windows"
FROZEN = DIST / payload.NAME
PARTS = ROOT / "build" / "windows" / "parts"


@pytest.fixture(scope="session")
def installed(package: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that the package puts on a PC."""
    folder = tmp_path_factory.mktemp("msi")
    subprocess.run(["msiextract", "-C", folder, package], check=True, stdout=subprocess.DEVNULL)
    assert (folder / "Fieldwatch" / f"{payload.NAME}.exe").is_file()
    return folder / "Fieldwatch"


def test_the_package_says_what_it_consists_of(installed: Path) -> None:
    text = (installed / payload.SBOM).read_text(encoding="utf-8")
    assert sbom.differences(text, installed) == []
    assert sbom.JsonStrictValidator(sbom.SchemaVersion.V1_6).validate_str(text) is None
    there = parts.natives(installed)
    assert {"fieldwatch-agent.exe", "_internal/libcrypto-3.dll", "_internal/VCRUNTIME140.dll"} <= set(there)
    print(f"\n{len(there)} native files")
    components = [each for each in _flat(json.loads(text)) if each["type"] == "library"]
    assert all(each["version"] and (each.get("licenses") or "pkg:cargo" in each["purl"]) for each in components)
    assert (installed / payload.LICENCES).stat().st_size > 100_000
    assert "Microsoft Distributable Code" in (installed / payload.LICENCES).read_text(encoding="utf-8")
    assert (installed / "LICENSE").read_bytes() == (ROOT / "LICENSE").read_bytes()


def _flat(node: dict[str, object]) -> list[dict[str, str]]:
    found = []
    inner = node.get("components", [])
    for each in inner if isinstance(inner, list) else []:
        found += [each, *_flat(each)]
    return found


def test_the_agent_tells_the_centre_what_is_in_the_package(installed: Path) -> None:
    told = Components.model_validate_json((installed / sbom.TOLD).read_bytes())
    assert told.complete and told.versions["fieldwatch"] == [payload.version()]
    in_python = {"cpython", "openssl", "sqlite3", "libffi", "expat", "libmpdec", "zlib", "bzip2"}
    assert told.versions.keys() >= in_python | {"numpy", "openblas", "onnxruntime", "zstd", "pywin32"}
    for name, versions in told.versions.items():
        assert affected.parse(name).name == name and all(map(Version, versions)), "the centre can be asked for it"


def test_frozen_again_elsewhere_it_is_the_same_byte_for_byte(tmp_path: Path) -> None:
    """From sources on another path with other times, in another Wine, under another umask, zone and hash seed."""
    tree = tmp_path / "another" / "checkout"
    ignored = shutil.ignore_patterns("__pycache__")
    for name in ("agent", "contract", "packaging", "requirements"):
        shutil.copytree(ROOT / name, tree / name, copy_function=shutil.copyfile, ignore=ignored)
    shutil.copyfile(ROOT / "pyproject.toml", tree / "pyproject.toml")
    (tree / "build" / "windows").mkdir(parents=True)
    (tree / "build" / "windows" / "parts").symlink_to(PARTS)
    surroundings = {"HOME": str(tmp_path), "TZ": "Asia/Tokyo", "LC_ALL": "C", "PYTHONHASHSEED": "77"}
    command = [sys.executable, str(tree / "packaging" / "windows.py")]
    subprocess.run(command, check=True, cwd=tmp_path, env=os.environ | surroundings, umask=0o077)
    first, second = (
        {path.relative_to(each).as_posix(): path.read_bytes() for path in each.rglob("*") if path.is_file()}
        for each in (DIST, tree / "dist" / "windows")
    )
    differing = sorted(path for path in first.keys() | second.keys() if first.get(path) != second.get(path))
    assert not differing, "if the sources were changed since: make package, then again"


def test_nothing_of_wine_s_is_in_it_nor_what_was_lent_to_wine(installed: Path) -> None:
    lent = {parts.sha256(PARTS / name) for name in ("ucrtbase.dll", "bcryptprimitives.dll")}
    for path in installed.rglob("*"):
        content = path.read_bytes() if path.is_file() else b""
        assert b"Wine builtin DLL" not in content and b"Wine placeholder DLL" not in content, path
        assert hashlib.sha256(content).hexdigest() not in lent, path


def test_a_library_that_crept_in_stops_the_build(tmp_path: Path) -> None:
    """Also one of Wine's, with the name of one of Microsoft's."""
    folder = tmp_path / payload.NAME
    shutil.copytree(FROZEN, folder)
    wine = windows.Wine(tmp_path / "wine")
    wine.furnish(PARTS)
    for name in ("msvcp140_2.dll", "ucrtbase.dll"):
        strange = folder / "_internal" / name
        shutil.copy(wine.c / "windows" / "system32" / name, strange)
        with pytest.raises(subprocess.CalledProcessError) as stopped:
            windows.list_parts(wine, PARTS / "python", tmp_path)
        assert stopped.value.returncode == 3 and strange.name in stopped.value.output
        strange.unlink()
    assert "native files" in windows.list_parts(wine, PARTS / "python", tmp_path)
    assert (tmp_path / payload.SBOM).read_bytes() == (DIST / payload.SBOM).read_bytes(), "listed again, the same bytes"
