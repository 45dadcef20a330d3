// Who is connected now.

import { post } from "../api.js";
import { connectHelp } from "../connect.js";
import { h, setAttribute, setText, show } from "../dom.js";
import * as format from "../format.js";
import { look, refresh } from "../live.js";
import { confirmed, drawWorker, outcome, reasons, rejectedShare, section, workerParts } from "../parts.js";
import { isSignedIn } from "../session.js";
import { table } from "../table.js";
import { subways } from "./subways.js";

const PROTOCOLS = { sv1: "Stratum V1", "sv1+tls": "Stratum V1, TLS", "sv2-standard": "Stratum V2", "sv2-extended": "Stratum V2, extended" };
// A farm's list is long: it is fetched less often.
const MANY = 1000;

const lastName = (miner) => miner.workers.at(-1) ?? "";
const nameOf = (miner) => (lastName(miner) ? workerParts(lastName(miner))[0] : miner.peer);
const protocolOf = (miner) => PROTOCOLS[miner.protocol] ?? miner.protocol;
const rejectedPart = (one) => (one.accepted + one.rejected ? one.rejected / (one.accepted + one.rejected) : 0);

export const miners = {
  title: "Miners",
  mount(root) {
    const age = { value: 0 };
    const said = outcome();
    const list = table(options(age, said));
    const connect = h("details", { class: "fold" }, h("summary", null, "Connect a miner"));
    const part = section({ title: "Connected now", needs: ["miners"] }, [said.element, list.element], ({ miners: rows, total }, seconds) => {
      age.value = seconds;
      list.update(rows);
      setText(cut, total > rows.length ? `Only the first ${format.count(rows.length)} of ${format.count(total)} are shown.` : "");
    });
    const cut = h("p", { class: "hint" });
    root.append(h("h1", { tabindex: "-1" }, "Miners"), subways("miners"), part.element, cut, connect);
    return {
      needs: () => ({ miners: ["/miners?limit=5000", (look("miners").value?.total ?? 0) > MANY ? 10 : 4] }),
      update() {
        part.update();
        const status = look("status").value;
        show(connect, Boolean(status));
        if (!status || connect.children.length > 1) return;
        connect.append(connectHelp(status));
        connect.open = status.miners === 0;
      },
    };
  },
};

function options(age, said) {
  return {
    caption: "Miners",
    noun: ["miner", "miners"],
    keyOf: (miner) => miner.id,
    nameOf,
    sort: ["hashrate", "down"],
    searchLabel: "Search name, address, software",
    search: (miner) => `${miner.workers.join(" ")} ${miner.peer} ${miner.user_agent}`,
    filters: [
      { label: "Protocol", all: "All protocols", of: (miner) => miner.protocol, name: (value) => PROTOCOLS[value] ?? value },
      { label: "Class", all: "All classes", of: (miner) => miner.class },
    ],
    empty: "No miner is connected. Below is what to enter in one.",
    columns: columns(age),
    detail: (cell, miner) => drawDetail(cell, miner, said),
  };
}

function columns(age) {
  return [
    { key: "worker", label: "Worker", up: true, value: (one) => nameOf(one), draw: (cell, one) => drawWorker(cell, lastName(one) || one.peer, one.workers.length > 1 ? `and ${one.workers.length - 1} more` : "") },
    { key: "hashrate", label: "Hashrate", end: true, place: "b", value: (one) => one.hashrate_h_per_s, text: (one) => format.hashrate(one.hashrate_h_per_s) },
    { key: "difficulty", label: "Difficulty", end: true, wide: true, value: (one) => one.difficulty, text: (one) => format.difficulty(one.difficulty) },
    { key: "accepted", spare: true, label: "Accepted", end: true, wide: true, value: (one) => one.accepted, text: (one) => format.count(one.accepted) },
    { key: "rejected", label: "Rejected", end: true, place: "d", value: rejectedPart, draw: drawRejected, hint: "Part of its shares that was refused" },
    { key: "best", spare: true, label: "Best share", end: true, wide: true, value: (one) => one.best_share_difficulty, text: (one) => format.difficulty(one.best_share_difficulty) },
    { key: "last", label: "Last share", end: true, wide: true, up: true, value: (one) => one.last_share_age_s ?? Infinity,
      text: (one) => (one.last_share_age_s === null ? format.NONE : format.ago(one.last_share_age_s + age.value)) },
    { key: "software", label: "Software", wide: true, up: true, value: (one) => one.user_agent, draw: (cell, one) => clip(cell, one.user_agent || format.NONE) },
    { key: "protocol", label: "Protocol", place: "c", up: true, value: protocolOf, text: protocolOf },
    { key: "class", spare: true, label: "Class", wide: true, up: true, value: (one) => one.class, text: (one) => one.class, hint: "Which coinbase it is given, by the size it can take" },
    { key: "connected", label: "Connected", end: true, wide: true, value: (one) => one.connected_s, text: (one) => format.duration(one.connected_s + age.value) },
  ];
}

export function drawRejected(cell, one) {
  const part = rejectedPart(one);
  setText(cell, one.rejected ? rejectedShare(one) : "0");
  cell.classList.toggle("bad", part > REJECTED_BAD);
  setAttribute(cell, "title", reasons(one.rejected_by_reason) || null);
}

function clip(cell, text) {
  if (!cell.firstElementChild) cell.append(h("span", { class: "clip" }));
  setText(cell.firstElementChild, text);
  setAttribute(cell, "title", text);
}

function drawDetail(cell, miner, said) {
  if (!cell.firstChild) {
    const button = h("button", { type: "button", class: "button" }, "Disconnect");
    cell.append(h("dl", { class: "details" }), h("div", { class: "buttons" }, button));
    button.addEventListener("click", () => disconnect(miner, said));
  }
  drawDetails(cell.firstChild, [
    ["Address", miner.peer],
    ["Software", miner.user_agent || format.NONE],
    ["Names", miner.workers.join(", ") || "none yet"],
    ["Shares", `${format.count(miner.accepted)} accepted, ${format.count(miner.rejected)} rejected`],
    ["Rejected for", reasons(miner.rejected_by_reason) || "nothing"],
    ["Difficulty", `${format.difficulty(miner.difficulty)} now, best share ${format.difficulty(miner.best_share_difficulty)}`],
    ["Protocol", `${protocolOf(miner)}, coinbase class ${miner.class}`],
    ["Connected since", format.moment(miner.connected_at_unix_s)],
    miner.blocks > 0 && ["Blocks", format.count(miner.blocks)],
  ]);
  show(cell.lastChild, isSignedIn());
}

// Like facts(), but beside each other where there is room.
export function drawDetails(list, rows) {
  const shown = rows.filter(Boolean);
  while (list.children.length < shown.length) list.append(h("div", null, h("dt"), h("dd")));
  while (list.children.length > shown.length) list.lastChild.remove();
  shown.forEach(([label, value], at) => {
    setText(list.children[at].firstChild, label);
    setText(list.children[at].lastChild, value);
  });
}

async function disconnect(miner, said) {
  const name = nameOf(miner);
  if (!(await confirmed(`Disconnect ${name} (${miner.peer})? Most miners connect again at once.`, "Disconnect"))) return;
  try {
    const answer = await post(`/miners/${miner.id}/disconnect`);
    said.done(answer.message);
  } catch (error) {
    said.failed(error);
  }
  refresh("miners");
}

// From here on it is worth a look: a healthy miner loses less than one share in fifty.
const REJECTED_BAD = 0.02;
