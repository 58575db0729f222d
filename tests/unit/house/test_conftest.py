"""The shared fixtures keep their word: brokers come, stay, fall, return, and end with their test."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import ROOT, answers, wait_until


def test_a_broker_keeps_port_and_retained_messages_over_a_restart(mosquitto):
    import paho.mqtt.client as mqtt

    broker = mosquitto(persistence=True)
    client = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    client.connect("127.0.0.1", broker.port)
    client.loop_start()
    client.publish("a", b"kept", qos=1, retain=True).wait_for_publish(30)
    client.disconnect()
    client.loop_stop()
    first = broker.pid
    broker.restart()
    assert broker.pid != first

    got: list[bytes] = []
    reader = mqtt.Client(mqtt.CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
    reader.on_message = lambda _c, _u, message: got.append(message.payload)
    reader.connect("127.0.0.1", broker.port)
    reader.subscribe("a", 1)
    reader.loop_start()
    wait_until(lambda: got, "the retained message")
    reader.disconnect()
    reader.loop_stop()
    assert got == [b"kept"]
    broker.kill()
    assert not broker.running and not answers(broker.port)


def test_a_paused_broker_ends_all_the_same(mosquitto):
    broker = mosquitto()
    broker.pause()
    broker.stop()
    assert not broker.running


def test_required_programs_fail_where_they_are_missing_and_skip_otherwise(tmp_path: Path):
    """Run pytest on one test of each kind with an empty PATH and no data."""
    (tmp_path / "test_needs.py").write_text(
        "import pytest\n"
        "@pytest.mark.browser\ndef test_marked(): pass\n"
        "def test_fixture(chromium_path): pass\n"
        "def test_data(data_dir): pass\n"
    )
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  realdata: x\n  mosquitto: x\n  browser: x\n")
    for require, outcome in (("", "3 skipped"), ("1", "1 skipped, 2 errors")):
        env = os.environ | {"PATH": str(tmp_path), "FIELDWATCH_DATA": str(tmp_path / "none")}
        env |= {"FIELDWATCH_REQUIRE_ALL": require, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)],
            env=env, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert outcome in done.stdout, done.stdout
