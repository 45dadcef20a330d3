// The answers given on the set-up page, as changes to the settings and as text. Pure.

export const ANSWERS = {
  address: "",
  rpc_url: "http://127.0.0.1:8332",
  auth: "cookie",
  rpc_cookie_file: "~/.bitcoin/.cookie",
  rpc_user: "",
  rpc_password: "",
  pool: "ocean",
  pool_host: "",
  pool_key: "",
  password: "set", // or "none"
  admin_password: "",
  admin_password_again: "",
};

// OCEAN's DATUM server, as in the example configuration.
const OCEAN = {
  host: "datum-beta1.mine.ocean.xyz",
  port: 28915,
  public_key:
    "f21f2f0ef0aa1970468f22bad9bb7f4535146f8e4a8f646bebc93da3d89b1406f40d032f09a417d94dc068055df654937922d2c89522e3e8f6f0e649de473003",
};
const PORT_DEFAULT = 28915;
const KEY_DIGITS = 128;
const PASSWORD_MIN = 8;

// What the environment sets is not asked for, and nothing in the file could change it.
const ENVIRONMENT = {
  address: ["mining.address", "GATEWAYD_MINING__ADDRESS"],
  node: ["node", "GATEWAYD_NODE"],
  pool: ["pool", "GATEWAYD_POOL"],
};
const GROUPS = {
  address: ["address"],
  node: ["rpc_url", "auth", "rpc_cookie_file", "rpc_user", "rpc_password"],
  pool: ["pool", "pool_host", "pool_key"],
};

// Answer -> the variable that gives it.
export function fixedAnswers({ from_environment: environment = [] }) {
  const fixed = {};
  for (const [group, [key, variable]] of Object.entries(ENVIRONMENT))
    if (environment.includes(key)) for (const name of GROUPS[group]) fixed[name] = variable;
  return fixed;
}

// As it is pasted from a wallet: spaces around it, `bitcoin:` before it, an amount behind it.
export function bareAddress(text) {
  return text
    .trim()
    .replace(/^bitcoin:\/*/i, "")
    .replace(/[?#].*$/, "")
    .trim();
}

// The fields that problems of the gateway are about: { field: text }, and those about none.
export function fieldsOf(problems, isShown) {
  const fields = {};
  const rest = [];
  for (const problem of problems) {
    const [, key, text] = /^(?:line \d+: |GATEWAYD_\w+: )?([a-z_]+(?:\.\w+)*):? (.*)$/s.exec(problem) ?? [];
    const field = FIELDS[(key ?? "").replace(/\.\d+/g, "")];
    if (field && isShown(field)) fields[field] = fields[field] ? `${fields[field]} ${text}` : text;
    else rest.push(problem);
  }
  return { fields, rest };
}

const FIELDS = {
  "mining.address": "address",
  "node.rpc_url": "rpc_url",
  "node.rpc_cookie_file": "rpc_cookie_file",
  "node.rpc_user": "rpc_user",
  "node.rpc_password": "rpc_password",
  "pool.host": "pool_host",
  "pool.port": "pool_host",
  "pool.public_key": "pool_key",
  admin_password: "admin_password",
};

// The settings already in use, as answers; questions they do not answer are left out. `text` is
// gatewayd.toml, `values` what is in use.
export function answersIn({ values, text = "", from_environment: environment = [] }) {
  const answers = {};
  if (values.mining?.address) answers.address = values.mining.address;
  const node = values.node?.[0];
  if (node) {
    answers.auth = node.rpc_user ? "password" : "cookie";
    for (const key of ["rpc_url", "rpc_cookie_file", "rpc_user"])
      if (node[key]) answers[key] = node[key];
  }
  const pool = values.pool?.[0];
  if (pool) Object.assign(answers, answersOfPool(pool));
  // Having no pool is an answer too, unless nothing is configured yet.
  else if (saysAnything(text) || environment.includes("pool")) answers.pool = "solo";
  return answers;
}

function answersOfPool({ host, port, public_key: key }) {
  if (isSamePool({ host, port, public_key: key }, OCEAN)) return { pool: "ocean" };
  const name = host.includes(":") ? `[${host}]` : host;
  return { pool: "other", pool_host: `${name}:${port}`, pool_key: key };
}

const isSamePool = (one, other) =>
  one.host === other.host &&
  one.port === other.port &&
  one.public_key.toLowerCase() === other.public_key.toLowerCase();

const saysAnything = (text) => text.split("\n").some((line) => /^\s*[^\s#]/.test(line));

// A stored password is kept only for the same user and node.
export function keepsPassword(answers, values) {
  const node = values?.node?.[0];
  return (
    Boolean(node?.rpc_password) &&
    !answers.rpc_password &&
    answers.rpc_user === node.rpc_user &&
    answers.rpc_url.trim() === node.rpc_url
  );
}

// What is obviously missing; the gateway checks the rest. `asksPassword`: there is none yet.
export function problemsOf(answers, values, asksPassword = false) {
  const problems = {};
  if (!bareAddress(answers.address)) problems.address = "Enter one of your addresses.";
  // The gateway adds what stands before a host and its port.
  if (!/^(https?:\/\/.|\S+:\d)/.test(answers.rpc_url.trim()))
    problems.rpc_url = "Enter it like http://127.0.0.1:8332.";
  if (answers.auth === "cookie" && !answers.rpc_cookie_file.trim())
    problems.rpc_cookie_file = "Enter the path of the node's .cookie file.";
  if (answers.auth === "password" && !answers.rpc_user)
    problems.rpc_user = "Enter the user of the node's RPC.";
  if (answers.auth === "password" && !answers.rpc_password && !keepsPassword(answers, values))
    problems.rpc_password = values?.node?.[0]?.rpc_password
      ? "Enter the password for this node and user: the stored one is for a different node or user."
      : "Enter its password.";
  if (answers.pool === "other" && !hostAndPort(answers.pool_host))
    problems.pool_host = "Enter it like pool.example.org:28915.";
  const digits = answers.pool_key.trim();
  if (answers.pool === "other" && (digits.length !== KEY_DIGITS || /[^0-9a-f]/i.test(digits)))
    problems.pool_key =
      digits.length === KEY_DIGITS
        ? "A public key has only hex digits: 0 to 9 and a to f."
        : `A public key has ${KEY_DIGITS} hex digits; this has ${digits.length}.`;
  if (asksPassword && answers.password === "set") {
    if ([...answers.admin_password].length < PASSWORD_MIN)
      problems.admin_password = `Choose one of ${PASSWORD_MIN} characters or more, or “No password”.`;
    else if (answers.admin_password !== answers.admin_password_again)
      problems.admin_password_again = "This is not the same password.";
  }
  return problems;
}

// Key -> value for the settings API: null removes. `values` are those in use: what already has the
// right value is left as it is written.
export function changesOf(answers, values, fixed = {}) {
  const changes = {};
  const set = (key, value, old) => {
    if (value !== old) changes[key] = value;
  };
  if (!fixed.address) set("mining.address", bareAddress(answers.address), values?.mining?.address);
  if (!fixed.rpc_url) nodeChanges(answers, values, changes, set);
  if (!fixed.pool) poolChanges(answers, values, changes, set);
  return changes;
}

function nodeChanges(answers, values, changes, set) {
  const node = values?.node?.[0] ?? {};
  set("node.0.rpc_url", answers.rpc_url.trim(), node.rpc_url);
  if (answers.auth === "cookie") {
    set("node.0.rpc_cookie_file", answers.rpc_cookie_file.trim(), node.rpc_cookie_file);
    set("node.0.rpc_user", null, node.rpc_user || null);
    set("node.0.rpc_password", null, node.rpc_password || null);
  } else {
    set("node.0.rpc_user", answers.rpc_user, node.rpc_user);
    if (!keepsPassword(answers, values)) changes["node.0.rpc_password"] = answers.rpc_password;
  }
}

function poolChanges(answers, values, changes, set) {
  const pool = poolOf(answers);
  const old = values?.pool?.[0];
  if (!pool && old) changes.pool = null;
  if (pool && !(old && isSamePool(old, pool)))
    for (const [key, value] of Object.entries(pool)) set(`pool.0.${key}`, value, old?.[key]);
}

// The same, as text for gatewayd.toml.
export function tomlOf(answers) {
  const lines = [
    "[mining]",
    `address = ${quoted(bareAddress(answers.address))}`,
    "",
    "[[node]]",
    'kind = "bitcoind"',
    `rpc_url = ${quoted(answers.rpc_url.trim())}`,
  ];
  if (answers.auth === "cookie")
    lines.push(`rpc_cookie_file = ${quoted(answers.rpc_cookie_file.trim())}`);
  else
    lines.push(
      `rpc_user = ${quoted(answers.rpc_user)}`,
      `rpc_password = ${quoted(answers.rpc_password)}`,
    );
  const pool = poolOf(answers);
  if (pool)
    lines.push(
      "",
      "[[pool]]",
      `host = ${quoted(pool.host)}`,
      `port = ${pool.port}`,
      `public_key = ${quoted(pool.public_key)}`,
    );
  else lines.push("", "# No [[pool]] section: solo.");
  return `${lines.join("\n")}\n`;
}

function poolOf(answers) {
  if (answers.pool === "solo") return null;
  if (answers.pool === "ocean") return OCEAN;
  const { host, port } = hostAndPort(answers.pool_host) ?? { host: "", port: PORT_DEFAULT };
  return { host, port, public_key: answers.pool_key.trim() };
}

export function hostAndPort(text) {
  const found = /^(\[[0-9a-f:]+\]|[^\s:/]+)(?::(\d{1,5}))?$/i.exec(text.trim());
  if (!found) return null;
  const port = found[2] === undefined ? PORT_DEFAULT : Number(found[2]);
  return port >= 1 && port <= 65_535 ? { host: found[1].replace(/[[\]]/g, ""), port } : null;
}

// A TOML string: TOML knows all of JSON's escapes, but also wants U+007F escaped.
function quoted(text) {
  return JSON.stringify(text).replaceAll("\u007f", "\\u007f");
}
