"""Columns: how many fields a row has, which line names them, where the time stands; fixed by the first rows."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest
from fieldwatch_contract.clock import parse_iso
from fieldwatch_contract.reading.lines import Lines
from fieldwatch_contract.reading.parse import Parser, Readings
from fieldwatch_contract.reading.settings import LogConfig

START = parse_iso("2026-01-17T10:00:00Z")
MINUTE = 60_000_000


def parser(sensors: str = "a b c", **keys: Any) -> Parser:
    return Parser(LogConfig.model_validate({"path": "x", "period": "60s", **keys}), sensors.split())


def read(lines: list[str], sensors: str = "a b c", **keys: Any) -> Readings:
    return parser(sensors, **keys).parse(Lines(lines=[line.encode() for line in lines], fresh=True, at_start=True))


def rows(row: str, count: int = 20, first: int = 0) -> list[str]:
    return [f"2026-01-17 10:{first + i:02},{row}" for i in range(count)]


# ---- how many fields ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "usual", "odd", "words"),
    [
        ("time,a,b,c", "1,2,3", "1,9,2,", "has 5 fields, the header has 4"),
        ("time,a,b,c", "1,2,3,", "1,2,3", "has 4 fields, the header has 4 (and 1 empty at the end)"),
        ("time,a,b,c", "1,2,3,", "1,9,2,3", "has 5 fields, the header has 4 (and 1 empty at the end)"),
        ("time,a,b,c", "1,2,3,", "1,2,3,,", "has 6 fields"),
        ("time,a,b,c", "1,2,3,,", "1,2,3,", "has 5 fields"),
        ("time,a,b,c", "1,2,3", "1,9", "has 3 fields, the header has 4"),
        ("time,a,b,c,", "1,2,3,", "1,2,3", "has 4 fields, the header has 5"),
        ("time,a,b,c,", "1,2,3", "1,9,2,3", "has 5 fields, the header has 4"),
        ("time,a,b,c,Comment", "1,2,3", "1,2", "has 3 fields, the header has 4"),
    ],
)
@pytest.mark.parametrize("around", [1, 20])
def test_a_row_of_another_width_than_the_first_is_refused_with_both_counts(
    header: str, usual: str, odd: str, words: str, around: int
) -> None:
    found = read([header, *rows(usual, around), *rows(odd, 1, 30), *rows(usual, around, 31)])
    assert [refusal.reason for refusal in found.refused] == ["columns"]
    assert words in found.refused[0].detail
    assert "[log] columns" in found.refused[0].detail
    assert found.values.tolist() == [[1.0, 2.0, 3.0]] * 2 * around


def test_a_remark_may_be_left_off_and_no_other_column_may() -> None:
    found = read(["time,a,b,c,Comment", *rows("1,2,3,started", 12), *rows("1,2,3", 12, 12), *rows("1,2,3,", 12, 24)])
    assert found.values.tolist() == [[1.0, 2.0, 3.0]] * 36
    found = read(["time,a,b,c", *rows("1,2", 12)])
    assert {refusal.reason for refusal in found.refused} == {"columns"}
    assert "has 3 fields by the delimiter ',', the header 'time,a,b,c' has 4" in found.refused[0].detail


def test_after_a_restart_the_width_is_that_of_most_rows_before_not_of_an_odd_one() -> None:
    before = [*rows("1,9,2,", 1), *rows("1,2,3", 9, 1)]
    found = parser().parse(
        Lines(
            lines=[line.encode() for line in [*rows("1,2,3", 2, 10), *rows("1,9,2,", 1, 12)]],
            fresh=True,
            header=b"time,a,b,c",
            before=[line.encode() for line in before],
        )
    )
    assert found.values.tolist() == [[1.0, 2.0, 3.0]] * 2
    assert [refusal.reason for refusal in found.refused] == ["columns"]


@pytest.mark.parametrize("seed", range(20))
def test_a_restart_between_any_two_lines_changes_nothing(seed: int) -> None:
    rng = random.Random(seed)
    delimiter = rng.choice([",", ";", "|", "\t"])
    trailing = delimiter * rng.choice([0, 0, 1, 2])
    decimal = "," if delimiter != "," and rng.random() < 0.5 else "."
    header = delimiter.join(["time", "c", "a", "note", "b"])
    lines = [header, *([delimiter.join(["", "bar", "°C", "", "V"])] if rng.random() < 0.5 else [])]
    for i in range(40):
        values = [f"{rng.uniform(-5, 5):.2f}".replace(".", decimal) for _ in range(3)]
        lines.append(
            delimiter.join([f"2026-01-17 10:{i:02}", values[0], values[1], rng.choice(["", "ok"]), values[2]])
            + trailing
        )
        if rng.random() < 0.1:
            lines.append(
                rng.choice([header, "", "# x", "pump restarted", delimiter.join(["2026-01-17 10:00", "1", "2"])])
            )
    raw = [line.encode() for line in lines]
    whole = parser().parse(Lines(lines=raw, fresh=True, at_start=True))
    for cut in range(3, len(raw)):
        first = parser().parse(Lines(lines=raw[:cut], fresh=True, at_start=True))
        rest = parser().parse(Lines(lines=raw[cut:], fresh=True, header=raw[0], before=raw[1:cut]))
        assert [*first.ts, *rest.ts] == whole.ts.tolist()
        assert first.values.tobytes() + rest.values.tobytes() == whole.values.tobytes()
        assert len(first.refused) + len(rest.refused) == len(whole.refused)


# ---- which line names the columns ---------------------------------------------------------------------------------

UNITS = {
    "TOA5": '"TS","Volts","Deg C","kPa"',
    "units": ",V,°C,kPa",
    "in brackets": "[-],[V],[°C],[kPa]",
    "how they were made": ",Avg,Min,Max",
    "both": "TS,Smp,Avg,Std",
    "time's unit": "s,V,degC,bar",
    "one is a sensor's name": "TS,a,Deg C,kPa",
    "like the header's own time": "time,V,°C,kPa",
}


@pytest.mark.parametrize("name", UNITS)
@pytest.mark.parametrize("sensors", ["a b c", "a x y z", ""])
def test_a_row_of_units_never_becomes_the_header(name: str, sensors: str) -> None:
    for again in (False, True):  # the logger writes its header anew in the middle
        lines = ["time,a,b,c", UNITS[name], *rows("1,2,3")]
        found = read(lines + lines[:2] * again + rows("1,2,3", 20, 20), sensors)
        assert len(found.ts) == 40
        assert found.refused == []
        assert found.values[:, :1].tolist() == [[1.0]] * 40 if sensors else True


def test_units_are_kept_as_facts() -> None:
    one = parser()
    for line in ['"TOA5","x","CR1000","1"', "time,a,b,c", "TS,V,°C,kPa", ",Smp,Avg,Avg", "2026-01-17 10:00,1,2,3"]:
        one.parse(Lines(lines=[line.encode()]))
    assert one.units == {"time": "TS", "a": "V", "b": "°C", "c": "kPa"}


def test_a_header_with_fewer_sensors_than_half_is_one_where_it_names_the_time() -> None:
    found = read(["time,a,b,c", *rows("1,2,3"), "time,x,a,y", *rows("8,1,9", 20, 20)])
    np.testing.assert_array_equal(found.values, [[1, 2, 3]] * 20 + [[1, np.nan, np.nan]] * 20)


@pytest.mark.parametrize(
    "line", ["Time,sync lost,at,noon", "door,time,open,x", "Operator,time,Kim,note", "time changed,by,hand,today"]
)
def test_a_message_is_no_header(line: str) -> None:
    found = read(["time,a,b,c", *rows("1,2,3"), line, *rows("1,2,3", 20, 20)])
    kept = [[1.0, 2.0, 3.0]] * 40
    assert found.values.tolist() == kept or {refusal.reason for refusal in found.refused} == {"header"}


# ---- where the time stands ----------------------------------------------------------------------------------------

T = "2026-01-17 10:00:00"
PLACES = {
    "elapsed Time before Timestamp": ("Time,Timestamp,a", f"0.5,{T},1"),
    "elapsed Time after it": ("Timestamp,Time,a", f"{T},00:00:05,1"),
    "Time is a counter": ("Time,DateTime,a", f"17,{T},1"),
    "UTC beside local time": ("Local Time,UTC,a", f"2026-01-17 15:30:00,{T},1"),
    "one with its zone": ("time,timestamp,a", "2026-01-17 15:30:00,2026-01-17T15:30:00+05:30,1"),
    "date and clock": ("Date,Time,a", "2026-01-17,10:00:00,1"),
    "clock and date": ("Time,Date,a", "10:00:00,2026-01-17,1"),
    "date, clock and half": ("Date,Time,AM/PM,a", "2026-01-17,10:00:00,AM,1"),
    "half before the value": ("Timestamp,x,a", f"{T},am,1"),
    "date among other columns": ("id,Datum,a,Uhrzeit", "9,17.01.2026,1,10:00:00"),
    "offset in a column of its own": ("Date,Time,TZ,a", "2026-01-17,11:00:00,+01:00,1"),
    "offset in a column of that name": ("Time,UTC Offset,a", "2026-01-17 09:00:00,-01,1"),
    "Unix time beside local time": ("Epoch,Timestamp,a", "1768644000,2026-01-17 11:00:00,1"),
    "no telling name": ("when,a", f"{T},1"),
    "no telling name, elapsed Time": ("Time,when,a", f"0.0,{T},1"),
    "date with a whole time": ("Date,Time,a", f"2026-01-17,{T},1"),
    "zone in the name": ('"Time (UTC+02:00)",a', "2026-01-17 12:00:00,1"),
}


@pytest.mark.parametrize("name", PLACES)
def test_the_column_whose_values_are_times_wins(name: str) -> None:
    header, row = PLACES[name]
    found = read([header, row], "a")
    assert (found.ts.tolist(), found.values.tolist()) == ([START], [[1.0]])


def test_twelve_hours_with_their_half_apart_pass_noon() -> None:
    halves = [(f"{(h - 1) % 12 + 1:02}:00:00", "AM" if h < 12 else "PM") for h in range(24)]
    found = read(
        ["Date,Time,AM/PM,a", *(f"2026-01-17,{clock},{half},{i}" for i, (clock, half) in enumerate(halves))], "a"
    )
    assert found.ts.tolist() == [START + (hour - 10) * 60 * MINUTE for hour in range(24)]
    assert found.values[:, 0].tolist() == list(range(24))


@pytest.mark.parametrize(
    ("header", "row", "keys", "words"),
    [
        ("Time,a", "10:00:00,1", {}, "it has no date: name the date's column too"),
        ("Time,a", "2026-01-17 10:00:00 CET,1", {}, '"%Y-%m-%d %H:%M:%S CET", and say timezone'),
        ("Date,Time,a", "2026-01-17,60.5,1", {}, "is no time"),
        ("X_Value,a", "0.5,1", {}, "no column that holds a time"),
        ("time,a", f"{T},1", {"timestamp": ["Date", "Time"]}, "no column 'Date'; see [log] timestamp"),
        ("when,a", "next day,1", {"timestamp": "when"}, "'next day' is no time"),
    ],
)
def test_no_time_is_refused_and_said(header: str, row: str, keys: dict[str, Any], words: str) -> None:
    found = read([header, row], "a", **keys)
    assert len(found.ts) == 0
    assert words in found.refused[0].detail


# ---- no header ----------------------------------------------------------------------------------------------------


def test_configured_columns_stand_for_a_header_and_count() -> None:
    keys = {"columns": ["time", "b", "", "a"]}
    found = read([*rows("2,x,1", 20), "time,b,,a", *rows("2,x,1", 5, 20), *rows("2,1", 1, 30)], "a b", **keys)
    assert found.values.tolist() == [[1.0, 2.0]] * 25
    assert found.skipped == 1
    assert "has 3 fields, [log] columns has 4" in found.refused[0].detail


def test_rows_without_a_header_say_which_key_helps() -> None:
    assert "name the columns in [log] columns" in read(rows("1,2,3", 3)).refused[0].detail
    assert 'say [log] format = "jsonl"' in read(['{"ts": "2026-01-17T10:00:00Z", "a": 1}']).refused[0].detail


@pytest.mark.parametrize("at", [0, 1, 9])
def test_a_byte_order_mark_before_any_line_is_no_part_of_it(at: int) -> None:
    lines = ["time,a,b,c", *rows("1,2,3")]
    lines[at] = "\ufeff" + lines[at]
    found = read(lines)
    assert found.refused == []
    assert found.values.tolist() == [[1.0, 2.0, 3.0]] * 20
