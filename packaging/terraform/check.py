"""Checks our Terraform files without a network: against the provider's schema, one another, and our own rules.

``terraform validate`` needs the provider, which is downloaded; this needs python-hcl2 and ``azurerm.json``, which
``schema.py`` writes. It finds what is most often wrong: an argument that does not exist, one that is missing, a
reference that leads nowhere, a variable that an environment does not give, a setting that is not safe. It does not find
values that Azure refuses. ``python packaging/terraform/check.py``: exit code 0, or 3 with a line for each problem.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

import hcl2

HERE = Path(__file__).parent
META = {"count", "for_each", "depends_on", "lifecycle", "provider"}
EXPRESSION = re.compile(r"\$\{([^}]*)\}")
TEXT = re.compile(r'"(?:[^"\\$]|\\.|\$(?!\{))*"')
NAME = re.compile(r"(?<![\w.\"-])(?:data\.)?[a-z][a-z0-9_]*(?:\.[a-z0-9_]+)+")
LOOP = re.compile(r"\bfor (\w+)(?:, (\w+))? in\b")
BUILT_IN = {"each", "count", "self", "path", "terraform"}


class Folder:
    """One folder of ``.tf`` files; ``schema``: as :mod:`schema` writes it."""

    def __init__(self, path: Path, schema: Any) -> None:
        self.path = path
        self.blocks: dict[str, list[Any]] = {}
        for file in sorted(path.glob("*.tf")):
            for kind, blocks in _parse(file.read_text(encoding="utf-8")).items():
                self.blocks.setdefault(kind, []).extend(blocks)
        self._types = schema["types"]

    def named(self, kind: str) -> dict[str, Any]:
        """Blocks with one label, as variables and modules, by name."""
        return {name: body for block in self.blocks.get(kind, []) for name, body in block.items()}

    def resources(self, kind: str = "resource") -> dict[str, Any]:
        """Resources or data sources, by ``type.name``."""
        return {
            f"{type_}.{name}": body
            for block in self.blocks.get(kind, [])
            for type_, names in block.items()
            for name, body in names.items()
        }

    def problems(self) -> Iterator[str]:
        """Yield what is wrong in this folder alone."""
        for kind in ("resource", "data"):
            for name, body in self.resources(kind).items():
                known = self._types.get(f"{kind}.{name.split('.')[0]}")
                if known is None:
                    yield f"{name}: azurerm.json does not have this type; run schema.py"
                else:
                    yield from _arguments(name, body, known["arguments"], top=True)
        yield from self._references()

    def _references(self) -> Iterator[str]:
        local = {name for block in self.blocks.get("locals", []) for name in block}
        variables, resources, data = self.named("variable"), self.resources(), self.resources("data")
        used = set()
        for place, expression, scope in _expressions(self.blocks):
            for reference in NAME.findall(TEXT.sub('""', expression)):
                first, second, *rest = reference.split(".")
                if first in BUILT_IN or first in scope:
                    continue
                if first == "var":
                    used.add(second)
                    if second not in variables:
                        yield f"{place}: there is no variable {second}"
                elif first == "local":
                    if second not in local:
                        yield f"{place}: there is no local {second}"
                elif first == "module":
                    if second not in self.named("module"):
                        yield f"{place}: there is no module {second}"
                else:
                    kind = "data" if first == "data" else "resource"
                    if kind == "data":
                        first, second, rest = second, rest[0], rest[1:]
                    name = f"{first}.{second}"
                    if name not in (data if kind == "data" else resources):
                        yield f"{place}: there is no {kind} {name}"
                    elif rest and rest[0] not in self._types[f"{kind}.{first}"]["attributes"]:
                        yield f"{place}: {name} has no attribute {rest[0]}"
        yield from (f"variable {name} is not used" for name in variables.keys() - used)


def _arguments(place: str, body: Any, known: Any, top: bool = False) -> Iterator[str]:
    given = {name: value for name, value in body.items() if not (top and name in META)}
    for block in given.pop("dynamic", []):
        for name, dynamic in block.items():
            given[name] = dynamic["content"]
    for name, value in given.items():
        if name not in known:
            yield f"{place}: there is no argument {name}"
        elif isinstance(known[name][1], dict):
            for each in value if isinstance(value, list) else [value]:
                yield from _arguments(f"{place} {name}", each, known[name][1])
        elif isinstance(value, list) != (known[name][1] == "list") and not isinstance(value, str):
            yield f"{place}: {name} is a {known[name][1]}"
    for name, (required, _) in known.items():
        if required and name not in given:
            yield f"{place}: {name} is missing"


def _expressions(
    node: Any, place: str = "", scope: frozenset[str] = frozenset()
) -> Iterator[tuple[str, str, frozenset[str]]]:
    """Yield each expression with its place, and the names that a dynamic block or ``for`` defines there."""
    if isinstance(node, str):
        for expression in EXPRESSION.findall(node):
            loops = {name for names in LOOP.findall(expression) for name in names}
            yield place, expression, scope | loops
    elif isinstance(node, list):
        for each in node:
            yield from _expressions(each, place, scope)
    elif isinstance(node, dict):
        for key, value in node.items():
            inner = scope | set(value[0]) if key == "dynamic" and isinstance(value, list) else scope
            yield from _expressions(value, f"{place} {key}".strip(), frozenset(inner))


def environment(path: Path, module: Folder, schema: Any) -> Iterator[str]:
    """Yield what is wrong with an environment: the folder, its call of the module, its values."""
    folder = Folder(path, schema)
    yield from folder.problems()
    for name, call in folder.named("module").items():
        yield from _given(f"module {name}", set(call) - {"source"}, module.named("variable"), sensitive=True)
        outputs = set(module.named("output"))
        text = json.dumps(folder.blocks.get("output", []))
        yield from (
            f"module {name} has no output {each}" for each in set(re.findall(rf"module\.{name}\.(\w+)", text)) - outputs
        )
    values = tfvars(path)
    variables = folder.named("variable")
    yield from _given(f"{path.name}.tfvars", set(values), variables, sensitive=False)
    for name, value in values.items():
        keys = set(re.findall(r"(\w+) *[=:]", re.sub(r'"', "", str(variables.get(name, {}).get("type", "")))))
        if isinstance(value, dict) and set(value) != keys:
            yield f"{path.name}.tfvars: {name} has {', '.join(sorted(value))}, needed are {', '.join(sorted(keys))}"


def _given(place: str, given: set[str], variables: Any, sensitive: bool) -> Iterator[str]:
    for name, body in variables.items():
        secret = body.get("sensitive") is True
        if name not in given and "default" not in body and (sensitive or not secret):
            yield f"{place}: {name} is not given"
        if name in given and secret and not sensitive:
            yield f"{place}: {name} is a secret and must not be in a file"
    yield from (f"{place}: there is no variable {name}" for name in sorted(given - set(variables)))


def tfvars(path: Path) -> Any:
    """Return an environment's values."""
    return _parse((path / f"{path.name}.tfvars").read_text(encoding="utf-8"))


def rules(module: Folder, prod: Any) -> Iterator[str]:
    """Yield which of our own rules are broken: by the module, or by the values of ``prod``."""

    def must(kind: str, **wanted: Any) -> Iterator[str]:
        found = {name: body for name, body in module.resources().items() if name.startswith(f"azurerm_{kind}.")}
        if not found:
            yield f"there is no azurerm_{kind}"
        for name, body in found.items():
            yield from (f"{name}: {key} must be {value}" for key, value in wanted.items() if body.get(key) != value)

    yield from must("storage_account", min_tls_version="TLS1_2", https_traffic_only_enabled=True,
                    public_network_access="Disabled", allow_nested_items_to_be_public=False)  # fmt: skip
    yield from must("key_vault", purge_protection_enabled=True, public_network_access_enabled=False,
                    rbac_authorization_enabled=True)  # fmt: skip
    yield from must("postgresql_flexible_server", public_network_access_enabled=False)
    yield from must("recovery_services_vault", public_network_access_enabled=False)
    yield from must("backup_protected_file_share")
    tls = module.resources().get("azurerm_postgresql_flexible_server_configuration.tls", {}).get("for_each", {})
    if tls != {"require_secure_transport": "on", "ssl_min_protocol_version": "TLSv1.2"}:
        yield "the database must require TLS 1.2"
    for name, body in module.resources().items():
        ingress = body.get("ingress", [{}])[0] if name.startswith("azurerm_container_app.") else {}
        if ingress and ingress.get("transport") != "tcp" and ingress.get("allow_insecure_connections") is not False:
            yield f"{name}: ingress must not allow insecure connections"
        if name.startswith("azurerm_container_app.") and not str(
            body["template"][0]["container"][0]["image"]
        ).startswith("${var.images."):
            yield f"{name}: its image must come from var.images, by digest"
        for rule in body.get("security_rule", []):
            outside = rule.get("source_address_prefix") in ("*", "Internet") and rule.get("access") == "Allow"
            if outside and rule.get("destination_port_ranges") != ["443", "8443", "8883"]:
                yield f"{name}: {rule['name']} lets in more than 443, 8443 and 8883 from outside"
    if prod["database"]["backup_days"] < 30 or prod["file_backup_days"] < 30:
        yield "prod.tfvars: backups must be kept for 30 days"
    if not (prod["database"]["geo_backup"] and prod["database"]["standby"] and prod["locked"]):
        yield "prod.tfvars: the database must have geo_backup and standby, and be locked"
    if prod["storage_replication"] not in ("GRS", "GZRS"):
        yield "prod.tfvars: storage_replication must survive the loss of a region"


def problems(root: Path = HERE) -> list[str]:
    """Return all that is wrong below ``root``."""
    schema = json.loads((root / "azurerm.json").read_text(encoding="utf-8"))
    module = Folder(root / "modules" / "fieldwatch", schema)
    found = list(module.problems())
    for name in ("dev", "prod"):
        found += [f"envs/{name}: {each}" for each in environment(root / "envs" / name, module, schema)]
    dev, prod = ((root / "envs" / name / "main.tf").read_text(encoding="utf-8") for name in ("dev", "prod"))
    if prod != dev.replace("fieldwatch-dev", "fieldwatch-prod").replace('= "dev"', '= "prod"'):
        found.append("envs: dev and prod must differ in their values alone, or dev proves nothing about prod")
    return found or list(rules(module, tfvars(root / "envs" / "prod")))  # the rules read what is complete


@lru_cache(maxsize=100)
def _parse(text: str) -> Any:
    return _plain(hcl2.loads(text))


def _plain(node: Any) -> Any:
    """Return what the parser gives without its marks: quotes, and which object is a block."""
    if isinstance(node, dict):
        return {
            key.strip('"'): _plain(value)
            for key, value in node.items()
            if key not in ("__is_block__", "__comments__", "__inline_comments__")
        }
    if isinstance(node, list):
        return [_plain(each) for each in node]
    return node[1:-1] if isinstance(node, str) and len(node) > 1 and node[0] == node[-1] == '"' else node


if __name__ == "__main__":
    wrong = problems()
    for line in wrong:
        print(line)
    sys.exit(3 if wrong else 0)
