"""Keys that never leave their place: a token behind PKCS #11, a cloud's key service. Only the public half comes here.

=======================================  ==========================================  ===============================
reference                                what it names                               also needs
=======================================  ==========================================  ===============================
``hsm:2?label=press``                    key 2 (P-256, P-384) of the token *press*   ``PYKCS11LIB``: its module; PIN
``awskms:KEY``                           id, ARN or alias of a key                   credentials as boto3 finds them
``gcpkms:projects/P/…/cryptoKeyVersions/V``  a key version                           application default credentials
``azurekms:VAULT/KEY``                   a key of a vault                            ``az login``, or the machine's role
``hv:KEY``                               an Ed25519 key of a HashiCorp Vault         ``VAULT_ADDR``, ``VAULT_TOKEN``
=======================================  ==========================================  ===============================

The work is securesystemslib's; each service wants its extra of that library. A PIN is given as a passphrase is
(:mod:`.release.keys`).
"""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import parse_qsl, urlsplit

from securesystemslib.exceptions import UnsupportedAlgorithmError, UnsupportedLibraryError
from securesystemslib.signer import AWSSigner, AzureSigner, GCPSigner, HSMSigner, Key, VaultSigner

from fieldwatch_trainer.release.errors import Misused, ReleaseError

KINDS = ("hsm", "awskms", "gcpkms", "azurekms", "hv")


def public_half(reference: str, pin: Callable[[], bytes]) -> tuple[str, Key]:
    """Ask a token or service for a key; return the URI by which it signs, and its public half.

    Raises :class:`Misused` for what is no reference, :class:`ReleaseError` where the place does not give the key.
    """
    kind, found, rest = reference.partition(":")
    if kind not in KINDS or not found or not rest:
        raise Misused(f"{reference!r} names no key: write {', '.join(f'{k}:…' for k in KINDS)} (see docs/release.md)")
    try:
        return _ask(kind, rest, pin)
    except Misused:
        raise
    except UnsupportedLibraryError as error:
        raise ReleaseError(f"{reference}: {error}: install this service's extra of securesystemslib") from error
    except UnsupportedAlgorithmError as error:
        raise ReleaseError(f"{reference}: {error}: a key for signing is needed, best of P-256") from error
    except Exception as error:  # each service's library has its own kinds
        said = next(iter(str(error).splitlines()), "") or type(error).__name__
        raise ReleaseError(f"{reference} does not give its public key: {said}") from error


def _ask(kind: str, rest: str, pin: Callable[[], bytes]) -> tuple[str, Key]:
    match kind:
        case "hsm":
            number, _, query = rest.partition("?")
            if not number.isdigit():
                raise Misused(f"hsm:{rest}: a token's keys have numbers, such as hsm:2?label=press")
            label = dict(parse_qsl(query)).get("label")
            return HSMSigner.import_(int(number), label, lambda _: pin().decode())
        case "awskms":
            return AWSSigner.import_(rest)
        case "gcpkms":
            return GCPSigner.import_(rest)
        case "azurekms":
            vault, _, key = rest.partition("/")
            if not key or urlsplit(rest).scheme:
                raise Misused(f"azurekms:{rest}: name vault and key, such as azurekms:press-vault/prod-2")
            return AzureSigner.import_(vault, key)
        case _:
            return VaultSigner.import_(rest)
