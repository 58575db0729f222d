"""The pipeline files: valid by GitHub's schema, least rights, and the way from dev to prod that the document tells."""

from __future__ import annotations

import importlib.resources
import json
import re
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from fieldwatch_contract import support
from jsonschema import validators

from tests.conftest import ROOT
from tests.scripts import script as load

releasable, sign = load("releasable"), load("sign")
PYTHONS = ["3.11", "3.12", "3.13", "3.14"]
FILES = sorted((ROOT / ".github" / "workflows").glob("*.yml"))


def read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load((ROOT / ".github" / "workflows" / f"{name}.yml").read_text())
    return document


def valid(*paths: Path, schema: str = "github-workflows") -> bool:
    place = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / f"{schema}.json"
    rules = json.loads(place.read_text())
    validator = validators.validator_for(rules)(rules)
    documents = [yaml.safe_load(path.read_text()) for path in paths]
    return all(validator.is_valid({"on" if key is True else key: each[key] for key in each}) for each in documents)


def test_the_files_are_valid_and_the_check_can_fail(tmp_path: Path) -> None:
    assert [path.stem for path in FILES] == ["apply", "ci", "matrix", "promote", "release", "windows"]
    assert valid(*FILES)
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(FILES[0].read_text().replace("runs-on:", "run-on:"))
    assert not valid(wrong)


def test_the_forms_for_issues_are_valid_and_the_check_can_fail(tmp_path: Path) -> None:
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = sorted(path for path in folder.glob("*.yml") if path.stem != "config")
    assert forms and valid(*forms, schema="github-issue-forms")
    assert valid(folder / "config.yml", schema="github-issue-config")
    wrong = tmp_path / "wrong.yml"
    wrong.write_text(forms[0].read_text().replace("type: textarea", "type: text"))
    assert not valid(wrong, schema="github-issue-forms")


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_job_has_no_more_rights_than_it_names_and_ends(path: Path) -> None:
    document = read(path.stem)
    assert document["permissions"]["contents"] == "read"
    for name, job in document["jobs"].items():
        assert "timeout-minutes" in job or "uses" in job, name
        may_write = (path.stem, name) == ("release", "publish")
        assert (job.get("permissions", {}).get("contents", "read") == "write") == may_write, name
    text = path.read_text()
    assert "pull_request_target" not in text
    scripts = [step["run"] for job in document["jobs"].values() for step in job.get("steps", []) if "run" in step]
    for script in scripts:  # a value in a script would be code, such as the title of a pull request
        assert not re.search(r"\$\{\{ *(?:inputs|github\.event|secrets|vars)", script), script


def test_actions_of_others_are_named_by_their_commit() -> None:
    """A tag is what its owner makes of it tomorrow; which version the commit was stands behind it."""
    for path in FILES:
        for line in re.findall(r"uses: +(.*)", path.read_text()):
            assert line.startswith("./") or re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40}  # v\d+\.\d+\.\d+", line), line


def test_prod_gets_what_ran_in_dev_after_a_person_has_agreed() -> None:
    jobs = read("promote")["jobs"]
    assert set(jobs["prod"]["needs"]) == {"images", "dev"}
    images = {key: value for key, value in jobs["dev"]["with"].items() if key != "environment"}
    assert {key: value for key, value in jobs["prod"]["with"].items() if key != "environment"} == images
    assert set(images) == {"broker", "cloud", "updates"} and all("needs.images" in each for each in images.values())
    apply = read("apply")["jobs"]["apply"]
    assert apply["environment"] == "${{ inputs.environment }}", "its reviewers are asked"
    steps = [step.get("run", "") for step in apply["steps"]]
    assert any("-out=plan.bin" in step for step in steps) and any(step.endswith("apply plan.bin") for step in steps)


def test_a_release_is_tested_as_installed_signed_and_agreed_to_before_it_is_published() -> None:
    """No job builds anything again: each takes the files of ``build``, which takes what was frozen on Windows."""
    jobs = read("release")["jobs"]
    tests = {"installed", "installed-windows", "wheel"}
    assert set(jobs["attest"]["needs"]) == {"build", *tests} and jobs["publish"]["needs"] == "attest"
    assert jobs["publish"]["environment"] == "release", "its reviewers are asked"
    uses = {name: [step.get("uses", "") for step in job["steps"]] for name, job in jobs.items()}
    for name in (*tests, "attest", "publish"):
        assert any(one.startswith("actions/download-artifact") for one in uses[name]), name
    assert any(one.startswith("actions/attest-build-provenance") for one in uses["attest"])
    assert jobs["attest"]["permissions"] == {"contents": "read", "id-token": "write", "attestations": "write"}
    built = [step.get("run", "") for step in jobs["build"]["steps"]]
    assert any(script.startswith("python3 packaging/releasable.py") for script in built)
    assert built.index("make package-linux") > 0
    later = [step.get("run", "") for name in (*tests, "attest", "publish") for step in jobs[name]["steps"]]
    assert not any("make package" in script or " packaging/" in script for script in later)
    frozen = "\n".join(step.get("run", "") for step in jobs["frozen"]["steps"])
    assert frozen.index("packaging/build.py") < frozen.index("packaging/sbom.py"), "what it lists is what was frozen"
    signs = next(step for step in jobs["build"]["steps"] if "packaging/msi.py" in step.get("run", ""))
    assert "--certificate" in signs["run"]
    assert {"CERTIFICATE", "KEY", sign.PASSPHRASE} <= signs["env"].keys() and jobs["build"]["needs"] == "frozen"
    assert any("Get-AuthenticodeSignature" in step.get("run", "") for step in jobs["installed-windows"]["steps"])
    assert jobs["wheel"]["strategy"]["matrix"]["python"] == PYTHONS


def test_the_matrix_has_each_python_that_is_claimed_and_both_ends_of_the_libraries() -> None:
    jobs = read("matrix")["jobs"]
    assert jobs["pinned"]["strategy"]["matrix"]["python"] == PYTHONS
    assert jobs["newest"]["strategy"]["matrix"]["python"] == [PYTHONS[0], PYTHONS[-1]]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["requires-python"] == f">={PYTHONS[0]}"
    assert f"CPython from {PYTHONS[0]} to {PYTHONS[-1]}" in (ROOT / "requirements" / "install.py").read_text()
    lowest = [step.get("run", "") for step in jobs["lowest"]["steps"]]
    assert any(script.startswith("make test-lowest") for script in lowest)
    left_out = "tests/unit/house/test_sbom.py::test_what_is_installed_is_what_is_pinned"
    make = (ROOT / "Makefile").read_text()
    assert "\ntest-lowest:" in make and left_out in make
    assert any(left_out in step.get("run", "") for step in jobs["newest"]["steps"])
    assert f"def {left_out.partition('::')[2]}(" in (ROOT / left_out.partition("::")[0]).read_text()


def _checkout(folder: Path, **changes: tuple[str, str]) -> Path:
    """What is asked before a release, of this checkout as if today it were released; ``changes`` by file's stem."""
    version, until = releasable_version(), support.UNTIL
    files = {
        "pyproject.toml": "", "CHANGELOG.md": f"# Changes\n\n## {version}, 2026-12-01\n\nSupported until {until}.\n",
        "SECURITY.md": "Write to **security@lab.org**\n", "contract/fieldwatch_contract/support.py": "",
        "agent/fieldwatch_agent/__init__.py": "",
    }  # fmt: skip
    for path, text in files.items():
        content = text or (ROOT / path).read_text()
        old, new = changes.get(Path(path).stem, ("", ""))
        assert old in content
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content.replace(old, new) if old else content)
    return folder


def releasable_version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({}, []),
        (
            {"pyproject": ('version = "', 'version = "9.')},
            ["the tag is", "__init__.py does not", "begins with"],
        ),
        ({"__init__": ('__version__ = "', '__version__ = "9.')}, ["__init__.py does not say version"]),
        ({"support": ("UNTIL = date(20", "UNTIL = date(10")}, ["support.UNTIL is", "does not say 'Supported until"]),
        ({"CHANGELOG": ("## ", "## Unreleased: ")}, ["begins with 'Unreleased: "]),
        ({"CHANGELOG": ("until", "for ever")}, ["does not say 'Supported until"]),
        ({"SECURITY": ("@lab.org", "@fieldwatch.example")}, ["names an address below .example"]),
    ],
)
def test_what_may_be_released(tmp_path: Path, changes: dict[str, tuple[str, str]], says: list[str]) -> None:
    found = releasable.objections(_checkout(tmp_path, **changes), f"v{releasable_version()}", date(2026, 12, 1))
    assert len(found) == len(says)
    assert all(part in text for part, text in zip(says, found, strict=True)), found


def test_ci_runs_what_people_run() -> None:
    steps = [step.get("run", "") for step in read("ci")["jobs"]["check"]["steps"]]
    assert "bash .ci/run" in steps and (ROOT / ".ci" / "run").is_file()


def test_windows_tests_on_windows_what_wine_has_tested() -> None:
    """The same files, and no job builds anything again."""
    jobs = read("windows")["jobs"]
    steps = {name: [step.get("run", "") for step in job["steps"]] for name, job in jobs.items()}
    assert {"make msi", "make test-windows"} <= set(steps["wine"])
    on_windows = next(script for script in steps["installed"] if "pytest" in script)
    folder = ROOT / "tests" / "packages" / "windows"
    without_pc = {"test_contents.py", "test_signed.py"}
    assert {path.name for path in folder.glob("test_*.py")} - without_pc == set(re.findall(r"test_\w+\.py", on_windows))
    assert jobs["freeze"]["runs-on"] == jobs["installed"]["runs-on"] == "windows-latest"
    assert (jobs["package"]["needs"], jobs["installed"]["needs"], jobs["bits"]["needs"]) == (
        "freeze", "package", "installed",
    )  # fmt: skip
