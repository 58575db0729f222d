"""The set-up of a checkout: where it fails, its last lines say the one thing that failed and the remedy."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from tests.conftest import ROOT, find_port

spec = importlib.util.spec_from_file_location("fieldwatch_install", ROOT / "requirements" / "install.py")
assert spec is not None and spec.loader is not None
install = importlib.util.module_from_spec(spec)
spec.loader.exec_module(install)

LOCKS = sorted(path.stem for path in (ROOT / "requirements").glob("*.txt"))


PINNED = r"^([\w.-]+)(?:\[.*?\])?=="
"""A package, perhaps with extras."""


def pins(name: str) -> dict[str, set[str]]:
    """Package → the versions pinned. Marker and extras are left out: in a larger set-up more may want it."""
    found: dict[str, set[str]] = {}
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    for package, version in re.findall(PINNED + r"(\S+)", text, re.M):
        found.setdefault(package, set()).add(version)
    return found


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_has_hashes_and_no_address(name: str) -> None:
    text = (ROOT / "requirements" / f"{name}.txt").read_text()
    assert "://" not in text
    assert len(re.findall(PINNED, text, re.M)) == len(re.findall(r"== ?\S+.*\\\n    --hash=sha256:", text))


@pytest.mark.parametrize("name", [name for name in LOCKS if name not in {"dev", "lowest"}])
def test_each_set_up_can_be_made_on_top_of_another(name: str) -> None:
    """Otherwise ``make dev`` after ``make demo`` would replace what is there."""
    own, dev = pins(name), pins("dev")
    assert own
    assert {package: versions for package, versions in own.items() if dev.get(package) != versions} == {}


def test_a_lowest_version_that_is_claimed_is_one_that_the_tests_run_with() -> None:
    """``make test-lowest`` runs with these pins; a lower bound that nothing has run with would be a guess."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    asked = [
        *project["dependencies"],
        *(line for name in extras if name not in {"dev", "freeze"} for line in extras[name]),
    ]
    pinned, claims = pins("lowest"), 0
    for requirement in map(Requirement, asked):
        if requirement.name != "fieldwatch":
            claimed = [Version(one.version) for one in requirement.specifier if one.operator == ">="]
            assert claimed == [min(map(Version, pinned[requirement.name]))], requirement
            claims += 1
    assert claims > 30


def test_the_demo_brings_no_tools() -> None:
    tools = {"pytest", "mypy", "ruff", "polars", "pandas", "playwright", "pyinstaller", "scikit-learn", "hypothesis"}
    assert tools & pins("dev").keys() == tools
    assert tools & pins("demo").keys() == set()


# ---- failures, with the real pip ---------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose virtual environment the first set-up makes; the others find it."""
    return tmp_path_factory.mktemp("checkout")


def set_up(folder: Path, lock: str, **environment: str) -> tuple[int, list[str]]:
    """Run the set-up in a folder that holds this lock alone; return exit code and lines."""
    (folder / "requirements").mkdir(exist_ok=True)
    shutil.copy(ROOT / "requirements" / "install.py", folder / "requirements")
    (folder / "requirements" / "demo.txt").write_text(lock)
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PIP_")}
    quiet = {"PIP_CONFIG_FILE": os.devnull, "PIP_NO_CACHE_DIR": "1"}
    done = subprocess.run(
        [sys.executable, "requirements/install.py", "demo"],
        cwd=folder, env=kept | quiet | environment, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == "" and "Traceback" not in done.stderr
    return done.returncode, done.stderr.strip().splitlines()


@pytest.mark.soak
@pytest.mark.parametrize("retries", ["0", "1"])
def test_an_index_that_cannot_be_reached_is_named(checkout: Path, retries: str) -> None:
    index = f"http://127.0.0.1:{find_port()}/simple"
    lock = (ROOT / "requirements" / "demo.txt").read_text()
    code, lines = set_up(checkout, lock, PIP_INDEX_URL=index, PIP_RETRIES=retries)
    assert code == 1
    assert lines[0].startswith("set up .venv for demo")
    assert lines[-2].startswith("the set-up failed: the package index cannot be reached")
    assert lines[-1].startswith("remedy: check the network")


@pytest.mark.soak
def test_a_package_that_is_not_the_pinned_one_is_refused(checkout: Path, tmp_path: Path) -> None:
    wheel = tmp_path / "wheels" / "little-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as file:
        file.writestr("little.py", "")
        file.writestr("little-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: little\nVersion: 1.0\n")
        file.writestr("little-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        file.writestr("little-1.0.dist-info/RECORD", "")
    lock = f"little==1.0 \\\n    --hash=sha256:{hashlib.sha256(b'another file').hexdigest()}\n"
    code, lines = set_up(checkout, lock, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(wheel.parent))
    assert code == 1
    assert lines[-2] == "the set-up failed: a package is not the one that the lock file pins"


def test_a_package_that_does_not_exist_for_this_system_is_named(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "wheels").mkdir()
    (tmp_path / "wheels" / "little-0.9-py3-none-any.whl").write_bytes(b"")
    lock = f"little==1.0 \\\n    --hash=sha256:{hashlib.sha256(b'').hexdigest()}\n"
    code, lines = set_up(checkout, lock, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(tmp_path / "wheels"))
    assert code == 1
    assert lines[-2] == "the set-up failed: there is no little==1.0 for this Python and system"


def test_too_small_a_disk_is_said_before_anything_is_fetched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(install, "ROOT", tmp_path)
    monkeypatch.setattr(install, "VENV", tmp_path / ".venv")
    install.check("demo")
    free = shutil.disk_usage(tmp_path).free // 1_000_000
    monkeypatch.setitem(install.NEEDED_MB, "demo", (free + 1000, 0))
    with pytest.raises(install.InstallError, match="MB free, the set-up needs") as error:
        install.check("demo")
    assert error.value.remedy == "free some space"


def test_words_that_nobody_knows_are_shown_as_they_are() -> None:
    error = install.explained("Collecting x\nERROR: something new\nWARNING: a newer pip is there\n", "demo")
    assert (str(error), error.remedy) == ("something new", "see .venv/install.log")


def test_progress_tells_the_package_at_hand() -> None:
    told: list[str] = []

    class Status:
        def say(self, text: str, now: bool = False) -> None:
            told.append(text)

    watch = install.Watch(Status(), 3)
    for line in (
        "Collecting numpy==2.4.6 (from -r demo.txt (line 4))",
        "  Downloading numpy-2.4.6-cp311-cp311-manylinux.whl (16.9 MB)",
        "Processing /wheels/tuf-7.0.1-py3-none-any.whl (from -r demo.txt (line 9))",
        "Requirement already satisfied: anyio==4.1 in ./.venv/lib",
        "  WARNING: Retrying (Retry(total=4)) after connection broken",
        "Installing collected packages: numpy, tuf",
    ):
        watch.line(line)
    assert told == [
        "package 1 of 3: numpy", "package 1 of 3: numpy, 16.9 MB", "package 2 of 3: tuf", "package 3 of 3: anyio",
        "the package index does not answer, pip tries again", "unpack 2 packages",
    ]  # fmt: skip


# ---- names -------------------------------------------------------------------------------------------------------


def test_nothing_tells_anybody_to_install_the_name_from_the_public_index() -> None:
    """It is not ours there. ``install -d`` makes a folder, and ``-o`` says whose."""
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    bare = re.compile(r"\b(?:install|add)\b(?! -d )(?: -\S+)* ['\"]?fieldwatch(?:\[|['\"`]|\s|$)")
    found = [
        f"{name}: {line.strip()}"
        for name in listed.splitlines()
        if (ROOT / name).suffix in {".py", ".md", ".toml", ".html", ".txt", ""} and (ROOT / name).is_file()
        for line in (ROOT / name).read_text(encoding="utf-8", errors="replace").splitlines()
        if bare.search(line)
    ]
    assert found == []


def test_the_rooms_bring_their_package_and_no_other_name() -> None:
    """An editable install puts the rooms on the path: what lies in them beside the package would be importable too."""
    for room in ("contract", "agent", "trainer", "cloud", "demo"):
        names = {path.name for path in (ROOT / room).iterdir() if path.name != "__pycache__"}
        assert names == {f"fieldwatch_{room}"}
