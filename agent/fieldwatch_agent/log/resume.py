"""Finds a committed read position again: in which listed file it is, and which header was in effect there.

| what was read up to the place | the file is |
|---|---|
| readings | the one that holds their bytes; among copies: same first reading, then same inode, then the longest |
| titles and column names, and the beginning of a line | the earliest unread one that continues with it |
| titles and column names, of a file whose first reading was known | the one with that first reading |
| titles and column names, of a file without a reading | the one with that path and inode, if it still has none |

Titles may be rewritten (a row count); where nothing else was read, the file is read from its beginning again.

The bytes decide. The time of the first reading also depends on the configured format and zone and on this computer's
clock, all of which may be corrected some day; it is used only where no reading was read yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from fieldwatch_contract.reading.text import Format, cut

from fieldwatch_agent.log.cursor import LINE_LIMIT
from fieldwatch_agent.log.files import HEAD, File, Folder
from fieldwatch_agent.log.order import earliest
from fieldwatch_agent.log.position import Place


def locate(folder: Folder, place: Place, floor: int | None, torn: bytes = b"") -> tuple[File, int] | None:
    """Return the file that holds what was read up to ``place``, and the offset in it; None if there is none.

    ``floor``: the latest first reading of all files begun. ``torn``: what was seen of a line after the place.
    """
    found = {file: at for file in folder.files if (at := folder.find(file, place)) is not None}
    same = [file for file in found if place.first is not None and file.first == place.first]
    files = same or list(found)
    told = [file for file in files if has_data(file, found[file], place)]
    if told:
        best = max(told, key=lambda file: (file.file == place.file, file.size, not file.packed))
        return best, found[best]
    begins = [file for file in folder.files if file.data is None or place.offset <= file.data]
    unread = [file for file in begins if not file.problem and place.data is None]
    if torn:
        unread = [file for file in unread if file.first in {None, place.first} or floor is None or file.first > floor]
        starts = {file: found.get(file, file.data) for file in unread}
        found = {file: at for file, at in starts.items() if at is not None and _has(folder, file, at, torn)}
    elif place.first is not None:
        found = {file: found.get(file, 0) for file in unread if file.first == place.first}
    else:
        where = (place.file, place.path)
        found = {f: at for f, at in found.items() if f.first is None and (f.file, str(f.path)) == where}
    chosen = earliest(found)
    return (chosen, found[chosen]) if chosen is not None else None


def _has(folder: Folder, file: File, offset: int, content: bytes) -> bool:
    return folder.fetch(file, offset, len(content)) == content


def has_data(file: File, offset: int, place: Place) -> bool:
    """Tell whether there is a reading before ``offset``, even one that the current format does not understand."""
    if place.data is not None:
        return True
    return offset > (HEAD if file.data is None else file.data)


def header_before(folder: Folder, file: File, offset: int, format: Format, ancestors: int) -> bytes | None:
    """Return the header in effect at ``offset``, from the file itself or one of the ``ancestors`` before it."""
    place = next((at for at, each in enumerate(folder.files) if each.path == file.path), 0)
    before: Sequence[File] = folder.files[max(0, place - ancestors) : place][::-1]
    for older, end in [(file, offset), *((each, each.size) for each in before if not each.problem)]:
        header: bytes | None = None
        for line in _lines_until(folder, older, end):
            if format.is_header(line, header):
                header = line
        if header is not None:
            return header
    return None


def _lines_until(folder: Folder, file: File, end: int) -> Iterator[bytes]:
    found = folder.encoding(file)
    if found is None:
        return
    encoding, at = found
    while at < end:
        chunk = folder.fetch(file, at, min(LINE_LIMIT, end - at))
        lines, lengths = cut(chunk, encoding)
        yield from lines
        if not chunk:
            return
        at += sum(lengths) or len(chunk)
