// Keeps what the page shows up to date: by server-sent events while they arrive, otherwise by polling.
// Knows each thing's newest value, how old that is, and what has gone wrong since.

import { BASE, get } from "./api.js";

// name -> { name, path, every, value, at, askedAt, error, isBusy, isOfOther }; times as `now()`.
const things = new Map();
const listeners = new Set();
const blockListeners = new Set();
const line = { isLost: false, heardAt: null, eventAt: null };
let wanted = [];
let source = null;
let isTelling = false;

export const now = () => performance.now() / 1000;

// What the current page needs: name -> [path, seconds between polls of what no event reports].
// Requests whatever is not fresh.
export function want(paths) {
  wanted = Object.entries({ status: ["/status", STATUS_S], ...paths }).map(
    ([name, [path, every]]) => {
      let thing = things.get(name);
      if (thing?.path !== path) {
        // Another range of the same chart: the old lines stay until the new ones arrive.
        const value = thing?.value ?? null;
        thing = {
          name,
          path,
          value,
          isOfOther: value !== null,
          at: null,
          askedAt: null,
          error: null,
          isBusy: false,
        };
        things.set(name, thing);
      }
      thing.every = every;
      return thing;
    },
  );
  for (const thing of wanted) {
    if (thing.at === null || now() - thing.at > FRESH_S) refresh(thing.name);
  }
}

export function look(name) {
  const thing = things.get(name);
  if (!thing) return { value: null, age: null, error: null, isOfOther: false };
  const age = thing.at === null ? null : now() - thing.at;
  return { value: thing.value, age, error: thing.error, isOfOther: thing.isOfOther };
}

export function onChange(listener) {
  listeners.add(listener);
}

export function onBlock(listener) {
  blockListeners.add(listener);
}

// "connecting", "live" (events arrive), "polling" (only answers do) or "lost"; and for how many
// seconds nothing has arrived.
export function lineState() {
  const silence = line.heardAt === null ? null : now() - line.heardAt;
  if (line.isLost) return { state: "lost", silence };
  if (line.heardAt === null) return { state: "connecting", silence };
  return { state: hasEvents() ? "live" : "polling", silence };
}

export async function refresh(name) {
  const thing = things.get(name);
  if (!thing || thing.isBusy) return;
  thing.isBusy = true;
  thing.askedAt = now();
  try {
    const value = await get(thing.path);
    if (things.get(name) === thing) accept(thing, value);
  } catch (error) {
    thing.error = error;
    if (error.status === 0) line.isLost = true;
    tell();
  }
  thing.isBusy = false;
}

function accept(thing, value) {
  Object.assign(thing, { value, at: now(), error: null, isOfOther: false });
  heard();
}

function heard() {
  line.heardAt = now();
  line.isLost = false;
  tell();
}

// Many changes are drawn at once.
function tell() {
  if (isTelling) return;
  isTelling = true;
  requestAnimationFrame(() => {
    isTelling = false;
    for (const listener of listeners) listener();
  });
}

function listen() {
  source = new EventSource(`${BASE}/events`);
  source.onerror = () => refresh("status"); // have only the events stopped, or the gateway?
  for (const name of ["status", "pool", "nodes"]) {
    on(name, (value) => {
      const thing = things.get(name);
      if (thing) accept(thing, value);
    });
  }
  on("warnings", ({ warnings }) => {
    const status = things.get("status");
    if (status?.value) accept(status, { ...status.value, warnings });
  });
  on("template", () => expire("work"));
  on("block", (block) => {
    expire("blocks");
    for (const listener of blockListeners) listener(block);
  });
}

function on(name, take) {
  source.addEventListener(name, (event) => {
    line.eventAt = now();
    try {
      take(JSON.parse(event.data));
    } catch {
      refresh(name); // an answer may be readable where an event is not
    }
    heard();
  });
}

// It has changed: ask again, now or when it is next shown.
function expire(name) {
  const thing = things.get(name);
  if (!thing) return;
  thing.at = null;
  if (wanted.includes(thing)) refresh(name);
}

function hasEvents() {
  return (
    source?.readyState === EventSource.OPEN &&
    line.eventAt !== null &&
    now() - line.eventAt < EVENT_GAP_S
  );
}

// The safety net for missed events, and the clock for all ages on the page.
function tick() {
  tell();
  if (document.hidden) return;
  for (const thing of wanted) {
    const isTold = hasEvents() && TOLD.includes(thing.name);
    const isDue =
      thing.askedAt === null ||
      now() - thing.askedAt >= (thing.at === null ? RETRY_S : thing.every);
    if (isDue && !isTold) refresh(thing.name);
  }
  // A browser gives up on events after an error; the gateway may be back by now.
  if (source.readyState === EventSource.CLOSED && !line.isLost) listen();
}

export function start() {
  listen();
  setInterval(tick, 1000);
  // A browser allows few long-lived connections to one host: a hidden page gives its own up.
  document.addEventListener("visibilitychange", () => {
    source.close();
    if (document.hidden) return;
    listen();
    tick();
  });
}

const TOLD = ["status", "pool", "nodes"];
const STATUS_S = 3;
// A page that is opened again within this time shows what it has.
const FRESH_S = 2;
const RETRY_S = 3;
// Status comes every 2 s.
const EVENT_GAP_S = 7;
