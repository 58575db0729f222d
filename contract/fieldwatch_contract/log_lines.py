"""How the programs write their own log: one record is one line, whatever a device or a log file put into it.

:class:`OneLine` for people, :class:`Structured` for programs that collect logs (JSON Lines). Both escape what is not
printable, so that a line break in a message forges no second record. Formatting only, no I/O.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime


class OneLine(logging.Formatter):
    """Keeps each log record on one line whatever a device sent: a line break must not forge a second record.

    Tracebacks keep their line breaks.
    """

    def formatMessage(self, record: logging.LogRecord) -> str:
        """Return the message with control characters escaped."""
        text = super().formatMessage(record)
        return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Structured(logging.Formatter):
    """One JSON object a record: ``ts`` (ISO 8601, UTC, ms), ``level``, ``logger``, ``message``; ``error`` holds the
    traceback where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the object as one line of ASCII."""
        moment = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        told = {
            "ts": moment.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        if record.exc_info:
            told["error"] = self.formatException(record.exc_info)
        return json.dumps(told)
