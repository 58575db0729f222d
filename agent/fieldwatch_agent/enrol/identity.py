"""The device's key and its certificate: made, asked for, checked. Cryptography only, no files and no network.

The key is EC P-256, made here; what leaves the device is a request that it has signed (PKCS#10, RFC 2986).
"""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fieldwatch_contract.enrolment import digest


class IdentityError(Exception):
    """What the server sent is not what was asked for, or a key of ours cannot be used; the message says which."""


def new_key() -> ec.EllipticCurvePrivateKey:
    """Make a key."""
    return ec.generate_private_key(ec.SECP256R1())


def key_text(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the key as PEM, unencrypted: its file's rights protect it."""
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def read_key(text: bytes) -> ec.EllipticCurvePrivateKey:
    """Return the key of a PEM text; raises :class:`IdentityError`."""
    try:
        key = serialization.load_pem_private_key(text, None)
    except (ValueError, TypeError) as error:
        raise IdentityError(f"this device's key cannot be read: {error}") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise IdentityError("this device's key is of another kind than EC: it was not made by enrolment")
    return key


def request(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a certificate request as PEM. It names nobody: who the device is, the server says."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def sign(key: ec.EllipticCurvePrivateKey, data: bytes) -> bytes:
    """Return the signature that proves to be who holds the old certificate (ECDSA with SHA-256)."""
    return key.sign(data, ec.ECDSA(hashes.SHA256()))


def pinned(authority: bytes, pin: bytes) -> bytes | None:
    """Return the authority's certificate (PEM) of an answer if it is the one that a token pins, None if it is another.

    Nothing else of the answer comes along: whoever is in between could have added an authority of their own, which
    would then be trusted as well. Raises :class:`IdentityError` where it begins with no certificate.
    """
    try:
        certificate = x509.load_pem_x509_certificate(authority)
    except ValueError as error:
        raise IdentityError("the server's answer is no certificate: is this the enrolment address?") from error
    if digest(certificate.public_bytes(serialization.Encoding.DER)) != pin:
        return None
    return certificate.public_bytes(serialization.Encoding.PEM)


def check(certificate: bytes, authority: bytes, key: ec.EllipticCurvePrivateKey, device: str) -> None:
    """Raise :class:`IdentityError` unless the certificate is ``device``'s, for our key, issued by the authority.

    ``authority`` may hold several certificates, as while an installation changes from one authority to the next.
    """
    foreign = "the server sent a certificate that its own authority did not issue"
    try:
        parsed, known = x509.load_pem_x509_certificate(certificate), x509.load_pem_x509_certificates(authority)
    except ValueError as error:
        raise IdentityError(foreign) from error
    if not any(_issued(parsed, each) for each in known):
        raise IdentityError(foreign)
    if parsed.public_key() != key.public_key():
        raise IdentityError("the server sent a certificate for another key")
    names = [str(name.value) for name in parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    if names != [device]:
        raise IdentityError(f"the server sent a certificate for {', '.join(names) or 'nobody'}, not for {device}")


def _issued(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(authority)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def life(certificate: bytes) -> tuple[datetime, datetime]:
    """Return from when until when a certificate (PEM) is valid; raises :class:`IdentityError`."""
    try:
        parsed = x509.load_pem_x509_certificate(certificate)
    except ValueError as error:
        raise IdentityError("the device's certificate cannot be read") from error
    return parsed.not_valid_before_utc, parsed.not_valid_after_utc
