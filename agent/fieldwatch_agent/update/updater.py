"""One update: ask which bundle this device should run, fetch it, prove it here, make it the active one.

It runs as a short-lived child of the service (``fieldwatch-agent update``) or from a person's hand, so its memory goes
when it ends, and a model that crashes the process in its self-test does not take the scoring with it.

What it promises
    * What may run is decided by signatures up to the root installed with the agent (python-tuf): no server, proxy or
      stick can bring in anything else, nor anything older than this device has seen.
    * Who runs what is decided here, from a signed policy file and the device's own id.
    * A bundle becomes active after it has been read whole, is found to fit this device (type, grid period, feature
      kernel, security floor), reproduced its golden vectors on this machine, and judged the device's last day beside
      the running one (:mod:`.score.shadow`).
    * Whatever goes wrong, the bundle that scores goes on scoring. Each outcome is one sentence for the person on
      site, kept for ``status`` and ``health``.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import urllib3
from fieldwatch_contract import clock
from fieldwatch_contract.bundle import Bundle, BundleError, Manifest, read_bundle
from fieldwatch_contract.events import BundleRef
from fieldwatch_contract.features import KERNEL
from fieldwatch_contract.policy import BundleFacts, Policy, Release, bundle_path, policy_path
from pydantic import ValidationError
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
from tuf.api.metadata import TargetFile
from tuf.api.serialization import DeserializationError
from tuf.ngclient import Updater

from fieldwatch_agent import durable
from fieldwatch_agent.send.journal import FILE, JournalError, read_progress
from fieldwatch_agent.update.activation import TRIES, Activation
from fieldwatch_agent.update.source import FolderSource, Limits, Portal, Source, Truncated, WebSource

if TYPE_CHECKING:
    from fieldwatch_agent.config import Config
from fieldwatch_contract.reading.settings import LogConfig

POLICY_LIMIT = 1 << 20
"""Largest policy file, in bytes."""
RESERVE = 64 << 20
"""Bytes of disk that an update leaves free: the journal needs them more."""

logger = logging.getLogger("fieldwatch.agent")

Outcome = Literal["current", "activated", "refused", "halted", "failed"]


@dataclass(frozen=True)
class UpdateResult:
    """How an update ended.

    ``outcome``: ``current`` nothing to do, ``activated`` another bundle is active now, ``refused`` a bundle is offered
    that may not run here, ``halted`` the rollout is stopped, ``failed`` nothing could be found out or fetched.
    ``detail`` says it in words; ``trouble`` is the kind of failure, empty where all is well. ``bundle``
    (``<name>/<version>``) and ``sha256`` name what is active or was refused.
    """

    outcome: Outcome
    detail: str
    trouble: str = ""
    bundle: str | None = None
    sha256: str | None = None


class _Refused(Exception):
    """A bundle may not run here; ``for_good`` while this version of the program does. ``trouble``: the kind."""

    def __init__(self, reason: str, bundle: BundleRef, for_good: bool, trouble: str = "refused") -> None:
        super().__init__(reason)
        self.bundle = bundle
        self.for_good = for_good
        self.trouble = trouble


def update(config: Config) -> UpdateResult:
    """Pull from the server named in the configuration."""
    if config.updates is None:
        return UpdateResult("failed", "the configuration has no [updates]: no server to ask", "configuration")
    return _configured(config, config.updates.url)


def update_from(config: Config, folder: Path) -> UpdateResult:
    """Pull from a copy of the repository in a folder, such as a USB stick, with the same verification."""
    if not (folder / "metadata").is_dir():
        detail = f"{folder} holds no update repository: there is no folder {folder / 'metadata'}"
        return UpdateResult("failed", detail, "configuration")
    return _configured(config, folder)


def _configured(config: Config, source: str | Path) -> UpdateResult:
    if config.updates is None:
        return UpdateResult(
            "failed", "the configuration has no [updates]: its root says whom to trust", "configuration"
        )
    try:
        root = config.updates.root.read_bytes()
    except OSError as error:
        detail = f"updates.root: {config.updates.root} cannot be read ({error.strerror}); it says whom to trust"
        return UpdateResult("failed", detail, "configuration")
    device, log = config.device, config.log
    return pull(source, root, config.state.dir, device.id, device.type, config.updates.channel, log)


def pull(
    source: str | Path,
    root: bytes,
    state_dir: Path,
    device: str,
    family: str,
    channel: str,
    log: LogConfig | None = None,
    limits: Limits | None = None,
) -> UpdateResult:
    """Bring the device to the bundle that the channel's policy wants it to run.

    ``source`` is a URL or a folder, ``root`` the bytes of the trusted ``root.json``, ``family`` the model family,
    ``log`` the device's log where it is known. Never raises for what a server, a network or a disk can do; see
    :class:`UpdateResult`.
    """
    activation = Activation(state_dir)
    try:
        state_dir.mkdir(parents=True, exist_ok=True)
        with durable.lock(state_dir / "update.lock"):
            result = _Pull(source, root, state_dir, activation, limits or Limits()).run(device, family, channel, log)
    except durable.Busy:
        return UpdateResult("failed", "another update is running on this device; let it end", "busy")
    except _Refused as error:
        if error.for_good:
            activation.refuse(error.bundle.sha256, str(error), error.bundle)
        result = UpdateResult(
            "refused", f"{_name(error.bundle)} refused: {error}", error.trouble, **_named(error.bundle)
        )
        activation.end_update(result.trouble, result.detail, announce=not error.for_good)
        return result
    except (RepositoryError, DownloadError, urllib3.exceptions.HTTPError, OSError) as error:
        trouble, detail = explain(error, str(source))
        result = UpdateResult("failed", detail, trouble)
    activation.end_update(result.trouble, result.detail if result.trouble else "", announce=result.outcome == "failed")
    return result


class _Pull:
    """The steps of one update, in order; each leaves the active bundle alone but the last."""

    def __init__(self, source: str | Path, root: bytes, folder: Path, activation: Activation, limits: Limits) -> None:
        self._activation = activation
        self._folder = folder
        self._metadata = folder / "tuf"
        self._spool = folder / "spool"
        self._source: Source = WebSource(source, limits) if isinstance(source, str) else FolderSource(source)
        for path in (self._metadata, self._spool):
            path.mkdir(parents=True, exist_ok=True)
        try:
            self._updater = Updater(
                str(self._metadata), self._source.base + "metadata/", fetcher=self._source, bootstrap=root
            )
        except RepositoryError as error:
            raise _BadRoot(str(error)) from error

    def run(self, device: str, family: str, channel: str, log: LogConfig | None) -> UpdateResult:
        try:
            self._updater.refresh()
            policy = self._policy(family, channel)
        finally:
            self._keep_metadata()
        choice = self._choose(policy, device)
        if isinstance(choice, UpdateResult):
            return choice
        info, facts, bundle = self._facts(choice, family)
        path = self._spool / f"{bundle.sha256}.part"
        self._make_room(path, info.length)
        self._source.download(info, path)
        data = path.read_bytes()
        try:
            opened = self._prove(data, facts, bundle, family, log.period if log is not None else None)
            if log is not None:
                self._shadow(opened, bundle, log)
        except _Refused as refusal:
            self._activation.tested()  # a shadow may object many times: that is no test without an end
            if refusal.for_good:
                path.unlink()
            raise
        self._activation.switch(self._activation.stage(data), facts.security_floor)
        path.unlink()
        return UpdateResult("activated", f"{_name(bundle)} is active; it scores on probation first", **_named(bundle))

    def _policy(self, family: str, channel: str) -> Policy:
        path = policy_path(family, channel)
        info = self._updater.get_targetinfo(path)
        if info is None:
            raise _Nothing(f"nothing is published for devices of type {family} in channel {channel} ({path})")
        if info.length > POLICY_LIMIT:
            raise DownloadLengthMismatchError(f"{path} has {info.length} bytes, a policy at most {POLICY_LIMIT}")
        try:
            return Policy.model_validate_json(self._cached(info))
        except ValidationError as error:
            raise _Nothing(f"{path} is not understood ({error.errors()[0]['msg']}): install a newer agent") from error

    def _cached(self, info: TargetFile) -> bytes:
        """Return a small target, from the last update where it has not changed: an idle poll stays at two requests."""
        path = self._metadata / "policy"
        try:
            data = path.read_bytes()
            info.verify_length_and_hashes(data)
        except (OSError, LengthOrHashMismatchError):
            data = self._source.read(info)
            path.write_bytes(data)
        return data

    def _choose(self, policy: Policy, device: str) -> Release | UpdateResult:
        """Return the release to fetch, or how the update ends where there is nothing to fetch."""
        running = self._activation.current()
        state = self._activation.state()
        if state.previous is not None and state.previous.sha256 in policy.revoke:
            self._activation.forget_previous(state.previous.sha256)
        current = running.sha256 if running is not None else None
        wanted = policy.choose(device, clock.now(), current)
        refusal = state.refusal(wanted.sha256) if wanted is not None else None
        if refusal is not None:
            usable = tuple(r for r in policy.releases if state.refusal(r.sha256) is None)
            other = policy.model_copy(update={"releases": usable}).choose(device, clock.now(), current)
            if other is None:
                detail = f"{_name(refusal.bundle)} was refused here before: {refusal.reason}"
                return UpdateResult("refused", detail, "refused", **_named(refusal.bundle))
            wanted = other
        if wanted is not None:
            return wanted
        if running is None:
            detail = "the rollout is halted" if policy.halt else f"no release admits device {device} yet"
            return UpdateResult("halted" if policy.halt else "current", f"{detail}; nothing is installed", "waiting")
        named = _named(running.ref)
        if current in policy.revoke:
            detail = f"{_name(running.ref)} is revoked, but the policy offers nothing else: it goes on scoring"
            return UpdateResult("refused", detail, "revoked", **named)
        if policy.halt:
            return UpdateResult("halted", f"the rollout is halted; {_name(running.ref)} goes on", **named)
        return UpdateResult("current", f"{_name(running.ref)} is what this device should run", **named)

    def _facts(self, release: Release, family: str) -> tuple[TargetFile, BundleFacts, BundleRef]:
        """Return what the release engineers signed of the bundle, and refuse what may not run here at all."""
        info = self._updater.get_targetinfo(release.target)
        if info is None or info.hashes.get("sha256") != release.sha256:
            raise _Nothing(f"the policy offers {release.target}, which is not published with this sha256")
        try:
            facts = BundleFacts.model_validate(info.custom)
        except ValidationError as error:
            raise _Nothing(f"{release.target}: its facts are not understood: install a newer agent") from error
        bundle = BundleRef(name=facts.name, version=facts.version, sha256=release.sha256)
        if release.target != bundle_path(facts.name, facts.version) or facts.name != family:
            raise _Refused(f"{release.target} is for {facts.name}, this device is of type {family}", bundle, False)
        if facts.kernel != KERNEL:
            reason = f"made for feature kernel {facts.kernel}, this program has {KERNEL}: install a newer agent"
            raise _Refused(reason, bundle, False)
        floor = self._activation.state().security_floor
        if facts.release_seq < floor:
            raise _Refused(
                f"release {facts.release_seq} is below the security floor {floor} of this device", bundle, True
            )
        return info, facts, bundle

    def _make_room(self, path: Path, length: int) -> None:
        """Drop other downloads and refuse one for which the disk has no room."""
        for other in self._spool.iterdir():
            if other != path:
                other.unlink()
        needed = 2 * length + RESERVE
        free = shutil.disk_usage(self._spool).free
        if free < needed:
            detail = f"{free >> 20} MiB are free, the bundle needs {needed >> 20} MiB"
            raise OSError(errno.ENOSPC, detail, str(self._spool))

    def _prove(self, data: bytes, facts: BundleFacts, bundle: BundleRef, family: str, period: int | None) -> Bundle:
        """Open a bundle; refuse one that is not what was signed, does not fit this device, or scores otherwise here."""
        try:
            opened = read_bundle(data, bundle.sha256)
        except BundleError as error:
            raise _Refused(str(error), bundle, True) from error
        manifest = opened.manifest
        if (manifest.name, manifest.version) != (facts.name, facts.version):
            raise _Refused(f"its manifest says {manifest.name}/{manifest.version}", bundle, True)
        if unfit := misfit(manifest, family, period):
            raise _Refused(unfit, bundle, False)
        if not self._activation.trying(bundle):
            raise _Refused(f"its self-test was started {TRIES} times and never ended", bundle, True)
        from fieldwatch_contract.scoring import self_test

        try:
            self_test(opened)
        except BundleError as error:
            raise _Refused(str(error), bundle, True) from error
        return opened

    def _shadow(self, new: Bundle, bundle: BundleRef, log: LogConfig) -> None:
        """Let it judge this device's last day beside the running bundle; refuse it for now where it judges badly, for
        good where it cannot judge at all.

        Without a running bundle or a journal there is nothing to compare with.
        """
        running = self._activation.current()
        if running is None or running.sha256 == bundle.sha256:
            return
        from fieldwatch_agent.score.shadow import cast, objection

        try:
            progress = read_progress(self._folder / FILE)
            try:
                shadow = cast(new, log, progress)
            except BundleError as error:
                raise _Refused(str(error), bundle, True) from error
            against = objection(cast(running, log, progress), shadow)
        except (BundleError, JournalError) as error:
            logger.warning("no shadow for %s: %s", _name(bundle), error)
            return
        if against:
            raise _Refused(against, bundle, False, "shadow")

    def _keep_metadata(self) -> None:
        """Flush the trusted metadata to the disk: python-tuf does not, and it remembers what is too old."""
        with suppress(OSError):
            for path in self._metadata.glob("*.json"):
                with path.open("r+b") as file:
                    os.fsync(file.fileno())
            durable.sync_folder(self._metadata)


class _BadRoot(RepositoryError):
    """The installed root.json is no root of trust."""


class _Nothing(RepositoryError):
    """The repository is sound, but has nothing for this device."""


def misfit(manifest: Manifest, family: str, period: int | None) -> str:
    """Say why a bundle does not fit a device of a type with a grid period (µs, None = unknown); empty if it does."""
    if manifest.device_type != family:
        return f"trained for devices of type {manifest.device_type}, this one is {family} (device.type)"
    if manifest.timed and period is not None and manifest.period != period:
        own = f"{period / clock.SECOND:g} s (log.period)"
        return f"made for a row every {manifest.period_s:g} s, this log has one every {own}"
    return ""


def explain(error: Exception, source: str) -> tuple[str, str]:
    """Return the kind of a failure and a sentence for the person on site."""
    stays = "the installed bundle goes on scoring"
    match error:
        case _Nothing():
            return "nothing", str(error)
        case _BadRoot():
            return (
                "configuration",
                f"updates.root is not a valid root.json ({error}): take it from the release engineers",
            )
        case Portal():
            return "portal", (
                f"a web page came instead of {source}: this network wants a log-in, or a proxy stands between; {stays}"
            )
        case ExpiredMetadataError():
            return "stale", (
                f"{source} is stale ({error}): nobody has signed it anew, or this PC's clock "
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
            return "damaged", f"a file of {source} is not what was signed, thrown away; {stays} ({error})"
        case DeserializationError():
            return "damaged", f"metadata of {source} is cut short or no metadata at all; {stays} ({error})"
        case RepositoryError():
            return "hostile", f"{source} contradicts itself; {stays} ({error})"
        case Truncated() | urllib3.exceptions.ProtocolError():
            return "truncated", f"the download from {source} broke off and goes on next time; {stays} ({error})"
        case DownloadLengthMismatchError():
            return "oversized", f"{source} sends more than was announced, cut off; {stays} ({error})"
        case SlowRetrievalError() | urllib3.exceptions.ReadTimeoutError():
            return "slow", f"{source} is too slow, what came is kept; {stays} ({error})"
        case DownloadHTTPError(status_code=404):
            return "absent", f"no repository at {source}: is updates.url right? {stays} ({error})"
        case urllib3.exceptions.MaxRetryError():
            reason = str(error.reason)
            return "down", f"{source} cannot be reached; {stays} ({reason.partition(': ')[2] or reason})"
        case DownloadError() | urllib3.exceptions.HTTPError():
            return "down", f"{source} cannot be reached; {stays} ({error})"
        case OSError(errno=errno.ENOSPC | errno.EFBIG | errno.EDQUOT):
            return "disk", f"no room for the update on the disk; {stays} ({error.strerror})"
        case OSError():
            return "disk", f"{error.filename}: {error.strerror}; {stays}"
    raise error


def _name(bundle: BundleRef) -> str:
    return f"{bundle.name}/{bundle.version}"


def _named(bundle: BundleRef) -> dict[str, str]:
    return {"bundle": _name(bundle), "sha256": bundle.sha256}
