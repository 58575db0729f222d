"""See the repository as a device does that was installed long ago: from the embedded root, with nothing remembered.

Run it after every publication and daily from outside. It checks all signatures, versions and expiries with the same
library as the devices, downloads every target, opens every bundle and lets it prove itself, and holds policies
against the bundles that they name.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote

from fieldwatch_contract.bundle import BundleError, read_bundle
from fieldwatch_contract.policy import BundleFacts, Policy, bundle_path, policy_path
from fieldwatch_contract.scoring import self_test
from pydantic import ValidationError
from tuf.api.exceptions import DownloadError, DownloadHTTPError, RepositoryError
from tuf.api.metadata import Metadata, Root, Targets
from tuf.ngclient import Updater
from tuf.ngclient.fetcher import FetcherInterface
from urllib3.exceptions import HTTPError

from fieldwatch_trainer.release import beside, mlbom
from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.keys import key_name
from fieldwatch_trainer.release.metadata import Expiry
from fieldwatch_trainer.release.roles import POLICY, PROD, ROLES
from fieldwatch_trainer.release.storage import Storage, place, storage_at


@dataclass(frozen=True)
class Verified:
    """What the cold client found good; ``signers``: the names of the keys that signed the bundles.

    ``beside``: what stands beside a bundle and speaks of its very bytes; ``no_bom``: bundles without an ML-BOM.
    """

    expiries: list[Expiry]
    bundles: list[str]
    beside: list[str]
    no_bom: list[str]
    policies: list[str]
    signers: list[str]


def verify(source: str, root: bytes, now: datetime | None = None) -> Verified:
    """Check the repository at ``source``, a URL or a folder. Raises :class:`ReleaseError` at the first thing wrong."""
    with _cold(source, root, now) as client:
        bundles, others = client.bundles()
        policies = client.policies(bundles)
        without = [target for target in sorted(bundles) if mlbom.path_of(target) not in others]
        ends = [client.expiry(role) for role in ROLES]
        return Verified(ends, sorted(bundles), others, without, policies, client.signers())


def offered(
    source: str, root: bytes, name: str, version: str, channel: str, now: datetime | None = None
) -> tuple[bytes, dict[str, bytes], Policy]:
    """Return a bundle, what stands beside it by path, and the policy of its channel from another repository, verified.

    Raises :class:`ReleaseError`.
    """
    with _cold(source, root, now) as client:
        policy = client.optional(policy_path(name, channel))
        bundle = client.optional(bundle_path(name, version))
        if bundle is None or policy is None:
            what = f"bundle {name}/{version}" if bundle is None else f"channel {channel} for {name}"
            raise ReleaseError(f"{source}: there is no {what}")
        others = {path: client.optional(path) for path in beside.paths(bundle_path(name, version))}
        return bundle, {path: data for path, data in others.items() if data}, Policy.model_validate_json(policy)


@contextmanager
def _cold(source: str, root: bytes, now: datetime | None) -> Iterator[_Client]:
    with tempfile.TemporaryDirectory(prefix="fieldwatch-verify-") as name:
        try:
            yield _Client(source, root, Path(name), now)
        except (RepositoryError, DownloadError, HTTPError, OSError) as error:
            if isinstance(reason := getattr(error.__cause__, "reason", None), HTTPError):
                said = str(reason).rpartition(": ")[2]
                raise ReleaseError(f"{source} cannot be reached: {said}; is the address right?") from error
            cause = f" ({error.__cause__})" if error.__cause__ else ""
            raise ReleaseError(f"{source}: {type(error).__name__}: {error}{cause}") from error


class _Client:
    """python-tuf's client, refreshed once; ``now`` is the clock of a rehearsal."""

    def __init__(self, source: str, root: bytes, memory: Path, now: datetime | None) -> None:
        served = source.startswith(("http://", "https://"))
        base = source.rstrip("/") + "/" if served else "folder:"
        fetcher = None if served else _StorageFetcher(storage_at(place(source)))
        self._memory = memory
        self._updater = Updater(
            str(memory), base + "metadata/", str(memory), base + "targets/", fetcher=fetcher, bootstrap=root
        )
        if now is not None:
            self._updater._trusted_set.reference_time = now
        self._updater.refresh()

    def bundles(self) -> tuple[dict[str, str], list[str]]:
        """Check every bundle and what stands beside it; return sha256 by target path, and the paths of the latter."""
        found, others = {}, []
        for target in self._listed(PROD):
            data, custom = self._download(target)
            if (of := beside.bundle_of(target)) is not None:
                try:
                    beside.read(target, data, of, read_bundle(self._download(of)[0]))
                except BundleError as error:
                    raise ReleaseError(f"{of}: {error}") from error
                others.append(target)
                continue
            try:
                facts = BundleFacts.model_validate(custom)
                bundle = read_bundle(data)
                self_test(bundle)
            except (BundleError, ValidationError) as error:
                raise ReleaseError(f"{target}: {error}") from error
            manifest = bundle.manifest
            if (facts.name, facts.version, facts.kernel) != (manifest.name, manifest.version, manifest.kernel):
                raise ReleaseError(
                    f"{target}: its facts speak of {facts.name}/{facts.version}, its manifest of another"
                )
            found[target] = bundle.sha256
        return found, others

    def policies(self, bundles: dict[str, str]) -> list[str]:
        """Check every policy against the bundles; return the target paths."""
        found = []
        for target in self._listed(POLICY):
            data, _ = self._download(target)
            try:
                policy = Policy.model_validate_json(data)
            except ValidationError as error:
                raise ReleaseError(f"{target}: {error.errors()[0]['msg']}") from error
            for release in policy.releases:
                if bundles.get(release.target) != release.sha256:
                    raise ReleaseError(f"{target} offers {release.target}, which is not published with that sha256")
            found.append(target)
        return found

    def optional(self, target: str) -> bytes | None:
        """Return a target's bytes, None where there is none."""
        return self._download(target)[0] if self._updater.get_targetinfo(target) is not None else None

    def expiry(self, role: str) -> Expiry:
        """Return when a role ends."""
        signed = Metadata[Root].from_file(str(self._memory / f"{role}.json")).signed
        return Expiry(role, signed.version, signed.expires)

    def signers(self) -> list[str]:
        """Return the names of the keys whose signatures over the bundles count."""
        signed = Metadata[Targets].from_file(str(self._memory / f"{PROD}.json"))
        holder = Metadata[Targets].from_file(str(self._memory / "targets.json")).signed
        keys = map(holder.get_key, holder.get_delegated_role(PROD).keyids)
        return [key_name(key) for key in keys if key.keyid in signed.signatures]

    def _listed(self, role: str) -> list[str]:
        """Return a delegated role's target paths; asking for one that cannot exist fetches and verifies it."""
        self._updater.get_targetinfo({PROD: "prod/-/-", POLICY: "policy/-/-"}[role])
        return sorted(Metadata[Targets].from_file(str(self._memory / f"{role}.json")).signed.targets)

    def _download(self, target: str) -> tuple[bytes, object]:
        info = self._updater.get_targetinfo(target)
        assert info is not None  # it is listed
        path = Path(self._updater.download_target(info, str(self._memory / "target")))
        return path.read_bytes(), info.custom


class _StorageFetcher(FetcherInterface):
    """Reads ``folder:metadata/…`` from a folder or store as if it were served."""

    def __init__(self, files: Storage) -> None:
        self._files = files

    def _fetch(self, url: str) -> Iterator[bytes]:
        try:
            return iter([self._files.read(unquote(url.removeprefix("folder:")))])
        except FileNotFoundError as error:
            raise DownloadHTTPError(f"{error.filename} is missing", 404) from error
