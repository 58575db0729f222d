"""Sensors in logs without column names: one that was renamed does not pass for one that is only silent."""

from __future__ import annotations

import pytest
from fieldwatch_contract import clock
from fieldwatch_contract.reading.lines import Lines
from fieldwatch_contract.reading.occurred import ENOUGH, Names
from fieldwatch_contract.reading.parse import Parser
from fieldwatch_contract.reading.settings import LogConfig

START = 1_768_608_000_000_000


def log(form: str, minutes: range, flow: str) -> list[bytes]:
    lines = []
    for minute in minutes:
        time = clock.iso(START + minute * clock.MINUTE)
        if form == "jsonl":
            lines.append(f'{{"time": "{time}", "rpm": 900.5, "{flow}": {minute}.5}}')
        else:
            lines += [f"{time},rpm,900.5", f"{time},{flow},{minute}.5"]
    return [line.encode() for line in lines]


def parser(form: str) -> Parser:
    return Parser(LogConfig.model_validate({"path": "x", "period": "60s", "format": form}), ["rpm", "flow"])


@pytest.mark.parametrize("form", ["long", "jsonl"])
def test_a_renamed_sensor_is_missing_until_it_occurs(form: str) -> None:
    reads = parser(form)
    head = [b"timestamp,sensor,value"] if form == "long" else []
    reads.parse(Lines(lines=head + log(form, range(ENOUGH - 1), "Flow"), fresh=True, at_start=True))
    assert reads.names is None, "too early to say"
    reads.parse(Lines(lines=log(form, range(ENOUGH - 1, ENOUGH + 2), "Flow")))
    assert reads.names == Names(("flow",), ("Flow",))
    reads.parse(Lines(lines=log(form, range(ENOUGH + 2, ENOUGH + 4), "flow")))
    assert reads.names == Names((), ("Flow",))


def test_a_log_with_column_names_tells_by_its_header() -> None:
    reads = parser("csv")
    rows = [f"{clock.iso(START + i * clock.MINUTE)},{i}.5,1.5".encode() for i in range(ENOUGH + 5)]
    reads.parse(Lines(lines=[b"timestamp,rpm,Flow", *rows], fresh=True, at_start=True))
    assert reads.names is None
    assert reads.columns is not None
    assert reads.columns.missing == ("flow",)
