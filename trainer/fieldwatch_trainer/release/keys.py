"""Signing keys: as files, encrypted or plain, or in a token or cloud service behind a URI.

A key file is a PKCS #8 PEM named after its holder's role, ``root-2.pem``, readable by its owner alone; two lines above
the PEM give its name and id, so that an encrypted one is asked for its passphrase only when it has to sign. A file
``prod-2.uri`` stands for a key that never leaves its token or service (:mod:`.release.tokens`): JSON with ``uri``, and
``keyid`` and ``key``, the public half as in the metadata; the passphrase is then the token's PIN.

The folder is never inside the repository, because everything there is served. What a key may sign is decided by the
metadata, not by the file's name: the ring finds keys by their id, so a key can be moved, renamed, or brought on a
stick for one ceremony.

A passphrase comes from ``FIELDWATCH_RELEASE_PASSPHRASE``, else from the program that ``FIELDWATCH_RELEASE_ASKPASS``
names (it gets the file as argument and prints the passphrase: the way to an agent or a vault), else from the terminal.
"""

from __future__ import annotations

import getpass
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)
from securesystemslib.signer import CryptoSigner, Key, Signer, SSlibKey

from fieldwatch_trainer.release import disk
from fieldwatch_trainer.release.errors import ReleaseError

NAME = "x-fieldwatch-name"
"""Field of a key in the metadata that holds its name, so that an error can say which key is missing."""
PASSPHRASE, ASKPASS = "FIELDWATCH_RELEASE_PASSPHRASE", "FIELDWATCH_RELEASE_ASKPASS"
_HEAD = re.compile(rb"keyid: ([0-9a-f]{64})\n")


@dataclass(frozen=True)
class Holder:
    """A private key at hand: its file, whether that is encrypted, and how to open it."""

    keyid: str
    path: Path
    encrypted: bool
    open: Callable[[], Signer]


class Keyring:
    """The private keys at hand, by key id; each is opened when it first signs."""

    def __init__(self, holders: Iterable[Holder | CryptoSigner]) -> None:
        self.holders: dict[str, Holder] = {}
        self._open: dict[str, Signer] = {}
        for holder in holders:
            if isinstance(holder, Holder):
                self.holders[holder.keyid] = holder
            else:
                self._open[holder.public_key.keyid] = holder

    @classmethod
    def load(cls, folders: Sequence[Path]) -> Keyring:
        """Read every ``*.pem`` and ``*.uri`` of ``folders``. Raises :class:`ReleaseError` for one that is no key."""
        holders = []
        for folder in folders:
            if not folder.is_dir():
                raise ReleaseError(f"no folder of keys at {folder}: name it by --keys")
            for path in sorted((*folder.glob("*.pem"), *folder.glob("*.uri"))):
                try:
                    data = path.read_bytes()
                    holders.append(_pem(path, data) if path.suffix == ".pem" else _uri(path, data))
                except OSError as error:
                    raise ReleaseError(f"{path}: cannot be read: {error.strerror}") from error
                except (ValueError, TypeError, KeyError) as error:
                    what = (
                        "empty: the key is lost" if not data.strip() else f"not a private key in PKCS #8 PEM: {error}"
                    )
                    raise ReleaseError(f"{path}: {what}; restore it from its copy, or move it away") from error
        return cls(holders)

    def __contains__(self, keyid: str) -> bool:
        return keyid in self.holders or keyid in self._open

    def signer(self, keyid: str) -> Signer:
        """Open a key. Raises :class:`ReleaseError` for a wrong passphrase or an absent token."""
        if keyid not in self._open:
            self._open[keyid] = self.holders[keyid].open()
        return self._open[keyid]

    def with_new(self, made: Mapping[str, CryptoSigner]) -> Keyring:
        """Return this ring with new keys on it."""
        ring = Keyring(self.holders.values())
        ring._open = self._open | {signer.public_key.keyid: signer for signer in made.values()}
        return ring


def key_name(key: Key) -> str:
    """Return the holder's name of a public key, or the start of its id where it has none."""
    return str(key.unrecognized_fields.get(NAME, key.keyid[:12]))


def generate(names: Iterable[str]) -> dict[str, CryptoSigner]:
    """Make one new Ed25519 key a name."""
    made = {name: CryptoSigner.generate_ed25519() for name in names}
    for name, signer in made.items():
        named(signer.public_key, name)
    return made


def named(key: Key, name: str) -> Key:
    """Return the key with its holder's name in it."""
    key.unrecognized_fields[NAME] = name
    return key


def served_by(folder: Path) -> Path | None:
    """Return the repository in which a folder lies, whose files a server offers to everybody; None where in none."""
    whole = folder.resolve()
    return next((place for place in (whole, *whole.parents) if (place / "metadata" / "timestamp.json").exists()), None)


def never_served(folder: Path) -> None:
    """Raise :class:`ReleaseError` where a folder of keys would be served."""
    if (place := served_by(folder)) is not None:
        raise ReleaseError(f"{folder} is inside {place}, which a server offers to everybody: choose another --keys")


def save(folder: Path, keys: Mapping[str, CryptoSigner], secret: bytes | None = None) -> None:
    """Write new key files, mode 0600 in a folder of mode 0700; an existing file is never replaced.

    With ``secret`` they are encrypted by it. When this returns they survive a power cut. Raises :class:`ReleaseError`
    where the folder is inside a repository.
    """
    never_served(folder)
    for name in keys:
        if (folder / f"{name}.pem").exists():
            raise ReleaseError(f"{folder / name}.pem exists: keys are never replaced; choose another folder by --keys")
    disk.make_folder(folder, 0o700)
    for name, signer in keys.items():
        disk.write(folder / f"{name}.pem", _encode(name, signer, secret), 0o600)


def save_reference(path: Path, uri: str, key: Key) -> None:
    """Write a file that stands for a key in a token. Raises :class:`ReleaseError` where there is one already."""
    never_served(path.parent)
    for taken in (path, path.with_suffix(".pem")):
        if taken.exists():
            raise ReleaseError(f"{taken} exists: keys are never replaced; choose another name")
    disk.make_folder(path.parent, 0o700)
    disk.write(path, json.dumps({"uri": uri, "keyid": key.keyid, "key": key.to_dict()}, indent=1).encode() + b"\n")


def write_public(path: Path, key: Key) -> None:
    """Write the public half of a key, for the one who puts it into the metadata."""
    disk.write(path, json.dumps({"keyid": key.keyid, "key": key.to_dict()}, indent=1).encode() + b"\n")


def read_public(path: Path) -> Key:
    """Read what :func:`write_public` wrote. Raises :class:`ReleaseError`."""
    try:
        return _public(json.loads(path.read_bytes()))
    except OSError as error:
        raise ReleaseError(f"{path}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ReleaseError(f"{path}: not the public half of a key as 'keys new' writes it: {error!r}") from error


def passphrase(path: Path, new: bool = False) -> bytes:
    """Return the passphrase of a key file (see the module). Raises :class:`ReleaseError` where nobody gives one."""
    if secret := os.environ.get(PASSPHRASE):
        return secret.encode()
    if program := os.environ.get(ASKPASS):
        try:
            done = subprocess.run([program, str(path)], capture_output=True, check=True)
        except (OSError, subprocess.CalledProcessError) as error:
            raise ReleaseError(f"{path}: {ASKPASS}={program} gave no passphrase: {error}") from error
        return done.stdout.rstrip(b"\r\n")
    if not sys.stdin.isatty():
        raise ReleaseError(f"{path} is encrypted: give its passphrase by {PASSPHRASE} or {ASKPASS}, or on a terminal")
    secret = getpass.getpass(f"Passphrase for {path}: ")
    if new and getpass.getpass("Again: ") != secret:
        raise ReleaseError("the two passphrases differ; nothing was made")
    if not secret:
        raise ReleaseError("an empty passphrase protects nothing; leave --encrypt away for a plain key")
    return secret.encode()


def _encode(name: str, signer: CryptoSigner, secret: bytes | None) -> bytes:
    head = f"name: {name}\nkeyid: {signer.public_key.keyid}\n".encode()
    if secret is None:
        return head + signer.private_bytes
    key = load_pem_private_key(signer.private_bytes, None)
    return head + key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(secret))


def _pem(path: Path, data: bytes) -> Holder:
    if b"BEGIN ENCRYPTED PRIVATE KEY" not in data:
        signer = CryptoSigner(load_pem_private_key(data, None))
        return Holder(signer.public_key.keyid, path, False, lambda: signer)
    head = _HEAD.search(data)
    keyid = head[1].decode() if head else _unlock(path, data).public_key.keyid

    def unlock() -> Signer:
        signer = _unlock(path, data)
        if signer.public_key.keyid != keyid:
            raise ReleaseError(f"{path}: the lines above the key name another one; delete them")
        return signer

    return Holder(keyid, path, True, unlock)


def _unlock(path: Path, data: bytes) -> CryptoSigner:
    try:
        return CryptoSigner(load_pem_private_key(data, passphrase(path)))
    except ValueError as error:
        raise ReleaseError(f"{path}: the passphrase is wrong") from error


def _uri(path: Path, data: bytes) -> Holder:
    value = json.loads(data)
    key, uri = _public(value), str(value["uri"])

    def unlock() -> Signer:
        try:
            return Signer.from_priv_key_uri(uri, key, lambda _: passphrase(path).decode())
        except Exception as error:  # each service's library has its own kinds
            raise ReleaseError(f"{path}: {uri} cannot be opened: {error}") from error

    return Holder(key.keyid, path, True, unlock)


def _public(value: Mapping[str, dict[str, object]]) -> Key:
    return SSlibKey.from_dict(str(value["keyid"]), dict(value["key"]))
