"""What the tail remembers of files other than the one it is reading.

Bounded. Committed with the position: the last :data:`LEFT` files that were left, and as many that had no reading
then, with the offset where each was left. In memory only: that older files were read, and their size at that time.

A file left without a reading can later be recognised by its name, inode and column names alone, and other files come
to bear all three (numbered names, reused inodes). So such a match counts only for a file whose first reading is later
than those of all files already forgotten: one of these would be read a second time.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path

from fieldwatch_agent.log.cursor import Cursor
from fieldwatch_agent.log.files import File, Folder
from fieldwatch_agent.log.order import Front, Known, Last, is_suspect
from fieldwatch_agent.log.position import MARK, Place, Position

LEFT = 8
"""Files that stay watched after they were left, for late flushes by their writer."""

Key = int | str


def key(file: File | Place) -> Key:
    """Return what does not change when a file grows, is renamed or packed: its first reading, or device and inode."""
    return file.first if file.first is not None else file.file


@dataclass
class Memory:
    """The other files. ``floor``, the low-water mark: the latest first reading (µs) of all files begun.

    ``left``: where files were left, oldest first. ``forgotten``: the latest first reading (µs) of files that were left
    and are no longer among them. ``presumed``: sizes of files presumed read. ``resumed``: the floor when that was
    presumed, ``shut``: files and folders that could not be read then. ``told``: skipped files that were announced
    (``file_passed_over``). ``dry``: size and modification time of files that were read to their end since, though
    preallocated space may follow it.
    """

    floor: int | None = None
    left: list[Place] = field(default_factory=list)
    forgotten: int | None = None
    presumed: dict[Key, int] = field(default_factory=dict)
    resumed: int | None = None
    shut: list[File] = field(default_factory=list)
    told: dict[Key, File] = field(default_factory=dict)
    dry: dict[Key, tuple[int, int]] = field(default_factory=dict)

    def position(self, place: Place, header: bytes | None) -> Position:
        """Return the position that is committed with what was read up to ``place``."""
        return Position(**vars(place), floor=self.floor, header=header, left=tuple(self.left), forgotten=self.forgotten)

    def recall(self, position: Position) -> None:
        """Take over what a position remembers."""
        self.floor, self.left, self.forgotten = position.floor, list(position.left), position.forgotten

    def begin(self, first: int | None) -> None:
        """A file is begun, or its first reading became known: raise the floor."""
        if first is not None and (self.floor is None or first > self.floor):
            self.floor = first

    def leave(self, place: Place) -> None:
        """Remember where a file was left."""
        self.left = [each for each in self.left if not (each.file == place.file and each.first == place.first)]
        self.left.append(place)
        alike = [each for each in self.left if (each.data is None) == (place.data is None)]
        for old in alike[:-LEFT]:
            self.left.remove(old)
            self.dry.pop(key(old), None)
            if old.offset:
                self.presumed[key(old)] = old.offset
            if old.first is not None and (self.forgotten is None or old.first > self.forgotten):
                self.forgotten = old.first

    def watch(self, files: Iterable[File], folder: Folder) -> None:
        """Remember files that had nothing to read yet or could not be read: they are unread from offset 0."""
        for file in files:
            if (file.blank or file.problem) and not file.packed and key(file) not in self.presumed:
                known = None if file.problem else self.place_of(file, folder)
                if known is None or not known[1]:
                    self.leave(Place(str(file.path), file.file, 0, "", file.first))

    def moved(self, place: int, to: Place) -> None:
        """A file that was left has now been read up to ``to``."""
        self.left[place] = replace(to, first=self.left[place].first if to.first is None else to.first)

    def ended(self, file: File) -> None:
        """A file was read to its end after it was listed so."""
        self.dry[key(file)] = file.size, file.mtime

    def place_of(self, file: File, folder: Folder) -> tuple[int, int] | None:
        """Return a file's index in :attr:`left` and how many of its bytes were read; None if it is not there."""
        weak = None
        for index, place in enumerate(self.left):
            same = place.file == file.file
            packed = file.packed and place.path + ".gz" == str(file.path)
            moved = place.first is not None and (place.first == file.first or place.path == str(file.path))
            if place.offset == 0:
                found = 0 if packed or (same and not file.packed) else None
            else:
                found = folder.find(file, place) if same or packed or moved else None
            if found is not None and place.data is not None:
                return index, found
            if found is not None and not self._is_forgotten(file):
                weak = index, found
        return weak

    def _is_forgotten(self, file: File) -> bool:
        return file.first is not None and self.forgotten is not None and file.first <= self.forgotten

    def known(self, file: File, cursor: Cursor, folder: Folder) -> Known:
        """Return what is known of a file other than the one being read."""
        presumed = self.presumed.get(key(file))
        if file.problem:
            left = next((each for each in self.left if each.file == file.file), None)
            return Known(file, read=left.offset if left else None, presumed=presumed)
        done = presumed is not None and (file.packed or file.size <= presumed)
        if not done and _is_copy(file, cursor, folder):
            return Known(file, presumed=presumed, copy=True)
        place = self.place_of(file, folder)
        if place is None:
            return Known(file, presumed=presumed)
        index, read = place
        read = file.size if self.dry.get(key(file)) == (file.size, file.mtime) else read
        begun = [*(each.first for each in self.left[index + 1 :]), cursor.first]
        firsts = [first for first in begun if first is not None]
        after = [first for first in firsts if file.first is None or first > file.first]
        return Known(file, read=read, later=min(after or firsts, default=None), presumed=presumed)

    def presume(self, files: Iterable[File], front: Front, last: Last, folder: Folder) -> None:
        """After a restart: presume files at or below the position's floor read, unless there is evidence against it."""
        self.resumed, self.shut = self.floor, []
        for file in files:
            if file is front.file:
                continue
            if file.problem:
                self.shut.append(file)
                if file.mtime <= front.file.mtime:
                    self.presumed[key(file)] = max(file.size, self.presumed.get(key(file), 0))
            else:
                self._presume(file, front, last, folder)

    def presume_opened(self, files: list[File], front: Front, last: Last, folder: Folder) -> None:
        """Do the same for what could not be read then and can now, which has another key and perhaps another name.

        What was not begun before the restart has not been begun since: it is unread, although the floor has risen.
        """
        locked = {file.file for file in files if file.problem}
        for shut in [shut for shut in self.shut if shut.file not in locked]:
            its = [file for file in files if file.file == shut.file or shut.path in _places(file)]
            if its:  # else it is just being renamed
                self.shut.remove(shut)
                self.presumed.pop(key(shut), None)
            for file in its:
                if file is front.file or file.problem or self._presume(file, front, last, folder):
                    continue
                begun = file.first is not None and self.resumed is not None and file.first <= self.resumed
                if not begun and file.first is not None and self.floor is not None and file.first <= self.floor:
                    self.leave(Place(str(file.path), file.file, 0, "", file.first))

    def _presume(self, file: File, front: Front, last: Last, folder: Folder) -> bool:
        """Tell whether it is known how much of a file was read, or all of it is presumed read."""
        if self.place_of(file, folder) is not None:
            return True
        if file.first is None:
            read = file.mtime <= front.file.mtime and not file.blank
        else:
            read = self.resumed is not None and file.first <= self.resumed and not is_suspect(file, front, last)
        if read:
            self.presumed[key(file)] = max(file.size, self.presumed.get(key(file), 0))
        return read


def _places(file: File) -> list[Path]:
    """Return the paths where a file may have been when it could not be read: its own, those of its folders, and the one
    that it had before it was packed."""
    return [file.path, *file.path.parents, *([file.path.with_suffix("")] if file.packed else [])]


def _is_copy(file: File, cursor: Cursor, folder: Folder) -> bool:
    """Tell whether a file begins with what was read of the one being read."""
    shared = min(file.size, cursor.offset)
    begun = file.first is None and not file.blank  # a copy in the making, with half a reading so far?
    if (file.first != cursor.first and not begun) or not cursor.has_data or shared <= cursor.start:
        return False
    start = max(0, shared - MARK)
    if shared == cursor.offset:
        mine = cursor.window
    else:
        mine = folder.fetch(cursor, start, shared - start)
        if len(mine) < shared - start:
            return True  # the front was cut since it was listed, as after a copy: the next look tells what this file is
    base = shared - len(mine)
    return folder.fetch(file, base, shared - base) == mine
