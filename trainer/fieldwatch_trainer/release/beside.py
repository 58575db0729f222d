"""What stands beside a bundle for those who examine it: where it comes from, an ML-BOM, and a model signature."""

from __future__ import annotations

from fieldwatch_contract.bundle import Bundle

from fieldwatch_trainer.release import mlbom, provenance, signature


def paths(target: str) -> tuple[str, ...]:
    """Return the target paths of what may stand beside a bundle."""
    return provenance.path_of(target), mlbom.path_of(target), signature.path_of(target)


def bundle_of(path: str) -> str | None:
    """Return the bundle beside which a target stands; None for a bundle.

    >>> bundle_of("prod/press/v1.intoto.json")
    'prod/press/v1.zip'
    """
    for ending in (".intoto.json", ".cdx.json", ".oms.json"):
        if path.endswith(ending):
            return path.removesuffix(ending) + ".zip"
    return None


def read(path: str, data: bytes, target: str, bundle: Bundle) -> list[str]:
    """Say in sentences what a file beside a bundle states of it.

    Raises :class:`.errors.ReleaseError` where it is of another one.
    """
    if path == provenance.path_of(target):
        return provenance.read(data, target, bundle.sha256)
    if path == mlbom.path_of(target):
        return [mlbom.read(data, target, bundle)]
    return [signature.read(data, target, bundle.sha256)]
