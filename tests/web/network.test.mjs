// The node switches to another network, under a running gatewayd and before it starts again: the
// page alone is enough to set it right. With a real bitcoind. Run by .ci/browser.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { folder, freePort, once, part, start, stopAll, until } from "./processes.mjs";
import { launch, open, picture } from "./support.mjs";

const { GATEWAYD = "gatewayd", BITCOIND = "bitcoind" } = process.env;
const PASSWORD = "correct horse battery";
const REGTEST = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const SIGNET = "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx";
const LOGIN = { user: "box", password: "secret" };
let browser;

before(async () => {
  browser = await launch();
});
after(async () => {
  await browser?.close();
  await stopAll();
});

// Starts a node on the previous one's port.
async function node(port, ...network) {
  const own = join(folder, "node");
  mkdirSync(own, { recursive: true });
  const login = [`-rpcuser=${LOGIN.user}`, `-rpcpassword=${LOGIN.password}`];
  const quiet = ["-listen=0", "-connect=0", "-dnsseed=0", "-printtoconsole=0", "-dbcache=64"];
  const where = [`-datadir=${own}`, `-rpcport=${port}`, "-server"];
  const child = start("bitcoind", BITCOIND, [...network, ...where, ...login, ...quiet]);
  const authorization = `Basic ${btoa(`${LOGIN.user}:${LOGIN.password}`)}`;
  const body = JSON.stringify({ id: 1, method: "getblockcount", params: [] });
  const call = { method: "POST", headers: { authorization }, body };
  await until("bitcoind does not answer", child, () =>
    fetch(`http://127.0.0.1:${port}/`, call).then(
      (answer) => answer.ok,
      () => false,
    ),
  );
  return child;
}

async function ended(child) {
  child.kill();
  await once(child);
}

const gateway = () =>
  part("gatewayd", GATEWAYD, ["--config", join(folder, "gatewayd.toml"), "run"], "http");

// What anyone does who follows the page: reads, signs in, enters another address, saves.
async function setRight(page, network, address) {
  await page.getByRole("heading", { name: "Which network?" }).waitFor({ timeout: 30_000 });
  await page.getByText(`is on the network "${network}"`).waitFor();
  const password = page.getByLabel("Admin password");
  const field = page.getByLabel("Your Bitcoin address");
  await password.or(field).waitFor();
  if (await password.count()) {
    await password.fill(PASSWORD);
    await page.getByRole("button", { name: "Sign in" }).click();
  }
  await page.waitForFunction(() => document.querySelector("#address")?.value);
  await picture(page, `network-${network}-1280-light`);
  await field.fill(address);
  await page.getByRole("button", { name: "Save and start" }).click();
  await page.getByRole("heading", { name: "Ready for miners" }).waitFor({ timeout: 30_000 });
  const tag = page.locator(".line-state .tag");
  await tag.getByText(network, { exact: true }).waitFor();
}

test("the page alone follows a node to another network", async () => {
  const port = await freePort();
  writeFileSync(join(folder, "password"), PASSWORD, { mode: 0o600 });
  writeFileSync(
    join(folder, "gatewayd.toml"),
    `[[node]]
rpc_url = "http://127.0.0.1:${port}"
rpc_user = "${LOGIN.user}"
rpc_password = "${LOGIN.password}"
[mining]
address = "${REGTEST}"
[stratum]
listen = ["127.0.0.1:0"]
[api]
listen = "127.0.0.1:${await freePort()}"
admin_password_file = "${join(folder, "password")}"
[ledger]
data_dir = "${folder}"
`,
  );
  let bitcoind = await node(port, "-regtest");
  const { addr, child } = await gateway();
  // Connections cut while a gateway restarts are not a fault.
  const allowed = [/net::ERR/, /Failed to load resource/];
  const page = await open(browser, `http://${addr}`, { allowed });
  await page.getByRole("heading", { name: "Ready for miners" }).waitFor();
  await ended(bitcoind);
  bitcoind = await node(port, "-signet", "-signetchallenge=51");
  await setRight(page, "signet", SIGNET);

  // And back, with gatewayd off meanwhile.
  await ended(child);
  await ended(bitcoind);
  await node(port, "-regtest");
  await gateway();
  await setRight(page, "regtest", REGTEST);
  assert.equal((await fetch(`http://${addr}/readyz`)).status, 200);
  await page.done();
});
