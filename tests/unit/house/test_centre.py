"""The files of the centre fit together: containers, what they mount and name, the unit for use without containers.

``tests/e2e/test_centre.py`` runs the same files as processes. The page's commands without containers run here in
folders of the test, all but those that change the machine itself.
"""

from __future__ import annotations

import importlib.resources
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest
from fieldwatch_cloud.config import load
from fieldwatch_cloud.production import exposed, unsafe
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


class Walked:
    """The commands of ``docs/install-centre.md`` without containers, run in a folder that stands for ``/``."""

    PLACES = (
        "/etc/fieldwatch",
        "/etc/mosquitto",
        "/etc/caddy",
        "/etc/systemd",
        "/usr/lib",
        "/opt",
        "/srv",
        "/var/lib",
        "/path",
    )
    """What the folder has of its own."""
    PROGRAMS: Mapping[str, str] = {
        "apt": "exit 0", "systemctl": "exit 0", "systemd-sysusers": "exit 0", "python3": "exit 0",
        "runuser": 'shift 3; exec "$@"',
        "install": 'words=(); while [ $# -gt 0 ]; do case $1 in -o|-g) shift 2;; *) words+=("$1"); shift;; esac; done; '
                   f'exec {shutil.which("install")} "${{words[@]}}"',
    }  # fmt: skip
    """What would change the machine does nothing; ``install`` leaves out owners, ``runuser`` the account."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        page = (ROOT / "docs" / "install-centre.md").read_text(encoding="utf-8")
        (block,) = re.findall(r"^## With systemd.*?```console\n(.*?)```", page, re.S | re.M)
        self.text = self.here("\n".join(line.removeprefix("# ") for line in block.splitlines()))
        self.text = self.text.replace("YOUR.NAME", "centre.test")
        self._program(folder / "opt/fieldwatch/bin/pip", "exit 0")
        self._program(folder / "opt/fieldwatch/bin/fieldwatch-cloud", f'exec {sys.executable} -m fieldwatch_cloud "$@"')
        for name, does in self.PROGRAMS.items():
            self._program(folder / "bin" / name, does)
        for made in (
            "etc/caddy",
            "etc/mosquitto",
            "etc/systemd/system",
            "usr/lib/sysusers.d",
            "srv",
            "path/of/updates",
        ):
            (folder / made).mkdir(parents=True)
        (folder / "path/of/updates/root.json").write_text("{}")
        (folder / "path/of/smtp-password").write_text("secret")
        config = folder / "config" / "prod"
        config.mkdir(parents=True)
        given = (ROOT / "config" / "prod" / "cloud.toml").read_text(encoding="utf-8")
        (config / "cloud.toml").write_text(self.here(given), encoding="utf-8")
        shutil.copytree(ROOT / "packaging" / "centre", folder / "packaging" / "centre")
        caddyfile = folder / "packaging" / "centre" / "systemd.Caddyfile"
        caddyfile.write_text(self.here(caddyfile.read_text(encoding="utf-8")), encoding="utf-8")
        for name in ("fieldwatch-cloud.service", "fieldwatch-cloud.sysusers"):
            shutil.copy(ROOT / "packaging" / name, folder / "packaging" / name)

    def here(self, text: str) -> str:
        """Return the text with this folder's paths."""
        return re.sub(rf"(?<![\w.])({'|'.join(self.PLACES)})(?=/)", rf"{self.folder}\1", text)

    def _program(self, path: Path, does: str) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"#!/bin/bash\n{does}\n", encoding="utf-8")
        path.chmod(0o755)

    def run(self, env: Mapping[str, str]) -> str:
        """Run them one after another, up to the first that fails; return what they printed."""
        done = subprocess.run(
            ["bash", "-e", "-c", self.text], cwd=self.folder, capture_output=True, text=True, check=False,
            env=dict(env) | {"PATH": f"{self.folder / 'bin'}:{os.environ['PATH']}"},
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@pytest.mark.skipif(os.name == "nt", reason="the page is for Linux")
def test_what_is_installed_without_containers_is_complete_and_safe(
    tmp_path: Path, clean_env: Mapping[str, str]
) -> None:
    """After the page's last command there is each file that cloud, broker and Caddy are told of, and a token."""
    walked = Walked(tmp_path)
    printed = walked.run(clean_env)
    assert "https://centre.test/link?token=" in printed and "\nfw1-" in printed
    config = load(tmp_path / "etc/fieldwatch/cloud.toml")
    assert unsafe(config) == [] and exposed(config) == []
    for place in ("etc/fieldwatch/cloud.toml", "etc/mosquitto/mosquitto.conf", "etc/caddy/Caddyfile"):
        text = (tmp_path / place).read_text(encoding="utf-8")
        named = set(re.findall(rf"{tmp_path}[\w./-]+", re.sub(r"(?m)(^|\s)#.*", "", text)))
        missing = {path for path in named if not Path(path.rstrip("/")).exists()}
        assert len(named) > 2 and missing <= {f"{tmp_path}/var/lib/mosquitto/"}, "the broker's package makes that one"
        assert "example.org" not in re.sub(r"(mail|id)\.example\.org|@example\.org", "", text), "the name was put in"
    assert {path.name for path in (tmp_path / "etc/caddy/fieldwatch").iterdir()} == {"server.pem", "server.key"}, (
        "Caddy sees no other key"
    )


@pytest.mark.caddy
def test_caddy_understands_its_configuration(tmp_path: Path, clean_env: Mapping[str, str]) -> None:
    """That of the containers and that of systemd."""
    files = sorted((ROOT / "packaging" / "centre").glob("*Caddyfile"))
    assert len(files) == 3
    for path in files:
        done = subprocess.run(
            ["caddy", "adapt", "--adapter", "caddyfile", "--config", str(path)],
            env=dict(clean_env) | {"HOME": str(tmp_path), "FIELDWATCH_HOST": "centre.test"},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
