"""What to do next: the sentences with which a report begins, from the content of ``run.json`` alone.

Each names what was seen, and the step that mends it. The order is that of urgency: what makes the figures worthless,
what costs people their sleep, what was missed, what would make it better.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

NEAR = 0.6
"""A missed event whose score came this near to the threshold may be found with a larger budget."""
FEW = 10
OFTEN = 3
"""Fewer false alarms show no pattern."""
OVER = 1.5
"""A budget that is exceeded by this factor on the very time it was set on is not kept."""
MOST_USED = 5
WORDS = {"failed": "Refused", "unknown": "To look at"}


def advice(run: Mapping[str, Any]) -> list[str]:
    """Return what to do, the most urgent first; empty where nothing stands out."""
    models = (run.get("evaluation") or {}).get("models") or {}
    found = [*_gates(run), *_over_budget(run)]
    found += [line for name, model in models.items() for line in _false(name, model)]
    found += [line for name, model in models.items() for line in _missed(name, model)]
    found += list(_counters(run))
    found += [line for name, model in models.items() for line in _doubts(name, model)]
    return found


def _gates(run: Mapping[str, Any]) -> Iterator[str]:
    for status, word in WORDS.items():
        for gate in run.get("gates") or []:
            if gate.get("status") == status:
                yield f"{word}, {gate['id']}: {gate['says']}."


def _over_budget(run: Mapping[str, Any]) -> Iterator[str]:
    budget = (run.get("budget") or {}).get("episodes_per_device_day")
    for name, facts in (run.get("calibration") or {}).items():
        answered = ((facts.get("backtest") or {}).get("answered") or {}).get("false_alarms_per_day")
        if budget and answered and answered > OVER * budget:
            yield (
                f"{name}: {answered:.2g} false alarms a device-day even where people answer; the budget is {budget:g}. "
                "Do not let it alert anybody yet: see below what it raises them for."
            )


def _false(name: str, model: Mapping[str, Any]) -> Iterator[str]:
    cases = model.get("false") or []
    total = len(cases)
    if total < OFTEN:
        return
    leading = Counter(case["sensors"][0] for case in cases if case.get("sensors"))
    for sensor, count in leading.most_common(1):
        if count >= max(OFTEN, total / 2):
            yield (
                f"{name}: {sensor} leads {count} of {total} false alarms. Look at what it does there: a recurring job "
                "can be labelled normal or answered on the dashboard, a bad sensor repaired or left out."
            )
    by_device = Counter(case["device"] for case in cases)
    device, count = by_device.most_common(1)[0]
    if len(model.get("devices") or []) > 2 and count >= max(OFTEN, 0.6 * total):
        yield f"{name}: {device} has {count} of {total} false alarms. Is it like the others, or a type of its own?"
    quarters = [q for q in model.get("quarters") or [] if q.get("false_alarms_per_day") is not None]
    mean = model.get("false_alarms_per_day") or 0.0
    if quarters and quarters[-1]["false_alarms"] >= OFTEN and quarters[-1]["false_alarms_per_day"] > 2 * mean:
        yield (
            f"{name}: false alarms rise with time, to {quarters[-1]['false_alarms_per_day']:.2g} a device-day in the "
            "last quarter. The devices have changed since: train on newer data."
        )


def _missed(name: str, model: Mapping[str, Any]) -> Iterator[str]:
    cases = model.get("missed") or []
    near = [case for case in cases if (case.get("of_threshold") or 0.0) >= NEAR]
    if near:
        yield (
            f"{name}: {len(near)} of {len(cases)} missed events came to {NEAR:.0%} of what alerts need, or above for "
            "too short a time. A larger --budget may find them; fieldwatch-trainer backtest shows at what cost."
        )
    if far := len(cases) - len(near):
        yield (
            f"{name}: {far} of {len(cases)} missed events look normal to it. Do these sensors show the fault at all, "
            "are the labels right? The report's pictures show the score around each."
        )


def _counters(run: Mapping[str, Any]) -> Iterator[str]:
    told = [*(run.get("findings") or {}).get("findings", []), *(run.get("findings") or {}).get("accepted", [])]
    counters = {one.get("sensor") for one in told if one.get("kind") == "counter"}
    for name, model in (run.get("models") or {}).items():
        importance = (model.get("facts") or {}).get("importance") or {}
        used = sorted((key for key in importance if importance[key] > 0), key=lambda key: (-importance[key], key))
        for place, sensor in enumerate(used[:MOST_USED], start=1):
            if sensor in counters:
                yield (
                    f"{name}: {sensor} only ever grows, and is number {place} of the sensors it uses most "
                    f"({importance[sensor]:.0%} of the gain). A counter or a clock tells when, not what: leave it out, "
                    "or export its difference, and train again."
                )


def _doubts(name: str, model: Mapping[str, Any]) -> Iterator[str]:
    events = model.get("events")
    if events is not None and events < FEW:
        what = "no labelled event" if not events else f"only {events} labelled event{'s' if events > 1 else ''}"
        yield f"{name}: {what} to judge it by. Label more before you trust its recall."
    if (model.get("unknown_share") or 0.0) > 0.1:
        yield (
            f"{name}: {model['unknown_share']:.0%} of the rows are unknown to it: sensors missing, or unlike all that "
            "it was trained on. fieldwatch-trainer check names the sensors."
        )
    if (model.get("miscalibration") or 0.0) > 0.05 and model.get("kind") == "classifier":
        yield (
            f"{name}: its probabilities are off ({model['expected_positive']:.0f} faulty rows expected, "
            f"{model['observed_positive']} observed). Rank by them, do not reckon with them; more faults in training "
            "mend it."
        )
