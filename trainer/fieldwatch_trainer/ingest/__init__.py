"""``ingest``: device logs → a lake, read by the agent's own parser, so that the first model needs no data engineer.

:mod:`.ingest.files` finds logs and cuts them into lines, :mod:`.ingest.reading` makes readings of them and counts what
is refused, :mod:`.ingest.store` puts them into the lake, :mod:`.ingest.intervals` reads labels from a table.
"""
