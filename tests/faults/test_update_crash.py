"""Activation killed at every line that touches the disk, by a real process exit: it ends with the right, whole bundle.

For each such line of a scenario a child process is forked that leaves by ``os._exit`` just before it (between two of
them the disk is the same); a fresh process then looks at the folder and finishes the job. ``os._exit`` runs no
``finally`` and flushes nothing, as kill -9; loss of what the disk had not yet stored is argued in
``fieldwatch_agent/durable.py``, not tested, so the folder may lie in memory, where a thousand flushes cost nothing.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from fieldwatch_contract.bundle import read_bundle

from tests.bundles import make_bundle

ROOT = Path(__file__).resolve().parent.parent.parent

DRIVER = '''
"""Runs a scenario again and again, dying before another line that touches the disk each time."""
import json, os, shutil, sys
from pathlib import Path
from fieldwatch_agent.update.activation import Activation
from fieldwatch_agent.update.states import State

work, name = Path(sys.argv[1]), sys.argv[2]
v1, v2 = (work / "v1.zip").read_bytes(), (work / "v2.zip").read_bytes()
S1, S2 = sys.argv[3:5]

def service_start(folder):
    """The service comes up, says what happened, scores, commits."""
    activation = Activation(folder)
    bundle = activation.start()
    journal = folder / "journal"
    events = activation.events()
    if events:
        with journal.open("a") as file:
            file.writelines(e.model_dump_json() + "\\n" for e in events)
        activation.announced(len(events))
    activation.commit(bundle.sha256)

def update(folder):
    activation = Activation(folder)
    activation.switch(activation.stage(v2), 2)

def sick(folder):
    update(folder)
    activation = Activation(folder)
    activation.start()
    activation.happened("broken", S2, "scores nonsense")

def damaged(folder):
    update(folder)
    Activation(folder).commit(S2)
    Activation(folder).path(S2).write_bytes(b"damaged")
    service_start(folder)

SCENARIOS = {
    "update": lambda f: (update(f), service_start(f)),
    "sick": sick,
    "damaged": damaged,
    "crashing": lambda f: (update(f), [crash(f) for _ in range(5)]),
}

def crash(folder):
    """The service comes up and ends in the midst of a block."""
    activation = Activation(folder)
    activation.attempt(activation.start().sha256).__enter__()

def base(folder):
    activation = Activation(folder)
    activation.switch(activation.stage(v1))
    service_start(folder)

def child(folder, fatal):
    """Fork, run, die before line number ``fatal``; return whether it died."""
    pid = os.fork()
    if pid:
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    seen = 0
    def tracer(frame, event, arg):
        nonlocal seen
        code = frame.f_code
        durable = code.co_filename.endswith("fieldwatch_agent/durable.py") and code.co_name != "read"
        if not (durable or code.co_name in ("stage", "_collect")):
            return None
        if event == "line":
            seen += 1
            if seen == fatal:
                os._exit(77)
        return tracer
    code = 1
    try:
        sys.settrace(tracer)
        SCENARIOS[name](folder)
        code = 0
    finally:
        os._exit(code)

def look(folder):
    """What a fresh process finds: always a whole bundle."""
    activation = Activation(folder)
    bundle = activation.current()
    return bundle.sha256 if bundle else None

def finish(folder):
    """Whoever comes next finishes the job."""
    state = Activation(folder).state()
    if name == "update":
        if state.current.sha256 != S2:
            update(folder)
        service_start(folder)
        service_start(folder)
    elif name == "damaged":
        if look(folder) != S2:
            update(folder)
        service_start(folder)
        service_start(folder)
    elif name == "sick":
        if state.refusal(S2) is None:
            sick(folder)
        service_start(folder)
    elif name == "crashing":
        if state.refusal(S2) is None and state.current.sha256 != S2:
            update(folder)
        for _ in range(5):
            crash(folder)
    Activation(folder)._collect()

first = work / "first"
base(first)
deaths, problems = 0, []
fatal = 1
while True:
    folder = work / "run"
    shutil.copytree(first, folder)
    code = child(folder, fatal)
    if code == 0:
        break
    if code != 77:
        problems.append([fatal, "ended by itself", code])
        break
    deaths += 1
    State.model_validate_json((folder / "activation.json").read_bytes())  # whole, whatever happened
    found = look(folder)
    if found not in (S1, S2):
        problems.append([fatal, "no whole bundle", found])
    finish(folder)
    want = S2 if name in ("update", "damaged") else S1
    state = Activation(folder).state()
    if look(folder) != want:
        problems.append([fatal, "did not converge", state.model_dump_json()])
    if name in ("sick", "crashing") and state.refusal(S2) is None:
        problems.append([fatal, "the bad bundle is not refused"])
    if state.security_floor != 2:
        problems.append([fatal, "security floor", state.security_floor])
    kept = {b.sha256 for b in (state.current, state.previous, state.staged) if b}
    left = {p.name for p in (folder / "bundles").iterdir()} - {sha + ".zip" for sha in kept}
    if left:
        problems.append([fatal, "left over", sorted(left)])
    if name == "update":
        said = [json.loads(line) for line in (folder / "journal").read_text().splitlines()]
        if "v2" not in [e["bundle"]["version"] for e in said if e["transition"] == "activated"]:
            problems.append([fatal, "the activation was never told", said])
    shutil.rmtree(folder)
    fatal += 1
print(json.dumps({"deaths": deaths, "problems": problems}))
'''


@pytest.fixture
def folder() -> Iterator[Path]:
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as name:
        yield Path(name)


@pytest.mark.soak
@pytest.mark.skipif(sys.platform == "win32", reason="the driver forks; the rules are the same code on Windows")
@pytest.mark.parametrize("scenario", ["update", "sick", "damaged", "crashing"])
def test_killed_before_every_line(scenario: str, folder: Path) -> None:
    v1, v2 = make_bundle(version="v1"), make_bundle(version="v2")
    (folder / "v1.zip").write_bytes(v1)
    (folder / "v2.zip").write_bytes(v2)
    hashes = [read_bundle(data).sha256 for data in (v1, v2)]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(folder), scenario, *hashes],
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    assert said["problems"] == []
    assert said["deaths"] > 100, "the scenario has more such lines than that"
