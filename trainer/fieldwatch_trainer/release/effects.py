"""What a change of a policy does, on how many devices: by the rule that the devices themselves follow.

A device is taken to run what the policy so far gave it; then :meth:`.policy.Policy.choose` says where it goes.
:class:`Fleet` says for whom: a list of ids gives exact counts, a number of devices about so many, nothing a share.
Shares are exact: a release's canaries are an independent draw, so the cases are few and each has its probability.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from math import prod
from pathlib import Path

from fieldwatch_contract.policy import SHARES, Policy, Release

from fieldwatch_trainer.release.errors import ReleaseError

Move = tuple[str | None, str | None]
"""From which bundle to which, as ``<name>/<version>``; None is none."""


@dataclass(frozen=True)
class Fleet:
    """The devices of a channel: their ids, or how many they are, or nothing known."""

    ids: tuple[str, ...] = ()
    size: int = 0

    @classmethod
    def of(cls, text: str) -> Fleet:
        """Read a number, or a file with an id a line. Raises :class:`ReleaseError`."""
        if text.isdigit():
            return cls(size=int(text))
        try:
            lines = Path(text).read_text(encoding="utf-8").splitlines()
        except OSError as error:
            raise ReleaseError(
                f"--devices {text}: neither a number nor a file of ids that can be read: {error.strerror}"
            ) from error
        return cls(ids=tuple(dict.fromkeys(line.strip() for line in lines if line.strip() and line[0] != "#")))

    def count(self, share: float) -> str:
        """Say a share of the fleet in words."""
        if self.ids:
            return f"{round(share * len(self.ids))} of {len(self.ids)} devices"
        if self.size:
            number = round(share * self.size)
            return f"about {number or 'one at most'} of {self.size} devices"
        return "all devices of the channel" if share >= 1 else f"{share * 100:.3g} % of the channel's devices"


class _Placed(Release):
    """A release for a device whose bucket is known."""

    place: int

    def bucket(self, device: str) -> int:
        """Return the known bucket."""
        return self.place


def moves(before: Policy, after: Policy, fleet: Fleet, now: int) -> dict[Move, float]:
    """Return the share of the fleet for each move from one bundle to another, largest first; stays are left out."""
    found: Counter[Move] = Counter()
    for old, new, device, weight in _cases(before, after, fleet):
        current = _runs(old.model_copy(update={"halt": False}), device, now, None)
        target = _runs(new, device, now, current)
        if target != current:
            found[_name(old, new, current), _name(old, new, target)] += weight  # type: ignore[assignment]
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def newcomers(policy: Policy, fleet: Fleet, now: int) -> dict[str | None, float]:
    """Return which share of devices that run nothing would get which bundle."""
    found: Counter[str | None] = Counter()
    for own, _, device, weight in _cases(policy, policy, fleet):
        found[_name(own, own, _runs(own, device, now, None))] += weight  # type: ignore[assignment]
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def tell(before: Policy, after: Policy, fleet: Fleet, now: int) -> list[str]:
    """Say in sentences what a change does."""
    said = []
    for (old, new), share in moves(before, after, fleet, now).items():
        start = f"go from {old} to {new}" if old else f"that run nothing start with {new}"
        said.append(f"{fleet.count(share)} {start} at their next poll.")
    if not said:
        said.append("No device changes what it runs.")
    if after.halt:
        then = moves(after, after.model_copy(update={"halt": False}), fleet, now)
        tail = "; ".join(f"{fleet.count(share)} to {new}" for (_, new), share in then.items())
        said.append("The channel is halted: nothing starts until 'halt --lift'" + (f", then {tail}." if tail else "."))
    fresh = newcomers(after, fleet, now)
    if fresh != newcomers(before, fleet, now) or after.halt:
        told = [
            f"{name or 'nothing'}" + (f" ({share * 100:.3g} %)" if share < 1 else "") for name, share in fresh.items()
        ]
        said.append(f"A new device gets {', '.join(told)}.")
    return said


def bundle_of(target: str) -> str:
    """Return ``<name>/<version>`` of a bundle's target path.

    >>> bundle_of("prod/press/v1.zip")
    'press/v1'
    """
    return target.removeprefix("prod/").removesuffix(".zip")


def _cases(before: Policy, after: Policy, fleet: Fleet) -> Iterator[tuple[Policy, Policy, str, float]]:
    if fleet.ids:
        for device in fleet.ids:
            yield before, after, device, 1 / len(fleet.ids)
        return
    salts = {release.salt: {0, SHARES} for policy in (before, after) for release in policy.releases}
    for policy in (before, after):
        for release in policy.releases:
            salts[release.salt].add(release.bp)
    edges = {salt: sorted(cuts) for salt, cuts in salts.items()}
    spans = [[(salt, low, high) for low, high in pairwise(cuts)] for salt, cuts in edges.items()]
    for case in product(*spans):
        place = {salt: low for salt, low, _ in case}
        weight = prod((high - low) / SHARES for _, low, high in case)
        yield _place(before, place), _place(after, place), "", weight


def _place(policy: Policy, place: dict[str, int]) -> Policy:
    releases = tuple(_Placed(**release.model_dump(), place=place[release.salt]) for release in policy.releases)
    return policy.model_copy(update={"releases": releases})


def _runs(policy: Policy, device: str, now: int, current: str | None) -> str | None:
    chosen = policy.choose(device, now, current)
    return current if chosen is None else chosen.sha256


def _name(old: Policy, new: Policy, sha256: str | None) -> str | None:
    known = {release.sha256: bundle_of(release.target) for release in (*old.releases, *new.releases)}
    return known[sha256] if sha256 is not None else None
