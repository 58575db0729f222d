"""How to install a room's libraries, for the error message of a program that lacks one.

From the checkout or from the wheel, never by bare name: ``fieldwatch`` on the public package index is not ours.
"""

from __future__ import annotations


def how_to_install(extra: str) -> str:
    """Return the commands for an extra of ``pyproject.toml``.

    >>> how_to_install("cloud")
    "pip install '.[cloud]' in the checkout, or pip install './fieldwatch-VERSION-py3-none-any.whl[cloud]'"
    """
    return f"pip install '.[{extra}]' in the checkout, or pip install './fieldwatch-VERSION-py3-none-any.whl[{extra}]'"
