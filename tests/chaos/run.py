"""A kill run: rounds of two agents each, everything killed every few seconds, and in the end the comparison.

In each round two stations write in two of the three manners, one beside Mosquitto and ingest, one beside the embedded
broker; the next round gives each manner the other place. When a round's time is over the faults end, and what was
written must arrive: first as the agents stand, then once more after their state is deleted, which makes them read
their logs again under a new epoch and must change nothing.
"""

from __future__ import annotations

import itertools
import json
import random
import sqlite3
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree

from fieldwatch_contract.bundle import read_bundle
from fieldwatch_contract.verdicts import VERDICTS

from tests.chaos.judge import Ledger, Stored, Verdict, judge, late_lines, parse_replay, score_of, whole_log
from tests.chaos.site import PATIENCE, Cloud, Station, wait_for
from tests.chaos.writer import MANNERS

AGENT_FAULTS = ("kill",) * 6 + ("stop",) * 2 + ("freeze", "away")
BROKERS = ("mosquitto", "embedded")


@dataclass
class Outcome:
    """Of one station in one round."""

    manner: str
    broker: str
    faults: Counter[str] = field(default_factory=Counter)
    verdict: Verdict = field(default_factory=Verdict)
    rotations: int = 0


def rounds(minutes: float, seed: int) -> Iterator[tuple[int, float, list[tuple[str, str]]]]:
    """Cut the time into rounds; yield number, seconds and each station's manner and broker.

    Three rounds, which give each manner each broker; one where there is little time.
    """
    count = 3 if minutes >= 3 else 1
    for number in range(count):
        first = (seed + number) % len(MANNERS)
        pair = [MANNERS[first], MANNERS[(first + 1) % len(MANNERS)]]
        yield number, minutes * 60 / count, list(zip(pair, BROKERS, strict=True))


def run_round(
    folder: Path, seconds: float, pairs: list[tuple[str, str]], seed: int, say: Callable[[str], None]
) -> list[Outcome]:
    """Run one round in ``folder``, for ``seconds`` or until enough has happened, and judge it."""
    rng = random.Random(seed)
    folder.mkdir(parents=True)
    clouds = {broker: Cloud(folder / broker, broker) for _, broker in pairs}
    stations = [
        Station(folder / f"press-{i:04d}", f"press-{i:04d}", manner, clouds[broker], rng.randrange(2**32))
        for i, (manner, broker) in enumerate(pairs, 1)
    ]
    outcomes = [Outcome(manner, broker) for manner, broker in pairs]
    try:
        for cloud in clouds.values():
            cloud.start()
            cloud.wait_for_broker()
        for station in stations:
            station.writer.start()
            station.agent.start()
        for station in stations:
            if not wait_for(lambda one=station: results(one) > 0, PATIENCE):  # type: ignore[misc]
                raise RuntimeError(f"{station.device}: no result arrived within {PATIENCE:.0f} s")
        end = time.monotonic() + seconds
        places = list(zip(stations, outcomes, strict=True))
        turns = itertools.cycle(places)
        while time.monotonic() < end or not all(has_seen_enough(*pair) for pair in places):
            station, outcome = next(turns)
            outcome.faults[_strike(station, rng)] += 1
            time.sleep(rng.uniform(0.2, 2.0))
        for station, outcome in zip(stations, outcomes, strict=True):
            station.writer.stop()
            outcome.rotations = station.writer.rotations
            station.agent.stop()
        for station, outcome in zip(stations, outcomes, strict=True):
            say(f"{station.device}: {len(station.writer.lines)} lines written, waiting for the rest to arrive")
            outcome.verdict = conclude(station)
    finally:
        for station in stations:
            station.agent.kill()
            station.writer.stop()
        for cloud in clouds.values():
            cloud.end()
    return outcomes


def has_seen_enough(station: Station, outcome: Outcome) -> bool:
    """Tell whether a station had faults, rotations and alerts; on a busy machine that takes longer."""
    return outcome.faults.total() >= 2 and station.writer.rotations >= 3 and len(station.writer.lines) >= 2000


def _strike(station: Station, rng: random.Random) -> str:
    """Let something happen to a station; return what."""
    fault = rng.choice((*AGENT_FAULTS, *station.cloud.victims))
    agent = station.agent
    if fault in station.cloud.victims:
        station.cloud.kill(fault, rng.uniform(0, 1.0))
    elif fault == "freeze":
        agent.freeze()
        time.sleep(rng.uniform(0.5, 4.0))
        agent.thaw()
    else:
        if rng.random() < 0.7:  # else it dies wherever it is in its start
            before = results(station)
            wait_for(lambda: results(station) > before, 10)
        agent.stop() if fault == "stop" else agent.kill()
        time.sleep(rng.uniform(3, 8) if fault == "away" else rng.uniform(0, 0.5))  # away: several rotations pass
    agent.start()
    return fault


def conclude(station: Station) -> Verdict:
    """Let everything arrive and compare, now and after the state was lost."""
    lines = station.writer.lines
    (station.folder / "written.csv").write_bytes(whole_log(lines, set()))
    rules = {spec.name: spec.alert for spec in read_bundle(station.bundle).manifest.models}
    verdict = Verdict()
    try:
        station.agent.run("--until-idle")
        before = stored(station)
        expected = parse_replay(station.replay(whole_log(lines, late_lines(lines, before))))
        verdict = judge(station.device, lines, before, expected, rules)
        rmtree(station.folder / "state")
        station.install()
        station.agent.run("--until-idle")
        again = stored(station)
        if changed := [key for key, score in before.scores.items() if again.scores.get(key) != score]:
            verdict.differences.append(f"{len(changed)} results changed when the log was read again")
        if again.ledger.read != len(lines):
            verdict.differences.append(f"read again under a new epoch: {again.ledger.read} of {len(lines)} lines")
        if not verdict.told_late and again.transitions != before.transitions:
            verdict.differences.append("other alerts when the log was read again")
    except (RuntimeError, sqlite3.Error) as error:
        verdict.differences.append(str(error))
    verdict.differences += station.agent.deaths + station.cloud.ingest.deaths
    return verdict


def _open(station: Station) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{station.cloud.database}?mode=ro", uri=True, timeout=60)


def results(station: Station) -> int:
    """How many results the cloud holds of the station."""
    if not station.cloud.database.exists():
        return 0
    with closing(_open(station)) as db:
        try:
            found = db.execute("SELECT count(*) FROM result WHERE device = ?", (station.device,)).fetchone()[0]
        except sqlite3.OperationalError:  # the tables are not there yet
            return 0
    return int(found)


def stored(station: Station) -> Stored:
    """What the cloud holds of the station; the ledger and the gaps of the newest epoch."""
    device = station.device
    with closing(_open(station)) as db:
        (epoch,) = db.execute("SELECT epoch FROM device WHERE id = ?", (device,)).fetchone()
        scores = {
            (ts, model): score_of(
                {
                    "score": score, "threshold": threshold, "verdict": VERDICTS[code].value,
                    "sensors": json.loads(sensors), "shares": json.loads(shares),
                }
            )
            for ts, model, score, threshold, code, sensors, shares in db.execute(
                "SELECT ts, model, score, threshold, verdict, sensors, shares FROM result WHERE device = ?", (device,)
            )
        }  # fmt: skip
        read, evicted, refused, unbalanced = 0, 0, Counter[str](), []
        for day, seen, scored, reasons, gone, pending in db.execute(
            "SELECT day, read, scored, refused, evicted, pending FROM ledger WHERE device = ? AND epoch = ?",
            (device, epoch),
        ):
            counts = Counter(json.loads(reasons))
            read, evicted, refused = read + seen, evicted + gone, refused + counts
            if seen != scored + counts.total() + gone + pending or pending:
                unbalanced.append(day)
        said = "SELECT data FROM event WHERE device = ? AND epoch = ? AND type = ?"
        gaps = [json.loads(data) for (data,) in db.execute(said, (device, epoch, "gap"))]
        healths = [json.loads(data) for (data,) in db.execute(said, (device, epoch, "health"))]
        changes = set(db.execute(
            "SELECT e.alert_id, e.transition, e.ts FROM alert_event e JOIN alert a USING (alert_id) WHERE a.device = ?",
            (device,),
        ))  # fmt: skip
        aside = [f"{topic}: {reason}" for topic, reason in db.execute("SELECT topic, reason FROM quarantine")]
    return Stored(
        scores=scores,
        ledger=Ledger(read, refused, evicted, unbalanced),
        gaps=[f"{gap['reason']}: {gap['detail']}" for gap in gaps],
        unfilled=[
            trouble["detail"]
            for health in healths
            for trouble in health.get("troubles", [])
            if trouble["kind"] == "window_unfilled"
        ],
        transitions=changes,
        set_aside=[text for text in aside if f"/{device}/" in text],
    )


COLUMNS = (
    "round", "log", "broker", "rotations", "faults", "lines", "malformed", "stored", "lost", "doubled", "other scores",
    "told late", "told unknown", "alerts", "",
)  # fmt: skip


def table(outcomes: list[tuple[int, Outcome]]) -> str:
    """The summary: a line a station, then the faults by kind and every difference."""
    rows = [COLUMNS]
    for number, each in outcomes:
        v = each.verdict
        numbers = (each.rotations, each.faults.total(), v.written, v.malformed, v.stored, v.lost, v.doubled, v.other)
        more = (v.told_late, v.told_unknown, v.alerts)
        end = "DIFFERS" if v.differences else "ok"
        rows.append((str(number + 1), each.manner, each.broker, *map(str, (*numbers, *more)), end))
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    faults = sum((each.faults for _, each in outcomes), Counter[str]())
    lines.append("faults: " + ", ".join(f"{count} {name}" for name, count in faults.most_common()))
    for number, each in outcomes:
        place = f"round {number + 1}, {each.manner}, {each.broker}"
        lines += [f"{place}: unknown because of: {reason}" for reason in each.verdict.reasons]
        lines += [f"DIFFERS: {place}: {text}" for text in each.verdict.differences]
    return "\n".join(lines)
