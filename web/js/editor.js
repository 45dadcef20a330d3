// A text field for TOML: line numbers, dimmed comments, marked lines. The input is a plain textarea;
// the colours are a second copy of the text exactly underneath it.

import { div, h, setAttribute, span } from "./dom.js";

export function editor({ label, onchange }) {
  const input = h("textarea", {
    class: "editor-input",
    "aria-label": label,
    spellcheck: "false",
    autocapitalize: "off",
    autocomplete: "off",
    wrap: "off",
    rows: "1",
  });
  const paper = h("pre", { class: "editor-paper", "aria-hidden": "true" });
  const element = h(
    "div",
    { class: "editor", "aria-busy": "true" },
    div("editor-sheet", paper, input),
  );
  let marked = new Set();
  const draw = () => {
    const lines = input.value.split("\n");
    while (paper.children.length > lines.length) paper.lastChild.remove();
    while (paper.children.length < lines.length)
      paper.append(span("editor-line", h("span"), span("editor-comment")));
    lines.forEach((line, at) => drawLine(paper.children[at], line, marked.has(at + 1)));
  };
  input.addEventListener("input", () => {
    draw();
    onchange();
  });
  return {
    element,
    text: () => input.value,
    set(text) {
      input.value = text;
      draw();
    },
    mark(lines) {
      marked = new Set(lines);
      draw();
    },
    goTo(line) {
      const before = input.value
        .split("\n")
        .slice(0, line - 1)
        .join("\n").length;
      const start = line > 1 ? before + 1 : 0;
      const end = input.value.indexOf("\n", start);
      input.focus();
      input.setSelectionRange(start, end < 0 ? input.value.length : end);
      paper.children[line - 1]?.scrollIntoView({ block: "center" });
    },
  };
}

function drawLine(element, line, isMarked) {
  const cut = commentAt(line);
  const [code, comment] = element.children;
  if (code.textContent !== line.slice(0, cut)) code.textContent = line.slice(0, cut);
  // An empty line must be as tall as any other.
  const rest = line.slice(cut) || (cut ? "" : "\u200b");
  if (comment.textContent !== rest) comment.textContent = rest;
  setAttribute(element, "data-kind", /^\s*\[/.test(line) ? "section" : null);
  setAttribute(element, "data-marked", isMarked);
}

// Where a line's comment begins: at the first # outside quotes. The line's length: there is none.
export function commentAt(line) {
  let quote = null;
  for (let at = 0; at < line.length; at += 1) {
    const letter = line[at];
    if (quote) {
      if (letter === "\\" && quote === '"') at += 1;
      else if (letter === quote) quote = null;
    } else if (letter === '"' || letter === "'") quote = letter;
    else if (letter === "#") return at;
  }
  return line.length;
}

// The line (from 1) of a key like "stratum.listen" or "node.1.rpc_url" in a TOML text, or of its
// section if the key itself is not there; null if neither is.
export function lineOfKey(text, path) {
  const lines = text.split("\n");
  const parts = path.split(".");
  const seen = new Map(); // [[section]] -> how many so far
  let section = "";
  let found = null;
  for (const [at, line] of lines.entries()) {
    const head = /^\s*(\[\[?)\s*([\w.-]+)\s*\]/.exec(line);
    if (head) {
      section = head[2];
      if (head[1] === "[[") {
        seen.set(section, (seen.get(section) ?? -1) + 1);
        section += `.${seen.get(section)}`;
      }
      if (parts.slice(0, -1).join(".") === section) found = at + 1;
      continue;
    }
    const key = /^\s*([\w.-]+)\s*=/.exec(line)?.[1];
    const full = [section, key].filter(Boolean).join(".");
    if (key && (full === path || path.startsWith(`${full}.`))) return at + 1;
  }
  return found;
}

// The line that a problem names, or the line of the key that it begins with or mentions.
export function lineOfProblem(problem, text) {
  const line = /\bline (\d+)/.exec(problem)?.[1];
  if (line) return Number(line);
  const key =
    /for key "(?:default\.)?([\w.-]+)"/.exec(problem)?.[1] ??
    /^[\w-]+(?:\.[\w-]+|\[\d+\])+/.exec(problem)?.[0];
  return key ? lineOfKey(text, key.replaceAll("[", ".").replaceAll("]", "")) : null;
}
