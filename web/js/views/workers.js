// Everyone who has ever mined here, across connections and restarts.

import { get } from "../api.js";
import { HashrateChart } from "../chart.js";
import { div, h, p, setText, show } from "../dom.js";
import * as format from "../format.js";
import { drawWorker, facts, reasons, section } from "../parts.js";
import { figures, table } from "../table.js";
import { drawDetails, onPhone, rejectedColumn } from "./miners.js";
import { subways } from "./subways.js";

export const workers = {
  title: "Workers",
  mount(root) {
    const age = { value: 0 };
    const list = table(options(age));
    const part = section(
      { title: "Workers", needs: ["workers"] },
      list.element,
      ({ workers: rows }, seconds) => {
        age.value = seconds;
        list.update(rows);
      },
    );
    const rejects = rejectsPart();
    root.append(
      h("h1", { tabindex: "-1" }, "Miners"),
      subways("workers"),
      part.element,
      rejects.element,
    );
    return {
      needs: () => ({ workers: ["/workers", 8], rejects: ["/rejects?window=24h", 60] }),
      update() {
        part.update();
        rejects.update();
      },
    };
  },
};

// Why shares were rejected, the most frequent reason first.
function rejectsPart() {
  const list = facts();
  const none = p("hint", "None.");
  return section(
    { title: "Rejected in the last 24 hours", needs: ["rejects"] },
    [none, list.element],
    ({ by_reason: counts }) => {
      const rows = Object.entries(counts).sort(([, a], [, b]) => b - a);
      show(none, rows.length === 0);
      list.update(rows.map(([reason, count]) => [reason, format.count(count)]));
    },
  );
}

function options(age) {
  return {
    caption: "Workers",
    noun: ["worker", "workers"],
    keyOf: (one) => one.name,
    nameOf: (one) => one.name,
    sort: ["hour", "down"],
    searchLabel: "Search names",
    search: (one) => one.name,
    filters: [
      {
        label: "Presence",
        all: "All",
        of: (one) => (one.miners ? "here" : "away"),
        name: (value) => (value === "here" ? "Connected now" : "Away"),
      },
    ],
    empty: "Nobody has sent a share yet.",
    columns: columns(age),
    detail: drawDetail,
  };
}

function columns(age) {
  const best = (one) => one.best_share_difficulty;
  const last = (one) => lastAge(one, age);
  return [
    {
      key: "worker",
      label: "Worker",
      up: true,
      value: (one) => one.name,
      draw: (cell, one) => drawWorker(cell, one.name),
    },
    figures("now", "5 min", (one) => one.hashrate_5m_h_per_s, format.hashrate),
    figures("hour", "1 h", (one) => one.hashrate_1h_h_per_s, format.hashrate, onPhone("b")),
    figures("miners", "Miners", (one) => one.miners, format.count),
    figures("accepted", "Accepted", (one) => one.accepted, format.count, { spare: true }),
    rejectedColumn(),
    figures("best", "Best share", best, format.difficulty),
    figures("last", "Last share", last, format.ago, { up: true, ...onPhone("c") }),
    figures("first", "First seen", (one) => one.first_seen_at_unix_s, format.day, { spare: true }),
    figures("blocks", "Blocks", (one) => one.blocks, format.count),
  ];
}

function lastAge(one, age) {
  if (one.last_share_age_s !== null) return one.last_share_age_s + age.value;
  return one.last_share_at_unix_s === null ? null : Date.now() / 1000 - one.last_share_at_unix_s;
}

function drawDetail(cell, one) {
  if (!cell.firstChild) cell.append(h("dl", { class: "details" }), workerChart(one.name));
  const rates = [one.hashrate_1m_h_per_s, one.hashrate_5m_h_per_s, one.hashrate_1h_h_per_s];
  const [minute, five, hour] = rates.map(format.hashrate);
  const bestAt = one.best_share_at_unix_s && format.moment(one.best_share_at_unix_s);
  drawDetails(cell.firstChild, [
    ["Name", one.name],
    ["Hashrate", `${minute} in 1 min, ${five} in 5 min, ${hour} in 1 h`],
    ["Shares", `${format.count(one.accepted)} accepted, ${format.count(one.rejected)} rejected`],
    ["Rejected for", reasons(one.rejected_by_reason) || "nothing"],
    ["Accepted difficulty", format.difficulty(one.accepted_difficulty)],
    [
      "Best share",
      [format.difficulty(one.best_share_difficulty), bestAt].filter(Boolean).join(", "),
    ],
    ["Miners", one.miners ? format.plural(one.miners, "connected", "connected") : "away"],
    ["First seen", format.moment(one.first_seen_at_unix_s)],
    ["Blocks", format.count(one.blocks)],
  ]);
}

// The worker's last day. Keeps asking while its row is open.
function workerChart(name) {
  const chart = new HashrateChart();
  const note = p("hint");
  const ask = async () => {
    try {
      const query = new URLSearchParams({ metric: "hashrate", window: "24h", worker: name });
      chart.update(await get(`/history?${query}`));
      setText(note, "The last 24 hours");
    } catch (error) {
      setText(note, error.message);
    }
  };
  const timer = setInterval(() => {
    if (note.isConnected) return ask();
    clearInterval(timer);
    chart.leave();
  }, CHART_POLL_MS);
  ask();
  return div("worker-chart", note, chart.element);
}

const CHART_POLL_MS = 60_000;
