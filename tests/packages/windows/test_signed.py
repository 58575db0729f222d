"""A release is signed: program and package, with a time stamp, by whom it should be; and Windows installs it.

``make test-windows`` runs it after ``make package``; it needs osslsigncode. The authority, the signer and the time
stamp service are of the test.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.authority import Authority
from tests.conftest import running
from tests.packages.machine import ROOT
from tests.scripts import script

pytestmark = pytest.mark.timeout(1800)
windows, payload, sbom, sign = script("windows"), script("payload"), script("sbom"), script("sign")
DIST = ROOT / "dist" / "windows"
PROGRAM = f"{payload.NAME}.exe"
SECRET = "a passphrase"
STAMPS = """\
[stamps]
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
serial = serial
"""


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"), "authority")


@pytest.fixture(scope="session")
def stamps(authority: Authority, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A time stamp service after RFC 3161: OpenSSL's, behind a web server; its address."""
    folder = tmp_path_factory.mktemp("stamps")
    certificate, key = authority.issue("stamps", use=ExtendedKeyUsageOID.TIME_STAMPING)
    (folder / "conf").write_text(STAMPS, encoding="utf-8")
    (folder / "serial").write_text("01", encoding="utf-8")

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            (folder / "asked").write_bytes(self.rfile.read(int(self.headers["Content-Length"])))
            command = ["openssl", "ts", "-reply", "-config", "conf", "-section", "stamps", "-queryfile", "asked"]
            command += ["-signer", str(certificate), "-inkey", str(key), "-chain", str(authority.file)]
            told = subprocess.run(command, cwd=folder, check=True, capture_output=True).stdout
            self.send_response(200)
            self.send_header("Content-Type", "application/timestamp-reply")
            self.end_headers()
            self.wfile.write(told)

    with running(ThreadingHTTPServer(("127.0.0.1", 0), Service)) as port:
        yield f"http://127.0.0.1:{port}"


def packed(folder: Path, *how: str, passphrase: str = SECRET) -> subprocess.CompletedProcess[str]:
    """Build the package of a copy of what was frozen, as ``make msi SIGN=…`` does."""
    shutil.copytree(DIST, folder, dirs_exist_ok=True)
    command = [
        sys.executable,
        ROOT / "packaging" / "msi.py",
        "--dist",
        folder,
        "--program",
        folder / payload.NAME,
        *how,
    ]
    return subprocess.run(
        command, env={**os.environ, sign.PASSPHRASE: passphrase}, capture_output=True, text=True, check=False
    )


@pytest.fixture(scope="session")
def release(authority: Authority, stamps: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with a signed package, and the signed program in it."""
    folder = tmp_path_factory.mktemp("release")
    certificate, key = authority.issue("release", use=ExtendedKeyUsageOID.CODE_SIGNING, passphrase=SECRET)
    how = ["--certificate", certificate, "--key", key, "--timestamp", stamps, "--authority", authority.file]
    done = packed(folder, *map(str, how))
    assert done.returncode == 0, done.stderr
    return folder


def verified(authority: Authority, *files: Path, signer: str = "release") -> subprocess.CompletedProcess[str]:
    """What ``sign.py`` says."""
    whose = ["--certificate", authority.file.with_name(f"{signer}.pem"), "--authority", authority.file]
    command = [sys.executable, ROOT / "packaging" / "sign.py", *files, *whose]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def test_program_and_package_are_signed_and_the_package_holds_the_signed_program(
    release: Path, authority: Authority, tmp_path: Path
) -> None:
    (msi,) = release.glob("*.msi")
    subprocess.run(["msiextract", "-C", tmp_path, msi], check=True, stdout=subprocess.DEVNULL)
    installed = tmp_path / "Fieldwatch"
    done = verified(authority, msi, installed / PROGRAM)
    assert done.returncode == 0, done.stderr
    for file in (msi, installed / PROGRAM):
        command = ["osslsigncode", "verify", "-CAfile", authority.file, "-TSA-CAfile", authority.file, "-in", file]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        assert "Timestamp time: N/A" not in said and "/CN=stamps" in said, "it outlives its certificate"
    assert sbom.differences((installed / payload.SBOM).read_text(encoding="utf-8"), installed) == []


def test_what_is_changed_unsigned_or_another_s_is_refused(
    package: Path, release: Path, authority: Authority, tmp_path: Path
) -> None:
    (msi,) = release.glob("*.msi")
    for file in (msi, release / payload.NAME / PROGRAM):
        changed = tmp_path / file.name
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        changed.write_bytes(content)
        assert verified(authority, changed).returncode == 1, file
    for file in (package, DIST / payload.NAME / PROGRAM):
        done = verified(authority, file)
        assert done.returncode == 1 and "no signature with" in done.stderr, file
    authority.issue("somebody-else", use=ExtendedKeyUsageOID.CODE_SIGNING)
    assert verified(authority, msi, signer="somebody-else").returncode == 1
    (tmp_path / "other").mkdir()
    other = Authority(tmp_path / "other", "authority")
    shutil.copy(authority.file.with_name("release.pem"), tmp_path / "other")
    assert verified(other, msi).returncode == 1, "an authority that is not trusted"


def test_a_key_that_does_not_fit_or_does_not_open_signs_nothing(authority: Authority, tmp_path: Path) -> None:
    certificate, key = authority.issue("fits", use=ExtendedKeyUsageOID.CODE_SIGNING, passphrase=SECRET)
    _, other = authority.issue("other", passphrase=SECRET)
    before = (DIST / payload.NAME / PROGRAM).read_bytes()
    for wrong, passphrase in ((other, SECRET), (key, "mistyped")):
        how = ("--certificate", str(certificate), "--key", str(wrong), "--authority", str(authority.file))
        done = packed(tmp_path, *how, passphrase=passphrase)
        assert done.returncode == 1 and "cannot be signed with" in done.stderr, done.stderr
        assert not list(tmp_path.glob("*.msi")) and (tmp_path / payload.NAME / PROGRAM).read_bytes() == before


def test_what_is_signed_installs_and_runs(release: Path, tmp_path: Path) -> None:
    (msi,) = release.glob("*.msi")
    pc = windows.Wine(tmp_path / "pc")
    pc.furnish(windows.parts(ROOT / "build" / "windows" / "parts"))
    with pc.awake():
        pc.run("msiexec", "/i", windows.windows_path(msi), "/qn", timeout=900)
        installed = pc.c / "Program Files" / "Fieldwatch" / PROGRAM
        assert installed.read_bytes() == (release / payload.NAME / PROGRAM).read_bytes()
        assert payload.version() in pc.run(rf"C:\Program Files\Fieldwatch\{PROGRAM}", "version").stdout
