// Programs of a test, and a folder for what they keep; all gone at its end.

import { spawn } from "node:child_process";
import { mkdtempSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";

const START_MS = 30_000;
export const folder = mkdtempSync(join(tmpdir(), "gatewayd-web-"));
const running = [];

export const once = (child) => new Promise((resolve) => child.once("exit", resolve));

// Starts a program; what it says is kept for when it fails.
export function start(name, program, args, options = {}) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  child.said = "";
  for (const stream of [child.stdout, child.stderr])
    stream.on("data", (bytes) => {
      child.said += bytes;
    });
  child.on("error", (error) => {
    child.said += `${name} cannot be started: ${error.message}`;
  });
  running.push(child);
  return child;
}

export async function until(what, child, look) {
  const end = Date.now() + START_MS;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (isGone(child) || Date.now() > end) throw new Error(`${what}: ${child.said}`);
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

// Starts a part of gatewayd; gives it, and where it listens.
export async function part(name, program, args, protocol) {
  const child = start(name, program, args, { env: { ...process.env, NO_COLOR: "1" } });
  const line = new RegExp(`listening protocol="?${protocol}"? addr=(\\S+)`);
  const addr = await until(`${name} does not listen`, child, () => line.exec(child.said)?.[1]);
  return { addr, child };
}

export async function freePort() {
  const server = createServer();
  await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address();
  await new Promise((resolve) => server.close(resolve));
  return port;
}

export async function stopAll() {
  // Asked, not killed: a part like nginx has processes of its own to end.
  for (const child of running) if (!isGone(child)) child.kill();
  await Promise.all(running.map((child) => isGone(child) || once(child)));
  rmSync(folder, { recursive: true, force: true });
}

const isGone = (child) => child.exitCode !== null || child.signalCode !== null || !child.pid;
