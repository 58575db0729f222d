"""Which bundles may be published: those whose gates have spoken, and none of them said no. Rules, no I/O.

Training writes its gates into ``run.json``, ``evaluate`` and ``compare`` add theirs to ``gates.json`` beside it; both
are bound to the bundle by its digest. A bundle that is deaf, noisy, worse than random, leaky, or was never judged at
all is refused, until a person accepts it by name. What was accepted is signed with the bundle and read by who
countersigns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from fieldwatch_trainer.release.errors import Refused

ABSENT = "no-gates"
"""The name under which a bundle without any gate is accepted."""


@dataclass(frozen=True)
class Admission:
    """What the judges said: ``passed`` counts, ``open`` and ``accepted`` name gates with what they saw."""

    passed: int
    open: tuple[str, ...] = ()
    accepted: tuple[str, ...] = ()

    def words(self) -> list[str]:
        """Say it in sentences."""
        said = [f"Gates: {self.passed} passed."] if self.passed else []
        said += [f"Not known: {text}." for text in self.open]
        return said + [f"ACCEPTED although refused: {text}." for text in self.accepted]


def admit(run: Mapping[str, Any], records: Sequence[Mapping[str, Any]], accept: Sequence[str]) -> Admission:
    """Decide on a bundle. ``run``: its ``run.json``, empty without one; ``records``: its ``gates.json``.

    Raises :class:`Refused` where a gate failed or none has spoken and ``accept`` does not name it, and where ``accept``
    names what nothing refused: a name that is wrong must not look like a decision.
    """
    gates = list(_gates(run, records))
    refusals = {name: says for name, status, says in gates if status == "failed"}
    if not gates:
        refusals[ABSENT] = (
            "nobody has judged this bundle: no run.json of its training with gates lies beside it; publish it from its "
            "run's folder, or run 'fieldwatch-trainer evaluate' on it"
        )
    if wrong := sorted(set(accept) - set(refusals)):
        known = ", ".join(refusals) or "nothing"
        raise Refused(f"--accept {wrong[0]}: no gate of that name has refused this bundle; refused: {known}")
    if left := {name: says for name, says in refusals.items() if name not in accept}:
        told = "; ".join(f"{name}: {says}" for name, says in left.items())
        flags = " ".join(f"--accept {name}" for name in left)
        raise Refused(f"{told}. Mend it, or take it upon you: {flags}")
    return Admission(
        sum(status == "passed" for _, status, _ in gates),
        tuple(f"{name}: {says}" for name, status, says in gates if status == "unknown"),
        tuple(f"{name}: {says}" for name, says in refusals.items()),
    )


def _gates(run: Mapping[str, Any], records: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, str, str]]:
    """Yield name, status and words of every gate; of one judged again on the same lake the newest is there alone."""
    if "passed" in (run.get("gate") or {}) and run.get("gates"):
        passed = bool(run["gate"]["passed"])
        yield "parity", "passed" if passed else "failed", "what a device computes is what was trained"
    for by, gates in [("train", run.get("gates") or []), *((str(r.get("by")), r.get("gates") or []) for r in records)]:
        for one in gates:
            yield str(one["id"]), str(one["status"]), f"{one['says']} ({by})"
