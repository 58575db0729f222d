"""Keys come and go; the rules, without I/O.

===============  ==================================================================================
``add``          a further key for a role
``remove``       a key no longer counts: it is lost, stolen, or its holder left
``rotate``       both at once: the number of keys stays
===============  ==================================================================================

1. The keys of ``root`` sign ``targets`` too; every other key serves one role.
2. A role keeps at least its threshold of keys. At the threshold there is no spare: that is told, not refused.
3. What people sign (root, targets, prod) takes two signatures or more: nobody ships alone.
4. A new root is signed by the old keys and the new (:class:`.release.repository.Repository`), so that devices follow
   from whichever root they were installed with.
5. What was signed by keys that no longer reach the threshold is signed anew in the same step.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from securesystemslib.signer import Key

from fieldwatch_trainer.release.errors import Refused, ReleaseError
from fieldwatch_trainer.release.keys import key_name
from fieldwatch_trainer.release.repository import Repository
from fieldwatch_trainer.release.roles import POLICY, ROLES, TABLE

MEMBERS = tuple(role for role in ROLES if role != "targets")
"""Roles that have keys of their own."""


def role_of(repository: Repository, name: str) -> str:
    """Return the role whose key has this name. Raises :class:`ReleaseError`."""
    for role in MEMBERS:
        if any(key_name(key) == name for key in repository.authority(role)[0]):
            return role
    known = [key_name(key) for role in MEMBERS for key in repository.authority(role)[0]]
    raise ReleaseError(f"no key {name} counts in this repository; keys: {', '.join(known)}")


def next_name(repository: Repository, role: str, taken: Iterable[str]) -> str:
    """Return a name for a new key: the role's and the next number that nobody has used."""
    stem = "policy" if role == POLICY else role
    known = [*taken, *TABLE[role].keys, *(key_name(key) for key in repository.authority(role)[0])]
    numbers = [int(match[1]) for name in known if (match := re.fullmatch(rf"{stem}-(\d+)", name))]
    return f"{stem}-{max(numbers, default=0) + 1}"


def add(repository: Repository, role: str, key: Key, threshold: int | None = None) -> None:
    """Let a further key count for a role. Raises :class:`Refused`."""
    for other in MEMBERS:
        for known in repository.authority(other)[0]:
            if known.keyid == key.keyid or key_name(known) == key_name(key):
                raise Refused(f"{key_name(key)}: {key_name(known)} ({known.keyid[:12]}…) counts for {other} already")
    keys, old = repository.authority(role)
    _set(repository, role, [*keys, key], threshold or old)


def remove(repository: Repository, name: str, threshold: int | None = None) -> None:
    """Let a key no longer count. Raises :class:`Refused` where too few would be left."""
    role = role_of(repository, name)
    keys, old = repository.authority(role)
    _set(repository, role, [key for key in keys if key_name(key) != name], threshold or old)


def rotate(repository: Repository, name: str, key: Key) -> None:
    """Put a new key in the place of an old one."""
    role = role_of(repository, name)
    keys, threshold = repository.authority(role)
    _set(repository, role, [key if key_name(old) == name else old for old in keys], threshold)


def tell(before: Repository, after: Repository) -> list[str]:
    """Say in sentences how the keys differ; empty where they do not."""
    said = []
    for role in MEMBERS:
        (old, old_number), (new, number) = before.authority(role), after.authority(role)
        gone = [key for key in old if key.keyid not in {k.keyid for k in new}]
        come = [key for key in new if key.keyid not in {k.keyid for k in old}]
        if not gone and not come and old_number == number:
            continue
        parts = [f"{_who(key)} no longer counts" for key in gone] + [f"{_who(key)} counts from now on" for key in come]
        if old_number != number:
            parts.append(f"the threshold goes from {old_number} to {number}")
        said.append(f"Role {role}: {', '.join(parts)}; {number} of {', '.join(map(key_name, new))} must sign.")
        if number == len(new):
            said.append(f"Role {role} has no spare key: if one is lost, only the holders of root can help. Add one.")
    if said:
        said.append("Devices follow at their next poll; what they run does not change.")
    return said


def _who(key: Key) -> str:
    return f"{key_name(key)} ({key.keyid[:12]}…)"


def _set(repository: Repository, role: str, keys: Sequence[Key], threshold: int) -> None:
    least = 2 if TABLE[role].offline else 1
    if threshold < least:
        raise Refused(f"role {role} takes at least {least} signature(s): nobody ships alone")
    if len(keys) < threshold:
        raise Refused(
            f"role {role} would have {len(keys)} key(s) and want {threshold} signatures: 'keys rotate' replaces a key, "
            "'keys add' brings another first"
        )
    repository.set_keys(role, keys, threshold)
    if role == "root":
        repository.set_keys("targets", keys, threshold)
