"""The vocabulary by which a log's columns and rows are recognised, ignoring case, blanks and punctuation."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

TIME_NAMES = frozenset([
    "time", "timestamp", "timestamputc", "timeutc", "utc", "utctime", "localtime", "datetime", "ts", "timestring",
    "timestampgmt", "timegmt", "datetimegmt", "datetimeutc", "datetimelocal", "sampletime", "logtime", "zeit",
    "epoch", "epochtime", "unix", "unixtime", "unixtimestamp", "zeitstempel", "zeitpunkt", "datumzeit",
    "datumuhrzeit", "messzeit", "dateheure", "horodatage", "fechahora",
])  # fmt: skip
"""Names of the column that holds the time."""
DATE_NAMES = frozenset(["date", "datum", "fecha", "datelocal", "dateutc", "localdate"])
CLOCK_NAMES = frozenset([
    "time", "zeit", "uhrzeit", "heure", "hora", "clock", "timeutc", "timelocal", "localtime", "timeofday",
])  # fmt: skip
HALVES = frozenset(["am", "pm"])
ZONE_NAMES = frozenset(["tz", "timezone", "utcoffset", "gmtoffset", "zeitzone", "tzoffset"])
"""Names of a column that can hold nothing but a time zone."""
OFFSET_NAMES = frozenset(["offset", "zone"])
"""Names of a column that may hold an offset from UTC, or something else."""
REMARKS = frozenset([
    "comment", "comments", "kommentar", "bemerkung", "remark", "remarks", "note", "notes", "commentaire",
    "annotation",
])  # fmt: skip
"""Names of a last column that some writers omit in rows where it is empty."""
SENSOR_NAMES = frozenset([
    "sensor", "channel", "tag", "tagname", "name", "variable", "varname", "parameter", "signal", "point", "metric",
    "measurement", "item", "messstelle", "kanal", "sensorname", "sensorid", "pointname", "messgroesse",
])  # fmt: skip
VALUE_NAMES = frozenset(["value", "val", "varvalue", "wert", "messwert", "reading", "valeur", "valor"])
_UNITS = frozenset([
    "volts", "volt", "v", "mv", "kv", "a", "ma", "ampere", "amps", "w", "kw", "mw", "kwh", "wh", "hz", "khz", "mhz",
    "rpm", "umin", "min", "max", "avg", "smp", "tot", "std", "med", "wvc", "sample", "mean", "sd", "degc", "degf",
    "celsius", "fahrenheit", "kelvin", "c", "f", "k", "bar", "mbar", "hpa", "kpa", "mpa", "pa", "psi", "torr", "nm",
    "kn", "n", "mm", "cm", "m", "km", "um", "ms", "mms", "mmh", "lmin", "lh", "mh", "kgh", "gl", "mgl", "ppm", "ppb",
    "percent", "deg", "degrees", "rad", "s", "sec", "secs", "seconds", "msec", "h", "hours", "kg", "g", "l", "ml",
    "ohm", "ohms", "kohm", "us", "mscm", "uscm", "ph", "lux", "db", "dba", "ts", "rn", "unit", "units", "einheit",
    "none", "count", "counts", "wm", "umolmol", "mmolmol", "gm", "mgm", "inst", "average", "minimum", "maximum",
    "total", "na",
])  # fmt: skip
_PROCESSING = frozenset([
    "min", "max", "avg", "smp", "tot", "std", "med", "wvc", "sample", "mean", "sd", "inst", "average", "minimum",
    "maximum", "total",
])  # fmt: skip
_ZONE = re.compile(
    r"(?:GMT|UTC)\s*(?:(?P<sign>[+\-\u2212\u2013])\s*(?P<h>\d{1,2})(?::?(?P<m>\d\d)|(?P<part>[.,]\d{1,2}))?(?!\d))?",
    re.IGNORECASE,
)
_ZONE_NAMED = re.compile(
    r"\b(?:WET|WEST|CET|CEST|EET|EEST|MEZ|MESZ|BST|MSK|EST|EDT|CST|CDT|MST|MDT|PST|PDT|AKST|HST|JST|KST|SGT|IST"
    r"|AWST|ACST|AEST|AEDT|NZST|NZDT|(?:Africa|America|Asia|Atlantic|Australia|Europe|Pacific)/\w+)\b"
)


def plain(name: str) -> str:
    """Return a name normalised for comparison: composed characters, no surrounding blanks."""
    return unicodedata.normalize("NFC", name).strip().strip("\ufeff").strip()


def typewritten(line: bytes) -> bytes:
    """Return a line with the minus and the apostrophe of ASCII for those of typography (U+2212, U+2019)."""
    return line if line.isascii() else line.replace(b"\xe2\x88\x92", b"-").replace(b"\xe2\x80\x99", b"'")


def is_text(line: bytes) -> bool:
    """Tell whether a line contains nothing but text: no NUL, no replacement character (U+FFFD)."""
    return b"\0" not in line and b"\xef\xbf\xbd" not in line


def word(name: str) -> str:
    """Return only the letters of a name: "Date/Time, GMT+01:00" is "datetimegmt"."""
    return "".join(letter for letter in name.casefold() if letter.isalpha())


def is_unit(cell: str) -> bool:
    """Tell whether a cell of a row below the names is a unit, or how a value was computed (Avg, Max)."""
    return word(cell) in _UNITS or not word(cell) or any(sign in cell for sign in "°%/µΩ²³")


def is_processing(cell: str) -> bool:
    """Tell whether a cell says how values were computed rather than their unit."""
    return word(cell) in _PROCESSING


def zone_in(name: str) -> int | None:
    """Return the offset from UTC (minutes) in the name of a time column, None where there is none."""
    match = _ZONE.search(name)
    if match is None:
        return None
    minutes = int(match["h"] or 0) * 60 + int(match["m"] or 0)
    if part := match["part"]:
        minutes += round(60 * float(part.replace(",", ".")))
    return minutes if match["sign"] in {None, "+"} else -minutes


def zone_named(name: str) -> bool:
    """Tell whether the name of a time's column holds the name of a time zone, such as CET or Europe/Berlin."""
    return _ZONE_NAMED.search(name) is not None


def value_a_line(names: Sequence[str]) -> tuple[int, int] | None:
    """Return the columns that by their names hold a sensor's name and its value (format "long"); None where none do."""
    words = [word(name) for name in names]
    sensor = next((at for at, each in enumerate(words) if each in SENSOR_NAMES), None)
    value = next((at for at, each in enumerate(words) if each in VALUE_NAMES), None)
    return None if sensor is None or value is None else (sensor, value)


def some(names: Sequence[str], most: int = 5) -> str:
    """Return the first names, and how many more there are."""
    shown = ", ".join(names[:most])
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
