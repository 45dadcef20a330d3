// Edits gatewayd.toml in place: checked before it is saved, and applied at once where possible.

import { get, post, put } from "../api.js";
import { announce, button, div, h, p, setAttribute, setText } from "../dom.js";
import { editor, lineOfProblem } from "../editor.js";
import { outcome } from "../parts.js";
import { askSession, isSignedIn, session, signOut } from "../session.js";
import { loginForm, readingOnly } from "./login.js";

export const settings = {
  title: "Settings",
  mount(root, { remount }) {
    root.append(h("h1", { tabindex: "-1" }, "Settings"));
    const idle = { needs: () => ({}), update() {} };
    if (!session()) {
      root.append(h("p", { class: "note", role: "status" }, "Asking the gateway…"));
      return { ...idle, update: () => session() && remount() };
    }
    if (isSignedIn()) {
      const page = new SettingsPage(remount);
      root.append(page.element);
      page.load();
      return { ...idle, leave: () => page.leave() };
    }
    if (session().admin_enabled) root.append(div("narrow", signIn(remount)));
    else root.append(session().setup_open ? unfinished() : readingOnly());
    return idle;
  },
};

// Unsaved text from when the page was left or the session ended: { text, revision }.
let draft = null;
// The session ended while somebody was on this page.
let hasEnded = false;

function signIn(remount) {
  if (!hasEnded) return loginForm(remount);
  hasEnded = false;
  const kept = draft ? " Your changes are kept." : "";
  return loginForm(remount, { why: `${ENDED}${kept}` });
}

// There is no password yet, but there is a code: one place for both.
function unfinished() {
  return div(
    "form",
    p("lead", "No admin password is set yet, and set-up is not finished: it sets one."),
    p("", h("a", { class: "button primary", href: "#/start" }, "Go on with the set-up")),
  );
}

class SettingsPage {
  constructor(remount) {
    this.remount = remount;
    this.file = { text: "", revision: null, isWritable: false };
    this.edit = editor({ label: "gatewayd.toml", onchange: () => this.reflect() });
    this.said = outcome();
    this.notes = div("notes");
    this.path = p("hint");
    this.changed = h("span", { class: "hint", role: "status" });
    this.save = button("Save and apply", () => this.send(false), "primary");
    this.check = button("Check", () => this.send(true));
    this.undo = button("Undo all changes", () => this.revert());
    const buttons = div("buttons editor-buttons", this.save, this.check, this.undo);
    const head = div("editor-head", this.path, this.changed);
    const parts = [this.notes, head, this.edit.element, buttons, this.said.element];
    this.element = div("settings", parts, this.actions());
    this.onUnload = (event) => this.isChanged() && event.preventDefault();
    addEventListener("beforeunload", this.onUnload);
  }

  leave() {
    removeEventListener("beforeunload", this.onUnload);
    if (this.isChanged()) draft = { text: this.edit.text(), revision: this.file.revision };
  }

  isChanged() {
    return this.edit.text() !== this.file.text;
  }

  reflect() {
    const isChanged = this.isChanged();
    setText(this.changed, isChanged ? "Not saved yet" : "");
    this.undo.disabled = !isChanged;
    this.save.disabled = !isChanged || !this.file.isWritable;
  }

  revert() {
    this.edit.set(this.file.text);
    this.edit.mark([]);
    this.said.clear();
    this.reflect();
  }

  async load() {
    try {
      const answer = await get("/config");
      const { text, revision } = draft ?? answer;
      draft = null;
      // A draft of an older file must not overwrite what others have changed since.
      this.file = { text: answer.text, revision, isWritable: answer.writable };
      this.edit.set(text);
      this.edit.mark([]);
      setText(this.path, answer.path);
      this.notes.replaceChildren(...notesOf(answer));
      setAttribute(this.edit.element, "aria-busy", null);
    } catch (error) {
      await this.fail(error);
    }
    this.reflect();
  }

  // What changes is tried first; `isAnyway`: somebody wants it although it does not work.
  async send(isCheck, isAnyway = false) {
    this.save.disabled = true;
    this.check.disabled = true;
    this.said.clear();
    this.edit.mark([]);
    if (!isAnyway) setText(this.changed, "Trying what changes…");
    try {
      const { revision } = this.file;
      const options = { check_only: isCheck, try_changes: !isAnyway };
      const change = { text: this.edit.text(), revision, ...options };
      tellApplied(this.said, await put("/config", change), isCheck);
      if (!isCheck) await this.load();
    } catch (error) {
      await this.fail(error, !isCheck && error.code === "try-failed" && this.anyway());
    }
    this.check.disabled = false;
    this.reflect();
  }

  // A node that is off, or a pool that is away, may be meant.
  anyway() {
    return div(
      "buttons",
      button("Save anyway", () => this.send(false, true)),
    );
  }

  // Says what is wrong and where: marks the lines, and links to them.
  async fail(error, ...more) {
    if (error.status === 401 && (await this.isOut())) return;
    const lineOf = (problem) => lineOfProblem(problem, this.edit.text());
    this.edit.mark((error.problems ?? []).map(lineOf).filter(Boolean));
    this.said.failed(error.status === 409 ? changedElsewhere(error) : error, (problem) => {
      const line = lineOf(problem);
      return (
        line &&
        h(
          "button",
          { type: "button", class: "link", onclick: () => this.edit.goTo(line) },
          `Line ${line}`,
        )
      );
    }, ...more);
  }

  // Whether the session has ended; if so, asks to sign in.
  async isOut() {
    await askSession().catch(() => {}); // if it fails, the error that led here is shown
    if (isSignedIn()) return false;
    hasEnded = true;
    this.remount();
    return true;
  }

  actions() {
    const act = (path, then) => async () => {
      this.said.clear();
      try {
        then(await post(path));
      } catch (error) {
        await this.fail(error);
      }
    };
    const reload = act("/reload", (answer) => {
      tellApplied(this.said, answer, false);
      this.load();
    });
    const notify = act("/notify", (answer) => this.said.done(answer.message));
    const out = async () => {
      try {
        await signOut();
        this.remount();
      } catch (error) {
        await this.fail(error);
      }
    };
    const title = h("h2", { id: "actions" }, "Actions");
    const list = h(
      "ul",
      { class: "actions" },
      action(
        "Read the file again",
        "After editing gatewayd.toml elsewhere. Miners stay connected.",
        "Reload",
        reload,
      ),
      action(
        "Ask the node for a new block",
        "Like blocknotify: it helps when the node's notifications do not arrive.",
        "Ask now",
        notify,
      ),
      action("Sign out", "On this device.", "Sign out", out),
    );
    return h(
      "section",
      { class: "section", "aria-labelledby": "actions" },
      div("section-head", title),
      list,
    );
  }
}

function action(title, text, name, onclick) {
  return h(
    "li",
    null,
    h("div", null, h("h3", null, title), p("hint", text)),
    button(name, onclick),
  );
}

function notesOf({ problems, needs_restart: waiting, from_environment: environment, writable }) {
  const box = (tone, title, lines) => {
    const list =
      lines.length > 0 &&
      h(
        "ul",
        null,
        lines.map((line) => h("li", null, line)),
      );
    return h("div", { class: "box", "data-tone": tone }, p("box-title", title), list);
  };
  return [
    !writable &&
      box(
        "warn",
        "gatewayd has no permission to write this file: changes can be checked here, but not saved.",
        [],
      ),
    problems.length > 0 &&
      box(
        "bad",
        "The file cannot be used as it is; gatewayd keeps running with its previous settings.",
        problems,
      ),
    waiting.length > 0 && box("warn", "Saved, takes effect after the next restart:", waiting),
    environment.length > 0 &&
      box(null, "Set by the environment, which overrides the file:", environment),
  ].filter(Boolean);
}

function tellApplied(said, { applied, needs_restart: waiting, tried = [] }, isCheck) {
  const listOf = (title, items) => {
    if (items.length === 0) return [];
    return [
      p("", title),
      h(
        "ul",
        null,
        items.map((item) => h("li", null, item)),
      ),
    ];
  };
  const list = (title, keys) =>
    listOf(
      title,
      keys.map((key) => h("code", null, key)),
    );
  const title = isCheck ? "No errors." : "Saved.";
  const isNothing = applied.length + waiting.length === 0;
  const nothing = isCheck ? "Nothing would change." : "No setting changed its value.";
  said.done(
    isNothing ? `${title} ${nothing}` : title,
    ...list(isCheck ? "Would apply at once:" : "In use now:", applied),
    ...list(isCheck ? "Would need a restart:" : "Needs a restart:", waiting),
    ...listOf("Tried, and it works:", tried),
  );
  announce(title);
}

function changedElsewhere(error) {
  const message = `${error.message} Copy your changes first.`;
  return { message, problems: error.problems };
}

const ENDED =
  "You have been signed out: gatewayd has restarted, or a day has passed. Sign in again.";
