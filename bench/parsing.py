"""Log lines to numbers: the agent's parser against what numpy, pandas and polars offer, in blocks of 512 lines.

The peers read a file with a clean header and ISO times; that is all they are asked. ``loadtxt`` reads no times here and
is given empty fields filled in. Every value is compared with ``float()`` bit for bit.
"""

from __future__ import annotations

import io
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from bench.material import NAMES, SENSORS, log_lines, readings, times
from bench.rounds import take_turns

BLOCK = 512


def run(quick: bool) -> dict[str, Any]:
    """Measure; the agent's values are compared with float() on the same lines."""
    import pandas as pd
    import polars as pl
    from fieldwatch_agent.log.tail import read_file
    from fieldwatch_contract.reading.parse import Parser
    from fieldwatch_contract.reading.settings import LogConfig

    count, rounds = (1_024, 1) if quick else (10_240, 7)
    lines = log_lines(readings(count), times(count))
    blocks = [b"".join([lines[0], *lines[start : start + BLOCK]]) for start in range(1, count + 1, BLOCK)]
    plain = [b"".join(lines[start : start + BLOCK]).replace(b",,", b",nan,") for start in range(1, count + 1, BLOCK)]
    plain = [block.replace(b",,", b",nan,").replace(b",\n", b",nan\n") for block in plain]

    with tempfile.TemporaryDirectory(prefix="fieldwatch-bench-") as name:
        log = Path(name) / "readings.csv"
        log.write_bytes(b"".join(lines))
        config = LogConfig.model_validate({"path": str(log), "period": "60s"})
        cut = list(read_file(log, config, limit=len(blocks[0])))

        def agent() -> list[Any]:
            parser = Parser(config, NAMES)
            return [parser.parse(block) for block in cut]

        parsed = agent()
        values = np.concatenate([part.values for part in parsed])
        stamps = np.concatenate([part.ts for part in parsed])
        texts = [line.rstrip(b"\n").split(b",")[1:] for line in lines[1:]]
        want = np.array([[float(text or b"nan") for text in row] for row in texts])
        assert values.tobytes() == want.tobytes(), "a value differs from float()"
        assert np.array_equal(stamps, times(count)), "a time differs"

        turns = take_turns(
            {
                "agent": agent,
                "split + float": lambda: [
                    [float(t or b"nan") for t in line.rstrip().split(b",")[1:]] for line in lines[1:]
                ],
                "loadtxt": lambda: [
                    np.loadtxt(io.BytesIO(block), delimiter=",", usecols=range(1, SENSORS + 1)) for block in plain
                ],
                "pandas": lambda: [pd.read_csv(io.BytesIO(block), parse_dates=["timestamp"]) for block in blocks],
                "polars": lambda: [pl.read_csv(block, try_parse_dates=True) for block in blocks],
            },
            rounds,
        )
    return {
        "what": f"{count} lines x {SENSORS} sensors with timestamps, blocks of {BLOCK} lines",
        "rounds": rounds,
        "lines/s": round(count / turns.median("agent")),
        "MB/s": round(sum(map(len, lines)) / 1e6 / turns.median("agent")),
        **{f"times faster than {peer}": turns.faster("agent", peer) for peer in turns.cpu if peer != "agent"},
    }
