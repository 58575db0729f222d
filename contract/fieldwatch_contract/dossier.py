"""The dossier: the decisions of one alert in one file, with all they were made of, so that they can be repeated.

A decision is a transition of an alert: opened, updated, resolved. It follows from the last W grid rows, the bundle, and
what the alert rule remembered before the newest of them. The agent packs these into the alert's evidence
(:attr:`.fields.Evidence.exact`), the cloud writes them into a file that people can read, and ``fieldwatch-agent
replay`` makes the decisions again: years later, without device, log or cloud, bit for bit.

The file is UTF-8 JSON, :class:`Dossier`, by convention ``….dossier.json``; numbers are written with as many digits as
their double needs. ``sha256`` is that of the rest, written as JSON with sorted keys, no spaces, and everything beyond
ASCII escaped: a changed digit is noticed, another indentation is none. A digest is no signature: who wants to know that
nobody made a new one compares it with the cloud's audit trail, which has the digest of every dossier taken.
"""

from __future__ import annotations

import hashlib
import json
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from fieldwatch_contract import exact
from fieldwatch_contract.alerts import RuleState, Said
from fieldwatch_contract.events import AlertData
from fieldwatch_contract.fields import Finite, Timestamp

FORMAT: Literal["fieldwatch-dossier/1"] = "fieldwatch-dossier/1"
SUFFIX = ".dossier.json"
FILE_LIMIT = 256 * 1024 * 1024


class DossierError(ValueError):
    """This is no dossier, or not a whole one."""


class ChangedError(DossierError):
    """The dossier does not have its own digest: something in it is not what was written."""


class _Model(BaseModel):
    model_config = ConfigDict(extra="ignore")


class Decision(_Model):
    """One transition, and what it was made of.

    ``alert`` is what the agent sent, all but its evidence. ``window[i][j]`` is sensor ``sensors[j]`` in grid row i,
    null where missing; the last row is that of ``alert.ts``.
    """

    alert: AlertData
    sensors: list[str] = Field(min_length=1, description="in the bundle's order")
    window: list[list[Finite | None]] = Field(min_length=1, description="the last W grid rows, oldest first")
    before: dict[str, Any] = Field(description="contract.alerts.RuleState before the last row")
    said: list[dict[str, Any]] = Field(default=[], description="contract.alerts.Said that holds from the last row on")
    made_by: dict[str, str] = Field(default={}, description="versions of the programs that decided")

    @property
    def rows(self) -> NDArray[np.float64]:
        """The window as float64 ``[W, S]``, NaN = missing."""
        return np.array([[np.nan if x is None else x for x in row] for row in self.window], np.float64)

    def remembered(self) -> tuple[RuleState, list[Said]]:
        """Return the rule's state before the last row, and what people said that holds from it on.

        Raises :class:`DossierError` where they are not such.
        """
        try:
            return RuleState.from_dict(self.before), [Said(**one) for one in self.said]
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise DossierError(f"what the alert rule remembered cannot be read: {error!r}") from error


class Answer(_Model):
    """What a person, the device or time did to the alert or its incident."""

    at: Timestamp
    who: str
    what: str
    text: str = ""


class Dossier(_Model):
    """The file. ``answers`` is a record for readers; nothing of it is repeated."""

    format: Literal["fieldwatch-dossier/1"] = FORMAT
    made_at: Timestamp
    device: str = Field(pattern=r"^[a-z0-9-]{3,64}$")
    alert_id: str
    decisions: list[Decision] = Field(min_length=1, description="in the order in which they were made")
    missing: list[str] = Field(default=[], description="transitions without what they were made of, and why, in words")
    answers: list[Answer] = []
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] = "0" * 64


def pack(decision: Decision) -> str:
    """Return a decision as :attr:`.fields.Evidence.exact` carries it."""
    head = decision.model_dump(mode="json", exclude={"window": True, "alert": {"evidence"}})
    return exact.pack(head, decision.rows)


def unpack(text: str) -> Decision:
    """Read what :func:`pack` wrote. Raises :class:`ValueError` where it is something else."""
    head, rows = exact.unpack(text)
    window = [[None if x != x else x for x in row] for row in rows.tolist()]  # noqa: PLR0124 - NaN
    decision = Decision.model_validate(head | {"window": window})
    if rows.shape[1] != len(decision.sensors):
        raise ValueError(f"{rows.shape[1]} columns of {len(decision.sensors)} sensors")
    return decision


def write(dossier: Dossier) -> tuple[bytes, str]:
    """Return the file's bytes and its digest."""
    content = dossier.model_dump(mode="json")
    content["sha256"] = _digest(content)
    return json.dumps(content, ensure_ascii=False, allow_nan=False).encode() + b"\n", content["sha256"]


def read(data: bytes) -> Dossier:
    """Read a dossier.

    Raises :class:`ChangedError` where it does not have its digest, :class:`DossierError` where it is none, not a whole
    one, or of a later format.
    """
    try:
        content = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise DossierError(f"not JSON, so damaged or no dossier: {error}") from error
    form = content.get("format") if isinstance(content, dict) else None
    if form != FORMAT:
        later = isinstance(form, str) and form.startswith("fieldwatch-dossier/")
        raise DossierError(
            f"its format is {form}, this program reads {FORMAT}: update the program" if later else "no dossier"
        )
    if content.get("sha256") != (digest := _digest(content)):
        raise ChangedError(
            f"it was changed after it was written: its content has the digest {digest[:12]}…, "
            f"it says {str(content.get('sha256'))[:12]}…"
        )
    try:
        return Dossier.model_validate(content)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        raise DossierError(f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}") from error


def is_dossier(start: bytes) -> bool:
    """Tell from its first bytes whether a file is meant to be a dossier, in whatever form it was written."""
    return start.lstrip().startswith(b"{") and b'"fieldwatch-dossier/' in start


def _digest(content: dict[str, Any]) -> str:
    rest = {key: value for key, value in content.items() if key != "sha256"}
    return hashlib.sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
