"""Enrols this device: from an address and a token to key, certificate, trust root and ``agent.toml``.

Each step can be repeated. The key is on the disk before it is used, so that an answer that was lost on its way is asked
for again with the same key, which the server answers again. Nothing replaces an identity that is there.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
from fieldwatch_contract.enrolment import NO_PIN, Enrolled, Token, TokenError, digest

from fieldwatch_agent import durable, places
from fieldwatch_agent.enrol import settings as file
from fieldwatch_agent.enrol.client import Client, Refused, trusted_authority
from fieldwatch_agent.enrol.identity import IdentityError, check, key_text, new_key, read_key, request
from fieldwatch_agent.enrol.settings import CA, IDENTITY, ROOT, UPDATES_CA

PENDING = "request.key"
"""The key while the certificate is being asked for."""


@dataclass(frozen=True)
class Wish:
    """What the person at the device says. ``log``: the keys of ``[log]``; None where ``config`` exists already."""

    url: str
    token: str
    config: Path
    state: Path
    device: str | None = None
    device_type: str | None = None
    log: Mapping[str, Any] | None = None


def enroll(wish: Wish, say: Callable[[str], None]) -> Enrolled:
    """Enrol and write the files; ``say`` is told each thing that was done.

    Raises :class:`.client.Refused`, :class:`.client.Unreachable`, :class:`.identity.IdentityError` or :class:`OSError`.
    """
    token = _token(wish)
    folder = wish.state / "identity"
    if (folder / IDENTITY).exists():
        raise Refused(
            f"this device is enrolled already: {folder / IDENTITY}. To enrol it anew, move {folder} away and ask for "
            "a token with --replace"
        )
    if not wish.config.exists() and wish.log is None:
        raise Refused(f"{wish.config} does not exist yet: say where the device's log is, with --log PATH")
    _check_config(wish.config)
    authority = trusted_authority(wish.url, token)
    say(f"{urlsplit(wish.url).hostname} is the server that the token means")
    if not folder.is_dir():
        durable.make_folder(folder)
        places.close_to_others(folder)
    key = _key(folder / PENDING)
    answer = Client(wish.url, authority).enrol(token, wish.device, request(key))
    ca = authority or answer.ca.encode()
    check(answer.certificate.encode(), ca, key, answer.device)
    _write_trust(folder, answer, ca, token)
    _write_config(wish, answer, folder, say)
    write_identity(folder / IDENTITY, key, answer.certificate.encode())  # last: with it, the device is enrolled
    durable.remove(folder / PENDING)  # one that a scanner holds stays: it is the same key
    places.give_to_service(wish.state)
    say(f"{answer.device} is enrolled: key and certificate in {folder}")
    return answer


def write_identity(path: Path, key: EllipticCurvePrivateKey, certificate: bytes) -> None:
    """Write key and certificate as one file, readable only by its owner, in place of the one that is there."""
    durable.write(path, key_text(key) + certificate, private=True)


def _token(wish: Wish) -> Token:
    if urlsplit(wish.url).scheme != "https" or not urlsplit(wish.url).hostname:
        raise Refused(
            f"{wish.url!r} is no address of an enrolment service, such as https://fieldwatch.example.org:8443"
        )
    try:
        return Token.parse(wish.token)
    except TokenError as error:
        raise Refused(str(error)) from error


def _key(path: Path) -> EllipticCurvePrivateKey:
    if path.exists():
        return read_key(path.read_bytes())
    key = new_key()
    durable.write(path, key_text(key), private=True)
    return key


def _write_trust(folder: Path, answer: Enrolled, ca: bytes, token: Token) -> None:
    durable.write(folder / CA, ca)
    if answer.updates is None:
        return
    root = answer.updates.root.encode()
    if token.root != NO_PIN and digest(root) != token.root:
        raise IdentityError(
            "the server sent another trust root for updates than the token means: nothing was installed"
        )
    durable.write(folder / ROOT, root)
    if answer.updates.ca is not None:
        durable.write(folder / UPDATES_CA, answer.updates.ca.encode())


def _check_config(path: Path) -> None:
    """Raise :class:`.client.Refused` where the file that is there could not be added to: before the token is used."""
    try:
        tomllib.loads(durable.read(path).decode("utf-8-sig"))
    except FileNotFoundError:
        return
    except ValueError as error:
        raise Refused(f"{path} is no TOML text in UTF-8: {error}; correct it first ('check' names the line)") from error


def _write_config(wish: Wish, answer: Enrolled, folder: Path, say: Callable[[str], None]) -> None:
    """Write ``agent.toml``, or add to the one that is there what it lacks."""
    updates = answer.updates
    given = file.Enrolled(
        url=wish.url,
        broker=answer.broker,
        identity=folder,
        updates=updates.url if updates else None,
        channel=updates.channel if updates else "stable",
        updates_ca=updates is not None and updates.ca is not None,
    )
    if wish.config.exists():
        text = durable.read(wish.config).decode("utf-8-sig")
        there = tomllib.loads(text)
        sections = {name: made for name, made in file.cloud_sections(given).items() if name not in there}
        if "mqtt" in there:
            say(f"{wish.config} has a broker already: its [mqtt] stays as it is")
        if sections:
            try:
                made = file.replace(text, sections)
            except file.NotReplaceable as error:
                raise Refused(f"{wish.config} {error}") from error
            durable.write(wish.config, made.encode())
            say(f"added {', '.join(f'[{name}]' for name in sections)} to {wish.config}")
        return
    if (kind := wish.device_type or answer.device_type) is None:
        raise Refused("the device's type is not known there: say it with --type, such as --type press")
    whole = file.Settings(answer.device, kind, wish.log or {}, wish.state, given)
    durable.make_folder(wish.config.parent)
    durable.write(wish.config, file.render(whole).encode())
    say(f"wrote {wish.config}")
