// Starts the dashboard: which page is shown for which address, and the frame around it.

import { BASE, ROOT } from "./api.js";
import { announce, div, h, icon, setAttribute, setText, show, span } from "./dom.js";
import * as format from "./format.js";
import { lineState, look, onBlock, onChange, start as startLive, want } from "./live.js";
import { askSession, isSignedIn, onSession, session } from "./session.js";
import { workerParts } from "./parts.js";
import { themeButton } from "./theme.js";
import { bans } from "./views/bans.js";
import { blocks } from "./views/blocks.js";
import { login } from "./views/login.js";
import { miners } from "./views/miners.js";
import { network } from "./views/network.js";
import { overview } from "./views/overview.js";
import { settings } from "./views/settings.js";
import { start } from "./views/start.js";
import { work } from "./views/work.js";
import { workers } from "./views/workers.js";

const VIEWS = {
  "": overview,
  miners,
  workers,
  bans,
  work,
  network,
  blocks,
  settings,
  login,
  start,
};
// [pages, name, icon]: the link goes to the first page.
const WAYS = [
  [[""], "Overview", "overview"],
  [["miners", "workers", "bans"], "Miners", "miners"],
  [["work"], "Work", "work"],
  [["network"], "Pool & node", "network"],
  [["blocks"], "Blocks", "blocks"],
];

const main = document.getElementById("main");
const lost = document.getElementById("lost");
const unfinished = document.getElementById("unfinished");
let shown = { page: null, view: null };

function page() {
  const name = location.hash.replace(/^#\/?/, "").split("?")[0];
  const known = name in VIEWS ? name : "";
  // Before anything is configured there is nothing to show an overview of.
  return known === "" && look("status").value?.setup_needed ? "start" : known;
}

function route() {
  const name = page();
  if (name !== shown.page) mount(name);
}

function mount(name) {
  const isFirst = shown.page === null;
  shown.view?.leave?.();
  main.replaceChildren();
  shown = { page: name, view: VIEWS[name].mount(main, { remount: () => mount(name) }) };
  want(shown.view.needs());
  drawWays(name);
  draw();
  if (isFirst) return;
  scrollTo(0, 0);
  // Tells users of screen readers which page is shown.
  main.querySelector("h1")?.focus({ preventScroll: true });
}

function draw() {
  if (page() !== shown.page) return route();
  shown.view.update();
  const { value: status } = look("status");
  drawLine(status);
  drawFoot(status);
  drawUnfinished(status);
  const name = VIEWS[shown.page].title;
  const rate = status && shown.page === "" ? format.hashrate(status.hashrate_5m_h_per_s) : name;
  document.title = `${rate} · gatewayd`;
}

const lineDot = h("span", { class: "dot", "aria-hidden": "true" });
const lineText = span("line-text");
const networkTag = h("span", { class: "tag", hidden: true });
const settingsLink = h(
  "a",
  { class: "bare", href: "#/settings", "aria-label": "Settings", title: "Settings" },
  icon("settings"),
);

const LINE_WORDS = {
  connecting: ["idle", "Connecting"],
  live: ["good", "Live"],
  polling: ["warn", "Every 3 s"],
  lost: ["bad", "Connection lost"],
};

function drawLine(status) {
  const { state, silence } = lineState();
  const [tone, text] = LINE_WORDS[state];
  setAttribute(lineDot, "data-tone", tone);
  setText(lineText, text);
  setAttribute(
    lineDot.parentElement,
    "title",
    state === "polling"
      ? "Live updates from the gateway do not arrive; the page asks every 3 s instead."
      : null,
  );
  show(networkTag, Boolean(status?.network) && status.network !== "bitcoin");
  setText(networkTag, status?.network ?? "");
  const isLost = state === "lost";
  document.documentElement.classList.toggle("is-old", isLost && silence !== null);
  // Announced once; the age below changes every second, and is not read out.
  if (isLost === lost.hidden) announce(isLost ? "No connection to the gateway" : "Connected again");
  show(lost, isLost);
  if (!isLost) return;
  const age =
    silence === null ? "Nothing has been received yet." : `The figures shown are ${format.duration(silence)} old.`;
  if (!lost.firstChild)
    lost.append(h("p", null, h("strong", null, "No connection to the gateway."), " ", h("span")));
  setText(lost.querySelector("span"), `${age} Trying again every 3 s.`);
}

let wasUnfinished = null;

// The way back to a set-up that has brought no work yet.
function drawUnfinished(status) {
  const isUnfinished = status ? status.setup_unfinished : wasUnfinished;
  // Who may do what is another matter then.
  if (wasUnfinished !== null && isUnfinished !== wasUnfinished) askSession().catch(() => null);
  wasUnfinished = isUnfinished;
  const isOpen = Boolean(session()?.setup_open || session()?.admin_enabled);
  show(unfinished, isOpen && Boolean(status?.setup_unfinished) && shown.page !== "start");
  if (unfinished.firstChild) return;
  const text = "These settings have given miners no work yet. ";
  unfinished.append(
    h(
      "p",
      null,
      h("strong", null, "Set-up is not finished."),
      ` ${text}`,
      h("a", { href: "#/start" }, "Finish the set-up"),
    ),
  );
}

// A found block is announced on whichever page is shown.
function tellBlock(block) {
  const by = block.worker ? ` by ${workerParts(block.worker)[0]}` : "";
  const text = `Block ${format.count(block.height)} found${by}`;
  announce(text);
  document.querySelector(".toast")?.remove();
  const toast = h("a", { class: "toast", href: "#/blocks" }, icon("blocks"), text);
  document.body.append(toast);
  setTimeout(() => toast.remove(), TOAST_MS);
}

const footVersion = h("span");
const footUptime = h("span");

function drawFoot(status) {
  if (!status) return;
  const age = look("status").age ?? 0;
  setText(footVersion, `gatewayd ${status.version}`);
  setText(footUptime, `up ${format.duration(status.uptime_s + age)}`);
}

function drawWays(name) {
  for (const link of document.querySelectorAll("#ways a")) {
    setAttribute(
      link,
      "aria-current",
      link.dataset.pages.split(" ").includes(name === "start" ? "" : name) ? "page" : null,
    );
  }
  setAttribute(
    settingsLink,
    "aria-current",
    name === "settings" || name === "login" ? "page" : null,
  );
}

function frame() {
  document
    .getElementById("ways")
    .append(
      ...WAYS.map(([pages, name, drawing]) =>
        h(
          "a",
          { href: `#/${pages[0]}`, "data-pages": pages.join(" ") },
          icon(drawing),
          h("span", null, name),
        ),
      ),
    );
  document.getElementById("bar-end").append(
    div("line-state", networkTag, lineDot, lineText),
    themeButton(() => document.dispatchEvent(new Event("themechange"))),
    settingsLink,
  );
  const sign = h("a", { href: "#/login" }, "Sign in");
  onSession(() => {
    setText(sign, isSignedIn() ? "Signed in as admin" : "Sign in");
    setAttribute(sign, "href", isSignedIn() ? "#/settings" : "#/login");
    draw();
  });
  document
    .getElementById("foot")
    .append(
      footVersion,
      footUptime,
      h("a", { href: `${BASE}/openapi.json` }, "API"),
      h("a", { href: `${ROOT}/metrics` }, "Metrics"),
      sign,
    );
  // The part of the address after # is the page's name, so the skip link must not change it.
  document.getElementById("skip").addEventListener("click", (event) => {
    event.preventDefault();
    main.focus();
  });
}

// Long enough to read it and click it.
const TOAST_MS = 10_000;

frame();
onChange(draw);
onBlock(tellBlock);
addEventListener("hashchange", route);
route();
startLive();
askSession().catch(() => setTimeout(() => askSession().catch(() => {}), 5000));
