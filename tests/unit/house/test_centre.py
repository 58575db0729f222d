"""The files of the centre fit together: containers, what they mount and name, the unit for use without containers.

``tests/e2e/test_centre.py`` runs the same files as processes.
"""

from __future__ import annotations

import importlib.resources
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from fieldwatch_cloud.config import load
from fieldwatch_cloud.production import unsafe
from jsonschema import Draft202012Validator, validators

from tests.compose import FOLDER, document, services, variables
from tests.conftest import ROOT

UNIT = ROOT / "packaging" / "fieldwatch-cloud.service"
ENVIRONMENTS = pytest.mark.parametrize("environment", ["dev", "prod"])
PATH = re.compile(r"(?<![\w.])/(?:etc|var/lib|srv|data)(?:/[\w.-]+)*")


@ENVIRONMENTS
def test_compose_follows_the_specification(environment: str) -> None:
    place = importlib.resources.files("check_jsonschema") / "builtin_schemas" / "vendor" / "compose-spec.json"
    schema = json.loads(place.read_text(encoding="utf-8"))
    validator = validators.validator_for(schema, default=Draft202012Validator)(schema)
    made = document(variables(environment))
    assert [error.message for error in validator.iter_errors(made)] == []
    made["services"]["cloud"]["prots"] = []
    assert list(validator.iter_errors(made)), "a wrong key would be seen"


@ENVIRONMENTS
def test_each_path_that_a_container_uses_is_mounted(environment: str) -> None:
    """In its command, and in the configuration that its command names."""
    values = variables(environment)
    config = ROOT / "config" / environment / "centre.toml"
    for service in services(values).values():
        texts = [" ".join(service.command)]
        for word in service.command:
            if word.endswith(".toml"):
                texts.append(config.read_text(encoding="utf-8"))
            elif word.endswith(".Caddyfile"):
                source = FOLDER / service.outside(word)
                assert source.is_file()
                texts.append(source.read_text(encoding="utf-8"))
        for text in texts:
            for path in PATH.findall("\n".join(line.split("#")[0] for line in text.splitlines())):
                assert service.outside(path), path


def test_development_mounts_files_of_the_checkout() -> None:
    values = variables("dev")
    assert (FOLDER / values["FIELDWATCH_CONFIG"]).resolve() == ROOT / "config" / "dev" / "centre.toml"
    assert set(variables("prod")) == set(values) - {"COMPOSE_PROFILES"}


def test_every_container_is_shut_tight_and_the_authority_s_key_is_in_one_alone() -> None:
    made = services(variables("prod"))
    for service in made.values():
        raw = service.raw
        assert raw["user"] == "10001:10001" and raw["read_only"] is True and raw["cap_drop"] == ["ALL"]
        assert raw["security_opt"] == ["no-new-privileges:true"]
        assert not {"privileged", "network_mode", "pid"} & set(raw)
        assert set(raw.get("cap_add", [])) <= {"NET_BIND_SERVICE"}
        image, _, tag = raw["image"].partition(":")
        assert image and tag not in {"", "latest"}
    key = "/var/lib/fieldwatch/enrolment/authority.key"
    having = []
    for service in made.values():
        try:
            service.outside(key)
        except LookupError:
            continue
        having.append(service.name)
    assert having == ["cloud"]
    published = {port for service in made.values() for port in service.raw.get("ports", [])}
    assert published == {"8443:8443", "8883:8883", "8444:8444", "443:8445", "127.0.0.1:8025:8025"}
    writable = {mount.target for service in made.values() for mount in service.mounts if not mount.read_only}
    assert writable == {"/var/lib/fieldwatch", "/var/lib/mosquitto", "/data"}


def test_production_is_safe_and_differs_from_development_only_where_it_must() -> None:
    production = load(ROOT / "config" / "prod" / "centre.toml")
    assert production.production and unsafe(production) == []
    texts = [(ROOT / "config" / name / "centre.toml").read_text(encoding="utf-8") for name in ("dev", "prod")]
    dev, prod = (tomllib.loads(text.replace("localhost", "centre.example.org")) for text in texts)
    assert (dev.pop("mode"), prod.pop("mode")) == ("development", "production")
    assert dev["notify"].pop("smtp") != prod["notify"].pop("smtp")
    assert dev == prod


def test_the_container_is_built_from_locked_libraries_and_runs_without_rights() -> None:
    text = (FOLDER / "Containerfile").read_text(encoding="utf-8")
    for source in re.findall(r"^COPY (.*) \S+$", text, re.M)[0].split():
        assert source.startswith("dist/") or (ROOT / source).is_file()
    assert "--require-hashes -r /tmp/cloud.txt" in text and "--no-deps" in text
    assert re.findall(r"^USER (\S+)$", text, re.M)[-1] == "10001:10001"
    assert re.search(r"^FROM \S+:\d\S*$", text, re.M)
    locked = (ROOT / "requirements" / "cloud.txt").read_text(encoding="utf-8")
    assert re.search(r"^fastapi==", locked, re.M) and "scikit-learn" not in locked


@pytest.mark.systemd
def test_systemd_accepts_the_unit_and_calls_it_tight(tmp_path: Path) -> None:
    program = tmp_path / "fieldwatch-cloud"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace("/opt/fieldwatch/bin/fieldwatch-cloud", str(program)))

    def analyse(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True, check=False)

    done = analyse("verify", "--man=no", str(unit))
    assert (done.returncode, done.stderr) == (0, "")
    rated = analyse("security", "--offline=true", "--threshold=20", str(UNIT))
    assert rated.returncode == 0, rated.stdout
    open_wide = tmp_path / "open.service"
    open_wide.write_text(f"[Service]\nExecStart={program}\n")
    assert analyse("security", "--offline=true", "--threshold=20", str(open_wide)).returncode != 0


def test_unit_and_account_have_one_name() -> None:
    account = re.search(r"^u (\S+)", (ROOT / "packaging" / "fieldwatch-cloud.sysusers").read_text(), re.M)
    assert account is not None and f"User={account[1]}\n" in UNIT.read_text()
    config = load(ROOT / "config" / "prod" / "cloud.toml")
    assert config.store.path.is_relative_to("/var/lib/fieldwatch"), "the state folder that the unit lets it write"
