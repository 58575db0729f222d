"""A plausible fleet in a real store: everything goes in as events of the contract, by the way that ingest takes."""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from fieldwatch_cloud.ingest.decode import Message, decode
from fieldwatch_cloud.store import Store, sqlite_url
from fieldwatch_cloud.store import tables as t
from fieldwatch_contract import clock
from fieldwatch_contract.alerts import alert_id
from fieldwatch_contract.events import (
    AlertData,
    BundleRef,
    GapData,
    HealthData,
    LedgerDay,
    ModelData,
    OutboxState,
    envelope,
)
from fieldwatch_contract.fields import Evidence
from fieldwatch_contract.topics import topic
from numpy.typing import NDArray

KINDS = ("press", "freezer", "centrifuge", "incubator")
QUANTITIES = ("temp", "pressure", "flow", "current", "vibration", "speed", "voltage", "level", "torque", "humidity")
THRESHOLD = {"detector": 12.5, "classifier": 0.62}
MINUTES_OF_EVIDENCE = 120


@dataclass
class Device:
    """One device's events on their way into the store; ``at`` µs is the newest minute."""

    id: str
    at: int
    sensors: int = 100
    epoch: str = "5e1f"
    seq: int = 0
    messages: list[Message] = field(default_factory=list)

    @property
    def bundle(self) -> BundleRef:
        """The bundle of its family."""
        return BundleRef(name=self.id.rsplit("-", 1)[0], version="2026.11.2", sha256="c3" * 32)

    @property
    def names(self) -> list[str]:
        """Its sensors."""
        return [f"{QUANTITIES[i % len(QUANTITIES)]}_{i // len(QUANTITIES) + 1:02d}" for i in range(self.sensors)]

    def send(self, event: str, data: str, at: int | None = None) -> None:
        """Add one event to what is sent."""
        self.seq += 1
        payload = envelope(self.id, self.epoch, self.seq, event, clock.iso(self.at if at is None else at), data)
        self.messages.append(Message(topic(self.id, f"evt/{event}"), payload))

    def results(self, ratios: dict[str, NDArray[np.float64]], guilty: list[int], full: bool = False) -> None:
        """Send one result a minute, the last one at ``at``; ``ratios``: score / threshold by model."""
        rng = np.random.default_rng(sum(map(ord, self.id)))
        count = len(next(iter(ratios.values())))
        names = self.names
        for minute in range(count):
            ts = self.at - (count - 1 - minute) * clock.MINUTE
            scores = []
            for model, values in ratios.items():
                ratio = float(values[minute])
                if np.isnan(ratio):
                    verdict, score = "unknown", None
                else:
                    raised = "anomalous" if model == "detector" else "faulty"
                    verdict, score = raised if ratio >= 1 else "normal", ratio * THRESHOLD[model]
                blamed = guilty if ratio > 0.6 and guilty else rng.integers(0, self.sensors, 3).tolist()
                who = list(dict.fromkeys(names[i] for i in blamed))
                shares = [round(0.5 / 1.9**k, 4) for k in range(len(who))]
                scores.append(
                    {
                        "model": model,
                        "kind": model,
                        "score": score,
                        "threshold": THRESHOLD[model],
                        "verdict": verdict,
                        "sensors": who,
                        "shares": shares,
                    }
                )
            data: dict[str, Any] = {
                "ts": clock.iso(ts),
                "bundle": f"{self.bundle.name}/{self.bundle.version}",
                "scores": scores,
            }
            if full:
                data["values"] = {
                    name: round(20 + i + 2 * np.sin(minute / 90 + i) + float(rng.normal(0, 0.3)), 3)
                    for i, name in enumerate(names)
                }
            self.send("result", json.dumps(data), ts)

    def alert(
        self,
        store: Store,
        minutes: list[int],
        transitions: list[str],
        model: str,
        guilty: list[int],
        evidence: bool = True,
        peak: float = 1.9,
        late: int = 0,
    ) -> str:
        """Store an alert's life: a transition at each of ``minutes`` before ``at``, the first one its beginning.

        Each arrives ``late`` minutes and some seconds after it happened. ``resolved`` names no sensor, as that of
        a classifier that is quiet again.
        """
        opened = self.at - minutes[0] * clock.MINUTE
        identity = alert_id(self.id, model, opened)
        for minute, transition in zip(minutes, transitions, strict=True):
            ts = self.at - minute * clock.MINUTE
            blamed = guilty if transition != "resolved" else []
            worst = peak if minute != minutes[0] else peak * 0.6
            data = AlertData.model_validate(
                {
                    "alert_id": identity,
                    "transition": transition,
                    "model": model,
                    "kind": model,
                    "severity": "critical" if model == "classifier" else "warning",
                    "opened_at": clock.iso(opened),
                    "ts": clock.iso(ts + 2 * clock.MINUTE if transition == "opened" else ts),
                    "score": THRESHOLD[model] * (worst if transition != "resolved" else 0.4),
                    "peak": THRESHOLD[model] * worst,
                    "threshold": THRESHOLD[model],
                    "rows": minutes[0] - minute + 3,
                    "sensors": [self.names[i] for i in blamed],
                    "shares": [round(0.5 / 1.9**k, 4) for k in range(len(blamed))],
                    "bundle": self.bundle,
                    "evidence": self._evidence(ts, opened, blamed) if evidence else None,
                }
            )
            self.send("alert", data.model_dump_json(), ts)
            self.store(store, clock.parse_iso(data.ts) + late * clock.MINUTE + 4 * clock.SECOND)
        return identity

    def _evidence(self, end: int, opened: int, guilty: list[int]) -> Evidence:
        rng = np.random.default_rng(end % 2**32)
        minutes = MINUTES_OF_EVIDENCE
        ts = end - np.arange(minutes - 1, -1, -1) * clock.MINUTE
        z = rng.normal(0, 0.7, (self.sensors, minutes)) + np.sin(np.arange(minutes) / 25)[None, :] * 0.6
        since = np.clip((ts - opened) / (40 * clock.MINUTE) + 0.25, 0, None)
        for k, sensor in enumerate(guilty):
            z[sensor] += since * (7.0 / (k + 1)) * (-1 if k % 3 == 2 else 1)
        z[5, 40:52] = np.nan
        mean = 20.0 + np.arange(self.sensors)
        scale = 0.4 + 0.1 * (np.arange(self.sensors) % 7)
        values = mean[:, None] + scale[:, None] * z
        coarse = np.clip(np.round(z * 16), -127, 127)
        picture = np.where(np.isnan(coarse), -128, coarse).astype(np.int8)
        return Evidence(
            times=[clock.iso(int(one)) for one in ts],
            sensors=[self.names[i] for i in guilty],
            values=[[None if np.isnan(v) else round(float(v), 4) for v in values[i]] for i in guilty],
            mean=[float(mean[i]) for i in guilty],
            scale=[float(scale[i]) for i in guilty],
            low=[round(float(mean[i] - 2.4 * scale[i]), 2) for i in guilty],
            high=[round(float(mean[i] + 2.6 * scale[i]), 2) for i in guilty],
            scores=[float(v) for v in np.clip(since, 0, 2) * 12.5],
            all_sensors=self.names,
            z=base64.b64encode(picture.tobytes()).decode(),
        )

    def health(
        self,
        minutes: int,
        log: str = "following",
        pending: int = 0,
        evicted: int = 0,
        short: int = 0,
        at: int | None = None,
        **more: Any,
    ) -> None:
        """Send a health report whose ledger counts ``minutes`` stored ones; ``short`` of them never came.

        ``more``: other fields of :class:`.events.HealthData`, or those in place of the ones here.
        """
        day = clock.day_of(self.at)
        before = clock.day_of(self.at - clock.DAY)
        read = min(minutes, (self.at % clock.DAY) // clock.MINUTE + 1)
        older = minutes - read
        refused = {"malformed": 4, "timestamp": 3}
        data = HealthData.model_validate(
            HealthData(
                ts=clock.iso(self.at if at is None else at),
                agent="0.1.0",
                bundle=self.bundle,
                log=log,  # type: ignore[arg-type]
                log_detail="no new line for 42 min" if log == "silent" else "",
                last_reading=clock.iso(self.at),
                lag_bytes=18_432,
                outbox=OutboxState(events=pending, bytes=pending * 700, oldest=None),
                ledger=[
                    LedgerDay(day=before, read=older + 7, scored=older, refused=refused, evicted=0, pending=0),
                    LedgerDay(
                        day=day,
                        read=read + short + 7 + pending + evicted,
                        scored=read + short,
                        refused=refused,
                        evicted=evicted,
                        pending=pending,
                    ),
                ],
            ).model_dump()
            | more
        )
        self.send("health", data.model_dump_json(), at)

    def state(self, status: str, since: int, reason: str = "", connection: str = "c1") -> None:
        """Say that the device is online or offline."""
        data = {"status": status, "since": clock.iso(since), "connection": connection, "epoch": self.epoch}
        data |= {"reason": reason}
        self.messages.append(Message(topic(self.id, "state"), json.dumps(data).encode()))

    def store(self, store: Store, received: int | None = None) -> None:
        """Put everything sent so far into the store."""
        batch = decode(self.messages)
        outcome = store.ingest(batch, received)
        assert outcome.refused == 0, batch.refused
        self.messages = []


def quiet(rng: np.random.Generator, count: int, level: float) -> NDArray[np.float64]:
    """Scores of a device that is well: around ``level`` of the threshold, with a slow wave."""
    wave = 1 + 0.35 * np.sin(np.arange(count) / 180 + rng.uniform(0, 6))
    return np.clip(level * wave * rng.lognormal(0, 0.22, count), 0, 0.93)


def rising(rng: np.random.Generator, count: int, level: float, begin: int, top: float) -> NDArray[np.float64]:
    """Scores that rise from minute ``begin`` to ``top`` times the threshold."""
    values = quiet(rng, count, level)
    tail = count - begin
    values[begin:] = np.maximum(values[begin:], np.linspace(1.05, top, tail) * rng.lognormal(0, 0.07, tail))
    return values


def fleet(store: Store, now: int, devices: int = 30, sensors: int = 100, hours: int = 24) -> dict[str, str]:
    """Fill ``store``; returns alert ids by role: ``critical``, ``warning``, ``resolved``, ``private``."""
    at = now - now % clock.MINUTE
    count = hours * 60
    alerts: dict[str, str] = {}
    for number in range(devices):
        rng = np.random.default_rng(number)
        one = Device(f"{KINDS[number % len(KINDS)]}-{number + 1:04d}", at, sensors)
        one.state("online", at - 9 * clock.DAY, "started")
        level = float(rng.uniform(0.12, 0.5))
        ratios = {"detector": quiet(rng, count, level), "classifier": quiet(rng, count, 0.1)}
        guilty: list[int] = []
        if number in (0, 3):
            gap = GapData(reason="log_truncated", detail="the file became shorter: read from its beginning", lines=None)
            one.send("gap", gap.model_dump_json(), at - 2 * clock.DAY)
            one.store(store, at - 2 * clock.DAY)
        match number:
            case 0:
                guilty = [3, 14, 7, 22, 41]
                ratios["detector"] = rising(rng, count, level, count - 95, 3.4)
                ratios["classifier"] = rising(rng, count, 0.1, count - 40, 1.4)
                one.alert(store, [95, 60, 50], ["opened", "updated", "updated"], "detector", guilty, peak=3.4)
                alerts["critical"] = one.alert(
                    store, [40, 12], ["opened", "updated"], "classifier", guilty[:4], peak=1.4
                )
            case 1:
                guilty = [11, 2]
                ratios["detector"] = rising(rng, count, level, count - 150, 1.5)
                alerts["warning"] = one.alert(store, [150], ["opened"], "detector", guilty, peak=1.5, late=47)
            case 2:
                guilty = [8, 30, 31]
                ratios["detector"][-200:-140] = rng.uniform(1.1, 1.8, 60)
                alerts["resolved"] = one.alert(
                    store, [200, 180, 130], ["opened", "updated", "resolved"], "detector", guilty, peak=1.8
                )
            case 3:
                ratios["detector"][-260:-240] = rng.uniform(1.1, 1.3, 20)
                alerts["private"] = one.alert(
                    store, [260, 228], ["opened", "resolved"], "detector", [9], evidence=False, peak=1.3
                )
            case 6:
                ratios["detector"][: count // 4] = np.nan
                ratios["classifier"][: count // 4] = np.nan
        if number == 4:  # offline since a while: nothing new came
            one.at -= 95 * clock.MINUTE
            one.results(ratios, guilty)
            one.health(count, at=at - 95 * clock.MINUTE)
            one.state("offline", at - 94 * clock.MINUTE, "connection lost")
            one.store(store, at - 94 * clock.MINUTE)
            continue
        one.results(ratios, guilty, full=number in (2, 5))
        one.health(
            count,
            pending=30 if number == 1 else 0,
            evicted=12 if number == 2 else 0,
            short=3 if number == 3 else 0,
            log="silent" if number == 5 else "following",
        )
        if number in (0, 3):
            model = ModelData(transition="activated", bundle=one.bundle, previous=None, reason="")
            one.send("model", model.model_dump_json(), at - 6 * clock.DAY)
        one.store(store, at + 20 * clock.SECOND)
    if "resolved" in alerts:
        store.add_verdict(alerts["resolved"], "unclear", "")
        store.add_verdict(alerts["resolved"], "real", "Valve 3 was stuck; replaced the seal.")
    if "private" in alerts:
        store.add_verdict(alerts["private"], "false", "Filter change by the night shift.")
    return alerts


def same_fault(store: Store, now: int) -> None:
    """Add a press with the fault that ``press-0001`` has: one issue."""
    one = Device("press-0031", now - now % clock.MINUTE)
    one.state("online", one.at - clock.DAY, "started")
    one.results({"detector": np.linspace(0.4, 1.9, 30)}, [3, 14, 7, 22, 41])
    one.alert(store, [10], ["opened"], "detector", [3, 14, 7, 22, 41])
    one.health(30)
    one.store(store)


def many(store: Store, now: int, count: int, troubled: int) -> None:
    """Add ``count`` devices with a day of hours, ``troubled`` of them offline."""
    rng = np.random.default_rng(7)
    last = now - now % clock.MINUTE
    devices, hours, results = [], [], []
    bundle = BundleRef(name=KINDS[0], version="2026.11.2", sha256="c3" * 32)
    outbox = OutboxState(events=0, bytes=0, oldest=None)
    report = HealthData(
        ts=clock.iso(last), agent="0.1.0", bundle=bundle, log="following", last_reading=clock.iso(last), lag_bytes=0,
        outbox=outbox, ledger=[], period=60,
    ).model_dump(mode="json")  # fmt: skip
    for number in range(count):
        name = f"{KINDS[number % 4]}-{number:05d}"
        ts = last - int(rng.integers(0, 5)) * clock.MINUTE
        devices.append(
            {
                "id": name,
                "type": name[:-6],
                "first_seen": ts,
                "last_seen": ts,
                "last_ts": ts,
                "status": "offline" if number < troubled else "online",
                "bundle_name": name[:-6],
                "bundle_version": "2026.11.2",
                "health": report | {"ts": clock.iso(ts), "last_reading": clock.iso(ts)},
                "health_at": ts,
                "health_received": ts,
            }
        )
        base = {"device": name, "model": "detector"}
        results.append(
            base
            | {"ts": ts, "kind": "detector", "score": float(rng.uniform(0, 1)), "threshold": 1.0, "verdict": 0}
            | {"sensors": ["flow_7"] if number == 5 else ["temp_1"], "shares": [1.0], "bundle": "b/1", "received": ts}
        )
        hours += [
            base
            | {"hour": ts // t.HOUR * t.HOUR - k * t.HOUR, "n": 60, "raised": 0, "unknown": 0}
            | {"score_max": value, "ratio_max": value}
            for k, value in enumerate(rng.uniform(0, 0.9, 24).tolist())
        ]
    with store.write() as db:
        db.execute(t.device.insert(), devices)
        db.execute(t.result.insert(), results)
        db.execute(t.result_1h.insert(), hours)


def make(folder: Path, now: int, **size: int) -> tuple[Store, dict[str, str]]:
    """A new store in ``folder`` with a fleet in it."""
    store = Store(sqlite_url(folder / "cloud.db"))
    return store, fleet(store, now, **size)
