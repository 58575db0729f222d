"""What several messages on the wire are made of; see :mod:`.events`."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

Timestamp = Annotated[str, Field(description="RFC 3339, UTC", pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z$")]

Finite = Annotated[float, Field(allow_inf_nan=False)]
"""A number on the wire. JSON, a database's documents and browsers know neither NaN nor infinity."""

Number = Annotated[int, Field(ge=0, le=2**53)]
"""A count or sequence number; integers up to 2⁵³ are exact in every JSON reader."""


def speakable(text: Any) -> Any:
    r"""Return a text as UTF-8 can carry it: a file's name may have bytes that are none.

    >>> speakable("caf\udce9.csv")
    'caf\\udce9.csv'
    """
    return text.encode("utf-8", "backslashreplace").decode("utf-8") if isinstance(text, str) else text


Words = Annotated[str, BeforeValidator(speakable)]
"""A text for people, which may name a file."""


class Wire(BaseModel):
    """A part of a message: what a reader does not know, it ignores."""

    model_config = ConfigDict(extra="ignore")


class Evidence(Wire):
    """Readings over time, around an alert or as a command asks, as far as the device's privacy setting lets them leave
    the lab.

    ``values[i][j]`` is sensor ``sensors[i]`` at ``times[j]``, null where missing; ``mean`` and ``scale`` are the
    sensor's training baseline, for drawing what normal looks like, ``low`` and ``high`` its lowest and highest reading
    in training; agents before 0.2 do not tell those.
    """

    times: list[Timestamp]
    sensors: list[str]
    values: list[list[float | None]]
    mean: list[Finite]
    scale: list[Finite]
    low: list[Finite] = []
    high: list[Finite] = []
    scores: list[float | None] = Field(description="the alerting model's score at times")
    all_sensors: list[str] = Field(default=[], description="rows of z")
    z: str = Field(
        default="",
        description="base64 of int8 [all_sensors, times]: 16(x-mean)/scale rounded, ±127 at most; -128: missing",
    )
    exact: str = Field(
        default="",
        description="what the decision was made of, bit for bit: contract.dossier packs and reads it; empty where it "
        "would make the message too large; additive in v1",
    )
