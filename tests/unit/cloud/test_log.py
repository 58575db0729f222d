"""The service's own log: one record is one line."""

from __future__ import annotations

import logging
import sys

from fieldwatch_contract.log_lines import OneLine


def record(message: str, *arguments: object) -> logging.LogRecord:
    return logging.LogRecord("fieldwatch.ingest", logging.WARNING, "ingest.py", 1, message, arguments, None)


def test_a_device_cannot_forge_a_line() -> None:
    evil = "press\n2026-11-05 WARNING fieldwatch: all is well\r\x1b[2J\u2028"
    line = OneLine("%(levelname)s %(message)s").format(record("set aside: %s", evil))
    assert line == r"WARNING set aside: press\n2026-11-05 WARNING fieldwatch: all is well\r\x1b[2J\u2028"


def test_a_traceback_keeps_its_lines_and_words_their_letters() -> None:
    try:
        raise ValueError("böse")
    except ValueError:
        failed = record("schlimm: µs “so”")
        failed.exc_info = sys.exc_info()
    lines = OneLine("%(message)s").format(failed).splitlines()
    assert lines[0] == "schlimm: µs “so”"
    assert lines[-1] == "ValueError: böse"
    assert len(lines) > 2
