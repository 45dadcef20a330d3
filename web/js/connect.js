// What to enter in a miner.

import { copyButton, h } from "./dom.js";
import * as format from "./format.js";

// An address of a port with rules of its own, and the rules.
function portText(port, host) {
  const addresses = new Set(port.listen.map((it) => it.slice(it.lastIndexOf(":") + 1)));
  const rules = [
    port.difficulty_min !== null && `difficulty from ${format.difficulty(port.difficulty_min)}`,
    port.difficulty_max !== null && `up to ${format.difficulty(port.difficulty_max)}`,
    port.max_coinbase_bytes !== null && `coinbase up to ${port.max_coinbase_bytes} bytes`,
  ].filter(Boolean);
  const places = [...addresses].map((port) => `${host}:${port}`).join(", ");
  return rules.length ? `${places}: ${rules.join(", ")}` : places;
}

export function connectHelp(status) {
  const host = location.hostname.includes(":")
    ? `[${location.hostname.replace(/[[\]]/g, "")}]`
    : location.hostname;
  const ports = [
    ...new Set(status.stratum.listen.map((address) => address.slice(address.lastIndexOf(":") + 1))),
  ];
  const port = ports[0] ?? "23334";
  const key = status.stratum.sv2_authority_key;
  const rows = [
    ["Stratum V1", `stratum+tcp://${host}:${port}`],
    key && ["Stratum V2", `stratum2+tcp://${host}:${port}/${key}`],
    ["User", "your payout address, a dot, and a name for the miner", true],
    ["Password", "anything; d=65536 asks for that difficulty", true],
    ...status.stratum.ports.map((port) => ["A port of its own", portText(port, host), true]),
  ].filter(Boolean);
  return h(
    "dl",
    { class: "connect" },
    rows.map(([label, value, isWords]) =>
      h(
        "div",
        null,
        h("dt", null, label),
        h("dd", null, isWords ? value : [h("code", null, value), copyButton(() => value, label)]),
      ),
    ),
  );
}
