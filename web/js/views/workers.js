// Everyone who has mined here, over all connections and restarts.

import { h } from "../dom.js";
import * as format from "../format.js";
import { drawWorker, reasons, section } from "../parts.js";
import { table } from "../table.js";
import { drawDetails, drawRejected } from "./miners.js";
import { subways } from "./subways.js";

export const workers = {
  title: "Workers",
  mount(root) {
    const age = { value: 0 };
    const list = table(options(age));
    const part = section({ title: "Workers", needs: ["workers"] }, list.element, ({ workers: rows }, seconds) => {
      age.value = seconds;
      list.update(rows);
    });
    root.append(h("h1", { tabindex: "-1" }, "Miners"), subways("workers"), part.element);
    return { needs: () => ({ workers: ["/workers", 8] }), update: part.update };
  },
};

function options(age) {
  return {
    caption: "Workers",
    noun: ["worker", "workers"],
    keyOf: (one) => one.name,
    nameOf: (one) => one.name,
    sort: ["hour", "down"],
    searchLabel: "Search names",
    search: (one) => one.name,
    filters: [{ label: "Presence", all: "All", of: (one) => (one.miners ? "here" : "away"), name: (value) => (value === "here" ? "Connected now" : "Away") }],
    empty: "Nobody has sent a share yet.",
    columns: [
      { key: "worker", label: "Worker", up: true, value: (one) => one.name, draw: (cell, one) => drawWorker(cell, one.name) },
      { key: "now", label: "5 min", end: true, wide: true, value: (one) => one.hashrate_5m_h_per_s, text: (one) => format.hashrate(one.hashrate_5m_h_per_s) },
      { key: "hour", label: "1 h", end: true, place: "b", value: (one) => one.hashrate_1h_h_per_s, text: (one) => format.hashrate(one.hashrate_1h_h_per_s) },
      { key: "miners", label: "Miners", end: true, wide: true, value: (one) => one.miners, text: (one) => format.count(one.miners) },
      { key: "accepted", spare: true, label: "Accepted", end: true, wide: true, value: (one) => one.accepted, text: (one) => format.count(one.accepted) },
      { key: "rejected", label: "Rejected", end: true, place: "d", value: (one) => (one.rejected ? one.rejected / (one.accepted + one.rejected) : 0), draw: drawRejected },
      { key: "best", label: "Best share", end: true, wide: true, value: (one) => one.best_share_difficulty, text: (one) => format.difficulty(one.best_share_difficulty) },
      { key: "last", label: "Last share", end: true, place: "c", up: true, value: (one) => lastAge(one, age) ?? Infinity, text: (one) => lastWords(one, age) },
      { key: "first", spare: true, label: "First seen", end: true, wide: true, value: (one) => one.first_seen_at_unix_s, text: (one) => format.moment(one.first_seen_at_unix_s) },
      { key: "blocks", label: "Blocks", end: true, wide: true, value: (one) => one.blocks, text: (one) => format.count(one.blocks) },
    ],
    detail: drawDetail,
  };
}

function lastAge(one, age) {
  if (one.last_share_age_s !== null) return one.last_share_age_s + age.value;
  return one.last_share_at_unix_s === null ? null : Date.now() / 1000 - one.last_share_at_unix_s;
}

function lastWords(one, age) {
  const seconds = lastAge(one, age);
  return seconds === null ? format.NONE : format.ago(seconds);
}

function drawDetail(cell, one) {
  if (!cell.firstChild) cell.append(h("dl", { class: "details" }));
  drawDetails(cell.firstChild, [
    ["Name", one.name],
    ["Hashrate", `${format.hashrate(one.hashrate_1m_h_per_s)} in 1 min, ${format.hashrate(one.hashrate_5m_h_per_s)} in 5 min, ${format.hashrate(one.hashrate_1h_h_per_s)} in 1 h`],
    ["Shares", `${format.count(one.accepted)} accepted, ${format.count(one.rejected)} rejected`],
    ["Rejected for", reasons(one.rejected_by_reason) || "nothing"],
    ["Accepted difficulty", format.difficulty(one.accepted_difficulty)],
    ["Best share", `${format.difficulty(one.best_share_difficulty)}${one.best_share_at_unix_s ? `, ${format.moment(one.best_share_at_unix_s)}` : ""}`],
    ["Miners", one.miners ? format.plural(one.miners, "connected", "connected") : "away"],
    ["First seen", format.moment(one.first_seen_at_unix_s)],
    ["Blocks", format.count(one.blocks)],
  ]);
}
