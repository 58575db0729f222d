"""What a document shows as code: one rule for all tests that hold documents against programs."""

from __future__ import annotations

import re


def in_code(text: str) -> list[tuple[str | None, str]]:
    """Return in order the language of each block and its lines, and None and the words of each span, in one line.

    >>> in_code("Run `fieldwatch-agent\\nstatus`:\\n```sh\\nmake\\n```\\n")
    [(None, 'fieldwatch-agent status'), ('sh', 'make\\n')]
    """
    found = re.finditer(r"^```(\w*)\n(.*?)^```|`([^`]+)`", text, re.S | re.M)
    return [(one[1], one[2]) if one[3] is None else (None, " ".join(one[3].split())) for one in found]
