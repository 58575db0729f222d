"""Times as text: a column is written as each of its times is."""

from __future__ import annotations

import numpy as np
from fieldwatch_contract import clock
from hypothesis import given
from hypothesis import strategies as st

TIMES = st.integers(-60 * 365 * clock.DAY, 200 * 365 * clock.DAY)


@given(st.lists(st.one_of(TIMES, TIMES.map(lambda ts: ts - ts % clock.SECOND)), max_size=9), st.booleans())
def test_a_column_is_written_as_each_of_its_times(times: list[int], whole: bool) -> None:
    ts = np.array([ts - ts % clock.SECOND if whole else ts for ts in times], np.int64)
    texts = clock.iso_column(ts)
    assert texts == [clock.iso(each) for each in ts.tolist()]
    assert [clock.parse_iso(text) for text in texts] == ts.tolist()
