"""``replay DOSSIER``: finds the bundles that decided, repeats the decisions, and tells whether they come out the same.

Exit codes: 0 everything is repeated and equal; 3 something differs, or the file was changed; 1 it cannot be read or
repeated; 2 a bundle is missing or is another one.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable
from pathlib import Path

from fieldwatch_contract.bundle import Bundle, BundleBroken, BundleError, BundleMisfit, read_bundle
from fieldwatch_contract.dossier import FILE_LIMIT, ChangedError, Dossier, DossierError, is_dossier, read
from fieldwatch_contract.events import BundleRef

from fieldwatch_agent.exits import DONE, FAILED, REFUSED, USAGE
from fieldwatch_agent.score.basis import versions
from fieldwatch_agent.score.repeat import Repeated, repeat

START_BYTES = 4096


class MissingError(Exception):
    """The bundle that decided is not here."""


def looks_like_dossier(path: Path) -> bool:
    """Tell whether a file is meant to be a dossier; a file that cannot be read is not."""
    try:
        with path.open("rb") as file:
            return is_dossier(file.read(START_BYTES))
    except OSError:
        return False


def replay(path: Path, bundle: Path | None, folders: Iterable[Path]) -> int:
    """Repeat the dossier at ``path``, print what was computed, a JSON object a decision; return the exit code.

    ``bundle``: a bundle, or a folder with bundles; the others are looked for by their digest beside the dossier and in
    ``folders``.
    """
    try:
        if path.stat().st_size > FILE_LIMIT:
            raise DossierError(f"larger than {FILE_LIMIT >> 20} MiB")
        dossier = read(path.read_bytes())
        places = [
            *([bundle] if bundle is not None else []),
            path.parent,
            *(folder for folder in folders if folder.is_dir()),
        ]
        refs = {one.alert.bundle.sha256: one.alert.bundle for one in dossier.decisions}
        try:
            return _tell(path, dossier, {digest: _find(ref, places) for digest, ref in refs.items()})
        except BundleMisfit as error:
            by = ", ".join(f"{key} {version}" for key, version in dossier.decisions[0].made_by.items())
            raise DossierError(f"{error.what}; it was decided by {by or 'a program that is not named'}") from error
    except ChangedError as error:
        print(f"{path}: {error}", file=sys.stderr)
        return REFUSED
    except MissingError as error:
        print(f"{path}: {error}", file=sys.stderr)
        return USAGE
    except (DossierError, BundleError) as error:
        print(f"{path}: {error}", file=sys.stderr)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}" if error.filename else error, file=sys.stderr)
    return FAILED


def _find(ref: BundleRef, places: list[Path]) -> Bundle:
    """Return the bundle with this digest. Raises :class:`MissingError` where no place has it."""
    others = []
    for place in places:
        for file in sorted(place.glob("*.zip")) if place.is_dir() else [place]:
            try:
                return read_bundle(file, ref.sha256)
            except BundleBroken as error:
                if place.is_file():
                    others.append(f"; {file}: {error}")
            except OSError:
                if not place.is_dir():  # one of many that cannot be read may be any
                    raise
    raise MissingError(
        f"bundle {ref.name}/{ref.version} decided, with the sha256 {ref.sha256}, and it is neither beside the dossier "
        f"nor where the configuration keeps bundles: give it with --bundle FILE{''.join(others)}"
    )


def _tell(path: Path, dossier: Dossier, bundles: dict[str, Bundle]) -> int:
    done: list[Repeated] = []
    for decision in dossier.decisions:
        one = repeat(dossier.device, decision, bundles[decision.alert.bundle.sha256])
        print(json.dumps({"equal": one.equal, "computed": one.computed, "differences": one.differences}))
        done.append(one)
    for one in done:
        for difference in one.differences:
            print(f"{one.decision.alert.transition} {one.decision.alert.ts}: {difference}", file=sys.stderr)
    for missing in dossier.missing:
        print(f"not repeated: {missing}", file=sys.stderr)
    equal = sum(one.equal for one in done)
    print(f"{path}: {equal} of {len(done)} decisions are equal, bit for bit", file=sys.stderr)
    if equal == len(done):
        return DONE
    here = versions()
    for key, then in dossier.decisions[0].made_by.items():
        if here.get(key) != then:
            print(f"then decided by {key} {then}, here it is {here.get(key)}", file=sys.stderr)
    return REFUSED
