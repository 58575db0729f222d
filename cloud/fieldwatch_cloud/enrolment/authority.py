"""A small certificate authority for the devices and the servers of one installation.

It promises: a device's certificate carries the device's id and nothing else, can only be used as a client, and is
issued for a key that its requester holds; no device can get the name of a server or of ingest; a device id belongs to
one device until it is revoked; what was issued and revoked is on record.

Larger sites have an authority of their own (step-ca, EST): whatever has :meth:`Issuer.issue` can take its place.

Keys are EC P-256, certificates X.509 v3 as RFC 5280 has them. Rules and cryptography only: files are
:mod:`.enrolment.folder`'s, records :mod:`.enrolment.register`'s.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Protocol

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from fieldwatch_contract.topics import DEVICE_ID

DEVICE_DAYS = 180
"""Life of a device's certificate. It is renewed when a third is left, so a PC may be off for two months."""
LATE_DAYS = 180
"""A certificate that expired no longer ago may still be renewed: a device comes back by itself after a long stop."""
SERVER_DAYS = 825
AUTHORITY_DAYS = 3653
CRL_DAYS = 3653
"""A list of revoked certificates that ran out would lock out everybody; it is written anew with each revocation."""
COMMON_NAME = 64
"""Characters, at most."""
BACKDATED = timedelta(hours=1)
"""A certificate begins in the past: a device's clock may be behind."""


class Refused(Exception):
    """The request cannot be granted; the message says why, to a person at the device."""


class Issuer(Protocol):
    """Issues certificates for devices."""

    def issue(self, device: str, request: bytes, now: datetime) -> x509.Certificate:
        """Return a certificate for ``device`` and the key of ``request`` (PEM); raises :class:`Refused`."""


@dataclass(frozen=True)
class Authority:
    """The authority's own certificate and key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @staticmethod
    def create(name: str, now: datetime) -> Authority:
        """Make a new authority, good for ten years."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name)
        usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
        builder = (
            _begin(subject, subject, key.public_key(), now, AUTHORITY_DAYS)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        )
        return Authority(builder.sign(key, hashes.SHA256()), key)

    def issue(self, device: str, request: bytes, now: datetime) -> x509.Certificate:
        """Return a client certificate for ``device`` and the key of ``request``, a PKCS#10 request in PEM.

        Only the key is taken from the request, never a name or an extension. Raises :class:`Refused`.
        """
        if not DEVICE_ID.fullmatch(device):
            raise Refused(f"device id {device!r} must be 3 to 64 of a-z, 0-9 and '-'")
        return self.client(device, public_key(request), now, DEVICE_DAYS)

    def client(self, name: str, key: ec.EllipticCurvePublicKey, now: datetime, days: int) -> x509.Certificate:
        """Return a client certificate for ``name``: a device's, or ingest's."""
        return self._leaf(name, key, now, days, ExtendedKeyUsageOID.CLIENT_AUTH, ())

    def server(self, hosts: Iterable[str], key: ec.EllipticCurvePublicKey, now: datetime) -> x509.Certificate:
        """Return a server certificate for ``hosts``, names or addresses; the first is its common name if it is short
        enough for one."""
        names = list(hosts)
        common = names[0] if len(names[0]) <= COMMON_NAME else "Fieldwatch server"
        return self._leaf(common, key, now, SERVER_DAYS, ExtendedKeyUsageOID.SERVER_AUTH, names)

    def revocations(self, serials: Iterable[int], now: datetime) -> x509.CertificateRevocationList:
        """Return the list of revoked certificates."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(self.certificate.subject)
            .last_update(now - BACKDATED)
            .next_update(now + timedelta(days=CRL_DAYS))
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        for serial in serials:
            revoked = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(now - BACKDATED).build()
            builder = builder.add_revoked_certificate(revoked)
        return builder.sign(self.key, hashes.SHA256())

    def check_renewal(self, old: bytes, request: bytes, signature: bytes, now: datetime) -> x509.Certificate:
        """Return the certificate that may be renewed by ``request``, signed with the old key (ECDSA, SHA-256).

        ``old`` and ``request`` in PEM. Whether it was revoked is the register's to say. Raises :class:`Refused`.
        """
        try:
            certificate = x509.load_pem_x509_certificate(old)
            certificate.verify_directly_issued_by(self.certificate)
        except (ValueError, TypeError, InvalidSignature) as error:
            raise Refused("the certificate to be renewed is not one of this installation's: enrol anew") from error
        if now > certificate.not_valid_after_utc + timedelta(days=LATE_DAYS):
            raise Refused(
                f"the certificate expired on {certificate.not_valid_after_utc:%Y-%m-%d}, more than {LATE_DAYS} days "
                "ago: enrol anew with a new token"
            )
        key = certificate.public_key()
        try:
            if not isinstance(key, ec.EllipticCurvePublicKey):
                raise InvalidSignature
            key.verify(signature, request, ec.ECDSA(hashes.SHA256()))
        except InvalidSignature as error:
            raise Refused("the request is not signed with the key of the certificate to be renewed") from error
        return certificate

    def _leaf(
        self,
        name: str,
        key: ec.EllipticCurvePublicKey,
        now: datetime,
        days: int,
        use: x509.ObjectIdentifier,
        hosts: Iterable[str],
    ) -> x509.Certificate:
        last = self.certificate.not_valid_after_utc
        days = min(days, (last - now).days)
        if days < 1:
            raise Refused(f"the authority itself ends on {last:%Y-%m-%d}: make a new one ('enrolment init')")
        usage = x509.KeyUsage(True, False, False, False, False, False, False, False, False)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = (
            _begin(_name(name), self.certificate.subject, key, now, days)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(identifier, critical=False)
        )
        if names := [_host(host) for host in hosts]:
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self.key, hashes.SHA256())


def public_key(request: bytes) -> ec.EllipticCurvePublicKey:
    """Return the key of a PKCS#10 request (PEM), which its requester holds; raises :class:`Refused`."""
    try:
        parsed = x509.load_pem_x509_csr(request)
        key = parsed.public_key()
        if not parsed.is_signature_valid:
            raise Refused("the request is not signed with its own key")
    except ValueError as error:
        raise Refused("the request is no PKCS#10 request in PEM") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Refused("the key must be of kind EC P-256")
    return key


def common_name(certificate: x509.Certificate) -> str:
    """Return whose certificate it is."""
    return str(certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)


def pem(certificate: x509.Certificate) -> bytes:
    """Return the certificate as text."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the key as text, unencrypted: its file's rights protect it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _host(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


def _begin(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, days: int
) -> x509.CertificateBuilder:
    now = now.astimezone(UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=days))
    )
