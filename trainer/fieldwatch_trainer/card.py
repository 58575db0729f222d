"""The model card: what a run made and how far to trust it, as text that reads well in a terminal.

The words that the card and the HTML report share stand here: names of figures, what a score means, limits of use.
``run`` is described in :mod:`.report`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from fieldwatch_contract.told import duration, every

from fieldwatch_trainer.checks import told

LABELS = {
    "event_recall": "event recall: share of labelled events with an alert",
    "alert_precision": "alert precision: share of alerts that met an event",
    "false_alarms_per_day": "false alarms per device-day",
    "false_alarms": "false alarms",
    "normal_days": "device-days in which a false alarm could come",
    "alerts": "alerts",
    "events": "labelled events",
    "delay_median_s": "delay to the alert, median",
    "delay_p90_s": "delay to the alert, 90 %",
    "precision": "precision at the threshold",
    "recall": "recall at the threshold",
    "f1": "F1 at the threshold",
    "brier": "Brier score (lower is better)",
    "log_loss": "log loss (lower is better)",
    "accuracy": "accuracy",
    "ece": "calibration error",
    "miscalibration": "share of the base rate's Brier score lost by calibration",
    "roc_auc": "area under ROC",
    "alert_share": "normal rows with an open alert",
    "unknown_share": "rows judged unknown",
    "positive_share": "rows labelled",
    "average_precision": "average precision (area under precision and recall)",
    "average_precision_pooled": "average precision over all rows together",
    "vus_pr": "VUS-PR (the same for intervals)",
    "highest_score": "highest score",
    "lowest_level": "lowest score that could raise an alert",
    "expected_positive": "faulty rows expected by the probabilities",
    "observed_positive": "faulty rows observed",
    "rows": "rows",
    "hit_100": "responsible sensors among the n named first",
    "hit_150": "responsible sensors among the 1.5 n named first",
}
BASELINES = {"random": "random score", "variance": "moving variance", "everything": "flag everything"}
"""Scores that know nothing, beside every figure."""
SHARES = {"event_recall", "alert_precision", "alert_share", "unknown_share", "positive_share"}

READING = (
    "A score alone is not a verdict. A row is *anomalous* (detector) or *faulty* (classifier) where the score reaches "
    "the model's threshold, and *unknown* where the reading is unlike anything the model was trained on, where too "
    "many sensors are missing, or while the window is not yet filled. An alert opens only after several such rows in a "
    "row and names the sensors that made the score."
)
KINDS = {
    "detector": "The detector's score says how far a row is from what its sensors did in training. It has no upper "
    "end and is not a probability; compare it with the threshold, not between models.",
    "classifier": "The classifier's score, 0 to 1, is meant as the probability of a fault; the report shows beside it "
    "which share of held-back rows was in one. It knows faults like those it was shown, no others.",
}
LIMITS = (
    "Meant to call a person's attention to a device of this type. Not a safety function, and no proof that a device "
    "without an alert is well.",
    "Holds for devices, sensors and operating conditions like those in the training data. After a repair, a new "
    "recipe or a new sensor, expect unknown rows and false alarms until it is trained again.",
    "Labels are people's: a fault that nobody labelled counts here as a false alarm, a label that starts late makes "
    "an early alert look wrong.",
    "Responsible sensors are where the score comes from. They are a place to start looking, not a cause.",
)


def heading(run: Mapping[str, Any]) -> str:
    """Return name and version."""
    return f"{run.get('name', 'run')} {run.get('version', '')}".strip()


def card(run: Mapping[str, Any]) -> str:
    """Return the card as Markdown; the sections for which ``run`` has something."""
    sections = [
        ("", _facts(run)),
        ("Accepted findings", _accepted(run.get("findings") or {})),
        ("What to do", _bullets(run.get("advice") or [])),
        ("Notes", _bullets(run.get("notes") or [])),
        ("Models", _models(run.get("models") or {})),
        ("Data", _data(run.get("data") or {})),
        ("Figures", _figures(run.get("evaluation") or {})),
        ("Cross-validation", _folds(run.get("table") or {})),
        ("Parity gate", _gate(run.get("gate") or {})),
        ("How to read the score", _reading(run.get("models") or {})),
        ("Intended use and limits", _bullets(LIMITS)),
    ]
    parts = [f"# {heading(run)}"]
    for about, lines in sections:
        if lines:
            parts.append("\n".join(([f"## {about}", ""] if about else []) + lines))
    return "\n\n".join(parts) + "\n"


def _bullets(sentences: Iterable[str]) -> list[str]:
    return [f"- {sentence}" for sentence in sentences]


def _accepted(findings: Mapping[str, Any]) -> list[str]:
    """Tell what was found in the data and accepted by name: the model is no better than that."""
    return _bullets(
        f"**{one['kind']}**: {told.place(one)}{one['what']}. What follows: {one['consequence']}."
        for one in findings.get("accepted") or []
    )


def _facts(run: Mapping[str, Any]) -> list[str]:
    named = (("device_type", "Device type"), ("trained_until", "Trained on rows before"), ("sha256", "sha256"))
    lines = [f"{label}: {run[key]}" for key, label in named if run.get(key)]
    if run.get("sensors"):
        lines.append(f"Sensors: {len(run['sensors'])}")
    if run.get("timed", True) and run.get("period_s"):
        lines.append(f"Period {every(run['period_s'])}, window {run.get('window', 1)} rows")
    return _bullets(lines)


def _models(models: Mapping[str, Any]) -> list[str]:
    lines = []
    for name, model in models.items():
        facts = model.get("facts") or {}
        made = facts.get("library") or facts.get("method")
        about = ", ".join(str(part) for part in (model.get("kind"), made) if part)
        lines.append(f"- **{name}** ({about}), threshold {number(model.get('threshold'))}")
        lines.extend(f"  - {note}" for note in facts.get("notes") or [])
    return lines


def _data(data: Mapping[str, Any]) -> list[str]:
    lines = [f"{k.replace('_', ' ')}: {plain(v)}" for k, v in data.items() if not isinstance(v, dict | list)]
    if data.get("labels"):
        lines.append("labels: " + ", ".join(f"{count} {kind}" for kind, count in sorted(data["labels"].items())))
    return _bullets(lines)


def _figures(evaluation: Mapping[str, Any]) -> list[str]:
    lines = [f"On {evaluation['scope']}.", ""] if evaluation.get("scope") and evaluation.get("models") else []
    for name, model in (evaluation.get("models") or {}).items():
        head, rows = table_of(model)
        lines += [f"| {' | '.join([name, *head])} |", "|---" * (len(head) + 1) + "|"]
        lines += [f"| {' | '.join(row)} |" for row in rows]
        lines.append("")
    return lines[:-1]


def _folds(table: Mapping[str, Any]) -> list[str]:
    lines = []
    for key, value in (table.get("mean") or {}).items():
        spread = (table.get("sd") or {}).get(key)
        lines.append(f"{LABELS.get(key, key)}: {number(value)}" + ("" if spread is None else f" (sd {number(spread)})"))
    return _bullets(lines)


def _gate(gate: Mapping[str, Any]) -> list[str]:
    return [
        f"- {name}: {'passed' if one.get('passed', gate.get('passed')) else 'FAILED'}, largest difference "
        f"{one.get('max_difference', 0.0):.1e} over {one.get('rows', 0):,} rows, "
        f"{one.get('flips', 0)} changed decisions"
        for name, one in (gate.get("models") or {}).items()
    ]


def _reading(models: Mapping[str, Any]) -> list[str]:
    kinds = {str(model.get("kind") or name) for name, model in models.items()}
    return [READING] + [part for kind, text in KINDS.items() if kind in kinds for part in ("", text)]


def figure(key: str, value: Any) -> str:
    """Write a figure of an evaluation, – where there is none."""
    if value is None:
        return "–"
    if key in SHARES:
        return share(value)
    return duration(value) if key.endswith("_s") else number(value)


def table_of(model: Mapping[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return heads and rows of a model's figures: the figure, how sure it is, and what each baseline gets."""
    beside = [key for key in BASELINES if model.get(key)]
    sure = model.get("intervals") or {}
    known = {key for key, value in model.items() if isinstance(value, int | float) and not isinstance(value, bool)}
    rows = []
    for key in [*(key for key in LABELS if key in known), *(k for k in model if k in known - set(LABELS))]:
        if key == "threshold":
            continue
        within = f"{figure(key, sure[key][0])} to {figure(key, sure[key][1])}" if key in sure else ""
        row = [LABELS.get(key, key.replace("_", " ")), figure(key, model[key]), within]
        rows.append(row + [figure(key, model[b].get(key)) for b in beside])
    head = ["model", "95 % interval", *(BASELINES[key] for key in beside)]
    if not any(row[2] for row in rows):
        return head[:1] + head[2:], [row[:2] + row[3:] for row in rows]
    return head, rows


def plain(value: Any) -> str:
    """Write any plain value of a JSON file."""
    if value is None:
        return ""
    return number(value) if isinstance(value, int | float) and not isinstance(value, bool) else str(value)


def number(value: Any) -> str:
    """Write a number with three digits or in full where it is a count."""
    if value is None:
        return "–"
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer() and 1 < abs(value) < 1e15):
        return f"{int(value):,}"
    return f"{value:.3g}" if not 1000 <= abs(value) < 1e6 else f"{value:,.0f}"


def share(value: float) -> str:
    """Write a share as a percentage."""
    return f"{value:.2%}"
