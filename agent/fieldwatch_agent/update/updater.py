"""One update: determine which bundle this device should run, fetch it, test it here, make it the active one.

It runs as a short-lived child of the service (``fieldwatch-agent update``) or by hand, so its memory is freed when it
ends, and a model that crashes in its self-test does not stop the scoring.

What it promises
    * What may run is decided by signatures up to the root installed with the agent (python-tuf): no server, proxy or
      USB stick can introduce anything else, nor anything older than this device has seen (rollback attack).
    * Which bundle this device runs is decided here, from a signed policy file and the device's own id.
    * A bundle becomes active only after it was read completely, fits this device (type, grid period, feature kernel,
      security floor), reproduced its golden vectors on this machine, and passed the shadow test on the device's last
      day (:mod:`.score.shadow`).
    * A bundle is refused for good only if the bundle itself is wrong; one that does not match this device's
      configuration or program, or that this computer cannot test now, is examined again at the next update.
    * Whatever goes wrong, the running bundle keeps scoring. Each outcome is one sentence for the person on site, kept
      for ``status`` and ``health``.
"""

from __future__ import annotations

import errno
import logging
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import urllib3
from fieldwatch_contract import clock
from fieldwatch_contract.bundle import (
    Bundle,
    BundleBroken,
    BundleError,
    BundleFailed,
    BundleMisfit,
    check_fit,
    read_bundle,
)
from fieldwatch_contract.events import BundleRef
from fieldwatch_contract.policy import BundleFacts, Policy, Release, bundle_path, policy_path
from fieldwatch_contract.reading.settings import LogConfig
from pydantic import ValidationError
from tuf.api.exceptions import (
    DownloadError,
    DownloadLengthMismatchError,
    LengthOrHashMismatchError,
    RepositoryError,
)
from tuf.api.metadata import Metadata, TargetFile, Timestamp
from tuf.ngclient import Updater

from fieldwatch_agent import durable
from fieldwatch_agent.send.journal import FILE, JournalError, read_progress
from fieldwatch_agent.update.activation import Activation
from fieldwatch_agent.update.choice import UpdateResult, choose, name, names, objection
from fieldwatch_agent.update.explain import BadRoot, Nothing, explain
from fieldwatch_agent.update.source import FolderSource, Limits, Source, WebSource
from fieldwatch_agent.update.states import TRIES, State

if TYPE_CHECKING:
    from fieldwatch_agent.config import Config

POLICY_LIMIT = 1 << 20
"""Largest policy file, in bytes."""
ENDING = 4 * clock.DAY
"""The server's signatures hold for a week and are renewed daily: so near to their end (µs) somebody must be told."""
RESERVE = 64 << 20
"""Bytes of disk that an update leaves free for the journal."""

logger = logging.getLogger("fieldwatch.agent")


class _Refused(Exception):
    """A bundle may not run here; ``for_good``: never under this version of the program. ``trouble``: the kind."""

    def __init__(self, bundle: BundleRef, reason: str, trouble: str = "refused", for_good: bool = False) -> None:
        super().__init__(reason)
        self.bundle = bundle
        self.trouble = trouble
        self.for_good = for_good


@contextmanager
def _judging(bundle: BundleRef) -> Iterator[None]:
    """Refuse a bundle for good if it is broken, for now if it is a misfit; a failure says nothing about it."""
    try:
        yield
    except BundleBroken as error:
        raise _Refused(bundle, str(error), for_good=True) from error
    except BundleMisfit as error:
        raise _Refused(bundle, str(error), "misfit") from error


def update(config: Config) -> UpdateResult:
    """Pull from the server named in the configuration."""
    if config.updates is None:
        return UpdateResult("failed", "the configuration has no [updates]: no server to ask", "configuration")
    return _configured(config, config.updates.url)


def update_from(config: Config, folder: Path) -> UpdateResult:
    """Pull from a copy of the repository in a folder, such as a USB stick, with the same verification."""
    metadata = folder / "metadata"
    try:
        next(metadata.iterdir(), None)
    except (FileNotFoundError, NotADirectoryError):
        detail = f"{folder} holds no update repository: there is no folder {metadata}"
        return UpdateResult("failed", detail, "configuration")
    except OSError as error:
        remedy = "copy the folder to where the service's account may read it"
        detail = f"{metadata} cannot be read: {error.strerror}; {remedy}"
        return UpdateResult("failed", detail, "configuration")
    return _configured(config, folder)


def _configured(config: Config, source: str | Path) -> UpdateResult:
    if config.updates is None:
        return _misconfigured(config, "the configuration has no [updates]: its root defines whom to trust")
    try:
        root = durable.read(config.updates.root)
    except OSError as error:
        detail = f"updates.root: {config.updates.root} cannot be read ({error.strerror}); it defines whom to trust"
        return _misconfigured(config, detail)
    device, log, ca = config.device, config.log, config.updates.ca
    if ca is not None and not ca.is_file():
        return _misconfigured(config, f"updates.ca: there is no file {ca}; it says which server to trust")
    return pull(source, root, config.state.dir, device.id, device.type, config.updates.channel, log, ca=ca)


def _misconfigured(config: Config, detail: str) -> UpdateResult:
    """Record, as for any other failure, that nobody could be asked for updates."""
    Activation(config.state.dir).end_update("configuration", detail)
    return UpdateResult("failed", detail, "configuration")


def pull(
    source: str | Path,
    root: bytes,
    state_dir: Path,
    device: str,
    family: str,
    channel: str,
    log: LogConfig | None = None,
    limits: Limits | None = None,
    ca: Path | None = None,
) -> UpdateResult:
    """Bring the device to the bundle that the channel's policy wants it to run.

    ``source`` is a URL or a folder, ``root`` the bytes of the trusted ``root.json``, ``family`` the model family,
    ``log`` the device's log where it is known, ``ca`` who vouches for the server. Never raises for
    what a server, a network or a disk can do; see :class:`UpdateResult`.
    """
    activation = Activation(state_dir)
    try:
        durable.make_folder(state_dir)
        with durable.lock(state_dir / "update.lock"):
            activation.require()
            where = WebSource(source, limits or Limits(), ca) if isinstance(source, str) else FolderSource(source)
            result = _Pull(where, str(source), root, state_dir, activation).run(device, family, channel, log)
    except durable.Busy:
        return UpdateResult("failed", "another update is running on this device; let it end", "busy")
    except _Refused as error:
        if error.for_good:
            activation.refuse(error.bundle, str(error))
        result = UpdateResult("refused", f"{name(error.bundle)} refused: {error}", error.trouble, **names(error.bundle))
        activation.end_update(result.trouble, result.detail, announce=not error.for_good)
        return result
    except (RepositoryError, DownloadError, urllib3.exceptions.HTTPError, OSError, BundleError, MemoryError) as error:
        trouble, detail = explain(error, str(source), activation.state().current is not None)
        result = UpdateResult("failed", detail, trouble)
    activation.end_update(result.trouble, result.detail if result.trouble else "", announce=result.outcome == "failed")
    return result


class _Pull:
    """The steps of one update, in order; only the last one changes the active bundle."""

    def __init__(self, source: Source, place: str, root: bytes, folder: Path, activation: Activation) -> None:
        self._place = place
        self._activation = activation
        self._folder = folder
        self._metadata = folder / "tuf"
        self._spool = folder / "spool"
        self._source = source
        for path in (self._metadata, self._spool):
            durable.make_folder(path)
        try:
            self._updater = Updater(
                str(self._metadata), self._source.base + "metadata/", fetcher=self._source, bootstrap=root
            )
        except RepositoryError as error:
            raise BadRoot(str(error)) from error

    def run(self, device: str, family: str, channel: str, log: LogConfig | None) -> UpdateResult:
        return self._foresee(self._run(device, family, channel, log))

    def _run(self, device: str, family: str, channel: str, log: LogConfig | None) -> UpdateResult:
        try:
            self._updater.refresh()
            policy = self._policy(family, channel)
        finally:
            self._keep_metadata()
        running = self._running()
        state = self._activation.state()
        if state.previous is not None and state.previous.sha256 in policy.revoke:
            self._activation.forget_previous(state.previous.sha256)
        choice = choose(policy, device, clock.now(), state, running)
        if isinstance(choice, UpdateResult):
            return choice
        floor = self._floor(state)
        info, facts, bundle = self._facts(choice, family, floor)
        path = self._spool / f"{bundle.sha256}.part"
        self._make_room(path, info.length)
        self._source.download(info, path)
        data = path.read_bytes()
        try:
            with _judging(bundle):
                self._prove(data, facts, bundle, family, log)
        except _Refused as refusal:
            if refusal.for_good:
                durable.remove(path)
            raise
        self._activation.switch(self._activation.stage(data), max(floor, facts.security_floor))
        durable.remove(path)  # one that is held goes with the next update; this one is done
        return UpdateResult("activated", f"{name(bundle)} is active; it scores on probation first", **names(bundle))

    def _foresee(self, result: UpdateResult) -> UpdateResult:
        """Say ahead of time, where all is well, that the signatures here end soon and nobody renews them."""
        ends = Metadata[Timestamp].from_file(str(self._metadata / "timestamp.json")).signed.expires
        end = int(ends.timestamp()) * clock.SECOND
        if result.trouble or end - clock.now() > ENDING:
            return result
        until = f"the signatures of {self._place} end on {clock.iso(end)} and nobody has renewed them"
        detail = f"{result.detail}; but {until}: updates stop then"
        return replace(result, trouble="ending", detail=detail)

    def _running(self) -> BundleRef | None:
        """Return the active bundle if its file is intact, whether or not this program can run it."""
        try:
            bundle = self._activation.current()
        except BundleMisfit:
            return self._activation.state().current
        return bundle.ref if bundle is not None else None

    def _floor(self, state: State) -> int:
        """Return the security floor; that of the installed bundles holds even if ``activation.json`` was lost."""
        floor = state.security_floor
        for bundle in filter(None, (state.current, state.previous)):
            info = self._updater.get_targetinfo(bundle_path(bundle.name, bundle.version))
            if info is not None and info.hashes.get("sha256") == bundle.sha256:
                with suppress(ValidationError):
                    floor = max(floor, BundleFacts.model_validate(info.custom).security_floor)
        return floor

    def _policy(self, family: str, channel: str) -> Policy:
        path = policy_path(family, channel)
        info = self._updater.get_targetinfo(path)
        if info is None:
            raise Nothing(f"nothing is published for devices of type {family} in channel {channel} ({path})")
        if info.length > POLICY_LIMIT:
            raise DownloadLengthMismatchError(f"{path} has {info.length} bytes, a policy at most {POLICY_LIMIT}")
        try:
            return Policy.model_validate_json(self._cached(info))
        except ValidationError as error:
            raise Nothing(f"{path} is not understood ({error.errors()[0]['msg']}): install a newer agent") from error

    def _cached(self, info: TargetFile) -> bytes:
        """Return a small target, from the last update if unchanged, so that an idle poll takes only two requests."""
        path = self._metadata / "policy"
        try:
            data = path.read_bytes()
            info.verify_length_and_hashes(data)
        except (OSError, LengthOrHashMismatchError):
            data = self._source.read(info)
            path.write_bytes(data)
        return data

    def _facts(self, release: Release, family: str, floor: int) -> tuple[TargetFile, BundleFacts, BundleRef]:
        """Return what the release engineers signed about the bundle; refuse what may not run here at all."""
        info = self._updater.get_targetinfo(release.target)
        if info is None or info.hashes.get("sha256") != release.sha256:
            raise Nothing(f"the policy offers {release.target}, which is not published with this sha256")
        try:
            facts = BundleFacts.model_validate(info.custom)
        except ValidationError as error:
            raise Nothing(f"{release.target}: its facts are not understood: install a newer agent") from error
        bundle = BundleRef(name=facts.name, version=facts.version, sha256=release.sha256)
        if (against := objection(facts, release, family, floor)) is not None:
            with _judging(bundle):
                raise against
        return info, facts, bundle

    def _make_room(self, path: Path, length: int) -> None:
        """Delete other downloads, and refuse one that does not fit on the disk."""
        for other in self._spool.iterdir():
            if other != path:
                durable.remove(other)
        needed = 2 * length + RESERVE
        free = shutil.disk_usage(self._spool).free
        if free < needed:
            detail = f"{free >> 20} MiB are free, the bundle needs {needed >> 20} MiB"
            raise OSError(errno.ENOSPC, detail, str(self._spool))

    def _prove(self, data: bytes, facts: BundleFacts, bundle: BundleRef, family: str, log: LogConfig | None) -> None:
        """Raise if a bundle is not what was signed, does not fit this device, gives different scores here, or fails the
        shadow test."""
        opened = read_bundle(data, bundle.sha256)
        manifest = opened.manifest
        if (manifest.name, manifest.version) != (facts.name, facts.version):
            raise BundleBroken(f"its manifest says {manifest.name}/{manifest.version}")
        check_fit(manifest, family, log.period if log is not None else None)
        if not self._activation.trying(bundle):
            raise BundleBroken(f"its self-test was started {TRIES} times and never ended")
        try:
            from fieldwatch_contract.scoring import self_test

            self_test(opened)
            if log is not None:
                self._shadow(opened, bundle, log)
        finally:
            self._activation.tested()  # however it ended: only a crash of the process leaves the trial recorded

    def _shadow(self, new: Bundle, bundle: BundleRef, log: LogConfig) -> None:
        """Run the shadow test against the running bundle; refuse the new one for now if it does badly.

        Without a usable running bundle there is nothing to compare with, but the new one must still run.
        """
        from fieldwatch_agent.score.shadow import objection as compare
        from fieldwatch_agent.score.shadow import run_shadow

        try:
            progress = read_progress(self._folder / FILE)
        except JournalError as error:
            raise BundleFailed(f"the shadow test cannot run: {error}") from error
        shadow = run_shadow(new, log, progress)
        try:
            running = self._activation.current()
            if running is None or running.sha256 == bundle.sha256:
                return
            check_fit(running.manifest, new.manifest.device_type, log.period)
            against = compare(run_shadow(running, log, progress), shadow)
        except (BundleMisfit, BundleBroken) as error:
            logger.warning("no comparison for %s: the running bundle cannot judge: %s", name(bundle), error)
            return
        if against:
            raise _Refused(bundle, against, "shadow")

    def _keep_metadata(self) -> None:
        """Flush the trusted metadata to disk (python-tuf does not): they protect against rollback."""
        with suppress(OSError):
            for path in self._metadata.glob("*.json"):
                with path.open("r+b") as file:
                    os.fsync(file.fileno())
            durable.sync_folder(self._metadata)
