// States that a demo does not reach: thousands of miners, a first start, a gateway that goes away,
// texts that try to be code. Against the mock.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { PHONE, faintTexts, go, launch, open, picture, settled } from "./support.mjs";
import { CODE, startMock } from "./mock.mjs";

const CUT = [/net::ERR/, /Failed to load resource/];
const ADDRESS = "bc1q7wz4t4m0cfyw7n3cvlvrm4l0a8q9pkg6eg4d2k";
let browser;

before(async () => {
  browser = await launch();
});
after(async () => {
  await browser?.close();
});

async function withMock(options, run) {
  const mock = await startMock(options);
  try {
    await run(mock);
  } finally {
    await mock.stop();
  }
}

test("4,000 miners: one page of rows, sorted and searched at once", () =>
  withMock({ miners: 4000 }, async ({ url }) => {
    const page = await open(browser, url, { path: "#/miners" });
    await settled(page);
    await page.getByText("4,000 miners").waitFor();
    assert.equal(await page.locator("tbody tr").count(), 50);
    const took = await page.evaluate(() => {
      const search = document.querySelector("input[type=search]");
      const look = (text) => () => {
        search.value = text;
        search.dispatchEvent(new Event("input"));
      };
      const sorts = [...document.querySelectorAll("thead button")].map((it) => () => it.click());
      const timed = (work) => {
        const start = performance.now();
        work();
        document.body.getBoundingClientRect(); // layout counts, too
        return performance.now() - start;
      };
      // The best of three: others may be using this machine.
      const best = (work) => Math.min(timed(work), timed(work), timed(work));
      return Math.max(...[...sorts, ...["s", "s2", "s21-39", ""].map(look)].map(best));
    });
    // Far less where nothing else runs; a busy machine took 166 ms.
    assert.ok(took < 500, `the slowest took ${took} ms`);
    await page.getByRole("button", { name: "Next" }).click();
    await page.getByText("51–100 of 4,000").waitFor();
    await picture(page, "miners-4000-1280-light");
    await page.done();
  }));

test("the page shows that a gateway goes away and comes back", () =>
  withMock({ miners: 3 }, async (mock) => {
    const page = await open(browser, mock.url, { allowed: CUT });
    await settled(page);
    await page.getByText("Live", { exact: true }).waitFor();
    const port = Number(new URL(mock.url).port);
    await mock.stop();
    await page.getByText("No connection to the gateway.").waitFor({ timeout: 15_000 });
    await page.getByText(/The figures shown are \d+ s old/).waitFor();
    assert.ok(
      (await page.locator(".hero-number").textContent()).length > 0,
      "the old figures stay",
    );
    assert.deepEqual(await faintTexts(page), []);
    await picture(page, "lost-1280-light");
    const again = await startMock({ port, miners: 3 });
    await page.getByText("Live", { exact: true }).waitFor({ timeout: 20_000 });
    assert.equal(await page.locator("#lost").isVisible(), false);
    await page.done();
    await again.stop();
  }));

test("a found block is announced on every page", () =>
  withMock({ miners: 3 }, async (mock) => {
    const page = await open(browser, mock.url, { path: "#/network" });
    await settled(page);
    await page.getByText("Live", { exact: true }).waitFor();
    mock.emit("block", {
      height: 924_512,
      hash: "00",
      fate: "pending",
      found_at_unix_s: 1,
      worker: "bc1qxyzxyzxyzxyz.garage",
      submissions: [],
    });
    await page.getByRole("link", { name: "Block 924,512 found by garage" }).click();
    await page.getByRole("heading", { name: "Blocks", exact: true }).waitFor();
    await page.done();
  }));

test("unsaved text in the settings is restored", () =>
  withMock({ miners: 1 }, async (mock) => {
    const page = await open(browser, mock.url, { path: "#/settings" });
    await page.getByLabel("Admin password").fill("correct horse");
    await page.keyboard.press("Enter");
    await page.waitForFunction(() => document.querySelector(".editor-input")?.value);
    const editor = page.getByRole("textbox", { name: "gatewayd.toml" });
    await editor.press("Control+End");
    await page.keyboard.type("# half a thought");
    await go(page, "miners");
    await go(page, "settings");
    await page.getByText("Not saved yet").waitFor();
    assert.match(await editor.inputValue(), /# half a thought$/);
    await page.getByRole("button", { name: "Undo all changes" }).click();
    assert.equal(await editor.inputValue(), mock.world.text);
    await page.done();
  }));

test("after a session has ended, signing in again continues where it was", () =>
  withMock({ miners: 1 }, async (mock) => {
    const page = await open(browser, mock.url, { path: "#/settings", allowed: [/status of 401/] });
    const password = page.getByLabel("Admin password");
    const editor = page.getByRole("textbox", { name: "gatewayd.toml" });
    const signIn = async () => {
      await password.fill("correct horse");
      await page.keyboard.press("Enter");
      await page.waitForFunction(() => document.querySelector(".editor-input")?.value);
    };
    await signIn();
    await editor.press("Control+End");
    await page.keyboard.type("# half a thought");
    mock.world.sessions.clear(); // as a restart does
    mock.world.requests.length = 0;
    await page.getByRole("button", { name: "Save and apply" }).click();
    await page.getByText("You have been signed out").waitFor();
    await page.getByText("Your changes are kept.").waitFor();
    await settled(page);
    const asked = mock.world.requests.filter((path) => path === "/api/v1/config");
    assert.equal(asked.length, 1, "it asks once");
    await picture(page, "signed-out-1280-light");
    await signIn();
    assert.match(await editor.inputValue(), /# half a thought$/);
    await page.getByRole("button", { name: "Save and apply" }).click();
    await page.locator(".outcome").getByText("Saved.", { exact: false }).waitFor();
    // Leaving then works all the same.
    mock.world.sessions.clear();
    await page.getByRole("button", { name: "Sign out" }).click();
    await password.waitFor();
    assert.equal(await page.getByText("You have been signed out").count(), 0);
    await page.done();
  }));

test("a reload and another tab stay signed in, a cookie alone does not", () =>
  withMock({ miners: 1 }, async (mock) => {
    const page = await open(browser, mock.url, { path: "#/settings" });
    await page.getByLabel("Admin password").fill("correct horse");
    await page.keyboard.press("Enter");
    const isIn = () => document.querySelector(".editor-input")?.value;
    await page.waitForFunction(isIn);
    await page.reload();
    await page.waitForFunction(isIn);
    const other = await page.context().newPage();
    await other.goto(`${mock.url}/#/settings`);
    await other.waitForFunction(isIn);
    await Promise.all([other.close(), page.goto("about:blank")]);
    // The cookie is still there; the token went with the tabs.
    const late = await page.context().newPage();
    await late.goto(`${mock.url}/#/settings`);
    await late.getByLabel("Admin password").waitFor();
    assert.equal((await late.context().cookies()).length, 1);
    await page.done();
  }));

test("without events the page polls instead", () =>
  withMock({ miners: 3 }, async ({ url }) => {
    const page = await open(browser, `${url}`, { allowed: CUT, path: "#/login" });
    await page.route("**/api/v1/events", (route) => route.abort());
    await page.reload();
    await go(page, "");
    await page.getByText("Every 3 s").waitFor();
    const asked = await page.waitForResponse((response) => response.url().endsWith("/status"), {
      timeout: 10_000,
    });
    assert.equal(asked.status(), 200);
    await page.done();
  }));

test("an error in one part leaves the others alone", () =>
  withMock({ miners: 3 }, async ({ url }) => {
    const page = await open(browser, url, { allowed: CUT, path: "#/login" });
    await page.route("**/api/v1/blocks", (route) =>
      route.fulfill({
        status: 500,
        contentType: "application/json",
        body: JSON.stringify({
          error: "broken",
          message: "The ledger cannot be read.",
          problems: [],
        }),
      }),
    );
    await page.reload();
    await page.evaluate(() => {
      location.hash = "#/blocks";
    });
    await page.getByText("The ledger cannot be read.").waitFor();
    await page.unroute("**/api/v1/blocks");
    await page.getByRole("button", { name: "Try again" }).click();
    await page.getByText("2 blocks found").waitFor();
    await page.done();
  }));

test("what miners and pools send stays text", () =>
  withMock({ miners: 2 }, async (mock) => {
    const evil =
      '<img src=x onerror="window.isOwned = true"><script>window.isOwned = true</script>';
    Object.assign(mock.world.miners[0], { user_agent: evil, workers: [`a.${evil}`], peer: evil });
    const page = await open(browser, mock.url);
    for (const part of ["", "miners", "workers", "network", "work"]) {
      await go(page, part);
      for (const toggle of await page.getByRole("button", { name: /^Details of/ }).all())
        await toggle.click();
      assert.equal(await page.locator("main img, main script").count(), 0);
    }
    await go(page, "miners");
    await page.getByText(evil).first().waitFor();
    assert.equal(await page.evaluate(() => window.isOwned), undefined);
    await page.done();
  }));

async function choosePassword(page) {
  await page.getByLabel("New admin password").fill("battery staple");
  await page.getByLabel("The same again").fill("battery staple");
}

async function enterCode(page) {
  await page.getByLabel("Set-up code").fill(CODE);
  await page.getByRole("button", { name: "Continue" }).click();
}

for (const state of ["setup", "open"]) {
  test(`the first start (${state}) asks for what is missing and saves it`, () =>
    withMock({ state }, async (mock) => {
      const page = await open(browser, mock.url, { size: PHONE, allowed: [/status of 422/] });
      await page.getByText("Welcome to gatewayd").waitFor();
      if (state === "setup") {
        await page.getByLabel("Admin password").fill("correct horse");
        await page.getByRole("button", { name: "Sign in" }).click();
      } else {
        await picture(page, "start-code-390-light");
        await enterCode(page);
      }
      const save = page.getByRole("button", { name: "Save and start" });
      await save.click();
      await page.getByText("Enter one of your addresses.").waitFor();
      await picture(page, `start-${state}-390-light`);
      await page.getByLabel("Your Bitcoin address").fill("nonsense");
      await page.getByText("Solo", { exact: true }).click();
      if (state === "open") await choosePassword(page);
      await save.click();
      await page.getByText("is not a Bitcoin address").waitFor();
      await page.getByLabel("Your Bitcoin address").fill(ADDRESS);
      await save.click();
      await page.getByRole("heading", { name: "Ready for miners" }).waitFor();
      assert.equal(mock.world.changes["mining.address"], ADDRESS);
      assert.equal(mock.world.changes.pool, null);
      await page.done();
    }));
}

test("the first start shows what the file says, and leaves it", () => {
  const node = { rpc_url: "http://10.0.0.5:8332", rpc_cookie_file: "~/.bitcoin/.cookie" };
  const login = { rpc_user: "me", rpc_password: "<secret>" };
  const values = { node: [{ ...node, ...login }], pool: [] };
  return withMock({ state: "open", values }, async (mock) => {
    const page = await open(browser, mock.url);
    await enterCode(page);
    for (const name of ["Solo", "User and password"])
      await page.getByRole("radio", { name, checked: true }).waitFor();
    assert.equal(await page.getByLabel("User", { exact: true }).inputValue(), "me");
    await page.getByText("Leave it empty to keep").waitFor();
    await page.getByLabel("Your Bitcoin address").fill(ADDRESS);
    await page.getByText("No password", { exact: true }).click();
    const save = page.getByRole("button", { name: "Save and start" });
    // Another node must not get it.
    await page.getByLabel(/RPC address/).fill("http://10.0.0.6:8332");
    await save.click();
    await page.getByText("the stored one is for a different node or user").waitFor();
    await picture(page, "start-stored-1280-light");
    await page.getByLabel(/RPC address/).fill(node.rpc_url);
    await save.click();
    await page.getByRole("heading", { name: "Ready for miners" }).waitFor();
    assert.deepEqual(mock.world.changes, { "mining.address": ADDRESS });
    await page.done();
  });
});

test("a node on another network is asked about as on the first start", () =>
  withMock({ state: "moved" }, async (mock) => {
    const page = await open(browser, mock.url, { size: PHONE });
    await page.getByRole("heading", { name: "Which network?" }).waitFor();
    await page.getByText('is on the network "signet"').waitFor();
    assert.equal(await page.getByText("Welcome to gatewayd").count(), 0);
    // Only an admin: it was set up before.
    assert.equal(await page.getByLabel("Your Bitcoin address").count(), 0);
    await page.getByLabel("Admin password").fill("correct horse");
    await page.getByRole("button", { name: "Sign in" }).click();
    const address = page.getByLabel("Your Bitcoin address");
    await address.waitFor();
    while (!mock.world.requests.includes("/api/v1/config")) await settled(page);
    await page.waitForFunction(() => document.querySelector("#address")?.value.startsWith("bc1q"));
    await picture(page, "start-moved-390-light");
    await address.fill("tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx");
    await page.getByRole("button", { name: "Save and start" }).click();
    await page.getByRole("heading", { name: "Which network?" }).waitFor({ state: "detached" });
    assert.deepEqual(mock.world.changes, {
      "mining.address": "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
    });
    await page.done();
  }));

test("shares that a pool never answered are shown where the gateway counts them", () =>
  withMock({ miners: 2 }, async (mock) => {
    const page = await open(browser, mock.url, { path: "#/network", allowed: CUT });
    await page.getByText("the pool never answered").waitFor();
    await page.route("**/api/v1/pool", async (route) => {
      const answer = await (await route.fetch()).json();
      delete answer.relay.unanswered;
      await route.fulfill({ json: answer });
    });
    await page.route("**/api/v1/events", (route) => route.abort());
    await page.reload();
    await settled(page);
    assert.doesNotMatch(await page.locator("main").textContent(), /undefined|NaN|never said/);
    await page.done();
  }));

test("what the environment sets is shown as set, and not asked for", () =>
  withMock({ state: "open" }, async (mock) => {
    mock.world.environment = ["node", "log.level"];
    const page = await open(browser, mock.url);
    await enterCode(page);
    await page.getByText("Set by the environment: GATEWAYD_NODE").first().waitFor();
    assert.equal(await page.getByLabel(/RPC address/).isDisabled(), true);
    assert.equal(await page.getByLabel("Your Bitcoin address").isDisabled(), false);
    await page.getByLabel("Your Bitcoin address").fill(ADDRESS);
    await choosePassword(page);
    assert.deepEqual(await faintTexts(page), []);
    await picture(page, "start-environment-1280-light");
    await page.getByRole("button", { name: "Save and start" }).click();
    await page.getByRole("heading", { name: "Ready for miners" }).waitFor();
    assert.deepEqual(mock.world.changes, { "mining.address": ADDRESS });
    await page.done();
  }));

test("a miner whose name no pool can pay is reported in the table and above it", () =>
  withMock({ miners: 2 }, async (mock) => {
    Object.assign(mock.world.miners[0], { unpayable_name: "garage", workers: [] });
    const page = await open(browser, mock.url, { path: "#/miners" });
    await settled(page);
    const row = page.locator("tbody tr", { hasText: "garage" });
    await row.getByText("no address: the pool can pay nobody").waitFor();
    await picture(page, "unpayable-1280-light");
    await page.done();
  }));

test("what nobody saw is not saved", () =>
  withMock({ state: "open" }, async (mock) => {
    const page = await open(browser, mock.url);
    await enterCode(page);
    const save = page.getByRole("button", { name: "Save and start" });
    await page.getByLabel("Your Bitcoin address").fill(ADDRESS);
    await choosePassword(page);
    while (!mock.world.requests.includes("/api/v1/config")) await settled(page);
    mock.world.values = { ...mock.world.values, pool: [] };
    await save.click();
    await page.getByText("Nothing was saved").waitFor();
    assert.equal(mock.world.changes, undefined);
    await save.click();
    await page.getByRole("heading", { name: "Ready for miners" }).waitFor();
    assert.deepEqual(mock.world.changes, { "mining.address": ADDRESS });
    await page.done();
  }));

test("without a password the page can be viewed, and says how to set one", () =>
  withMock({ state: "read-only", miners: 2 }, async ({ url }) => {
    const page = await open(browser, url, { path: "#/settings" });
    await page.getByText("no admin password is set").waitFor();
    await go(page, "start");
    await page.getByLabel("Your Bitcoin address").fill("bc1qmine");
    await page.getByText('address = "bc1qmine"').waitFor();
    await picture(page, "start-read-only-1280-light");
    await page.done();
  }));

for (const state of ["quiet", "solo", "waiting"]) {
  test(`a gateway that is ${state}`, () =>
    withMock({ state, miners: 3 }, async ({ url }) => {
      const page = await open(browser, url);
      const heading = { quiet: "Ready for miners", solo: "Mining solo", waiting: "Waiting" }[state];
      await page.getByRole("heading", { name: heading }).waitFor();
      for (const part of ["", "work", "network", "miners", "blocks"]) {
        await go(page, part);
        assert.doesNotMatch(
          await page.locator("main").textContent(),
          /undefined|NaN|null|\[object/,
        );
        await picture(page, `${state}-${part || "overview"}-1280-light`);
      }
      await page.done();
    }));
}
