"""Follow the alerts of all devices over MQTT, as the AsyncAPI contract describes them; one line of JSON an alert.

    pip install paho-mqtt jsonschema
    python follow_alerts.py mqtts://broker.example.org:8883 --ca ca.pem --certificate desk.pem --key desk.key

It needs nothing of Fieldwatch but the contract: topics, and the JSON Schema that every event keeps to. An event may
come more than once (QoS 1, and devices send again what was not acknowledged), so an alert's transition is told once, by
its natural key. What does not keep to the schema is told on stderr and does not stop the rest.
"""

from __future__ import annotations

import argparse
import json
import ssl
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from jsonschema import Draft202012Validator
from paho.mqtt.client import Client, MQTTMessage
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

CONTRACT = Path(__file__).parents[2] / "contract/fieldwatch_contract/schemas"
KEPT_S = 24 * 3600
"""How long the broker keeps what comes while this program is off."""


def topic(contract: Path) -> str:
    """Return the topic filter of all devices' alerts, as the contract names it."""
    channel = json.loads((contract / "asyncapi.json").read_text(encoding="utf-8"))["channels"]["alert"]
    return str(channel["address"]).replace("{device}", "+")


def follow(url: str, contract: Path, tls: ssl.SSLContext | None, name: str) -> None:
    """Print alerts until the program is ended; the library reconnects by itself."""
    check = Draft202012Validator(json.loads((contract / "alert.v1.json").read_text(encoding="utf-8")))
    told: set[tuple[str, str, str]] = set()

    def on_message(_client: Client, _data: object, message: MQTTMessage) -> None:
        try:
            event: dict[str, Any] = json.loads(message.payload)
        except ValueError as error:
            print(f"{message.topic}: no JSON: {error}", file=sys.stderr)
            return
        if (problem := next(check.iter_errors(event), None)) is not None:
            print(f"{message.topic}: not as in the contract: {problem.message}", file=sys.stderr)
            return
        alert = event["data"]
        key = (alert["alert_id"], alert["transition"], alert["ts"])
        if key in told:
            return
        told.add(key)
        fields = ("alert_id", "transition", "severity", "model", "opened_at", "ts", "sensors")
        print(json.dumps({"device": event["subject"]} | {name: alert[name] for name in fields}), flush=True)

    client = Client(CallbackAPIVersion.VERSION2, client_id=name, protocol=MQTTProtocolVersion.MQTTv5)
    client.on_connect = lambda *_: client.subscribe(topic(contract), qos=1)
    client.on_subscribe = lambda *_: print(f"following {topic(contract)}", file=sys.stderr, flush=True)
    client.on_message = on_message
    if tls is not None:
        client.tls_set_context(tls)
    address = urlsplit(url)
    session = Properties(PacketTypes.CONNECT)  # type: ignore[no-untyped-call]
    session.SessionExpiryInterval = KEPT_S
    port = address.port or (8883 if tls else 1883)
    client.connect(address.hostname or "127.0.0.1", port, clean_start=False, properties=session)
    client.loop_forever()


def main() -> None:
    """Read the arguments and follow."""
    parser = argparse.ArgumentParser(description="Follow the alerts of all devices.")
    parser.add_argument("url", help="mqtt://host:port or mqtts://host:port")
    parser.add_argument("--contract", type=Path, default=CONTRACT, help="folder with asyncapi.json and alert.v1.json")
    parser.add_argument("--name", default="alerts.example", help="client id; the certificate's common name, with a dot")
    parser.add_argument("--ca", type=Path, help="PEM of the broker's authority; default: the system's")
    parser.add_argument("--certificate", type=Path)
    parser.add_argument("--key", type=Path)
    options = parser.parse_args()
    tls = None
    if options.url.startswith("mqtts://"):
        tls = ssl.create_default_context(cafile=options.ca)
        if options.certificate is not None:
            tls.load_cert_chain(options.certificate, options.key)
    follow(options.url, options.contract, tls, options.name)


if __name__ == "__main__":
    main()
