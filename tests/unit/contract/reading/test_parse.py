"""The parser: dialects, headers, refusals; and blocks give bit for bit what lines give one by one."""

from __future__ import annotations

import math
import random
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest
from fieldwatch_contract.clock import parse_iso
from fieldwatch_contract.reading.lines import Found, Lines
from fieldwatch_contract.reading.long import Assembly, beginnings
from fieldwatch_contract.reading.parse import PREAMBLE, Parser, Readings
from fieldwatch_contract.reading.settings import LogConfig
from hypothesis import given
from hypothesis import strategies as st

START = parse_iso("2026-01-17T10:54:00Z")
MINUTE = 60_000_000


def config(**keys: Any) -> LogConfig:
    return LogConfig(path="log.csv", period="60s", **keys)


def block(lines: list[bytes], **marks: Any) -> Lines:
    return Lines(lines=lines, **marks)


def parse(text: str | bytes | list[bytes], sensors: str = "a b", log: LogConfig | None = None) -> Readings:
    lines = text if isinstance(text, list) else (text.encode() if isinstance(text, str) else text).splitlines()
    return Parser(log or config(), sensors.split()).parse(block(lines, fresh=True, at_start=True))


def one_by_one(lines: list[bytes], sensors: list[str], log: LogConfig | None = None) -> Readings:
    parser = Parser(log or config(), sensors)
    parts = [parser.parse(block([line], fresh=not i, at_start=not i)) for i, line in enumerate(lines)]
    bad: dict[str, int] = {}
    for part in parts:
        for name, count in part.bad_values.items():
            bad[name] = bad.get(name, 0) + count
    return Readings(
        np.concatenate([part.ts for part in parts]),
        np.concatenate([part.values for part in parts]),
        np.array([i for i, part in enumerate(parts) if len(part.ts)], np.int64),
        [type(refusal)(i, refusal.reason, refusal.detail) for i, part in enumerate(parts) for refusal in part.refused],
        sum(part.skipped for part in parts),
        bad,
        [change for part in parts for change in part.changes],
    )


def same(one: Readings, other: Readings) -> None:
    assert one.ts.tolist() == other.ts.tolist()
    assert one.values.shape == other.values.shape
    assert np.array_equal(one.values.view(np.int64), other.values.view(np.int64))
    assert one.line.tolist() == other.line.tolist()
    assert one.refused == other.refused
    assert one.skipped == other.skipped
    assert one.bad_values == dict(sorted(other.bad_values.items()))
    assert one.changes == other.changes


def rows(count: int, form: str = "%Y-%m-%dT%H:%M:%SZ", first: int = 0) -> list[str]:
    start = datetime(2026, 1, 17, 10, 54, tzinfo=UTC)
    return [(start + timedelta(minutes=first + i)).strftime(form) for i in range(count)]


# ---- dialects ------------------------------------------------------------------------------------------------------

DIALECTS = {
    "plain": "timestamp,a,b\n2026-01-17T10:54:00Z,1.5,-2\n2026-01-17T10:55:00Z,,3\n",
    "semicolon, decimal comma": "Zeitstempel;a;b\n17.01.2026 10:54:00;1,5;-2\n17.01.2026 10:55:00;;3\n",
    "tab": "time\ta\tb\n2026-01-17 10:54:00\t1.5\t-2\n2026-01-17 10:55:00\t\t3\n",
    "pipe": "time|a|b\n2026-01-17 10:54:00|1.5|-2\n2026-01-17 10:55:00||3\n",
    "quoted": '"timestamp","a","b"\n"2026-01-17 10:54:00","1.5","-2"\n"2026-01-17 10:55:00","","3"\n',
    "blank after comma": "time, a, b\n2026-01-17 10:54:00, 1.5, -2\n2026-01-17 10:55:00, , 3\n",
    "trailing delimiter": "time;a;b;\n2026-01-17 10:54:00;1,5;-2;\n2026-01-17 10:55:00;;3;\n",
    "trailing delimiter in data alone": "time;a;b\n2026-01-17 10:54:00;1,5;-2;\n2026-01-17 10:55:00;;3;\n",
    "date and time apart": "Datum;Uhrzeit;a;b\n17.01.2026;10:54:00;1,5;-2\n17.01.2026;10:55:00;;3\n",
    "date and a whole time": "date,time,a,b\nx,2026-01-17 10:54:00,1.5,-2\nx,2026-01-17 10:55:00,,3\n",
    "time in the middle": "a;time;b\n1,5;2026-01-17 10:54;-2\n;2026-01-17 10:55;3\n",
    "time without a telling name": "Messung,a,b\n2026-01-17T10:54:00,1.5,-2\n2026-01-17T10:55:00,,3\n",
    "unix seconds": "ts,a,b\n1768647240,1.5,-2\n1768647300,,3\n",
    "unix milliseconds, nameless": "nr,a,b\n1768647240000,1.5,-2\n1768647300000,,3\n",
    "comments and blanks": "# by me\n\ntime,a,b\n# a, b, c\n2026-01-17 10:54,1.5,-2\n  \n2026-01-17 10:55,,3\n",
    "header in a comment": "# time,a,b\n2026-01-17 10:54,1.5,-2\n2026-01-17 10:55,,3\n",
    "titles before it": "Press 7\nSerial;47\nUser;Kim\n\nZeit;a;b\n17.01.2026 10:54;1,5;-2\n17.01.2026 10:55;;3",
    "row of units": "time;a;b\n;bar;°C\n17.01.2026 10:54:00;1,5;-2\n17.01.2026 10:55:00;;3\n",
    "reordered, with others": "time,b,x,a\n2026-01-17 10:54,-2,7,1.5\n2026-01-17 10:55,3,on,\n",
    "comment, time in the middle": "a;time;b\n1,5;2026-01-17 10:54;-2\n#1;2026-01-17 10:54;2\n;2026-01-17 10:55;3\n",
    "exponents and signs": "time,a,b\n2026-01-17 10:54,+0.15e1,-2e0\n2026-01-17 10:55,,3.000000000000000000000\n",
    "NULs of a crash": "time,a,b\n2026-01-17 10:54,1.5,-2\n2026-01-17 10:55,,3\n",
}  # fmt: skip


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects_say_the_same(name: str) -> None:
    found = parse(DIALECTS[name])
    assert found.ts.tolist() == [START, START + MINUTE]
    np.testing.assert_array_equal(found.values, [[1.5, -2.0], [math.nan, 3.0]])
    assert found.refused == []
    assert found.bad_values == {}
    assert len(found.ts) + found.skipped == len(DIALECTS[name].splitlines())


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects_in_blocks_and_one_by_one(name: str) -> None:
    """Each dialect with enough lines that they are read as a block."""
    lines = DIALECTS[name].encode().splitlines()
    whole = lines + lines[-2:] * 40
    found = parse(whole)
    same(found, one_by_one(whole, ["a", "b"]))
    assert len(found.ts) >= 40


@pytest.mark.parametrize(
    ("encoding", "raw"),
    [(None, "utf-8"), (None, "cp1252"), ("cp1250", "cp1250"), ("utf-8", "utf-8"), ("gb18030", "gb18030")],
)
def test_names_in_each_encoding(encoding: str | None, raw: str) -> None:
    name = {"cp1250": "Tłok", "gb18030": "温度"}.get(raw, "Öldruck °C")
    text = f"Zeit;{name};b\n17.01.2026 10:54:00;1,5;2\n".encode(raw)
    found = Parser(config(encoding=encoding), [name]).parse(block(text.splitlines(), fresh=True, at_start=True))
    assert found.values.tolist() == [[1.5]]


def test_names_are_compared_composed() -> None:
    found = parse("time,O\u0308l\n2026-01-17 10:54,5\n", sensors="Öl")
    assert found.values.tolist() == [[5.0]]


def test_what_is_configured_is_not_guessed() -> None:
    text = "when;a;b\n01/17/2026 10:54:00;1.234,5;1.5\n"
    log = config(delimiter=";", decimal=",", timestamp={"column": "When", "format": "%m/%d/%Y %H:%M:%S"})
    found = parse(text, log=log)
    assert found.ts.tolist() == [START]
    assert np.isnan(found.values).all()  # with a decimal comma, a point is no decimal sign
    assert found.bad_values == {"a": 1, "b": 1}
    assert parse("time;a;b\n2026-01-17 10:54;1,5;1\n", log=config(decimal=".")).bad_values == {"a": 1}
    assert parse("time,a\n2026-01-17 10:54,1\n", log=config(timestamp="Zeit")).refused[0].reason == "header"
    assert parse("time,a\n2026-01-17 10:54,1\n", log=config(delimiter=";")).refused[0].reason == "header"
    assert parse("time,a\n01/02/2026 10:54,1\n").refused[0].detail == (
        "'01/02/2026 10:54' is no time that is understood; say [log.timestamp] format = "
        '"%d/%m/%Y %H:%M" (2026-02-01T10:54:00Z) or "%m/%d/%Y %H:%M" (2026-01-02T10:54:00Z)'
    )


def test_a_reading_at_midnight_beside_another_clock_is_one_where_its_column_is_named() -> None:
    """A file of each day begins with it, and beside it stands the time in UTC."""
    rows = [b"2026-11-26 00:00:00,23:00:00,1", b"2026-11-26 00:01:00,23:01:00,2"]
    lines = Lines(lines=[b"Date,TimeUTC,a", *rows], fresh=True, at_start=True)
    (refused,) = Parser(config(), ("a",)).parse(lines).refused
    assert 'or column = "Date", if the whole time stands there' in refused.detail
    parsed = Parser(config(timestamp={"column": "Date"}), ("a",)).parse(lines)
    assert (len(parsed.ts), parsed.refused) == (2, [])


def test_the_time_of_an_object_gets_the_same_advice() -> None:
    parser = Parser(config(format="jsonl"), ("a",))
    lines = Lines(lines=[b'{"time": "01/13/2026 10:54", "a": 1}'], fresh=True, at_start=True)
    assert parser.parse(lines).refused[0].detail == (
        "'01/13/2026 10:54' is no time that is understood; say [log.timestamp] format = "
        '"%m/%d/%Y %H:%M" (2026-01-13T10:54:00Z)'
    )
    assert parser.time_formats == ("%m/%d/%Y %H:%M",)


# ---- values and refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [1, 40])
def test_what_is_no_number_is_missing_and_counted(count: int) -> None:
    fields = ["ERR", "NaN", "-", "inf", "-Infinity", "1e301", "1_0", "0x10", "1.2.3", "--1", "1e999", "1,5", ""]
    head = "time;" + ";".join(f"s{i}" for i in range(len(fields))) + ";ok"
    text = head + "".join(f"\n{ts};{';'.join(fields)};7" for ts in rows(count))
    sensors = [f"s{i}" for i in range(len(fields))] + ["ok"]
    found = parse(text.encode().splitlines(), " ".join(sensors))
    assert found.values[:, :11].tolist() == pytest.approx(np.full((count, 11), math.nan), nan_ok=True)
    assert found.values[:, 11].tolist() == [1.5] * count
    assert np.isnan(found.values[:, 12]).all()
    assert found.values[:, 13].tolist() == [7.0] * count
    assert found.bad_values == {f"s{i}": count for i in range(11)}
    assert found.refused == []


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"2026-01-17 10:54,1", "columns"),
        (b"2026-01-17 10:54,1,2,3", "columns"),
        (b"2026-01-17 10:54,1,2,,", "columns"),
        (b"yesterday,1,2", "timestamp"),
        (b",1,2", "timestamp"),
        (b"2026-02-30 10:54,1,2", "timestamp"),
        (b",,", "empty"),
        (b'2026-01-17 10:54,"1,2', "malformed"),
        (b"2026-01-17 10:54,1\x00\x00,2", "encoding"),
        ("2026-01-17 10:54,1\ufffd,2".encode(), "encoding"),
        (b"pump restarted", "columns"),
        (b"ERROR,time,out", "timestamp"),
    ],
)
@pytest.mark.parametrize("around", [0, 30])
def test_refused_lines_have_a_reason_and_leave_the_others_alone(line: bytes, reason: str, around: int) -> None:
    good = [f"{ts},1,2".encode() for ts in rows(2 * around + 1)]
    lines = [b"time,a,b", *good[: around + 1], line, *good[around + 1 :]]
    found = parse(lines)
    assert [(refusal.line, refusal.reason) for refusal in found.refused] == [(around + 2, reason)]
    assert len(found.ts) == len(good)
    assert found.refused[0].detail
    same(found, one_by_one(lines, ["a", "b"]))


def test_torn_and_overlong_lines_are_refused() -> None:
    parser = Parser(config(), ["a"])
    torn = parser.parse(
        block([b"time,a", b"2026-01-17 10:54,1", b"2026-01-17 10:55,1"], fresh=True, at_start=True, torn=True)
    )
    assert [(refusal.line, refusal.reason) for refusal in torn.refused] == [(2, "torn")]
    assert len(torn.ts) == 1
    long = parser.parse(block([b"2026-01-17 10:56,1"], overlong=True))
    assert [refusal.reason for refusal in long.refused] == ["too_long"]


def test_data_without_any_header_is_refused_not_guessed() -> None:
    found = parse("2026-01-17 10:54,1,2\n2026-01-17 10:55,1,2\n")
    assert [refusal.reason for refusal in found.refused] == ["header", "header"]


def test_garbage_is_not_passed_over_for_ever() -> None:
    found = parse([b"nonsense"] * (PREAMBLE + 5))
    assert (found.skipped, len(found.refused)) == (PREAMBLE, 5)


def test_data_with_an_unknown_time_is_refused_from_the_first_line_on() -> None:
    found = parse("time,a,b\n" + "17-Jan-26 10:54,1,2\n" * 5)
    assert [refusal.reason for refusal in found.refused] == ["timestamp"] * 5


# ---- headers -------------------------------------------------------------------------------------------------------


def test_sensors_are_found_by_name_and_differences_told() -> None:
    found = parse("time,c,a,a\n2026-01-17 10:54,3,1,9\n")
    np.testing.assert_array_equal(found.values, [[1.0, math.nan]])
    assert found.changes == [
        "no column for b; columns that the bundle does not know: c; "
        "columns that occur twice, of which the first counts: a"
    ]


def test_a_header_repeated_is_skipped() -> None:
    good = [f"{ts},1,2".encode() for ts in rows(30)]
    lines = [b"time,a,b", *good[:15], b"time,a,b", *good[15:]]
    found = parse(lines)
    assert (len(found.ts), found.skipped, found.refused, found.changes) == (30, 2, [], [])
    same(found, one_by_one(lines, ["a", "b"]))


@pytest.mark.parametrize(
    ("header", "line", "values", "change"),
    [
        ("time,b,a", "{},2,1", [1.0, 2.0], "(other order)"),
        ("time,a,b,c", "{},1,2,3", [1.0, 2.0], "(new: c; columns that the bundle does not know: c)"),
        ("time,a", "{},1", [1.0, math.nan], "(gone: b; no column for b)"),
    ],
)
def test_a_new_header_in_the_middle_holds_from_there(header: str, line: str, values: list[float], change: str) -> None:
    stamps = rows(40)
    lines = [b"time,a,b", *(f"{ts},1,2".encode() for ts in stamps[:20]), header.encode()]
    lines += [line.format(ts).encode() for ts in stamps[20:]]
    found = parse(lines)
    assert found.refused == []
    assert found.values[:20].tolist() == [[1.0, 2.0]] * 20
    np.testing.assert_array_equal(found.values[20:], [values] * 20)
    assert found.changes == [f"the log's columns changed {change}"]
    same(found, one_by_one(lines, ["a", "b"]))


def test_rows_under_a_header_without_any_sensor_are_refused_by_name() -> None:
    stamps = rows(60)
    lines = [b"time,a,b", *(f"{ts},1,2".encode() for ts in stamps[:20]), b"time,x,y"]
    lines += [f"{ts},8,9".encode() for ts in stamps[20:40]]
    lines += [b"time,b,a", *(f"{ts},2,1".encode() for ts in stamps[40:])]
    found = parse(lines)
    assert found.values.tolist() == [[1.0, 2.0]] * 40
    assert {refusal.reason for refusal in found.refused} == {"header"}
    assert found.refused[0].detail == "none of the bundle's 2 sensors has a column; the columns are time, x, y"
    same(found, one_by_one(lines, ["a", "b"]))


def test_rows_that_fit_only_the_columns_before_a_header_without_sensors_are_read_by_those() -> None:
    stamps = rows(45)
    lines = [b"time,a,b", *(f"{ts},1,2".encode() for ts in stamps[:20]), b"time,event"]
    lines += [f"{stamps[20]},door".encode(), *(f"{ts},1,2".encode() for ts in stamps[21:])]
    found = parse(lines)
    assert found.values.tolist() == [[1.0, 2.0]] * 44
    assert [(refusal.line, refusal.reason) for refusal in found.refused] == [(22, "header")]
    same(found, one_by_one(lines, ["a", "b"]))


def test_a_message_that_speaks_of_time_is_no_header() -> None:
    names = [f"s{i}" for i in range(8)]
    lines = [",".join(["time", *names]), *(f"{ts},{',1' * 7}" for ts in rows(20)), "Time,sync lost,retry"]
    lines += [f"{ts},{',1' * 7}" for ts in rows(20, first=20)]
    found = parse([each.encode() for each in lines], " ".join(names))
    assert (len(found.ts), [refusal.line for refusal in found.refused], found.changes) == (40, [21], [])


def test_a_file_without_a_header_goes_on_with_the_one_before() -> None:
    parser = Parser(config(), ["a", "b"])
    parser.parse(block([b"time,b,a", b"2026-01-17 10:54,2,1"], fresh=True, at_start=True))
    found = parser.parse(block([b"2026-01-17 10:55,2,1", b"2026-01-17 10:56,9"], fresh=True, at_start=True))
    assert found.values.tolist() == [[1.0, 2.0]]
    assert [refusal.reason for refusal in found.refused] == ["columns"]


def test_after_a_restart_header_and_clock_come_from_before() -> None:
    log = config(timestamp={"timezone": "Europe/Berlin"})
    parser = Parser(log, ["a"])
    before = [b"2026-10-25 02:58,1", b"2026-10-25 02:59,1", b"2026-10-25 02:00,1", b"2026-10-25 02:01,1"]
    found = parser.parse(block([b"2026-10-25 02:02,5"], fresh=True, header=b"time,a", before=before))
    assert found.ts.tolist() == [parse_iso("2026-10-25T01:02:00Z")]
    assert found.values.tolist() == [[5.0]]
    assert found.skipped == 0


def test_first_time_of_a_file() -> None:
    parser = Parser(config(), ["a", "b"])
    assert (
        parser.first_time([b"Press", b"# x", b"time,a,b", b"oops", b"2026-01-17 10:54,1,2", b"2026-01-18 10:54,1,2"])
        == START
    )
    assert parser.first_time([b"2026-01-17 10:54,1,2"]) == START  # no header, but plainly a time
    assert parser.first_time([b"time,a,b"]) is None
    assert parser.first_time([]) is None


# ---- numbers in blocks -------------------------------------------------------------------------------------------


def test_two_hundred_thousand_numbers_of_eight_shapes_have_the_bits_of_float() -> None:
    rng = random.Random(20261123)
    shapes = [
        lambda: f"{rng.uniform(-100, 100):.3f}",
        lambda: f"{rng.uniform(-(10.0 ** rng.randint(0, 12)), 10.0 ** rng.randint(0, 12)):.{rng.randint(0, 12)}f}",
        lambda: str(rng.randint(-(10**18), 10**18)),
        lambda: str(rng.randint(-99999999, 99999999)),
        lambda: repr(rng.uniform(-1e6, 1e6)),
        lambda: f"{rng.uniform(-1, 1):e}",
        lambda: f"{rng.gauss(0, 1e-6):.9f}",
        lambda: rng.choice(["-0", "-0.000", ".5", "5.", "-.5", "+7", " 1 ", "9007199254740993", "4.9e-324", "1e99"]),
    ]
    fields = [[shapes[(i + j) % len(shapes)]() for j in range(100)] for i in range(2_000)]
    names = [f"s{i}" for i in range(100)]
    lines = [",".join(("time", *names)), *(",".join((ts, *row)) for ts, row in zip(rows(2_000), fields, strict=True))]
    found = parse([line.encode() for line in lines], " ".join(names))
    assert found.values.tobytes() == np.array([[float(field) + 0.0 for field in row] for row in fields]).tobytes()
    assert found.bad_values == {}


WORD = st.one_of(
    st.text("0123456789.,'-+eE_ naifNIty/:x\t\v\f\r\x1c\x85\xa0\u202fé\u0661", max_size=12),
    st.from_regex(r"-?[1-9]\d{0,2}[.,']\d{3}([.,']\d{1,4})?", fullmatch=True, alphabet=st.characters(codec="ascii")),
    st.sampled_from(
        ["998", "1.002", "1,002", "12,345", "-9999", "23,5", "23.5", "0,123", "1,234.5", "1.234.567", "OVLD"]
    ),
)
LOGS = st.sampled_from([
    {}, {}, {"decimal": ","}, {"decimal": "."}, {"thousands": ","}, {"thousands": "."}, {"thousands": ""},
    {"thousands": "'"}, {"thousands": " ", "decimal": ","}, {"missing": [-9999, "OVLD"]},
])  # fmt: skip


@given(
    st.lists(st.tuples(WORD, WORD), min_size=1, max_size=12),
    LOGS,
    st.sampled_from([";", "\t", "|"]),
    st.sampled_from(["%Y-%m-%d %H:%M", "%d.%m.%Y %H:%M"]),
    st.sampled_from(
        [("1", "2.5"), ("7", "3,25"), ("3", "4"), ("2.125", "3.250"), ("2,125", "3,250"), ("1.002", "998")]
    ),
)
def test_any_field_in_a_block_means_what_it_means_alone(
    fields: list[tuple[str, str]], keys: dict[str, Any], delimiter: str, form: str, usual: tuple[str, str]
) -> None:
    count = len(fields) + 40
    cells = [*[usual] * 20, *((a.replace("\t", ""), b.replace("\t", "")) for a, b in fields), *[usual] * 20]
    stamps = rows(count, form)
    lines = [
        delimiter.join(row).encode()
        for row in [("time", "a", "b"), *((t, *row) for t, row in zip(stamps, cells, strict=True))]
    ]
    log = config(**keys)
    same(parse(lines, log=log), one_by_one(lines, ["a", "b"], log))


@given(st.lists(st.tuples(WORD, WORD), min_size=1, max_size=12), LOGS)
def test_any_quoted_field_in_a_block_means_what_it_means_alone(
    fields: list[tuple[str, str]], keys: dict[str, Any]
) -> None:
    cells = [*[("1", "2.5")] * 20, *fields, *[("1.125", "7")] * 20]
    lines = [b"time,a,b", *(f'"{t}","{a}","{b}"'.encode() for t, (a, b) in zip(rows(len(cells)), cells, strict=True))]
    keys = {key: value for key, value in keys.items() if value != ","} if keys.get("decimal") == "," else keys
    log = config(**keys)
    same(parse(lines, log=log), one_by_one(lines, ["a", "b"], log))


@pytest.mark.parametrize("delimiter", ["e", "n", "a", ".", "?", " ", "\x1f", "§", "1"])
def test_strange_delimiters_in_blocks_and_one_by_one(delimiter: str) -> None:
    lines = [delimiter.join(row).encode() for row in [("ts", "b", "c"), *[("1768647240", "7,5", "nan")] * 30]]
    log = config(delimiter=delimiter, timestamp={"format": "epoch"})
    same(parse(lines, "b c", log), one_by_one(lines, ["b", "c"], log))


# ---- any log, cut anywhere -----------------------------------------------------------------------------------------

FIELD = st.one_of(
    st.floats(-1e6, 1e6).map(lambda value: f"{value:.3f}"),
    st.floats(allow_nan=True, allow_infinity=True).map(repr),
    st.integers(-99, 10**20).map(str),
    st.sampled_from([0, 308, 309, 400, 5000]).map(lambda digits: "9" * digits),
    st.sampled_from(
        ["", "", " 1.5", "1.5 ", "ERR", "-", '"2.5"', '""', '"3', "1,5", "+4", ".5", "5.", "-0.0", "1e3", "é"]
    ),
    st.sampled_from(
        ["1.2.3", "T1", "1_0", "--", "\xa01", "\x1c1", "1\v", "-nan", "nan(1)", "Infinity", "\u0661", "1e301"]
    ),
)
ODD = st.sampled_from([
    b"", b"  ", b"# comment", b"#,,", b"time;a;b;c", b"time;c;b;a", b"time;a;b", b"pump restarted", b";;;", b"x;1;2;3",
    b"2026-01-17 10:54:00;1;2", b"2026-01-17 10:54:00;1;2;3;", b"2026-01-17 10:54:00;1;2;3;4",
    b"2026-02-31 10:54:00;1;2;3", b"1768647240;1;2;3", b"17.01.2026 10:54:00;1;2;3", b"2026-01-17 10:54:00.25;1;2;3",
    b"2026-01-17 10:54:00;1\0;2;3", b"2026-01-17 10:54:00+01:00;1;2;3", b'"2026-01-17 10:54:00";"1";"2";"3"',
    b'2026-01-17 10:54:00;"1;2";3', b"\xff\xfe;1;2;3", b"2026-01-17 10:54:00;1\r;2;3",
])  # fmt: skip


@st.composite
def logs(draw: st.DrawFn) -> list[bytes]:
    lines = [b"time;a;b;c"]
    stamps = iter(rows(400, draw(st.sampled_from(["%Y-%m-%d %H:%M:%S", "%d.%m.%Y %H:%M:%S", "%Y-%m-%dT%H:%M:%SZ"]))))
    for _ in range(draw(st.integers(1, 8))):
        values = draw(st.lists(st.tuples(FIELD, FIELD, FIELD), max_size=6))
        fine = draw(st.integers(0, 30))
        lines += [";".join((next(stamps), *row)).encode() for row in values]
        lines += [f"{next(stamps)};{i}.5;-{i}.25;{i}".encode() for i in range(fine)]
        lines += draw(st.lists(ODD, max_size=3))
    return lines


@given(logs(), st.lists(st.integers(1, 60), max_size=8), st.sampled_from([None, ",", "."]))
def test_any_log_cut_anywhere_gives_what_its_lines_give(
    lines: list[bytes], cuts: list[int], decimal: str | None
) -> None:
    log = config(decimal=decimal)
    alone = one_by_one(lines, ["c", "a", "missing"], log)
    same(parse(lines, "c a missing", log), alone)
    parser, at, found = Parser(log, ["c", "a", "missing"]), 0, []
    for cut in [*cuts, len(lines)]:
        found.append(parser.parse(block(lines[at : at + cut], fresh=not at, at_start=not at)))
        at += cut
    assert np.array_equal(np.concatenate([part.values for part in found]).view(np.int64), alone.values.view(np.int64))
    assert np.concatenate([part.ts for part in found]).tolist() == alone.ts.tolist()
    assert sum(part.skipped for part in found) == alone.skipped
    assert len(alone.ts) + alone.skipped + len(alone.refused) == len(lines)


@given(st.lists(st.integers(0, 40), min_size=1, max_size=60), st.integers(1, 50))
def test_lines_of_a_lake_open_the_readings_that_they_open_in_a_log(steps: list[int], period: int) -> None:
    ts = np.cumsum(steps)
    assembly, found = Assembly(period, ()), Found()
    for line, time in enumerate([*ts.tolist(), int(ts[-1]) + period]):
        assembly.take(time, f"sensor {line}", (-1, 0.0, False), line, found)
    assert np.flatnonzero(beginnings(ts, period)).tolist() == np.concatenate(found.line).tolist()
