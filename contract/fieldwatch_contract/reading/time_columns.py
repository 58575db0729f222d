"""Names and the first row's texts → the columns that hold a reading's time.

The first of these whose text is a time

    1. the configured ones; only those, where they are given
    2. one named as a time with date and clock in one; rather one that tells its zone
    3. one named as a date with one named as a clock
    4. one named as a date, where no other is named as a clock
    5. where no column named as a time holds anything but time elapsed: the first text with a date and a clock; a Unix
       time in the first column; the first text with a date

What else belongs to it

    | a column | goes with |
    |---|---|
    | that holds only AM or PM | a 12-hour time |
    | that holds an offset from UTC | a time without one |
    | named as a time zone that says something else ("CET") | refused, unless a time zone is configured |

A date without a clock, or at midnight beside a clock, is refused where readings come more often than daily: all of a
day would have the same time.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from fieldwatch_contract.clock import DAY
from fieldwatch_contract.reading.lines import RefusedError
from fieldwatch_contract.reading.settings import LogConfig
from fieldwatch_contract.reading.signs import is_number
from fieldwatch_contract.reading.times import Times
from fieldwatch_contract.reading.words import (
    CLOCK_NAMES,
    DATE_NAMES,
    HALVES,
    OFFSET_NAMES,
    TIME_NAMES,
    ZONE_NAMES,
    plain,
    word,
    zone_in,
    zone_named,
)

_OFFSET = re.compile(r"[+-]\d{1,2}(:?\d\d)?|Z|UTC|GMT", re.ASCII)
_FULL_OFFSET = re.compile(r"[+-]\d\d:?\d\d|Z|UTC|GMT", re.ASCII)
_SIGNED_CLOCK = re.compile(r"[+-]\d\d:\d\d", re.ASCII)
_TELLS_ZONE = re.compile(r"(Z|UTC|GMT|[+-]\d\d:?\d\d)$", re.IGNORECASE)
_CLOCK_ONLY = re.compile(r"\d{1,3}:\d\d(:\d\d([.,:]\d+)?)?\s*([AaPp]\.?[Mm]\.?)?", re.ASCII)
_MIDNIGHT = re.compile(
    r"(?:\d{4}(?P<s>[-/.])\d\d(?P=s)\d\d|\d{1,2}\.\d{1,2}\.\d{4})(?P<rest>[T ]0?0:00(?::00(?:\.0+)?)?)", re.ASCII
)
_SAY_ZONE = 'say [log.timestamp] timezone, for example "Europe/Berlin"'


def is_clock(text: str) -> bool:
    """Tell whether a text is a time of day, or time elapsed, without a date."""
    return _CLOCK_ONLY.fullmatch(text) is not None


class TimeColumns:
    """Finds the columns of the time; ``times`` tells what is a time."""

    def __init__(self, log: LogConfig, sensors: Sequence[str], times: Times) -> None:
        """``sensors``: the bundle's as :func:`.words.plain` gives them; none of them is found to be a time."""
        self._config = log.timestamp
        self._daily = log.period >= DAY
        self._sensors = frozenset(sensors)
        self._times = times

    def named(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return the columns that are named as a time, two at most."""
        if self._config.columns:
            folded, asked = self._folded(names)
            return tuple(folded.index(each) for each in asked) if set(asked) <= set(folded) else ()
        return tuple(at for at, name in enumerate(names) if word(name) in TIME_NAMES | DATE_NAMES)[:2]

    def find(self, names: Sequence[str], texts: Sequence[str]) -> tuple[int, ...]:
        """Return the columns whose texts, joined by blanks, are the time.

        ``texts``: those of the first row, without blanks around them. Raises :class:`.lines.RefusedError` where no
        column can be the time, or one that belongs to it is not understood.
        """
        chosen = self._configured(names) if self._config.columns else self._found(names, texts)
        self._refuse_date_alone(names, texts, chosen)
        chosen = (*chosen, *self._half(names, texts, chosen))
        return (*chosen, *self._zone(names, texts, chosen))

    def offset(self, names: Sequence[str], columns: Sequence[int]) -> int | None:
        """Return the offset from UTC (µs) that the names of the time's columns tell, None where they tell none."""
        told = (zone_in(names[each]) for each in columns)
        return next((60_000_000 * minutes for minutes in told if minutes is not None), None)

    def _folded(self, names: Sequence[str]) -> tuple[list[str], list[str]]:
        return [name.casefold() for name in names], [plain(each).casefold() for each in self._config.columns]

    def _configured(self, names: Sequence[str]) -> tuple[int, ...]:
        folded, asked = self._folded(names)
        absent = [name for name, each in zip(self._config.columns, asked, strict=True) if each not in folded]
        if absent:
            raise RefusedError("header", f"there is no column {absent[0]!r}; see [log] timestamp")
        return tuple(folded.index(each) for each in asked)

    def _found(self, names: Sequence[str], texts: Sequence[str]) -> tuple[int, ...]:
        words = [word(name) for name in names]
        named = [at for at, each in enumerate(words) if each in TIME_NAMES | DATE_NAMES | CLOCK_NAMES]
        clocks = [at for at in named if words[at] in CLOCK_NAMES]
        dates = [at for at in named if words[at] in DATE_NAMES]
        whole = [at for at in named if self._is_whole(texts[at])]
        if whole:
            told = [at for at in whole if self._tells_zone(names[at], texts[at])]
            return ((told or whole)[0],)
        for date in [*dates, *(at for at in named if at not in dates)]:
            for clock in clocks:
                if clock != date and self._times.one(f"{texts[date]} {texts[clock]}") is not None:
                    return date, clock
        lone = [at for at in named if self._times.one(texts[at]) is not None]
        if lone and not any(at not in lone for at in clocks):
            return (lone[0],)
        if all(is_number(texts[at]) or not texts[at] or is_clock(texts[at]) for at in named):
            others = [at for at, name in enumerate(names) if name not in self._sensors]
            words_of_time = [at for at in others if not is_number(texts[at]) and self._times.one(texts[at]) is not None]
            shown = [at for at in words_of_time if self._is_whole(texts[at])]
            shown += [at for at in others[:1] if at == 0 and self._is_whole(texts[at])]
            shown += words_of_time
            if shown:
                return (shown[0],)
        if not named:
            raise RefusedError("header", "there is no column that holds a time; see [log] timestamp")
        return (dates[0], clocks[0]) if dates and clocks and dates[0] != clocks[0] else (named[0],)

    def _refuse_date_alone(self, names: Sequence[str], texts: Sequence[str], chosen: Sequence[int]) -> None:
        joined, form = self._joined(texts, chosen), self._config.format
        if self._daily or form not in {None, "iso"}:
            return
        self._refuse_midnights(names, texts, chosen)
        if ":" in joined or is_number(joined):
            return
        if self._times.one(joined) is not None:
            clock = next((name for name, text in zip(names, texts, strict=True) if is_clock(text)), "...")
            raise RefusedError(
                "timestamp",
                f"{joined!r} is a date without a time of day; name the columns of both, "
                f'[log.timestamp] column = ["{names[chosen[0]]}", "{clock}"]',
            )

    def _refuse_midnights(self, names: Sequence[str], texts: Sequence[str], chosen: Sequence[int]) -> None:
        """Refuse a date that is written with midnight beside a clock, as databases and spreadsheets export it.

        It may be the time after all, of a reading at midnight: who names that column alone has said so.
        """
        match = _MIDNIGHT.fullmatch(texts[chosen[0]])
        if self._config.columns or len(chosen) > 1 or match is None or word(names[chosen[0]]) not in DATE_NAMES:
            return
        for name, text in zip(names, texts, strict=True):
            if word(name) in CLOCK_NAMES and is_clock(text) and re.search("[1-9]", text):
                date = f"%Y{match['s']}%m{match['s']}%d" if match["s"] else "%d.%m.%Y"
                clock = "%H:%M:%S" if text.count(":") > 1 else "%H:%M"
                clock = f"{clock.replace('%H', '%I')} %p" if text[-1] in "mM." else clock
                raise RefusedError(
                    "timestamp",
                    f"{texts[chosen[0]]!r} is midnight, and column {name!r} says {text!r}: say [log.timestamp] "
                    f'column = ["{names[chosen[0]]}", "{name}"], format = "{date}{match["rest"]} {clock}"; '
                    f'or column = "{names[chosen[0]]}", if the whole time stands there',
                )

    def _half(self, names: Sequence[str], texts: Sequence[str], chosen: Sequence[int]) -> tuple[int, ...]:
        """Return the column that says AM or PM of a time of twelve hours."""
        halves = [at for at, text in enumerate(texts) if word(text) in HALVES and len(text) <= 4 and at not in chosen]
        joined = self._joined(texts, chosen)
        twelve = re.search(r"(?<!\d)(0?\d|1[0-2]):\d\d", joined) and not re.search("[AaPp].?[Mm]", joined)
        if len(halves) != 1 or not twelve:
            return ()
        half = halves[0]
        if self._times.one(f"{joined} {texts[half]}") is None and self._times.one(joined) is not None:
            raise RefusedError(
                "timestamp",
                f"column {names[half]!r} says {texts[half]}: add it to [log.timestamp] column, "
                "and %p with %I to format",
            )
        return (half,)

    def _zone(self, names: Sequence[str], texts: Sequence[str], chosen: Sequence[int]) -> tuple[int, ...]:
        """Return the column that holds the offset from UTC of a time that has none."""
        joined = self._joined(texts, chosen)
        if len(self._config.columns) > 1 or self._tells_zone("", joined):
            return ()
        told = "timezone" in self._config.model_fields_set or any(zone_in(names[at]) is not None for at in chosen)
        for at, text in enumerate(texts):
            if at in chosen or names[at] in self._sensors:
                continue
            kind = word(names[at])
            shape = _OFFSET if kind in ZONE_NAMES else _FULL_OFFSET if kind in OFFSET_NAMES else _SIGNED_CLOCK
            if shape.fullmatch(text):
                return (at,) if self._times.one(f"{joined} {text}") is not None else ()
            if kind in ZONE_NAMES and text and not told:
                raise RefusedError("timestamp", f"column {names[at]!r} says {text!r}, no offset from UTC; {_SAY_ZONE}")
        if not told and (zone := next((names[at] for at in chosen if zone_named(names[at])), None)) is not None:
            raise RefusedError("timestamp", f"column {zone!r} names a time zone, which tells no offset; {_SAY_ZONE}")
        return ()

    def _joined(self, texts: Sequence[str], chosen: Sequence[int]) -> str:
        return " ".join(texts[each] for each in chosen)

    def _is_whole(self, text: str) -> bool:
        """Tell whether a text holds a date and a clock, or a number that is both."""
        return (":" in text or is_number(text) or self._config.format is not None) and (
            self._times.one(text) is not None
        )

    def _tells_zone(self, name: str, text: str) -> bool:
        return zone_in(name) is not None or is_number(text) or _TELLS_ZONE.search(text) is not None
