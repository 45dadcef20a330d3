// Where the work comes from and where the shares go: nodes and pools.

import { div, h, keyed, p, setText, show, span } from "../dom.js";
import * as format from "../format.js";
import { look } from "../live.js";
import {
  NODE_STATES,
  POOL_STATES,
  chip,
  facts,
  long,
  poolName,
  reasons,
  rejectedShare,
  section,
  stack,
  stateOf,
} from "../parts.js";
import { cached } from "./work.js";

export const network = {
  title: "Pool & node",
  mount(root) {
    const parts = [poolsPart(), relayPart(), nodesPart()];
    root.append(h("h1", { tabindex: "-1" }, "Pool & node"), ...parts.map((part) => part.element));
    return {
      needs: () => ({ pool: ["/pool", 5], nodes: ["/nodes", 5] }),
      update: () => parts.forEach((part) => part.update()),
    };
  },
};

// A panel for each: its name, its state, what is known about it.
function panels(make) {
  const element = div("panels");
  const drawn = new WeakMap();
  return {
    element,
    update(items) {
      keyed(
        element,
        items,
        (item) => item.name,
        () => {
          const panel = make();
          drawn.set(panel.element, panel);
          return panel.element;
        },
        (panelElement, item) => drawn.get(panelElement).update(item),
      );
    },
  };
}

function poolsPart() {
  const none = p(
    "lead",
    "No pool is configured. A block found here pays your own address in full.",
  );
  const list = panels(poolPanel);
  return section({ title: "Pools", needs: ["pool"] }, [none, list.element], ({ pools }) => {
    show(none, pools.length === 0);
    list.update(pools);
  });
}

function poolPanel() {
  const name = h("h3");
  const state = h("span");
  const motd = h("p", { class: "quote", title: "The pool's message" });
  const error = p("panel-error");
  const list = facts();
  const script = cached((hex) => long(hex, "the pool's script"));
  const address = cached((text) => long(text, "the pool's address"));
  const element = h(
    "article",
    { class: "panel" },
    h("header", null, name, state),
    error,
    motd,
    list.element,
  );
  return {
    element,
    update(pool) {
      setText(name, poolName(pool.name));
      chip(state, ...stateOf(POOL_STATES, pool.state));
      show(motd, Boolean(pool.motd));
      setText(motd, pool.motd ?? "");
      show(error, Boolean(pool.last_error) && pool.state !== "up");
      setText(error, pool.last_error ?? "");
      const { shares } = pool;
      const isKnown = pool.state === "up" || shares.accepted + shares.rejected > 0;
      list.update([
        ["Host", pool.name],
        pool.down_for_s !== null && [
          "Down for",
          format.duration(pool.down_for_s + (look("pool").age ?? 0)),
        ],
        ["Tag in the block", pool.tag],
        pool.difficulty_min !== null && [
          "Minimum share difficulty",
          pool.difficulty_min ? format.difficulty(pool.difficulty_min) : "none",
        ],
        pool.address
          ? ["Pool's address", address(pool.address)]
          : ["Pool's script", pool.script_hex && script(pool.script_hex)],
        isKnown && ["Shares accepted", format.count(shares.accepted)],
        shares.tentative > 0 && ["of these, tentatively", format.count(shares.tentative)],
        isKnown && ["Difficulty credited", format.difficulty(shares.accepted_difficulty)],
        shares.unanswered > 0 && ["Never answered", format.count(shares.unanswered)],
        isKnown && ["Rejected", `${format.count(shares.rejected)} (${rejectedShare(shares)})`],
        shares.rejected > 0 && ["Rejected for", reasons(shares.rejected_by_reason)],
        pool.round_trip_ms !== null && [
          "Round trip",
          format.milliseconds(pool.round_trip_ms / 1000),
        ],
        ["Prime id", pool.prime_id === null ? null : String(pool.prime_id)],
      ]);
    },
  };
}

function relayPart() {
  const bar = stack("thin");
  const list = h("ul", { class: "flow" });
  const more = facts();
  const none = p("hint", "No share has been sent to a pool since the start.");
  return section(
    { title: "What became of the shares", needs: ["pool"] },
    [none, bar.element, list, more.element],
    ({ relay, pools }) => {
      show(none, relay.received === 0);
      for (const part of [bar.element, list]) show(part, relay.received > 0);
      const parts = [
        ["accepted", relay.accepted, "good", "credited by the pool"],
        [
          "rejected",
          relay.rejected,
          "bad",
          pools
            .map((pool) => reasons(pool.shares.rejected_by_reason))
            .filter(Boolean)
            .join(", "),
        ],
        ["awaiting an answer", relay.awaiting, "4", "sent just now"],
        // Older versions do not count these.
        ...("unanswered" in relay
          ? [["unanswered", relay.unanswered, "warn", "the pool never answered"]]
          : []),
        ["held", relay.held, "warn", "sent when the pool is back"],
        ["lost", relay.lost, "bad", reasons(relay.lost_by_reason)],
      ];
      bar.update(
        parts.map(([label, size, shade]) => ({
          key: label,
          size,
          shade,
          label: `${format.count(size)} ${label}`,
        })),
      );
      keyed(
        list,
        parts,
        ([label]) => label,
        ([, , shade]) =>
          h(
            "li",
            null,
            h("span", { class: "swatch", "data-shade": shade }),
            h("strong"),
            h("span"),
            span("hint"),
          ),
        (line, [label, size, , why]) => {
          setText(line.children[1], format.count(size));
          setText(line.children[2], label);
          setText(line.children[3], size > 0 ? why : "");
        },
      );
      more.update([
        relay.replayed > 0 && ["Sent again after reconnecting", format.count(relay.replayed)],
        relay.dropped > 0 && ["Dropped because the queue was full", format.count(relay.dropped)],
        relay.splits > 0 && ["Payout splits received", format.count(relay.splits)],
        relay.splits_refused > 0 && ["Splits refused", format.count(relay.splits_refused)],
        relay.splits_cut > 0 && ["Splits reduced to the block's value", format.count(relay.splits_cut)],
        relay.connections > 0 && ["Connections to pools", format.count(relay.connections)],
      ]);
    },
  );
}

function nodesPart() {
  const none = p("lead", "No node is configured: add a [[node]] in the settings.");
  const list = panels(nodePanel);
  return section({ title: "Nodes", needs: ["nodes"] }, [none, list.element], ({ nodes }) => {
    show(none, nodes.length === 0);
    list.update(nodes);
  });
}

function nodePanel() {
  const name = h("h3");
  const state = h("span");
  const error = p("panel-error");
  const list = facts();
  const element = h(
    "article",
    { class: "panel" },
    h("header", null, name, state),
    error,
    list.element,
  );
  return {
    element,
    update(node) {
      const age = look("nodes").age ?? 0;
      setText(name, node.name);
      chip(state, ...stateOf(NODE_STATES, node.state));
      show(error, Boolean(node.last_error) && node.state !== "ready");
      setText(error, node.last_error ?? "");
      const gives = node.state !== "submit-only";
      list.update([
        [
          "Use",
          node.is_active
            ? "its templates are in use"
            : gives
              ? "takes over when the others fail"
              : "gets found blocks",
        ],
        ["Version", node.version],
        ["Network", node.network],
        ["Height", node.height === null ? null : format.count(node.height)],
        node.is_in_initial_download && ["Synchronising", "still downloading the chain"],
        node.template_age_s !== null && ["Last template", format.ago(node.template_age_s + age)],
        node.template_fetch_ms !== null && [
          "Took",
          format.milliseconds(node.template_fetch_ms / 1000),
        ],
        node.answer_age_s !== null && ["Last answer", format.ago(node.answer_age_s + age)],
        node.last_error && node.state === "ready" && ["Last error", node.last_error],
      ]);
    },
  };
}
