"""Builds the MSI package around the agent that was frozen for Windows: ``dist/fieldwatch-agent-VERSION-x64.msi``.

It runs on Linux, with ``wixl`` of msitools. What it promises:

* It puts the program in ``C:\\Program Files\\Fieldwatch``, with its licence, its SBOM and the licences of its parts,
  and nothing else. With ``ENROLL_URL`` it also runs ``setup`` and ``service install``, so that one silent command makes
  a device that scores; ``docs/install-windows.md`` has it.
* A newer version replaces an older one: the services of all instruments are removed, the program is exchanged, they
  are made again and started. An older one is refused.
* Removal takes the program and the services away, and keeps configuration and state.
* The same folder gives the same product, package and component codes and the same bytes.
* With ``--certificate`` and ``--key`` the program is signed, its new digest goes into the SBOM, and the package around
  it is signed too (``sign.py``).

The services are made by the program itself, as for those who install without this package: MSI's own table knows
neither a virtual account nor restarts.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import re
import struct
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import sbom
from parts import PartError, sha256
from payload import EPOCH, LICENCES, NAME, ROOT, SBOM, newer, settle, version
from sign import PASSPHRASE, Signer, SigningError

SPACE = uuid.UUID("6f9d2c1e-6a0b-5b52-9d0f-0b6a3a1e7f11")
"""From it and a name each code is computed, so that it never changes."""
UPGRADE = str(uuid.uuid5(SPACE, "upgrade")).upper()
PROGRAM = f"{NAME}.exe"
DEFERRED_EXE, HIDDEN = 0xC52, 0x2000
"""Types of actions: a program of the package, run by the installer's service, its result ignored; not to be logged."""
FILETIME = 11_644_473_600
"""Seconds from 1601, where Windows' times begin, to 1970."""
SETUP = 'setup --yes --url "[ENROLL_URL]" --token "[TOKEN]" --log "[LOG_PATH]" --device "[DEVICE_ID]"'
ACTS = {
    "RemoveServices": ("service uninstall --all", "ignore", "InstallInitialize", 'REMOVE="ALL"'),
    "Setup": (SETUP, "ignore", "InstallFiles", "NOT REMOVE AND ENROLL_URL"),
    "InstallService": ("service install", "check", "Setup", "NOT REMOVE AND ENROLL_URL"),
    "RenewServices": ("service install --all", "ignore", "InstallService", "WIX_UPGRADE_DETECTED"),
}
"""What the installer runs: command, what its exit code means, after what, and when.

``setup`` ends with 3 where the doctor finds something; without a configuration ``service install`` fails, and with it
the installation. In an upgrade the older package removes all services, as in a removal: Wine does not tell it that it
is being replaced, so no condition may hang on that."""


def code(name: str) -> str:
    """Return the code that belongs to a name."""
    return str(uuid.uuid5(SPACE, name)).upper()


def identifier(path: str) -> str:
    """Return an id of the installer's tables for a path."""
    return "_" + hashlib.sha256(path.encode()).hexdigest()[:24]


def wxs(folder: Path, number: str) -> str:
    """Return the package's description, in the language of WiX 3."""
    root = ElementTree.Element("Wix", xmlns="http://schemas.microsoft.com/wix/2006/wi")
    product = ElementTree.SubElement(
        root, "Product", Id=code(f"product {number}"), Name="Fieldwatch agent", Language="1033", Version=number,
        Manufacturer="Fieldwatch", UpgradeCode=UPGRADE,
    )  # fmt: skip
    ElementTree.SubElement(
        product, "Package", Id=code(f"package {number}"), InstallerVersion="500", Compressed="yes",
        InstallScope="perMachine", Description="Fieldwatch agent",
    )  # fmt: skip
    ElementTree.SubElement(
        product, "MajorUpgrade", DowngradeErrorMessage="A newer version of the Fieldwatch agent is installed."
    )
    ElementTree.SubElement(product, "Media", Id="1", Cabinet="agent.cab", EmbedCab="yes")
    # what they say must not be in the installer's log
    ElementTree.SubElement(product, "Property", Id="MsiHiddenProperties", Value="TOKEN;Setup")
    target = ElementTree.SubElement(product, "Directory", Id="TARGETDIR", Name="SourceDir")
    programs = ElementTree.SubElement(target, "Directory", Id="ProgramFiles64Folder")
    place = ElementTree.SubElement(programs, "Directory", Id="INSTALLDIR", Name="Fieldwatch")
    components = _files(place, folder, folder)
    for path in (ROOT / "LICENSE", folder.parent / SBOM, folder.parent / LICENCES):
        components.append(_file(place, path.name, Path(os.path.relpath(path, folder)).as_posix()))
    feature = ElementTree.SubElement(product, "Feature", Id="Agent", Level="1")
    for component in components:
        ElementTree.SubElement(feature, "ComponentRef", Id=component)
    sequence = ElementTree.Element("InstallExecuteSequence")
    for name, (command, result, after, when) in ACTS.items():
        ElementTree.SubElement(
            product, "CustomAction", Id=name, FileKey=identifier(PROGRAM), ExeCommand=command, Execute="deferred",
            Impersonate="no", Return=result,
        )  # fmt: skip
        ElementTree.SubElement(sequence, "Custom", Action=name, After=after).text = when
    product.append(sequence)
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True)


def _files(into: ElementTree.Element, folder: Path, top: Path) -> list[str]:
    """Describe what lies in a folder; return the components, one a file."""
    components = []
    for path in sorted(folder.iterdir()):
        name = path.relative_to(top).as_posix()
        if path.is_dir():
            inner = ElementTree.SubElement(into, "Directory", Id="d" + identifier(name), Name=path.name)
            components += _files(inner, path, top)
            continue
        components.append(_file(into, name, name))
    return components


def _file(into: ElementTree.Element, name: str, source: str) -> str:
    """Describe a file that goes to ``name`` below the program's folder; return its component."""
    component = "c" + identifier(name)
    made = ElementTree.SubElement(into, "Component", Id=component, Guid=code(f"file {name}"), Win64="yes")
    last = name.rpartition("/")[2]
    ElementTree.SubElement(made, "File", Id=identifier(name), Name=last, Source=source, KeyPath="yes")
    return component


def build(program: Path, dist: Path, number: str) -> Path:
    """Build the package and return its path.

    Raises :class:`OSError`, :class:`ValueError` or :class:`subprocess.CalledProcessError`.
    """
    settle(program)
    description = dist.resolve() / f"{NAME}.wxs"
    description.write_text(wxs(program, number), encoding="utf-8")
    out = dist.resolve() / f"{NAME}-{number}-x64.msi"
    fixed = os.environ | {"SOURCE_DATE_EPOCH": str(EPOCH)}
    subprocess.run(["wixl", "-a", "x64", "-o", str(out), str(description)], check=True, env=fixed, cwd=program)
    description.unlink()
    hide = "UPDATE `CustomAction` SET `Type` = {} WHERE `Action` = 'Setup'"
    subprocess.run(["msibuild", str(out), "-q", hide.format(DEFERRED_EXE | HIDDEN)], check=True)
    out.write_bytes(settled(out.read_bytes(), code(f"package {number}")))
    return out


def settled(data: bytes, package: str) -> bytes:
    """Return a package whose package code and times are the same each time: wixl draws the one and takes the others.

    They follow each other in the summary information: a text, and twice VT_FILETIME (64) with eight bytes.

    Raises :class:`ValueError` where they are not found there.
    """
    moment = struct.pack("<Q", (EPOCH + FILETIME) * 10**7)
    drawn = rb"\{[0-9A-F]{8}(?:-[0-9A-F]{4}){3}-[0-9A-F]{12}\}(\0\0\x40\0\0\0).{8}(\x40\0\0\0).{8}"
    made, found = re.subn(
        drawn, lambda m: b"{%s}%s%s%s%s" % (package.encode(), m[1], moment, m[2], moment), data, flags=re.S
    )
    if found != 1:
        raise ValueError(f"{found} package codes with two times behind them, one was expected: another wixl?")
    return made


def sign_program(signer: Signer, folder: Path, *how: Any) -> None:
    """Sign the frozen agent's program, ``how`` as :meth:`Signer.sign` has it; its new digest goes into the SBOM.

    Raises :class:`SigningError`, :class:`PartError` or :class:`OSError`.
    """
    program, document = folder / PROGRAM, folder.parent / SBOM
    before = sha256(program)
    signer.sign(program, *how)
    text = sbom.signed(document.read_text(encoding="utf-8"), PROGRAM, before, sha256(program))
    document.write_text(text, encoding="utf-8")


def main() -> int:
    """Build; 0 done, 1 failed."""
    parser = argparse.ArgumentParser(description="Build the MSI.", epilog="example: python packaging/msi.py")
    parser.add_argument("--dist", type=Path, default=ROOT / "dist", help="where the package goes")
    parser.add_argument("--program", type=Path, default=ROOT / "dist" / "windows" / NAME, help="the frozen agent")
    parser.add_argument("--newer", action="store_true", help="as the next version, to try an upgrade")
    parser.add_argument("--certificate", type=Path, help="PEM, the signer's own first, then those up to the authority")
    parser.add_argument("--key", help=f"its key, a file or pkcs11: URI; {PASSPHRASE} may hold passphrase or PIN")
    parser.add_argument("--module", type=Path, help="PKCS #11 library of the key's token")
    parser.add_argument("--timestamp", metavar="URL", help="service after RFC 3161; without it signatures expire")
    parser.add_argument("--authority", type=Path, help="PEM, roots of both; default: the system's")
    options = parser.parse_args()
    if (options.certificate is None) != (options.key is None):
        parser.error("--certificate and --key belong together")
    how = (options.key, options.module, options.timestamp)
    signer = Signer(options.certificate, options.authority) if options.key else None
    try:
        if signer:
            sign_program(signer, options.program, *how)
        out = build(options.program, options.dist, newer() if options.newer else version())
        if signer:
            signer.sign(out, *how)
    except (OSError, ValueError, subprocess.CalledProcessError, SigningError, PartError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{out}: {out.stat().st_size / 1e6:.0f} MB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
