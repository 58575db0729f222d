"""The release job: what runs it, and what people and devices are told when it no longer runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import tomllib
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from fieldwatch_agent.update.activation import Activation
from fieldwatch_agent.update.troubles import REMEDY
from fieldwatch_agent.update.updater import pull
from fieldwatch_trainer.release import ceremony
from fieldwatch_trainer.release.__main__ import _parser, main
from fieldwatch_trainer.release.errors import ReleaseError

from tests.conftest import ROOT
from tests.updates import Site

Instructions = list[tuple[str, str]]


def instructions(text: str) -> Instructions:
    """Read a Containerfile: comments away, continued lines joined, instruction and rest."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    whole = "\n".join(lines).replace("\\\n", " ")
    return [(line.split()[0], line.split(None, 1)[1]) for line in whole.splitlines() if line.strip()]


@pytest.fixture
def container() -> Instructions:
    return instructions((ROOT / "packaging" / "Containerfile").read_text(encoding="utf-8"))


def one(container: Instructions, name: str) -> str:
    found = [rest for word, rest in container if word == name]
    assert len(found) == 1, f"{len(found)} times {name}"
    return found[0]


def test_the_container_starts_a_command_that_there_is(container: Instructions) -> None:
    """It is parsed, not built: there is no container engine where these tests run."""
    assert {word for word, _ in container} <= {"FROM", "COPY", "RUN", "ENV", "USER", "ENTRYPOINT", "CMD"}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    program, command = json.loads(one(container, "ENTRYPOINT")), json.loads(one(container, "CMD"))
    assert program == ["fieldwatch-release"]
    assert program[0] in project["scripts"]
    assert _parser().parse_args(command).run == "refresh"
    extras = re.search(r"\$\{wheel\}\[([a-z,]+)\]", " ".join(rest for word, rest in container if word == "RUN"))
    assert extras is not None
    assert set(extras[1].split(",")) <= set(project["optional-dependencies"])


def test_the_container_runs_as_nobody_in_particular_and_holds_no_secret(container: Instructions) -> None:
    assert int(one(container, "USER")) > 0
    assert [word for word, _ in container].index("USER") > max(
        n for n, (word, _) in enumerate(container) if word == "RUN"
    )
    assert one(container, "COPY").split()[0] == "dist/fieldwatch-*.whl", "and nothing else comes in"
    variables = dict(part.split("=", 1) for part in shlex.split(one(container, "ENV")))
    assert "FIELDWATCH_RELEASE_PASSPHRASE" not in variables
    assert variables["FIELDWATCH_RELEASE_ASKPASS"] == "/usr/local/bin/passphrase"


@pytest.mark.skipif(os.name == "nt", reason="what is run is a POSIX shell script")
def test_the_passphrase_program_that_the_container_makes_prints_a_mounted_file(
    container: Instructions, tmp_path: Path
) -> None:
    made = next(rest for word, rest in container if word == "RUN" and "passphrase" in rest).split(" > ")[0]
    script = subprocess.run(["sh", "-c", made], capture_output=True, text=True, check=True).stdout
    secret = tmp_path / "secret"
    secret.write_text("correct horse\n")
    program = tmp_path / "passphrase"
    program.write_text(script.replace("/run/secrets/fieldwatch-release", str(secret)))
    program.chmod(0o755)
    done = subprocess.run([program, "prod-1.pem"], capture_output=True, text=True, check=True)
    assert done.stdout == "correct horse\n"


# ---- refresh has not run for N days ----------------------------------------------------------------------------

DAYS = [
    # days, exit codes of verify, status, doctor and refresh, what people read, the device's trouble and words
    (0, (0, 0, 0, 0), "", "", ""),
    (2, (0, 0, 0, 0), "", "", ""),
    (3, (3, 0, 3, 0), "refresh has not run for 3 days: devices stop updating on", "ending", "updates stop then"),
    (8, (1, 0, 3, 0), "devices have taken no update since", "stale", "is stale"),
    (40, (1, 0, 3, 0), "prod-policy: devices have taken no update since", "stale", "is stale"),
    (400, (1, 0, 3, 1), "root: devices have taken no update since", "stale", "is stale"),
]


@pytest.mark.parametrize(("days", "codes", "says", "trouble", "words"), DAYS, ids=[f"{row[0]} days" for row in DAYS])
def test_people_are_told_on_the_engineer_s_side_and_on_the_device_s(
    tmp_path: Path, v1: bytes, capsys: pytest.CaptureFixture[str],
    days: int, codes: tuple[int, int, int, int], says: str, trouble: str, words: str,
) -> None:  # fmt: skip
    """The repository was last signed that long ago: the clock that moves is the signers'."""
    then = datetime.now(UTC) - timedelta(days=days, minutes=1)
    site = Site.make(tmp_path, then)
    site.publish(v1, now=then)
    state = tmp_path / "state"
    if trouble == "stale":  # a device that had its bundle when all was well
        sound = Site.make(tmp_path / "sound")
        sound.publish(v1)
        pull(sound.repo, sound.root, state, "press-1", "press", "stable")
    else:
        assert pull(site.repo, site.root, state, "press-1", "press", "stable").outcome == "activated"
    result = pull(site.repo, site.root, state, "press-1", "press", "stable")
    assert (result.trouble, words in result.detail) == (trouble, True)
    assert Activation(state).state().current is not None, "it keeps scoring"
    assert [item.detail for item in Activation(state).troubles()] == ([result.detail] if trouble else [])
    assert trouble == "" or trouble in REMEDY

    for path in site.keys.glob("[rp][or]o*.pem"):
        path.unlink()  # offline, where doctor does not scold about them
    repo = ["--repo", str(site.repo)]
    for command, code in zip(
        (["verify", str(site.repo)], ["status", *repo], ["doctor", *repo]), codes[:3], strict=True
    ):
        assert main(command) == code
        said = capsys.readouterr()
        if command[0] != "verify" or code == 3:
            assert says in said.out
    assert main(["refresh", *repo]) == codes[3]


def test_a_stick_says_so_too(tmp_path: Path, v1: bytes) -> None:
    """A laboratory without a network is told some days before its stick ends."""
    site = Site.make(tmp_path / "site")
    site.publish(v1)
    assert main(["export", str(tmp_path / "lab"), "--site", "lab", "--valid", "3d", "--repo", str(site.repo)]) == 0
    root, state = (tmp_path / "lab" / "root.json").read_bytes(), tmp_path / "state"
    assert pull(tmp_path / "lab", root, state, "press-1", "press", "stable").outcome == "activated"
    result = pull(tmp_path / "lab", root, state, "press-1", "press", "stable")
    assert (result.outcome, result.trouble) == ("current", "ending")
    assert "nobody has renewed them" in result.detail


# ---- nothing is installed --------------------------------------------------------------------------------------


@pytest.mark.parametrize("installed", [False, True])
@pytest.mark.parametrize("fault", ["absent", "damaged", "hostile", "stale", "truncated"])
def test_a_device_speaks_of_an_installed_bundle_only_where_one_is(
    tmp_path: Path, v1: bytes, v2: bytes, fault: str, installed: bool
) -> None:
    then = datetime.now(UTC) - timedelta(days=8 if fault == "stale" and not installed else 0)
    site, state = Site.make(tmp_path, then), tmp_path / "state"
    first = site.publish(v1, now=then)
    root = site.root
    if installed:
        assert pull(site.repo, root, state, "press-1", "press", "stable").outcome == "activated"
    file = site.file(site.publish(v2, now=then) if installed else first)
    match fault:
        case "absent":
            file.unlink()
        case "damaged":
            file.write_bytes(b"\0" * file.stat().st_size)
        case "truncated":
            file.write_bytes(file.read_bytes()[:-9])
        case "hostile":
            root = Site.make(tmp_path / "foreign").root
        case "stale" if installed:
            old = Site.make(tmp_path / "old", datetime.now(UTC) - timedelta(days=8))
            old.publish(v1, now=datetime.now(UTC) - timedelta(days=8))
            site, root = old, old.root
    result = pull(site.repo, root, state, "press-1", "press", "stable")
    assert (result.outcome, result.trouble) == ("failed", fault)
    assert ("the installed bundle keeps scoring" in result.detail) is installed
    assert ("no bundle is installed, so nothing is scored yet" in result.detail) is not installed
    told = Activation(state).troubles()
    assert [trouble.kind for trouble in told] == ["update_failing" if installed else "no_bundle"]
    assert installed or "keeps scoring" not in told[0].detail + (told[0].remedy or "")


def test_nothing_is_signed_by_a_clock_that_is_a_year_behind(site: Site, tmp_path: Path) -> None:
    """Devices would take what it signs for ended; what was signed before it they still take."""
    behind = datetime.now(UTC) - timedelta(days=365)
    before = (site.repo / "metadata/timestamp.json").read_bytes()
    with pytest.raises(ReleaseError, match=f"clock says {behind:%Y-%m-%d}.*everything here was signed after"):
        ceremony.refresh(site.repo, [site.keys], now=behind)
    with pytest.raises(ReleaseError, match="set the clock"):
        ceremony.propose_refresh(site.repo, [site.keys], tmp_path / "proposal", now=behind)
    assert (site.repo / "metadata/timestamp.json").read_bytes() == before
    assert not (tmp_path / "proposal").exists()
