"""Which log is the device's, and how it is written: found, shown, and asked where files and flags do not say."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from glob import has_magic
from pathlib import Path
from typing import Any

from fieldwatch_contract.reading.settings import whole

from fieldwatch_agent.check_log import check_log
from fieldwatch_agent.findings import Finding
from fieldwatch_agent.setup import show
from fieldwatch_agent.setup.find import Search, pattern_of, search, usual_places
from fieldwatch_agent.setup.person import Person
from fieldwatch_agent.setup.understand import Understood, is_text, newest_file, understand
from fieldwatch_agent.zones import local_zone

MOST = 40
"""Candidates that are read, the newest first."""
LISTED = 9
DEFAULT_PERIOD = "60s"


class NoLog(Exception):
    """There is no log that can be read; the message says why, and what would help."""


@dataclass(frozen=True)
class Chosen:
    """The log: what ``[log]`` must say, how it was understood (None: there is no file yet), what is not well."""

    keys: Mapping[str, Any]
    seen: Understood | None
    findings: Sequence[Finding]


class Chooser:
    """Finds the log and settles what is open. ``given``: keys of ``[log]`` that flags have said."""

    def __init__(self, person: Person, say: Callable[[str], None], given: Mapping[str, Any]) -> None:
        self._person = person
        self._say = say
        self._given = given

    def named(self, log: str) -> Chosen:
        """Take the log that was named: a file, a pattern, or a folder to look into.

        Raises :class:`NoLog`, :class:`.person.Unanswered`, :class:`OSError`, :class:`pydantic.ValidationError`.
        """
        try:
            path = whole(Path(log)).absolute()
        except ValueError as error:
            raise NoLog(f"--log {log!r} {error}") from error
        if path.is_dir():
            return self.found([path])
        pattern = str(path)
        if not has_magic(pattern) and path.is_file() and (pattern_of(path)) != pattern and path.suffix != ".gz":
            pattern = pattern_of(path)
            self._say(f"the name holds a date: the log is {pattern}")
        newest = newest_file(pattern)
        if newest is None or not newest.stat().st_size:
            what = f"no file matches {pattern} yet" if newest is None else f"{newest} is empty"
            self._say(f"{what}: how it is written will be seen when the device writes; 'check' shows it then")
            keys = {"path": pattern, **self._given}
            keys.setdefault("period", self._period())
            return Chosen(keys, None, ())
        if not is_text(newest):
            raise NoLog(f"{newest} has no line end in its beginning: a text log has one after each reading")
        return self._settle(understand(pattern, newest, self._given))

    def found(self, places: Sequence[Path]) -> Chosen:
        """Look for it below ``places``, none: where logs usually are; raises as :meth:`named` does."""
        looked = list(places) or usual_places()
        result = search(looked)
        good, others = self._read(result)
        now = time.time()
        where = ", ".join(str(each.absolute()) for each in looked)
        if not good:
            told = "".join(f"\n  {each}" for each in [*others, *result.unreadable][:LISTED])
            what = f"no log of a device found below {where}{'; looked at is:' if told else ''}{told}"
            if not self._person.there:
                raise NoLog(f"{what}\nname it with --log 'PATTERN'")
            self._say(what)
            return self.named(self._person.text("Where is the log (file or pattern)", "--log 'PATTERN'"))
        if len(good) == 1:
            return self._settle(good[0])
        growing = [each for each in good if each.growing(now)]
        if not self._person.there and len(growing) == 1:
            return self._settle(growing[0])
        lines = [show.one_line(each, now) for each in good[:LISTED]]
        listed = "".join(f"\n  {line}" for line in lines)
        left = f"\n  and {len(good) - LISTED} more" if len(good) > LISTED else ""
        instead = f"several logs may be the device's:{listed}{left}\nname one with --log 'PATTERN'"
        return self._settle(good[self._person.choose("Which is the device's log?", lines, instead)])

    def _read(self, result: Search) -> tuple[list[Understood], list[str]]:
        """Return the logs among the candidates, growing ones first, and why others are none."""
        good: list[Understood] = []
        others: list[str] = []
        for candidate in result.candidates[:MOST]:
            try:
                if not is_text(candidate.newest):
                    others.append(f"{candidate.newest}: no text")
                    continue
                newest = newest_file(candidate.pattern)
                seen = understand(candidate.pattern, newest, self._given) if newest is not None else None
            except OSError as error:
                others.append(f"{candidate.newest}: cannot be read: {error.strerror or error}")
                continue
            if seen is not None and (seen.readable or seen.doubts):
                good.append(seen)
            elif seen is not None:
                others.append(f"{candidate.newest}: {_why_not(seen)}")
        now = time.time()
        good.sort(key=lambda each: (not each.growing(now), -each.sample.path.stat().st_mtime))
        return good, others

    def _settle(self, seen: Understood) -> Chosen:
        """Ask what the file does not say, show it, and have it agreed to."""
        self._say(f"the log: {seen.keys['path']}, newest file {seen.sample.path.name}")
        for doubt in seen.doubts:
            options = [f"{end}   {doubt.key} = {form!r}" for form, end in doubt.choices]
            told = " or ".join(f"--set {doubt.key}={form!r} ({end})" for form, end in doubt.choices)
            place = self._person.choose(doubt.text, options, f"{seen.sample.path}: {doubt.text} as said: {told}")
            given = {**self._given, "timestamp": {**_time(self._given), "format": doubt.choices[place][0]}}
            seen = understand(seen.keys["path"], seen.sample.path, given)
        if not seen.readable:
            raise NoLog(f"{seen.sample.path} cannot be read as a device's log: {_why_not(seen)}")
        if seen.guessed_zone:
            seen = self._with_zone(seen)
        if "period" not in seen.keys:
            seen = understand(seen.keys["path"], seen.sample.path, {**seen.keys, "period": self._period()})
        for row in show.head(seen):
            self._say(row)
        findings = list(check_log(seen.log, ()))
        for each in findings:
            self._say(str(each))
        if self._person.there and not self._person.agrees("Is this right?", ""):
            raise NoLog(
                "name the log with --log 'PATTERN', and what is read wrongly with --set KEY=VALUE, a key of [log]"
            )
        return Chosen(seen.keys, seen, findings)

    def _with_zone(self, seen: Understood) -> Understood:
        zone = "UTC"
        if self._person.there:
            local = local_zone() or "UTC"
            zone = self._person.text(
                "The times carry no zone. In which is the device's clock", "--timezone ZONE", local
            )
        else:
            self._say("the times carry no zone and are taken as UTC; if that is wrong: --timezone Europe/Berlin")
        given = {**seen.keys, "timestamp": {**_time(seen.keys), "timezone": zone}}
        return understand(seen.keys["path"], seen.sample.path, given)

    def _period(self) -> str:
        if not self._person.there:
            self._say(f"a reading every {DEFAULT_PERIOD} is assumed; if that is wrong: --period")
            return DEFAULT_PERIOD
        return self._person.text("Time between two readings", "--period 60s", DEFAULT_PERIOD)


def _time(keys: Mapping[str, Any]) -> dict[str, Any]:
    time = keys.get("timestamp", {})
    return time if isinstance(time, dict) else {"column": time}


def _why_not(seen: Understood) -> str:
    """Return why this is no log, with the flags that would say what the file leaves open."""
    if seen.found.refused:
        reason, lines = seen.found.by_reason()[0]
        detail = lines[0].detail
        open_keys = re.findall(r'([a-z]+) = "([^"]*)"', detail) if reason == "ambiguous" else []
        flags = " or ".join(f"--set {key}={value}" for key, value in open_keys)
        return f"{detail}; here: {flags}" if flags else detail
    return "no numbers in it" if seen.found.ts.size else "no readings in it"
