"""Which devices a vulnerability of a component concerns: ``fieldwatch-cloud affected --component "onnxruntime<1.33"``.

Each device is in one of three groups, and only what is known to be well is in the last:

==============  ======================================================================================================
affected        it has the component in a version that the specifier names
unknown         nothing can be said: its agent tells no components, is another one than the agent that told, names this
                one in a version that cannot be compared, or does not name it
clear           it has the component, in other versions only
==============  ======================================================================================================

That a list does not name a component proves nothing: onnxruntime, for one, links in libraries without saying which.
Names are those of the SBOM, specifiers those of Python packages (PEP 440). Rust crates are not told: the SBOM has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from difflib import get_close_matches
from typing import Any

from fieldwatch_contract import clock
from packaging.requirements import InvalidRequirement, Requirement
from packaging.specifiers import Specifier
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from fieldwatch_cloud.store.inventory import Inventory

AGENT = "fieldwatch"
"""The component that every device tells: the agent itself."""


class ComponentError(ValueError):
    """A component that cannot be asked for, in words for whoever wrote it."""


@dataclass(frozen=True)
class Device:
    """A device in its group. ``versions`` of the component; ``why`` nothing can be said, "" where something can."""

    device: str
    versions: list[str]
    agent: str | None
    site: str
    last_contact: str
    why: str = ""


@dataclass(frozen=True)
class Answer:
    """Who has it; ``named``: how many devices have the component in any version; ``near``: names like it, if none."""

    component: str
    affected: list[Device]
    unknown: list[Device]
    clear: int
    named: int
    near: list[str]

    @property
    def well(self) -> bool:
        """Whether there are devices, all is known of them, and none is affected."""
        return bool(self.clear) and not self.affected and not self.unknown


def parse(text: str) -> Requirement:
    """Read a component with its versions. Raises :class:`ComponentError`."""
    try:
        wanted = Requirement(text)
    except InvalidRequirement as error:
        what = str(error).partition("\n")[0]
        raise ComponentError(f"--component {text!r}: {what}; write it as 'onnxruntime<1.33' or 'openssl'") from None
    if wanted.extras or wanted.marker or wanted.url:
        raise ComponentError(f"--component {text!r}: only a name and versions, as 'onnxruntime<1.33'")
    return wanted


def answer(wanted: Requirement, fleet: Sequence[Inventory], site: Callable[[str], str]) -> Answer:
    """Put each device into its group; ``site`` knows the site of a device that has none of its own."""
    name = canonicalize_name(wanted.name)
    affected, unknown, clear, named = [], [], 0, 0
    known: set[str] = set()
    for one in fleet:
        told = {canonicalize_name(key): versions for key, versions in (one.versions or {}).items()}
        if one.agent is not None:
            told[canonicalize_name(AGENT)] = [one.agent]
        known.update(told)
        versions = told.get(name, [])
        named += bool(versions)
        hit, why = _judge(wanted, versions, one)
        row = Device(one.device, versions, one.agent, one.site or site(one.device), clock.iso(one.last_seen), why)
        if hit:
            affected.append(row)
        elif why:
            unknown.append(row)
        else:
            clear += 1
    near = [] if named else get_close_matches(name, sorted(known), 3)
    return Answer(str(wanted), affected, unknown, clear, named, near)


def _judge(wanted: Requirement, versions: Sequence[str], one: Inventory) -> tuple[bool, str]:
    """Return whether one of ``versions`` is wanted; and why nothing can be said, "" where something can."""
    strange = []
    for version in versions:
        try:
            if all(_meets(Version(version), each) for each in wanted.specifier):
                return True, ""
        except InvalidVersion:
            strange.append(version)
    if strange:
        return False, f"version {', '.join(strange)} cannot be compared"
    if versions:
        return False, ""
    if one.versions is not None:
        within = "native libraries that others link in without saying so" if one.complete else "native libraries"
        return False, f"not in its list, where {within} are missing"
    if one.told_by is not None and one.told_by != one.agent:
        return False, f"its components were told by agent {one.told_by}, another one runs now"
    return False, "its agent has told no components"


def _meets(version: Version, wanted: Specifier) -> bool:
    """Tell whether a version meets one condition.

    ``<`` and ``>`` are taken by order alone, other than with packages: a release candidate of the version that mends
    something is before it, and proves nothing.

    >>> _meets(Version("1.33rc1"), Specifier("<1.33")), Specifier("<1.33").contains("1.33rc1", prereleases=True)
    (True, False)
    """
    if wanted.operator == "<":
        return version < Version(wanted.version)
    if wanted.operator == ">":
        return Version(version.public) > Version(wanted.version)
    return wanted.contains(version, prereleases=True)


def as_json(found: Answer) -> dict[str, Any]:
    """Return the answer for programs."""
    return asdict(found)


def text(found: Answer) -> str:
    """Return the answer for people."""
    total = len(found.affected) + len(found.unknown) + found.clear
    lines = [
        f"{found.component}: {len(found.affected)} of {total} devices affected, {len(found.unknown)} not known, "
        f"{found.clear} clear"
    ]
    if not found.named:
        near = f"; did you mean {', '.join(found.near)}?" if found.near else ""
        lines.append(f"No device has told a component of this name{near}")
    if found.affected:
        lines += ["Affected:", *_rows(found.affected)]
    if found.unknown:
        lines += ["Not known, so to be looked at:", *_rows(found.unknown)]
    return "\n".join(lines)


def _rows(devices: Sequence[Device]) -> list[str]:
    table = [
        (one.device, ", ".join(one.versions) or "-", f"agent {one.agent or '?'}", one.site or "-", one.last_contact)
        for one in devices
    ]
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return [
        "  " + "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        + (f"  {one.why}" if one.why else "")
        for row, one in zip(table, devices, strict=True)
    ]  # fmt: skip
