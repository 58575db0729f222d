"""What the frozen agent's folder consists of: each component with version, licence and the native files that are its.

Promise: nothing is guessed and nothing left out. Every native file, every Python module and the metadata of every
distribution in the folder belongs to a component, or :class:`PartError` names it. Where a statement comes from:

* Python packages: the metadata of the distribution that a module or file is of, in the environment that froze it;
* what is linked into a package's native code: the SBOMs that its wheel carries (PEP 770), else :data:`INSIDE`;
* libraries that a wheel brings along as files: :data:`VENDORED`; their version is read from the file, or is that which
  the package says of itself;
* libraries of the system: the Debian package that owns a file with exactly these bytes, under the name and version of
  its source, as advisories have them;
* on Windows libraries that lie with exactly these bytes beside the interpreter: they are its own, or
  :data:`BESIDE_PYTHON` says whose; Microsoft's runtime may be that of the system folder too.

Not named, because nobody states it: what onnxruntime links in statically, whose ``ThirdPartyNotices.txt`` lists names
without versions, and on Windows the xz in Python's own ``_lzma.pyd``. An advisory for one of them is answered by
onnxruntime's or Python's version.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib import metadata
from pathlib import Path

from licences import stated
from payload import NAME

OURS = frozenset({"fieldwatch_agent", "fieldwatch_contract", "launch"})
MAGIC = (b"\x7fELF", b"MZ", b"\xcf\xfa\xed\xfe", b"\xca\xfe\xba\xbe")
"""How a native file begins: Linux, Windows, macOS."""
PYTHON = "cpython"
BOOTLOADER = "pyinstaller"


class PartError(Exception):
    """Something in the folder is of unknown origin; the message names it and says what would help."""


@dataclass(frozen=True, order=True)
class Part:
    """A component. ``licence``: an SPDX expression, empty where nobody states one. ``files``: paths in the folder and
    their sha256. ``inside``: what is linked into those files. ``texts``: where its licence can be read.
    """

    name: str
    version: str
    purl: str
    licence: str = ""
    files: tuple[tuple[str, str], ...] = ()
    inside: tuple[Part, ...] = ()
    texts: tuple[Path, ...] = ()


Version = Callable[[Path], str]
"""Finds a library's version, empty where it is not there."""


@dataclass(frozen=True)
class Vendored:
    """A library that somebody brings along as a file; ``linked``: what is linked into it."""

    name: str
    file: re.Pattern[str]
    version: Version
    licence: str
    linked: tuple[tuple[str, Version, str], ...] = ()


def _said(pattern: bytes) -> Version:
    """Find the version in the file's bytes."""

    def version(path: Path) -> str:
        found = re.search(pattern, path.read_bytes())
        return found[1].decode() if found else ""

    return version


def _named(pattern: str) -> Version:
    """Find the version in the file's name."""

    def version(path: Path) -> str:
        found = re.fullmatch(pattern, path.name)
        return found[1] if found else ""

    return version


def resource_version(path: Path) -> str:
    """Return the version that a file for Windows carries for its properties, without a fourth number that is 0."""
    before = "VS_VERSION_INFO".encode("utf-16-le") + rb"\0+\xbd\x04\xef\xfe.{4}"
    found = re.search(before + rb"(.{8})", path.read_bytes(), re.S)
    if found is None:
        return ""
    high, low = struct.unpack("<2I", found[1])
    return f"{high >> 16}.{high & 0xFFFF}.{low >> 16}.{low & 0xFFFF}".removesuffix(".0")


FFI = {"eff52743773eb550fcc6ce3efc37c85724502233b6b002a35496d828bd7b280a": "3.4.4"}


def _ffi(path: Path) -> str:
    """Tell it by the bytes, those of a tag of github.com/python/cpython-bin-deps: the file does not say it."""
    return FFI.get(sha256(path), "")


def _openblas(_: Path) -> str:
    """Tell OpenBLAS's own number; numpy's builders append theirs. On Windows the file does not say it in one piece."""
    import numpy

    told = str(numpy.show_config(mode="dicts")["Build Dependencies"]["blas"]["version"])  # type: ignore[call-overload]
    return ".".join(told.split(".")[:3])


GCC = "GPL-3.0-or-later WITH GCC-exception-3.1"
MSVC = Vendored("microsoft-visual-cpp-runtime", re.compile(r"(msvcp|vcruntime)140[\w-]*\.dll", re.I), resource_version,
                "LicenseRef-Microsoft-Distributable-Code")  # fmt: skip
VENDORED = (
    Vendored("openblas", re.compile(r"lib(scipy_)?openblas.*"), _openblas, "BSD-3-Clause",
             (("gcc", _said(rb"/gcc-(\d+\.\d+\.\d+)/libgfortran/"), GCC),)),
    Vendored("libgfortran", re.compile(r"libgfortran-.*"), _named(r".*\.so\.([\d.]+)"), GCC),
    Vendored("libquadmath", re.compile(r"libquadmath-.*"), _named(r".*\.so\.([\d.]+)"), "LGPL-2.1-or-later"),
    MSVC,
)  # fmt: skip
BESIDE_PYTHON = (
    Vendored("openssl", re.compile(r"lib(crypto|ssl)-3.*\.dll"), resource_version, "Apache-2.0"),
    Vendored("sqlite3", re.compile(r"sqlite3\.dll"), resource_version, "blessing"),
    Vendored("libffi", re.compile(r"libffi-\d+\.dll"), _ffi, "MIT"),
    MSVC,
)  # fmt: skip
"""What Python for Windows brings along."""


def _zstd() -> str:
    import zstandard

    return ".".join(map(str, zstandard.ZSTD_VERSION))


def _expat() -> str:
    import pyexpat

    return pyexpat.EXPAT_VERSION.removeprefix("expat_")


def _mpdec() -> str:
    import _decimal

    return str(_decimal.__libmpdec_version__)


def _zlib() -> str:
    import zlib

    return zlib.ZLIB_RUNTIME_VERSION


def _bzip2() -> str:
    import _bz2

    return _said(rb"(\d+\.\d+\.\d+), \d+-\w{3}-\d{4}")(Path(str(_bz2.__file__)))


INSIDE: dict[str, tuple[tuple[str, Callable[[], str], str], ...]] = {
    "zstandard": (("zstd", _zstd, "BSD-3-Clause"),),
    PYTHON: (
        ("expat", _expat, "MIT"), ("libmpdec", _mpdec, "BSD-2-Clause"),
        *((("zlib", _zlib, "Zlib"), ("bzip2", _bzip2, "bzip2-1.0.6")) if sys.platform == "win32" else ()),
    ),
}  # fmt: skip
"""Linked in without a word in the wheel: name, version, licence."""


def natives(folder: Path) -> list[str]:
    """Return the paths in ``folder`` of all native files, sorted: programs and libraries, whatever they are called."""
    found = []
    for path in folder.rglob("*"):
        if path.is_file() and not path.is_symlink():
            with path.open("rb") as file:
                if file.read(4).startswith(MAGIC):
                    found.append(path.relative_to(folder).as_posix())
    return sorted(found)


def modules(program: Path) -> set[str]:
    """Return the top-level names of the Python modules within the frozen ``program``."""
    from PyInstaller.archive.readers import CArchiveReader

    archive = CArchiveReader(str(program))
    (packed,) = [name for name in archive.toc if name.endswith(".pyz")]
    names = [name for name in archive.toc if name != packed]
    return {name.partition(".")[0] for name in (*names, *archive.open_embedded_archive(packed).toc)}


def collect(folder: Path, tops: Iterable[str]) -> list[Part]:
    """Return the components of ``folder``, whose program has the Python modules ``tops``, in the order of their names.

    Raises :class:`PartError` where a file or module belongs to nobody, :class:`OSError` where a file cannot be read.
    """
    found: dict[str, Part] = {}
    files: dict[str, list[tuple[str, str]]] = {}
    owners = _owners()
    for path in natives(folder):
        part = _owner_of(folder, path, owners)
        found.setdefault(part.purl, part)
        files.setdefault(part.purl, []).append((path, sha256(folder / path)))
    loose, described = _importable(folder)
    for part in (
        *(_owner_of_module(top) for top in sorted({*tops, *loose} - OURS)),
        *(_distribution(_installed(name)) for name in sorted(described)),
    ):
        found.setdefault(part.purl, part)
    return sorted(_complete(folder, part, files.get(purl, [])) for purl, part in found.items())


def _importable(folder: Path) -> tuple[set[str], set[str]]:
    """Return what Python finds beside the program: modules as files and folders, and distributions with metadata."""
    modules, distributions = set(), set()
    for path in (folder / "_internal").glob("*"):
        if path.name.endswith(".dist-info"):
            distributions.add(path.name.partition("-")[0])
        elif path.suffix in {".py", ".pyc"} or (path.is_dir() and path.suffix != ".libs"):
            modules.add(path.stem if path.is_file() else path.name)
    return {name for name in modules if not re.fullmatch(r"python3[\d.]*|DLLs", name)}, distributions


def _installed(name: str) -> metadata.Distribution:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        raise PartError(
            f"{name}: its metadata is in the folder, but no Python package of that name here; freeze and "
            "list it in one environment"
        ) from None


def _complete(folder: Path, part: Part, files: list[tuple[str, str]]) -> Part:
    """Give a component its files, and what is inside them or was brought along by them."""
    own = []
    brought = [*part.inside, *_inside(part)]
    for path, digest in files:
        if (each := _vendored(path)) is None:
            own.append((path, digest))
        else:
            brought.append(replace(_brought(each, folder / path, path), files=((path, digest),)))
    return replace(part, files=tuple(own), inside=tuple(sorted(brought)))


def sha256(path: Path) -> str:
    """Return the file's digest in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@cache
def _owners() -> dict[str, metadata.Distribution]:
    """Return whose each native file of the environment is, by its path below site-packages."""
    found = {}
    for dist in metadata.distributions():
        for file in dist.files or ():
            if re.search(r"\.(so|pyd|dll|dylib)\b", file.name):
                found[file.as_posix()] = dist
    return found


def _owner_of(folder: Path, path: str, owners: dict[str, metadata.Distribution]) -> Part:
    place = path.removeprefix("_internal/")
    if path in {NAME, f"{NAME}.exe"}:
        return _distribution(metadata.distribution(BOOTLOADER))
    if place in owners:
        return _distribution(owners[place])
    if re.match(r"(python3[\d.]*/lib-dynload/|libpython3)", place):
        return _python()
    of_the_system = _of_windows if sys.platform == "win32" else _of_debian
    if "/" not in place and (part := of_the_system(folder / path)) is not None:
        return part
    raise PartError(
        f"{path}: of no Python package here, and neither the interpreter nor the system has a file with these bytes; "
        "freeze and list it in one environment, or name its origin in packaging/parts.py"
    )


def _owner_of_module(top: str) -> Part:
    if top in sys.stdlib_module_names or top.startswith("_sysconfigdata"):
        return _python()
    if top.startswith(("pyi_rth_", "pyimod", "pyiboot", "_pyi_")):
        return _distribution(metadata.distribution(BOOTLOADER))
    owners = _packages().get(top)
    if not owners:
        raise PartError(f"module {top}: of no Python package here; freeze and list it in one environment")
    return _distribution(metadata.distribution(owners[0]))


@cache
def _packages() -> Mapping[str, list[str]]:
    """Return whose each top-level module is. pywin32 names some by their path, and its folders not at all."""
    folders = {place.partition("/")[0]: [dist.name] for place, dist in _owners().items()}
    named = {re.split(r"[\\/]", name)[-1]: dists for name, dists in metadata.packages_distributions().items()}
    return folders | named


def _distribution(dist: metadata.Distribution) -> Part:
    name = re.sub(r"[-_.]+", "-", dist.name).lower()
    words = [dist.metadata.get(key) or "" for key in ("License-Expression", "License")]
    labels = [label for label in dist.metadata.get_all("Classifier", []) if label.startswith("License")]
    texts = [Path(str(dist.locate_file(file))) for file in dist.files or () if _is_licence(file)]
    return Part(
        name, dist.version, f"pkg:pypi/{name}@{dist.version}", stated(name, [*words, *labels]), texts=tuple(texts)
    )


def _is_licence(file: metadata.PackagePath) -> bool:
    upper = file.name.upper()
    at_home = ".dist-info" in file.parts[0] or len(file.parts) == 2
    return at_home and upper.startswith(("LICEN", "COPYING", "NOTICE", "THIRDPARTY")) and not upper.endswith(".PY")


def _python() -> Part:
    version = platform.python_version()
    library = Path("lib") / f"python{sys.version_info[0]}.{sys.version_info[1]}" if sys.platform != "win32" else Path()
    text = Path(sys.base_prefix) / library / "LICENSE.txt"
    return Part(PYTHON, version, f"pkg:generic/cpython@{version}", "PSF-2.0", texts=(text,) if text.is_file() else ())


def _of_windows(path: Path) -> Part | None:
    """Return whose a library is that lies, with the same name and bytes, beside this interpreter; not Wine's."""
    if b"Wine builtin DLL" in path.read_bytes():
        return None
    python = Path(sys.base_prefix)
    places = [python, python / "DLLs"]
    if MSVC.file.fullmatch(path.name):
        places.append(Path(os.environ["SYSTEMROOT"]) / "System32")
    if not any((each / path.name).is_file() and sha256(each / path.name) == sha256(path) for each in places):
        return None
    for each in BESIDE_PYTHON:
        if each.file.fullmatch(path.name):
            return _brought(each, path, path.name)
    return _python()


def _of_debian(path: Path) -> Part | None:
    """Return the Debian source that a library is of, if a package here has a file with the same name and bytes."""
    if shutil.which("dpkg-query") is None:
        return None
    asked = subprocess.run(["dpkg-query", "-S", f"*/{path.name}"], capture_output=True, text=True, check=False).stdout
    for line in asked.splitlines():
        package, _, place = line.partition(": ")
        if Path(place).name == path.name and Path(place).is_file() and sha256(Path(place)) == sha256(path):
            what = "${source:Package} ${source:Upstream-Version} ${Version} ${Architecture}"
            row = subprocess.run(["dpkg-query", "-W", "-f", what, package], capture_output=True, text=True, check=True)
            source, upstream, version, architecture = row.stdout.split()
            binary = package.partition(":")[0]
            purl = f"pkg:deb/debian/{binary}@{version.replace(':', '%3A').replace('+', '%2B')}?arch={architecture}"
            text = Path("/usr/share/doc") / binary / "copyright"
            upstream = re.sub(r"[.+~]dfsg.*$", "", upstream)
            return Part(source, upstream, purl, stated(source, []), texts=(text,) if text.is_file() else ())
    return None


def _vendored(path: str) -> Vendored | None:
    if ".libs/" not in path:
        return None
    for each in VENDORED:
        if each.file.fullmatch(Path(path).name):
            return each
    raise PartError(f"{path}: a library that a wheel brings along; name it in VENDORED of packaging/parts.py")


def _brought(each: Vendored, file: Path, path: str) -> Part:
    """Return the component that a file is, without the file; ``path``: what an error calls it."""
    version = each.version(file)
    if not version:
        raise PartError(f"{path}: its version is not where packaging/parts.py looks for it ({each.name})")
    inside = [
        Part(name, number, f"pkg:generic/{name}@{number}", licence)
        for name, find, licence in each.linked
        if (number := find(file))
    ]
    return Part(each.name, version, f"pkg:generic/{each.name}@{version}", each.licence, inside=tuple(inside))


def _inside(part: Part) -> list[Part]:
    """Return what is linked into the native files of a component."""
    found = [
        Part(name, version(), f"pkg:generic/{name}@{version()}", licence)
        for name, version, licence in INSIDE.get(part.name, ())
    ]
    if not part.purl.startswith("pkg:pypi/"):
        return found
    dist = metadata.distribution(part.name)
    for file in dist.files or ():
        if file.parent.name == "sboms" and file.suffix == ".json":
            document = json.loads(Path(str(dist.locate_file(file))).read_text(encoding="utf-8"))
            found += [_linked(component) for component in document.get("components", [])]
    return found


def _linked(component: dict[str, object]) -> Part:
    """Return a component of a wheel's own SBOM. Where it lay when the wheel was built is of no use to anybody."""
    name, version = str(component["name"]), str(component["version"])
    purl = str(component.get("purl") or f"pkg:generic/{name}@{version}").partition("?")[0]
    licences = component.get("licenses")
    words = []
    for each in licences if isinstance(licences, list) else []:
        one = each.get("license", {})
        words.append(str(each.get("expression") or one.get("id") or one.get("name")))
    return Part(name, version, purl, stated(name, words))
