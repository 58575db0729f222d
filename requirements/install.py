"""``python requirements/install.py demo|dev|freeze``: makes ``.venv`` and installs what the lock of that name pins.

It says from its first second what it does, and where it fails its last lines say the one thing that failed and the
remedy; pip's own words are in ``.venv/install.log``. What is there already stays: ``dev`` on top of ``demo`` adds the
tools. Needs nothing but Python.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
OLDEST = (3, 11)
NEEDED_MB = {"demo": (700, 350), "dev": (1400, 600), "freeze": (240, 100)}
"""Space for the installed packages, and in the folder for temporary files for their archives while pip works."""
TICK = 0.2
PLAIN_EVERY = 10.0
"""Seconds between two lines where the output is no terminal."""

CAUSES = (
    (r"No space left on device|Disk quota exceeded", "the disk is full", "free {space} MB and try again"),
    (
        r"Failed to establish a new connection|Name or service not known|NameResolutionError|NewConnectionError|"
        r"ConnectTimeoutError|ReadTimeoutError|Read timed out|Connection refused|ProxyError|Network is unreachable|"
        r"getaddrinfo failed|Could not fetch URL",
        "the package index cannot be reached",
        "check the network and pip's settings (pip config list: index-url, proxy), then try again: "
        "what has been fetched is kept",
    ),
    (
        r"THESE PACKAGES DO NOT MATCH THE HASHES",
        "a package is not the one that the lock file pins",
        "the index or a proxy serves other files: use another index (pip config set global.index-url), "
        "and if you changed pyproject.toml, make lock",
    ),
    (
        r"satisfies the requirement (?P<what>\S+) \(from versions: none\)",
        "the package index cannot be reached, or has no {what}",
        "check the network and pip's settings (pip config list: index-url, proxy), then try again",
    ),
    (
        r"No matching distribution found for (?P<what>\S+)",
        "there is no {what} for this Python and system",
        "use a CPython from 3.11 to 3.14 on Linux x86-64 or arm64, macOS or Windows: make PYTHON=/path/to/python3",
    ),
    (r"Permission denied", "a file cannot be written", "make the checkout yours, or remove .venv, and try again"),
)
"""What pip says when it fails, in the order of their weight: pattern, what failed, remedy."""


class InstallError(Exception):
    """What failed, and what would help."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(what)
        self.remedy = remedy


class Status:
    """One line that counts the seconds on a terminal; elsewhere a line now and then."""

    def __init__(self) -> None:
        self._text = ""
        self._began = time.monotonic()
        self._told = 0.0
        self._fancy = sys.stderr.isatty()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._tick, daemon=True)

    def __enter__(self) -> Status:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()
        if self._fancy:
            print(file=sys.stderr)

    def say(self, text: str, now: bool = False) -> None:
        """Show ``text`` from now on; ``now``: also where the last line was not long ago."""
        self._text = text
        if now and not self._fancy:
            self._print()

    def _tick(self) -> None:
        while not self._ended.wait(TICK):
            if self._fancy or time.monotonic() - self._told > PLAIN_EVERY:
                self._print()

    def _print(self) -> None:
        self._told = time.monotonic()
        line = f"  {self._text[:90]:<90}{time.monotonic() - self._began:6.0f} s"
        print(f"\r{line}" if self._fancy else line, end="" if self._fancy else "\n", file=sys.stderr, flush=True)


def main(arguments: list[str]) -> int:
    """Install and return the exit code."""
    if len(arguments) != 1 or arguments[0] not in NEEDED_MB:
        print("usage: python requirements/install.py demo|dev|freeze", file=sys.stderr)
        return 2
    name = arguments[0]
    try:
        try:
            install(name)
        except OSError as error:
            raise explained(f"ERROR: {error}", name) from error
    except InstallError as error:
        print(f"\nthe set-up failed: {error}\nremedy: {error.remedy}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nthe set-up was interrupted; the next one goes on from here", file=sys.stderr)
        return 1
    return 0


def install(name: str) -> None:
    """Make the environment where there is none, and bring it to the lock file. Raises :class:`InstallError`."""
    lock = ROOT / "requirements" / f"{name}.txt"
    count = len(re.findall(r"^[\w.-]+(?:\[.*?\])?==", lock.read_text(encoding="utf-8"), re.M))
    print(f"set up {VENV.name} for {name}: about {count} packages, {NEEDED_MB[name][0]} MB", file=sys.stderr)
    check(name)
    with Status() as status:
        status.say("make the virtual environment", now=True)
        python = environment(name)
        log = VENV / "install.log"
        log.write_bytes(b"")
        pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "install"]
        watch = Watch(status, count)
        run([*pip, "--require-hashes", "--no-compile", "--progress-bar", "off", "-r", str(lock)], log, name, watch)
        status.say("install the checkout itself", now=True)
        run([*pip, "--no-deps", "--no-build-isolation", "-e", str(ROOT)], log, name)
        status.say(f"ready: {VENV.name} for {name}", now=True)


def check(name: str) -> None:
    """Raise :class:`InstallError` where there is not the space for it."""
    installed, archives = NEEDED_MB[name]
    there = sum(path.lstat().st_size for path in VENV.rglob("*")) // 1_000_000
    for folder, needed in ((ROOT, installed - there), (Path(tempfile.gettempdir()), archives - there)):
        free = shutil.disk_usage(folder).free // 1_000_000
        if free < needed:
            raise InstallError(
                f"{folder} has {free} MB free, the set-up needs {needed} MB there",
                "free some space" + ("" if folder == ROOT else ", or set TMPDIR to a folder on another disk"),
            )


def environment(name: str) -> Path:
    """Return the Python of the virtual environment, made where it is missing or of another version.

    ``name``: the lock whose packages are to go in, for what is said about space.
    """
    python = VENV / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    version = "import sys; print(sys.version_info[:2])"
    found = (
        subprocess.run([python, "-c", version], capture_output=True, text=True, check=False)
        if python.exists()
        else None
    )
    if found is None or found.stdout.strip() != str(sys.version_info[:2]):
        made = subprocess.run(
            [sys.executable, "-m", "venv", "--clear", VENV], capture_output=True, text=True, check=False
        )
        if made.returncode != 0:
            words = (made.stdout + made.stderr).strip()
            if shutil.disk_usage(ROOT).free < 50_000_000:
                raise explained("ERROR: No space left on device", name)
            if "ensurepip is not available" in words:
                raise InstallError("this Python cannot make virtual environments", "apt install python3-venv")
            raise explained(words, name)
        # Python 3.11 brings setuptools, which nothing here uses.
        subprocess.run([python, "-m", "pip", "uninstall", "-qy", "setuptools"], capture_output=True, check=False)
    if subprocess.run([python, "-m", "pip", "--version"], capture_output=True, check=False).returncode != 0:
        subprocess.run([python, "-m", "ensurepip"], capture_output=True, check=False)
    return python


class Watch:
    """Turns pip's lines into the status."""

    def __init__(self, status: Status, count: int) -> None:
        self._status = status
        self._count = count
        self._seen = 0

    def line(self, text: str) -> None:
        """Take a line of pip's output."""
        if found := re.match(r"(?:Collecting|Requirement already satisfied:|Processing (?:\S*/)?) ?([\w.]+)", text):
            self._seen += 1
            self._status.say(f"package {self._seen} of {self._count}: {found[1]}", now=self._seen % 10 == 1)
        elif found := re.match(r"\s+Downloading (\S+) \((.+)\)", text):
            name = found[1].rpartition("/")[2].split("-")[0]
            self._status.say(f"package {self._seen} of {self._count}: {name}, {found[2]}", now="MB" in found[2])
        elif text.startswith("Installing collected packages"):
            self._status.say(f"unpack {text.count(',') + 1} packages", now=True)
        elif "Retrying" in text:
            self._status.say("the package index does not answer, pip tries again", now=True)


def run(command: list[str], log: Path, name: str, watch: Watch | None = None) -> None:
    """Run pip, its output into ``log``. Raises :class:`InstallError` where it fails."""
    words = []
    with (
        log.open("ab") as file,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=ROOT) as process,
    ):
        assert process.stdout is not None
        for raw in process.stdout:
            file.write(raw)
            words.append(raw.decode(errors="replace"))
            if watch is not None:
                watch.line(words[-1])
    if process.returncode != 0:
        raise explained("".join(words), name)


def explained(words: str, name: str) -> InstallError:
    """Return what pip's words mean."""
    for pattern, what, remedy in CAUSES:
        if found := re.search(pattern, words):
            return InstallError(what.format(**found.groupdict()), remedy.format(space=sum(NEEDED_MB[name])))
    errors = [line.removeprefix("ERROR: ") for line in words.splitlines() if line.startswith("ERROR")]
    last = [*words.strip().splitlines(), "pip ended without a word"][-1]
    return InstallError((errors or [last])[0], f"see {VENV.name}/install.log")


if __name__ == "__main__":
    if sys.version_info[:2] < OLDEST:
        sys.exit(
            f"this is Python {sys.version.split()[0]}; Fieldwatch needs 3.11 or later: make PYTHON=/path/to/python3"
        )
    sys.exit(main(sys.argv[1:]))
