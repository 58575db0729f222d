"""A backlog leaves the device: rows per CPU second of the sending side, against a real Mosquitto and an acknowledger.

The device's side runs in a process of its own: a journal full of results, and the uplink that empties it. Its CPU time
counts from the uplink's start until everything was acknowledged; broker and acknowledger are not in it.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fieldwatch_contract import clock, topics
from fieldwatch_contract.delivery import Receipt, Settled

from bench.live import broker
from bench.material import NAMES, START

DEVICE = "bench-0001"
ACK_S = 0.2
PATIENCE_S = 120.0


class Acknowledger:
    """Stands for ingest: takes every event, and says several times a second what has arrived."""

    def __init__(self, url: str) -> None:
        from paho.mqtt.client import Client
        from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion

        self.numbers: set[int] = set()
        self._settled = Settled()
        self._fresh: set[int] = set()
        self._epoch = ""
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._client = Client(CallbackAPIVersion.VERSION2, protocol=MQTTProtocolVersion.MQTTv5)
        self._client.on_message = self._take
        parts = urlsplit(url)
        end = time.monotonic() + PATIENCE_S
        while True:
            try:
                self._client.connect(parts.hostname or "", parts.port or 1883)
                break
            except OSError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.05)
        self._client.subscribe([(topics.ALL_EVENTS, 1), (topics.ALL_BULK, 1)])
        self._client.loop_start()
        self._thread = threading.Thread(target=self._tell, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave."""
        self._stop.set()
        self._thread.join()
        self._client.disconnect()
        self._client.loop_stop()

    def _take(self, _client: Any, _data: Any, message: Any) -> None:
        from zstandard import ZstdDecompressor

        bulk = message.topic.endswith("/bulk")
        found = json.loads(ZstdDecompressor().decompressobj().decompress(message.payload) if bulk else message.payload)
        for event in found if bulk else [found]:
            _, epoch, number = event["id"].split(":")
            with self._lock:
                self._epoch = epoch
                self._fresh.add(int(number))

    def _tell(self) -> None:
        while not self._stop.wait(ACK_S):
            with self._lock:
                fresh, self._fresh = self._fresh, set()
            if fresh:
                self.numbers |= fresh
                self._settled = self._settled.add(fresh, None)
                ack = Receipt(self._epoch, self._settled, frozenset(fresh)).ack()
                self._client.publish(topics.topic(DEVICE, "ack"), ack.model_dump_json(), qos=0)


def fill(folder: Path, count: int) -> None:
    """Make a journal with ``count`` results in its outbox, each with two scores of ten named sensors."""
    from fieldwatch_agent.send.journal import Draft, Journal

    drafts = []
    for row in range(count):
        ts = clock.iso(START + row * clock.MINUTE)
        scores = [
            {
                "model": model, "kind": model, "score": 0.123456 + row % 997 / 1000, "threshold": 3.0,
                "verdict": "normal", "sensors": NAMES[:10], "shares": [0.1234 / (1 + place) for place in range(10)],
            }
            for model in ("detector", "classifier")
        ]  # fmt: skip
        drafts.append(Draft("result", ts[:10], json.dumps({"ts": ts, "bundle": "bench/1", "scores": scores})))
    journal = Journal(folder, 1 << 32)
    for start in range(0, count, 1000):
        journal.enqueue(drafts[start : start + 1000])
    journal.close()


def device(url: str, folder: Path) -> float:
    """Empty the outbox and return the CPU seconds that it took."""
    from fieldwatch_agent.config import MqttConfig
    from fieldwatch_agent.send.connection import Timing
    from fieldwatch_agent.send.journal import Journal
    from fieldwatch_agent.send.uplink import Uplink

    journal = Journal(folder, 1 << 32)
    uplink = Uplink(MqttConfig.model_validate({"url": url}), DEVICE, journal, Timing(start_delay=0.01))
    before = time.process_time()
    uplink.start()
    end = time.monotonic() + PATIENCE_S
    while journal.outbox().events:
        if time.monotonic() > end:
            raise RuntimeError(f"not empty after {PATIENCE_S:.0f} s: {uplink.error}")
        time.sleep(0.1)
    spent = time.process_time() - before
    uplink.stop()
    journal.close()
    return spent


def run(quick: bool) -> dict[str, Any]:
    """Measure; that every event has arrived is asserted."""
    count, rounds = (1_000, 1) if quick else (20_000, 5)
    spent = []
    for _ in range(rounds):
        with tempfile.TemporaryDirectory(prefix="fieldwatch-bench-") as name, broker(Path(name)) as url:
            if url is None:
                raise RuntimeError("Mosquitto is not installed")
            fill(Path(name) / "state", count)
            cloud = Acknowledger(url)
            command = [sys.executable, "-m", "bench.drain", url, str(Path(name) / "state")]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            cloud.close()
            if done.returncode:
                raise RuntimeError(done.stderr)
            assert cloud.numbers == set(range(1, count + 1)), f"{len(cloud.numbers)} of {count} events have arrived"
            spent.append(float(done.stdout))
    return {
        "what": f"{count} results of {len(NAMES)} sensors from a journal on disk through Mosquitto, acknowledged",
        "rounds": rounds,
        "rows/s of the device's CPU": round(count / statistics.median(spent)),
        "least and most": f"{count / max(spent):.0f}-{count / min(spent):.0f}",
    }


if __name__ == "__main__":
    print(device(sys.argv[1], Path(sys.argv[2])))
