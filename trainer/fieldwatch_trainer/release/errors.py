"""Why a command ends without having done its work, told apart by what the engineer must do."""

from __future__ import annotations


class ReleaseError(Exception):
    """The release cannot go on; the message says why and what would be right. Exit code 1."""


class Refused(ReleaseError):
    """All is sound, but the command would not do what its name says; the message names the right one. Exit code 3."""
