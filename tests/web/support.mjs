// A browser, and pages that remember what went wrong in them.

import assert from "node:assert/strict";
import { mkdirSync } from "node:fs";
import { createRequire } from "node:module";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

// .ci/browser installs playwright-core there, outside of the repository.
const cache = process.env.GATEWAYD_CI_CACHE ?? join(homedir(), ".cache/gatewayd-ci");
const { chromium } = createRequire(join(cache, "browser/"))("playwright-core");

const artifacts = resolve(
  process.env.GATEWAYD_CI_ARTIFACTS ?? fileURLToPath(new URL("../../artifacts", import.meta.url)),
  "web",
);

export const DESK = { width: 1280, height: 900 };
export const PHONE = { width: 390, height: 844 };

export async function launch() {
  const isRoot = process.getuid?.() === 0; // Chromium's sandbox refuses root
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: isRoot ? ["--no-sandbox"] : [],
  });
}

// A page of its own, with no cookies of others. `allowed`: what may be in the console.
export async function open(
  browser,
  url,
  { size = DESK, scheme = "light", path = "", allowed = [] } = {},
) {
  const isPhone = size === PHONE;
  const context = await browser.newContext({
    viewport: size,
    colorScheme: scheme,
    deviceScaleFactor: isPhone ? 2 : 1,
    isMobile: isPhone,
    hasTouch: isPhone,
    reducedMotion: "reduce",
  });
  const page = await context.newPage();
  const problems = [];
  const complain = (text) => {
    if (!allowed.some((pattern) => pattern.test(text))) problems.push(text);
  };
  page.on("console", (message) => {
    if (["error", "warning"].includes(message.type()))
      complain(`console: ${message.text()} (${message.location().url})`);
  });
  page.on("pageerror", (error) => complain(`error: ${error.stack}`));
  page.on("request", (request) => {
    if (!request.url().startsWith(`${url}/`))
      complain(`a request beyond the gateway: ${request.url()}`);
  });
  await page.goto(`${url}/${path}`);
  return Object.assign(page, {
    problems,
    async done() {
      await context.close();
      assert.deepEqual(problems, []);
    },
  });
}

// Shows one of the page's parts, and waits until its figures are there.
export async function go(page, part) {
  await page.evaluate((hash) => {
    location.hash = hash;
  }, `#/${part}`);
  await settled(page);
}

export async function settled(page) {
  await page.waitForSelector("main h1", { timeout: 5000 });
  await page.waitForFunction(
    () => !document.querySelector("main section[aria-busy='true']"),
    null,
    { timeout: 10_000 },
  );
  await page.evaluate(
    () => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done))),
  );
}

export async function picture(page, name) {
  mkdirSync(artifacts, { recursive: true });
  await page.screenshot({ path: join(artifacts, `${name}.png`), fullPage: true });
}

// Where text and its background are too alike (WCAG AA), in the page as it is shown now.
export async function faintTexts(page) {
  return page.evaluate(() => {
    const channel = (value) =>
      value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const parse = (text) => {
      const numbers = text.match(/[\d.]+/g).map(Number);
      const colour = text.startsWith("color(srgb")
        ? numbers.slice(0, 3)
        : numbers.slice(0, 3).map((value) => value / 255);
      return { colour, alpha: numbers[3] ?? 1 };
    };
    const luminance = (colour) => {
      const [r, g, b] = colour.map(channel);
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const over = (top, alpha, bottom) =>
      top.map((value, at) => value * alpha + bottom[at] * (1 - alpha));
    const groundOf = (element) => {
      const layers = [];
      for (let at = element; at; at = at.parentElement) {
        const { colour, alpha } = parse(getComputedStyle(at).backgroundColor);
        if (alpha > 0) layers.push([colour, alpha]);
        if (alpha === 1) break;
      }
      return layers
        .reverse()
        .reduce((ground, [colour, alpha]) => over(colour, alpha, ground), [1, 1, 1]);
    };
    const found = [];
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walker.nextNode()) {
      const element = walker.currentNode.parentElement;
      const text = walker.currentNode.data.trim();
      if (
        !text ||
        !element.checkVisibility({ checkVisibilityCSS: true }) ||
        element.closest(".offscreen, .skip, :disabled")
      )
        continue;
      const style = getComputedStyle(element);
      const ground = groundOf(element);
      const { colour, alpha } = parse(style.color);
      const [a, b] = [luminance(over(colour, alpha, ground)), luminance(ground)].sort(
        (one, two) => two - one,
      );
      const ratio = (a + 0.05) / (b + 0.05);
      const size = Number.parseFloat(style.fontSize);
      const isLarge = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      if (ratio < (isLarge ? 3 : 4.5))
        found.push(`${ratio.toFixed(2)}: "${text.slice(0, 40)}" ${element.className}`);
    }
    return found;
  });
}

// Controls that are silent to those who cannot see them, and duplicate ids.
export async function nameless(page) {
  return page.evaluate(() => {
    const nameOf = (element) =>
      element.getAttribute("aria-label") ||
      element.getAttribute("aria-labelledby") ||
      element.labels?.[0]?.textContent.trim() ||
      element.textContent.trim();
    const silent = [
      ...document.querySelectorAll(
        "a[href], button, input, select, textarea, summary, meter, [role=img], section, nav",
      ),
    ]
      .filter(
        (element) => element.checkVisibility() && element.getAttribute("aria-hidden") !== "true",
      )
      .filter(
        (element) =>
          !nameOf(element) || (element.tagName === "SELECT" && !element.getAttribute("aria-label")),
      )
      .map((element) => element.outerHTML.slice(0, 120));
    const ids = [...document.querySelectorAll("[id]")].map((element) => element.id);
    return silent.concat(
      ids.filter((id, at) => ids.indexOf(id) !== at).map((id) => `twice: #${id}`),
    );
  });
}
