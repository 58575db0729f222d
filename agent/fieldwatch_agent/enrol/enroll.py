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
from fieldwatch_contract import addresses
from fieldwatch_contract.enrolment import NO_PIN, Enrolled, Token, TokenError, digest
from fieldwatch_contract.topics import DEVICE_ID

from fieldwatch_agent import durable, places
from fieldwatch_agent.config import load, parse
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

    Raises :class:`.client.Refused`, :class:`.client.Unreachable`, :class:`.config.ConfigError`,
    :class:`.identity.IdentityError`, :class:`.settings.Unwritable` or :class:`OSError`.
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
    device = _prepared(wish, folder)
    authority = trusted_authority(wish.url, token)
    say(f"{urlsplit(wish.url).hostname} is the server that the token means")
    if not folder.is_dir():
        durable.make_folder(folder)
        places.close_to_others(folder)
    key = _key(folder / PENDING)
    answer = Client(wish.url, authority).enrol(token, device, request(key))
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
    try:
        addresses.web(wish.url, "https://host:8443", ["https"])
    except ValueError as error:
        raise Refused(f"the enrolment service's address: {error}") from error
    try:
        return Token.parse(wish.token)
    except TokenError as error:
        raise Refused(str(error)) from error


def _key(path: Path) -> EllipticCurvePrivateKey:
    if path.exists():
        try:
            return read_key(path.read_bytes())
        except IdentityError as error:
            raise IdentityError(f"{path}: {error}; remove it, and ask for a new token if this one was used") from error
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


def _prepared(wish: Wish, folder: Path) -> str | None:
    """Return the device's id, None where only the token knows it.

    Raises what :func:`enroll` does where ``agent.toml`` could not be used afterwards: before the token is used.
    """
    if wish.device is not None and not DEVICE_ID.fullmatch(wish.device):
        raise Refused(f"the device's id {wish.device!r} must be 3 to 64 of a-z, 0-9 and '-', for example press-0001")
    if wish.config.exists():
        there = load(wish.config).device.id
        if wish.device not in {None, there}:
            raise Refused(f"{wish.config}: [device] id is {there!r}, and not {wish.device!r}: correct one of them")
        return there
    sample = file.Enrolled(wish.url, "mqtts://broker", folder, None, "stable", False)
    text = file.render(
        file.Settings(wish.device or "device", wish.device_type or "type", wish.log or {}, wish.state, sample)
    )
    parse(wish.config, text)
    return wish.device


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
        there, made = tomllib.loads(text), file.cloud_sections(given)
        sections = {name: section for name, section in made.items() if name not in there}
        for name in made.keys() & there.keys():
            new = tomllib.loads(made[name])[name]["url"]
            stays = f"{wish.config} has [{name}] already, which stays as it is"
            say(stays if there[name].get("url") == new else f"{stays}: its url is not {new}, as enrolment says")
        if sections:
            try:
                whole = file.replace(text, sections)
            except file.Unwritable as error:
                raise Refused(f"{wish.config} {error}") from error
            parse(wish.config, whole)
            durable.write(wish.config, whole.encode())
            say(f"added {', '.join(f'[{name}]' for name in sections)} to {wish.config}")
        return
    if (kind := wish.device_type or answer.device_type) is None:
        raise Refused("the device's type is not known there: say it with --type, such as --type press")
    text = file.render(file.Settings(answer.device, kind, wish.log or {}, wish.state, given))
    parse(wish.config, text)
    durable.make_folder(wish.config.parent)
    durable.write(wish.config, text.encode())
    say(f"wrote {wish.config}")
