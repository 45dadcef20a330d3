// What is being mined: the node's template, and who gets what from the coinbase.

import { div, h, keyed, p, setAttribute, setText, show } from "../dom.js";
import * as format from "../format.js";
import { look } from "../live.js";
import { facts, long, section } from "../parts.js";
import { moneyless, payoutBar, usualCoinbase } from "../payout.js";

const CLASSES = {
  empty: "subsidy only, for everyone, until the node has a template",
  tiny: "only one output",
  small: "for miners that can handle little",
  default: "for miners that do not identify themselves",
  respectable: "for miners that can handle more",
  huge: "for miners that can handle everything",
  s21: "for miners like the Antminer S21",
};

const LEAD =
  "What your miners are working on: the block your node has chosen, and whom it pays if one is found.";
const LEAD_EMPTY =
  "A new block has just been seen. Miners already work on the next one, without transactions, " +
  "until the node has chosen some.";

export const work = {
  title: "Work",
  mount(root) {
    const parts = [payPart(), templatePart(), tagPart()];
    const heading = h("h1", { tabindex: "-1" }, "Work");
    const lead = p("lead");
    root.append(
      heading,
      lead,
      parts[0].element,
      div("columns", parts[1].element, parts[2].element),
    );
    return {
      needs: () => ({ work: ["/work", 8] }),
      update() {
        const { value } = look("work");
        setText(heading, value?.job ? `Block ${format.count(value.job.template.height)}` : "Work");
        setText(lead, value ? leadOf(value) : "");
        for (const part of parts) part.update();
      },
    };
  },
};

function leadOf(value) {
  if (value.waiting_for) return `Miners get no work: ${value.waiting_for}.`;
  if (!value.job) return "No work has been made yet.";
  return value.job.is_empty ? LEAD_EMPTY : LEAD;
}

function payPart() {
  let chosen = null;
  const bar = payoutBar({ isShort: false });
  const classes = h("div", {
    class: "choice classes",
    role: "group",
    "aria-label": "Class of miners",
  });
  const about = p("hint");
  const zero = p("hint");
  const part = section(
    { title: "Whom it pays", needs: ["work"], className: "pay" },
    [classes, about, bar.element, zero],
    (value) => {
      const { job } = value;
      const coinbase =
        job && (job.coinbases.find((one) => one.class === chosen) ?? usualCoinbase(job));
      show(classes, Boolean(job) && job.coinbases.length > 1);
      keyed(
        classes,
        job?.coinbases ?? [],
        (one) => one.class,
        (one) =>
          h("button", {
            type: "button",
            onclick: () => {
              chosen = one.class;
              part.update();
            },
          }),
        (button, one) => {
          setText(
            button,
            one.miners ? `${one.class} · ${format.plural(one.miners, "miner")}` : one.class,
          );
          setAttribute(button, "aria-pressed", one === coinbase ? "true" : "false");
        },
      );
      for (const line of [about, zero]) show(line, Boolean(coinbase));
      bar.update(value, coinbase);
      if (!coinbase) return;
      const limit =
        coinbase.size_limit_bytes === null
          ? ""
          : ` of at most ${format.count(coinbase.size_limit_bytes)}`;
      const what = CLASSES[coinbase.class] ?? "its own size";
      setText(
        about,
        `Class ${coinbase.class}: ${what}. ${format.count(coinbase.size_bytes)}${limit} bytes.`,
      );
      const extras = moneyless(coinbase);
      setText(zero, extras.length ? `Also in it: ${extras.join("; ")}.` : "");
    },
  );
  return part;
}

function templatePart() {
  const list = facts();
  const meter = h("meter", { min: "0", "aria-label": "Block weight used" });
  const prevhash = cached((hash) => long(hash, "the previous block's hash"));
  return section({ title: "Template", needs: ["work"] }, [list.element, meter], ({ job }, age) => {
    show(meter, Boolean(job));
    if (!job) return list.update([["State", "none yet"]]);
    const { template } = job;
    setAttribute(meter, "max", template.weight_limit);
    setAttribute(meter, "value", template.weight);
    list.update([
      ["Chosen by", template.source],
      ["Age", template.age_s === null ? format.NONE : format.duration(template.age_s + age)],
      ["Transactions", format.count(template.transactions)],
      ["Fees", format.amount(template.fees_sats)],
      ["Subsidy", format.amount(template.subsidy_sats)],
      ["Network difficulty", format.difficulty(template.network_difficulty)],
      ["Previous block", prevhash(template.prevhash)],
      [
        "Signature checks",
        `${format.count(template.sigops)} of ${format.count(template.sigops_limit)}`,
      ],
      ["Weight", `${format.weight(template.weight)} of ${format.weight(template.weight_limit)}`],
    ]);
  });
}

function tagPart() {
  const list = facts();
  return section({ title: "Job", needs: ["work"] }, list.element, ({ job, mode }) => {
    if (!job) return list.update([["State", "none yet"]]);
    const { payout, template } = job;
    list.update([
      ["Mode", mode],
      ["Pool", payout.pool],
      ["Tag in the block", payout.tag_primary || "none"],
      ["Your own tag", payout.tag_secondary || "none"],
      [
        "Gateway's number",
        String(payout.unique_id),
        "mining.unique_id: tells gateways with the same tags apart",
      ],
      [
        "Minimum share difficulty",
        payout.pool_difficulty_min === null ? null : format.difficulty(payout.pool_difficulty_min),
      ],
      [
        "Outputs from the pool",
        payout.split_outputs === null ? null : format.count(payout.split_outputs),
      ],
      ["Job", job.id],
      ["Version, bits", `${template.version}, ${template.nbits}`],
    ]);
  });
}

// The same element for the same text, so that its button keeps focus.
export function cached(make) {
  let last = null;
  let element = null;
  return (text) => {
    if (text !== last) [last, element] = [text, make(text)];
    return element;
  };
}
