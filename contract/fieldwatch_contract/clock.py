"""Time in the contract: integer microseconds since 1970-01-01T00:00:00Z, and RFC 3339 text in UTC.

Integers because they compare, hash and subtract exactly; microseconds because Parquet, PostgreSQL and Python's
``datetime`` all keep them.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

SECOND = 1_000_000
MINUTE = 60 * SECOND
DAY = 86_400 * SECOND


def now() -> int:
    """Return the wall clock in microseconds."""
    return time.time_ns() // 1000


def iso(ts: int) -> str:
    """Write ``ts`` (µs) as RFC 3339 in UTC, with a fraction only where there is one.

    >>> iso(1_768_647_240_000_000)
    '2026-01-17T10:54:00Z'
    >>> iso(1_500_000)
    '1970-01-01T00:00:01.500000Z'
    """
    seconds, fraction = divmod(ts, SECOND)
    text = datetime.fromtimestamp(seconds, UTC).isoformat()[:19]
    return f"{text}.{fraction:06d}Z" if fraction else f"{text}Z"


def iso_column(ts: NDArray[np.int64]) -> list[str]:
    """Format a column of times like :func:`iso`, at a tenth of the cost.

    >>> iso_column(np.array([1_768_647_240_000_000, 1_500_000]))
    ['2026-01-17T10:54:00Z', '1970-01-01T00:00:01.500000Z']
    """
    if (ts % SECOND).any():
        return [iso(each) for each in ts.tolist()]
    return [f"{text}Z" for text in np.datetime_as_string((ts // SECOND).astype("datetime64[s]")).tolist()]


def parse_iso(text: str) -> int:
    """Read RFC 3339 / ISO 8601 text into microseconds; text without a zone is UTC.

    Raises :class:`ValueError` for anything else.
    """
    stamp = datetime.fromisoformat(text)
    if stamp.tzinfo is None:
        stamp = stamp.replace(tzinfo=UTC)
    delta = stamp - datetime(1970, 1, 1, tzinfo=UTC)
    return (delta.days * 86_400 + delta.seconds) * SECOND + delta.microseconds


def day_of(ts: int) -> str:
    """Return the UTC day of ``ts`` as ``YYYY-MM-DD``, the unit of the conservation ledger."""
    return iso(ts - ts % DAY)[:10]
