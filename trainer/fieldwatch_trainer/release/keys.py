"""Signing keys as files, for development and for rings small enough to live on sticks.

A key is a PKCS #8 PEM named after its holder's role, ``root-2.pem``, readable by its owner alone. The folder is never
inside the repository, because everything there is served. What a key may sign is decided by the metadata, not by the
file's name: the ring finds keys by their id, so a key can be moved, renamed, or brought on a stick for one ceremony.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from securesystemslib.signer import CryptoSigner, Key

NAME = "x-fieldwatch-name"
"""Field of a key in the metadata that holds its name, so that an error can say which key is missing."""


class ReleaseError(Exception):
    """The release cannot go on; the message says why and what would be right."""


class Keyring:
    """The private keys at hand, by key id."""

    def __init__(self, signers: Iterable[CryptoSigner]) -> None:
        self.signers: dict[str, CryptoSigner] = {signer.public_key.keyid: signer for signer in signers}

    @classmethod
    def load(cls, folders: Sequence[Path]) -> Keyring:
        """Read every ``*.pem`` of ``folders``. Raises :class:`ReleaseError` for one that is not a plain key."""
        signers = []
        for folder in folders:
            if not folder.is_dir():
                raise ReleaseError(f"no folder of keys at {folder}: name it by --keys")
            for path in sorted(folder.glob("*.pem")):
                try:
                    signers.append(_signer(path.read_bytes()))
                except OSError as error:
                    raise ReleaseError(f"{path}: cannot be read: {error.strerror}") from error
                except (ValueError, TypeError) as error:
                    raise ReleaseError(f"{path}: not an unencrypted Ed25519 key in PKCS #8 PEM: {error}") from error
        return cls(signers)

    def choose(self, role: str, keys: Sequence[Key], threshold: int) -> list[CryptoSigner]:
        """Return the signers for a role that wants ``threshold`` of ``keys``; every key at hand signs.

        Raises :class:`ReleaseError` that names the missing keys.
        """
        found = [self.signers[key.keyid] for key in keys if key.keyid in self.signers]
        if len(found) < threshold:
            names = [key_name(key) for key in keys]
            have = [key_name(key) for key in keys if key.keyid in self.signers]
            raise ReleaseError(
                f"role {role} is signed by {threshold} of {', '.join(names)}; "
                f"at hand: {', '.join(have) or 'none of them'}. Name the folder of the missing key file "
                f"(such as {next(n for n in names if n not in have)}.pem) by a further --keys"
            )
        return found


def key_name(key: Key) -> str:
    """Return the holder's name of a public key, or the start of its id where it has none."""
    return str(key.unrecognized_fields.get(NAME, key.keyid[:12]))


def generate(names: Iterable[str]) -> dict[str, CryptoSigner]:
    """Make one new Ed25519 key a name."""
    made = {}
    for name in names:
        made[name] = CryptoSigner.generate_ed25519()
        made[name].public_key.unrecognized_fields[NAME] = name
    return made


def save(folder: Path, keys: dict[str, CryptoSigner]) -> None:
    """Write new key files, mode 0600 in a folder of mode 0700; an existing file is never replaced."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for name, signer in keys.items():
        path = folder / f"{name}.pem"
        try:
            handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError as error:
            raise ReleaseError(f"{path} exists: keys are never replaced; choose another folder by --keys") from error
        with os.fdopen(handle, "wb") as file:
            file.write(signer.private_bytes)


def _signer(pem: bytes) -> CryptoSigner:
    key = load_pem_private_key(pem, password=None)
    if not isinstance(key, Ed25519PrivateKey):
        raise ValueError(f"it is a {type(key).__name__}")
    return CryptoSigner(key)
