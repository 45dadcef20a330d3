// Building blocks that several pages share.

import {
  button,
  copyButton,
  div,
  h,
  icon,
  keyed,
  p,
  setAttribute,
  setText,
  show,
  span,
} from "./dom.js";
import * as format from "./format.js";
import { look, refresh } from "./live.js";

// A section of a page with its heading. It says when its figures are still loading or could not be
// fetched. `fill(value, age)` runs only with a value.
export function section({ title, needs, actions, className = "" }, content, fill) {
  const id = `section-${title.toLowerCase().replace(/[^a-z]+/g, "-")}`;
  const note = h("div", { class: "note", role: "status" });
  const body = div("section-body", content);
  const heading = h("h2", { id }, title);
  const element = h(
    "section",
    { class: `section ${className}`, "aria-labelledby": id },
    div("section-head", heading, actions),
    note,
    body,
  );
  return {
    element,
    update() {
      const things = needs.map((name) => [name, look(name)]);
      const isReady = things.every(([, thing]) => thing.value !== null);
      show(body, isReady);
      tellState(note, things, isReady);
      setAttribute(element, "aria-busy", isReady ? null : "true");
      if (isReady) fill(...things.map(([, thing]) => thing.value), things[0][1].age ?? 0);
    },
  };
}

function tellState(note, things, isReady) {
  const failed = things.find(([, thing]) => thing.error && thing.error.status !== 0);
  show(note, Boolean(failed) || !isReady);
  setAttribute(note, "data-tone", failed ? "bad" : null);
  if (!failed) {
    const isCut = things.some(([, thing]) => thing.error);
    setText(note, isCut ? "No answer from the gateway yet. Retrying." : "Loading…");
    return;
  }
  const [name, { error }] = failed;
  if (note.dataset.error === error.message && note.children.length) return;
  note.dataset.error = error.message;
  note.replaceChildren(
    h("span", null, `${isReady ? "These figures are not up to date: " : ""}${error.message}`),
    button("Try again", () => refresh(name)),
  );
}

// A list of names and values. rows: [label, text or Node, hint]; a row whose value is null is left out.
export function facts(className = "") {
  const element = h("dl", { class: `facts ${className}` });
  return {
    element,
    update(rows) {
      const shown = rows.filter((row) => row && row[1] !== null && row[1] !== undefined);
      keyed(
        element,
        shown,
        ([label]) => label,
        ([label]) => h("div", null, h("dt", null, label), h("dd")),
        (line, [, value, hint]) => {
          put(line.lastChild, value);
          setAttribute(line, "title", hint);
        },
      );
    },
  };
}

// Puts text or elements into an element; elements are put in as they are, if they differ.
export function put(element, value) {
  if (!(value instanceof Node)) setText(element, value);
  else if (element.firstChild !== value || element.childNodes.length !== 1)
    element.replaceChildren(value);
}

// A state as a word with a colour, never as a colour alone.
export function chip(element, tone, text) {
  element.classList.add("chip");
  setAttribute(element, "data-tone", tone);
  setText(element, text);
}

// "bc1q….garage" as people call it: the name large, the address by its ends.
export function workerParts(name) {
  const text = String(name ?? "");
  const dot = text.indexOf(".");
  if (dot > 0 && dot < text.length - 1)
    return [text.slice(dot + 1), format.ends(text.slice(0, dot), 6, 6)];
  return text.length > 24 ? [format.ends(text, 8, 8), ""] : [text || "(no name)", ""];
}

export function drawWorker(cell, name, more = "") {
  const [short, address] = workerParts(name);
  drawWho(cell, short, [address, more].filter(Boolean).join(" · "), name);
}

export function drawWho(cell, name, more, title = name) {
  if (!cell.firstElementChild) cell.append(span("who"), span("who-more"));
  setText(cell.children[0], name);
  setText(cell.children[1], more);
  setAttribute(cell, "title", title);
}

// Text that may be too long for its place: cut in the middle, since people look at both ends.
export function cutMiddle(text) {
  const string = String(text);
  const end = string.length > 2 * END_SHOWN ? END_SHOWN : 0;
  return h(
    "code",
    { class: "cut", title: string },
    h("span", null, string.slice(0, string.length - end)),
    h("span", null, string.slice(string.length - end)),
  );
}

// The same, with a button that copies all of it.
export function long(text, what) {
  return span(
    "long",
    cutMiddle(text),
    copyButton(() => text, what),
  );
}

// Reason -> count, as a line of text, the most frequent first.
export function reasons(counts) {
  const list = Object.entries(counts ?? {})
    .filter(([, number]) => number > 0)
    .sort((a, b) => b[1] - a[1]);
  return list
    .map(([reason, number]) => `${format.count(number)} ${format.words(reason)}`)
    .join(", ");
}

export function rejectedShare({ accepted, rejected }) {
  return format.percent(rejected, accepted + rejected);
}

// A pool by its well-known name.
export function poolName(name) {
  const host = String(name ?? "").replace(/:\d+$/, "");
  return /(^|\.)ocean\.xyz$/.test(host) ? "OCEAN" : host;
}

export const POOL_STATES = {
  connecting: ["warn", "connecting"],
  up: ["good", "up"],
  down: ["bad", "down"],
  standby: ["idle", "standby"],
};
export const NODE_STATES = {
  starting: ["warn", "starting"],
  ready: ["good", "ready"],
  syncing: ["warn", "catching up"],
  down: ["bad", "down"],
  behind: ["bad", "behind"],
  "wrong-chain": ["bad", "wrong chain"],
  "submit-only": ["idle", "gets blocks only"],
};
export const FATES = {
  accepted: ["good", "accepted"],
  stale: ["warn", "stale"],
  rejected: ["bad", "rejected"],
  pending: ["idle", "undecided"],
};

export function stateOf(states, state) {
  return states[state] ?? ["idle", format.words(state)];
}

// What needs attention, worst first, with what to do about it.
export function warningList() {
  const element = h("ul", { class: "warnings", "aria-label": "Warnings" });
  return {
    element,
    update(warnings) {
      show(element, warnings.length > 0);
      keyed(element, warnings, (one) => `${one.severity} ${one.code} ${one.text}`, makeWarning);
    },
  };
}

function makeWarning({ severity, text, advice }) {
  const isBad = severity === "error";
  return h(
    "li",
    { "data-tone": isBad ? "bad" : "warn" },
    icon("alert"),
    h(
      "div",
      null,
      p("warning-text", span("offscreen", isBad ? "Error: " : "Warning: "), text),
      h("p", null, advice),
    ),
  );
}

// A bar of parts side by side. parts: [{ key, size, shade, label }]; screen readers read the list
// that goes with it instead.
export function stack(className = "") {
  const element = h("div", { class: `stack ${className}`, "aria-hidden": "true" });
  return {
    element,
    update(parts) {
      keyed(
        element,
        parts.filter((part) => part.size > 0),
        (part) => part.key,
        () => h("span"),
        (piece, part) => {
          if (piece.style.flexGrow !== String(part.size)) piece.style.flexGrow = part.size;
          setAttribute(piece, "data-shade", part.shade);
          setAttribute(piece, "title", part.label);
        },
      );
    },
  };
}

// Asks before something that cannot be undone. Resolves to whether it was confirmed.
export function confirmed(question, action) {
  const dialog = h(
    "dialog",
    { class: "dialog", "aria-label": question },
    h(
      "form",
      { method: "dialog" },
      h("p", null, question),
      div(
        "buttons",
        h("button", { class: "button", value: "no" }, "Cancel"),
        h("button", { class: "button primary", value: "yes" }, action),
      ),
    ),
  );
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}

// The result of an action: what was done, or what went wrong, with every mistake.
export function outcome() {
  const element = h("div", { class: "outcome", "aria-live": "polite" });
  const say = (tone, title, more) => {
    const shown = more.flat().filter(Boolean);
    element.replaceChildren(h("div", { class: "box", "data-tone": tone }, p("box-title", title), shown));
  };
  return {
    element,
    clear: () => element.replaceChildren(),
    done: (title, ...more) => say("good", title, more),
    warned: (title, ...more) => say("warn", title, more),
    failed(error, lineButton = null, ...more) {
      const problems = (error.problems ?? []).map((text) => {
        const button = lineButton?.(text);
        return h("li", null, button, button ? text.replace(/^line \d+:? */, "") : text);
      });
      element.replaceChildren(
        h(
          "div",
          { class: "box", "data-tone": "bad", role: "alert" },
          p("box-title", error.message),
          problems.length > 0 && h("ul", null, problems),
          more.filter(Boolean),
        ),
      );
    },
  };
}

// How much of a cut text is shown: what people compare addresses by.
const END_SHOWN = 8;
