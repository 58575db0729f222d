"""Where a bundle comes from, beside it: an in-toto statement with SLSA's provenance, made of the run's ``run.json``.

It is a target of its own, ``prod/<name>/<version>.intoto.json``, under the same signatures as the bundle, so that an
auditor sees who signed by the metadata and needs no program of ours. The bundle's bytes know nothing of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from fieldwatch_trainer.release.errors import ReleaseError

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"
CODE = "fieldwatch"
"""Names the digest of our own modules among those of the inputs."""


def path_of(target: str) -> str:
    """Return the target path of a bundle's provenance.

    >>> path_of("prod/press/v1.zip")
    'prod/press/v1.intoto.json'
    """
    return target.removesuffix(".zip") + ".intoto.json"


def check(sha256: str, run: Mapping[str, Any]) -> None:
    """Raise :class:`ReleaseError` where ``run`` (the content of ``run.json``) is of another bundle."""
    if run.get("sha256") != sha256:
        raise ReleaseError(f"run.json beside the bundle is of {run.get('name')}/{run.get('version')}: bring its own")


def statement(target: str, sha256: str, run: Mapping[str, Any]) -> bytes:
    """Return the statement for a bundle, the same bytes for the same run.

    Raises :class:`ReleaseError` where ``run`` (the content of ``run.json``) is of another bundle.
    """
    check(sha256, run)
    versions = run.get("versions", {})
    asked = {key: run.get(key) for key in ("device_type", "period_s", "trained_until", "budget")}
    data = dict(run.get("data", {}))
    inputs = [_input(item) for item in data.pop("digests", [])]
    made = {
        "_type": STATEMENT,
        "subject": [{"name": target, "digest": {"sha256": sha256}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": "urn:fieldwatch:training:v1",
                "externalParameters": asked,
                "internalParameters": {"seed": run.get("seed"), "versions": versions},
                "resolvedDependencies": [
                    {"uri": data.get("lake") or data.get("file"), "annotations": data},
                    *inputs,
                    *([{"name": CODE, "digest": {"sha256": run["code"]}}] if "code" in run else []),
                ],
            },
            "runDetails": {
                "builder": {"id": f"urn:fieldwatch:trainer:{versions.get('fieldwatch', 'unknown')}"},
                "byproducts": [
                    {"name": name, "annotations": run.get(name)}
                    for name in ("gate", "gates", "records", "accepted", "evaluation", "notes")
                ],
            },
        },
    }
    return json.dumps(made, indent=1, sort_keys=True).encode() + b"\n"


def _input(item: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {"name": item["name"], "digest": {"sha256": item["sha256"]}}
    return found | ({"annotations": {"log": item["log"]}} if "log" in item else {})


def read(data: bytes, target: str, sha256: str) -> list[str]:
    """Say in sentences what a statement states of a bundle. Raises :class:`ReleaseError` where it is of another."""
    try:
        made = json.loads(data)
        subject = made["subject"]
        if (made["_type"], made["predicateType"]) != (STATEMENT, PREDICATE):
            raise ValueError("another type")
        details = made["predicate"]["runDetails"]
        source, *others = made["predicate"]["buildDefinition"]["resolvedDependencies"]
        digests = {str(other["name"]): str(other["digest"]["sha256"]) for other in others}
        facts, found = source["annotations"], {b["name"]: b["annotations"] for b in details["byproducts"]}
        gate, accepted = found["gate"], found.get("accepted") or []
        judged = [one for part in [found, *(found.get("records") or [])] for one in part.get("gates") or []]
        said = [f"ACCEPTED although refused: {text}." for text in accepted]
        said += [f"Not known: {one['id']}: {one['says']}." for one in judged if one["status"] == "unknown"]
        passed = sum(one["status"] == "passed" for one in judged)
    except (ValueError, KeyError, TypeError, IndexError, StopIteration) as error:
        raise ReleaseError(f"{path_of(target)} is no provenance of a training ({error!r})") from error
    if subject != [{"name": target, "digest": {"sha256": sha256}}]:
        raise ReleaseError(f"{path_of(target)} speaks of another bundle than {target}")
    days, devices, labels = facts.get("device_days"), facts.get("devices"), facts.get("labels") or {}
    amount = f"{days:g} days of {devices} devices" if days is not None else f"{facts.get('rows')} rows"
    span = f", {facts['first']} to {facts['last']}" if facts.get("first") else ""
    told = ", ".join(f"{count} {label}" for label, count in labels.items()) or "none"
    return [
        f"Trained by {details['builder']['id']} on {amount} from {source['uri']}{span}; labels: {told}.",
        f"Input files and tables named by SHA-256: {len(digests.keys() - {CODE})}; "
        f"SHA-256 of the code: {digests.get(CODE, 'unknown')[:12]}.",
        f"Gate, as the run states it: {json.dumps(gate, sort_keys=True)}.",
        *([f"Gates of training and later judges: {passed} passed."] if passed else []),
        *said,
    ]
