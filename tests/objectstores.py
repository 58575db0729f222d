"""Object stores on this machine: programs that speak the real protocols, each a process of its own on 127.0.0.1.

S3 is moto's server, Azure is Azurite, Google is fake-gcs-server. None is the service itself: what they share with it is
the protocol, conditions included.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from fieldwatch_trainer.release import stores

from tests.conftest import answers, end, find_port, wait_until

AZURITE = (
    "DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey=Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6"
    "IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==;BlobEndpoint=http://127.0.0.1:{port}/devstoreaccount1;"
)
"""The account that every Azurite has, as its manual prints it."""


@dataclass
class Bucket:
    """A running store with an empty bucket; each call of :meth:`prefix` names a place that nobody has used."""

    scheme: str
    port: int
    env: Mapping[str, str]
    _count: int = field(default=0, repr=False)

    def prefix(self) -> str:
        self._count += 1
        return f"{self.scheme}://updates/p{self._count}"


def _s3(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    program = Path(sys.executable).with_name("moto_server")
    env = {"AWS_ACCESS_KEY_ID": "test", "AWS_SECRET_ACCESS_KEY": "test", "AWS_DEFAULT_REGION": "us-east-1"}
    env |= {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{port}", "AWS_CONFIG_FILE": str(folder / "none")}
    return [str(program), "-H", "127.0.0.1", "-p", str(port)], env


def _abfs(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    program = shutil.which("azurite-blob")
    assert program is not None
    command = [program, "--silent", "--inMemoryPersistence", "--skipApiVersionCheck", "--disableTelemetry"]
    command += ["--blobHost", "127.0.0.1", "--blobPort", str(port)]
    return command, {"AZURE_STORAGE_CONNECTION_STRING": AZURITE.format(port=port)}


def _gs(port: int, folder: Path) -> tuple[list[str], dict[str, str]]:
    program = shutil.which("fake-gcs-server")
    assert program is not None
    command = [program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), "-backend", "memory"]
    return [*command, "-public-host", f"127.0.0.1:{port}"], {"STORAGE_EMULATOR_HOST": f"http://127.0.0.1:{port}"}


@contextmanager
def running(scheme: str, folder: Path) -> Iterator[Bucket]:
    """Start the store of a URL scheme, with a bucket ``updates``, until the end of the block."""
    port = find_port()
    command, env = {"s3": _s3, "abfs": _abfs, "gs": _gs}[scheme](port, folder)
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        patch.setenv("no_proxy", "127.0.0.1")
        with (folder / f"{scheme}.log").open("ab") as log:
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, cwd=folder)
            try:
                wait_until(lambda: answers(port) or process.poll() is not None, f"{scheme} on port {port}")
                stores.connect(f"{scheme}://updates")._store.mkdir("updates")
                yield Bucket(scheme, port, os.environ | env)
            finally:
                end(process)


class ConnectionCut(OSError):
    """What a library says when the network is gone."""


class Wire:
    """Between :class:`.stores.Objects` and the library: the connection is cut at one of its requests that write.

    ``at``: which, counted from 0; ``done``: it reached the store, and only the answer is lost. From then on there is
    no network. Counted even without a cut.
    """

    def __init__(self, store: Any, at: int | None = None, done: bool = False) -> None:
        self._store, self._at, self._done = store, at, done
        self.writes = 0
        self.cut = False

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._store, name)
        if name not in {"pipe_file", "call", "cat_file", "info", "find"}:
            return real

        def request(*args: Any, **options: Any) -> Any:
            if self.cut:
                raise ConnectionCut("no route to host")
            if name not in {"pipe_file", "call"}:
                return real(*args, **options)
            self.cut = self.writes == self._at
            self.writes += 1
            if self.cut and not self._done:
                raise ConnectionCut("connection reset by peer")
            answer = real(*args, **options)
            if self.cut:
                raise ConnectionCut("connection reset before the answer came")
            return answer

        return request


@contextmanager
def wired(at: int | None = None, done: bool = False) -> Iterator[list[Wire]]:
    """Within the block every store that is connected to is behind one :class:`Wire`, which is cut for all at once."""
    wires: list[Wire] = []
    connect = stores.connect

    def connected(url: str) -> stores.Objects:
        found = connect(url)
        if not wires:
            wires.append(Wire(found._store, at, done))
        found._store = wires[0]
        return found

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stores, "connect", connected)
        yield wires
