// The dashboard below a path, behind nginx and Caddy as Debian ships them: proxies that take the
// path off before they ask gatewayd, and proxies that leave it on. Run by .ci/browser.

import assert from "node:assert/strict";
import { mkdirSync, writeFileSync } from "node:fs";
import { request as httpRequest } from "node:http";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { folder, freePort, once, part, start, stopAll, until } from "./processes.mjs";
import { go, launch, open, settled } from "./support.mjs";

const BASE = "/gatewayd";
const PASSWORD = "correct horse battery";
const ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080";
const { GATEWAYD = "gatewayd", NGINX = "nginx", CADDY = "caddy" } = process.env;
let browser;
let api; // of the gateway that is set up
let fresh; // of one that waits for its first settings
const proxies = {};

before(async () => {
  browser = await launch();
  const listen = ["--listen", "127.0.0.1:0"];
  const { addr: node } = await part("node", GATEWAYD, ["devnet", "node", ...listen], "rpc");
  [api, fresh] = await Promise.all([gateway("set-up", node, ADDRESS), gateway("fresh", node, "")]);
  await Promise.all([startNginx(), startCaddy()]);
});

after(async () => {
  await browser?.close();
  await stopAll();
});

async function gateway(name, node, address) {
  const own = join(folder, name);
  mkdirSync(own);
  writeFileSync(join(own, "password"), PASSWORD, { mode: 0o600 });
  writeFileSync(
    join(own, "gatewayd.toml"),
    `[[node]]
rpc_url = "http://${node}"
rpc_user = "devnet"
rpc_password = "devnet"
[mining]
address = "${address}"
[stratum]
listen = ["127.0.0.1:0"]
[api]
listen = "127.0.0.1:${await freePort()}"
base_path = "${BASE}"
admin_password_file = "${address ? join(own, "password") : ""}"
[ledger]
data_dir = "${own}"
`,
  );
  const args = ["--config", join(own, "gatewayd.toml"), "run"];
  return (await part(name, GATEWAYD, args, "http")).addr;
}

async function answers(name, child, port) {
  await until(`${name} does not answer`, child, () =>
    fetch(`http://127.0.0.1:${port}/`, { redirect: "manual" }).then(
      () => true,
      () => false,
    ),
  );
}

// As people write it who follow a tutorial, and with nothing but what has to be there.
async function startNginx() {
  const ports = await Promise.all([0, 0, 0, 0].map(freePort));
  const [strips, keeps, tutorial, first] = ports;
  const own = join(folder, "nginx");
  mkdirSync(own);
  const temps = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"].map(
    (kind) => `${kind}_temp_path ${own}/${kind};`,
  );
  const forwarded = `
    proxy_set_header Host $host;
    proxy_set_header X-Real-IP $remote_addr;
    proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    proxy_set_header X-Forwarded-Proto $scheme;
    proxy_set_header X-Forwarded-Host $host;`;
  writeFileSync(
    join(own, "nginx.conf"),
    `daemon off;
${process.getuid() === 0 ? "user root;" : ""}
worker_processes 1;
pid ${own}/pid;
error_log stderr;
events { worker_connections 64; }
http {
  access_log off;
  ${temps.join("\n  ")}
  server { listen 127.0.0.1:${strips}; location ${BASE}/ { proxy_pass http://${api}/; } }
  server { listen 127.0.0.1:${keeps}; location ${BASE} { proxy_pass http://${api}; } }
  server {
    listen 127.0.0.1:${tutorial};
    location ${BASE}/ { proxy_pass http://${api}/; ${forwarded} }
  }
  server {
    listen 127.0.0.1:${first};
    location ${BASE}/ { proxy_pass http://${fresh}/; ${forwarded} }
  }
}
`,
  );
  const child = start("nginx", NGINX, ["-p", own, "-e", "stderr", "-c", join(own, "nginx.conf")]);
  for (const port of ports) await answers("nginx", child, port);
  Object.assign(proxies, { strips, keeps, tutorial, nginxFirst: first });
}

async function startCaddy() {
  const ports = await Promise.all([0, 0, 0, 0].map(freePort));
  const [strips, bare, keeps, first] = ports;
  const own = join(folder, "caddy");
  mkdirSync(own);
  writeFileSync(
    join(own, "Caddyfile"),
    `{
  admin off
  auto_https off
}
http://:${strips} {
  bind 127.0.0.1
  redir ${BASE} ${BASE}/
  handle_path ${BASE}/* {
    reverse_proxy ${api}
  }
}
http://:${bare} {
  bind 127.0.0.1
  handle_path ${BASE}* {
    reverse_proxy ${api}
  }
}
http://:${keeps} {
  bind 127.0.0.1
  reverse_proxy ${BASE}* ${api}
}
http://:${first} {
  bind 127.0.0.1
  reverse_proxy ${BASE}* ${fresh}
}
`,
  );
  const child = start("caddy", CADDY, ["run", "--config", join(own, "Caddyfile")], {
    env: { ...process.env, HOME: own, XDG_DATA_HOME: own, XDG_CONFIG_HOME: own },
  });
  for (const port of ports) await answers("caddy", child, port);
  Object.assign(proxies, {
    caddyStrips: strips,
    caddyBare: bare,
    caddyKeeps: keeps,
    caddyFirst: first,
  });
}

// A request of which every header is the test's own, as no browser sends it.
function ask(port, method, path, headers = {}, body = undefined) {
  return new Promise((resolve, reject) => {
    const asked = httpRequest({ host: "127.0.0.1", port, method, path, headers }, (response) => {
      let text = "";
      response.on("data", (bytes) => {
        text += bytes;
      });
      response.on("end", () =>
        resolve({ status: response.statusCode, headers: response.headers, text }),
      );
    });
    asked.on("error", reject);
    asked.end(body);
  });
}

const WAYS = [
  ["nginx that takes the path off", "strips"],
  ["nginx that leaves the path on", "keeps"],
  ["nginx with the headers of a tutorial", "tutorial"],
  ["Caddy that takes the path off", "caddyStrips"],
  ["Caddy that takes the path off without its slash", "caddyBare"],
  ["Caddy that leaves the path on", "caddyKeeps"],
];

for (const [name, key] of WAYS) {
  test(`the dashboard is whole behind ${name}`, async () => {
    const origin = `http://127.0.0.1:${proxies[key]}`;
    const door = new RegExp(`beyond the gateway: ${origin}${BASE}$`);
    const page = await open(browser, origin + BASE, { allowed: [door] });
    await settled(page);
    // Events come through, and are not kept back.
    await page.getByText("Live", { exact: true }).waitFor();
    for (const part of ["miners", "work", "network", "blocks"]) await go(page, part);
    // Without the slash too.
    await page.goto(origin + BASE);
    await settled(page);
    await page.getByText("Live", { exact: true }).waitFor();
    for (const link of ["API", "Metrics"]) {
      const href = await page.getByRole("link", { name: link, exact: true }).getAttribute("href");
      const answer = await fetch(new URL(href, page.url()));
      assert.equal(answer.status, 200, `${link}: ${href}`);
    }
    await page.done();
  });

  test(`an admin signs in, saves and leaves behind ${name}`, async () => {
    const origin = `http://127.0.0.1:${proxies[key]}`;
    const page = await open(browser, origin + BASE, { path: "#/settings" });
    const cookies = () => page.context().cookies(`${origin}${BASE}/api/v1/session`);
    await page.getByLabel("Admin password").fill(PASSWORD);
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelector(".editor-input")?.value);
    const [cookie] = await cookies();
    // For nobody else at this address.
    assert.deepEqual([cookie.path, cookie.httpOnly, cookie.sameSite], [BASE, true, "Strict"]);
    assert.deepEqual(await page.context().cookies(`${origin}/other`), []);
    const editor = page.getByRole("textbox", { name: "gatewayd.toml" });
    await editor.press("Control+End");
    await page.keyboard.type(`# by ${key}\n`);
    await page.getByRole("button", { name: "Save and apply" }).click();
    await page.locator(".outcome").getByText("Saved.", { exact: false }).waitFor();
    await page.getByRole("button", { name: "Sign out" }).click();
    await page.getByLabel("Admin password").waitFor();
    assert.deepEqual(await cookies(), []);
    await page.done();
  });

  test(`the API is where its description says behind ${name}`, async () => {
    const origin = `http://127.0.0.1:${proxies[key]}`;
    const answer = await fetch(`${origin}${BASE}/api/v1/openapi.json`);
    const { servers, paths } = await answer.json();
    assert.deepEqual(servers, [{ url: BASE }]);
    assert.ok(paths["/api/v1/status"]);
    const url = `${origin}${servers[0].url}/api/v1/status`;
    assert.equal((await (await fetch(url)).json()).version.split(".").length, 3);
    // What changes anything still needs the token besides the cookie.
    const port = proxies[key];
    const json = { "content-type": "application/json" };
    const signed = await ask(
      port,
      "POST",
      `${BASE}/api/v1/session`,
      json,
      JSON.stringify({ password: PASSWORD }),
    );
    assert.equal(signed.status, 200, signed.text);
    const cookie = signed.headers["set-cookie"][0].split(";")[0];
    const token = JSON.parse(signed.text).csrf_token;
    const notify = (headers) => ask(port, "POST", `${BASE}/api/v1/notify`, headers);
    assert.equal((await notify({ cookie, "content-length": 0 })).status, 403);
    const again = await ask(port, "GET", `${BASE}/api/v1/session`, { cookie });
    assert.deepEqual(
      [JSON.parse(again.text).csrf_token, JSON.parse(again.text).signed_in],
      [null, false],
      "a cookie goes to every port of a host",
    );
    const done = await notify({ cookie, "x-csrf-token": token, "content-length": 0 });
    assert.equal(done.status, 200, done.text);
  });
}

test("who asks gatewayd itself needs no path, and may have one", async () => {
  const port = Number(api.split(":").at(-1));
  for (const path of ["/", "/healthz", "/metrics", "/api/v1/status", "/js/main.js"])
    for (const base of ["", BASE]) {
      const answer = await ask(port, "GET", base + path);
      assert.equal(answer.status, 200, base + path);
    }
  const door = await ask(port, "GET", `${BASE}?a=b`);
  assert.deepEqual([door.status, door.headers.location], [308, `${BASE}/?a=b`]);
  assert.equal((await ask(port, "GET", `${BASE}2/healthz`)).status, 404);
  const page = await open(browser, `http://${api}`, { path: "#/settings" });
  await page.getByLabel("Admin password").fill(PASSWORD);
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => document.querySelector(".editor-input")?.value);
  await page.done();
  // As Docker does.
  const args = ["--config", join(folder, "set-up", "gatewayd.toml"), "healthcheck"];
  const check = start("healthcheck", GATEWAYD, args);
  assert.equal(await once(check), 0, check.said);
});

test("behind a proxy the first settings are for the house alone", async () => {
  const json = { "content-type": "application/json" };
  const change = JSON.stringify({ changes: { "mining.address": ADDRESS } });
  for (const [name, port] of [
    ["nginx", proxies.nginxFirst],
    ["Caddy", proxies.caddyFirst],
  ]) {
    const host = `127.0.0.1:${port}`;
    const session = (headers) => ask(port, "GET", `${BASE}/api/v1/session`, headers);
    const isOpen = async (headers) => JSON.parse((await session(headers)).text).setup_open;
    assert.equal(await isOpen({ host }), true, name);
    // A name that somebody's DNS has pointed here, and a page of somebody else's.
    const foreign = await session({ host: "evil.example" });
    assert.equal(foreign.status, 403, name);
    assert.match(foreign.text, /foreign-host.*allowed_hosts/);
    assert.equal(await isOpen({ host, origin: "http://evil.example" }), false, name);
    for (const headers of [
      { host: "evil.example" },
      { host, origin: "http://evil.example" },
      { host, forwarded: "for=203.0.113.9" },
      // From home, but without the code in the log.
      { host },
      { host, authorization: "Bearer 0000-0000" },
    ]) {
      const put = await ask(port, "PUT", `${BASE}/api/v1/config`, { ...json, ...headers }, change);
      assert.ok(
        [401, 403].includes(put.status),
        `${name} ${JSON.stringify(headers)} ${put.status}`,
      );
    }
  }
  // Whom nginx names besides is somebody from outside; Caddy believes no stranger's word.
  const named = { host: "127.0.0.1", "x-forwarded-for": "203.0.113.9" };
  const session = await ask(proxies.nginxFirst, "GET", `${BASE}/api/v1/session`, named);
  assert.equal(JSON.parse(session.text).setup_open, false);
});
