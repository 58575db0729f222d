"""The rollout policy (staged rollout): a small signed file, and how a device decides from it which bundle to run.

What *may* run is a bundle signed with the release engineers' offline keys. Which share of a channel's devices runs
which of those is defined by this file, signed with an online key and mutable. A device decides from the file and its
own id alone; no server tracks devices, so a static folder serves a million.

TUF targets: bundles at ``prod/<name>/<version>.zip``, policies at ``policy/<name>/<channel>.json``.
"""

from __future__ import annotations

import hashlib

from pydantic import BaseModel, ConfigDict, Field

from fieldwatch_contract.clock import SECOND, parse_iso

SHARES = 10_000
"""Rollout shares are in basis points: 0 = no device, 10000 = all devices."""


class BundleFacts(BaseModel):
    """What the release engineers state about a bundle, in the TUF target's ``custom`` (signed with an offline key)."""

    model_config = ConfigDict(frozen=True)

    v: int = 1
    name: str
    version: str
    release_seq: int = Field(ge=1, description="order of release; a device never goes below the security floor")
    kernel: int
    security_floor: int = Field(default=0, ge=0)


class Release(BaseModel):
    """One entry of a policy: a bundle and the share of devices that should run it."""

    model_config = ConfigDict(frozen=True)

    target: str
    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    salt: str
    bp: int = Field(ge=0, le=SHARES)
    allow: tuple[str, ...] = Field(default=(), description="devices admitted whatever their bucket")
    deny: tuple[str, ...] = Field(default=(), description="devices never admitted")
    not_before: str | None = Field(default=None, description="RFC 3339; start of the spread")
    spread_s: int = Field(default=0, ge=0, description="admitted devices start within this many seconds")

    def bucket(self, device: str) -> int:
        """Return the device's bucket among 10,000, a stable hash of salt and device id.

        >>> Release(target="t", sha256="0" * 64, salt="s", bp=0).bucket("press-0001") in range(10_000)
        True
        """
        return _hash64(self.salt, device) * SHARES >> 64

    def admits(self, device: str, now: int) -> bool:
        """Tell whether ``device`` should run this release at ``now`` (µs)."""
        if device in self.deny:
            return False
        if device not in self.allow and self.bucket(device) >= self.bp:
            return False
        if self.not_before is None:
            return True
        delay = _hash64(self.salt, "start:" + device) % (self.spread_s or 1)
        return now >= parse_iso(self.not_before) + delay * SECOND


class Policy(BaseModel):
    """The rollout file of one channel, newest release first; the last entry is the fallback for everybody."""

    model_config = ConfigDict(frozen=True)

    v: int = 1
    releases: tuple[Release, ...] = ()
    halt: bool = Field(default=False, description="nobody starts anything new")
    revoke: tuple[str, ...] = Field(default=(), description="sha256 of bundles that must not run")

    def choose(self, device: str, now: int, current: str | None) -> Release | None:
        """Return what ``device`` should run, or None to keep what it has.

        ``current`` is the sha256 of the running bundle. A device that runs a release of this policy keeps it when the
        share shrinks or the rollout is halted; only revocation removes it, and during a halt that leads to the
        fallback, not to the halted release. A device that runs nothing also gets the fallback if that is for all
        devices: a halt does not keep a proven bundle from a new device.
        """
        usable = [release for release in self.releases if release.sha256 not in self.revoke]
        revoked = current in self.revoke
        if self.halt:
            waits = current is None and bool(usable) and usable[-1].bp == SHARES
            return usable[-1] if (revoked and usable) or waits else None
        for place, release in enumerate(usable):
            if release.sha256 == current:
                return None
            fallback = place == len(usable) - 1
            if release.admits(device, now) or (fallback and revoked):
                return release
        return None


def policy_path(name: str, channel: str) -> str:
    """Return the TUF target path of a channel's policy."""
    return f"policy/{name}/{channel}.json"


def bundle_path(name: str, version: str) -> str:
    """Return the TUF target path of a bundle."""
    return f"prod/{name}/{version}.zip"


def _hash64(salt: str, text: str) -> int:
    return int.from_bytes(hashlib.sha256(f"{salt}\0{text}".encode()).digest()[:8], "big")
