"""An OpenSSF model signature beside the bundle: an auditor verifies it with the public key alone, without our programs.

    model_signing verify key BUNDLE.zip --signature BUNDLE.oms.json --public_key auditors.pub

It is a target of its own, ``prod/<name>/<version>.oms.json``, under the same signatures as the bundle; the bundle's
bytes know nothing of it. Its key is of P-256, because the format knows no Ed25519, and stands outside the roles:
devices never look at it, and whoever has it alone gets nothing into them.
"""

from __future__ import annotations

import json
import tempfile
from base64 import b64decode
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from fieldwatch_contract.extras import how_to_install

from fieldwatch_trainer.release import disk
from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.keys import never_served, passphrase

PREDICATE = "https://model_signing/signature/v1.0"


def path_of(target: str) -> str:
    """Return the target path of a bundle's model signature.

    >>> path_of("prod/press/v1.zip")
    'prod/press/v1.oms.json'
    """
    return target.removesuffix(".zip") + ".oms.json"


def new_key(folder: Path, name: str, secret: bytes | None = None) -> tuple[Path, Path]:
    """Make a key for model signatures, ``NAME.key``, and its public half for auditors, ``NAME.pub``."""
    never_served(folder)
    private, public = folder / f"{name}.key", folder / f"{name}.pub"
    for path in (private, public):
        if path.exists():
            raise ReleaseError(f"{path} exists: keys are never replaced; choose another name")
    key = ec.generate_private_key(ec.SECP256R1())
    locked = NoEncryption() if secret is None else BestAvailableEncryption(secret)
    disk.make_folder(folder, 0o700)
    disk.write(private, key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked), 0o600)
    disk.write(public, key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def sign(bundle: bytes, target: str, key: Path) -> bytes:
    """Return the model signature of a bundle. Raises :class:`ReleaseError` for a key that cannot sign."""
    try:
        from model_signing.signing import Config
    except ImportError as error:
        raise ReleaseError(f"the library of model signatures is missing: {how_to_install('signature')}") from error
    try:
        locked = b"BEGIN ENCRYPTED PRIVATE KEY" in key.read_bytes()
        secret = passphrase(key) if locked else None
        with tempfile.TemporaryDirectory(prefix="fieldwatch-sign-") as name:
            model, out = Path(name) / Path(target).name, Path(name) / "signature"
            model.write_bytes(bundle)
            signer: Any = Config()  # type: ignore[no-untyped-call]
            signer.use_elliptic_key_signer(private_key=key, password=secret).sign(model, out)
            return out.read_bytes()
    except OSError as error:
        raise ReleaseError(f"{key}: cannot be read: {error.strerror}") from error
    except (ValueError, TypeError, AttributeError) as error:  # the last one for a key of another kind
        raise ReleaseError(f"{key} signs no model ({error}): 'keys new NAME --model' makes a key that does") from error


def read(data: bytes, target: str, sha256: str) -> str:
    """Say in a sentence whose signature it is. Raises :class:`ReleaseError` where it is of another bundle.

    What is signed is compared here; that the signature holds, only the auditor's public key can tell.
    """
    try:
        made = json.loads(data)
        stated = json.loads(b64decode(made["dsseEnvelope"]["payload"]))
        hint = str(made["verificationMaterial"]["publicKey"]["hint"])
        files = stated["predicate"]["resources"]
        same = stated["predicateType"] == PREDICATE and [file["digest"] for file in files] == [sha256]
    except (ValueError, KeyError, TypeError) as error:
        raise ReleaseError(f"{path_of(target)} is no model signature ({error!r})") from error
    if not same:
        raise ReleaseError(f"{path_of(target)} speaks of another bundle than {target}")
    return f"Model signature for auditors, by the key whose public half has SHA-256 {hint[:12]}…."
