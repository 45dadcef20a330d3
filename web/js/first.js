// The answers of the first start, as changes to the settings and as text. Pure.

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

// What is plainly missing; the gateway judges the rest.
export function problemsOf(answers) {
  const problems = {};
  if (!answers.address.trim()) problems.address = "Enter an address of yours.";
  if (!/^https?:\/\/./.test(answers.rpc_url.trim()))
    problems.rpc_url = "Enter it like http://127.0.0.1:8332.";
  if (answers.auth === "cookie" && !answers.rpc_cookie_file.trim())
    problems.rpc_cookie_file = "Enter the path of the node's .cookie file.";
  if (answers.auth === "password" && !answers.rpc_user)
    problems.rpc_user = "Enter the user of the node's RPC.";
  if (answers.auth === "password" && !answers.rpc_password)
    problems.rpc_password = "Enter its password.";
  if (answers.pool === "other" && !hostAndPort(answers.pool_host))
    problems.pool_host = "Enter it like pool.example.org:28915.";
  const digits = answers.pool_key.trim();
  if (answers.pool === "other" && (digits.length !== KEY_DIGITS || /[^0-9a-f]/i.test(digits)))
    problems.pool_key = `It has ${KEY_DIGITS} hex digits; this has ${digits.length}.`;
  return problems;
}

// Key -> value for the settings API: null removes. `values` are those in use.
export function changesOf(answers, values) {
  const changes = {
    "mining.address": answers.address.trim(),
    "node.0.rpc_url": answers.rpc_url.trim(),
  };
  const secret = answers.auth === "password";
  changes["node.0.rpc_cookie_file"] = secret ? null : answers.rpc_cookie_file.trim();
  changes["node.0.rpc_user"] = secret ? answers.rpc_user : null;
  changes["node.0.rpc_password"] = secret ? answers.rpc_password : null;
  const pool = poolOf(answers);
  if (!pool) {
    if (values?.pool?.length) changes.pool = null;
    return changes;
  }
  for (const [key, value] of Object.entries(pool)) changes[`pool.0.${key}`] = value;
  return changes;
}

// The same as text for gatewayd.toml.
export function tomlOf(answers) {
  const lines = [
    "[mining]",
    `address = ${quoted(answers.address.trim())}`,
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
  return { host, port, public_key: answers.pool_key.trim().toLowerCase() };
}

export function hostAndPort(text) {
  const found = /^(\[[0-9a-f:]+\]|[^\s:/]+)(?::(\d{1,5}))?$/i.exec(text.trim());
  if (!found) return null;
  const port = found[2] === undefined ? PORT_DEFAULT : Number(found[2]);
  return port >= 1 && port <= 65_535 ? { host: found[1].replace(/[[\]]/g, ""), port } : null;
}

// A TOML string: JSON's escapes are among TOML's, but for the one letter that JSON leaves bare.
function quoted(text) {
  return JSON.stringify(text).replaceAll("\u007f", "\\u007f");
}
