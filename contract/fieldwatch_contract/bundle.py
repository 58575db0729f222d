"""The bundle: one signed zip with everything that turns rows into verdicts.

======================  ============================================================================
``manifest.json``       :class:`Manifest`: sensors, period, models, thresholds, baseline, file hashes
``models/*.onnx``       graphs; see :class:`ModelSpec` for their inputs and outputs
``baseline.npz``        ``<model>.features`` float32 ``[F]``: neutral inputs, used to explain a feature model
``golden.npz``          rows in, features and scores out: a device that cannot reproduce them refuses the bundle
======================  ============================================================================

A bundle is read from the zip in memory: nothing is unpacked, so there is nothing to clean up, no path in the archive
can reach the disk, and no model file stays open on Windows. Its identity is the sha256 of the zip's bytes.

Errors are distinguished by what the caller must do:

======================  ==========================================  ===============================================
:class:`BundleMisfit`   it does not match this configuration or     correct the configuration or install another
                        program: device type, period, kernel,       program; never held against the bundle
                        format, operators of its models
:class:`BundleBroken`   its bytes or its models are wrong           never run it again (permanent)
:class:`BundleFailed`   this computer cannot do it now: memory,     retry later, with backoff (transient)
                        a file that is held open
======================  ==========================================  ===============================================
"""

from __future__ import annotations

import hashlib
import io
import struct
import zipfile
import zlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from fieldwatch_contract.alerts import AlertRule
from fieldwatch_contract.clock import SECOND
from fieldwatch_contract.events import MODEL_NAME, BundleRef
from fieldwatch_contract.features import KERNEL, FeatureSpec
from fieldwatch_contract.level import LevelRule
from fieldwatch_contract.verdicts import Kind

MAX_UNPACKED = 256 * 1024 * 1024
"""All members together may not unpack to more than this many bytes."""

NEWER = "update the program"
"""The remedy where a bundle needs a newer program."""
OLDER = "train the bundle anew, with a trainer of this version"
"""The remedy where the program no longer computes what a bundle was trained on."""


class BundleError(Exception):
    """The bundle cannot be used, for one of the three causes below; only those subclasses are raised.

    ``what`` is wrong; ``remedy``: what would help, empty if nobody on site can. Code that only reports catches this
    type, code that decides catches the subclasses.
    """

    def __init__(self, what: str, remedy: str = "") -> None:
        super().__init__(f"{what}: {remedy}" if remedy else what)
        self.what = what
        self.remedy = remedy


class BundleMisfit(BundleError):
    """Bundle and device do not match as the device is configured and installed now."""


class BundleBroken(BundleError):
    """The bundle itself is wrong: the same bytes can never run."""


class BundleFailed(BundleError):
    """It could not be done at the moment; that says nothing about the bundle."""


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Range(_Model):
    """Where a classifier is valid: while ``model``'s score is at most ``limit``; beyond it the verdict is unknown."""

    model: str
    limit: float


class ModelSpec(_Model):
    """One ONNX graph.

    ``input``: what it is fed and what its first input must accept:

    * ``rows``: float64 ``[R, S]``, consecutive grid rows, NaN = missing; row i may look at rows i-lookback+1 … i
    * ``features``: float32 ``[N, F]`` of :mod:`.features`; each row is independent

    Outputs: ``score`` float32 ``[R]`` and, for ``rows`` graphs that can, ``contributions`` float32 ``[R, S]``
    (not negative; what each sensor adds to the score). Higher scores are worse.

    A row's bits must not depend on its place in a block. Sum over sensors with a ``MatMul`` by ones, never with
    ``ReduceSum`` or ``ReduceMean``: their order of addition depends on the row's memory address.
    """

    name: str = Field(pattern=MODEL_NAME)
    kind: Kind
    file: str
    input: Literal["rows", "features"]
    lookback: int = Field(default=1, ge=1)
    threshold: float
    alert: AlertRule = AlertRule()
    level: LevelRule | None = Field(default=None, description="how an alert's level moves; null: the threshold, fixed")
    range: Range | None = None


class Baseline(_Model):
    """Statistics of the training data, one number per sensor in the manifest's order: for charts and for drift."""

    mean: list[float]
    scale: list[float]
    low: list[float]
    high: list[float]
    still: list[int] | None = Field(default=None, description="longest runs of readings without a move, see still.py")


class Manifest(_Model):
    """``manifest.json``. ``version`` is unique within ``name`` and the same for the same training input."""

    format: Literal[1] = 1
    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$", description="model family, usually the device type")
    version: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{0,63}$")
    device_type: str
    period_s: float = Field(gt=0)
    timed: bool = Field(default=True, description="False: rows of a plain table, each on its own")
    sensors: list[str] = Field(min_length=1)
    window: int = Field(ge=1, description="W: rows a verdict may depend on")
    min_rows: int = Field(ge=1, description="fewer rows with a value in the window: warming up, verdict unknown")
    max_missing: float = Field(default=0.5, ge=0, le=1, description="above this share of sensors missing: unknown")
    kernel: int = KERNEL
    features: FeatureSpec | None = None
    models: list[ModelSpec] = Field(min_length=1)
    baseline: Baseline
    trained_until: str = ""
    files: dict[str, str] = Field(description="sha256 of every other member")

    @model_validator(mode="after")
    def _consistent(self) -> Manifest:
        names = [model.name for model in self.models]
        if len(set(names)) != len(names):
            raise ValueError(f"model names repeat: {names}")
        if len(set(self.sensors)) != len(self.sensors):
            raise ValueError("sensor names repeat")
        for field in ("mean", "scale", "low", "high", *(["still"] if self.baseline.still is not None else [])):
            if len(getattr(self.baseline, field)) != len(self.sensors):
                raise ValueError(f"baseline.{field} must have one number for each of {len(self.sensors)} sensors")
        centre = self.features.centre if self.features is not None else None
        if centre is not None and len(centre) != len(self.sensors):
            raise ValueError(f"features.centre must have one number for each of {len(self.sensors)} sensors")
        for model in self.models:
            reach = model.lookback
            if model.input == "features":
                if self.features is None:
                    raise ValueError(f"model {model.name} takes features but the manifest has no feature spec")
                reach = self.features.longest
            if reach > self.window:
                raise ValueError(f"model {model.name} looks {reach} rows back, the window is {self.window}")
            if model.file not in self.files:
                raise ValueError(f"model {model.name}: {model.file} is not among files")
            if model.range is not None and model.range.model not in names:
                raise ValueError(f"model {model.name}: range names unknown model {model.range.model}")
        return self

    @property
    def period(self) -> int:
        """Grid period in µs."""
        return round(self.period_s * SECOND)


@dataclass(frozen=True)
class Bundle:
    """A bundle whose hashes and manifest were verified. ``files`` are the members' bytes."""

    manifest: Manifest
    files: dict[str, bytes]
    sha256: str

    @cached_property
    def ref(self) -> BundleRef:
        """Name, version and hash, as events carry them."""
        return BundleRef(name=self.manifest.name, version=self.manifest.version, sha256=self.sha256)

    def arrays(self, member: str) -> dict[str, NDArray[np.generic]]:
        """Read an ``.npz`` member; no pickles. Raises :class:`BundleBroken` where it is none, :class:`BundleFailed`."""
        try:
            with np.load(io.BytesIO(self.files[member]), allow_pickle=False) as archive:
                return {key: archive[key] for key in archive.files}
        except MemoryError as error:
            raise no_memory() from error
        except Exception as error:  # numpy and zipfile raise a dozen types for this
            raise BundleBroken(f"{member} cannot be read: {error}") from error


def read_bundle(source: Path | bytes, sha256: str | None = None) -> Bundle:
    """Read and check a bundle; ``sha256`` is the digest it must have, where one is known.

    Raises :class:`BundleBroken` for anything that is not a whole, consistent bundle, :class:`BundleMisfit` for one
    that needs another program, :class:`BundleFailed` where memory is short, and :class:`OSError` where the file
    cannot be read.
    """
    try:
        return _read(source, sha256)
    except MemoryError as error:
        raise no_memory() from error


def no_memory() -> BundleFailed:
    """Return the failure that every :class:`MemoryError` stands for."""
    return BundleFailed("this computer has not enough memory free", "close other programs")


def other_kernel(kernel: int) -> BundleMisfit:
    """Return why a bundle for another feature kernel than :data:`.features.KERNEL` is refused."""
    remedy = NEWER if kernel > KERNEL else OLDER
    return BundleMisfit(f"made for feature kernel {kernel}, this program has {KERNEL}", remedy)


def check_fit(manifest: Manifest, device_type: str, period: int | None) -> None:
    """Raise :class:`BundleMisfit` unless a bundle matches a device's type and log period (µs, None: unknown)."""
    name = f"{manifest.name}/{manifest.version}"
    if manifest.device_type != device_type:
        raise BundleMisfit(
            f"bundle {name} is trained for devices of type {manifest.device_type}, this one is {device_type}",
            "correct [device] type, or publish a bundle for this type",
        )
    if manifest.timed and period is not None and manifest.period != period:
        raise BundleMisfit(
            f"bundle {name} is made for a period of {manifest.period_s:g} s, [log] period is {period / SECOND:g} s",
            "correct [log] period, or train for this period",
        )


def _read(source: Path | bytes, sha256: str | None) -> Bundle:
    data = source if isinstance(source, bytes) else source.read_bytes()
    digest = hashlib.sha256(data).hexdigest()
    if sha256 is not None and digest != sha256:
        raise BundleBroken(f"the file's sha256 is {digest}, expected {sha256}: it is damaged or another file")
    try:
        files = _members(data)
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, OSError, ValueError, RuntimeError) as error:
        raise BundleBroken(f"not a readable zip: {error}") from error
    if "manifest.json" not in files:
        raise BundleBroken("no manifest.json inside: not a Fieldwatch bundle")
    try:
        manifest = Manifest.model_validate_json(files.pop("manifest.json"))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"]) or "manifest"
        what = f"manifest.json: {place}: {first['msg']}"
        if all(each["type"] == "extra_forbidden" or each["loc"] == ("format",) for each in error.errors()):
            raise BundleMisfit(what, NEWER) from error
        raise BundleBroken(what) from error
    if manifest.kernel != KERNEL:
        raise other_kernel(manifest.kernel)
    for name, expected in manifest.files.items():
        if name not in files:
            raise BundleBroken(f"{name} is missing from the zip")
        if hashlib.sha256(files[name]).hexdigest() != expected:
            raise BundleBroken(f"{name} does not have the hash that the manifest states")
    if extra := sorted(set(files) - set(manifest.files)):
        raise BundleBroken(f"{extra[0]} is in the zip but not in the manifest")
    return Bundle(manifest, files, digest)


def _members(data: bytes) -> dict[str, bytes]:
    """Unpack into memory; zip bombs are refused by their real size, not by what the headers claim."""
    files: dict[str, bytes] = {}
    left = MAX_UNPACKED
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise BundleBroken(
                    f"{info.filename} is packed by method {info.compress_type}, must be stored or deflated"
                )
            if info.filename in files:
                raise BundleBroken(f"{info.filename} is in the zip twice")
            with archive.open(info) as member:
                files[info.filename] = member.read(left + 1)
            left -= len(files[info.filename])
            if left < 0:
                raise BundleBroken(f"unpacks to more than {MAX_UNPACKED >> 20} MiB: refused")
    return files


def write_bundle(manifest: Manifest, files: dict[str, bytes]) -> bytes:
    """Return the zip's bytes: the same input gives the same bytes (sorted names, fixed times and modes).

    ``manifest.files`` is filled in here from ``files``.
    """
    hashes = {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}
    manifest = Manifest.model_validate(manifest.model_dump() | {"files": hashes})
    members = {"manifest.json": manifest.model_dump_json(indent=1).encode(), **dict(sorted(files.items()))}
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0))
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            info.create_system = 3
            archive.writestr(info, content)
    return out.getvalue()


def write_arrays(arrays: dict[str, NDArray[np.generic]]) -> bytes:
    """Return an ``.npz`` whose bytes depend on the arrays alone (numpy's own writer stamps the time)."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for name, array in sorted(arrays.items()):
            member = io.BytesIO()
            np.lib.format.write_array(member, np.ascontiguousarray(array), allow_pickle=False)
            archive.writestr(zipfile.ZipInfo(f"{name}.npy", (1980, 1, 1, 0, 0, 0)), member.getvalue())
    return out.getvalue()
