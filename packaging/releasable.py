"""``python packaging/releasable.py v1.2.3``: whether this checkout may be released under a tag; 3 if not.

The release workflow asks before it builds anything. What it holds together: tag, version, changelog, last day of
support, and that nobody can report a vulnerability to a placeholder. Needs nothing but Python.
"""

from __future__ import annotations

import re
import sys
import tomllib
from datetime import UTC, date, datetime
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def objections(root: Path, tag: str, today: date) -> list[str]:
    """Return what stands against releasing the checkout at ``root`` as ``tag``, a sentence each."""
    found = []
    version = str(tomllib.loads(_text(root, "pyproject.toml"))["project"]["version"])
    if tag != f"v{version}":
        found.append(f"the tag is {tag}, pyproject.toml has version {version}: make them the same")
    if f'\n__version__ = "{version}"\n' not in _text(root, "agent/fieldwatch_agent/__init__.py"):
        found.append(f"agent/fieldwatch_agent/__init__.py does not say version {version}")
    until = _until(_text(root, "contract/fieldwatch_contract/support.py"))
    if until <= today:
        found.append(f"support.UNTIL is {until}: set the last day of support by docs/versioning.md")
    newest = _text(root, "CHANGELOG.md").split("\n## ")[1]
    if not re.match(rf"{re.escape(version)}, \d{{4}}-\d\d-\d\d\n", newest):
        head = newest.partition("\n")[0]
        found.append(f"CHANGELOG.md begins with '{head}': write '## {version}, {today}'")
    if f"Supported until {until}." not in newest:
        found.append(f"CHANGELOG.md does not say 'Supported until {until}.' of {version}")
    if re.search(r"@\S+\.example\b", _text(root, "SECURITY.md")):
        found.append("SECURITY.md names an address below .example, which receives no mail: name a real one")
    return found


def _until(source: str) -> date:
    """Return ``UNTIL = date(…)`` without importing anything."""
    found = re.search(r"^UNTIL = date\((\d+), (\d+), (\d+)\)$", source, re.M)
    if found is None:
        raise SystemExit("contract/fieldwatch_contract/support.py has no line 'UNTIL = date(…)'")
    year, month, day = map(int, found.groups())
    return date(year, month, day)


def _text(root: Path, path: str) -> str:
    return (root / path).read_text(encoding="utf-8")


def main() -> int:
    """0 releasable, 2 wrong usage, 3 not releasable."""
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    found = objections(ROOT, sys.argv[1], datetime.now(UTC).date())
    print("\n".join(found) or f"{sys.argv[1]} may be released", file=sys.stderr if found else sys.stdout)
    return 3 if found else 0


if __name__ == "__main__":
    sys.exit(main())
