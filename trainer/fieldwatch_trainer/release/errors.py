"""Why a command ends without having done its work, told apart by what the engineer must do."""

from __future__ import annotations


class ReleaseError(Exception):
    """The release cannot go on; the message says why and what would be right. Exit code 1."""


class Refused(ReleaseError):
    """All is sound, but the command would not do what its name says; the message names the right one. Exit code 3."""


class Misused(ReleaseError):
    """The command lacks something that only its user knows. Exit code 2."""


class Taken(ReleaseError):
    """Somebody else has put a file out meanwhile, or an interrupted publication left it."""

    def __init__(self, where: str, name: str) -> None:
        super().__init__(
            f"{where}/{name} is not what it was when this command began: somebody else has published. Devices see "
            "nothing of this command; look at 'status', then give it again"
        )
