// Follow the alerts of all devices over MQTT, as the AsyncAPI contract describes them; one JSON line an alert on stdout.
//
//   npm ci
//   node follow_alerts.mjs mqtts://broker.example.org:8883 --ca ca.pem --certificate desk.pem --key desk.key
//
// It needs nothing of Fieldwatch but the contract: topics, and the JSON Schema that every event keeps to. An event may
// come more than once (QoS 1, and devices send again what was not acknowledged), so an alert's transition is told once,
// by its natural key. What does not keep to the schema is told on stderr and does not stop the rest.

import { readFileSync } from "node:fs";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

import Ajv2020 from "ajv/dist/2020.js";
import { connect } from "mqtt";

const CONTRACT = fileURLToPath(new URL("../../contract/fieldwatch_contract/schemas", import.meta.url));
const KEPT_S = 24 * 3600; // how long the broker keeps what comes while this program is off
const FIELDS = ["alert_id", "transition", "severity", "model", "opened_at", "ts", "sensors"];

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    contract: { type: "string", default: CONTRACT },
    name: { type: "string", default: "alerts.example" }, // client id; the certificate's common name, with a dot
    ca: { type: "string" },
    certificate: { type: "string" },
    key: { type: "string" },
  },
});
if (positionals.length !== 1) {
  console.error("usage: node follow_alerts.mjs mqtt://host:port [--contract DIR] [--ca F] [--certificate F --key F]");
  process.exit(2);
}

const read = (name) => JSON.parse(readFileSync(`${values.contract}/${name}`, "utf8"));
const topic = read("asyncapi.json").channels.alert.address.replace("{device}", "+");
const keeps = new Ajv2020({ strict: false, allErrors: false }).compile(read("alert.v1.json"));
const told = new Set();

const file = (path) => (path === undefined ? undefined : readFileSync(path));
const client = connect(positionals[0], {
  protocolVersion: 5,
  clientId: values.name,
  clean: false,
  properties: { sessionExpiryInterval: KEPT_S },
  ca: file(values.ca),
  cert: file(values.certificate),
  key: file(values.key),
});

client.on("connect", () =>
  client.subscribe(topic, { qos: 1 }, (error) => console.error(error ? String(error) : `following ${topic}`)),
);
client.on("error", (error) => console.error(String(error)));
client.on("message", (name, payload) => {
  let event;
  try {
    event = JSON.parse(payload.toString());
  } catch (error) {
    console.error(`${name}: no JSON: ${error.message}`);
    return;
  }
  if (!keeps(event)) {
    const [problem] = keeps.errors;
    console.error(`${name}: not as in the contract: ${problem.instancePath} ${problem.message}`);
    return;
  }
  const key = [event.data.alert_id, event.data.transition, event.data.ts].join(" ");
  if (told.has(key)) return;
  told.add(key);
  console.log(JSON.stringify({ device: event.subject, ...Object.fromEntries(FIELDS.map((f) => [f, event.data[f]])) }));
});
