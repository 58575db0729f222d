"""What an instrument's own program does to its log, done by a program on the PC: ``python instrument.py ACT LOG …``.

* ``rename LOG``: to ``LOG.1``, and a new file in its place.
* ``cut LOG``: a copy to ``LOG.2``, then the same file from its beginning.
* ``delete LOG``: and a new file in its place.
* ``hold LOG ROWS FLAG``: open it so that nobody else may, append the content of ROWS, keep it until FLAG exists.
* ``beneath LOG AGENT``: rename and delete it while the agent's own function, below AGENT, has it open.

Each new file begins with the first line of the old one.
"""

from __future__ import annotations

import shutil
import sys
import time
from pathlib import Path

import win32con
import win32file


def hold(log: Path, rows: Path, flag: Path) -> None:
    nobody = 0
    handle = win32file.CreateFile(str(log), win32con.GENERIC_WRITE, nobody, None, win32con.OPEN_EXISTING, 0, None)
    win32file.SetFilePointer(handle, 0, win32con.FILE_END)
    win32file.WriteFile(handle, rows.read_bytes())
    print("held", flush=True)
    while not flag.exists():
        time.sleep(0.1)
    handle.Close()


def beneath(log: Path, agent: Path) -> None:
    sys.path.insert(0, str(agent))
    from fieldwatch_agent.log.shared_file import open_shared

    before = log.read_bytes()
    with open_shared(log) as file:
        moved = log.rename(log.with_name("moved"))
        with log.open("ab") as new:
            new.write(b"x")
        moved.unlink()
        assert file.read() == before
    log.write_bytes(before)


def main() -> None:
    act, log, *more = sys.argv[1], *map(Path, sys.argv[2:])
    with log.open("rb") as file:
        header = file.readline()
    if act == "hold":
        hold(log, *more)
    elif act == "beneath":
        beneath(log, *more)
    elif act == "cut":
        shutil.copy(log, f"{log}.2")
        with log.open("r+b") as file:
            file.truncate(0)
            file.write(header)
    else:
        if act == "rename":
            log.rename(f"{log}.1")
        else:
            log.unlink()
        with log.open("xb") as file:
            file.write(header)


main()
