"""The pipeline files: valid by GitHub's schema, least rights, and the way from dev to prod that the document tells."""

from __future__ import annotations

import importlib.resources
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import validators

from tests.conftest import ROOT

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
    assert [path.stem for path in FILES] == ["apply", "ci", "promote"]
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
        assert job.get("permissions", {}).get("contents", "read") == "read", name
    text = path.read_text()
    assert "pull_request_target" not in text
    scripts = [step["run"] for job in document["jobs"].values() for step in job.get("steps", []) if "run" in step]
    for script in scripts:  # a value in a script would be code, such as the title of a pull request
        assert not re.search(r"\$\{\{ *(?:inputs|github\.event|secrets|vars)", script), script


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


def test_ci_runs_what_people_run() -> None:
    steps = [step.get("run", "") for step in read("ci")["jobs"]["check"]["steps"]]
    assert "bash .ci/run" in steps and (ROOT / ".ci" / "run").is_file()
