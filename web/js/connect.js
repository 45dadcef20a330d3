// What to enter in a miner.

import { copyButton, h } from "./dom.js";

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
    ["Password", "anything", true],
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
