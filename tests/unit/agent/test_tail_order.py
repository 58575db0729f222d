"""Which file comes next: the rules' table, row by row, and what must hold for any files."""

from __future__ import annotations

from pathlib import Path

import pytest
from fieldwatch_agent.log.files import File
from fieldwatch_agent.log.order import Front, Known, Standing, between, earliest, standing
from hypothesis import given
from hypothesis import strategies as st

MINUTE = 60_000_000
DAY = 1440 * MINUTE


def file(name: str, first: int | None = 0, size: int = 100, mtime: int = 0, **more: object) -> File:
    """Make a file; ``first`` and ``mtime`` in minutes."""
    begins = None if first is None else DAY + first * MINUTE
    return File(Path(name), name, size, DAY + mtime * MINUTE, name.endswith(".gz"), begins, 10, **more)  # type: ignore[arg-type]


FRONT = Front(file("front", 100, mtime=200), offset=100, floor=DAY + 100 * MINUTE, name=Path("name"))
LATER = DAY + 100 * MINUTE


@pytest.mark.parametrize(
    ("known", "last", "expected"),
    [
        (Known(file("a", 50), read=100, later=LATER), 99, Standing.DONE),
        (Known(file("a", 50), presumed=100), 99, Standing.DONE),
        (Known(file("a.gz", 50, size=1000), presumed=100), 99, Standing.DONE),
        (Known(file("a", 100), copy=True), 150, Standing.DONE),
        (Known(file("a", 100, size=101), copy=True), 150, Standing.LONGER),
        (Known(file("name", 50)), 60, Standing.NEXT),
        (Known(file("a", 101)), 110, Standing.NEXT),
        (Known(file("a", 101), read=0, later=LATER), 110, Standing.NEXT),
        (Known(file("a", None)), None, Standing.NEXT),
        (Known(file("a", None), presumed=100), None, Standing.DONE),
        (Known(file("a", None, blank=True)), None, Standing.BLANK),
        (Known(file("name", None, blank=True)), None, Standing.BLANK),
        (Known(file("a", 50, size=120), read=100), 120, Standing.NEXT),
        (Known(file("a", 50, size=120), read=100, later=LATER), 99, Standing.FLUSH),
        (Known(file("a", 50, size=120), read=100, later=LATER), None, Standing.FLUSH),
        (Known(file("a", 50, size=120), read=100, later=LATER), 100, Standing.PASSED),
        (Known(file("a", 50, size=120, mtime=300), read=100, later=LATER), 160, Standing.NEXT),
        (Known(file("a", 100)), 110, Standing.PASSED),
        (Known(file("a", 50)), 60, Standing.PASSED),
        (Known(file("a", 50, size=120), presumed=100), 60, Standing.PASSED),
        (Known(file("a", 50, mtime=300)), 160, Standing.NEXT),
        (Known(file("a", 50, mtime=300)), 150, Standing.PASSED),
        (Known(file("a", 50, mtime=203)), 160, Standing.PASSED),
        (Known(file("a.gz", 50, mtime=300)), 160, Standing.PASSED),
        (Known(file("a", None, problem="locked")), None, Standing.LOCKED),
        (Known(file("a", None, problem="locked"), read=100), None, Standing.DONE),
        (Known(file("a", None, problem="locked"), read=99), None, Standing.LOCKED),
        (Known(file("a", None, problem="locked"), presumed=100), None, Standing.DONE),
    ],
)
def test_the_table(known: Known, last: int | None, expected: Standing) -> None:
    """``last``: the minute of the file's last reading; the front's is 150."""
    lasts = {known.file: last, FRONT.file: 150}

    def reached(each: File) -> int | None:
        minute = lasts[each]
        return None if minute is None else DAY + minute * MINUTE

    assert standing(known, FRONT, reached) is expected


FILES = st.lists(
    st.builds(
        file,
        st.sampled_from(["a-1", "a-2", "a.csv", "a.csv.1", "a.csv.2.gz"]),
        st.none() | st.integers(0, 9),
        mtime=st.integers(0, 9),
    ),
    max_size=6,
    unique=True,
)


@given(FILES)
def test_the_earliest_is_never_behind_another_by_what_both_have(files: list[File]) -> None:
    """First readings decide between files that have them, modification times where one of two has none."""
    chosen = earliest(files)
    assert (chosen is None) == (not files)
    for each in files if chosen is not None else ():
        assert chosen is not None
        if each.first is not None and chosen.first is not None:
            assert chosen.first <= each.first
        elif each.first is None:
            assert chosen.mtime <= each.mtime


@given(FILES, st.integers(0, 9), st.integers(0, 9))
def test_column_names_on_the_way_are_those_written_between(files: list[File], front: int, chosen: int) -> None:
    found = between(file("front", mtime=front), files, file("next", mtime=chosen))
    assert all(front <= (each.mtime - DAY) // MINUTE <= chosen for each in found)


@given(FILES, st.integers(0, 9), st.booleans())
def test_a_file_that_begins_later_is_always_next(files: list[File], floor: int, remembered: bool) -> None:
    """Whatever else is known of it: what begins after all that was begun cannot have been read."""
    front = Front(file("front", floor), 100, DAY + floor * MINUTE)
    for each in files:
        if each.first is not None and front.floor is not None and each.first > front.floor:
            known = Known(each, read=0 if remembered else None)
            assert standing(known, front, lambda _: None) is Standing.NEXT
