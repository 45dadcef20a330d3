// gatewayd.toml, edited where it is: checked before it is saved, applied at once where that can be.

import { get, post, put } from "../api.js";
import { announce, h, setAttribute, setText } from "../dom.js";
import { isSignedIn, session, signOut } from "../session.js";
import { outcome } from "../parts.js";
import { editor, lineOfKey } from "../editor.js";
import { loginForm, readingOnly } from "./login.js";

export const settings = {
  title: "Settings",
  mount(root, { remount }) {
    root.append(h("h1", { tabindex: "-1" }, "Settings"));
    if (!session()) {
      root.append(h("p", { class: "note", role: "status" }, "Asking the gateway…"));
      return { needs: () => ({}), update: () => session() && remount() };
    }
    if (!session().admin_enabled) root.append(readingOnly());
    else if (!isSignedIn()) root.append(h("div", { class: "narrow" }, loginForm(remount)));
    else return page(root, remount);
    return { needs: () => ({}), update() {} };
  },
};

// What was being written when the page was left, or the session ended.
let draft = null;

function page(root, remount) {
  const file = { kept: "", revision: null, isWritable: false };
  const edit = editor({ label: "gatewayd.toml", onchange: () => reflect() });
  const said = outcome();
  const path = h("p", { class: "hint" });
  const notes = h("div", { class: "notes" });
  const check = h("button", { type: "button", class: "button", onclick: () => send(true) }, "Check");
  const save = h("button", { type: "button", class: "button primary", onclick: () => send(false) }, "Save and apply");
  const revert = h("button", { type: "button", class: "button", onclick: () => {
    edit.set(file.kept);
    said.clear();
    reflect();
  } }, "Undo all changes");
  const changed = h("span", { class: "hint", role: "status" });

  const reflect = () => {
    const isChanged = edit.text() !== file.kept;
    setText(changed, isChanged ? "Not saved yet" : "");
    revert.disabled = !isChanged;
    save.disabled = !isChanged || !file.isWritable;
  };
  const load = async () => {
    try {
      const answer = await get("/config");
      // Of an older file, a draft must not be saved over what others changed since.
      Object.assign(file, { kept: answer.text, revision: draft?.revision ?? answer.revision, isWritable: answer.writable });
      setText(path, answer.path);
      edit.set(draft?.text ?? answer.text);
      edit.mark([]);
      draft = null;
      drawNotes(notes, answer);
      setAttribute(edit.element, "aria-busy", null);
    } catch (error) {
      if (error.status === 401) return remount();
      said.failed(error);
    }
    reflect();
  };
  const send = async (isCheck) => {
    for (const button of [check, save]) button.disabled = true;
    said.clear();
    edit.mark([]);
    try {
      const answer = await put("/config", { text: edit.text(), revision: file.revision, check_only: isCheck });
      tellApplied(said, answer, isCheck);
      if (!isCheck) await load();
    } catch (error) {
      if (error.status === 401) return remount();
      edit.mark((error.problems ?? []).map((problem) => lineOf(problem, edit.text())).filter(Boolean));
      said.failed(error.status === 409 ? changedElsewhere(error) : error, (text) => goTo(edit, text));
    }
    check.disabled = false;
    reflect();
  };
  const leaving = (event) => {
    if (edit.text() !== file.kept) event.preventDefault();
  };
  addEventListener("beforeunload", leaving);
  root.append(h("div", { class: "settings" }, notes,
    h("div", { class: "editor-head" }, path, changed), edit.element,
    h("div", { class: "buttons editor-buttons" }, save, check, revert), said.element, actions(said, load, remount)));
  load();
  return { needs: () => ({}), update() {}, leave() {
    removeEventListener("beforeunload", leaving);
    if (edit.text() !== file.kept) draft = { text: edit.text(), revision: file.revision };
  } };
}

function drawNotes(notes, { problems, needs_restart: waiting, from_environment: environment, writable }) {
  const box = (tone, title, lines) => h("div", { class: "box", "data-tone": tone }, h("p", { class: "box-title" }, title), lines.length > 0 && h("ul", null, lines.map((line) => h("li", null, line))));
  notes.replaceChildren(...[
    !writable && box("warn", "gatewayd may not write this file: changes can be checked here, but not saved.", []),
    problems.length > 0 && box("bad", "The file as it is now cannot be used; gatewayd runs on with what it had before.", problems),
    waiting.length > 0 && box("warn", "Saved, and in use after the next restart:", waiting),
    environment.length > 0 && box(null, "Set by the environment; what the file says of these does not count:", environment),
  ].filter(Boolean));
}

function tellApplied(said, { applied, needs_restart: waiting }, isCheck) {
  const list = (title, keys) => keys.length > 0 && [h("p", null, title), h("ul", null, keys.map((key) => h("li", null, h("code", null, key))))];
  const more = [list(isCheck ? "Would apply at once:" : "In use now:", applied), list(isCheck ? "Would need a restart:" : "Needs a restart:", waiting)];
  const isNothing = applied.length + waiting.length === 0;
  const title = isCheck ? "No errors." : "Saved.";
  said.done(isNothing ? `${title} ${isCheck ? "Nothing would change." : "No setting changed its value."}` : title, ...more.flat().filter(Boolean));
  announce(title);
}

function changedElsewhere(error) {
  return { message: `${error.message} Copy your changes, reload this page and enter them again.`, problems: error.problems };
}

// The line that a problem names, or the line of the key that it begins with.
function lineOf(problem, text) {
  const said = /\bline (\d+)/.exec(problem);
  if (said) return Number(said[1]);
  const key = /^[\w-]+(\.[\w-]+|\[\d+\])+/.exec(problem.replaceAll("`", ""));
  return key && lineOfKey(text, key[0].replaceAll("[", ".").replaceAll("]", ""));
}

function goTo(edit, problem) {
  const line = lineOf(problem, edit.text());
  return line && h("button", { type: "button", class: "link", onclick: () => edit.goTo(line) }, `Line ${line}`);
}

function actions(said, load, remount) {
  const run = async (path, then) => {
    said.clear();
    try {
      then(await post(path));
    } catch (error) {
      said.failed(error);
    }
  };
  const item = (title, text, name, onclick) => h("li", null, h("div", null, h("h3", null, title), h("p", { class: "hint" }, text)), h("button", { type: "button", class: "button", onclick }, name));
  return h("section", { class: "section", "aria-labelledby": "actions" }, h("div", { class: "section-head" }, h("h2", { id: "actions" }, "Actions")),
    h("ul", { class: "actions" },
      item("Read the file again", "After editing gatewayd.toml elsewhere. Miners stay connected.", "Reload", () => run("/reload", (answer) => {
        tellApplied(said, answer, false);
        load();
      })),
      item("Ask the node for a new block", "What blocknotify does: helps when the node's news do not come through.", "Ask now", () => run("/notify", (answer) => said.done(answer.message))),
      item("Sign out", "On this device.", "Sign out", async () => {
        await signOut();
        remount();
      })));
}

