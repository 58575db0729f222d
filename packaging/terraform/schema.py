"""Writes ``azurerm.json``: which arguments the resource types that we use have, and which of them are required.

With it ``check.py`` needs neither a network nor the provider. The facts come from the package
``cdktn-provider-azurerm`` (MPL-2.0), which is generated from the provider's own schema; only names, types and
"required" are taken. To renew, in an environment of its own::

    pip install cdktn-provider-azurerm==18.9.0
    python packaging/terraform/schema.py

The file holds for each type its ``arguments``: ``[required, kind]``, where kind is ``string``, ``number``, ``bool``,
``list``, ``map``, or an object of the arguments of a nested block; and its ``attributes``, to which others may refer.
"""

from __future__ import annotations

import gzip
import json
import re
import tarfile
from importlib.metadata import files, version
from pathlib import Path
from typing import Any

PACKAGE = "cdktn-provider-azurerm"
HERE = Path(__file__).parent
USED = re.compile(r'^(resource|data) "(azurerm_[a-z0-9_]+)"', re.M)
ARGUMENT = re.compile(r"\{@link [^ ]*registry\.terraform\.io/providers/hashicorp/azurerm/([\d.]+)/docs/[^ #]*#(\w+)")
PLAIN = {"string": "string", "number": "number", "boolean": "bool"}


def main() -> None:
    """Write the file for the types that our files use."""
    assembly = _assembly()
    types = assembly["types"]
    used = {name for path in HERE.rglob("*.tf") for name in USED.findall(path.read_text(encoding="utf-8"))}
    by_name = {_snake(name.rsplit(".", 1)[-1]): name for name in types if name.endswith("Config")}
    found = {}
    for what, name in sorted(used):
        own = name.removeprefix("azurerm_") if what == "resource" else f"data_{name}"
        config = by_name.get(f"{own}_config")
        if config is None:
            raise SystemExit(f"{what} {name}: there is no such type in {PACKAGE} {version(PACKAGE)}")
        attributes = _attributes(types[config.removesuffix("Config")])
        found[f"{what}.{name}"] = {"arguments": _arguments(types, config), "attributes": attributes}
    provider = {
        match[1]
        for each in types[by_name["key_vault_config"]]["properties"]
        if (match := ARGUMENT.search(_summary(each)))
    }
    document = {"from": f"{PACKAGE} {version(PACKAGE)}", "provider": provider.pop(), "types": found}
    (HERE / "azurerm.json").write_text(json.dumps(document, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{len(found)} types of provider {document['provider']}")


def _assembly() -> Any:
    """Return the package's description of its own types."""
    archive = next(each for each in files(PACKAGE) or [] if each.name.endswith(".jsii.tgz"))
    with tarfile.open(str(archive.locate())) as tar:
        member = tar.extractfile("package/.jsii")
        assert member is not None
        value = json.loads(member.read())
        if value.get("schema") == "jsii/file-redirect":
            packed = tar.extractfile(f"package/{value['filename']}")
            assert packed is not None
            value = json.loads(gzip.decompress(packed.read()))
    return value


def _arguments(types: Any, name: str) -> dict[str, Any]:
    return {
        match[2]: [not each.get("optional", False), _kind(types, each["type"])]
        for each in types[name].get("properties", [])
        if (match := ARGUMENT.search(_summary(each))) and match[2] not in ("id", "timeouts")
    }


def _attributes(resource: Any) -> list[str]:
    """Return what other resources may refer to: arguments, and what the provider computes."""
    names = [each["name"] for each in resource["properties"] if not each.get("static", False)]
    return sorted(_snake(name) for name in names if not name.endswith("Input"))


def _kind(types: Any, kind: Any) -> Any:
    """Return the kind of an argument; what may be one block or a list of them is its arguments."""
    if "primitive" in kind:
        return PLAIN.get(kind["primitive"], "string")
    if "union" in kind:
        kinds = [_kind(types, each) for each in kind["union"]["types"] if each.get("fqn") != "cdktn.IResolvable"]
        return next((each for each in kinds if isinstance(each, dict)), kinds[0] if kinds else "string")
    if "collection" in kind:
        inner = _kind(types, kind["collection"]["elementtype"])
        return inner if isinstance(inner, dict) else "map" if kind["collection"]["kind"] == "map" else "list"
    return _arguments(types, kind["fqn"]) if kind.get("fqn") in types else "string"


def _summary(each: Any) -> str:
    docs = each.get("docs", {})
    return f"{docs.get('summary', '')} {docs.get('remarks', '')}"


def _snake(name: str) -> str:
    """As Terraform writes a name that is ``KeyVaultConfig`` here."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


if __name__ == "__main__":
    main()
