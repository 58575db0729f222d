"""The folder of the enrolment: the authority's key, the servers' certificates, the register, the list of revocations.

======================  ================================================================================
``authority.key``       readable by its owner only; who has it can be any device
``ca.pem``              the authority's certificate: for broker, agents and ingest
``server.pem, .key``    of broker and enrolment service
``ingest.pem, .key``    of ingest, a client of the broker
``revoked.pem``         the revoked certificates; the broker reads it at its start and on SIGHUP
``register.db``         tokens and certificates
======================  ================================================================================

A key is written before the certificate that names it, each file whole or not at all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from fieldwatch_contract.enrolment import digest

from fieldwatch_cloud.enrolment.authority import SERVER_DAYS, Authority, key_pem, pem
from fieldwatch_cloud.enrolment.register import Register, RegisterError

SOON = timedelta(days=90)
KEY, CA, REVOKED, REGISTER = "authority.key", "ca.pem", "revoked.pem", "register.db"


class FolderError(Exception):
    """The folder cannot be used; the message says why and what to do."""


class Folder:
    """An initialised folder."""

    def __init__(self, path: Path) -> None:
        """Raises :class:`FolderError` where the authority's files are missing or do not belong together."""
        if not (path / CA).exists() and (path / REGISTER).exists():
            raise FolderError(f"{path}: {CA} is missing, and devices trust it: restore it from a backup of this folder")
        self.path = path
        try:
            certificate = x509.load_pem_x509_certificate((path / CA).read_bytes())
            key = serialization.load_pem_private_key((path / KEY).read_bytes(), None)
        except FileNotFoundError as error:
            raise FolderError(
                f"{path}: no authority is here ({Path(error.filename).name} is missing): 'fieldwatch-cloud enrolment "
                "init' makes one"
            ) from error
        except (OSError, ValueError, TypeError) as error:
            raise FolderError(f"{path}: the authority's files cannot be read: {error}") from error
        if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
            raise FolderError(f"{path}: {KEY} does not belong to {CA}: restore both from one backup")
        self.authority = Authority(certificate, key)
        try:
            self.register = Register(path / REGISTER)
        except RegisterError as error:
            raise FolderError(str(error)) from error

    @property
    def ca(self) -> bytes:
        """The authority's certificate, PEM."""
        return pem(self.authority.certificate)

    @property
    def pin(self) -> bytes:
        """What a token pins of the authority."""
        return digest(self.authority.certificate.public_bytes(serialization.Encoding.DER))

    def ending(self, now: datetime) -> list[str]:
        """Say which certificates of servers and ingest end soon, or have ended: without them nobody is connected."""
        told = []
        for path in sorted(self.path.glob("*.pem")):
            if path.name == REVOKED or not path.with_suffix(".key").exists():
                continue
            try:
                end = x509.load_pem_x509_certificate(path.read_bytes()).not_valid_after_utc
            except (OSError, ValueError):
                continue  # whoever uses it says why it cannot
            if end - now < SOON:
                told.append(f"{path} ends on {end:%Y-%m-%d}: 'fieldwatch-cloud enrolment certify' makes a new one")
        return told

    def write_revocations(self, now: datetime) -> Path:
        """Write the list of revoked certificates anew, one writer at a time."""
        with self.register.revoked() as serials:
            listed = self.authority.revocations(serials, now)
            _write(self.path / REVOKED, listed.public_bytes(serialization.Encoding.PEM), 0o644)
        return self.path / REVOKED


def init(path: Path, name: str, hosts: Sequence[str], ingest: Sequence[str], now: datetime) -> Folder:
    """Make an authority with certificates for the servers (``hosts``) and for ingest.

    Raises :class:`FolderError` where one is there already: its devices would be locked out by a new one. A key alone is
    none: nothing was issued with it, as the power failed before.
    """
    if (path / CA).exists() or (path / REGISTER).exists():
        raise FolderError(f"{path}: an authority is here already; a new one would lock its devices out")
    path.mkdir(parents=True, exist_ok=True)
    path.chmod(0o750)
    authority = Authority.create(name, now)
    _write(path / KEY, key_pem(authority.key), 0o600)
    _write(path / CA, pem(authority.certificate), 0o644)
    Register.create(path / REGISTER)
    folder = Folder(path)
    certify(folder, hosts, ingest, now)
    folder.write_revocations(now)
    return folder


def certify(folder: Folder, hosts: Sequence[str], ingest: Sequence[str], now: datetime) -> None:
    """Give the servers (``hosts``) and ingest new keys and certificates; the old ones stay good until they end."""
    key = ec.generate_private_key(ec.SECP256R1())
    _pair(folder, "server", key, folder.authority.server(hosts, key.public_key(), now), now)
    for one in ingest:
        key = ec.generate_private_key(ec.SECP256R1())
        stem = "ingest" if len(ingest) == 1 else one
        _pair(folder, stem, key, folder.authority.client(one, key.public_key(), now, SERVER_DAYS), now)


def _pair(
    folder: Folder, stem: str, key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate, now: datetime
) -> None:
    _write(folder.path / f"{stem}.key", key_pem(key), 0o600)
    folder.register.note(certificate.serial_number, f"{stem}.pem", now, certificate.not_valid_after_utc)
    _write(folder.path / f"{stem}.pem", pem(certificate), 0o644)


def _write(path: Path, data: bytes, mode: int) -> None:
    """Write a file whole, on disk when this returns, never readable by more than ``mode`` says."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    if os.name == "posix":
        parent = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(parent)
        finally:
            os.close(parent)
