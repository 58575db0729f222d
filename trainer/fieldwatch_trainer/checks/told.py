"""The report of ``check`` for a terminal: what to do first, then what the lake holds."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from fieldwatch_contract.told import every

EXAMPLES = 3
"""Findings of one kind that are written out; the others are counted."""
WIDTH = 116


def report(result: Mapping[str, Any]) -> str:
    """Write the whole report; ``result`` as ``--json`` prints it."""
    if not result["types"]:
        return f"{result['lake']}: devices.parquet names no device: nothing to check\n"
    lines: list[str] = []
    for one in result["types"]:
        lines += [
            f"{one['device_type']}  ({result['lake']})",
            *actions(one["findings"]),
            *_holds(one),
            _verdict(one),
            "",
        ]
    if idle := result["accepted_without_effect"]:
        lines += [f"accepted and not found: {', '.join(idle)}", ""]
    return "\n".join(lines)


def actions(findings: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Write what to do, what stops training first; findings of one kind together."""
    groups: dict[tuple[bool, str], list[Mapping[str, Any]]] = {}
    for one in findings:
        groups.setdefault((bool(one["accepted"]), one["kind"]), []).append(one)
    if not groups:
        yield "  nothing to do"
        return
    for number, ((accepted, kind), members) in enumerate(sorted(groups.items(), key=lambda item: item[0][0]), 1):
        first = members[0]
        bad = "accepted" if accepted else "STOPS TRAINING" if first["severity"] == "stops" else "told"
        yield f"  {number}. {kind} ({bad})"
        for one in members[:EXAMPLES]:
            yield from _wrapped(f"{place(one)}{one['what']}", "     ")
        if len(members) > EXAMPLES:
            yield f"     and {len(members) - EXAMPLES} more (--json has all)"
        yield from _wrapped(f"to do: {first['remedy']}", "     ")
        yield from _wrapped(f"else: {first['consequence']}", "     ")
        if bad == "STOPS TRAINING":
            names = list(dict.fromkeys(one["accept"] for one in members))
            yield f"     if it is right as it is: {' '.join(f'--accept {name}' for name in names[:EXAMPLES])}"


def place(one: Mapping[str, Any]) -> str:
    """Write where a finding is, and when."""
    where = " / ".join(part for part in (one["device"], one["sensor"]) if part)
    if one["start"] is None:
        return f"{where}: " if where else ""
    when = one["start"] if one["end"] in (None, one["start"]) else f"{one['start']} to {one['end']}"
    return f"{where} ({when}): " if where else f"{when}: "


def _holds(one: Mapping[str, Any]) -> Iterator[str]:
    devices = one["devices"]
    readings = sum(device["readings"] for device in devices)
    days = readings * one["period_s"] / 86_400
    yield (
        f"  {len(devices)} devices, {len(one['sensors'])} sensors, a reading every {every(one['period_s'])}, "
        f"{readings} readings ({days:.1f} device-days)"
    )
    if not devices:
        return
    missing = sum(device["missing_periods"] for device in devices)
    expected = readings + missing - sum(device["duplicates"] for device in devices)
    first = min((device["first"] for device in devices if device["first"]), default="")
    last = max((device["last"] for device in devices), default="")
    yield f"  from {first} to {last}; {missing / max(1, expected):.2%} of the periods without a reading"
    shares = (
        f"{sum(device[f'{word}_rows'] for device in devices) / max(1, readings):.2%} in {text}"
        for word, text in (("fault", "a fault"), ("anomaly", "an anomaly"), ("maintenance", "maintenance"))
    )
    kinds = ", ".join(f"{count} {kind}" for kind, count in sorted(one["labels"].items())) or "none"
    yield f"  labels: {kinds}; of the readings {', '.join(shares)}"


def _verdict(one: Mapping[str, Any]) -> str:
    count = sum(each["severity"] == "stops" and not each["accepted"] for each in one["findings"])
    if one["usable"]:
        return "  usable for training"
    return f"  NOT usable for training: {count} finding{'s' * (count != 1)} to mend or to accept"


def _wrapped(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent + "  ", break_on_hyphens=False)
