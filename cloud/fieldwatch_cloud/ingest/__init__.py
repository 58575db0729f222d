"""Ingest: takes what the devices send from the broker, stores it, and only then acknowledges it.

:mod:`.broker` starts a broker where there is none, :mod:`.decode` turns messages into rows without I/O,
:class:`Ingest` (:mod:`.receiver`) is the thread that does both; :mod:`.link` is its connection, :mod:`.pacer` says when
a device is acknowledged.
"""

from fieldwatch_cloud.ingest.receiver import Ingest

__all__ = ["Ingest"]
