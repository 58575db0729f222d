"""Points and commas in numbers: read where the log settles what they mean, refused by name where it does not."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fieldwatch_contract.reading.lines import Lines
from fieldwatch_contract.reading.parse import Parser, Readings
from fieldwatch_contract.reading.settings import LogConfig

NAN = float("nan")


def parse(header: str, rows: list[str], time: str = "2026-01-17 10:{:02}", **keys: Any) -> Readings:
    """Read rows, each after a time of its own, by the delimiter in the header."""
    delimiter = header[4]
    lines = [header, *(f"{time.format(i)}{delimiter}{row}" for i, row in enumerate(rows))]
    log = LogConfig.model_validate({"path": "x", "period": "60s", **keys})
    return Parser(log, header.split(delimiter)[1:]).parse(
        Lines(lines=[line.encode() for line in lines], fresh=True, at_start=True)
    )


SETTLED = {
    "by the other columns": ("time|rpm|temp", ["998|23.5", "1,002|23.25"], [[998, 23.5], [1002, 23.25]]),
    "by a column beside it in the same row": ("time|rpm|temp", ["1,002|23.5"], [[1002, 23.5]]),
    "by the other columns, German": ("time;rpm;temp", ["998;23,5", "1.002;23,25"], [[998, 23.5], [1002, 23.25]]),
    "by other values of the column": ("time|a", ["0,998", "1,002", "12,345,678"], [[0.998], [1.002], [12_345_678]]),
    "by more digits before the sign": ("time|a", ["9998,123", "1,002"], [[9998.123], [1.002]]),
    "by another number of digits after it": ("time\ta", ["3,1415", "1,002"], [[3.1415], [1.002]]),
    "by an exponent": ("time|a|b", ["1,002e3|5,001"], [[1002, 5.001]]),
    "by two thousands signs": ("time|a|b", ["1,234,567|5.001"], [[1234567, 5.001]]),
    "by both signs in one field": ("time|a|b", ["1.234,5|2,001"], [[1234.5, 2.001]]),
    "by both, the other way": ("time|a|b", ["1,234.5|2,001"], [[1234.5, 2001]]),
    "by the delimiter": ("time;a;b", ["1,002;12,345"], [[1.002, 12.345]]),
    "by the comma between columns": ("time,a,b", ["1.002,998", "998,1.002"], [[1.002, 998], [998, 1.002]]),
    "signs before it": ("time|a|b", ["-1,002|+0.5"], [[-1002, 0.5]]),
}


@pytest.mark.parametrize("name", SETTLED)
def test_what_the_log_settles_is_read(name: str) -> None:
    header, rows, wanted = SETTLED[name]
    found = parse(header, rows)
    assert found.values.tolist() == wanted
    assert found.refused == []
    assert found.bad_values == {}


AMBIGUOUS = {
    "nothing else tells": ("time|rpm|n", ["998|3", "1,002|4"], 1, "'rpm' is '1,002': 1002 or 1.002?"),
    "from the first row on": ("time|rpm", ["1,002", "1,003"], 0, "'rpm' is '1,002': 1002 or 1.002?"),
    "a semicolon, whole numbers beside it": ("time;rpm", ["998", "1,002"], 1, "'rpm' is '1,002': 1002 or 1.002?"),
    "a semicolon, whole numbers in another column": ("time;rpm;n", ["1,002;21"], 0, "'rpm' is '1,002': 1002 or 1.002?"),
    "a point": ("time;rpm", ["998", "1.002"], 1, "'rpm' is '1.002': 1002 or 1.002?"),
    "in quotes": ("time,rpm", ['"998"', '"1,002"'], 1, "'rpm' is '1,002': 1002 or 1.002?"),
    "two ways of writing": ("time|a|b", ["1.5|1,5", "1,002|2"], 1, "decimals with a point and with a comma"),
    "a negative number": ("time|a", ["-998", "-1,002"], 1, "'a' is '-1,002': -1002 or -1.002?"),
}


@pytest.mark.parametrize("name", AMBIGUOUS)
def test_what_it_does_not_settle_is_refused_by_name_with_both_readings(name: str) -> None:
    header, rows, line, words = AMBIGUOUS[name]
    found = parse(header, rows)
    assert found.refused
    assert (found.refused[0].line, found.refused[0].reason) == (line + 1, "ambiguous")
    assert words in found.refused[0].detail
    assert "say [log] thousands = " in found.refused[0].detail
    assert "or decimal = " in found.refused[0].detail


@pytest.mark.parametrize("name", AMBIGUOUS)
@pytest.mark.parametrize("key", ["thousands", "decimal"])
def test_the_keys_that_are_named_settle_it(name: str, key: str) -> None:
    header, rows, line, words = AMBIGUOUS[name]
    sign = "." if "'1.002'" in words else ","
    if header[4] == sign and key == "decimal":
        return
    found = parse(header, rows, **{key: sign})
    assert found.refused == []
    value = found.values[line, 0]
    assert abs(value) == (pytest.approx(1002) if key == "thousands" else pytest.approx(1.002))


def test_what_is_read_out_of_habit_and_then_doubtful_is_told_once() -> None:
    found = parse("time;rpm", ["1.002", "998", "1.003", "1.004"])
    assert found.values.tolist() == [[1.002], [998]]
    assert [refusal.reason for refusal in found.refused] == ["ambiguous"] * 2
    assert found.changes == [
        "'rpm' was read with decimals so far, and what follows speaks for thousands signs: "
        'say [log] decimal = "." or thousands = "."'
    ]


def test_a_point_before_three_digits_is_ambiguous_in_a_european_log() -> None:
    """German thousands or Swiss decimals: the rows are refused until a number proves one of them."""
    found = parse("time\ta", ["12.345"] * 30 + ["0.5", "12.345"], time="17.01.2026 10:{:02}")
    assert [refusal.reason for refusal in found.refused] == ["ambiguous"] * 30
    assert found.values[:, 0].tolist() == [0.5, 12.345]


@pytest.mark.parametrize("rows", [["12,345"] * 30, ["12,345", "7,125"] * 20])
def test_three_decimals_throughout_are_decimals_in_a_european_log(rows: list[str]) -> None:
    found = parse("time\ta", rows, time="17.01.2026 10:{:02}")
    assert found.refused == []
    assert found.changes == []
    np.testing.assert_array_equal(found.values[:, 0], [float(row.replace(",", ".")) for row in rows])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("1'234.5", 1234.5),
        ("1\u202f234,5", 1234.5),
        ("1\xa0234", 1234),
        ("1 234,5", NAN),
        ("1,23,456", NAN),
        ("1'23", NAN),
    ],
)
def test_other_thousands_signs(field: str, value: float) -> None:
    found = parse("time;a", [field] * 12)
    np.testing.assert_array_equal(found.values[:, 0], [value] * 12)
    assert found.bad_values == ({"a": 12} if value != value else {})  # noqa: PLR0124


def test_missing_numbers_and_words_are_missing_in_blocks_and_alone() -> None:
    rows = ["-9999,7", "OVLD,-9999.000", "5,-9999", "---,3"] * 10
    found = parse("time,a,b", rows, missing=[-9999, "OVLD", "---"])
    alone = [parse("time,a,b", [row], missing=[-9999, "OVLD", "---"]).values[0].tolist() for row in rows]
    np.testing.assert_array_equal(found.values, alone)
    np.testing.assert_array_equal(found.values[:4], [[NAN, 7], [NAN, NAN], [5, NAN], [NAN, 3]])
    assert found.bad_values == {}


@pytest.mark.parametrize("whole", ["998", "-998"])
def test_a_whole_number_amid_three_decimals_makes_those_after_it_ambiguous_in_blocks_too(whole: str) -> None:
    rows = [*["1.125"] * 20, whole, *["1.003"] * 20]
    found = parse("time;rpm", rows)
    assert found.values[:, 0].tolist() == [1.125] * 20 + [float(whole)]
    assert [(refusal.line, refusal.reason) for refusal in found.refused] == [(22 + i, "ambiguous") for i in range(20)]
    assert len(found.changes) == 1
