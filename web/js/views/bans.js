// Who is banned for exceeding limits, and letting them in again.

import { remove } from "../api.js";
import { div, h, p, setText, show } from "../dom.js";
import * as format from "../format.js";
import { refresh } from "../live.js";
import { confirmed, outcome, section } from "../parts.js";
import { isSignedIn } from "../session.js";
import { figures, table } from "../table.js";
import { drawDetails, onPhone } from "./miners.js";
import { subways } from "./subways.js";

const LIMITS = {
  connections: "connects too often",
  logins: "logs in too often",
  "bad-shares": "bad shares",
  bytes: "too many bytes",
};

const why = (ban) => LIMITS[ban.limit] ?? format.words(ban.limit);

export const bans = {
  title: "Banned",
  mount(root) {
    const said = outcome();
    const list = table(options(said));
    const crossed = p("hint");
    const part = section(
      { title: "Banned", needs: ["bans"] },
      [said.element, crossed, list.element],
      ({ bans: rows, crossed: counts }) => {
        const some = counts.filter((one) => one.times > 0);
        const words = some.map(
          (one) => `${LIMITS[one.limit] ?? one.limit} ${format.count(one.times)} times`,
        );
        setText(
          crossed,
          some.length
            ? `Limits exceeded since the start: ${words.join(", ")}.`
            : "No limit has been exceeded since the start.",
        );
        list.update(rows);
      },
    );
    root.append(h("h1", { tabindex: "-1" }, "Miners"), subways("bans"), part.element);
    return { needs: () => ({ bans: ["/bans", 4] }), update: part.update };
  },
};

function options(said) {
  return {
    caption: "Banned addresses and networks",
    noun: ["ban", "bans"],
    keyOf: (ban) => ban.address,
    nameOf: (ban) => ban.address,
    sort: ["since", "down"],
    searchLabel: "Search addresses",
    search: (ban) => ban.address,
    empty: "Nobody is banned. Whoever exceeds a limit again and again is banned for a while.",
    columns: [
      {
        key: "address",
        label: "Address",
        up: true,
        value: (ban) => ban.address,
        text: (ban) => ban.address,
      },
      { key: "limit", label: "For", place: "c", up: true, value: why, text: why },
      figures("ends", "Ends in", (ban) => ban.ends_in_s, format.duration, onPhone("b")),
      figures("refused", "Turned away", (ban) => ban.refused, format.count),
      figures("row", "In a row", (ban) => ban.row, format.count, { spare: true }),
      figures("since", "Since", (ban) => ban.since_at_unix_s, format.moment, { spare: true }),
    ],
    detail: (cell, ban) => drawDetail(cell, ban, said),
  };
}

function drawDetail(cell, ban, said) {
  if (!cell.firstChild) {
    const button = h("button", { type: "button", class: "button" }, "Let in again");
    cell.append(h("dl", { class: "details" }), div("buttons", button));
    button.addEventListener("click", () => lift(ban, said));
  }
  drawDetails(cell.firstChild, [
    ["Address", ban.address],
    ["For", why(ban)],
    ["Since", format.moment(ban.since_at_unix_s)],
    ["Ends in", format.duration(ban.ends_in_s)],
    ["Turned away", format.plural(ban.refused, "connection", "connections")],
    ["In a row", format.count(ban.row)],
  ]);
  show(cell.lastChild, isSignedIn());
}

async function lift(ban, said) {
  if (!(await confirmed(`Let ${ban.address} in again?`, "Let in"))) return;
  try {
    const answer = await remove(`/bans/${encodeURIComponent(ban.address)}`);
    said.done(answer.message);
  } catch (error) {
    said.failed(error);
  }
  refresh("bans");
}
