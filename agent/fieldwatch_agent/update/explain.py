"""Explains in one sentence for the person on site why an update failed.

Each failure has a kind; its remedy is in :data:`.troubles.REMEDY`. The order of the cases matters: python-tuf's
exceptions are subclasses of one another.
"""

from __future__ import annotations

import errno

import urllib3
from fieldwatch_contract import clock
from fieldwatch_contract.bundle import BundleError
from tuf.api.exceptions import (
    BadVersionNumberError,
    DownloadError,
    DownloadHTTPError,
    DownloadLengthMismatchError,
    ExpiredMetadataError,
    LengthOrHashMismatchError,
    RepositoryError,
    SlowRetrievalError,
    UnsignedMetadataError,
)
from tuf.api.serialization import DeserializationError

from fieldwatch_agent.update.source import Portal, Truncated

STAYS = "the installed bundle keeps scoring"
NOTHING = "no bundle is installed, so nothing is scored yet"


class BadRoot(RepositoryError):
    """The installed root.json is not a root of trust."""


class Nothing(RepositoryError):
    """The repository is valid, but has nothing for this device."""


def explain(error: Exception, source: str, installed: bool) -> tuple[str, str]:
    """Return the kind of a failure and a sentence for the person on site; ``installed``: whether a bundle is active."""
    stays = STAYS if installed else NOTHING
    match error:
        case BundleError() | MemoryError():
            return "memory", f"this computer could not test the bundle now: {error or 'not enough memory'}; {stays}"
        case Nothing():
            return "nothing", str(error)
        case BadRoot():
            return (
                "configuration",
                f"updates.root is not a valid root.json ({error}): get it from the release engineers",
            )
        case Portal():
            return "portal", (
                f"a web page came instead of {source}: this network requires a login, or a proxy is in between; {stays}"
            )
        case ExpiredMetadataError():
            return "stale", (
                f"{source} is stale ({error}): nobody has renewed its signatures, or this PC's clock "
                f"({clock.iso(clock.now())}) is wrong; {stays}"
            )
        case BadVersionNumberError():
            return "hostile", (
                f"{source} offers older metadata than this device has seen: an old copy, or somebody interferes; "
                f"{stays} ({error})"
            )
        case UnsignedMetadataError():
            return "hostile", (
                f"{source} is not signed by the keys that updates.root names: another repository, or somebody "
                f"interferes; {stays} ({error})"
            )
        case LengthOrHashMismatchError():
            return "damaged", f"a file of {source} is not what was signed, discarded; {stays} ({error})"
        case DeserializationError():
            return "damaged", f"metadata of {source} is truncated or not metadata at all; {stays} ({error})"
        case RepositoryError():
            return "hostile", f"{source} contradicts itself; {stays} ({error})"
        case Truncated() | urllib3.exceptions.ProtocolError():
            return "truncated", f"the download from {source} broke off and resumes next time; {stays} ({error})"
        case DownloadLengthMismatchError():
            return "oversized", f"{source} sends more than was announced, cut off; {stays} ({error})"
        case SlowRetrievalError() | urllib3.exceptions.ReadTimeoutError():
            return "slow", f"{source} is too slow, what was received is kept; {stays} ({error})"
        case DownloadHTTPError(status_code=404):
            return "absent", f"no repository at {source}: is updates.url right? {stays} ({error})"
        case urllib3.exceptions.MaxRetryError():
            reason = str(error.reason)
            return "down", f"{source} cannot be reached; {stays} ({reason.partition(': ')[2] or reason})"
        case DownloadError() | urllib3.exceptions.HTTPError():
            return "down", f"{source} cannot be reached; {stays} ({error})"
        case OSError(errno=errno.ENOSPC | errno.EFBIG | errno.EDQUOT):
            return "disk", f"no room for the update on the disk; {stays} ({error.strerror})"
        case IsADirectoryError():
            return "blocked", f"{error.filename2 or error.filename}: {error.strerror}; {stays}"
        case OSError():
            return "disk", f"{error.filename}: {error.strerror}; {stays}"
    raise error
