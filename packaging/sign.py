"""Signs what people install on Windows (Authenticode), and tells whether a file is signed.

``msi.py`` signs where it is told with what: first the program, then the package around it. Each signature is verified
before the file takes its place: made by this certificate, whose chain ends at an authority that is trusted, over these
bytes. Signing and verifying is osslsigncode's; what it would do without a word is refused here, to sign with a
certificate that has expired or is for something else.

The key is a file, or a ``pkcs11:`` URI that names it in a token, which it never leaves. The passphrase or PIN comes
from the environment (:data:`PASSPHRASE`). With its certificate a signature expires, unless it has a time stamp.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

PASSPHRASE = "FIELDWATCH_SIGNING_PASSPHRASE"  # noqa: S105 - the variable's name
"""Environment variable with the passphrase of the key's file or the PIN of the token."""
TITLE = "Fieldwatch agent"
"""What Windows calls the program when it asks whether it may change the computer."""


class SigningError(Exception):
    """A file cannot be signed, or is not signed as it should be; the message says what would help."""


@dataclass(frozen=True)
class Signer:
    """Whose signature it is. ``certificate``: PEM, the signer's own first, then those between it and the authority.
    ``authority``: PEM, the roots, also that of the time stamp; None: those that the system trusts.
    """

    certificate: Path
    authority: Path | None = None

    def verify(self, path: Path) -> None:
        """Raise :class:`SigningError` unless the file is signed with this certificate and unchanged since."""
        roots = [] if self.authority is None else ["-CAfile", str(self.authority), "-TSA-CAfile", str(self.authority)]
        leaf = self._own().fingerprint(hashes.SHA256()).hex()
        said = _osslsigncode("verify", *roots, "-require-leaf-hash", f"sha256:{leaf}", "-in", str(path))
        if said is not None:
            raise SigningError(f"{path}: no signature with {self.certificate}, or changed since it was signed:\n{said}")

    def sign(self, path: Path, key: str, module: Path | None = None, timestamp: str | None = None) -> None:
        """Sign the file, in the place of a signature that it may have. ``key``: a file or URI; ``module``: the PKCS #11
        library of the token; ``timestamp``: address of a service after RFC 3161.

        Raises :class:`SigningError`; the file is as it was then.
        """
        self.check(datetime.now(UTC))
        command = ["-certs", str(self.certificate), "-key", key, "-h", "sha256", "-n", TITLE]
        command += ["-pkcs11module", str(module)] if module is not None else []
        command += ["-ts", timestamp] if timestamp is not None else []
        command += ["-readpass", "/dev/stdin"] if PASSPHRASE in os.environ else []
        made = path.with_name(f"{path.name}.signed")
        try:
            said = _osslsigncode("sign", *command, "-in", str(path), "-out", str(made))
            if said is not None:
                raise SigningError(f"{path}: cannot be signed with {self.certificate} and {key}:\n{said}")
            self.verify(made)
            made.replace(path)
        finally:
            made.unlink(missing_ok=True)

    def check(self, now: datetime) -> None:
        """Raise :class:`SigningError` where the certificate may not sign programs at that time."""
        own = self._own()
        if not own.not_valid_before_utc <= now <= own.not_valid_after_utc:
            begin, end = own.not_valid_before_utc.date(), own.not_valid_after_utc.date()
            raise SigningError(f"{self.certificate} is valid from {begin} to {end}: renew it")
        try:
            uses = list(own.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        except x509.ExtensionNotFound:
            uses = []
        if ExtendedKeyUsageOID.CODE_SIGNING not in uses:
            raise SigningError(f"{self.certificate} is not for signing programs: order one with the use 'code signing'")

    def _own(self) -> x509.Certificate:
        try:
            return x509.load_pem_x509_certificates(self.certificate.read_bytes())[0]
        except (OSError, ValueError) as error:
            raise SigningError(f"{self.certificate} holds no certificate in PEM: {error}") from None


def _osslsigncode(*arguments: str) -> str | None:
    """Run it; return None where it succeeds, else what it says."""
    if shutil.which("osslsigncode") is None:
        raise SigningError("signatures need osslsigncode: apt install osslsigncode")
    done = subprocess.run(
        ["osslsigncode", *arguments], input=os.environ.get(PASSPHRASE, ""), stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT, encoding="utf-8", errors="replace", check=False,
    )  # fmt: skip
    return None if done.returncode == 0 else done.stdout.strip()


def main() -> int:
    """Verify; 0 all are signed, 1 one is not."""
    example = "example: python packaging/sign.py dist/*.msi --certificate fieldwatch.pem"
    parser = argparse.ArgumentParser(description="Verify signatures.", epilog=example)
    parser.add_argument("files", type=Path, nargs="+")
    parser.add_argument("--certificate", type=Path, required=True, help="PEM, whose signature it must be")
    parser.add_argument("--authority", type=Path, help="PEM, roots to trust; default: the system's")
    options = parser.parse_args()
    try:
        for path in options.files:
            Signer(options.certificate, options.authority).verify(path)
            print(f"{path}: signed")
    except SigningError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
