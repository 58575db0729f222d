"""What a bundle consists of and was made of, beside it, for programs that keep inventories: an ML-BOM (CycloneDX 1.6).

It is a target of its own, ``prod/<name>/<version>.cdx.json``, under the same signatures as the bundle; the bundle's
bytes know nothing of it. Each ONNX graph is a ``machine-learning-model`` with its card, every other member a file, all
with the digests that the bundle's manifest states. What it was made of has the scope ``excluded``, because no device
needs it: the libraries of the training, and its data by digest. Without a ``run.json`` those are not known, and the
document says so (``compositions``). The same bundle and run give the same bytes: no clock and no chance in it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any
from uuid import NAMESPACE_URL, uuid5

from fieldwatch_contract.bundle import Bundle, ModelSpec

from fieldwatch_trainer import card
from fieldwatch_trainer.release import provenance
from fieldwatch_trainer.release.errors import ReleaseError

FORMAT = ("CycloneDX", "1.6")
MODEL = "machine-learning-model"
TASKS = {"detector": "anomaly detection", "classifier": "fault classification"}
INPUTS = {
    "rows": "float64, consecutive rows of sensor values, missing ones are NaN",
    "features": "float32, window features of one row",
}
NO_LIBRARIES = {"python", "feature_kernel"}
"""Among the versions of a run: what is no package of PyPI."""


def path_of(target: str) -> str:
    """Return the target path of a bundle's ML-BOM.

    >>> path_of("prod/press/v1.zip")
    'prod/press/v1.cdx.json'
    """
    return target.removesuffix(".zip") + ".cdx.json"


def document(target: str, bundle: Bundle, run: Mapping[str, Any]) -> bytes:
    """Return the ML-BOM of a bundle; ``run`` is the content of its ``run.json``, empty where there is none."""
    manifest = bundle.manifest
    libraries, data = list(_libraries(run.get("versions") or {})), list(_data(run.get("data") or {}))
    cards = {model.file: _model(bundle, model, run, [one["bom-ref"] for one in data]) for model in manifest.models}
    others = [{"type": "file", "name": name} for name in sorted(bundle.files) if name not in cards]
    members = [
        {"bom-ref": f"{target}#{one['name']}", "hashes": _hashes(manifest.files[one["name"]])} | one
        for one in [*cards.values(), *others]
    ]
    whole: dict[str, Any] = {
        "type": MODEL,
        "bom-ref": target,
        "name": manifest.name,
        "version": manifest.version,
        "description": f"Fieldwatch bundle for devices of type {manifest.device_type}",
        "hashes": _hashes(bundle.sha256),
        "components": members,
        "properties": _properties({
            "target": target, "device_type": manifest.device_type, "period_s": manifest.period_s,
            "window": manifest.window, "sensors": len(manifest.sensors), "kernel": manifest.kernel,
            "trained_until": manifest.trained_until or None, "code:sha256": run.get("code"), "seed": run.get("seed"),
        }),
    }  # fmt: skip
    if run:
        whole["externalReferences"] = [{"type": "attestation", "url": provenance.path_of(target).rpartition("/")[2]}]
    made: dict[str, Any] = {
        "bomFormat": FORMAT[0],
        "specVersion": FORMAT[1],
        "version": 1,
        "metadata": {"component": whole},
        "components": libraries + data,
        "dependencies": [{"ref": target, "dependsOn": [one["bom-ref"] for one in libraries + data]}],
        "compositions": [
            {"aggregate": "complete", "assemblies": [target]},
            {"aggregate": "incomplete" if libraries or data else "unknown", "dependencies": [target]},
        ],
    }
    made["serialNumber"] = uuid5(NAMESPACE_URL, json.dumps(made, sort_keys=True)).urn
    return json.dumps(made, indent=1, sort_keys=True).encode() + b"\n"


def _model(bundle: Bundle, model: ModelSpec, run: Mapping[str, Any], datasets: list[str]) -> dict[str, Any]:
    """Return a model's component with its card."""
    import onnx

    graph = onnx.load_model_from_string(bundle.files[model.file])
    facts = ((run.get("models") or {}).get(model.name) or {}).get("facts") or {}
    opsets = sorted((one.domain or "ai.onnx", one.version) for one in graph.opset_import)
    made = facts.get("library") or facts.get("method")
    measured = _figures(model.name, run.get("evaluation") or {})
    return {
        "type": MODEL,
        "name": model.file,
        "description": f"{model.kind} {model.name}" + (f", {made}" if made else ""),
        "modelCard": {
            "modelParameters": {
                "task": TASKS[model.kind],
                "inputs": [{"format": INPUTS[model.input]}],
                "outputs": [{"format": f"float32, {output.name}"} for output in graph.graph.output],
            }
            | ({"datasets": [{"ref": one} for one in datasets]} if datasets else {}),
            "considerations": {
                "useCases": [card.LIMITS[0]],
                "technicalLimitations": [card.KINDS[model.kind], *card.LIMITS[1:]],
            },
        }
        | ({"quantitativeAnalysis": {"performanceMetrics": measured}} if measured else {}),
        "properties": _properties({
            "model": model.name, "format": "ONNX", "format:ir_version": graph.ir_version,
            "format:opsets": ", ".join(f"{domain} {version}" for domain, version in opsets),
            "threshold": model.threshold, "lookback": model.lookback, "alert:persistence": model.alert.persistence,
            "alert:resolve_after": model.alert.resolve_after,
        }),
    }  # fmt: skip


def _figures(name: str, evaluation: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what the run measured of a model: the figures of its card, with their intervals."""
    found = []
    measured = (evaluation.get("models") or {}).get(name) or {}
    for key in card.LABELS:
        if not isinstance(measured.get(key), int | float):
            continue
        one: dict[str, Any] = {"type": key, "value": str(measured[key])}
        if evaluation.get("scope"):
            one["slice"] = str(evaluation["scope"])
        if interval := (measured.get("intervals") or {}).get(key):
            one["confidenceInterval"] = {"lowerBound": str(interval[0]), "upperBound": str(interval[1])}
        found.append(one)
    return found


def _libraries(versions: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield Python and the libraries of the training; ``feature_kernel`` is a property of the bundle."""
    for name, version in sorted(versions.items()):
        if name != "feature_kernel":
            purl = f"pkg:{'generic/cpython' if name in NO_LIBRARIES else f'pypi/{name}'}@{version}"
            yield {
                "type": "platform" if name in NO_LIBRARIES else "library", "bom-ref": purl, "purl": purl,
                "name": name, "version": version, "scope": "excluded",
            }  # fmt: skip


def _data(facts: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the files and tables that the training read."""
    for item in facts.get("digests") or []:
        yield {
            "type": "data", "bom-ref": f"data:{item['name']}", "name": item["name"], "scope": "excluded",
            "hashes": _hashes(item["sha256"]), "data": [{"type": "dataset", "name": item["name"]}],
            "properties": _properties({"log": item.get("log"), "lake": facts.get("lake") or facts.get("file")}),
        }  # fmt: skip


def _hashes(sha256: str) -> list[dict[str, str]]:
    return [{"alg": "SHA-256", "content": sha256}]


def _properties(values: Mapping[str, Any]) -> list[dict[str, str]]:
    return [{"name": f"fieldwatch:{key}", "value": str(value)} for key, value in values.items() if value is not None]


def read(data: bytes, target: str, bundle: Bundle) -> str:
    """Say in a sentence what an ML-BOM names. Raises :class:`ReleaseError` where it does not name this bundle's
    members, all of them and with their digests.
    """
    try:
        made = json.loads(data)
        if (made["bomFormat"], made["specVersion"]) != FORMAT:
            raise ValueError("another format")
        whole = made["metadata"]["component"]
        named = {str(one["name"]): one["hashes"] for one in whole["components"]}
        models = {str(one["name"]) for one in whole["components"] if one["type"] == MODEL}
        stated = (whole["bom-ref"], whole["name"], whole["version"], whole["hashes"])
        types = [str(one["type"]) for one in made["components"]]
    except (ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"{path_of(target)} is no ML-BOM ({error!r})") from error
    manifest = bundle.manifest
    if stated != (target, manifest.name, manifest.version, _hashes(bundle.sha256)):
        raise ReleaseError(f"{path_of(target)} speaks of another bundle than {target}")
    same = named == {name: _hashes(sha256) for name, sha256 in manifest.files.items()}
    if not same or models != {model.file for model in manifest.models} or len(whole["components"]) != len(named):
        raise ReleaseError(f"{path_of(target)} does not name the files that are in {target}")
    known = f"{types.count('data')} files and tables of data, {types.count('library')} libraries"
    return (
        f"ML-BOM (CycloneDX {FORMAT[1]}): {', '.join(sorted(models))} and {len(named) - len(models)} other members; "
        f"of the training {known if types else 'nothing is known'}."
    )
