"""Which licences the frozen agent's components have, and whether Fieldwatch (Apache-2.0) may be shipped with them.

Rule: of a choice (``OR``) one must be allowed, of several at once (``AND``) all. Copyleft is allowed only with the
exception that lets a program of another licence be linked (:data:`ALLOWED`), and for a library that stays a file of its
own which can be replaced (:data:`REPLACEABLE`). A component without a licence, or with one that is not named here,
stops the build: a person must look, and then write it down here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from license_expression import ExpressionError, LicenseExpression, get_spdx_licensing

ALLOWED = frozenset({
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "ISC", "MIT", "MIT-0", "MPL-2.0",
    "PSF-2.0", "Unicode-3.0", "Unicode-DFS-2016", "Unlicense", "Zlib", "blessing", "bzip2-1.0.6",
    "LicenseRef-public-domain",
    "LicenseRef-Microsoft-Distributable-Code",  # to run on Windows alone; the terms are in Python's LICENSE.txt
    "Apache-2.0 WITH LLVM-exception",
    "GPL-2.0-or-later WITH Bootloader-exception",  # what PyInstaller puts into programs
    "GPL-3.0-or-later WITH GCC-exception-3.1",  # the compiler's own libraries
})  # fmt: skip
REPLACEABLE = frozenset({"LGPL-2.1-or-later"})
"""Allowed for a library that is a file of its own in the folder."""

KNOWN = {
    "bzip2": "bzip2-1.0.6", "gcc-12": "GPL-3.0-or-later WITH GCC-exception-3.1", "libffi": "MIT",
    "openssl": "Apache-2.0", "pyinstaller": "GPL-2.0-or-later WITH Bootloader-exception", "pywin32": "BSD-3-Clause",
    "sqlite3": "blessing",
    "util-linux": "BSD-3-Clause", "xz-utils": "LicenseRef-public-domain", "zlib": "Zlib",
}  # fmt: skip
"""Read by a person in the component's own files, where its metadata names none. Of util-linux, xz-utils and gcc-12 only
the libraries are shipped: libuuid, liblzma, libgcc and libstdc++; of pywin32 the folder win32."""
WORDS = {
    "MIT License": "MIT", "Apache 2.0": "Apache-2.0", "3-Clause BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: MIT License": "MIT",
    "License :: OSI Approved :: Apache Software License": "Apache-2.0",
    "License :: OSI Approved :: BSD License": "BSD-3-Clause",
    "License :: OSI Approved :: The Unlicense (Unlicense)": "Unlicense",
}  # fmt: skip
"""What older metadata says, as SPDX says it."""

_SPDX = get_spdx_licensing()


def stated(name: str, words: Iterable[str]) -> str:
    """Return the licence of component ``name`` as an SPDX expression, by the first of ``words`` that says one, else by
    :data:`KNOWN`.

    >>> stated("x", ["", "MIT License"]), stated("x", ["MIT/Apache-2.0"]), stated("x", ["ask us"])
    ('MIT', 'MIT OR Apache-2.0', '')
    """
    for word in words:
        expression = re.sub(r"\s*/\s*", " OR ", WORDS.get(word, word)) if len(word) < 200 else ""
        if expression and _parsed(expression) is not None:
            return expression
    return KNOWN.get(name, "")


def objection(name: str, licence: str, *, replaceable: bool = False) -> str:
    """Return why a component may not be shipped, as a sentence; empty if it may. ``replaceable``: a file of its own.

    >>> objection("x", "GPL-3.0-only OR MIT"), objection("x", "GPL-3.0-only AND MIT")
    ('', 'x: GPL-3.0-only AND MIT is not allowed beside Apache-2.0, see packaging/licences.py')
    """
    parsed = _parsed(licence)
    if parsed is None:
        return f"{name}: states no licence; read its files and name it in KNOWN of packaging/licences.py"
    if _allowed(parsed, ALLOWED | REPLACEABLE if replaceable else ALLOWED):
        return ""
    return f"{name}: {licence} is not allowed beside Apache-2.0, see packaging/licences.py"


def _parsed(expression: str) -> LicenseExpression | None:
    """Return the expression, None where it is none or has a name that SPDX does not know."""
    try:
        parsed = _SPDX.parse(expression)
    except ExpressionError:
        return None
    if parsed is None:
        return None
    unknown = [key for key in _SPDX.unknown_license_keys(parsed) if key not in ALLOWED]
    return None if unknown else parsed


def _allowed(parsed: LicenseExpression, allowed: frozenset[str]) -> bool:
    if isinstance(parsed, _SPDX.AND):
        return all(_allowed(each, allowed) for each in parsed.args)
    if isinstance(parsed, _SPDX.OR):
        return any(_allowed(each, allowed) for each in parsed.args)
    return parsed.render() in allowed
