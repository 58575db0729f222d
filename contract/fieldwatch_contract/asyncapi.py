"""The published contract: AsyncAPI 3.0 and one JSON Schema an event type, generated from :mod:`.events`.

The files in ``contract/schemas`` are for people who write another reader or writer and have never seen this code.
They are committed, and a test holds them against the code, so the wire cannot change by accident:

* ``python -m fieldwatch_contract.asyncapi --check`` fails where the files are not what the code generates, or where the
  code breaks what ``contract/schemas/released`` promised;
* ``--write`` renews the files; ``--release`` renews the promise as well, once per release of the program.

Within a major version only optional fields are added (:func:`breaking`): an old cloud must read new devices and the
reverse, for years.

Source: AsyncAPI 3.0.0, JSON Schema 2020-12.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema

from fieldwatch_contract import topics
from fieldwatch_contract.commands import Command
from fieldwatch_contract.events import (
    BATCH_CONTENT_TYPE,
    BULK_EVENTS,
    BULK_LIMIT,
    CONTENT_TYPE,
    EVENT_TYPES,
    Ack,
    DeviceState,
    Verdicts,
)

FOLDER = Path(__file__).parent / "schemas"
RELEASED = "released"
VERSION = "1.0.0"
"""Of the wire contract; its major number is the ``v1`` of topics and event types."""

TO_DEVICE = ("ack", "verdicts", "command")
"""Channels that the cloud publishes; all others are the device's."""
RETAINED = ("state", "ack", "verdicts")

FORMAT = "application/schema+json;version=draft-2020-12"
Schema = dict[str, Any]

ANNOTATIONS = frozenset({"$defs", "$id", "$schema", "title", "description", "default", "examples", "discriminator"})
"""Keywords that say nothing about which documents are valid."""


def documents() -> dict[str, Schema]:
    """Return every file of the contract: its name and its content."""
    schemas: dict[str, type[BaseModel]] = {**EVENT_TYPES, "ack": Ack, "state": DeviceState, "verdicts": Verdicts}
    schemas["command"] = Command
    files = {f"{name}.v1.json": _schema(model) for name, model in schemas.items()}
    files["bulk.v1.json"] = {
        "$schema": GenerateJsonSchema.schema_dialect,
        "title": "Bulk",
        "description": f"The payload after decompression (zstd), at most {BULK_LIMIT} bytes before it.",
        "type": "array",
        "maxItems": BULK_EVENTS,
        "items": {"oneOf": [{"$ref": f"{name}.v1.json"} for name in EVENT_TYPES]},
    }
    files["asyncapi.json"] = _asyncapi()
    return files


def _schema(model: type[BaseModel]) -> Schema:
    """Return the model's schema; constants are required on the wire, though the code need not spell them out."""
    schema = model.model_json_schema()
    constants = [name for name, field in schema["properties"].items() if "const" in field and "default" in field]
    schema["required"] = [*schema["required"], *(name for name in constants if name not in schema["required"])]
    return {"$schema": GenerateJsonSchema.schema_dialect, **schema}


def _asyncapi() -> Schema:
    messages: Schema = {}
    for name, model in EVENT_TYPES.items():
        data = model.model_fields["data"].annotation
        messages[name] = _message(f"{name}.v1.json", data.__doc__, CONTENT_TYPE)
        messages[name]["headers"] = {"$ref": "#/components/schemas/userProperties"}
    messages["bulk"] = _message("bulk.v1.json", "A zstd-compressed batch of events.", BATCH_CONTENT_TYPE)
    messages["bulk"]["headers"] = {"$ref": "#/components/schemas/userProperties"}
    messages["state"] = _message("state.v1.json", DeviceState.__doc__, "application/json")
    messages["ack"] = _message("ack.v1.json", Ack.__doc__, "application/json")
    messages["verdicts"] = _message("verdicts.v1.json", Verdicts.__doc__, "application/json")
    messages["command"] = _message("command.v1.json", Command.__doc__, CONTENT_TYPE)

    channels: Schema = {}
    operations: Schema = {}
    addresses = {name: topics.channel_of(name) for name in EVENT_TYPES}
    addresses |= {name: name for name in ("bulk", "state", *TO_DEVICE)}
    for name, channel in addresses.items():
        channels[name] = {
            "address": f"{topics.PREFIX}/{{device}}/{channel}",
            "messages": {name: {"$ref": f"#/components/messages/{name}"}},
            "parameters": {"device": {"$ref": "#/components/parameters/device"}},
        }
        from_device = name not in TO_DEVICE
        operations[f"{'send' if from_device else 'receive'}{name.capitalize()}"] = {
            "action": "send" if from_device else "receive",
            "channel": {"$ref": f"#/channels/{name}"},
            "bindings": {"mqtt": {"qos": 1, "retain": name in RETAINED, "bindingVersion": "0.2.0"}},
        }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Fieldwatch",
            "version": VERSION,
            "description": (
                "Between a device and the cloud, over MQTT 5 with QoS 1, seen from the device. A PUBACK is not enough: "
                "the device keeps an event until `ack` covers its number. The number is the last part of the event's "
                "id; an event may come more than once, and its id, or the natural key of its data, makes the second "
                "arrival harmless."
            ),
            "license": {"name": "Apache-2.0"},
        },
        "defaultContentType": CONTENT_TYPE,
        "channels": channels,
        "operations": operations,
        "components": {
            "messages": messages,
            "parameters": {"device": {"description": f"Device id, ^{topics.DEVICE_ID.pattern}$"}},
            "schemas": {
                "userProperties": {
                    "type": "object",
                    "description": "MQTT 5 user properties.",
                    "properties": {
                        topics.FLOOR: {
                            "type": "string",
                            "pattern": "^[0-9]+$",
                            "description": "The lowest number that the device may still send in this epoch.",
                        }
                    },
                }
            },
        },
    }


def _message(file: str, summary: str | None, content_type: str) -> Schema:
    return {
        "name": file.removesuffix(".json"),
        "summary": " ".join((summary or "").split()).replace("`", ""),
        "contentType": content_type,
        "payload": {"schemaFormat": FORMAT, "schema": {"$ref": file}},
    }


# ---- additive only ---------------------------------------------------------------------------------------------


def breaking(old: Schema, new: Schema) -> list[str]:
    """Return how ``new`` breaks readers or writers of ``old``: one sentence each, empty where it only adds.

    Both are JSON Schemas with their own ``$defs``. Allowed are new optional properties and other words
    (:data:`ANNOTATIONS`); anything else is named, also what only one side would notice: a value more in an enum
    breaks old readers, a field no longer required does too.
    """
    return _breaking(old, new, old, new, "")


def _breaking(old: Any, new: Any, old_root: Schema, new_root: Schema, place: str) -> list[str]:
    old, new = _resolve(old, old_root), _resolve(new, new_root)
    here = place or "the document"
    if not isinstance(old, dict) or not isinstance(new, dict):
        return [] if old == new else [f"{here}: was {old}, is {new}"]
    found: list[str] = []

    before, after = old.get("properties", {}), new.get("properties", {})
    for name in before:
        if name in after:
            found += _breaking(before[name], after[name], old_root, new_root, f"{place}.{name}".lstrip("."))
        else:
            found.append(f"{here}: field {name} was removed")
    needed, needs = set(old.get("required", ())), set(new.get("required", ()))
    found += [f"{here}: field {name} is newly required" for name in sorted(needs - needed)]
    found += [f"{here}: field {name} is no longer required" for name in sorted((needed - needs) & set(after))]

    for keyword in ("anyOf", "oneOf", "allOf", "prefixItems"):
        one, other = old.get(keyword, []), new.get(keyword, [])
        if len(one) != len(other):
            found.append(f"{here}: {keyword} had {len(one)} alternatives, has {len(other)}")
        for number, (a, b) in enumerate(zip(one, other, strict=False)):
            found += _breaking(a, b, old_root, new_root, f"{here} ({keyword} {number + 1})")
    for keyword in ("items", "additionalProperties"):
        if (keyword in old) != (keyword in new):
            found.append(f"{here}: {keyword} was {'added' if keyword in new else 'removed'}")
        elif keyword in old:
            found += _breaking(old[keyword], new[keyword], old_root, new_root, f"{here}[]")

    compared = {"properties", "required", "anyOf", "oneOf", "allOf", "prefixItems", "items", "additionalProperties"}
    for keyword in sorted((set(old) | set(new)) - ANNOTATIONS - compared):
        if old.get(keyword) != new.get(keyword):
            found.append(f"{here}: {keyword} was {old.get(keyword)}, is {new.get(keyword)}")
    return found


def _resolve(node: Any, root: Schema) -> Any:
    while isinstance(node, dict) and str(node.get("$ref", "")).startswith("#/$defs/"):
        node = root["$defs"][node["$ref"].removeprefix("#/$defs/")]
    return node


# ---- the files -------------------------------------------------------------------------------------------------


def problems(folder: Path) -> list[str]:
    """Return what is wrong with the committed files: one line each, with the way out."""
    found: list[str] = []
    current = documents()
    for name, document in current.items():
        path = folder / name
        if not path.is_file() or path.read_text(encoding="utf-8") != _text(document):
            found.append(f"{name} is not what the code generates: run python -m fieldwatch_contract.asyncapi --write")
    for path in sorted(folder.glob("*.json")):
        if path.name not in current:
            found.append(f"{path.name} is no longer generated: remove it")
    for path in sorted((folder / RELEASED).glob("*.v1.json")):
        if path.name not in current:
            found.append(f"{path.name}: the released event is gone; within a major version only fields are added")
            continue
        old = json.loads(path.read_text(encoding="utf-8"))
        found += [
            f"{path.name}: {line}; within v1 only optional fields are added"
            for line in breaking(old, current[path.name])
        ]
    return found


def write(folder: Path) -> None:
    """Write every file of the contract into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, document in documents().items():
        (folder / name).write_text(_text(document), encoding="utf-8", newline="\n")


def _text(document: Schema) -> str:
    return json.dumps(document, indent=1, ensure_ascii=False) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write or check the files; 0 done, 3 the check said no."""
    parser = argparse.ArgumentParser(
        prog="python -m fieldwatch_contract.asyncapi", description="The published wire contract."
    )
    choice = parser.add_mutually_exclusive_group(required=True)
    choice.add_argument("--check", action="store_true", help="fail where files and code differ or a promise is broken")
    choice.add_argument("--write", action="store_true", help="renew the files")
    choice.add_argument("--release", action="store_true", help="renew the files and what a release promises")
    options = parser.parse_args(arguments)
    if not options.check:
        write(FOLDER)
    if options.release:
        write(FOLDER / RELEASED)
    found = problems(FOLDER)
    for line in found:
        print(line, file=sys.stderr)  # noqa: T201 - this module is a command too
    return 3 if found else 0


if __name__ == "__main__":
    sys.exit(main())
