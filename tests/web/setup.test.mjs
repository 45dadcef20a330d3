// The first start as made by somebody clumsy, and settings that do not work: in a browser, with a real
// bitcoind, a pool and a miner. Every mistake is made on the way; the page alone gets out of it. Run by
// .ci/browser.

import assert from "node:assert/strict";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { folder, freePort, part, start, stopAll, until } from "./processes.mjs";
import { PHONE, faintTexts, go, launch, nameless, open, picture } from "./support.mjs";

const { GATEWAYD = "gatewayd", BITCOIND = "bitcoind" } = process.env;
const REGTEST = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const MAINNET = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
const LOGIN = { user: "box", password: "secret" };
const PASSWORD = "correct horse battery";
const SLOW = 60_000; // for a machine that is also compiling
const allowed = [/net::ERR/, /Failed to load resource/];
let browser;

before(async () => {
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await stopAll();
});

async function bitcoind(name) {
  const [own, port] = [join(folder, name), await freePort()];
  mkdirSync(own);
  const login = [`-rpcuser=${LOGIN.user}`, `-rpcpassword=${LOGIN.password}`];
  const quiet = ["-listen=0", "-connect=0", "-dnsseed=0", "-printtoconsole=0", "-dbcache=64"];
  const where = ["-regtest", `-datadir=${own}`, `-rpcport=${port}`, "-server"];
  const child = start("bitcoind", BITCOIND, [...where, ...login, ...quiet]);
  const authorization = `Basic ${btoa(`${LOGIN.user}:${LOGIN.password}`)}`;
  const body = JSON.stringify({ id: 1, method: "getblockcount", params: [] });
  await until("bitcoind does not answer", child, () =>
    fetch(`http://127.0.0.1:${port}/`, { method: "POST", headers: { authorization }, body }).then(
      (answer) => answer.ok,
      () => false,
    ),
  );
  return `http://127.0.0.1:${port}`;
}

async function pool() {
  const listen = ["devnet", "pool", "--listen", "127.0.0.1:0"];
  const { addr, child } = await part("pool", GATEWAYD, listen, "datum");
  const key = await until("the pool shows no key", child, () => /[0-9a-f]{128}/.exec(child.said)?.[0]);
  const wrong = `${key.slice(0, 77)}${key[77] === "0" ? "1" : "0"}${key.slice(78)}`;
  return { addr, key, wrong };
}

// In a folder of its own, without a file.
async function firstStart(name) {
  const cwd = join(folder, name);
  mkdirSync(cwd);
  const port = await freePort();
  const env = {
    ...process.env,
    NO_COLOR: "1",
    HOME: cwd,
    GATEWAYD_API__LISTEN: `127.0.0.1:${port}`,
    GATEWAYD_STRATUM__LISTEN: '["0.0.0.0:0"]',
    GATEWAYD_STRATUM__DIFFICULTY_MIN: "0.00001",
    GATEWAYD_STRATUM__DIFFICULTY_START: "0.00001",
    GATEWAYD_LEDGER__DATA_DIR: join(cwd, "data"),
  };
  const run = () => start("gatewayd", GATEWAYD, [], { cwd, env });
  const child = run();
  const codeOf = (of) =>
    until("no set-up code", of, () => /set-up code ([\w-]+)/.exec(of.said)?.[1]);
  return { cwd, child, run, codeOf, url: `http://127.0.0.1:${port}`, code: await codeOf(child) };
}

const field = (page, label) => page.getByLabel(label, { exact: true });
const save = (page) => page.getByRole("button", { name: "Save and start" });

// What is shown at a field.
async function saidAt(page, key, text) {
  await page.locator(`#${key}-error`, { hasText: text }).waitFor({ timeout: SLOW });
}

async function enterCode(page, code) {
  await field(page, "Set-up code").fill(code);
  await page.getByRole("button", { name: "Continue" }).click();
  await field(page, "Your Bitcoin address").waitFor();
}

test("every mistake of a first start is shown where it is made, and locks nobody out", async () => {
  const [node, hashpool, gateway] = await Promise.all([
    bitcoind("first-node"),
    pool(),
    firstStart("first"),
  ]);
  const { addr, key, wrong } = hashpool;
  const page = await open(browser, gateway.url, { allowed });
  await page.getByText("Welcome to gatewayd").waitFor();
  await field(page, "Set-up code").fill("0000-0000");
  await page.getByRole("button", { name: "Continue" }).click();
  await page.getByText("Wrong code.").waitFor();
  await enterCode(page, gateway.code.toLowerCase().replace("-", " "));

  // An address with a wrong letter, and one of another network.
  const address = field(page, "Your Bitcoin address");
  await page.getByText("User and password", { exact: true }).click();
  await field(page, "User").fill(LOGIN.user);
  await field(page, "Password").fill(LOGIN.password);
  await page.getByText("Solo", { exact: true }).click();
  await field(page, "New admin password").fill("short");
  await address.fill(` bitcoin:${REGTEST.replace("3zar", "3zor")}?amount=1 `);
  await save(page).click();
  await saidAt(page, "admin_password", "8 characters or more");
  await field(page, "New admin password").fill(PASSWORD);
  await field(page, "The same again").fill(`${PASSWORD}x`);
  await save(page).click();
  await saidAt(page, "admin_password_again", "not the same");
  await page.getByText("No password", { exact: true }).click();
  await save(page).click();
  await saidAt(page, "address", /letter \d+ \('o'\)/);
  await picture(page, "setup-letter-1280-light");

  // The node: its port, its password, and its cookie.
  await address.fill(` bitcoin:${MAINNET}?amount=1 `);
  const url = page.getByLabel(/RPC address/);
  await url.fill(`http://127.0.0.1:${await freePort()}`);
  await save(page).click();
  await saidAt(page, "rpc_url", "nothing answers");
  await url.fill(node);
  await field(page, "Password").fill("wrong");
  await save(page).click();
  await saidAt(page, "rpc_password", "the node refuses the user or password");
  await picture(page, "setup-password-1280-light");
  await field(page, "Password").fill(LOGIN.password);
  await save(page).click();
  await saidAt(page, "address", 'is on "regtest", but mining.address belongs to another network');
  await address.fill(` bitcoin:${REGTEST}?amount=1 `);
  await page.getByText("Cookie file", { exact: true }).click();
  await field(page, "Path of the cookie file").fill("/nowhere/.cookie");
  await save(page).click();
  await saidAt(page, "rpc_cookie_file", "cannot read the cookie file /nowhere/.cookie");
  assert.deepEqual(await faintTexts(page), []);
  assert.deepEqual(await nameless(page), []);
  await picture(page, "setup-cookie-1280-light");
  // None of this wrote anything.
  assert.throws(() => readFileSync(join(gateway.cwd, "gatewayd.toml")));

  // Insisting locks nobody out: a banner, and the settings, lead back.
  await page.getByRole("button", { name: "Save anyway" }).click();
  await page.getByText("Set-up is not finished.").waitFor({ timeout: SLOW });
  await picture(page, "setup-banner-1280-light");
  await go(page, "settings");
  assert.equal(await page.getByText("Nothing can be changed").count(), 0);
  await page.getByRole("link", { name: "Go on with the set-up" }).click();
  await page.getByRole("heading", { name: "Finish the set-up" }).waitFor();
  await page.waitForFunction(() => document.querySelector("#address")?.value.startsWith("bcrt1"));

  // The pool: one digit of its key, its port, a truncated key.
  await page.getByText("User and password", { exact: true }).click();
  await field(page, "User").fill(LOGIN.user);
  await field(page, "Password").fill(LOGIN.password);
  await page.getByText("With another DATUM pool", { exact: true }).click();
  await field(page, "Host and port").fill(addr);
  await field(page, "Public key").fill(key.slice(1));
  await field(page, "New admin password").fill(PASSWORD);
  await field(page, "The same again").fill(PASSWORD);
  await save(page).click();
  await saidAt(page, "pool_key", "this has 127");
  await field(page, "Public key").fill(wrong);
  await save(page).click();
  await saidAt(page, "pool_key", "most likely not its key");
  await field(page, "Public key").fill(key);
  await field(page, "Host and port").fill(`127.0.0.1:${await freePort()}`);
  await save(page).click();
  await saidAt(page, "pool_host", "no connection");
  await field(page, "Host and port").fill(addr);
  await picture(page, "setup-filled-1280-light");
  await save(page).click();

  // It works, with a password, and the page stays signed in.
  await page.getByRole("heading", { name: "Ready for miners" }).waitFor({ timeout: SLOW });
  const url1 = await page.locator(".connect code").first().textContent();
  assert.match(url1, /^stratum\+tcp:\/\//);
  assert.doesNotMatch(url1, /127\.0\.0\.1|localhost/);
  await picture(page, "setup-done-1280-light");
  await go(page, "settings");
  await page.waitForFunction(() => document.querySelector(".editor-input")?.value);
  const file = readFileSync(join(gateway.cwd, "gatewayd.toml"), "utf8");
  assert.match(file, new RegExp(`address = "${REGTEST}"`));
  assert.doesNotMatch(file, new RegExp(PASSWORD));
  assert.equal(await page.locator("#unfinished").isVisible(), false);

  // And a miner mines.
  const [, door] = /listening protocol="?stratum"? addr=\S+:(\d+)/.exec(gateway.child.said);
  const miner = ["devnet", "miner", "--connect", `127.0.0.1:${door}`, "--user", `${REGTEST}.rig`];
  start("miner", GATEWAYD, [...miner, "--hashrate-max", "1000000"]);
  await until("no share", gateway.child, async () => {
    const status = await (await fetch(`${gateway.url}/api/v1/status`)).json();
    return status.shares.accepted > 0 && status.mode === "pooled";
  });
  await page.done();
});

test("set-up continues after a restart, on a phone, and without a password", async () => {
  const [node, gateway] = await Promise.all([bitcoind("again-node"), firstStart("again")]);
  const page = await open(browser, gateway.url, { size: PHONE, allowed });
  await enterCode(page, gateway.code);
  await field(page, "Your Bitcoin address").fill(REGTEST);
  await page.getByLabel(/RPC address/).fill(node);
  await page.getByText("Solo", { exact: true }).click();
  await page.getByText("No password", { exact: true }).click();
  await save(page).click();
  await saidAt(page, "rpc_cookie_file", "cannot read the cookie file");
  await page.getByRole("button", { name: "Save anyway" }).click();
  await page.getByText("Set-up is not finished.").waitFor({ timeout: SLOW });
  gateway.child.kill();
  await until("it ends", gateway.child, () => gateway.child.exitCode !== null).catch(() => {});
  const child = gateway.run();
  const code = await gateway.codeOf(child);
  await page.goto("about:blank");
  await page.goto(`${gateway.url}/#/start`);
  await enterCode(page, code);
  await page.waitForFunction(() => document.querySelector("#address")?.value.startsWith("bcrt1"));
  await field(page, "Path of the cookie file").fill(
    join(folder, "again-node", "regtest", ".cookie"),
  );
  await picture(page, "setup-again-390-light");
  await page.getByText("User and password", { exact: true }).click();
  await field(page, "User").fill(LOGIN.user);
  await field(page, "Password").fill(LOGIN.password);
  await page.getByText("No password", { exact: true }).click();
  await save(page).click();
  await page.getByRole("heading", { name: "Ready for miners" }).waitFor({ timeout: SLOW });
  assert.equal(await page.locator("#unfinished").isVisible(), false);
  // Now it is closed.
  const session = await (await fetch(`${gateway.url}/api/v1/session`)).json();
  assert.equal(session.setup_open, false);
  await page.done();
});

test("the settings' Check tries what changed, and Save asks before it breaks anything", async () => {
  const [node, hashpool] = await Promise.all([bitcoind("settings-node"), pool()]);
  const file = join(folder, "settings.toml");
  writeFileSync(join(folder, "settings-password"), PASSWORD, { mode: 0o600 });
  writeFileSync(
    file,
    `[[node]]
rpc_url = "${node}"
rpc_user = "${LOGIN.user}"
rpc_password = "${LOGIN.password}"
[mining]
address = "${REGTEST}"
[stratum]
listen = ["127.0.0.1:0"]
[api]
listen = "127.0.0.1:0"
admin_password_file = "${join(folder, "settings-password")}"
[ledger]
data_dir = "${join(folder, "settings-data")}"
`,
  );
  const { addr } = await part("gatewayd", GATEWAYD, ["--config", file, "run"], "http");
  const page = await open(browser, `http://${addr}`, { path: "#/settings", allowed });
  await field(page, "Admin password").fill(PASSWORD);
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector(".editor-input")?.value);
  const editor = page.getByRole("textbox", { name: "gatewayd.toml" });
  const before = await editor.inputValue();
  const check = page.getByRole("button", { name: "Check" });
  const alert = page.locator(".box[role=alert]");

  await editor.fill(before.replace('"<secret>"', '"wrong"'));
  await check.click();
  await alert.getByText("the node refuses the user or password").waitFor({ timeout: SLOW });
  await alert.getByRole("button", { name: "Line 4" }).click();
  assert.equal(await page.getByRole("button", { name: "Save anyway" }).count(), 0);
  await picture(page, "settings-tried-1280-light");
  await page.getByRole("button", { name: "Save and apply" }).click();
  await page.getByRole("button", { name: "Save anyway" }).waitFor({ timeout: SLOW });
  await picture(page, "settings-anyway-1280-light");
  assert.match(readFileSync(file, "utf8"), new RegExp(`"${LOGIN.password}"`));

  const [host, port] = hashpool.addr.split(":");
  const poolWith = (key) =>
    `${before}\n[[pool]]\nhost = "${host}"\nport = ${port}\npublic_key = "${key}"\n`;
  await editor.fill(poolWith(hashpool.wrong));
  await check.click();
  await alert.getByText("most likely not its key").waitFor({ timeout: SLOW });
  await editor.fill(poolWith(hashpool.key));
  await check.click();
  await page.locator(".outcome").getByText("has this key").waitFor({ timeout: SLOW });
  await page.getByRole("button", { name: "Save and apply" }).click();
  await page.locator(".outcome").getByText("Saved.", { exact: false }).waitFor({ timeout: SLOW });

  // Saving it all the same.
  const saved = await editor.inputValue();
  await editor.fill(saved.replace(hashpool.key, hashpool.wrong));
  await page.getByRole("button", { name: "Save and apply" }).click();
  await page.getByRole("button", { name: "Save anyway" }).click({ timeout: SLOW });
  await page.locator(".outcome").getByText("Saved.", { exact: false }).waitFor({ timeout: SLOW });
  assert.match(readFileSync(file, "utf8"), new RegExp(hashpool.wrong));
  await page.done();
});
