"""With what the Windows package may be signed. Signing itself: ``make test-windows``."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.authority import Authority
from tests.scripts import script

sign = script("sign")
USE = ExtendedKeyUsageOID.CODE_SIGNING


def test_a_certificate_signs_programs_while_it_is_valid_and_if_it_is_for_that(tmp_path: Path) -> None:
    authority, now = Authority(tmp_path, "authority"), datetime.now(UTC)
    good, _ = authority.issue("good", use=USE)
    sign.Signer(good).check(now)
    for moment in (now + timedelta(days=2), now - timedelta(days=20)):
        with pytest.raises(sign.SigningError, match=r"good\.pem is valid from .* to .*: renew it"):
            sign.Signer(good).check(moment)
    for name, use in (("any", None), ("server", ExtendedKeyUsageOID.SERVER_AUTH)):
        with pytest.raises(sign.SigningError, match=rf"{name}\.pem is not for signing programs"):
            sign.Signer(authority.issue(name, use=use)[0]).check(now)
    for path in (tmp_path / "good.key", tmp_path / "nothing.pem"):
        with pytest.raises(sign.SigningError, match=f"{path.name} holds no certificate"):
            sign.Signer(path).check(now)


def test_an_expired_certificate_signs_nothing_and_without_the_program_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    authority, file = Authority(tmp_path, "authority"), tmp_path / "agent.exe"
    file.write_bytes(b"MZ")
    expired, key = authority.issue("expired", days=-1, use=USE)
    with pytest.raises(sign.SigningError, match="renew it"):
        sign.Signer(expired).sign(file, str(key))
    good, key = authority.issue("good", use=USE)
    with pytest.raises(sign.SigningError, match="apt install osslsigncode"):
        sign.Signer(good).sign(file, str(key))
    assert file.read_bytes() == b"MZ" and not list(tmp_path.glob("*.signed"))
