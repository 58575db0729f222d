"""What a release engineer should know today: how it stands, what ends when, what to do next.

Words without I/O: :func:`attention` and :func:`stand`. :func:`examine` looks through the folder and the keys as well.

==========================================  ====================================================================
``refresh`` has not run for three days      told: devices stop updating on that day
it has ended                                told: devices have taken no update since
a role that people sign ends within 60 d    told, with the keys to bring
a role has no spare key                     told: the next loss stops it
a channel is halted                         told, with what ends it
==========================================  ====================================================================
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path

from fieldwatch_contract.policy import SHARES

from fieldwatch_trainer.release import rollout
from fieldwatch_trainer.release.actions import Channel
from fieldwatch_trainer.release.effects import bundle_of
from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.keys import Keyring, key_name, served_by
from fieldwatch_trainer.release.metadata import Expiry
from fieldwatch_trainer.release.rekey import MEMBERS
from fieldwatch_trainer.release.repository import Repository
from fieldwatch_trainer.release.roles import LIFETIME, TABLE


def ending(expiries: Sequence[Expiry], now: datetime) -> list[str]:
    """Say which roles have ended or end soon, and what that means for devices."""
    said = []
    for e in expiries:
        left = e.expires - now
        if left > TABLE[e.role].notice:
            continue
        day = f"{e.expires:%Y-%m-%d %H:%M} UTC"
        means = f"devices have taken no update since {day}" if left.total_seconds() <= 0 else f"ends {day}"
        if e.role in {"snapshot", "timestamp"}:
            quiet = (now - (e.expires - LIFETIME[e.role])).days
            ahead = f"refresh has not run for {quiet} days: devices stop updating on {day}"
            said.append(f"{e.role}: {ahead if left.total_seconds() > 0 else means}. Run 'refresh' now, then daily.")
        elif TABLE[e.role].offline:
            said.append(f"{e.role}: {means}. Bring its keys and run 'refresh --all' before that.")
        else:
            said.append(f"{e.role}: {means}. 'refresh' renews it where a key of it is at hand.")
    return said


def attention(repository: Repository, channels: Sequence[Channel], now: datetime) -> list[str]:
    """Say what wants a person."""
    said = ending(repository.expiries(), now)
    for role in MEMBERS:
        keys, threshold = repository.authority(role)
        if len(keys) <= threshold:
            names = ", ".join(map(key_name, keys))
            said.append(f"role {role} has no spare: all of {names} must sign. 'keys add {role}' makes one.")
    for item in channels:
        if item.policy.halt:
            goal = rollout.proven(item.policy)
            back = f"'rollback {item.name} --channel {item.channel}' to {bundle_of(goal.target)}, " if goal else ""
            said.append(f"{item.name}, channel {item.channel} is halted: {back}or 'halt --lift'.")
    return said


def stand(repository: Repository, channels: Sequence[Channel], now: datetime) -> list[str]:
    """Return the whole picture as lines."""
    lines = []
    for item in channels:
        lines.append(f"{item.name}, channel {item.channel}" + (": halted" if item.policy.halt else ""))
        for release in item.policy.releases:
            note = "  revoked" if release.sha256 in item.policy.revoke else ""
            lines.append(f"  {release.bp / 100:6.2f} %  {release.target}  {release.sha256[:12]}…{note}")
    used = {item.channel for item in channels}
    lines += [f"channel {name}: empty" for name in repository.channels() if name not in used]
    for e in repository.expiries():
        _, threshold = repository.authority(e.role)
        who = ", ".join(repository.signed_by(e.role))
        lines.append(
            f"  {e.role:<12} version {e.version:<4} until {e.expires:%Y-%m-%d %H:%M} UTC  "
            f"signed by {who} ({threshold} needed)"
        )
    todo = attention(repository, channels, now)
    for item in channels:
        top = next((r for r in item.policy.releases if r.sha256 not in item.policy.revoke), None)
        if top is not None and top.bp < SHARES and not item.policy.halt:
            name = bundle_of(top.target)
            todo.append(
                f"{name} is at {top.bp / 100:g} % of channel {item.channel}: 'rollout set {name}' widens it, "
                "'halt' stops it."
            )
    return [*lines, *(f"next: {line}" for line in todo)]


def examine(folder: Folder, keys: Sequence[Path], channels: Sequence[Channel], now: datetime) -> list[str]:
    """Look through a repository and the keys at hand; return what is wrong, empty where nothing is."""
    repository = folder.load(now)
    said = attention(repository, channels, now)
    try:
        folder.check(repository)
    except ReleaseError as error:
        said.append(str(error))
    said += [
        f"{name} belongs to nothing: left by a publication that was cut short; delete it" for name in _orphans(folder)
    ]
    if not keys:
        return said
    said += [
        f"{place} is inside {around}, which a server offers to everybody: move the keys out and replace each of them "
        "by 'keys rotate'"
        for place in keys
        if (around := served_by(place)) is not None
    ]
    ring = Keyring.load(keys)
    counts = {key.keyid: role for role in MEMBERS for key in repository.authority(role)[0]}
    for keyid, holder in ring.holders.items():
        if keyid not in counts:
            said.append(f"{holder.path} counts for nothing in this repository: destroy it, or keep it elsewhere")
        elif TABLE[counts[keyid]].offline and not holder.encrypted:
            said.append(f"{holder.path} signs {counts[keyid]} and is not encrypted: whoever copies the file can sign")
        if os.name != "nt" and stat.S_IMODE(holder.path.stat().st_mode) & 0o077:
            said.append(f"{holder.path} can be read by others: chmod 600")
    for role in MEMBERS:
        threshold = repository.authority(role)[1]
        here = [keyid for keyid in ring.holders if counts.get(keyid) == role]
        if TABLE[role].offline and len(here) >= threshold > 1:
            said.append(f"{len(here)} keys of {role} lie in one place: one theft is enough. Keep them apart")
    return said


def _orphans(folder: Folder) -> Iterator[str]:
    known = folder.known_files()
    for place in ("metadata", "targets"):
        for name in folder.files.names(place):
            if name not in known and (place == "targets" or name.endswith(".tmp")):
                yield name
