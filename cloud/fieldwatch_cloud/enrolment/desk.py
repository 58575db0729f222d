"""The desk where devices enrol: one request in, one answer or refusal out. No network here."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from fieldwatch_contract.enrolment import Enrolled, EnrolRequest, Renewed, RenewRequest, Updates, digest

from fieldwatch_cloud.enrolment import register
from fieldwatch_cloud.enrolment.authority import Issuer, Refused, common_name, pem, public_key
from fieldwatch_cloud.enrolment.folder import Folder

log = logging.getLogger("fieldwatch.enrolment")


@dataclass(frozen=True)
class Addresses:
    """What a device is told beside its certificate."""

    broker: str
    updates: Updates | None


class Desk:
    """Answers devices; what it grants is on record before the answer leaves."""

    def __init__(
        self,
        folder: Folder,
        addresses: Addresses,
        issuer: Issuer | None = None,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        """``issuer``: who signs, if not the folder's own authority."""
        self._folder = folder
        self._addresses = addresses
        self._issuer = issuer or folder.authority
        self._now = now

    @property
    def ca(self) -> bytes:
        """The authority's certificate (PEM), whose digest a token pins."""
        return self._folder.ca

    def ending(self) -> list[str]:
        """Say which certificates of servers and ingest end soon."""
        return self._folder.ending(self._now())

    def enrol(self, request: EnrolRequest) -> Enrolled:
        """Return the certificate and the addresses; raises :class:`.authority.Refused`."""
        now = self._now()
        sent = request.request.encode()
        key = public_key(sent).public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        secret = bytes.fromhex(request.secret)
        device = self._folder.register.redeem(secret, request.device, digest(key), now)
        self._folder.write_revocations(now)  # the token may have replaced a certificate
        certificate = self._issue(device.id, sent, now, register.Redeemed(secret, device.id, digest(key)))
        log.info("%s enrolled, certificate %x until %s", device.id, certificate.serial_number, _end(certificate))
        return Enrolled(
            device=device.id,
            device_type=device.type,
            certificate=pem(certificate).decode(),
            ca=self.ca.decode(),
            broker=self._addresses.broker,
            updates=self._addresses.updates,
        )

    def renew(self, request: RenewRequest) -> Renewed:
        """Return the next certificate; raises :class:`.authority.Refused`."""
        now = self._now()
        sent = request.request.encode()
        old = self._folder.authority.check_renewal(
            request.certificate.encode(), sent, bytes.fromhex(request.signature), now
        )
        known = self._folder.register.issued(old.serial_number)
        if known is None or known.revoked is not None:
            raise Refused("the certificate to be renewed was revoked: enrol anew with a new token")
        if known.name != common_name(old):
            raise Refused("the certificate to be renewed is a server's, not a device's")
        certificate = self._issue(common_name(old), sent, now, register.Renewed(old.serial_number))
        log.info("%s renewed, certificate %x until %s", known.name, certificate.serial_number, _end(certificate))
        return Renewed(certificate=pem(certificate).decode())

    def _issue(
        self, device: str, request: bytes, now: datetime, basis: register.Redeemed | register.Renewed
    ) -> x509.Certificate:
        certificate = self._issuer.issue(device, request, now)
        self._folder.register.note(certificate.serial_number, device, now, certificate.not_valid_after_utc, basis)
        return certificate


def _end(certificate: x509.Certificate) -> str:
    return f"{certificate.not_valid_after_utc:%Y-%m-%d}"
