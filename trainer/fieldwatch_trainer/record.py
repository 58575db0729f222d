"""What lies beside a bundle: ``run.json`` of its training, and ``gates.json``, what later judges said of it.

Training writes its own gates into ``run.json``, which is never changed. ``evaluate`` and ``compare`` add theirs here,
bound to the bundle by its digest, the newest of each kind and lake. ``fieldwatch-release publish`` reads both.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fieldwatch_trainer.thresholds import BUDGET

FILE = "gates.json"


def run_of(path: Path, sha256: str) -> Mapping[str, Any]:
    """Return what the ``run.json`` beside a bundle says, empty where there is none of that bundle."""
    try:
        run = json.loads(path.with_name("run.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return run if isinstance(run, dict) and run.get("sha256") == sha256 else {}


def budget_of(run: Mapping[str, Any]) -> float:
    """Return the false alarms a device-day that a bundle was trained for; where no run tells, the default."""
    return float((run.get("budget") or {}).get("episodes_per_device_day") or BUDGET)


def read(folder: Path, sha256: str) -> list[dict[str, Any]]:
    """Return the records about a bundle; of another bundle's, or of an unreadable file, none."""
    try:
        found = json.loads((folder / FILE).read_text(encoding="utf-8"))
        records = [dict(one) for one in found["records"]] if found["sha256"] == sha256 else []
    except (OSError, ValueError, KeyError, TypeError):
        return []
    return records


def note(bundle: Path, by: str, result: Mapping[str, Any]) -> None:
    """Add the gates of an evaluation or a comparison; a folder that cannot be written to stays as it is."""
    sha256, lake = str(result["sha256"]), result["lake"]
    kept = [one for one in read(bundle.parent, sha256) if (one.get("by"), one.get("lake")) != (by, lake)]
    kept.append({"by": by, "lake": lake, "gates": result["gates"]})
    content = json.dumps({"sha256": sha256, "records": kept}, indent=1) + "\n"
    part = bundle.with_name(FILE + ".part")
    try:
        part.write_text(content, encoding="utf-8", newline="\n")
        part.replace(bundle.with_name(FILE))
    except OSError:
        part.unlink(missing_ok=True)
