// Who is connected now.

import { post } from "../api.js";
import { connectHelp } from "../connect.js";
import { div, h, p, setAttribute, setText, show, span } from "../dom.js";
import * as format from "../format.js";
import { look, refresh } from "../live.js";
import {
  confirmed,
  drawWho,
  drawWorker,
  outcome,
  reasons,
  rejectedShare,
  section,
  workerParts,
} from "../parts.js";
import { isSignedIn } from "../session.js";
import { figures, table } from "../table.js";
import { subways } from "./subways.js";

const PROTOCOLS = {
  sv1: "Stratum V1",
  "sv1+tls": "Stratum V1, TLS",
  "sv2-standard": "Stratum V2",
  "sv2-extended": "Stratum V2, extended",
};
// A farm's list is long, so it is fetched less often.
const MANY = 1000;

const lastName = (miner) => miner.workers.at(-1) ?? "";
const nameOf = (miner) => (lastName(miner) ? workerParts(lastName(miner))[0] : miner.peer);
const protocolOf = (miner) => PROTOCOLS[miner.protocol] ?? miner.protocol;
const rejectedPart = (one) =>
  one.accepted + one.rejected ? one.rejected / (one.accepted + one.rejected) : 0;

export const miners = {
  title: "Miners",
  mount(root) {
    const age = { value: 0 };
    const said = outcome();
    const list = table(options(age, said));
    const connect = h("details", { class: "fold" }, h("summary", null, "Connect a miner"));
    const part = section(
      { title: "Connected now", needs: ["miners"] },
      [said.element, list.element],
      ({ miners: rows, total }, seconds) => {
        age.value = seconds;
        list.update(rows);
        setText(
          cut,
          total > rows.length
            ? `Only the first ${format.count(rows.length)} of ${format.count(total)} are shown.`
            : "",
        );
      },
    );
    const cut = p("hint");
    root.append(
      h("h1", { tabindex: "-1" }, "Miners"),
      subways("miners"),
      part.element,
      cut,
      connect,
    );
    return {
      needs: () => ({
        miners: ["/miners?limit=5000", (look("miners").value?.total ?? 0) > MANY ? 10 : 4],
      }),
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
      {
        label: "Protocol",
        all: "All protocols",
        of: (miner) => miner.protocol,
        name: (value) => PROTOCOLS[value] ?? value,
      },
      { label: "Class", all: "All classes", of: (miner) => miner.class },
    ],
    empty: "No miner is connected. What to enter in a miner is below.",
    columns: columns(age),
    detail: (cell, miner) => drawDetail(cell, miner, said),
  };
}

function columns(age) {
  const best = (one) => one.best_share_difficulty;
  const last = (one) => one.last_share_age_s;
  const since = (seconds) => (seconds === null ? null : seconds + age.value);
  return [
    { key: "worker", label: "Worker", up: true, value: nameOf, draw: drawNames },
    figures("hashrate", "Hashrate", (one) => one.hashrate_h_per_s, format.hashrate, onPhone("b")),
    figures("difficulty", "Difficulty", (one) => one.difficulty, format.difficulty),
    figures("accepted", "Accepted", (one) => one.accepted, format.count, { spare: true }),
    rejectedColumn(),
    figures("best", "Best share", best, format.difficulty, { spare: true }),
    figures("last", "Last share", last, (age_s) => format.ago(since(age_s)), { up: true }),
    {
      key: "software",
      label: "Software",
      wide: true,
      up: true,
      value: (one) => one.user_agent,
      draw: drawSoftware,
    },
    {
      key: "protocol",
      label: "Protocol",
      place: "c",
      up: true,
      value: protocolOf,
      text: protocolOf,
    },
    {
      key: "class",
      label: "Class",
      wide: true,
      spare: true,
      up: true,
      value: (one) => one.class,
      text: (one) => one.class,
      hint: "Which coinbase it gets, by the size it can handle",
    },
    figures(
      "connected",
      "Connected",
      (one) => one.connected_s,
      (age_s) => format.duration(since(age_s)),
    ),
  ];
}

// Where it is shown on a phone.
export const onPhone = (place) => ({ wide: false, place });

export function rejectedColumn() {
  const hint = "Percentage of its shares that were rejected";
  return {
    key: "rejected",
    label: "Rejected",
    end: true,
    place: "d",
    value: rejectedPart,
    draw: drawRejected,
    hint,
  };
}

function drawNames(cell, one) {
  const others = one.workers.length - 1;
  const unpaid = one.unpayable_name;
  if (unpaid) drawWho(cell, unpaid, "no address: the pool can pay nobody");
  else if (others < 0) drawWho(cell, one.peer, "no share yet");
  else drawWorker(cell, lastName(one), others > 0 ? `and ${others} more` : "");
}

function drawSoftware(cell, one) {
  if (!cell.firstElementChild) cell.append(span("clip"));
  setText(cell.firstElementChild, one.user_agent || format.NONE);
  setAttribute(cell, "title", one.user_agent);
}

function drawRejected(cell, one) {
  const part = rejectedPart(one);
  setText(cell, one.rejected ? rejectedShare(one) : "0");
  cell.classList.toggle("bad", part > REJECTED_BAD);
  setAttribute(cell, "title", reasons(one.rejected_by_reason) || null);
}

function drawDetail(cell, miner, said) {
  if (!cell.firstChild) {
    const button = h("button", { type: "button", class: "button" }, "Disconnect");
    cell.append(h("dl", { class: "details" }), div("buttons", button));
    button.addEventListener("click", () => disconnect(miner, said));
  }
  drawDetails(cell.firstChild, [
    ["Address", miner.peer],
    ["Software", miner.user_agent || format.NONE],
    ["Names", miner.workers.join(", ") || "none yet"],
    [
      "Shares",
      `${format.count(miner.accepted)} accepted, ${format.count(miner.rejected)} rejected`,
    ],
    ["Rejected for", reasons(miner.rejected_by_reason) || "nothing"],
    ["Difficulty", difficultyWords(miner)],
    ["Protocol", `${protocolOf(miner)}, coinbase class ${miner.class}`],
    ["Connected since", format.moment(miner.connected_at_unix_s)],
    miner.blocks > 0 && ["Blocks", format.count(miner.blocks)],
  ]);
  show(cell.lastChild, isSignedIn());
}

function difficultyWords(miner) {
  const best = format.difficulty(miner.best_share_difficulty);
  return `${format.difficulty(miner.difficulty)} now, best share ${best}`;
}

// Like facts(), but side by side where there is room.
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
  if (
    !(await confirmed(
      `Disconnect ${name} (${miner.peer})? Most miners reconnect at once.`,
      "Disconnect",
    ))
  )
    return;
  try {
    const answer = await post(`/miners/${miner.id}/disconnect`);
    said.done(answer.message);
  } catch (error) {
    said.failed(error);
  }
  refresh("miners");
}

// Worth a look from here on: a healthy miner loses less than one share in fifty.
const REJECTED_BAD = 0.02;
