// The dashboard of a running gateway: `gatewayd demo`, started by .ci/browser. Without
// GATEWAYD_URL, the mock's.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  DESK,
  PHONE,
  faintTexts,
  go,
  launch,
  nameless,
  open,
  picture,
  settled,
} from "./support.mjs";
import { startMock } from "./mock.mjs";

const PAGES = ["", "miners", "workers", "bans", "work", "network", "blocks", "settings", "login"];
const REFUSED = /status of 401/; // the browser's own line about a wrong password
let browser;
let url = process.env.GATEWAYD_URL?.replace(/\/$/, "");
let password = process.env.GATEWAYD_PASSWORD;
let mock;

before(async () => {
  browser = await launch();
  if (url) return;
  mock = await startMock({ miners: 6 });
  url = mock.url;
  password = "correct horse";
});

after(async () => {
  await browser?.close();
  await mock?.stop();
});

async function signIn(page) {
  await go(page, "login");
  await page.getByLabel("Admin password").fill(password);
  await page.getByRole("button", { name: "Sign in" }).click();
  await page.getByRole("textbox", { name: "gatewayd.toml" }).waitFor();
  await page.waitForFunction(() => document.querySelector(".editor-input").value.length > 0);
}

for (const [sizeName, size] of [
  ["1280", DESK],
  ["390", PHONE],
]) {
  for (const scheme of ["light", "dark"]) {
    test(`every page at ${sizeName} px, ${scheme}: fits, reads well, names its controls`, async () => {
      const page = await open(browser, url, { size, scheme });
      await settled(page);
      for (const part of PAGES) {
        await go(page, part);
        await page.waitForFunction(
          () => !document.querySelector("main").innerText.includes("Loading…"),
        );
        const name = part || "overview";
        await picture(page, `${name}-${sizeName}-${scheme}`);
        assert.equal(
          await page.evaluate(() => document.documentElement.scrollWidth <= innerWidth),
          true,
          `${name} is wider than the screen`,
        );
        assert.deepEqual(await faintTexts(page), [], `${name}: too little contrast`);
        assert.deepEqual(await nameless(page), [], `${name}: controls without a name`);
        assert.match(await page.title(), /gatewayd/);
        assert.equal(await page.locator("main h1").count(), 1, `${name}: one heading`);
      }
      await page.done();
    });
  }
}

test("no page is wider than the screen, however wide that is", async () => {
  const page = await open(browser, url);
  for (const part of PAGES) {
    await go(page, part);
    for (const width of [320, 600, 820, 1024, 1920]) {
      await page.setViewportSize({ width, height: 900 });
      const over = await page.evaluate(() => document.documentElement.scrollWidth - innerWidth);
      assert.ok(over <= 0, `${part || "overview"} at ${width} px is ${over} px too wide`);
    }
  }
  await page.done();
});

test("figures change without a reload", async () => {
  const page = await open(browser, url);
  await settled(page);
  await page.evaluate(() => {
    window.isSamePage = true;
  });
  await page.getByText("Live", { exact: true }).waitFor();
  const shares = page.locator(".figure", { hasText: "Shares" }).locator("dd").first();
  const first = Number((await shares.textContent()).replace(/\D/g, ""));
  await page.waitForFunction(
    (before) => {
      const figure = [...document.querySelectorAll(".figure")].find(
        (one) => one.firstChild.textContent === "Shares",
      );
      return Number(figure.children[1].textContent.replace(/\D/g, "")) > before;
    },
    first,
    { timeout: 30_000 },
  );
  assert.equal(await page.evaluate(() => window.isSamePage), true);
  await page.done();
});

test("miners are sorted and filtered", async () => {
  const page = await open(browser, url, { path: "#/miners" });
  await settled(page);
  const names = () => page.locator("tbody th .who").allTextContents();
  const all = await names();
  assert.ok(all.length >= 2, "the test needs two miners");
  const worker = page.getByRole("columnheader", { name: "Worker" });
  await worker.getByRole("button").click();
  assert.equal(await worker.getAttribute("aria-sort"), "ascending");
  const up = await names();
  await worker.getByRole("button").click();
  assert.equal(await worker.getAttribute("aria-sort"), "descending");
  const order = new Intl.Collator("en", { numeric: true, sensitivity: "base" });
  assert.deepEqual(up, [...up].sort(order.compare));
  await page.getByRole("searchbox").fill(all[0]);
  assert.ok((await names()).every((name) => name.includes(all[0])));
  await page.getByRole("searchbox").fill("nobody is called so");
  await page.getByText("Nothing matches").waitFor();
  await page.getByRole("searchbox").fill("");
  assert.equal((await names()).length, all.length);
  await page.getByRole("combobox", { name: "Protocol" }).selectOption({ index: 1 });
  assert.ok((await names()).length >= 1);
  await page.done();
});

test("a miner's details open, stay open, and have no button for strangers", async () => {
  const page = await open(browser, url, { path: "#/miners" });
  await settled(page);
  // Rows change their order: this one, wherever it moves.
  const toggle = await page
    .getByRole("button", { name: /^Details of/ })
    .first()
    .elementHandle();
  await toggle.click();
  assert.equal(await toggle.getAttribute("aria-expanded"), "true");
  await page.getByText("Rejected for").waitFor();
  assert.equal(await page.getByRole("button", { name: "Disconnect" }).count(), 0);
  await page.waitForResponse((response) => response.url().includes("/miners"));
  assert.equal(await toggle.getAttribute("aria-expanded"), "true");
  await page.done();
});

test("a worker's details have its own day", async () => {
  const page = await open(browser, url, { path: "#/workers" });
  await settled(page);
  await page
    .getByRole("button", { name: /^Details of/ })
    .first()
    .click();
  await page.getByText("The last 24 hours", { exact: true }).waitFor();
  await picture(page, "worker-1280-light");
  await page.done();
});

test("a wrong password is refused, the right one lets in and out", async () => {
  const page = await open(browser, url, { path: "#/settings", allowed: [REFUSED] });
  const field = page.getByLabel("Admin password");
  await field.fill("not the password");
  await page.keyboard.press("Enter");
  await page.getByRole("alert").getByText("Wrong password.").waitFor();
  assert.equal(await page.locator(".editor").count(), 0);
  await picture(page, "wrong-password-1280-light");
  await signIn(page);
  await picture(page, "settings-signed-in-1280-light");
  await page.getByRole("button", { name: "Sign out" }).click();
  await field.waitFor();
  await page.done();
});

test("settings are checked, refused, saved; comments stay", async () => {
  const page = await open(browser, url, { allowed: [/status of 422/] });
  await settled(page);
  await signIn(page);
  const editor = page.getByRole("textbox", { name: "gatewayd.toml" });
  const before = await editor.inputValue();
  const note = `# looked at by a test, ${"x".repeat(3)}`;

  await editor.fill(
    `${before}\n[stratum]\nvardif = 1\n`.replace(
      "[stratum]\nvardif",
      before.includes("[stratum]") ? "vardif" : "[stratum]\nvardif",
    ),
  );
  await page.getByRole("button", { name: "Check" }).click();
  const alert = page.locator(".box[role=alert]");
  await alert.waitFor();
  assert.match(await alert.textContent(), /vardif/);
  await page.getByRole("button", { name: /^Line \d+/ }).click();
  assert.match(
    await editor.evaluate((it) => it.value.slice(it.selectionStart, it.selectionEnd)),
    /vardif/,
  );
  await picture(page, "settings-refused-1280-light");

  await editor.fill(`${note}\n${before}`);
  await page.getByRole("button", { name: "Check" }).click();
  await page.getByText("No errors.", { exact: false }).first().waitFor();
  await page.getByRole("button", { name: "Save and apply" }).click();
  await page.locator(".outcome").getByText("Saved.", { exact: false }).waitFor();
  await page.reload();
  await page.waitForFunction(
    (text) => document.querySelector(".editor-input")?.value.startsWith(text),
    note,
  );
  await editor.fill(before);
  await page.getByRole("button", { name: "Save and apply" }).click();
  await page.locator(".outcome").getByText("Saved.", { exact: false }).waitFor();
  await page.done();
});

test("an admin disconnects a miner", async () => {
  const page = await open(browser, url);
  await settled(page);
  await signIn(page);
  await go(page, "miners");
  await page
    .getByRole("button", { name: /^Details of/ })
    .first()
    .click();
  await page.getByRole("button", { name: "Disconnect" }).first().click();
  await page.getByRole("dialog").getByRole("button", { name: "Cancel" }).click();
  await page.getByRole("button", { name: "Disconnect" }).first().click();
  const answered = page.waitForResponse((response) => response.url().endsWith("/disconnect"));
  await page.getByRole("dialog").getByRole("button", { name: "Disconnect" }).click();
  assert.equal((await answered).status(), 200);
  await page.locator(".outcome .box-title").waitFor();
  await page.done();
});

test("the keyboard reaches everything, and says where it is", async () => {
  const page = await open(browser, url);
  await settled(page);
  const focused = () =>
    page.evaluate(
      () =>
        document.activeElement.textContent.trim() ||
        document.activeElement.getAttribute("aria-label"),
    );
  await page.keyboard.press("Tab");
  assert.equal(await focused(), "Skip to the page");
  const met = [];
  for (let at = 0; at < 12; at += 1) {
    await page.keyboard.press("Tab");
    met.push(await focused());
    const ring = await page.evaluate(() => getComputedStyle(document.activeElement).outlineStyle);
    assert.notEqual(ring, "none", `no ring on ${met.at(-1)}`);
  }
  for (const name of ["Overview", "Miners", "Work", "Pool & node", "Blocks", "Settings", "1 h"])
    assert.ok(met.includes(name), `${name} among ${met}`);
  await page.getByRole("link", { name: "Miners" }).focus();
  await page.keyboard.press("Enter");
  await settled(page);
  assert.equal(await focused(), "Miners");
  assert.equal(await page.evaluate(() => document.activeElement.tagName), "H1");
  await page.getByRole("columnheader", { name: "Accepted" }).getByRole("button").focus();
  await page.keyboard.press("Space");
  assert.equal(
    await page.getByRole("columnheader", { name: "Accepted" }).getAttribute("aria-sort"),
    "descending",
  );
  await page.done();
});

test("the chosen colours outlive a reload", async () => {
  const page = await open(browser, url, { scheme: "dark" });
  await settled(page);
  const theme = () => page.evaluate(() => document.documentElement.dataset.theme);
  assert.equal(await theme(), "dark");
  await page.getByRole("button", { name: /^Colours/ }).click();
  assert.equal(await theme(), "light");
  await page.reload();
  await settled(page);
  assert.equal(await theme(), "light");
  await page.done();
});

// Last, since a gateway's first minute must be over before the line is drawn.
test("the chart has a line for each of its periods", async () => {
  const page = await open(browser, url);
  await settled(page);
  const chart = page.getByRole("img", { name: /Hashrate over/ });
  await chart.waitFor({ timeout: 100_000 });
  assert.ok(await hasInk(page), "the chart is empty");
  // A demo has no hours to show: then the page says so.
  const none = page.getByText("Nothing recorded yet for this time.");
  for (const [button, said] of [
    ["24 h", /over 1 d/],
    ["7 d", /over 7 d/],
    ["1 h", /over 1 h/],
  ]) {
    await page.getByRole("button", { name: button, exact: true }).click();
    await page.getByRole("img", { name: said }).or(none).filter({ visible: true }).waitFor();
  }
  await page.done();
});

// Whether the chart's canvas has the line's colour anywhere.
function hasInk(page) {
  return page.evaluate(() => {
    const canvas = document.querySelector(".chart canvas");
    const probe = document.createElement("canvas").getContext("2d");
    probe.fillStyle = getComputedStyle(document.documentElement)
      .getPropertyValue("--line-1")
      .trim();
    probe.fillRect(0, 0, 1, 1);
    const [r, g, b] = probe.getImageData(0, 0, 1, 1).data;
    const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
    for (let at = 0; at < data.length; at += 4) {
      if (
        data[at + 3] === 255 &&
        Math.abs(data[at] - r) + Math.abs(data[at + 1] - g) + Math.abs(data[at + 2] - b) < 12
      )
        return true;
    }
    return false;
  });
}
