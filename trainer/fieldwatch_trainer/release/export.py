"""A repository for a laboratory without a network: on a stick, valid for months, with the same bundles.

A site has a root of its own, and keys of its own for everything but the bundles: those stay signed by the release
engineers, byte for byte, so that exporting needs none of their keys. Because the roots differ, a stick that holds for
half a year can never be put before a device that is on line, where a week is the limit.

The folder stays with who exports: the next export adds to it, and devices that took an earlier stick follow.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from fieldwatch_trainer.release import disk, work
from fieldwatch_trainer.release.errors import Refused, ReleaseError
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.keys import Keyring, generate, never_served, save
from fieldwatch_trainer.release.metadata import File
from fieldwatch_trainer.release.roles import NAMES, PROD, ROLES, TABLE
from fieldwatch_trainer.release.storage import Where


def export(
    repo: Where, out: Path, keys: Path, valid: timedelta, now: datetime | None = None, *, dry_run: bool = False
) -> work.Changed:
    """Make or renew the site's repository at ``out`` from ``repo``. Raises :class:`ReleaseError`, :class:`Refused`."""
    moment = now or datetime.now(UTC)
    source, folder = Folder(repo), Folder(out)
    same = isinstance(repo, Path) and out.resolve() == repo.resolve()
    if same or keys.resolve().is_relative_to(out.resolve()):
        raise Refused(f"{out}: a site is a folder of its own, and its keys stay outside it")
    never_served(keys)
    theirs = source.load(moment)
    source.check(theirs)
    fresh = not folder.exists
    if fresh and folder.taken()["root"]:
        raise Refused(f"{out} holds the remains of an export that was cut short: delete it and {keys}, then export")
    site = source.load(moment) if fresh else folder.load(moment)
    made = generate([name for name in NAMES if not name.startswith(PROD)]) if fresh else {}
    if fresh:
        groups = {role: TABLE[role].keys for role in ROLES if role != PROD}
        own = {role: [made[name].public_key for name in group] for role, group in groups.items()}
        site.begin_anew(own | {PROD: theirs.authority(PROD)[0]}, {role: TABLE[role].threshold for role in own})
    site.follow(theirs)
    ends = min(moment + valid, theirs.ends(PROD))
    count = len(theirs.bundles())
    words = [
        f"{out} holds {count} bundles and the policies of {len(theirs.policies())} channels, until {ends:%Y-%m-%d}."
    ]
    if ends < moment + valid:
        words.append(f"Not longer, because prod ends then: 'refresh --all' at {repo} renews it.")
    if fresh:
        words.append(f"It has a root of its own: give {out / work.ROOT} to the site's agents (updates.root).")
    words.append("Carry the folder there; each device takes it by 'fieldwatch-agent update --from FOLDER'.")
    if dry_run:
        return work.Changed(tuple(words))
    names = [f"targets/{info.get_prefixed_paths()[0]}" for info in theirs.files()]
    files = [File(name, source.read(name)) for name in names if not (out / name).exists()]
    ring = Keyring(made.values()) if fresh else Keyring.load([keys])
    sealed = site.seal(ring, valid)
    if fresh:
        if keys.is_dir() and any(keys.glob("*.pem")):
            raise ReleaseError(f"{keys} holds keys already, and {out} is no repository: name another folder by --keys")
        save(keys, made)
    disk.make_folder(out)
    with folder.only_publisher():
        work.put(folder, site, [*files, *sealed])
    return work.Changed(tuple(words))
