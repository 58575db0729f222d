"""Takes out of a library where else the loader should look for what it needs.

The interpreter that freezes the agent was built to find its libraries in its own folder, and says so in each of its
modules. On a device there is no such folder, unless somebody makes one: whoever may would have their library loaded by
the service. So the entry goes. What is relative to the library itself (``$ORIGIN``) stays: the wheels need it.

The entry is taken out of the table of the dynamic section (System V ABI, chapter 5); no byte of code or data moves.
"""

from __future__ import annotations

import struct
from pathlib import Path

DYNAMIC = 2
"""Type of the program header that says where the table is."""
STRTAB, RPATH, RUNPATH = 5, 15, 29
LOAD = 1


def forget_search_path(library: Path) -> str | None:
    """Remove the search path of a library if it is not relative to it, and return it; None where there is none.

    Raises :class:`ValueError` where the file is no 64-bit little-endian library, as those of x86-64 and ARM64 are.
    """
    data = bytearray(library.read_bytes())
    if data[:6] != b"\x7fELF\x02\x01":
        raise ValueError(f"{library}: no 64-bit little-endian ELF file")
    headers = _headers(data)
    table = next(((offset, size) for kind, offset, _, size in headers if kind == DYNAMIC), None)
    if table is None:
        return None
    start, end = table[0], table[0] + table[1]
    entries = list(struct.iter_unpack("<qQ", data[start : end - (end - start) % 16]))
    strings = next((value for tag, value in entries if tag == STRTAB), 0)
    for number, (tag, value) in enumerate(entries):
        if tag in {RPATH, RUNPATH}:
            place = _offset(headers, strings) + value
            path = bytes(data[place : data.index(0, place)]).decode()
            if all(part.startswith("$ORIGIN") for part in path.split(":")):
                continue
            kept = [*entries[:number], *entries[number + 1 :], (0, 0)]
            data[start : start + 16 * len(kept)] = b"".join(struct.pack("<qQ", *each) for each in kept)
            library.write_bytes(data)
            return path
    return None


def _headers(data: bytearray) -> list[tuple[int, int, int, int]]:
    """Return type, offset, address and size of each segment."""
    (first,) = struct.unpack_from("<Q", data, 32)
    width, count = struct.unpack_from("<HH", data, 54)
    found = []
    for place in range(first, first + width * count, width):
        kind, _, offset, address, _, size = struct.unpack_from("<IIQQQQ", data, place)
        found.append((kind, offset, address, size))
    return found


def _offset(headers: list[tuple[int, int, int, int]], address: int) -> int:
    """Return where in the file lies what is loaded at an address."""
    for kind, offset, begin, size in headers:
        if kind == LOAD and begin <= address < begin + size:
            return offset + address - begin
    raise ValueError(f"nothing is loaded at {address:#x}")
