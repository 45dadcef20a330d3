// Everything at a glance: warnings, whom the work pays, the hashrate, and a line about each part.

import { HashrateChart, LINES_MAX } from "../chart.js";
import { div, h, keyed, p, setAttribute, setText, show, span } from "../dom.js";
import * as format from "../format.js";
import { look, want } from "../live.js";
import {
  FATES,
  NODE_STATES,
  POOL_STATES,
  chip,
  drawWorker,
  facts,
  poolName,
  rejectedShare,
  section,
  stateOf,
  warningList,
  workerParts,
} from "../parts.js";
import { connectHelp } from "../connect.js";
import { payoutBar } from "../payout.js";

const WINDOWS = [
  ["1h", "1 h", 15],
  ["24h", "24 h", 60],
  ["7d", "7 d", 300],
];
// Kept while the page is open, so that coming back shows the same.
let chosenWindow = "1h";

export const overview = {
  title: "Overview",
  mount(root) {
    const top = now(() => want(needs()));
    const parts = [poolPart(), nodePart(), payPart(), workersPart(), blocksPart()];
    root.append(
      top.element,
      div(
        "columns",
        parts.map((part) => part.element),
      ),
    );
    return {
      needs,
      update() {
        top.update();
        for (const part of parts) part.update();
      },
      leave: top.leave,
    };
  },
};

function needs() {
  const [, , every] = WINDOWS.find(([key]) => key === chosenWindow);
  return {
    history: [`/history?metric=hashrate&window=${chosenWindow}&top=${LINES_MAX}`, every],
    pool: ["/pool", 10],
    nodes: ["/nodes", 10],
    work: ["/work", 10],
    workers: ["/workers", 10],
    blocks: ["/blocks", 30],
  };
}

// The first thing seen: is all well, how much hashrate, its history, and the totals.
function now(onchoice) {
  const warnings = warningList();
  const mode = h("h1", { tabindex: "-1" });
  const modeDot = h("span", { class: "dot mode-dot", "aria-hidden": "true" });
  const modeMore = p("mode-more");
  const number = span("hero-number");
  const unit = span("hero-unit");
  const spans = p("hero-spans");
  const hero = div(
    "hero",
    h("h2", { class: "hero-label" }, "Hashrate"),
    p("hero-line", number, " ", unit),
    spans,
  );
  const figures = h("dl", { class: "figures" });
  const loading = h("p", { class: "note", role: "status" });
  const help = div("no-miners");
  const chart = chartPart();
  const body = div(
    "now",
    div("mode", modeDot, h("div", null, mode, modeMore)),
    hero,
    windowChoice(onchoice),
    figures,
    chart.element,
  );
  const element = h("div", null, warnings.element, loading, body, help);
  return {
    element,
    leave: chart.leave,
    update() {
      const { value: status, age, error } = look("status");
      show(loading, !status);
      show(body, Boolean(status));
      if (!status) return setText(loading, error ? error.message : "Asking the gateway…");
      warnings.update(status.warnings);
      const [tone, text, more] = modeWords(status);
      setAttribute(modeDot, "data-tone", tone);
      setText(mode, text);
      setText(modeMore, more);
      const [value, name] = format.hashrateParts(status.hashrate_5m_h_per_s);
      const [minute, hour] = [status.hashrate_1m_h_per_s, status.hashrate_1h_h_per_s].map(
        format.hashrate,
      );
      setText(number, value);
      setText(unit, name);
      setText(spans, `5 min average · 1 min ${minute} · 1 h ${hour}`);
      drawFigures(figures, status, age);
      drawHelp(help, status);
      chart.update();
    },
  };
}

function modeWords(status) {
  const worst = status.warnings[0];
  const tone = worst?.severity === "error" ? "bad" : worst ? "warn" : "good";
  if (status.mode === "pooled") {
    const pool = look("pool").value?.pools.find((one) => one.is_active);
    const name = pool ? poolName(pool.name) : "the pool";
    if (!status.miners)
      return [tone, "Ready for miners", `Work is ready: your node chooses the transactions, ${name} pays.`];
    return [
      tone,
      `Mining with ${name}`,
      "Your node chooses the transactions, the pool pays for your shares.",
    ];
  }
  if (status.mode === "solo")
    return [
      tone,
      status.miners ? "Mining solo" : "Ready for miners, solo",
      "A block found here pays your own address in full.",
    ];
  const why = look("work").value?.waiting_for;
  return ["bad", "Waiting", why ? `Miners get no work: ${why}.` : "Miners get no work for now."];
}

function drawFigures(list, status, age) {
  const best = status.best_share;
  // Without its ledger, gatewayd only knows about this run.
  const { shares: session, shares_ever: ever } = status;
  const shares = ever && ever.accepted >= session.accepted ? ever : session;
  const tipAge = status.tip_age_s === null ? null : status.tip_age_s + age;
  const rows = [
    ["Miners", format.count(status.miners), status.miners ? protocols(status) : "none connected"],
    ["Shares", format.count(shares.accepted), rejectedWords(shares)],
    [
      "Best share",
      best ? format.difficulty(best.difficulty) : format.NONE,
      best ? bestWords(best) : "no share yet",
    ],
    [
      "Chain tip",
      format.count(status.tip_height),
      tipAge === null ? "not known yet" : `seen ${format.ago(tipAge)}`,
    ],
    [
      "Blocks found",
      format.count(Math.max(status.blocks_found, status.blocks_found_session)),
      blocksWords(status),
    ],
  ];
  keyed(
    list,
    rows,
    ([label]) => label,
    ([label]) => div("figure", h("dt", null, label), h("dd"), h("dd", { class: "figure-more" })),
    (line, [, value, more]) => {
      setText(line.children[1], value);
      setText(line.children[2], more);
    },
  );
}

function rejectedWords(shares) {
  if (shares.rejected) return `${rejectedShare(shares)} rejected`;
  return shares.accepted ? "none rejected" : "none yet";
}

function blocksWords({ blocks_found: found, blocks_found_session: session }) {
  if (!found && !session) return "not yet";
  return `${session ? format.count(session) : "none"} since the start`;
}

function protocols(status) {
  const some = status.miners_by_protocol.filter((one) => one.miners > 0);
  const v1 = some
    .filter((one) => one.protocol.startsWith("sv1"))
    .reduce((sum, one) => sum + one.miners, 0);
  const v2 = some
    .filter((one) => one.protocol.startsWith("sv2"))
    .reduce((sum, one) => sum + one.miners, 0);
  if (v1 && v2) return `${format.count(v1)} Stratum V1, ${format.count(v2)} V2`;
  return v2 ? "all Stratum V2" : "all Stratum V1";
}

function bestWords(best) {
  return [`by ${workerParts(best.worker)[0]}`, best.at_unix_s && format.day(best.at_unix_s)]
    .filter(Boolean)
    .join(", ");
}

// No miner yet: how to connect one.
function drawHelp(help, status) {
  const isNeeded = status.miners === 0 && !status.setup_needed;
  show(help, isNeeded);
  if (isNeeded && !help.firstChild) {
    help.append(
      h("h2", null, "No miner is connected"),
      p("lead", "Open your miner's own page and enter this:"),
      connectHelp(status),
    );
  }
}

function windowChoice(onchoice) {
  const buttons = WINDOWS.map(([key, text]) =>
    h(
      "button",
      {
        type: "button",
        onclick: () => {
          chosenWindow = key;
          press();
          onchoice();
        },
      },
      text,
    ),
  );
  const press = () =>
    WINDOWS.forEach(([key], at) =>
      setAttribute(buttons[at], "aria-pressed", key === chosenWindow ? "true" : "false"),
    );
  press();
  return h(
    "div",
    { class: "choice window-choice", role: "group", "aria-label": "Time shown" },
    buttons,
  );
}

function chartPart() {
  const chart = new HashrateChart();
  const note = h("p", { class: "note", role: "status" });
  const element = div("chart-part", note, chart.element);
  const update = () => {
    const { value, error, isOfOther } = look("history");
    show(chart.element, value !== null);
    show(note, value === null || error !== null);
    setText(note, error ? error.message : "Loading…");
    setAttribute(chart.element, "aria-busy", isOfOther ? "true" : null);
    if (value && !isOfOther) chart.update(value);
  };
  return { element, update, leave: () => chart.leave() };
}

const more = (page, text) => h("a", { href: `#/${page}` }, text);

function poolPart() {
  const list = facts();
  const state = h("span");
  const none = p("hint", "No pool is configured: mining solo.");
  return section(
    { title: "Pool", needs: ["pool"], actions: more("network", "Details") },
    [none, list.element],
    ({ pools, relay }) => {
      const pool = pools.find((one) => one.is_active) ?? pools[0];
      show(none, !pool);
      if (!pool) return list.update([]);
      chip(state, ...stateOf(POOL_STATES, pool.state));
      list.update([
        ["State", state],
        ["Host", pool.name],
        ["Shares accepted", format.count(pool.shares.accepted)],
        ["Rejected", `${format.count(pool.shares.rejected)} (${rejectedShare(pool.shares)})`],
        relay.held > 0 && ["Held until it is back", format.count(relay.held)],
        relay.lost > 0 && ["Lost", format.count(relay.lost)],
        [
          "Round trip",
          format.milliseconds(pool.round_trip_ms === null ? null : pool.round_trip_ms / 1000),
        ],
        pool.last_error && pool.state !== "up" && ["Last error", pool.last_error],
      ]);
    },
  );
}

function nodePart() {
  const list = facts();
  const state = h("span");
  return section(
    { title: "Node", needs: ["nodes"], actions: more("network", "Details") },
    list.element,
    ({ nodes }, age) => {
      const node = nodes.find((one) => one.is_active) ?? nodes[0];
      if (!node) return list.update([["State", "none is configured"]]);
      chip(state, ...stateOf(NODE_STATES, node.state));
      const others = nodes.filter(
        (one) => one !== node && one.state !== "ready" && one.state !== "submit-only",
      ).length;
      list.update([
        ["State", state],
        ["Address", node.name],
        ["Height", format.count(node.height)],
        [
          "Template",
          node.template_age_s === null ? "none yet" : format.ago(node.template_age_s + age),
        ],
        [
          "Made in",
          format.milliseconds(
            node.template_fetch_ms === null ? null : node.template_fetch_ms / 1000,
          ),
        ],
        nodes.length > 1 && [
          "Other nodes",
          others ? `${others} of ${nodes.length - 1} not ready` : `${nodes.length - 1} ready`,
        ],
        node.last_error && node.state !== "ready" && ["Last error", node.last_error],
      ]);
    },
  );
}

function payPart() {
  const bar = payoutBar({ isShort: true });
  return section(
    {
      title: "Whom the next block pays",
      needs: ["work"],
      className: "tall",
      actions: more("work", "Details"),
    },
    bar.element,
    (work) => bar.update(work),
  );
}

function workersPart() {
  const rows = h("ul", { class: "brief" });
  const none = p("hint", "Nobody has sent a share yet.");
  return section(
    { title: "Busiest workers", needs: ["workers"], actions: more("workers", "All") },
    [none, rows],
    ({ workers }) => {
      show(none, workers.length === 0);
      const best = [...workers]
        .sort((a, b) => b.hashrate_5m_h_per_s - a.hashrate_5m_h_per_s)
        .slice(0, 5);
      keyed(
        rows,
        best,
        (one) => one.name,
        () => h("li", null, h("span"), span("brief-end")),
        (line, one) => {
          drawWorker(line.firstChild, one.name);
          setText(line.lastChild, format.hashrate(one.hashrate_5m_h_per_s));
        },
      );
    },
  );
}

function blocksPart() {
  const rows = h("ul", { class: "brief" });
  const none = p(
    "hint",
    "None yet. When one is found, it is shown here with what each node said of it.",
  );
  return section(
    { title: "Blocks found", needs: ["blocks"], actions: more("blocks", "All") },
    [none, rows],
    ({ blocks }) => {
      show(none, blocks.length === 0);
      keyed(
        rows,
        blocks.slice(0, 5),
        (one) => one.hash,
        () => h("li", null, h("span", null, span("who"), span("who-more")), span("brief-end")),
        (line, one) => {
          setText(line.firstChild.children[0], format.count(one.height));
          setText(line.firstChild.children[1], format.moment(one.found_at_unix_s));
          chip(line.lastChild, ...stateOf(FATES, one.fate));
        },
      );
    },
  );
}
