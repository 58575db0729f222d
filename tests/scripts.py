"""The build scripts in ``packaging/`` as modules: that folder is no package, as it would shadow a library's name."""

from __future__ import annotations

import importlib.util
import sys
from types import ModuleType

from tests.conftest import ROOT


def script(name: str) -> ModuleType:
    """Return ``packaging/NAME.py``. Its folder, where it finds the others, stays last on the path: it hides nothing."""
    folder = ROOT / "packaging"
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    spec = importlib.util.spec_from_file_location(f"fieldwatch_{name}", folder / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # dataclasses look there for their module
    spec.loader.exec_module(module)
    return module
