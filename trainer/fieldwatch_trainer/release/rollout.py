"""Edits of a channel's policy: pure functions from one :class:`.policy.Policy` to the next.

The newest release stands first. Below it stays everything down to the first release that the whole channel may run:
that one is what a device falls back to, and whatever is older would never be chosen.
"""

from __future__ import annotations

from fieldwatch_contract.policy import SHARES, Policy, Release

from fieldwatch_trainer.release.effects import bundle_of
from fieldwatch_trainer.release.errors import Refused


def offer(policy: Policy, target: str, sha256: str, bp: int | None) -> Policy:
    """Put a release on top for ``bp`` of 10,000 devices; one that is there already only gets the new share.

    None means all devices for a new release, and for one that is there the share it has: publishing a second time
    must not widen a rollout that stands at ten percent.

    The salt is drawn from the bundle's hash: each release has canaries of its own, and a repeated publication the
    same ones. Raises :class:`Refused` for a revoked bundle.
    """
    if sha256 in policy.revoke:
        raise Refused(f"{bundle_of(target)} is revoked in this channel: publish a new version instead")
    if any(release.sha256 == sha256 for release in policy.releases):
        return policy if bp is None else share(policy, sha256, bp)
    new = _release(target, sha256, SHARES if bp is None else bp)
    return _someone(policy.model_copy(update={"releases": _needed((new, *policy.releases), policy.revoke)}))


def share(policy: Policy, sha256: str, bp: int) -> Policy:
    """Give a release of the policy another share.

    Raises :class:`Refused` where it is not in the policy or revoked, or where nobody could get anything.
    """
    if all(release.sha256 != sha256 for release in policy.releases):
        raise Refused("this bundle is not in the channel's policy: publish it there first")
    if sha256 in policy.revoke:
        raise Refused("this bundle is revoked in the channel, no share brings it back: publish a new version instead")
    releases = tuple(
        release.model_copy(update={"bp": bp}) if release.sha256 == sha256 else release for release in policy.releases
    )
    return _someone(policy.model_copy(update={"releases": _needed(releases, policy.revoke)}))


def halt(policy: Policy, halted: bool) -> Policy:
    """Stop new starts in the channel, or let them go on."""
    return policy.model_copy(update={"halt": halted})


def revoke(policy: Policy, sha256: str) -> Policy:
    """Forbid a bundle; devices that run it move to the best release left.

    Raises :class:`Refused` where none would be left: the devices would have nothing to score with.
    """
    if not any(release.sha256 not in (*policy.revoke, sha256) for release in policy.releases):
        raise Refused("no other release is left in this channel: publish a replacement first, then revoke")
    return policy.model_copy(update={"revoke": tuple(dict.fromkeys((*policy.revoke, sha256)))})


def rollback(policy: Policy, target: str, sha256: str) -> Policy:
    """Bring the whole channel to an earlier release: those above it leave the policy, and a halt is lifted.

    Raises :class:`Refused` for a revoked bundle.
    """
    if sha256 in policy.revoke:
        raise Refused(f"{bundle_of(target)} is revoked in this channel: devices would refuse it")
    places = [place for place, release in enumerate(policy.releases) if release.sha256 == sha256]
    below = policy.releases[places[0] + 1 :] if places else ()
    top = policy.releases[places[0]] if places else _release(target, sha256, SHARES)
    releases = (top.model_copy(update={"bp": SHARES}), *below)
    return policy.model_copy(update={"releases": _needed(releases, policy.revoke), "halt": False})


def proven(policy: Policy) -> Release | None:
    """Return what a rollback leads to: the first release below the newest that the whole channel may run."""
    usable = [release for release in policy.releases if release.sha256 not in policy.revoke]
    return next((release for release in usable[1:] if release.bp == SHARES), None)


def _release(target: str, sha256: str, bp: int) -> Release:
    return Release(target=target, sha256=sha256, salt=sha256[:16], bp=bp)


def _someone(policy: Policy) -> Policy:
    usable = [release for release in policy.releases if release.sha256 not in policy.revoke]
    if all(release.bp == 0 for release in usable):
        raise Refused(
            "a share of 0 % on the only release: no device could start with anything. To stop a rollout use 'halt', "
            "to go back 'rollback'"
        )
    return policy


def _needed(releases: tuple[Release, ...], revoked: tuple[str, ...]) -> tuple[Release, ...]:
    for place, release in enumerate(releases[1:], start=1):
        if release.bp == SHARES and release.sha256 not in revoked:
            return releases[: place + 1]
    return releases
