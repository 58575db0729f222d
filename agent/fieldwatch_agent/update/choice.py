"""Decides what to do with what the update server offers: rules on plain values, without I/O.

Which release (:func:`choose`):

=========================================  ===========================================================
the policy wants                           then
=========================================  ===========================================================
another bundle                             fetch it
one that was refused here, or set aside    fetch the next best that this device is admitted to, if any
nothing else                               nothing to do, or "halted", or "waiting" where none is installed
nothing else, and the running one is       keep it, and report that
revoked
=========================================  ===========================================================

Whether it may run here at all (:func:`objection`), by the facts that the release engineers signed:

=========================================  ===========================================================
facts                                      then
=========================================  ===========================================================
another device type, or another kernel     a misfit: it is examined again at the next update
a release below the security floor         never
=========================================  ===========================================================
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from fieldwatch_contract.bundle import BundleBroken, BundleError, BundleMisfit, other_kernel
from fieldwatch_contract.events import BundleRef
from fieldwatch_contract.features import KERNEL
from fieldwatch_contract.policy import BundleFacts, Policy, Release, bundle_path

from fieldwatch_agent.update.states import State

Outcome = Literal["current", "activated", "refused", "halted", "failed"]


@dataclass(frozen=True)
class UpdateResult:
    """How an update ended.

    ``outcome``: ``current`` nothing to do, ``activated`` another bundle is active now, ``refused`` a bundle is offered
    that may not run here, ``halted`` the rollout is stopped, ``failed`` the offer could not be determined or fetched.
    ``detail`` explains it; ``trouble`` is the kind of failure, empty where all is well. ``bundle``
    (``<name>/<version>``) and ``sha256`` name what is active or was refused.
    """

    outcome: Outcome
    detail: str
    trouble: str = ""
    bundle: str | None = None
    sha256: str | None = None


def choose(policy: Policy, device: str, now: int, state: State, running: BundleRef | None) -> Release | UpdateResult:
    """Return the release to fetch, or how the update ends where there is nothing to fetch; ``now`` in µs."""
    current = running.sha256 if running is not None else None
    barred = {r.sha256 for r in policy.releases if state.refusal(r.sha256) is not None or state.put_off(r.sha256, now)}
    wanted = policy.choose(device, now, current)
    first = wanted.sha256 if wanted is not None else current
    if first in barred:
        usable = tuple(release for release in policy.releases if release.sha256 not in barred)
        wanted = policy.model_copy(update={"releases": usable}).choose(device, now, current)
        if wanted is None:
            return _barred(first, state)
    if wanted is not None:
        return wanted
    if running is None:
        detail = "the rollout is halted" if policy.halt else f"no release admits device {device} yet"
        return UpdateResult("halted" if policy.halt else "current", f"{detail}; nothing is installed", "waiting")
    named = names(running)
    if current in policy.revoke:
        detail = f"{name(running)} is revoked, but the policy offers nothing else: it keeps scoring"
        return UpdateResult("refused", detail, "revoked", **named)
    if policy.halt:
        return UpdateResult("halted", f"the rollout is halted; {name(running)} keeps scoring", **named)
    return UpdateResult("current", f"{name(running)} is what this device should run", **named)


def objection(facts: BundleFacts, release: Release, family: str, floor: int) -> BundleError | None:
    """Return why a device of type ``family`` may not run a release, by its signed facts; None if it may."""
    if release.target != bundle_path(facts.name, facts.version) or facts.name != family:
        what = f"{release.target} is for {facts.name}, this device is of type {family}"
        return BundleMisfit(what, "correct [device] type, or the channel's policy")
    if facts.kernel != KERNEL:
        return other_kernel(facts.kernel)
    if facts.release_seq < floor:
        return BundleBroken(f"release {facts.release_seq} is below the security floor {floor} of this device")
    return None


def _barred(sha256: str | None, state: State) -> UpdateResult:
    refusal = state.refusal(sha256 or "")
    if refusal is not None:
        detail = f"{name(refusal.bundle)} was refused here before: {refusal.reason}"
        return UpdateResult("refused", detail, "refused", **names(refusal.bundle))
    detail = (
        "the release for this device was set aside: this computer could not run it; it is tried again in some hours"
    )
    return UpdateResult("refused", detail, "memory", sha256=sha256)


def name(bundle: BundleRef) -> str:
    """Return ``<name>/<version>``."""
    return f"{bundle.name}/{bundle.version}"


def names(bundle: BundleRef) -> dict[str, str]:
    """Return the fields of an :class:`UpdateResult` that name a bundle."""
    return {"bundle": name(bundle), "sha256": bundle.sha256}
