"""The MSI's description, and what the agent for Windows is frozen from. Installing it: ``make test-windows``."""

from __future__ import annotations

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.conftest import ROOT
from tests.scripts import script

msi, windows, payload = script("msi"), script("windows"), script("payload")
NAMES = {"w": "http://schemas.microsoft.com/wix/2006/wi"}


@pytest.fixture
def program(tmp_path: Path) -> Path:
    folder = tmp_path / "fieldwatch-agent"
    (folder / "_internal" / "tzdata").mkdir(parents=True)
    for name in ("fieldwatch-agent.exe", "_internal/python311.dll", "_internal/tzdata/python311.dll"):
        (folder / name).write_bytes(name.encode())
    return folder


def test_each_file_is_a_component_whose_code_never_changes(program: Path) -> None:
    root = ElementTree.fromstring(msi.wxs(program, "1.2.3"))
    components = root.findall(".//w:Component", NAMES)
    assert len({each.get("Guid") for each in components}) == 6 == len({each.get("Id") for each in components})
    assert {each.get("Id") for each in components} == {
        each.get("Id") for each in root.findall(".//w:ComponentRef", NAMES)
    }
    other = ElementTree.fromstring(msi.wxs(program, "1.2.4"))
    assert [each.get("Guid") for each in other.findall(".//w:Component", NAMES)] == [
        each.get("Guid") for each in components
    ]
    product, newer = root.find("w:Product", NAMES), other.find("w:Product", NAMES)
    assert product is not None and newer is not None
    assert product.get("UpgradeCode") == newer.get("UpgradeCode") == "48A1287F-0077-5652-9066-07E4333B9FCF"
    assert product.get("Id") != newer.get("Id"), "another version is another product, which replaces the older one"


def test_what_the_installer_runs_is_a_command_of_the_agent(program: Path) -> None:
    from fieldwatch_agent.__main__ import _parser

    root = ElementTree.fromstring(msi.wxs(program, "1.2.3"))
    files = {each.get("Id"): each.get("Name") for each in root.findall(".//w:File", NAMES)}
    for act in root.findall(".//w:CustomAction", NAMES):
        assert files[act.get("FileKey")] == "fieldwatch-agent.exe"
        words = [word.strip('"') for word in re.findall(r'"[^"]*"|\S+', str(act.get("ExeCommand")))]
        _parser().parse_args(words)
        assert (act.get("Execute"), act.get("Impersonate")) == ("deferred", "no")
    assert [each.get("Action") for each in root.findall(".//w:Custom", NAMES)] == list(msi.ACTS)


def test_beside_the_program_lie_its_licence_and_what_is_in_it(program: Path) -> None:
    root = ElementTree.fromstring(msi.wxs(program, "1.2.3"))
    files = {
        each.get("Name"): str(each.get("Source")) for each in root.findall(".//w:Directory/w:Component/w:File", NAMES)
    }
    assert (program / files["LICENSE"]).resolve() == ROOT / "LICENSE"
    for name in ("fieldwatch-agent.cdx.json", "fieldwatch-agent.licences.txt"):
        assert files[name] == f"../{name}", "where sbom.py writes it"


def test_a_package_that_looks_otherwise_is_not_settled() -> None:
    code = b"{1DBF8235-EC8B-44A2-AA1D-C5137C260D5F}"
    drawn = b"x" + code + b"\0\0\x40\0\0\0" + b"a" * 8 + b"\x40\0\0\0" + b"\n" * 8 + b"y"
    made = msi.settled(drawn, "45F12B7E-5F33-515A-BDD0-932F59231EB5")
    assert len(made) == len(drawn) and b"{45F12B7E-5F33-515A-BDD0-932F59231EB5}" in made
    assert made.count((134_116_992_000_000_000).to_bytes(8, "little")) == 2, "the first of January 2026"
    with pytest.raises(ValueError, match="0 package codes"):
        msi.settled(b"x", "45F12B7E-5F33-515A-BDD0-932F59231EB5")


def test_windows_gets_what_the_lock_says_for_it() -> None:
    agent, lines = (
        windows.locked((ROOT / "requirements" / f"{name}.txt").read_text(encoding="utf-8")).splitlines()
        for name in ("agent", "freeze")
    )
    assert set(agent) < set(lines), "what the agent consists of, and what freezes it"
    assert all(re.fullmatch(r"[\w.-]+==\S+( --hash=sha256:[0-9a-f]{64})+", line) for line in lines)
    names = {line.partition("==")[0] for line in lines}
    assert len(names) == len(lines) and {"pywin32", "numpy", "onnxruntime", "tuf", "pyinstaller", "pefile"} <= names


@pytest.mark.parametrize("version", ["0.1.0", "0.1.9", "0.2.0", "1.0.0"])
def test_the_package_to_upgrade_to_is_newer_whatever_the_version_is(
    version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload, "version", lambda: version)
    newer, now = ([int(part) for part in text.split(".")] for text in (payload.newer(), version))
    assert newer > now


def test_without_wine_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(windows.Missing, match="apt install --no-install-recommends wine wine64 gcc-mingw"):
        windows.require()
