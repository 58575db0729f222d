"""Where signed bundles come from: static files behind a web server, or the same files on a USB stick.

Both are fetchers for python-tuf, which decides what to trust; this module only limits what a download may cost. Nothing
may exceed its announced length, nothing may trickle indefinitely (slow-retrieval attack), and an interrupted bundle is
resumed where it stopped. The partial file is not trusted: the complete file is hashed, and a wrong one discarded.
"""

from __future__ import annotations

import os
import time
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import urllib3
from tuf.api.exceptions import (
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    LengthOrHashMismatchError,
    SlowRetrievalError,
)
from tuf.api.metadata import TargetFile
from tuf.ngclient.fetcher import FetcherInterface

from fieldwatch_agent import __version__, durable, web

CHUNK = 64 * 1024


class Portal(DownloadError):
    """A web page came instead of the requested file: a captive portal, a proxy's notice, a login page."""


class Truncated(DownloadError):
    """The response ended early; what was received is kept."""


@dataclass(frozen=True)
class Limits:
    """Timeouts of a download: seconds to connect and between two packets; the lowest acceptable rate (bytes per second
    over ``window`` seconds); seconds for the whole update."""

    connect: float = 10.0
    read: float = 30.0
    rate: float = 512.0
    window: float = 60.0
    total: float = 3600.0


class Source(FetcherInterface):
    """A folder of static files; ``base`` is prepended to every name."""

    base: str

    @abstractmethod
    def _open(self, url: str, offset: int) -> tuple[int, Iterator[bytes]]:
        """Return where the returned bytes of a file start (``offset``, or 0 if it cannot resume), and the bytes."""

    def _fetch(self, url: str) -> Iterator[bytes]:
        return self._open(url, 0)[1]

    def download_bytes(self, url: str, max_length: int) -> bytes:
        """Return a small file; python-tuf's own implementation goes through a temporary file."""
        data = bytearray()
        for chunk in self._open(url, 0)[1]:
            data += chunk
            if len(data) > max_length:
                raise DownloadLengthMismatchError(f"{url} is longer than {max_length} bytes")
        return bytes(data)

    def read(self, info: TargetFile) -> bytes:
        """Return a small target, verified."""
        data = self.download_bytes(self._url(info), info.length)
        info.verify_length_and_hashes(data)
        return data

    def download(self, info: TargetFile, path: Path) -> None:
        """Fetch a target to ``path``, resuming an earlier attempt, and verify it.

        Raises what the fetcher raises; except for wrong content, the received part is kept for next time.
        """
        kept = path.stat().st_size if path.exists() else 0
        if kept < info.length:
            self._go_on(info, path, kept)
        try:
            with path.open("r+b") as file:
                info.verify_length_and_hashes(file)
                os.fsync(file.fileno())
        except LengthOrHashMismatchError:
            durable.remove(path)
            raise
        durable.sync_folder(path.parent)

    def _go_on(self, info: TargetFile, path: Path, kept: int) -> None:
        url = self._url(info)
        start, chunks = self._open(url, kept)
        size = start
        with path.open("r+b" if start else "wb") as file:
            file.seek(start)
            file.truncate()
            for chunk in chunks:
                size += len(chunk)
                if size > info.length:
                    break
                file.write(chunk)
        if size > info.length:
            durable.remove(path)
            raise DownloadLengthMismatchError(f"{url} is longer than the {info.length} bytes that were signed")
        if size < info.length:
            raise Truncated(f"{url} ended after {size} of {info.length} bytes; the rest is fetched next time")

    def _url(self, info: TargetFile) -> str:
        return f"{self.base}targets/{info.get_prefixed_paths()[0]}"


class WebSource(Source):
    """Files behind ``http://`` or ``https://``, through the system's proxy where there is one."""

    def __init__(self, url: str, limits: Limits, ca: Path | None = None) -> None:
        """Connect to nothing yet. ``ca``: PEM of who vouches for the server; None: the system's certificate store."""
        self.base = url.rstrip("/") + "/"
        self._limits = limits
        self._end = time.monotonic() + limits.total
        self._pool = web.pool(url, **({} if ca is None else {"ca_certs": str(ca)}))

    def _open(self, url: str, offset: int) -> tuple[int, Iterator[bytes]]:
        headers = {"User-Agent": f"fieldwatch-agent/{__version__}", "Accept-Encoding": "identity"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        response = self._pool.request(
            "GET",
            url,
            headers=headers,
            preload_content=False,
            timeout=urllib3.Timeout(connect=self._limits.connect, read=self._limits.read),
            retries=urllib3.Retry(connect=1, read=0, redirect=3, status=0, other=0, backoff_factor=0.5),
        )
        if response.status == 416 and offset:
            response.close()
            return self._open(url, 0)
        if response.status not in {200, 206}:
            response.close()
            raise DownloadHTTPError(f"the server answers {response.status} for {url}", response.status)
        resumed = response.status == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {offset}-")
        if response.status == 206 and not resumed:
            response.close()
            raise DownloadError(f"the server sends another part of {url} than was asked for")
        return (offset if resumed else 0), self._chunks(url, response, resumed)

    def _chunks(self, url: str, response: urllib3.BaseHTTPResponse, resumed: bool) -> Iterator[bytes]:
        html = response.headers.get("Content-Type", "").startswith("text/html")
        begins = not resumed
        got, since = 0, time.monotonic()
        try:
            while chunk := response.read1(CHUNK):
                if html or (begins and chunk.lstrip()[:1] == b"<"):  # later on, "<" is a byte like any other
                    raise Portal(f"{url} is answered with a web page")
                begins = False
                yield chunk
                got += len(chunk)
                moment = time.monotonic()
                if moment > self._end:
                    raise SlowRetrievalError(f"{url}: the update takes longer than {self._limits.total:.0f} s")
                if moment - since > self._limits.window:
                    if got < self._limits.rate * (moment - since):
                        raise SlowRetrievalError(f"{url}: less than {self._limits.rate:.0f} bytes a second")
                    got, since = 0, moment
        finally:
            response.close()


class FolderSource(Source):
    """The same files in a folder, for sites without a network."""

    def __init__(self, folder: Path) -> None:
        """Read nothing yet."""
        self.base = "folder:"
        self._folder = folder

    def _open(self, url: str, offset: int) -> tuple[int, Iterator[bytes]]:
        path = self._folder / unquote(url.removeprefix(self.base))
        try:
            file = path.open("rb")
        except FileNotFoundError as error:
            raise DownloadHTTPError(f"{path} is missing", 404) from error
        file.seek(offset)

        def chunks() -> Iterator[bytes]:
            with file:
                while chunk := file.read(CHUNK):
                    yield chunk

        return offset, chunks()
