"""Documents packed with zstd: unpacked within a limit, so that a small message cannot fill the memory."""

from __future__ import annotations

import io

import zstandard
from fieldwatch_contract.fields import Evidence

EVIDENCE_LIMIT = 16 * 1024 * 1024


def pack(evidence: Evidence) -> bytes:
    """Encode evidence as stored in ``alert_event.evidence``."""
    return zstandard.ZstdCompressor(level=9).compress(evidence.model_dump_json().encode())


def unpack_evidence(blob: bytes) -> Evidence:
    """Read ``alert_event.evidence``."""
    return Evidence.model_validate_json(unpack(blob, EVIDENCE_LIMIT))


def unpack(payload: bytes, limit: int) -> bytes:
    """Unpack one zstd payload. Raises :class:`ValueError` if it is not one or yields more than ``limit`` bytes."""
    try:
        with zstandard.ZstdDecompressor(max_window_size=limit).stream_reader(io.BytesIO(payload)) as reader:
            text = reader.read(limit + 1)
    except zstandard.ZstdError as error:
        raise ValueError(f"not a zstd batch: {error}") from error
    if len(text) > limit:
        raise ValueError(f"unpacks to more than {limit} bytes")
    return text
