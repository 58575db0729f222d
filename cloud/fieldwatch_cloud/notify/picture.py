"""A sensor's readings as a small PNG for a mail: grey band = training mean ± 3 scales, shaded = since the alert began.

Drawn into an array: a mail can hold neither script nor SVG, and a plotting library is nothing for a server. What the
picture shows is said in words beside it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

WIDTH, HEIGHT = 560, 90
PAPER, BAND, SHADE, LINE = (255, 255, 255), (226, 230, 236), (255, 241, 214), (28, 78, 160)
MARGIN = 4


def draw(values: Sequence[float | None], mean: float, scale: float, begun: int) -> bytes:
    """Return a PNG of :data:`WIDTH` × :data:`HEIGHT`. ``begun``: index from which on the alert is open."""
    image = np.empty((HEIGHT, WIDTH, 3), dtype=np.uint8)
    image[:] = PAPER
    known = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    finite = known[np.isfinite(known)]
    if not finite.size:
        return png(image)
    low = min(float(finite.min()), mean - 3 * scale)
    high = max(float(finite.max()), mean + 3 * scale)
    span = (high - low) or 1.0

    def row(value: NDArray[np.float64] | float) -> NDArray[np.int64]:
        share = (np.asarray(value, dtype=np.float64) - low) / span
        return np.rint((HEIGHT - 1 - MARGIN) - share * (HEIGHT - 1 - 2 * MARGIN)).astype(np.int64)

    columns = np.arange(WIDTH)
    place = columns / (WIDTH - 1) * max(1, len(known) - 1)
    image[:, place >= begun] = SHADE
    top, bottom = int(row(mean + 3 * scale)), int(row(mean - 3 * scale))
    image[top : bottom + 1] = np.minimum(image[top : bottom + 1], np.array(BAND, dtype=np.uint8))
    left = np.clip(np.floor(place).astype(np.int64), 0, len(known) - 1)
    right = np.minimum(left + 1, len(known) - 1)
    heights = known[left] + (known[right] - known[left]) * (place - left)
    heights = np.where(np.isfinite(heights), heights, known[np.rint(place).astype(np.int64)])
    drawn = np.isfinite(heights)
    rows = row(np.where(drawn, heights, low))
    for column in columns[drawn]:
        joined = column > 0 and drawn[column - 1]
        first, last = sorted((int(rows[column - 1]), int(rows[column]))) if joined else (int(rows[column]),) * 2
        image[max(0, first - 1) : last + 1, column] = LINE
    return png(image)


def png(image: NDArray[np.uint8]) -> bytes:
    """Encode an RGB image ``[height, width, 3]`` (PNG, ISO/IEC 15948: no filter, one IDAT)."""
    height, width, _ = image.shape
    raw = np.zeros((height, 1 + 3 * width), dtype=np.uint8)
    raw[:, 1:] = image.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = [(b"IHDR", header), (b"IDAT", zlib.compress(raw.tobytes(), 9)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in parts
    )
