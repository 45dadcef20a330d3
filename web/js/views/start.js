// The set-up page: the few things that gatewayd cannot know. Saved through the same API as all
// settings; without a password, shown as text to put into the file.

import { get, put } from "../api.js";
import { button, copyButton, div, h, p, setAttribute, setText, show, span } from "../dom.js";
import {
  ANSWERS,
  answersIn,
  changesOf,
  fieldsOf,
  fixedAnswers,
  keepsPassword,
  problemsOf,
  tomlOf,
} from "../first.js";
import { look } from "../live.js";
import { outcome } from "../parts.js";
import { askSession, maySetUp, session, signIn } from "../session.js";
import { loginForm } from "./login.js";

const SECTIONS = [
  [
    "1. Where should your reward go?",
    {
      key: "address",
      label: "Your Bitcoin address",
      hint: "Blocks that you find without a pool pay this address. It must belong to your node's network.",
      more: { placeholder: "bc1q…" },
    },
  ],
  [
    "2. Where is your node?",
    {
      key: "rpc_url",
      label: "Bitcoin Core, RPC address",
      hint:
        "On the same machine, this is usually right as it is. Bitcoin Knots up to 29.3 (20260210) does as well; later ones are on a chain that SHA-256 miners cannot mine.",
      more: { inputmode: "url" },
    },
    {
      key: "auth",
      label: "How does it let gatewayd in?",
      options: [
        {
          value: "cookie",
          title: "Cookie file",
          hint: "For a node on the same machine, under the same user.",
          fields: [
            {
              key: "rpc_cookie_file",
              label: "Path of the cookie file",
              hint: "The node writes a new one each time it starts; gatewayd reads it again then.",
            },
          ],
        },
        {
          value: "password",
          title: "User and password",
          hint: "As rpcauth in bitcoin.conf says.",
          fields: [
            { key: "rpc_user", label: "User" },
            {
              key: "rpc_password",
              label: "Password",
              more: { type: "password", autocomplete: "new-password" },
            },
          ],
        },
      ],
    },
  ],
  [
    "3. With a pool, or alone?",
    {
      key: "pool",
      label: "How to mine",
      options: [
        {
          value: "ocean",
          title: "With OCEAN",
          hint: "Paid by your shares, over DATUM: your node still chooses the transactions.",
        },
        {
          value: "other",
          title: "With another DATUM pool",
          hint: "You need its host, port and public key.",
          fields: [
            {
              key: "pool_host",
              label: "Host and port",
              more: { placeholder: "pool.example.org:28915" },
            },
            { key: "pool_key", label: "Public key", hint: "128 hex digits" },
          ],
        },
        {
          value: "solo",
          title: "Solo",
          hint: "A block that you find is all yours. Small miners find one rarely.",
        },
      ],
    },
  ],
];

// While there is none.
const PASSWORD = [
  "4. Who may change this later?",
  {
    key: "password",
    label: "Password for changes",
    options: [
      {
        value: "set",
        title: "Set an admin password",
        hint: "Viewing needs no password. Changing settings and disconnecting miners does.",
        fields: [
          {
            key: "admin_password",
            label: "New admin password",
            hint: "Eight characters or more. gatewayd keeps a hash of it.",
            more: { type: "password", autocomplete: "new-password" },
          },
          {
            key: "admin_password_again",
            label: "The same again",
            more: { type: "password", autocomplete: "new-password" },
          },
        ],
      },
      {
        value: "none",
        title: "No password",
        hint: "Once miners get work, settings can only be changed in gatewayd.toml.",
      },
    ],
  },
];

export const start = {
  title: "First start",
  mount(root, { remount }) {
    const title = h("h1", { tabindex: "-1" });
    const lead = p("lead");
    const page = div("narrow start", title, lead);
    const explain = () => {
      const wrong = wrongNetwork();
      const began = look("status").value?.setup_needed === false;
      const heading = began ? "Finish the set-up" : "Welcome to gatewayd";
      setText(title, wrong ? "Which network?" : heading);
      const words = began ? [UNFINISHED, ...troubles()].join(" ") : FIRST;
      setText(lead, wrong ? `${wrong.text} ${wrong.advice}` : words);
    };
    explain();
    root.append(page);
    if (!session()) page.append(h("p", { class: "note", role: "status" }, "Asking the gateway…"));
    else if (session().setup_open && !maySetUp()) page.append(loginForm(remount, CODE));
    else if (session().admin_enabled && !maySetUp()) page.append(loginForm(remount));
    else page.append(new FirstStart().element);
    const had = session();
    return { needs: () => ({}), update: () => (session() === had ? explain() : remount()) };
  },
};

// The node is now on another network than the address.
const wrongNetwork = () =>
  look("status").value?.warnings.find(({ code }) => code === "wrong-network");

// What keeps the settings that there are from working.
const troubles = () =>
  look("status")
    .value.warnings.filter(({ severity }) => severity === "error")
    .slice(0, 2)
    .map(({ text, advice }) => `${text} ${advice}`);

// Answers of somebody whose session ended before saving.
let kept = {};

class FirstStart {
  constructor() {
    this.answers = { ...ANSWERS, ...kept };
    this.given = new Set(Object.keys(kept)); // keys that were answered here
    kept = {};
    this.values = null; // the settings in use
    this.inputs = new Map(); // key -> { input, error, help }
    this.radios = []; // the radio buttons: [key, radio]
    this.fixedNotes = new Map(); // key -> where it says that the environment sets it
    this.said = outcome();
    this.text = h("pre", { class: "toml", tabindex: "0", "aria-label": "Text for gatewayd.toml" });
    this.save = h("button", { class: "button primary" }, SAVE);
    this.asksPassword = Boolean(session()?.setup_open) && maySetUp();
    this.fixed = {}; // answers that the environment gives: key -> the variable
    const asked = this.asksPassword ? [...SECTIONS, PASSWORD] : SECTIONS;
    const sections = asked.map(([title, ...questions]) =>
      h(
        "section",
        null,
        h("h2", null, title),
        questions.map((question) => this.question(question)),
      ),
    );
    const end = maySetUp() ? div("buttons", this.save) : this.byHand();
    this.element = h(
      "form",
      { class: "form first", novalidate: true, onsubmit: (event) => this.submit(event) },
      sections,
      this.said.element,
      end,
    );
    this.reflect();
    if (maySetUp()) this.prefill();
  }

  question(question) {
    return question.options ? this.choice(question) : this.field(question);
  }

  field({ key, label, hint = "", more }) {
    const error = h("p", { class: "field-error", id: `${key}-error` });
    const help = h("p", { class: "hint", id: `${key}-hint` }, hint);
    const input = h("input", {
      id: key,
      value: this.answers[key],
      autocomplete: "off",
      autocapitalize: "off",
      spellcheck: "false",
      "aria-describedby": `${key}-hint ${key}-error`,
      ...more,
      oninput: () => this.answer(key, input.value),
    });
    this.inputs.set(key, { input, error, help });
    return div("field", h("label", { for: key }, label), input, this.fixedNote(key), help, error);
  }

  choice({ key, label, options }) {
    const option = ({ value, title, hint, fields = [] }) => {
      const radio = h("input", {
        type: "radio",
        name: key,
        value,
        checked: this.answers[key] === value,
        onchange: () => this.answer(key, value),
      });
      this.radios.push([key, radio]);
      const more = h(
        "div",
        { class: "option-more", "data-key": key, "data-value": value },
        fields.map((field) => this.field(field)),
      );
      return div(
        "option",
        h("label", null, radio, h("span", null, h("strong", null, title), span("hint", hint))),
        fields.length > 0 && more,
      );
    };
    const legend = h("legend", null, label);
    return h("fieldset", { class: "options" }, legend, this.fixedNote(key), options.map(option));
  }

  fixedNote(key) {
    const note = h("p", { class: "hint fixed", hidden: true });
    this.fixedNotes.set(key, note);
    return note;
  }

  byHand() {
    const why =
      "No admin password is set, so this page cannot write the file for you. Replace the parts " +
      "of these names with this text, then send gatewayd SIGHUP or restart it.";
    return h(
      "section",
      null,
      h("h2", null, "Put this into gatewayd.toml"),
      p("lead", why),
      div(
        "toml-box",
        this.text,
        copyButton(() => tomlOf(this.answers), "the text"),
      ),
    );
  }

  answer(key, value) {
    this.answers[key] = value;
    this.given.add(key);
    this.reflect();
  }

  reflect() {
    for (const more of this.element.querySelectorAll("[data-key]")) {
      show(more, this.answers[more.dataset.key] === more.dataset.value);
    }
    const isKept = keepsPassword(this.answers, this.values);
    setText(this.inputs.get("rpc_password").help, isKept ? PASSWORD_KEPT : "");
    setText(this.text, tomlOf(this.answers));
  }

  // What is in use already is not requested again. Saving requests it again, and says what is wrong.
  async prefill() {
    const config = await get("/config").catch((error) => this.seeSession(error));
    if (config) this.fill(config);
  }

  // Fills in what is in use where nothing was answered yet; true if that changes an answer.
  fill(config) {
    this.values = config.values;
    const known = { ...ANSWERS, ...answersIn(config) };
    const differs = (key) => !this.given.has(key) && this.answers[key] !== known[key];
    const changed = Object.keys(known).filter(differs);
    for (const key of changed) {
      this.answers[key] = known[key];
      const field = this.inputs.get(key);
      if (field) field.input.value = known[key];
    }
    for (const [key, radio] of this.radios) radio.checked = radio.value === this.answers[key];
    this.fix(fixedAnswers(config));
    this.reflect();
    return changed.length > 0;
  }

  // Shows what the environment gives as given.
  fix(fixed) {
    this.fixed = fixed;
    for (const [key, { input, error }] of this.inputs) {
      input.disabled = key in fixed;
      if (key in fixed) setText(error, "");
    }
    for (const [key, radio] of this.radios) radio.disabled = key in fixed;
    for (const [key, note] of this.fixedNotes) {
      show(note, key in fixed);
      setText(note, key in fixed ? `Set by the environment: ${fixed[key]}` : "");
    }
  }

  // If the session has ended, for example by a restart of the gateway, sign in again and go on.
  async seeSession({ status }) {
    if (status !== 401) return;
    kept = Object.fromEntries([...this.given].map((key) => [key, this.answers[key]]));
    await askSession().catch(() => null);
  }

  complain(problems) {
    for (const [key, { input, error }] of this.inputs) {
      setText(error, problems[key] ?? "");
      setAttribute(input, "aria-invalid", problems[key] ? "true" : null);
    }
    const [first] = Object.keys(problems);
    this.inputs.get(first)?.input.focus();
  }

  isShown(key) {
    const field = this.inputs.get(key)?.input;
    return Boolean(field) && !field.closest("[hidden]") && !field.disabled;
  }

  async submit(event, isAnyway = false) {
    event?.preventDefault();
    if (!maySetUp()) return;
    this.said.clear();
    this.save.disabled = true;
    setText(this.save, isAnyway ? "Saving…" : "Trying…");
    try {
      await this.put(isAnyway);
    } catch (error) {
      this.fail(error);
      await this.seeSession(error);
    }
    setText(this.save, SAVE);
    this.save.disabled = false;
  }

  async put(isAnyway) {
    const config = await get("/config");
    const isNews = this.fill(config);
    const problems = problemsOf(this.answers, config.values, this.asksPassword);
    for (const key of Object.keys(this.fixed)) delete problems[key];
    this.complain(problems);
    if (Object.keys(problems).length > 0) return;
    // Nobody should save what they have not seen.
    if (isNews) throw new Error(NEWS);
    const changes = changesOf(this.answers, config.values, this.fixed);
    const options = { check_only: false, try_changes: !isAnyway };
    const { password, admin_password: chosen } = this.answers;
    const setsPassword = this.asksPassword && password === "set";
    if (setsPassword) options.admin_password = chosen;
    const done = await put("/config", { changes, revision: config.revision, ...options });
    this.tell(done, isAnyway);
    // With a password, set-up goes on as an admin.
    if (setsPassword) await signIn(chosen);
    if (done.needs_restart.length === 0) location.hash = "#/";
  }

  // What is wrong with an answer is said there, in the gateway's words.
  fail(error) {
    const { fields, rest } = fieldsOf(error.problems ?? [], (key) => this.isShown(key));
    this.complain(fields);
    const isTry = error.code === "try-failed";
    const anyway =
      isTry &&
      div(
        "buttons",
        button("Save anyway", () => this.submit(null, true)),
        span("hint", "Set-up stays open until miners get work."),
      );
    this.said.failed({ message: error.message, problems: rest }, null, anyway);
  }

  tell({ needs_restart: waiting, tried = [] }, isAnyway) {
    const overview = p("", h("a", { href: "#/" }, "To the overview"));
    const more = [
      waiting.length > 0 && p("", `Needs a restart: ${waiting.join(", ")}`),
      ...tried.map((line) => p("", line)),
      overview,
    ];
    if (isAnyway) this.said.warned("Saved, untried. Set-up stays open until miners get work.", more);
    else if (waiting.length > 0) this.said.done("Saved. Restart gatewayd to use it.", more);
    else this.said.done("Saved, and it works: gatewayd uses it now.", more);
  }
}

const SAVE = "Save and start";
const UNFINISHED =
  "These settings have given miners no work yet. Correct what is wrong and save again.";
const FIRST = "Answer these questions and mining can begin. Everything else has a sensible default.";
const CODE = {
  label: "Set-up code",
  why:
    "gatewayd wrote a code into its log when it started (journalctl -u gatewayd, docker logs, or " +
    "the terminal). It proves that this gateway is yours.",
  wrong: "Wrong code. It is in gatewayd's log, and changes with each start.",
  button: "Continue",
  isCode: true,
};
const PASSWORD_KEPT = "Leave it empty to keep the one in gatewayd.toml.";
const NEWS = "Nothing was saved, because the settings have changed in the meantime. Check these answers and save again.";
