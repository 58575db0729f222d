"""Grid rows in few bytes, bit for bit: what a decision was made of travels inside its alert.

Loggers write decimals, so a sensor's column is mostly a whole number of thousandths: as small differences of integers
100 sensors × 71 rows take 9 KB, where their doubles take 57 KB. A column that is not exactly that stays as doubles.

A packed text is base64 of zlib of: one line of JSON, a line feed, and the values, sensor by sensor:

* ``mask``: one bit a value ``[S, n]``, set where there is one, most significant bit first, padded to bytes;
* the decimal columns: int32 differences (the first from 0) of value × 10^decimals, low bytes of all first;
* the other columns: float64, low bytes of all first.

The JSON line is the caller's, with ``rows`` and ``decimals`` (one number a sensor, -1: doubles) added.
"""

from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np
from numpy.typing import NDArray

MOST_DECIMALS = 9
UNPACKED_LIMIT = 8 * 1024 * 1024
"""Bytes that a packed text may unpack to: a million values."""
_LARGEST = 2**30


def pack(head: dict[str, Any], rows: NDArray[np.float64]) -> str:
    """Return ``head`` and ``rows`` (float64 ``[n, S]``, NaN = missing, no infinity) as a packed text."""
    known = ~np.isnan(rows.T)
    decimals: list[int] = []
    differences: list[NDArray[np.int32]] = []
    doubles: list[NDArray[np.float64]] = []
    for column, there in zip(rows.T, known, strict=True):
        values = column[there]
        places, whole = _as_decimals(values)
        decimals.append(places)
        if places < 0:
            doubles.append(values)
        else:
            differences.append(np.diff(whole, prepend=0).astype("<i4"))
    line = json.dumps(head | {"rows": len(rows), "decimals": decimals}, separators=(",", ":"))
    parts = [
        line.encode(),
        b"\n",
        np.packbits(known).tobytes(),
        _planes(np.concatenate([np.empty(0, "<i4"), *differences])),
        _planes(np.concatenate([np.empty(0, "<f8"), *doubles])),
    ]
    return base64.b64encode(zlib.compress(b"".join(parts), 9)).decode()


def unpack(text: str) -> tuple[dict[str, Any], NDArray[np.float64]]:
    """Return what :func:`pack` was given. Raises :class:`ValueError` where the text is something else."""
    try:
        stream = zlib.decompressobj()
        data = stream.decompress(base64.b64decode(text, validate=True), UNPACKED_LIMIT)
    except zlib.error as error:
        raise ValueError(f"not packed rows: {error}") from error
    if not stream.eof:
        raise ValueError(f"packed rows are cut off, or more than {UNPACKED_LIMIT} bytes")
    line, _, rest = data.partition(b"\n")
    head = json.loads(line)
    try:
        count, decimals = int(head.pop("rows")), [int(places) for places in head.pop("decimals")]
    except (AttributeError, KeyError, TypeError, OverflowError) as error:
        raise ValueError(f"not packed rows: {error!r} in their first line") from error
    shape = len(decimals), count
    if not 0 <= shape[0] * count <= 8 * len(rest) or count < 0 or any(not -1 <= d <= MOST_DECIMALS for d in decimals):
        raise ValueError("packed rows: their first line does not fit them")
    mask = (shape[0] * count + 7) // 8
    known = np.unpackbits(np.frombuffer(rest, np.uint8, mask), count=shape[0] * count).reshape(shape).astype(bool)
    each = known.sum(axis=1)
    plain = np.array([places < 0 for places in decimals], bool)
    cut = mask + 4 * int(each[~plain].sum())
    if len(rest) != cut + 8 * int(each[plain].sum()):
        raise ValueError("packed rows: their values do not fit their first line")
    differences, doubles = _unplaned(rest[mask:cut], "<i4"), _unplaned(rest[cut:], "<f8")
    columns = np.full(shape, np.nan)
    at = {True: 0, False: 0}
    for column, there, places, size in zip(columns, known, decimals, each.tolist(), strict=True):
        begin = at[places < 0]
        at[places < 0] = end = begin + size
        if places < 0:
            column[there] = doubles[begin:end]
        else:
            column[there] = np.cumsum(differences[begin:end].astype(np.int64)) / 10.0**places
    return head, np.ascontiguousarray(columns.T)


def _as_decimals(values: NDArray[np.float64]) -> tuple[int, NDArray[np.int64]]:
    """Return the fewest decimals that give ``values`` bit for bit, and the values in that unit; -1 where none do."""
    for places in range(MOST_DECIMALS + 1):
        unit = 10.0**places  # exact, so the division below rounds like reading the decimal does
        if not (np.abs(values) * unit < _LARGEST).all():
            break
        whole = np.rint(values * unit)
        if (whole / unit).tobytes() == values.tobytes() and not np.signbit(whole[whole == 0]).any():
            return places, whole.astype(np.int64)
    return -1, np.empty(0, np.int64)


def _planes(values: NDArray[Any]) -> bytes:
    return np.ascontiguousarray(values.view(np.uint8).reshape(-1, values.itemsize).T).tobytes()


def _unplaned(data: bytes, kind: str) -> NDArray[Any]:
    size = np.dtype(kind).itemsize
    return np.ascontiguousarray(np.frombuffer(data, np.uint8).reshape(size, -1).T).view(kind).reshape(-1)
