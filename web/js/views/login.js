// Signing in: a page of its own, and the first part of pages that need it.

import { div, h, p, setAttribute, setText } from "../dom.js";
import { session, signIn } from "../session.js";

export const login = {
  title: "Sign in",
  mount(root) {
    const isReading = session() && !session().admin_enabled;
    root.append(
      div(
        "narrow",
        h("h1", { tabindex: "-1" }, "Sign in"),
        isReading
          ? session().setup_open
            ? h("p", null, "There is no admin password yet: ", h("a", { href: "#/start" }, "the set-up sets one"), ".")
            : readingOnly()
          : loginForm(() => {
              location.hash = "#/settings";
            }),
      ),
    );
    return { needs: () => ({}), update() {} };
  },
};

export function loginForm(onsuccess, words = {}) {
  const { label, why, wrong, button: go, isCode } = { ...PASSWORD, ...words };
  const error = h("p", { class: "field-error", id: "login-error", role: "alert" });
  const input = h("input", {
    type: isCode ? "text" : "password",
    id: "password",
    name: isCode ? "code" : "password",
    autocomplete: isCode ? "one-time-code" : "current-password",
    autocapitalize: isCode ? "characters" : "off",
    spellcheck: "false",
    required: true,
    "aria-describedby": "login-error",
  });
  const button = h("button", { class: "button primary" }, go);
  // Password managers want a user name next to the password.
  const name = h("input", {
    class: "offscreen",
    type: "text",
    name: "username",
    value: "admin",
    autocomplete: "username",
    tabindex: "-1",
    "aria-hidden": "true",
    readonly: true,
  });
  const submit = async (event) => {
    event.preventDefault();
    button.disabled = true;
    setText(error, "");
    try {
      await signIn(input.value);
      onsuccess();
    } catch (failure) {
      setText(error, failure.status === 401 ? wrong : failure.message);
      setAttribute(input, "aria-invalid", "true");
      input.select();
    }
    button.disabled = false;
  };
  return h(
    "form",
    { class: "form", onsubmit: submit },
    p("lead", why),
    !isCode && name,
    div("field", h("label", { for: "password" }, label), input, error),
    div("buttons", button),
  );
}

// No password is set: how to set one.
export function readingOnly() {
  return div(
    "form",
    p("lead", "Nothing can be changed from here, because no admin password is set."),
    h(
      "ol",
      { class: "steps" },
      h(
        "li",
        null,
        "Write a password of eight characters or more into a file that only gatewayd may read.",
      ),
      h(
        "li",
        null,
        "Put its path into gatewayd.toml: ",
        h("code", null, 'api.admin_password_file = "/etc/gatewayd/password"'),
      ),
      h("li", null, "Restart gatewayd, or send it SIGHUP, and sign in here."),
    ),
  );
}

const PASSWORD = {
  label: "Admin password",
  why: "Viewing needs no password. Changing settings and disconnecting miners does.",
  wrong: "Wrong password.",
  button: "Sign in",
  isCode: false,
};
