// What to enter in a miner.

import { BASE } from "./api.js";
import { copyButton, h, p } from "./dom.js";
import * as format from "./format.js";

// A port with rules of its own: its address, and the rules.
function portText(port, host) {
  const addresses = new Set(port.listen.map((it) => it.slice(it.lastIndexOf(":") + 1)));
  const rules = [
    port.difficulty_min !== null && `difficulty from ${format.difficulty(port.difficulty_min)}`,
    port.difficulty_max !== null && `up to ${format.difficulty(port.difficulty_max)}`,
    port.max_coinbase_bytes !== null && `coinbase up to ${port.max_coinbase_bytes} bytes`,
    port.sv2_authority_key && `Stratum V2 with the key ${port.sv2_authority_key}`,
  ].filter(Boolean);
  const places = [...addresses].map((port) => `${host}:${port}`).join(", ");
  return rules.length ? `${places}: ${rules.join(", ")}` : places;
}

// How to set up TLS in a miner. Words in quotation marks are AxeOS's own.
function tlsHelp(tls, port) {
  const name = location.hostname.replace(/[[\]]/g, "");
  const isNamed = tls.names.some((it) => it.toLowerCase() === name.toLowerCase());
  const isFar = (it) => !["localhost", "127.0.0.1", "::1"].includes(it);
  // Few miners can resolve the local names of a home network.
  const near = tls.names.filter(isFar);
  const address = near.find((it) => /^\d+(\.\d+){3}$/.test(it)) ?? near[0];
  const best = isNamed && isFar(name) ? name : (address ?? tls.names[0]);
  const steps = [
    `On its page, enter ${best} and port ${port} as the pool.`,
    "Under “Connection Security” choose “TLS (Custom CA certificate)”. A pasted stratum+ssl:// address \
chooses “System certificate”, which does not know this gateway: choose again.",
    "Paste the certificate, or choose the file, and save. It stays good when this gateway restarts or \
moves to another address.",
  ];
  return h(
    "details",
    { class: "tls-help" },
    h("summary", null, "TLS with a Bitaxe"),
    h("ol", null, ...steps.map((step) => h("li", null, step))),
    p("hint", `Miners must connect to one of these names or addresses: ${tls.names.join(", ")}.`),
    !isNamed && p("hint", `For ${name}, add it to stratum.tls.names in the settings.`),
  );
}

const inUrl = (name) => (name.includes(":") ? `[${name.replace(/[[\]]/g, "")}]` : name);
const isHere = (name) => name === "localhost" || name === "[::1]" || /^127\./.test(name);

// What a miner finds this machine by: never by what only this machine itself can use.
export function minersHost(status, shown = location.hostname) {
  const addresses = status.stratum.addresses ?? [];
  if (!isHere(shown)) return { host: inUrl(shown), others: [] };
  const [first, ...others] = addresses.map(inUrl);
  return { host: first ?? null, others };
}

export function connectHelp(status) {
  const { host: known, others } = minersHost(status);
  const isClosed = status.stratum.listen.every((address) => isHere(address.replace(/:\d+$/, "")));
  const host = known ?? (isClosed ? inUrl(location.hostname) : NO_HOST);
  const ports = [
    ...new Set(status.stratum.listen.map((address) => address.slice(address.lastIndexOf(":") + 1))),
  ];
  const port = ports[0] ?? "23334";
  const key = status.stratum.sv2_authority_key;
  const tls = status.stratum.tls;
  const file = h("a", { href: `${BASE}/stratum/ca.pem`, download: "gatewayd-ca.pem" }, CA_FILE);
  const rows = [
    isClosed && ["From elsewhere", CLOSED, true],
    !isClosed && !known && ["This machine", NO_ADDRESS, true],
    others.length > 0 && ["Other addresses", others.join(", "), true],
    ["Stratum V1", `stratum+tcp://${host}:${port}`],
    tls && ["Stratum V1, TLS", `stratum+ssl://${host}:${port}`],
    tls?.own_authority && ["TLS certificate", file, true],
    key && ["Stratum V2", `stratum2+tcp://${host}:${port}/${key}`],
    ["User", "your payout address, a dot, and a name for the miner", true],
    ["Password", "anything; d=65536 asks for that difficulty", true],
    ...status.stratum.ports.map((port) => ["Additional port", portText(port, host), true]),
  ].filter(Boolean);
  const list = h(
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
  return tls?.own_authority ? h("div", null, list, tlsHelp(tls, port)) : list;
}

const NO_HOST = "ADDRESS";
const NO_ADDRESS =
  "write its address in your network in place of ADDRESS: your router lists it, and this machine's network settings do";
const CLOSED =
  "miners on other machines cannot connect: stratum.listen has this machine's own addresses alone";
const CA_FILE = "gatewayd-ca.pem";
