// Blocks found here, and what each node said of them.

import { div, h, keyed, p, setAttribute, setText, show, span } from "../dom.js";
import * as format from "../format.js";
import { FATES, chip, drawWorker, long, section, stateOf } from "../parts.js";

// Older ones are in /api/v1/blocks.
const SHOWN_MAX = 100;

export const blocks = {
  title: "Blocks",
  mount(root) {
    const lead = p("lead");
    const none = div(
      "empty",
      h("p", null, "No block has been found here yet."),
      p("hint", "When one is found, it goes to all your nodes at once, and their answers are shown here."),
    );
    const list = h("ol", { class: "blocks" });
    const part = section(
      { title: "Found here", needs: ["blocks"] },
      [lead, none, list],
      (value) => {
        show(none, value.blocks.length === 0);
        setText(lead, value.found ? countWords(value) : "");
        keyed(list, value.blocks.slice(0, SHOWN_MAX), (block) => block.hash, makeBlock, drawBlock);
      },
    );
    root.append(h("h1", { tabindex: "-1" }, "Blocks"), part.element);
    return { needs: () => ({ blocks: ["/blocks", 15] }), update: part.update };
  },
};

function countWords({ found, found_session: session, blocks: known }) {
  const all = `${format.plural(found, "block")} found, ${format.count(session)} since the start.`;
  return found > Math.min(known.length, SHOWN_MAX) ? `${all} Only the latest are shown.` : all;
}

function makeBlock(block) {
  return h(
    "li",
    { class: "block" },
    div("block-head", h("h3"), span("block-fate"), h("time")),
    div("block-more", span("block-who"), long(block.hash, "the block's hash")),
    h("ul", { class: "submissions", "aria-label": "What the nodes said" }),
  );
}

function drawBlock(element, block) {
  const [head, more, submissions] = element.children;
  setText(head.children[0], `Block ${format.count(block.height)}`);
  chip(head.children[1], ...stateOf(FATES, block.fate));
  setText(head.children[2], format.moment(block.found_at_unix_s));
  setAttribute(head.children[2], "title", format.fullMoment(block.found_at_unix_s));
  show(more.children[0], Boolean(block.worker));
  drawWorker(more.children[0], block.worker);
  keyed(
    submissions,
    block.submissions,
    (one) => one.node,
    () => h("li", null, h("span"), h("span"), span("hint")),
    (line, one) => {
      setText(line.children[0], one.node);
      chip(line.children[1], ...stateOf(FATES, one.result));
      setText(line.children[2], one.detail ?? "");
    },
  );
}
