"""See the repository as a device does that was installed long ago: from the embedded root, with nothing remembered.

Run it after every publication and daily from outside. It checks all signatures, versions and expiries with the same
library as the devices, downloads every target, opens every bundle and lets it prove itself, and holds policies
against the bundles that they name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

from fieldwatch_contract.bundle import BundleError, read_bundle
from fieldwatch_contract.policy import BundleFacts, Policy
from fieldwatch_contract.scoring import self_test
from pydantic import ValidationError
from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface
from urllib3.exceptions import HTTPError

from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.repository import Expiry
from fieldwatch_trainer.release.roles import POLICY, PROD, ROLES


@dataclass(frozen=True)
class Verified:
    """What the cold client found good."""

    expiries: list[Expiry]
    bundles: list[str]
    policies: list[str]


def verify(source: str, root: bytes) -> Verified:
    """Check the repository at ``source``, a URL or a folder. Raises :class:`ReleaseError` at the first thing wrong."""
    remote = source.startswith(("http://", "https://"))
    base = source.rstrip("/") + "/" if remote else "folder:"
    fetcher = None if remote else _FolderFetcher(Path(source))
    with tempfile.TemporaryDirectory(prefix="fieldwatch-verify-") as name:
        memory = Path(name)
        try:
            updater = Updater(
                str(memory), base + "metadata/", str(memory), base + "targets/", fetcher=fetcher, bootstrap=root
            )
            updater.refresh()
            bundles = _bundles(updater, memory)
            policies = _policies(updater, memory, bundles)
        except (RepositoryError, DownloadError, HTTPError, OSError) as error:
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            raise ReleaseError(f"{source}: {type(error).__name__}: {error}{cause}") from error
        return Verified([_expiry(memory, role) for role in ROLES], sorted(bundles), policies)


def _bundles(updater: Updater, memory: Path) -> dict[str, str]:
    """Check every bundle; return sha256 by target path."""
    found = {}
    for target in _listed(updater, memory, PROD):
        data, custom = _download(updater, memory, target)
        try:
            facts = BundleFacts.model_validate(custom)
            bundle = read_bundle(data)
            self_test(bundle)
        except (BundleError, ValidationError) as error:
            raise ReleaseError(f"{target}: {error}") from error
        manifest = bundle.manifest
        if (facts.name, facts.version, facts.kernel) != (manifest.name, manifest.version, manifest.kernel):
            raise ReleaseError(f"{target}: its facts speak of {facts.name}/{facts.version}, its manifest of another")
        found[target] = bundle.sha256
    return found


def _policies(updater: Updater, memory: Path, bundles: dict[str, str]) -> list[str]:
    """Check every policy against the bundles; return the target paths."""
    found = []
    for target in _listed(updater, memory, POLICY):
        data, _ = _download(updater, memory, target)
        try:
            policy = Policy.model_validate_json(data)
        except ValidationError as error:
            raise ReleaseError(f"{target}: {error.errors()[0]['msg']}") from error
        for release in policy.releases:
            if bundles.get(release.target) != release.sha256:
                raise ReleaseError(f"{target} offers {release.target}, which is not published with that sha256")
        found.append(target)
    return found


def _listed(updater: Updater, memory: Path, role: str) -> list[str]:
    """Return the target paths of a delegated role, fetched and verified by asking for one that cannot exist."""
    updater.get_targetinfo({PROD: "prod/-/-", POLICY: "policy/-/-"}[role])
    return sorted(Metadata[Targets].from_file(str(memory / f"{role}.json")).signed.targets)


def _download(updater: Updater, memory: Path, target: str) -> tuple[bytes, object]:
    info = updater.get_targetinfo(target)
    assert info is not None  # it is listed
    path = Path(updater.download_target(info, str(memory / "target")))
    return path.read_bytes(), info.custom


def _expiry(memory: Path, role: str) -> Expiry:
    signed = Metadata[Root].from_file(str(memory / f"{role}.json")).signed
    return Expiry(role, signed.version, signed.expires)


class _FolderFetcher(FetcherInterface):
    """Reads ``folder:metadata/…`` from a folder as if it were served."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            return iter([(self._folder / unquote(url.removeprefix("folder:"))).read_bytes()])
        except FileNotFoundError as error:
            raise DownloadHTTPError(f"{error.filename} is missing", 404) from error
