"""Says what the frozen agent consists of: ``dist/fieldwatch-agent.cdx.json`` (CycloneDX 1.6) and
``dist/fieldwatch-agent.licences.txt``, the licence of each component and its text.

``make package`` runs this after the freeze, with the Python that froze; the packages carry both files, on Linux in
``/usr/share/doc/fieldwatch-agent``, on Windows beside the program. It is a gate too: the build stops where a native
file or a module belongs to no component, where a Python package is not the one that ``requirements/agent.txt`` pins,
where a licence is unknown or not allowed (``licences.py``), or where the document does not satisfy CycloneDX's schema.
``--check`` holds a document against a folder again: every native file named with its digest, and nothing named that is
not there.

The agent tells the centre its components, so their names and versions are put into the folder too (:data:`TOLD`), all
but the Rust crates within libraries. The same folder gives the same bytes: no clock and no chance in it.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from cyclonedx.contrib.license.factories import LicenseFactory
from cyclonedx.model import HashAlgorithm, HashType
from cyclonedx.model.bom import Bom
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.output.json import JsonV1Dot6
from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator
from fieldwatch_contract.events import Components
from licences import objection
from packageurl import PackageURL
from parts import BOOTLOADER, Part, PartError, collect, modules, natives, sha256
from payload import LICENCES, NAME, ROOT, SBOM, program, settle, version

LOCK = ROOT / "requirements" / "agent.txt"
"""What the agent may consist of."""
TOLD = "_internal/fieldwatch_agent/components.json"
"""Where the agent looks, ``fieldwatch_agent/components.py``."""


def document(parts: list[Part]) -> str:
    """Return the SBOM of the agent that consists of ``parts``. Raises :class:`PartError` if it is not valid."""
    agent = Component(
        name=NAME, version=version(), type=ComponentType.APPLICATION, bom_ref=NAME,
        licenses=[LicenseFactory().make_from_string("Apache-2.0")],
    )  # fmt: skip
    bom = Bom(components=[_component(part, "") for part in parts])
    bom.metadata.component = agent
    bom.register_dependency(agent, bom.components)
    made = json.loads(JsonV1Dot6(bom).output_as_string())
    made["metadata"].pop("timestamp")
    return _numbered(made)


def signed(text: str, path: str, before: str, after: str) -> str:
    """Return the SBOM after a file was signed, which changed its digest. Raises :class:`PartError`."""
    made = json.loads(text)
    digests = [each for file in _files(made) if file["name"] == path for each in file["hashes"]]
    if [each["content"] for each in digests] != [before]:
        raise PartError(f"{path}: the SBOM does not name these bytes; run packaging/sbom.py, then sign again")
    digests[0]["content"] = after
    return _numbered(made)


def _numbered(made: dict[str, Any]) -> str:
    """Return it with a number that follows from what it says. Raises :class:`PartError` if it is not valid."""
    made.pop("serialNumber")
    made["serialNumber"] = uuid5(NAMESPACE_URL, json.dumps(made, sort_keys=True)).urn
    text = json.dumps(made, indent=1, sort_keys=True, ensure_ascii=False) + "\n"
    if (wrong := JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)) is not None:
        raise PartError(f"the SBOM does not satisfy CycloneDX 1.6: {wrong}")
    return text


def _component(part: Part, within: str) -> Component:
    reference = f"{within}{part.purl}"
    files = [
        Component(
            name=path, type=ComponentType.FILE, bom_ref=f"file:{path}",
            hashes=[HashType(alg=HashAlgorithm.SHA_256, content=digest)],
        )
        for path, digest in part.files
    ]  # fmt: skip
    return Component(
        name=part.name, version=part.version, purl=PackageURL.from_string(part.purl), bom_ref=reference,
        licenses=[LicenseFactory().make_from_string(part.licence)] if part.licence else [],
        components=[*files, *(_component(each, f"{reference}#") for each in part.inside)],
    )  # fmt: skip


def flat(parts: list[Part]) -> Iterator[Part]:
    """Yield every component, those inside others too."""
    for part in parts:
        yield part
        yield from flat(list(part.inside))


def told(parts: list[Part]) -> str:
    """Return what the agent tells of its components."""
    found = {"fieldwatch": {version()}}
    for part in flat(parts):
        if not part.purl.startswith("pkg:cargo/"):
            found.setdefault(part.name.lower(), set()).add(part.version)
    versions = {name: sorted(found[name]) for name in sorted(found)}
    return Components(versions=versions, complete=True).model_dump_json(indent=1) + "\n"


def objections(parts: list[Part]) -> list[str]:
    """Return what stands against shipping these components, a sentence each."""
    found = [
        objection(f"{part.name} {part.version}", part.licence, replaceable=bool(part.files)) for part in flat(parts)
    ]
    return [each for each in found if each]


def strangers(parts: list[Part], lock: str) -> list[str]:
    """Return which Python packages are not those of the lock file ``lock``, a sentence each. What freezes the agent is
    there too, as a part of it: its version is that of the lock file for development.
    """
    pinned: dict[str, set[str]] = {}
    for name, pin in re.findall(r"^([\w.-]+)(?:\[[^]]*\])?==([^\s;\\]+)", lock, re.M):
        pinned.setdefault(re.sub(r"[-_.]+", "-", name).lower(), set()).add(pin)
    found = []
    for part in parts:
        if not part.purl.startswith("pkg:pypi/") or part.name == BOOTLOADER:
            continue
        if part.name not in pinned:
            found.append(
                f"{part.name} {part.version}: in the frozen agent, but not in requirements/agent.txt; exclude its "
                f"modules in packaging/{NAME}.spec, or make it a dependency in pyproject.toml and run make lock"
            )
        elif part.version not in pinned[part.name]:
            wanted = " or ".join(sorted(pinned[part.name]))
            found.append(
                f"{part.name} {part.version}: requirements/agent.txt pins {wanted}; run make dev, then freeze again"
            )
    return found


def report(parts: list[Part]) -> str:
    """Return the licence of each component, then the texts that those who hand the program on must pass along."""
    rows = sorted({f"{part.name} {part.version}: {part.licence}" for part in flat(parts)})
    texts: dict[str, list[str]] = {}
    for part in parts:
        for path in part.texts:
            texts.setdefault(path.read_text(encoding="utf-8", errors="replace").strip(), []).append(part.name)
    chapters = [f"{'=' * 79}\n{', '.join(sorted(set(names)))}\n{'=' * 79}\n\n{text}" for text, names in texts.items()]
    head = f"{NAME} {version()}, Apache-2.0, contains:\n\n"
    return head + "\n".join(rows) + "\n\n" + "\n\n".join(chapters) + "\n"


def differences(text: str, folder: Path) -> list[str]:
    """Return where a document and the folder disagree, a sentence each: native files that are not named, named ones
    that are gone or have other bytes.
    """
    named = {each["name"]: each["hashes"][0]["content"] for each in _files(json.loads(text))}
    there = natives(folder)
    found = [f"{path}: in the folder, not in the SBOM" for path in there if path not in named]
    for path, digest in sorted(named.items()):
        if path not in there:
            found.append(f"{path}: in the SBOM, not in the folder")
        elif sha256(folder / path) != digest:
            found.append(f"{path}: other bytes than in the SBOM")
    return found


def _files(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for each in node.get("components", []):
        if each["type"] == "file":
            yield each
        yield from _files(each)


def main() -> int:
    """Write both files, or check; 0 done, 1 failed, 3 the gate said no."""
    parser = argparse.ArgumentParser(description="List the agent's parts.", epilog="example: python packaging/sbom.py")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where the frozen agent is")
    parser.add_argument("--check", action="store_true", help="only hold the SBOM that is there against the folder")
    options = parser.parse_args()
    folder, sbom = options.dist / NAME, options.dist / SBOM
    try:
        if not options.check:
            parts = collect(folder, modules(program(folder)))
            if wrong := [*strangers(parts, LOCK.read_text(encoding="utf-8")), *objections(parts)]:
                print("\n".join(wrong), file=sys.stderr)
                return 3
            sbom.write_text(document(parts), encoding="utf-8", newline="\n")
            (options.dist / LICENCES).write_text(report(parts), encoding="utf-8", newline="\n")
            (folder / TOLD).write_text(told(parts), encoding="utf-8", newline="\n")
            (folder / TOLD).chmod(0o644)  # whatever the umask: the folder is the same each time
            settle(folder)
            linked = sum(1 for _ in flat(parts)) - len(parts)
            print(f"{sbom}: {len(parts)} components, {linked} more inside them, {len(natives(folder))} native files")
        wrong = differences(sbom.read_text(encoding="utf-8"), folder)
    except PartError as error:
        print(error, file=sys.stderr)
        return 3
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join(wrong), file=sys.stderr, end="\n" if wrong else "")
    return 3 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
