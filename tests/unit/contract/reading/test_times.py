"""Times: every form, one by one and by the column with the same result, and the hours when clocks are changed."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import pytest
from fieldwatch_contract.clock import parse_iso
from fieldwatch_contract.reading.settings import TimestampConfig
from fieldwatch_contract.reading.times import Times
from hypothesis import given
from hypothesis import strategies as st

T = parse_iso("2026-01-17T10:54:07Z")


def times(**config: Any) -> Times:
    return Times(TimestampConfig(**config))


def column(reader: Times, texts: list[str]) -> tuple[list[int], int]:
    data = "".join(texts).encode()
    ends = np.cumsum([len(text.encode()) for text in texts])
    starts = ends - np.array([len(text.encode()) for text in texts])
    found, count = reader.column(np.frombuffer(data, np.uint8), starts, ends)
    return found[:count].tolist(), count


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-01-17T10:54:07Z", T),
        ("2026-01-17T10:54:07", T),
        ("2026-01-17 10:54:07", T),
        ("2026/01/17 10:54:07", T),
        ("  2026-01-17 10:54:07 ", T),
        ("2026-01-17 10:54:07 UTC", T),
        ("2026-01-17T11:54:07+01:00", T),
        ("2026-01-17T05:24:07-0530", T),
        ("2026-01-17T10:54:07.5", T + 500_000),
        ("2026-01-17T10:54:07,123456789", T + 123_456),
        ("2026-01-17 10:54", T - 7_000_000),
        ("2026-01-17", parse_iso("2026-01-17T00:00:00Z")),
        ("17.01.2026 10:54:07", T),
        ("17.1.2026 10:54:07.25", T + 250_000),
        ("1.2.2026 9:05:00", parse_iso("2026-02-01T09:05:00Z")),
        ("1768647247", T),
        ("1768647247.5", T + 500_000),
        ("1768647247123", T + 123_000),
        ("1768647247123456", T + 123_456),
        ("1768647247123456789", T + 123_456),
        ("2024-02-29 00:00:00", parse_iso("2024-02-29T00:00:00Z")),
        ("2026-02-29 00:00:00", None),
        ("1900-02-29 00:00:00", None),
        ("2026-13-01 00:00:00", None),
        ("2026-00-10 00:00:00", None),
        ("2026-01-32 00:00:00", None),
        ("2026-01-17 24:00:00", parse_iso("2026-01-18T00:00:00Z")),
        ("2026-01-17 24:00:01", None),
        ("2026-01-17 10:60:00", None),
        ("2026-01-17 10:54:60", None),
        ("01/02/2026 10:54:07", None),
        ("0000-01-01 00:00:00", None),
        ("0001-01-01 00:00:00", None),
        ("0001-01-01T00:00:00+01:00", None),
        ("9999-12-31T23:59:00-05:00", None),
        ("2200-01-01 00:00:00", None),
        ("2026-01/17 00:00:00", None),
        ("12.5", None),
        ("12345678", None),
        ("ERR", None),
        ("", None),
    ],
)
def test_each_form(text: str, expected: int | None) -> None:
    assert times().one(text) == expected
    values, count = column(times(), [text, text])
    assert values == [expected] * count  # what the column reads, it reads alike
    if expected is not None and text == text.strip():
        assert count == 2
    if expected is None:
        assert count == 0


def test_configured_forms() -> None:
    us = times(format="%m/%d/%Y %I:%M:%S %p", timezone="America/New_York")
    assert us.one("01/17/2026 05:54:07 AM") == T
    assert us.one("2026-01-17T10:54:07Z") is None
    assert times(format="%d/%m/%Y %H:%M:%S %z").one("17/01/2026 11:54:07 +0100") == T
    assert times(format="%d/%m/%Y %H:%M:%S %z").one("01/01/0001 00:00:00 +0100") is None
    assert times(timezone="Europe/Berlin").one("0001-01-01 00:00:00") is None
    assert times(format="iso").one("1768647247") is None
    assert times(format="epoch").one("2026-01-17T10:54:07Z") is None
    assert column(times(format="epoch"), ["1768647247"] * 3) == ([T] * 3, 3)


STAMPS = st.datetimes(datetime(1971, 1, 1), datetime(2100, 1, 1))


@given(
    st.lists(STAMPS, min_size=1, max_size=20),
    st.sampled_from(
        ["%Y-%m-%dT%H:%M:%S", "%d.%m.%Y %H:%M:%S", "%Y-%m-%d %H:%M:%S.%f", "%Y-%m-%dT%H:%M:%SZ", "%Y-%m-%d"]
    ),
    st.sampled_from(["UTC", "Europe/Berlin", "Australia/Lord_Howe", "America/St_Johns", "Asia/Kolkata"]),
)
def test_a_column_equals_its_lines_and_the_standard_library(stamps: list[datetime], form: str, zone: str) -> None:
    texts = [stamp.strftime(form) for stamp in stamps]
    values, count = column(times(timezone=zone), texts)
    for text, value in zip(texts, values, strict=False):
        assert value == times(timezone=zone).one(text)
    for text in texts[count : count + 1]:  # the first that the column leaves is in the hour that comes twice
        local = datetime.strptime(text, form).replace(tzinfo=ZoneInfo(zone))
        assert local.utcoffset() != local.replace(fold=1).utcoffset()
    for text in texts:
        stamp = datetime.strptime(text, form).replace(tzinfo=UTC if form.endswith("Z") else ZoneInfo(zone))
        assert times(timezone=zone).one(text) == (stamp - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


@given(st.lists(st.integers(10**8, 10**19 - 1), min_size=1, max_size=20))
def test_a_column_of_unix_times_equals_its_lines(numbers: list[int]) -> None:
    values, count = column(times(), [str(number) for number in numbers])
    assert values == [times().one(str(number)) for number in numbers[:count]]


def test_the_hour_that_comes_twice() -> None:
    """Berlin, 2026-10-25: 02:00 to 03:00 passes twice; a minute later is a minute later, throughout."""
    reader = times(timezone="Europe/Berlin")
    start = datetime(2026, 10, 25, 1, 30, tzinfo=ZoneInfo("Europe/Berlin")).astimezone(UTC)
    expected = [start + timedelta(minutes=minute) for minute in range(180)]
    found = []
    for moment in expected:
        local = moment.astimezone(ZoneInfo("Europe/Berlin")).strftime("%Y-%m-%d %H:%M:%S")
        reader.last = reader.one(local)
        found.append(reader.last)
    assert found == [int(moment.timestamp()) * 1_000_000 for moment in expected]


def test_a_reading_a_little_out_of_order_is_not_the_second_pass() -> None:
    reader = times(timezone="Europe/Berlin")
    reader.last = reader.one("2026-10-25 02:10:00")
    before = reader.one("2026-10-25 02:09:00")
    assert reader.last is not None
    assert before == reader.last - 60_000_000


def test_the_hour_that_is_skipped_stays_in_order() -> None:
    reader = times(timezone="Europe/Berlin")
    assert reader.one("2026-03-29 01:59:00") == parse_iso("2026-03-29T00:59:00Z")
    assert reader.one("2026-03-29 02:30:00") == parse_iso("2026-03-29T01:30:00Z")
    assert reader.one("2026-03-29 03:00:00") == parse_iso("2026-03-29T01:00:00Z")
