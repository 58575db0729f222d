"""Keys that never leave their place sign what devices accept: a PKCS #11 token, a cloud's key service.

The token is SoftHSM's and the service moto's: the real programs of the protocol, without the hardware.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest
from fieldwatch_agent.update.updater import pull
from fieldwatch_trainer.release.__main__ import main
from fieldwatch_trainer.release.errors import ReleaseError
from fieldwatch_trainer.release.folder import Folder
from fieldwatch_trainer.release.keys import generate, save, save_reference
from fieldwatch_trainer.release.verify import verify

from tests.conftest import ROOT, softhsm_module
from tests.objectstores import running
from tests.updates import Site

MAKE = """
import sys
import pkcs11, pkcs11.util.ec as ec
from pkcs11 import Attribute, KeyType
token = pkcs11.lib(sys.argv[1]).get_token(token_label="press")
with token.open(rw=True, user_pin="4711") as session:
    curve = {Attribute.EC_PARAMS: ec.encode_named_curve_parameters("secp256r1")}
    for number in (2, 3):
        made = session.create_domain_parameters(KeyType.EC, curve, local=True)
        _, private = made.generate_keypair(store=True, id=bytes([number]), label=f"prod-{number}")
        assert private[Attribute.NEVER_EXTRACTABLE]
"""
"""Two keys made inside the token."""


@pytest.fixture
def token(tmp_path: Path) -> Mapping[str, str]:
    """A token with two keys; the environment by which programs find it."""
    (tmp_path / "tokens").mkdir()
    conf = tmp_path / "softhsm2.conf"
    conf.write_text(f"directories.tokendir = {tmp_path / 'tokens'}\nobjectstore.backend = file\n")
    module = str(softhsm_module())
    env = os.environ | {"SOFTHSM2_CONF": str(conf), "PYKCS11LIB": module, "FIELDWATCH_RELEASE_PASSPHRASE": "4711"}
    init = ["softhsm2-util", "--init-token", "--free", "--label", "press", "--so-pin", "0815", "--pin", "4711"]
    subprocess.run(init, env=env, check=True, capture_output=True)
    subprocess.run([sys.executable, "-c", MAKE, module], env=env, check=True)
    return env


def release(env: Mapping[str, str], *words: str | Path) -> tuple[int, str]:
    """Run the command as a process: a PKCS #11 module is opened once in each."""
    command = [sys.executable, "-m", "fieldwatch_trainer.release", *map(str, words)]
    done = subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


@pytest.mark.soak
@pytest.mark.softhsm
def test_keys_in_a_token_publish_what_a_device_accepts(
    site: Site, token: Mapping[str, str], tmp_path: Path, v1: bytes
) -> None:
    desk, bundle, installed = tmp_path / "desk", tmp_path / "v1.zip", site.root
    where = ["--repo", site.repo, "--keys", site.keys, "--keys", desk]
    bundle.write_bytes(v1)
    for number, old in ((2, "prod-1"), (3, "prod-2")):
        name = f"prod-{number + 2}"
        code, said = release(token, "keys", "new", name, "--keys", desk, "--uri", f"hsm:{number}?label=press")
        assert (code, f"it names hsm:{number}?label=press" in said) == (0, True), said
        code, said = release(token, "keys", "rotate", old, "--public", desk / f"{name}.pub", *where)
        assert (code, f"{name} (" in said) == (0, True), said
    assert not list(desk.glob("*.pem")), "no private half is here"
    for name in ("prod-1", "prod-2", "prod-3"):
        (site.keys / f"{name}.pem").unlink()

    publish = ["publish", bundle, "--channel", "stable", "--accept", "no-gates", *where]
    for wrong, says in (
        ({"FIELDWATCH_RELEASE_PASSPHRASE": "0000"}, "prod-4 does not sign prod: PinIncorrect; nothing is put out"),
        ({"PYKCS11LIB": ""}, "prod-4 does not sign prod: PYKCS11LIB environment variable must be set"),
        ({"SOFTHSM2_CONF": str(tmp_path / "none")}, "prod-4 does not sign prod:"),
    ):
        code, said = release({**token, **wrong}, *publish)
        assert (code, says in said) == (1, True), said
    code, said = release(token, *publish)
    assert code == 0, said
    assert verify(str(site.repo), installed).bundles == ["prod/press/v1.zip"]
    assert Folder(site.repo).load(datetime.now(UTC)).signed_by("prod") == ["prod-4", "prod-5"]
    result = pull(site.repo, installed, tmp_path / "state", "press-0001", "press", "stable")
    assert (result.outcome, result.bundle) == ("activated", "press/v1")


@pytest.mark.soak
@pytest.mark.softhsm
def test_what_a_token_does_not_have_is_told(token: Mapping[str, str], tmp_path: Path) -> None:
    for uri, code, says in (
        ("hsm:9?label=press", 1, "hsm:9?label=press does not give its public key: could not find ECDSA key"),
        ("hsm:2?label=mill", 1, "does not give its public key: No PKCS#11 token found for label mill"),
        ("hsm:two", 2, "a token's keys have numbers"),
        ("hsm", 2, "names no key: write hsm:…"),
        ("file:x.pem", 2, "names no key: write hsm:…"),
        ("azurekms:prod-2", 2, "name vault and key"),
    ):
        done = release(token, "keys", "new", "prod-4", "--keys", tmp_path / "desk", "--uri", uri)
        assert (done[0], says in done[1]) == (code, True), done
    assert not list((tmp_path / "desk").glob("*"))


def test_a_cloud_service_is_asked_and_a_signature_of_it_that_does_not_hold_gets_nowhere(
    site: Site, tmp_path: Path, v1: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    """AWS's protocol, spoken by moto's server: it gives keys as AWS does, but hashes once more before it signs, so that
    its signatures are wrong ones. With AWS itself this has not been run.
    """
    import boto3

    with running("s3", tmp_path):
        kms = boto3.client("kms")
        key = kms.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")["KeyMetadata"]["KeyId"]
        desk = tmp_path / "desk"
        assert main(["keys", "new", "policy-3", "--keys", str(desk), "--uri", f"awskms:{key}"]) == 0
        where = ["--repo", str(site.repo), "--keys", str(site.keys), "--keys", str(desk)]
        assert main(["keys", "rotate", "policy-1", "--public", str(desk / "policy-3.pub"), *where]) == 0
        (site.keys / "policy-2.pem").unlink()
        bundle = tmp_path / "v1.zip"
        bundle.write_bytes(v1)
        capsys.readouterr()
        before = (site.repo / "metadata" / "timestamp.json").read_bytes()
        publish = ["publish", str(bundle), "--channel", "stable", "--accept", "no-gates", *where]
        assert main(publish) == 1
        assert "prod-policy: its signatures do not hold; devices would refuse it" in capsys.readouterr().err
        assert (site.repo / "metadata" / "timestamp.json").read_bytes() == before
    assert verify(str(site.repo), site.root).bundles == []


@pytest.mark.parametrize(
    ("uri", "says"),
    [
        ("gcpkms:projects/p/locations/l/keyRings/r/cryptoKeys/k/cryptoKeyVersions/1", "google-cloud-kms"),
        ("azurekms:press-vault/prod-2", "azure"),
        ("hv:prod-2", "hvac"),
    ],
)
def test_other_services_are_only_addressed(
    uri: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Neither the services nor programs like them are here, nor their libraries: what is held is that this is said."""
    assert main(["keys", "new", "prod-4", "--keys", str(tmp_path / "desk"), "--uri", uri]) == 1
    said = capsys.readouterr().err
    assert says in said
    assert "install this service's extra of securesystemslib" in said


def test_a_reference_is_not_put_over_a_key(tmp_path: Path) -> None:
    save(tmp_path, generate(["prod-4"]))
    key = generate(["x"])["x"].public_key
    with pytest.raises(ReleaseError, match=r"prod-4\.pem exists: keys are never replaced"):
        save_reference(tmp_path / "prod-4.uri", "hsm:2", key)
