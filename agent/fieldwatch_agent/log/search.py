"""The search for the place where reading stopped: after a restart, and when a path no longer holds what was read.

What it promises
    * The place is found under whatever name its file now has, by :func:`.resume.locate`; :class:`.trail.Trail` goes on
      from there.
    * It is given up only once nothing hides it: a changing folder, a locked file and a half-written one are waited for
      as long as the trail's patience lasts. Then it is announced, and reading goes on with the earliest unread file.
"""

from __future__ import annotations

from dataclasses import fields

from fieldwatch_agent.log import notices
from fieldwatch_agent.log.cursor import LostError
from fieldwatch_agent.log.files import File
from fieldwatch_agent.log.memory import key
from fieldwatch_agent.log.order import Standing, earliest
from fieldwatch_agent.log.position import Place, Position
from fieldwatch_agent.log.resume import locate
from fieldwatch_agent.log.trail import Chosen, NotYetError, Trail, UnsettledError


class Search:
    """Finds a trail's front (the file being read) again."""

    def __init__(self, trail: Trail) -> None:
        """``trail``: what is moved to the place."""
        self._trail = trail

    def resume(self, wanted: Position) -> bool:
        """Resume at a position; tell whether it was found.

        Raises :class:`NotYetError` while that is not known, and :class:`UnsettledError` while files are being renamed:
        an old file that is missing from the listing now would not be presumed read, and be taken for an unread one
        later.
        """
        trail = self._trail
        settled = trail.list_some("missing") and trail.folder.settles()
        trail.memory.recall(wanted)
        trail.header, trail.tell_header = wanted.header, True
        found = locate(trail.folder, wanted, wanted.floor)
        if found is None:
            nothing_read = wanted.data is None and wanted.first is None
            self._lose(wanted, b"", settled, nothing_read)
            return nothing_read
        if not settled:
            raise UnsettledError
        file, offset = found
        if file.first is not None and wanted.first is not None and wanted.floor is not None:
            trail.memory.floor = wanted.floor + file.first - wanted.first  # it was read with another time zone
        trail.presume(file)
        if trail.header is None:
            trail.header = trail.header_at(file, offset)
        trail.continue_at(file, offset, wanted)  # last: nothing before it may fail once there is a front
        trail.memory.begin(trail.cursor.first)
        return True

    def find_again(self) -> None:
        """The front's path no longer holds what was read: look for it under another name."""
        trail, cursor = self._trail, self._trail.cursor
        settled = trail.relist()
        found = locate(trail.folder, cursor.place(), trail.memory.floor, cursor.torn)
        if found is None:
            nothing_read = cursor.first is None and not cursor.has_data and not cursor.torn
            self._lose(cursor.place(), cursor.torn, settled, nothing_read)
            return
        file, offset = found
        trail.continue_at(file, offset, cursor.place())
        trail.patience.forget("lost")

    def check_beginning(self) -> bool:
        """Before a file's first reading is read: check that it is still that file, and the earliest unread one.

        Column names alone, or part of a line, cannot tell it from a file that took its place. False: it has no reading
        yet; one that is written after this look must be looked at first.
        """
        trail, cursor = self._trail, self._trail.cursor
        trail.relist()
        file = trail.file()
        if cursor.torn:
            found = locate(trail.folder, cursor.place(), trail.memory.floor, cursor.torn)
            if found is None or found[0].path != cursor.path:
                raise LostError
        elif cursor.first is not None:
            if file is None or file.first != cursor.first:
                raise LostError
        elif file is not None and not file.blank:
            unread = [known.file for known, how in trail.others() if how is Standing.NEXT]
            trail.see_it_settle()
            chosen = earliest([file, *unread])
            if chosen is not None and chosen is not file:
                trail.enter(Chosen(chosen))
        return file is not None and not file.blank

    def _lose(self, place: Place, torn: bytes, settled: bool, nothing_read: bool) -> None:
        """What was read is in no file: once that is certain, announce it and go on with the earliest unread file.

        ``torn``: what was seen of a line after the place. ``nothing_read``: nothing but column names was read, so
        nothing can be missing.
        """
        trail, floor = self._trail, self._trail.memory.floor
        readable = [file for file in trail.folder.files if not file.problem]
        there = [file for file in readable if str(file.path) == place.path]
        newer = [file for file in readable if floor is None or file.first is None or file.first > floor]
        ready = [file for file in (*there, *newer) if not file.blank]
        chosen = earliest(ready) or earliest(there or newer)
        if chosen is None:
            if hidden := [file for file in trail.folder.files if file.problem]:
                raise NotYetError("unreadable", f"{hidden[0].path}: {hidden[0].problem}")
            raise NotYetError("missing", f"{place.path} is gone, and no newer file matches {trail.folder.pattern}")
        locked = [file for file in trail.folder.files if file.problem]
        if nothing_read:
            for file in locked:
                trail.be_patient(file)
            trail.wait_for([file for file in locked if self._may_hold(file, place)], chosen)
            trail.see_it_settle()
        else:
            obstacle = self._obstacle(settled)
            if locate(trail.folder, place, floor, torn) is not None:
                raise UnsettledError  # it was copied, then truncated under the first look
            if obstacle and not trail.patience.is_over("lost"):
                raise NotYetError("unreadable", f"{place.path} is not found yet: {obstacle}")
        same = next((file for file in locked if file.file in {place.file, place.path}), None)
        if not trail.is_begun:
            trail.presume(chosen)
        if nothing_read:
            trail.enter(Chosen(chosen))
        elif same is None:
            trail.enter(Chosen(chosen))
            trail.changes.append(notices.lost(place, bool(there), chosen))
        else:
            trail.enter(Chosen(chosen), Place(**{each.name: getattr(place, each.name) for each in fields(Place)}))
            trail.changes.append(notices.front_locked(place, same.problem, chosen))
        trail.patience.forget("lost")

    def _may_hold(self, file: File, place: Place) -> bool:
        """Tell whether a file that cannot be read may be the one of a place, or after a rotation hold what it did."""
        return file.file in {place.file, place.path} or (
            self._trail.is_begun and key(file) not in self._trail.memory.presumed
        )

    def _obstacle(self, settled: bool) -> str:
        """Describe what may be hiding a file temporarily; empty if nothing is."""
        folder = self._trail.folder
        if not (settled and folder.settles()):
            return "the folder is changing"
        for file in folder.files:
            if file.problem:
                return f"{file.path}: {file.problem}"
            if self._trail.is_fresh(file) and not folder.is_whole(file):
                return f"{file.path} is not yet written to its end"
        return ""
