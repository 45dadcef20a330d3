// The lists of miners, side by side.

import { h } from "../dom.js";

const WAYS = [
  ["miners", "Connected now"],
  ["workers", "Workers, ever"],
  ["bans", "Shut out"],
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
