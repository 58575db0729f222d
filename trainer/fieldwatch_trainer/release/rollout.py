"""Edits of a channel's policy: pure functions from one :class:`.policy.Policy` to the next.

The newest release stands first. Below it stays everything down to the first release that the whole channel may run:
that one is what a device falls back to, and whatever is older would never be chosen.
"""

from __future__ import annotations

from fieldwatch_contract.policy import SHARES, Policy, Release

from fieldwatch_trainer.release.errors import ReleaseError


def offer(policy: Policy, target: str, sha256: str, bp: int | None) -> Policy:
    """Put a release on top for ``bp`` of 10,000 devices; one that is there already only gets the new share.

    None means all devices for a new release, and for one that is there the share it has: publishing a second time
    must not widen a rollout that stands at ten percent.

    The salt is drawn from the bundle's hash: each release has canaries of its own, and a repeated publication the
    same ones. Raises :class:`ReleaseError` for a revoked bundle.
    """
    if sha256 in policy.revoke:
        raise ReleaseError(f"{target} is revoked in this channel: publish a new version instead")
    if any(release.sha256 == sha256 for release in policy.releases):
        return policy if bp is None else share(policy, sha256, bp)
    new = Release(target=target, sha256=sha256, salt=sha256[:16], bp=SHARES if bp is None else bp)
    return policy.model_copy(update={"releases": _needed((new, *policy.releases), policy.revoke)})


def share(policy: Policy, sha256: str, bp: int) -> Policy:
    """Give a release of the policy another share. Raises :class:`ReleaseError` where it is not in the policy."""
    if all(release.sha256 != sha256 for release in policy.releases):
        raise ReleaseError("this bundle is not in the channel's policy: publish it there first")
    releases = tuple(
        release.model_copy(update={"bp": bp}) if release.sha256 == sha256 else release for release in policy.releases
    )
    return policy.model_copy(update={"releases": _needed(releases, policy.revoke)})


def halt(policy: Policy, halted: bool) -> Policy:
    """Stop new starts in the channel, or let them go on."""
    return policy.model_copy(update={"halt": halted})


def revoke(policy: Policy, sha256: str) -> Policy:
    """Forbid a bundle; devices that run it move to the best release left.

    Raises :class:`ReleaseError` where none would be left: the devices would have nothing to score with.
    """
    if not any(release.sha256 not in (*policy.revoke, sha256) for release in policy.releases):
        raise ReleaseError("no other release is left in this channel: publish a replacement first, then revoke")
    return policy.model_copy(update={"revoke": tuple(dict.fromkeys((*policy.revoke, sha256)))})


def _needed(releases: tuple[Release, ...], revoked: tuple[str, ...]) -> tuple[Release, ...]:
    for place, release in enumerate(releases[1:], start=1):
        if release.bp == SHARES and release.sha256 not in revoked:
            return releases[: place + 1]
    return releases
