"""How a log is shown to a person: where it is, its newest readings with units, how it is written. Text only."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from fieldwatch_contract import clock

from fieldwatch_agent.setup.understand import Understood

ROWS, COLUMNS = 3, 8
"""How many readings and columns are shown."""


def one_line(seen: Understood, now: float) -> str:
    """Describe a log in a line, to choose from; ``now``: Unix seconds."""
    names = ", ".join(seen.numeric[:4]) + (f" and {len(seen.numeric) - 4} more" if len(seen.numeric) > 4 else "")
    age = max(0.0, now - seen.sample.path.stat().st_mtime)
    return f"{seen.keys['path']}: every {seen.keys.get('period', '?')}, written {span(age)} ago; {names}"


def head(seen: Understood) -> Iterator[str]:
    """Yield the newest readings as a table, a column a line, and the settings that were found."""
    found, units = seen.found, seen.units
    values = found.values[-ROWS:]
    shown = [place for place, name in enumerate(found.parser.sensors) if name in seen.numeric][:COLUMNS]
    cells = [["time", "", *(clock.iso(int(ts)) for ts in found.ts[-ROWS:])]]
    for place in shown:
        name = found.parser.sensors[place]
        cells.append([name, units.get(name, ""), *(_number(value) for value in values[:, place])])
    widths = [max(len(row[at]) for row in cells) for at in range(len(cells[0]))]
    for row in cells:
        told = [
            cell.ljust(width) if at < 2 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield "  " + "  ".join(told).rstrip()
    if len(seen.numeric) > COLUMNS:
        yield f"  and {len(seen.numeric) - COLUMNS} more columns: {', '.join(seen.numeric[COLUMNS:])[:200]}"
    texts = [name for name in found.parser.sensors if name not in seen.numeric]
    if texts:
        yield f"  columns without numbers: {', '.join(texts)[:200]}"


def span(seconds: float) -> str:
    """Say a time span as people do.

    >>> span(45), span(7200), span(900_000)
    ('45 s', '2 h', '10 days')
    """
    for size, unit in ((86_400, "days"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _number(value: float) -> str:
    return f"{value:g}" if np.isfinite(value) else "-"
