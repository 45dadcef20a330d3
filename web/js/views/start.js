// The first start: the few things that gatewayd cannot know. Saved through the same API as all
// settings; without a password, shown as text to put into the file.

import { get, put } from "../api.js";
import { copyButton, h, setAttribute, setText, show } from "../dom.js";
import { outcome } from "../parts.js";
import { isSignedIn, session } from "../session.js";
import { ANSWERS, changesOf, problemsOf, tomlOf } from "../first.js";
import { loginForm } from "./login.js";

export const start = {
  title: "First start",
  mount(root, { remount }) {
    root.append(h("div", { class: "narrow start" }, h("h1", { tabindex: "-1" }, "Welcome to gatewayd"),
      h("p", { class: "lead" }, "Three answers, and mining can begin. Everything else has a default that is fine, and is on the settings page.")));
    const page = root.firstChild;
    if (!session()) page.append(h("p", { class: "note", role: "status" }, "Asking the gateway…"));
    else if (session().admin_enabled && !isSignedIn()) page.append(loginForm(remount));
    else page.append(form());
    const had = session();
    return { needs: () => ({}), update: () => session() !== had && remount() };
  },
};

function form() {
  const answers = { ...ANSWERS };
  const fields = new Map();
  const canSave = isSignedIn();
  const said = outcome();
  const text = h("pre", { class: "toml", tabindex: "0", "aria-label": "Text for gatewayd.toml" });
  const field = (key, label, hint, extra = {}) => {
    const error = h("p", { class: "field-error", id: `${key}-error` });
    const input = h("input", { id: key, value: answers[key], autocomplete: "off", autocapitalize: "off", spellcheck: "false", "aria-describedby": `${key}-hint ${key}-error`, ...extra,
      oninput: () => change(key, input.value) });
    fields.set(key, { input, error });
    return h("div", { class: "field", "data-field": key }, h("label", { for: key }, label), input, h("p", { class: "hint", id: `${key}-hint` }, hint), error);
  };
  const choice = (key, legend, options) => h("fieldset", { class: "options" }, h("legend", null, legend), options.map(([value, title, more, inner]) =>
    h("div", { class: "option" }, h("label", null, h("input", { type: "radio", name: key, value, checked: answers[key] === value, onchange: () => change(key, value) }),
      h("span", null, h("strong", null, title), h("span", { class: "hint" }, more))), inner && h("div", { class: "option-more", "data-for": `${key}-${value}` }, inner))));

  const element = h("form", { class: "form first", novalidate: true },
    h("section", null, h("h2", null, "1. Where should your reward go?"),
      field("address", "Your Bitcoin address", "Pays a block that you find while no pool splits it. It must be of your node's network.", { placeholder: "bc1q…" })),
    h("section", null, h("h2", null, "2. Where is your node?"),
      field("rpc_url", "Bitcoin Core or Knots, RPC address", "On the same machine, this is usually right as it is.", { inputmode: "url" }),
      choice("auth", "How does it let gatewayd in?", [
        ["cookie", "Cookie file", "For a node on the same machine, under the same user.", field("rpc_cookie_file", "Path of the cookie file", "The node writes it anew at each of its starts; gatewayd reads it again then.")],
        ["password", "User and password", "As rpcauth in bitcoin.conf says.", [field("rpc_user", "User", ""), field("rpc_password", "Password", "", { type: "password", autocomplete: "new-password" })]],
      ])),
    h("section", null, h("h2", null, "3. With a pool, or alone?"),
      choice("pool", "How to mine", [
        ["ocean", "With OCEAN", "Paid by your shares, over DATUM: your node still chooses the transactions."],
        ["other", "With another DATUM pool", "You need its host, port and public key.", [field("pool_host", "Host and port", "", { placeholder: "pool.example.org:28915" }), field("pool_key", "Public key", "128 hex digits")]],
        ["solo", "Solo", "A block that you find is all yours. Small miners find one rarely."],
      ])),
    said.element);
  const save = h("button", { class: "button primary" }, "Save and start");
  const manual = h("section", null, h("h2", null, "Put this into gatewayd.toml"),
    h("p", { class: "lead" }, "No admin password is set, so this page cannot write the file for you. Replace the parts of these names with this text, then restart gatewayd."),
    h("div", { class: "toml-box" }, text, copyButton(() => tomlOf(answers), "the text")));
  element.append(canSave ? h("div", { class: "buttons" }, save) : manual);

  const change = (key, value) => {
    answers[key] = value;
    reflect();
  };
  const reflect = () => {
    for (const more of element.querySelectorAll("[data-for]")) {
      const [key, value] = more.dataset.for.split("-");
      show(more, answers[key] === value);
    }
    setText(text, tomlOf(answers));
  };
  const complain = (problems) => {
    for (const [key, { input, error }] of fields) {
      setText(error, problems[key] ?? "");
      setAttribute(input, "aria-invalid", problems[key] ? "true" : null);
    }
    const first = Object.keys(problems)[0];
    if (first) fields.get(first)?.input.focus();
    return Boolean(first);
  };
  element.addEventListener("submit", (event) => {
    event.preventDefault();
    if (canSave && !complain(problemsOf(answers))) send(answers, said, save);
  });
  if (canSave) prefill(answers, fields, reflect);
  reflect();
  return element;
}

async function prefill(answers, fields, reflect) {
  try {
    const { values } = await get("/config");
    const node = values.node?.[0] ?? {};
    const known = { address: values.mining?.address, rpc_url: node.rpc_url, rpc_cookie_file: node.rpc_cookie_file, rpc_user: node.rpc_user };
    for (const [key, value] of Object.entries(known)) {
      const { input } = fields.get(key);
      if (value && input.value === ANSWERS[key]) {
        answers[key] = value;
        input.value = value;
      }
    }
    reflect();
  } catch {
    // The defaults stand; saving will say what is wrong.
  }
}

async function send(answers, said, save) {
  save.disabled = true;
  said.clear();
  try {
    const { revision, values } = await get("/config");
    const answer = await put("/config", { changes: changesOf(answers, values), revision, check_only: false });
    const waits = answer.needs_restart.length > 0;
    said.done(waits ? "Saved. Restart gatewayd to use it." : "Saved. gatewayd connects now.",
      waits ? h("p", null, `Needs a restart: ${answer.needs_restart.join(", ")}`) : h("p", null, h("a", { href: "#/" }, "To the overview")));
  } catch (error) {
    said.failed(error);
  }
  save.disabled = false;
}
