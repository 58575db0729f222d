"""The wheel: everything a program needs and nothing that lies about in the checkout."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel of a copy of what is committed, in which a demo has left its folder."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    listed = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True)
    names = listed.stdout.splitlines()
    assert names
    for name in names:
        if (ROOT / name).is_file():
            target = source / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes((ROOT / name).read_bytes())
    left = source / "demo-state" / "keys"
    left.mkdir(parents=True)
    (left / "prod-1.json").write_text('{"private": "key"}')
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=source, check=True, capture_output=True,
    )  # fmt: skip
    return next(folder.glob("*.whl"))


def test_it_holds_the_rooms_and_their_files_and_nothing_else(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    rooms = {f"fieldwatch_{room}" for room in ("contract", "agent", "trainer", "cloud", "demo")}
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == rooms
    for needed in (
        "fieldwatch_agent/self_test.zip", "fieldwatch_cloud/web/templates/alert.html",
        "fieldwatch_cloud/web/static/vendor/uPlot.LICENSE.txt", "fieldwatch_contract/schemas/asyncapi.json",
        "fieldwatch_trainer/release/repository.py",
    ):  # fmt: skip
        assert needed in names
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_a_door_without_its_extra_says_what_to_install(wheel: Path, tmp_path: Path) -> None:
    """With the agent's dependencies alone: here, with none of the optional ones in reach."""
    script = (
        "import sys; sys.path[:0] = [sys.argv.pop(1)]\n"
        "class Absent:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('pyarrow', 'sklearn', 'lightgbm', 'onnx', 'fastapi', 'sqlalchemy'):\n"
        "            raise ModuleNotFoundError(f'No module named {name!r}', name=name.split('.')[0])\n"
        "sys.meta_path.insert(0, Absent())\n"
        "import runpy; runpy.run_module(sys.argv.pop(1), run_name='__main__', alter_sys=True)\n"
    )
    for module, arguments, extra in (
        ("fieldwatch_trainer", ["check", "--lake", "lake"], "trainer"),
        ("fieldwatch_cloud", ["serve"], "cloud"),
        ("fieldwatch_demo", [], "demo"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", script, str(wheel), module, *arguments],
            cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1, (module, done.stderr)
        assert f"pip install '.[{extra}]' in the checkout" in done.stderr
        assert "Traceback" not in done.stderr
