"""Object stores, through fsspec: S3 and what speaks like it, Azure, Google.

All three can put an object on a condition, and that is all that :mod:`.release.storage` needs: there is no lock that a
dead publisher could leave behind. A store without conditions is refused by name, because two engineers at once could
break the repository there.

==============  =================  ===========================================  =============================
URL             library            only where nothing is                        only where it is unchanged
==============  =================  ===========================================  =============================
``s3://``       s3fs               ``If-None-Match: *``                         ``If-Match`` with its ETag
``abfs://``     adlfs              ``If-None-Match: *``                         ``If-Match`` with its ETag
``gs://``       gcsfs              ``ifGenerationMatch=0``                      ``ifGenerationMatch``
==============  =================  ===========================================  =============================

Addresses and credentials come from where each library looks for them (``AWS_ENDPOINT_URL``, ``AWS_PROFILE``,
``AZURE_STORAGE_CONNECTION_STRING``, ``GOOGLE_APPLICATION_CREDENTIALS``, the machine's role …).
"""

from __future__ import annotations

import errno
import json
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, NoReturn

from fieldwatch_contract.extras import how_to_install

from fieldwatch_trainer.release.errors import ReleaseError, Taken

FRESH = "no-cache"
"""Cache-Control of an object that changes: nobody in between may keep a halt from devices."""


def connect(url: str) -> Objects:
    """Return the store behind a URL. Raises :class:`ReleaseError` for one that this module does not know."""
    kind: dict[str, Callable[[str], Objects]] = {
        "s3": _S3,
        "abfs": _Azure,
        "abfss": _Azure,
        "az": _Azure,
        "gs": _Google,
        "gcs": _Google,
    }
    protocol = url.partition("://")[0]
    if protocol not in kind:
        raise ReleaseError(
            f"{url}: {protocol} knows no writing on a condition, so two engineers at once could break the repository; "
            "a folder, s3://, abfs:// or gs:// can be one"
        )
    try:
        return kind[protocol](url)
    except ImportError as error:
        raise ReleaseError(f"{url}: the libraries of object stores are missing: {how_to_install('stores')}") from error


class Objects(ABC):
    """A bucket with a prefix. Every failure of a library becomes one sentence with the object's name."""

    def __init__(self, url: str) -> None:
        self.where = url.rstrip("/")
        self._store = self._connect()
        self._base = self._store._strip_protocol(self.where).rstrip("/")

    @abstractmethod
    def _connect(self) -> Any:
        """Return the fsspec file system."""

    @abstractmethod
    def _tag(self, path: str) -> Any:
        """Return what names the object's present state. Raises :class:`FileNotFoundError`."""

    @abstractmethod
    def _put(self, path: str, data: bytes, tag: Any, cache: str | None) -> None:
        """Put an object where its state is still ``tag``; None: where there is none."""

    def read(self, name: str) -> bytes:
        """Return an object."""
        try:
            data: bytes = self._store.cat_file(f"{self._base}/{name}")
        except FileNotFoundError as error:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), f"{self.where}/{name}") from error
        except Exception as error:  # each library has its own kinds of errors, most of them no OSError
            self._fail(name, error)
        return data

    def names(self, under: str) -> list[str]:
        """Return every object below a prefix."""
        try:
            found = self._store.find(f"{self._base}/{under}")
        except FileNotFoundError:
            return []
        except Exception as error:
            self._fail(under, error)
        return sorted(path.removeprefix(f"{self._base}/") for path in found)

    def write(self, name: str, data: bytes) -> None:
        """Put an object, whatever is there."""
        try:
            self._store.pipe_file(f"{self._base}/{name}", data)
        except Exception as error:
            self._fail(name, error)

    def create(self, name: str, data: bytes) -> None:
        """Put an object that never changes."""
        self._settled(name, data, None, lambda path: self._put(path, data, None, None))

    def swap(self, name: str, data: bytes, old: bytes | None) -> None:
        """Replace an object that nobody has changed.

        Its tag is asked for before its bytes: if somebody changes it in between, the condition no longer holds.
        """

        def put(path: str) -> None:
            tag = None if old is None else self._tag(path)
            if old is not None and self.read(name) != old:
                raise Taken(self.where, name)
            self._put(path, data, tag, FRESH)

        self._settled(name, data, old, put)

    @contextmanager
    def only_publisher(self) -> Iterator[None]:
        """Keep nobody out: the conditions decide."""
        yield

    def _settled(self, name: str, data: bytes, old: bytes | None, put: Callable[[str], None]) -> None:
        """Put; where that fails, what lies there now tells why.

        A library repeats a request whose answer was lost, and the condition then fails because the first one held.
        """
        try:
            put(f"{self._base}/{name}")
        except Exception as error:
            there = old
            with suppress(ReleaseError):
                there = self._there(name)
            if there == data:
                return
            if there != old or isinstance(error, Taken):
                raise Taken(self.where, name) from error
            self._fail(name, error)

    def _there(self, name: str) -> bytes | None:
        try:
            return self.read(name)
        except FileNotFoundError:
            return None

    def _fail(self, name: str, error: Exception) -> NoReturn:
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ReleaseError(f"{self.where}/{name}: the store does not answer as it should: {said}") from error


class _S3(Objects):
    def _connect(self) -> Any:
        from s3fs import S3FileSystem

        return S3FileSystem(use_listings_cache=False, skip_instance_cache=True)

    def _tag(self, path: str) -> Any:
        return self._store.info(path, refresh=True)["ETag"]

    def _put(self, path: str, data: bytes, tag: Any, cache: str | None) -> None:
        condition = {"IfNoneMatch": "*"} if tag is None else {"IfMatch": tag}
        self._store.pipe_file(path, data, **condition, **({"CacheControl": cache} if cache else {}))


class _Azure(Objects):
    def _connect(self) -> Any:
        from adlfs import AzureBlobFileSystem

        return AzureBlobFileSystem(
            connection_string=os.environ.get("AZURE_STORAGE_CONNECTION_STRING"),
            account_name=os.environ.get("AZURE_STORAGE_ACCOUNT_NAME"),
            anon=False,
            use_listings_cache=False,
            skip_instance_cache=True,
        )

    def _tag(self, path: str) -> Any:
        return self._store.info(path, refresh=True)["etag"]

    def _put(self, path: str, data: bytes, tag: Any, cache: str | None) -> None:
        from azure.core import MatchConditions
        from azure.storage.blob import ContentSettings

        condition: dict[str, Any] = {"overwrite": tag is not None}
        if tag is not None:
            condition |= {"etag": tag, "match_condition": MatchConditions.IfNotModified}
        settings = {"content_settings": ContentSettings(cache_control=cache)} if cache else {}
        self._store.pipe_file(path, data, **condition, **settings)


class _Google(Objects):
    def _connect(self) -> Any:
        from gcsfs.core import GCSFileSystem  # the package's own class first asks by gRPC what kind of bucket it is

        emulated = {"token": "anon"} if os.environ.get("STORAGE_EMULATOR_HOST") else {}
        return GCSFileSystem(use_listings_cache=False, skip_instance_cache=True, **emulated)

    def _tag(self, path: str) -> Any:
        return self._store.info(path)["generation"]

    def _put(self, path: str, data: bytes, tag: Any, cache: str | None) -> None:
        """By the JSON API itself: gcsfs has a condition for new objects alone."""
        bucket, key, _ = self._store.split_path(path)
        facts = {"name": key} | ({"cacheControl": cache} if cache else {})
        edge = "fieldwatch-" + os.urandom(16).hex()
        head = f"--{edge}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{json.dumps(facts)}\r\n"
        head += f"--{edge}\r\nContent-Type: application/octet-stream\r\n\r\n"
        self._store.call(
            "POST",
            f"{self._store._location}/upload/storage/v1/b/{bucket}/o",
            uploadType="multipart",
            ifGenerationMatch=str(tag or 0),
            headers={"Content-Type": f'multipart/related; boundary="{edge}"'},
            data=head.encode() + data + f"\r\n--{edge}--".encode(),
            json_out=True,
        )
