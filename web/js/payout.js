// Who gets what from a coinbase: a bar of its outputs, and a list that says the same.

import { copyButton, div, h, keyed, p, setAttribute, setText, show, span } from "./dom.js";
import * as format from "./format.js";
import { cutMiddle, stack } from "./parts.js";

const KINDS = {
  yours: "you",
  pool: "the pool",
  split: "one of the pool's miners",
  commitment: "witness commitment, pays nothing",
  extranonce: "room for extranonces, pays nothing",
};
const SHADES = 5;

// The coinbase that most miners get; without miners, the one with the most room.
export function usualCoinbase(job) {
  return [...job.coinbases].sort((a, b) => b.miners - a.miners || b.size_bytes - a.size_bytes)[0];
}

// isShort: for the overview. `update(work)` there, `update(work, coinbase)` elsewhere.
export function payoutBar({ isShort }) {
  const none = p("hint");
  const bar = stack();
  const list = h("ol", { class: "payees" });
  const total = p("hint payees-total");
  const rest = { isOpen: false, button: null };
  const element = div("payout", none, bar.element, list, total);
  let last = null;
  const update = (work, coinbase = work.job && usualCoinbase(work.job)) => {
    last = [work, coinbase];
    show(none, !coinbase);
    for (const part of [bar.element, list, total]) show(part, Boolean(coinbase));
    if (!coinbase) {
      setText(none, work.waiting_for ? `No work yet: ${work.waiting_for}.` : "No work yet.");
      return;
    }
    const payees = payeesOf(coinbase);
    bar.update(
      payees.map((one) => ({
        key: one.key,
        size: one.value_sats,
        shade: one.shade,
        label: labelOf(one, coinbase),
      })),
    );
    drawList(list, payees, coinbase, { isShort, rest, again: () => update(...last) });
    const { subsidy_sats: subsidy, fees_sats: fees } = work.job.template;
    const from = `${format.amount(subsidy)} subsidy, ${format.amount(fees)} fees`;
    const to = format.plural(payees.length, "address", "addresses");
    setText(total, `${format.amount(coinbase.value_sats)} to ${to}: ${from}`);
  };
  return { element, update };
}

// Whoever is paid, largest first. You and the pool have colours of their own.
function payeesOf(coinbase) {
  const paid = coinbase.outputs
    .map((output, at) => ({ ...output, key: `${at} ${output.script_hex}` }))
    .filter((output) => output.value_sats > 0)
    .sort((a, b) => b.value_sats - a.value_sats);
  let shade = 0;
  return paid.map((output) => {
    if (output.kind === "yours" || output.kind === "pool") return { ...output, shade: output.kind };
    shade += 1;
    return { ...output, shade: shade <= SHADES ? String(shade) : "rest" };
  });
}

function labelOf(payee, coinbase) {
  const name = payee.address ?? payee.script_hex;
  const part = format.percent(payee.value_sats, coinbase.value_sats);
  return `${name}: ${format.amount(payee.value_sats)}, ${part}`;
}

function drawList(list, payees, coinbase, { isShort, rest, again }) {
  const shownMax = isShort ? 8 : 12;
  // Rather than "1 other", that one is shown.
  const isCut = !rest.isOpen && payees.length > shownMax + 1;
  const named = isCut ? firstAndOwn(payees, shownMax) : payees;
  const others = payees.filter((one) => !named.includes(one));
  const rows = named.map((payee) => ({ key: payee.key, payee }));
  if (others.length) rows.push({ key: "others", others });
  else if (rest.isOpen && payees.length > shownMax + 1) rows.push({ key: "fewer" });
  keyed(
    list,
    rows,
    (row) => row.key,
    (row) => makeRow(row, rest, again),
    (line, row) => {
      if (row.payee) return drawPayee(line, row.payee, coinbase, isShort);
      const text = row.others ? `${format.count(row.others.length)} others` : "Show fewer";
      setText(line.querySelector(".payee-name"), text);
      const sum = (row.others ?? []).reduce((all, one) => all + one.value_sats, 0);
      setText(line.querySelector(".payee-value"), row.others ? format.btc(sum) : "");
      setText(
        line.querySelector(".payee-part"),
        row.others ? format.percent(sum, coinbase.value_sats) : "",
      );
    },
  );
}

// The largest, and always your own.
function firstAndOwn(payees, most) {
  const first = payees.slice(0, most);
  const own = payees.filter((one) => one.kind === "yours" && !first.includes(one));
  return own.length ? [...first.slice(0, most - own.length), ...own] : first;
}

function makeRow(row, rest, again) {
  const value = span("payee-value");
  const part = span("payee-part");
  if (row.payee) return h("li", null, span("swatch"), span("payee-who"), value, part);
  const open = h("button", {
    type: "button",
    class: "payee-name",
    "aria-expanded": row.others ? "false" : "true",
    onclick: () => {
      rest.isOpen = !rest.isOpen;
      again();
    },
  });
  return h(
    "li",
    null,
    h("span", { class: "swatch", "data-shade": row.others ? "rest" : null }),
    span("payee-who", open),
    value,
    part,
  );
}

function drawPayee(line, payee, coinbase, isShort) {
  setAttribute(line.children[0], "data-shade", payee.shade);
  const who = line.children[1];
  const name = payee.address ?? payee.script_hex;
  if (who.dataset.name !== name) {
    who.dataset.name = name;
    const tone = payee.kind === "yours" ? "yours" : null;
    const tag =
      payee.kind === "split"
        ? null
        : h(
            "span",
            { class: "tag", "data-tone": tone },
            KINDS[payee.kind] ?? format.words(payee.kind),
          );
    who.replaceChildren(
      cutMiddle(name),
      isShort ? "" : copyButton(() => name, "the address"),
      tag ?? "",
    );
  }
  setText(line.children[2], format.btc(payee.value_sats));
  setText(line.children[3], format.percent(payee.value_sats, coinbase.value_sats));
}

// Outputs that pay nothing, in words.
export function moneyless(coinbase) {
  return coinbase.outputs
    .filter((output) => output.value_sats === 0)
    .map((output) => KINDS[output.kind] ?? format.words(output.kind));
}
