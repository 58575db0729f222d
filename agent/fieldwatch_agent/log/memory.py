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
    and are no longer among them. ``presumed``: sizes of files presumed read. ``shut``: files and folders that could not
    be read when that was presumed. ``told``: skipped files that were announced (``file_passed_over``).
    """

    floor: int | None = None
    left: list[Place] = field(default_factory=list)
    forgotten: int | None = None
    presumed: dict[Key, int] = field(default_factory=dict)
    shut: list[File] = field(default_factory=list)
    told: dict[Key, File] = field(default_factory=dict)

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
        begun = [*(each.first for each in self.left[index + 1 :]), cursor.first]
        firsts = [first for first in begun if first is not None]
        after = [first for first in firsts if file.first is None or first > file.first]
        return Known(file, read=read, later=min(after or firsts, default=None), presumed=presumed)

    def presume(self, files: Iterable[File], front: Front, last: Last, folder: Folder) -> None:
        """After a restart: presume files at or below the position's floor read, unless there is evidence against it."""
        for file in files:
            if file is front.file or (not file.problem and self.place_of(file, folder) is not None):
                continue
            older = file.mtime <= front.file.mtime
            if file.problem:
                read = older
            elif file.first is None:
                read = older and not file.blank
            else:
                read = self.floor is not None and file.first <= self.floor and not is_suspect(file, front, last)
            if read:
                self.presumed[key(file)] = max(file.size, self.presumed.get(key(file), 0))
            if file.problem:
                self.shut.append(file)

    def presume_opened(self, files: list[File], front: Front, last: Last, folder: Folder) -> None:
        """Do the same for what could not be read then and can now, which has another key and perhaps another name."""
        locked = {file.file for file in files if file.problem}
        opened: list[File] = []
        for shut in [shut for shut in self.shut if shut.file not in locked]:
            its = [each for each in files if each.file == shut.file or shut.path in (each.path, *each.path.parents)]
            if its:  # else it is just being renamed
                opened += its
                self.shut.remove(shut)
        self.presume((file for file in opened if not file.problem), front, last, folder)


def _is_copy(file: File, cursor: Cursor, folder: Folder) -> bool:
    """Tell whether a file begins with what was read of the one being read."""
    shared = min(file.size, cursor.offset)
    if file.first != cursor.first or not cursor.has_data or shared <= cursor.start:
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
