// Blocks found here, and what each node said to them.

import { h, keyed, setAttribute, setText, show } from "../dom.js";
import * as format from "../format.js";
import { FATES, chip, drawWorker, long, section, stateOf } from "../parts.js";

// Older ones than these are in /api/v1/blocks.
const SHOWN_MAX = 100;

export const blocks = {
  title: "Blocks",
  mount(root) {
    const lead = h("p", { class: "lead" });
    const none = h("div", { class: "empty" }, h("p", null, "No block has been found here yet."),
      h("p", { class: "hint" }, "When one is, it goes to all your nodes at once, and this page says what each of them answered."));
    const list = h("ol", { class: "blocks" });
    const part = section({ title: "Found here", needs: ["blocks"] }, [lead, none, list], (value) => {
      show(none, value.blocks.length === 0);
      const isCut = value.blocks.length > SHOWN_MAX || value.found > value.blocks.length;
      setText(lead, value.found ? `${format.plural(value.found, "block")} found, ${format.count(value.found_session)} of them since the start.${isCut ? " The latest are shown." : ""}` : "");
      keyed(list, value.blocks.slice(0, SHOWN_MAX), (block) => block.hash, makeBlock, drawBlock);
    });
    root.append(h("h1", { tabindex: "-1" }, "Blocks"), part.element);
    return { needs: () => ({ blocks: ["/blocks", 15] }), update: part.update };
  },
};

function makeBlock(block) {
  return h("li", { class: "block" },
    h("div", { class: "block-head" }, h("h3"), h("span", { class: "block-fate" }), h("time")),
    h("div", { class: "block-more" }, h("span", { class: "block-who" }), long(block.hash, "the block's hash")),
    h("ul", { class: "submissions", "aria-label": "What the nodes said" }));
}

function drawBlock(element, block) {
  const [head, more, submissions] = element.children;
  setText(head.children[0], `Block ${format.count(block.height)}`);
  chip(head.children[1], ...stateOf(FATES, block.fate));
  setText(head.children[2], format.moment(block.found_at_unix_s));
  setAttribute(head.children[2], "title", format.fullMoment(block.found_at_unix_s));
  show(more.children[0], Boolean(block.worker));
  drawWorker(more.children[0], block.worker);
  keyed(submissions, block.submissions, (one) => one.node, () => h("li", null, h("span"), h("span"), h("span", { class: "hint" })), (line, one) => {
    setText(line.children[0], one.node);
    chip(line.children[1], ...stateOf(FATES, one.result));
    setText(line.children[2], one.detail ?? "");
  });
}
