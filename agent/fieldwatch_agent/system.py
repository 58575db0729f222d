"""Which of two systems this is: asked where Windows and POSIX differ, and set by tests that play Windows elsewhere."""

from __future__ import annotations

import os

WINDOWS = os.name == "nt"
