// The lists of miners, side by side.

import { h } from "../dom.js";

const WAYS = [
  ["miners", "Connected now"],
  ["workers", "All workers"],
  ["bans", "Banned"],
];

export function subways(current) {
  return h(
    "nav",
    { class: "subways", "aria-label": "Lists of miners" },
    WAYS.map(([page, text]) =>
      h("a", { href: `#/${page}`, "aria-current": page === current ? "page" : null }, text),
    ),
  );
}
