"""Which bytes a training read: a digest of every file, so that an auditor can tell whether data are the same ones.

===========================  ===========================================================================
a Parquet or CSV file        SHA-256 of its bytes
a Delta or Iceberg table     SHA-256 of its log: every file that says which data count, by name and bytes
===========================  ===========================================================================

Names are relative to the lake, so that a copy elsewhere has the same digests.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pyarrow.fs as pafs

Digest = dict[str, str]
"""``name`` and ``sha256``; for a table ``log`` too, the newest file of its log."""

_CHUNK = 1 << 20
_LOGS = {"_delta_log": ".json", "metadata": ".metadata.json"}


def of_file(path: str | Path) -> Digest:
    """Return the digest of a file of this machine. Raises :class:`OSError`."""
    with Path(path).open("rb") as file:
        return {"name": Path(path).name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def of_lake(fs: Any, root: str, sources: Iterable[str]) -> list[Digest]:
    """Return the digests of files and tables of a lake at ``root``, by name. Raises :class:`OSError`."""
    found = []
    for path in sorted(set(sources)):
        name = posixpath.relpath(path, root)
        if fs.get_file_info(path).type == pafs.FileType.File:
            found.append({"name": name, "sha256": _sha256(fs, path)})
        elif (log := _log(fs, path)) is not None:
            found.append({"name": name, **log})
        else:
            within = fs.get_file_info(pafs.FileSelector(path, recursive=True))
            found += of_lake(fs, root, (entry.path for entry in within if entry.type == pafs.FileType.File))
    return found


def of_code() -> str:
    """Return the SHA-256 of the modules that make a bundle: contract and trainer, by name and bytes."""
    import fieldwatch_contract

    import fieldwatch_trainer

    whole = hashlib.sha256()
    for package in (fieldwatch_contract, fieldwatch_trainer):
        home = Path(package.__path__[0])
        for path in sorted(home.rglob("*.py")):
            name = f"{home.name}/{path.relative_to(home).as_posix()}"
            whole.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return whole.hexdigest()


def _log(fs: Any, path: str) -> Digest | None:
    """Return the digest of a table's log; None for a folder that is no table."""
    for folder, ending in _LOGS.items():
        selector = pafs.FileSelector(posixpath.join(path, folder), allow_not_found=True)
        logs = sorted(entry.path for entry in fs.get_file_info(selector) if entry.path.endswith(ending))
        if logs:
            lines = (f"{posixpath.basename(log)} {_sha256(fs, log)}\n" for log in logs)
            newest = posixpath.basename(logs[-1])
            return {"sha256": hashlib.sha256("".join(lines).encode()).hexdigest(), "log": newest}
    return None


def _sha256(fs: Any, path: str) -> str:
    digest = hashlib.sha256()
    with fs.open_input_stream(path) as stream:
        while chunk := stream.read(_CHUNK):
            digest.update(chunk)
    return digest.hexdigest()
