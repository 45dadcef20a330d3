// A gateway that is not one: serves web/ and answers the API with made-up figures, for the states
// that a demo does not reach (thousands of miners, a first start, a pool that is away).
//
//   node tests/web/mock.mjs [--port 7199] [--miners 40] [--state pooled|solo|setup|open|moved|waiting|read-only|quiet]
//
// The password is "correct horse". Answers have the shapes of src/api/shapes.

import { createServer } from "node:http";
import { readFile } from "node:fs/promises";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";

const WEB = fileURLToPath(new URL("../../web", import.meta.url));
const TYPES = {
  ".html": "text/html",
  ".css": "text/css",
  ".js": "text/javascript",
  ".svg": "image/svg+xml",
  ".json": "application/json",
};
const CSP =
  "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'; object-src 'none'";
const STEPS = { "1h": [3600, 60], "24h": [86_400, 600], "7d": [604_800, 3600] };
const OWN = "bc1q7wz4t4m0cfyw7n3cvlvrm4l0a8q9pkg6eg4d2k";
const now = () => Date.now() / 1000;

// Figures that are random and the same at every start.
function dice(seed) {
  let state = seed;
  return () => {
    state = (state * 1_103_515_245 + 12_345) % 2_147_483_648;
    return state / 2_147_483_648;
  };
}

const MODELS = [
  ["bitaxe/BM1370/v2.9.1", "sv1", "respectable", 1.15e12, 16_384, "bitaxe"],
  ["bitaxe/BM1366/v2.9.1", "sv2-standard", "respectable", 0.48e12, 16_384, "ultra"],
  ["Antminer S21/Mon Dec 9 12:00:00 CST 2024", "sv1", "s21", 212e12, 262_144, "s21"],
  ["whatsminer/v1.1", "sv1", "respectable", 118e12, 131_072, "m50"],
  ["bosminer-plus-tuner/0.9", "sv2-extended", "huge", 96e12, 131_072, "s19"],
  ["NerdMinerV2", "sv1+tls", "tiny", 0.8e12, 16_384, "nerd"],
];

function makeMiners(total) {
  const roll = dice(7);
  return Array.from({ length: total }, (_, at) => {
    const [agent, protocol, kind, rate, difficulty, name] =
      MODELS[Math.floor(roll() * MODELS.length)];
    const accepted = Math.floor(roll() * 20_000);
    const rejected =
      roll() < 0.4 ? Math.floor(roll() * accepted * (roll() < 0.2 ? 0.05 : 0.004)) : 0;
    const stale = Math.ceil(rejected * 0.7);
    const reasons = rejected ? { "stale-prevblk": stale, "high-hash": rejected - stale } : {};
    return {
      id: at + 1,
      peer: `192.168.${1 + (at >> 8)}.${at & 255}:${40_000 + at}`,
      protocol,
      user_agent: agent,
      workers: [`${OWN}.${name}-${String(at + 1).padStart(2, "0")}`],
      class: kind,
      difficulty,
      hashrate_h_per_s: rate * (0.85 + roll() * 0.3),
      accepted,
      accepted_difficulty: accepted * difficulty,
      rejected,
      rejected_by_reason: reasons,
      best_share_difficulty: difficulty * Math.exp(roll() * 9),
      last_share_age_s: roll() * 14,
      connected_at_unix_s: Math.floor(now() - 90_000 * roll()),
      connected_s: 90_000 * roll(),
      blocks: 0,
    };
  });
}

function makeOutputs(total, count) {
  const roll = dice(count + 3);
  const letters = "qpzry9x8gf2tvdw0s3jn54khce6mua7l";
  const address = () =>
    `bc1q${Array.from({ length: 38 }, () => letters[Math.floor(roll() * 32)]).join("")}`;
  const outputs = [];
  let rest = total;
  for (let at = 0; at < count; at += 1) {
    const value = Math.floor(rest * (0.06 + roll() * 0.09));
    rest -= value;
    const isYours = at === Math.floor(count / 2);
    outputs.push({
      kind: isYours ? "yours" : "split",
      value_sats: value,
      address: isYours ? OWN : address(),
      script_hex: "0014".padEnd(44, "ab"),
    });
  }
  outputs.push({
    kind: "pool",
    value_sats: rest,
    address: address(),
    script_hex: "0014".padEnd(44, "cd"),
  });
  outputs.push({
    kind: "commitment",
    value_sats: 0,
    address: null,
    script_hex: "6a24aa21a9ed".padEnd(76, "e"),
  });
  return outputs;
}

const TOML = `# gatewayd's settings
[[node]]
rpc_url = "http://127.0.0.1:8332"   # the node in the cellar
rpc_user = "me"
rpc_password = "<secret>"

[mining]
address = "${OWN}"
coinbase_tag_secondary = "my # garage"

[stratum]
difficulty_min = 16384
`;

// What an example file says, before an address is in it.
const VALUES = {
  node: [{ rpc_url: "http://127.0.0.1:8332", rpc_cookie_file: "~/.bitcoin/.cookie" }],
  pool: [
    {
      host: "datum-beta1.mine.ocean.xyz",
      port: 28_915,
      public_key:
        "f21f2f0ef0aa1970468f22bad9bb7f4535146f8e4a8f646bebc93da3d89b1406f40d032f09a417d94dc068055df654937922d2c89522e3e8f6f0e649de473003",
    },
  ],
};

export async function startMock({
  port = 0,
  miners = 40,
  state = "pooled",
  text = TOML,
  values = VALUES,
} = {}) {
  const world = {
    state,
    bans: makeBans(),
    miners: makeMiners(state === "quiet" || isUnset({ state }) ? 0 : miners),
    started: now() - 93_784,
    height: 924_511,
    tipAt: now() - 412,
    sessions: new Set(),
    text,
    values,
    revision: 1,
    streams: new Set(),
    tries: 0,
    requests: [],
  };
  const server = createServer((request, response) =>
    answer(world, request, response).catch((error) => {
      response.writeHead(500).end(String(error.stack));
    }),
  );
  const timer = setInterval(() => {
    for (const stream of world.streams) send(stream, "status", statusOf(world));
  }, 2000);
  await new Promise((resolve) => server.listen(port, "127.0.0.1", resolve));
  return {
    world,
    emit: (name, value) => world.streams.forEach((stream) => send(stream, name, value)),
    url: `http://127.0.0.1:${server.address().port}`,
    stop: () => {
      clearInterval(timer);
      server.closeAllConnections();
      return new Promise((resolve) => server.close(resolve));
    },
  };
}

async function answer(world, request, response) {
  const url = new URL(request.url, "http://mock");
  world.requests.push(url.pathname);
  if (!url.pathname.startsWith("/api/")) return file(url.pathname, response);
  const path = url.pathname.replace("/api/v1", "");
  if (path === "/events") return events(world, request, response);
  const body = request.method === "GET" ? null : await bodyOf(request);
  const [status, json, headers = {}] = route(world, request, path, url.searchParams, body);
  response.writeHead(status, {
    "content-type": "application/json",
    "content-security-policy": CSP,
    ...headers,
  });
  response.end(JSON.stringify(json));
}

async function file(path, response) {
  const name = normalize(path === "/" ? "/index.html" : path);
  try {
    const bytes = await readFile(join(WEB, name));
    response.writeHead(200, {
      "content-type": TYPES[extname(name)] ?? "text/plain",
      "content-security-policy": CSP,
      "x-content-type-options": "nosniff",
    });
    response.end(bytes);
  } catch {
    response.writeHead(404).end("not found");
  }
}

async function bodyOf(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return parts.length ? JSON.parse(Buffer.concat(parts).toString()) : {};
}

function events(world, request, response) {
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  world.streams.add(response);
  request.on("close", () => world.streams.delete(response));
  send(response, "status", statusOf(world));
  send(response, "pool", poolOf(world));
}

const send = (stream, name, value) =>
  stream.write(`event: ${name}\ndata: ${JSON.stringify(value)}\n\n`);
const failure = (status, error, message, problems = []) => [status, { error, message, problems }];

function route(world, request, path, query, body) {
  const token = /gatewayd_session=(\w+)/.exec(request.headers.cookie ?? "")?.[1];
  // The cookie alone is worth nothing: the token comes with the answer to a sign-in, and only there.
  const isSignedIn = world.sessions.has(token) && request.headers["x-csrf-token"] === "csrf";
  const isEnabled = world.state !== "read-only" && world.state !== "open";
  const isOpen = world.state === "open"; // the first settings take the code from the log
  const session = (signedIn, isNew = false) => ({
    admin_enabled: isEnabled,
    signed_in: signedIn && !isOpen,
    setup_open: isOpen,
    may_set_up: signedIn && isOpen,
    csrf_token: isNew ? "csrf" : null,
    expires_in_s: signedIn ? 86_400 : null,
  });
  if (path === "/session") {
    if (request.method === "GET") return [200, session(isSignedIn)];
    if (request.method === "DELETE") {
      world.sessions.delete(token);
      return [200, session(false)];
    }
    if (body.password !== (isOpen ? CODE : (world.password ?? "correct horse"))) {
      world.tries += 1;
      return world.tries > 5
        ? failure(
            429,
            "too-many-attempts",
            "Too many wrong passwords from your address: try again in 41 s.",
          )
        : failure(401, "unauthorized", "That is not the admin password.");
    }
    const fresh = `s${world.sessions.size}x${world.started | 0}`;
    world.sessions.add(fresh);
    return [
      200,
      session(true, true),
      { "set-cookie": `gatewayd_session=${fresh}; HttpOnly; SameSite=Strict; Path=/` },
    ];
  }
  if (request.method !== "GET" || path === "/config") {
    if (!isEnabled && !(isOpen && path === "/config"))
      return failure(
        403,
        "read-only",
        "Nothing can be changed here: api.admin_password_file is not set in gatewayd.toml.",
      );
    if (!isSignedIn)
      return failure(401, "unauthorized", "This needs the admin password: sign in first.");
  }
  return (
    admin(world, request.method, path, body) ??
    read(world, path, query) ??
    failure(404, "not-found", "There is no such thing here.")
  );
}

function admin(world, method, path, body) {
  if (path === "/config" && method === "GET") {
    return [
      200,
      {
        path: "/etc/gatewayd/gatewayd.toml",
        text: world.text,
        values: {
          mining: { address: isUnset(world) && world.state !== "moved" ? "" : OWN },
          ...world.values,
        },
        revision: String(world.revision),
        writable: true,
        problems: [],
        needs_restart: [],
        from_environment: world.environment ?? ["log.level"],
      },
    ];
  }
  if (path === "/config") return change(world, body);
  if (path === "/reload") return [200, { applied: [], needs_restart: [], revision: null }];
  if (path === "/notify") return [200, { done: true, message: "The nodes are being asked." }];
  const lifted = /^\/bans\/(.+)$/.exec(path);
  if (lifted && method === "DELETE") {
    const address = decodeURIComponent(lifted[1]);
    const before = world.bans.length;
    world.bans = world.bans.filter((ban) => ban.address !== address);
    return before === world.bans.length
      ? failure(404, "not-found", `${address} is not banned: it may have ended.`)
      : [200, { done: true, message: `${address} may connect again.` }];
  }
  const found = /^\/miners\/(\d+)\/disconnect$/.exec(path);
  if (!found || method !== "POST") return null;
  const before = world.miners.length;
  world.miners = world.miners.filter((miner) => miner.id !== Number(found[1]));
  return before === world.miners.length
    ? failure(404, "not-found", `There is no miner ${found[1]}: it may have gone.`)
    : [200, { done: true, message: `Miner ${found[1]} is being disconnected.` }];
}

function change(world, { admin_password: password, ...rest }) {
  const answer = changeFile(world, rest);
  if (password && answer[0] === 200) world.password = password;
  return answer;
}

function changeFile(world, { text, changes, revision, check_only: isCheck, try_changes: tries }) {
  if (String(revision) !== String(world.revision))
    return failure(409, "conflict", "The file was changed meanwhile.");
  const problems = [];
  (text ?? "").split("\n").forEach((line, at) => {
    if (/^\s*vardif/.test(line))
      problems.push(
        `line ${at + 1}: unknown key "vardif" in [stratum]: expected difficulty_min or shares_per_minute`,
      );
    if (/^address = "bc1x/.test(line))
      problems.push(
        `line ${at + 1}: mining.address "bc1x" is not a Bitcoin address: enter one of the node's network`,
      );
  });
  if (changes && !/^(bc1|tb1|bcrt1)/.test(changes["mining.address"] ?? "bc1"))
    problems.push(
      `mining.address ${JSON.stringify(changes["mining.address"])} is not a Bitcoin address`,
    );
  if (problems.length)
    return failure(
      422,
      "bad-settings",
      "These settings cannot be used; nothing was changed.",
      problems,
    );
  // What a try of the change finds: set by tests.
  if (tries && world.fails?.length)
    return failure(
      422,
      "try-failed",
      "This was tried and does not work. Nothing was changed.",
      world.fails,
    );
  const isListen = /listen/.test(text ?? "");
  if (!isCheck) {
    world.text = text ?? world.text;
    world.revision += 1;
    world.changes = changes;
    if (isUnset(world)) world.state = "pooled";
  }
  return [
    200,
    {
      applied: changes ? Object.keys(changes) : ["stratum.difficulty_min"],
      needs_restart: isListen ? ["api.listen"] : [],
      revision: isCheck ? null : String(world.revision),
      tried: [],
    },
  ];
}

function read(world, path, query) {
  if (path === "/status") return [200, statusOf(world)];
  if (path === "/miners") {
    for (const miner of world.miners) miner.hashrate_h_per_s *= 0.99 + Math.random() * 0.02;
    return [200, { total: world.miners.length, miners: world.miners, next_after: null }];
  }
  if (path === "/workers") return [200, workersOf(world)];
  if (path === "/bans") return [200, bansOf(world)];
  if (path === "/rejects") return [200, rejectsOf(world)];
  if (path === "/history") return [200, historyOf(world, query)];
  if (path === "/work") return [200, workOf(world)];
  if (path === "/pool") return [200, poolOf(world)];
  if (path === "/nodes") return [200, nodesOf(world)];
  if (path === "/blocks") return [200, blocksOf(world)];
  return null;
}

// "moved": set up, and then the node went over to another network.
export const CODE = "7KQ2-M9XA";
const isUnset = ({ state }) => ["setup", "open", "moved"].includes(state);
const isIdle = (world) => isUnset(world) || world.state === "waiting";
const rateOf = (world) => world.miners.reduce((sum, miner) => sum + miner.hashrate_h_per_s, 0);

function statusOf(world) {
  const rate = rateOf(world) * (0.97 + Math.random() * 0.06);
  const count = (protocol) => world.miners.filter((miner) => miner.protocol === protocol).length;
  const isSetup = isUnset(world);
  world.accepted = (world.accepted ?? 128_412) + 3;
  return {
    version: "0.1.0",
    started_at_unix_s: Math.floor(world.started),
    uptime_s: Math.floor(now() - world.started),
    mode: isIdle(world) ? "waiting" : world.state === "solo" ? "solo" : "pooled",
    setup_needed: isSetup,
    setup_unfinished: world.unfinished ?? ["setup", "open"].includes(world.state),
    network: isSetup ? null : "bitcoin",
    tip_height: isSetup ? null : world.height,
    tip_hash: isSetup ? null : "00000000000000000000b5e5c4a2f0f0e6f9e7d5f5f2b1a0c1e2d3f4a5b6c7d8",
    tip_age_s: isSetup ? null : now() - world.tipAt,
    template_age_s: isSetup ? null : 21.4,
    network_difficulty: isSetup ? null : 152_271_285_773_459,
    hashrate_1m_h_per_s: rate * 1.02,
    hashrate_5m_h_per_s: rate,
    hashrate_1h_h_per_s: rate * 0.98,
    connections: world.miners.length,
    miners: world.miners.length,
    miners_by_protocol: ["sv1", "sv1+tls", "sv2-standard", "sv2-extended"].map((protocol) => ({
      protocol,
      miners: count(protocol),
    })),
    ever_since_at_unix_s: Math.floor(now() - 6e6),
    shares_ever: {
      accepted: world.miners.length ? world.accepted * 7 : 0,
      accepted_difficulty: 8.9e10,
      rejected: world.miners.length ? 2315 : 0,
      rejected_by_reason: {},
    },
    shares: world.miners.length
      ? {
          accepted: world.accepted,
          accepted_difficulty: 8.9e9,
          rejected: 315,
          rejected_by_reason: { "high-hash": 103, "stale-prevblk": 211, duplicate: 1 },
        }
      : { accepted: 0, accepted_difficulty: 0, rejected: 0, rejected_by_reason: {} },
    best_share: world.miners.length
      ? {
          difficulty: 4_812_345_678.12,
          worker: `${OWN}.s21-03`,
          at_unix_s: Math.floor(now() - 800_000),
        }
      : null,
    best_share_session: null,
    blocks_found: world.miners.length ? 2 : 0,
    blocks_found_session: world.miners.length ? 1 : 0,
    blocks_accepted_session: world.miners.length ? 1 : 0,
    stratum: {
      listen: ["0.0.0.0:23334", "[::]:23334"],
      addresses: ["192.168.1.10", "10.8.0.2"],
      ports: [
        {
          listen: ["0.0.0.0:23335"],
          difficulty_min: 524_288,
          difficulty_start: null,
          difficulty_max: null,
          max_coinbase_bytes: null,
        },
      ],
      sv2_authority_key: "9auqWEzQDVyd2oe1JVGFLMLHZtCo2FFqZwtKA5gd9xbuEu7PH72",
      tls: { own_authority: true, names: ["localhost", "farm", "farm.local", "192.168.1.20"] },
    },
    warnings: warningsOf(world),
  };
}

function warningsOf(world) {
  if (world.state === "moved")
    return [
      {
        code: "wrong-network",
        severity: "error",
        text: `Nothing can be mined: node 127.0.0.1:8332 is on the network "signet", and mining.address ${OWN} is of another.`,
        advice:
          'Set mining.address to one of "signet" on the settings page, or in gatewayd.toml, or start the node on the network of the address: mining goes on then without a restart.',
      },
    ];
  if (isUnset(world))
    return [
      {
        code: "setup-needed",
        severity: "error",
        text: "No payout address is set yet.",
        advice: "Set mining.address on the settings page or in gatewayd.toml.",
      },
    ];
  const node = {
    code: "node-down",
    severity: "warning",
    text: "Node 192.168.1.9:8332 does not answer: connection refused.",
    advice:
      "Check that it runs and that [[node]] rpc_url is right. Templates come from 127.0.0.1:8332 meanwhile.",
  };
  if (world.state === "waiting")
    return [
      {
        code: "no-work",
        severity: "error",
        text: 'Miners are sent away: no pool answers and pooling.when_down is "disconnect".',
        advice: 'Check the [[pool]] entries and the internet connection, or set it to "solo".',
      },
      node,
    ];
  return world.state === "pooled" ? [node] : [];
}

function workersOf(world) {
  const workers = world.miners.map((miner, at) => ({
    name: miner.workers[0],
    miners: 1,
    hashrate_1m_h_per_s: miner.hashrate_h_per_s * 1.1,
    hashrate_5m_h_per_s: miner.hashrate_h_per_s,
    hashrate_1h_h_per_s: miner.hashrate_h_per_s * 0.97,
    accepted: miner.accepted * 9,
    accepted_difficulty: miner.accepted_difficulty * 9,
    rejected: miner.rejected * 9,
    rejected_by_reason: miner.rejected_by_reason,
    best_share_difficulty: miner.best_share_difficulty * 4,
    best_share_at_unix_s: Math.floor(now() - at * 5000),
    first_seen_at_unix_s: Math.floor(now() - 6e6),
    last_share_at_unix_s: Math.floor(now() - 4),
    last_share_age_s: miner.last_share_age_s,
    blocks: at === 2 ? 1 : 0,
  }));
  if (workers.length)
    workers.push({
      ...workers[0],
      name: `${OWN}.old-s9`,
      miners: 0,
      hashrate_1m_h_per_s: 0,
      hashrate_5m_h_per_s: 0,
      hashrate_1h_h_per_s: 0,
      last_share_age_s: 420_000,
      last_share_at_unix_s: Math.floor(now() - 420_000),
    });
  workers.sort((a, b) => b.hashrate_5m_h_per_s - a.hashrate_5m_h_per_s);
  return { total: workers.length, workers };
}

function rejectsOf(world) {
  const by_reason = world.miners.length ? { "stale-work": 211, "high-hash": 103, duplicate: 1 } : {};
  return { window_s: 86_400, worker: null, by_reason };
}

function historyOf(world, query) {
  const [span, step] = STEPS[query.get("window")] ?? STEPS["24h"];
  const end = Math.floor(now() / step) * step;
  const times = Array.from({ length: span / step }, (_, at) => end - span + at * step);
  const line = (rate, seed) => {
    const roll = dice(seed);
    return times.map((_, at) =>
      at / times.length > 0.3 && at / times.length < 0.34
        ? null
        : rate * (0.93 + 0.05 * Math.sin(at / 9 + seed) + roll() * 0.06),
    );
  };
  const busiest = [...world.miners]
    .sort((a, b) => b.hashrate_h_per_s - a.hashrate_h_per_s)
    .slice(0, Number(query.get("top") ?? 0));
  const total = {
    worker: null,
    values: world.miners.length ? line(rateOf(world), 1) : times.map(() => null),
  };
  const name = query.get("worker");
  const own = { worker: name, values: line(1.2e12, 5) };
  const series = [
    name ? own : total,
    ...busiest.map((miner, at) => ({
      worker: miner.workers[0],
      values: line(miner.hashrate_h_per_s, at + 2),
    })),
  ];
  return {
    metric: "hashrate",
    unit: "h_per_s",
    window_s: span,
    step_s: step,
    at_unix_s: times,
    series,
  };
}

function workOf(world) {
  if (isIdle(world))
    return {
      mode: "waiting",
      waiting_for: isUnset(world) ? "no payout address is set" : "no pool answers",
      job: null,
    };
  const isSolo = world.state === "solo";
  const value = 316_623_871;
  const classes = isSolo
    ? [["default", 0, 755]]
    : [
        ["tiny", 0, null],
        ["small", 6, 500],
        ["default", 12, 755],
        ["respectable", 24, 6500],
        ["huge", 44, 16_000],
        ["s21", 18, 2250],
      ];
  const count = (kind) => world.miners.filter((miner) => miner.class === kind).length;
  return {
    mode: isSolo ? "solo" : "pooled",
    waiting_for: null,
    job: {
      id: "5f3a01c2",
      is_empty: false,
      template: {
        source: "127.0.0.1:8332",
        kind: "full",
        height: world.height + 1,
        prevhash: "00000000000000000000b5e5c4a2f0f0e6f9e7d5f5f2b1a0c1e2d3f4a5b6c7d8",
        version: "20000000",
        nbits: "1701ddc7",
        network_difficulty: 152_271_285_773_459,
        curtime_unix_s: Math.floor(now() - 21),
        age_s: 21.4,
        transactions: 3912,
        size_bytes: 1_612_345,
        weight: 3_784_123,
        weight_limit: 4_000_000,
        sigops: 10_234,
        sigops_limit: 80_000,
        subsidy_sats: 312_500_000,
        fees_sats: 4_123_871,
        coinbase_value_sats: value,
      },
      payout: {
        pool: isSolo ? null : "datum-beta1.mine.ocean.xyz:28915",
        prime_id: isSolo ? null : 1_234_567,
        pool_difficulty_min: isSolo ? null : 16_384,
        split_outputs: isSolo ? null : 44,
        tag_primary: isSolo ? "gatewayd" : "< OCEAN.XYZ >",
        tag_secondary: "my garage",
        unique_id: 4242,
      },
      coinbases: classes.map(([name, splits, limit]) => {
        const outputs = isSolo
          ? [{ kind: "yours", value_sats: value, address: OWN, script_hex: "0014".padEnd(44, "a") }]
          : makeOutputs(value, splits);
        return {
          class: name,
          miners: isSolo ? world.miners.length : count(name),
          size_bytes: 150 + outputs.length * 34,
          size_limit_bytes: limit,
          value_sats: value,
          yours_sats: 0,
          outputs,
        };
      }),
    },
  };
}

function poolOf(world) {
  const relay = {
    received: 128_412,
    accepted: 128_101,
    rejected: 4,
    held: 0,
    awaiting: 2,
    lost: 304,
    lost_by_reason: { expired: 299, "slot-reused": 5 },
    unanswered: 1,
    replayed: 12,
    dropped: 0,
    splits: 2345,
    splits_refused: 0,
    splits_cut: 0,
    connections: 3,
  };
  const nothing = {
    accepted: 0,
    tentative: 0,
    accepted_difficulty: 0,
    rejected: 0,
    rejected_by_reason: {},
  };
  if (world.state === "solo")
    return {
      pools: [],
      relay: {
        ...relay,
        received: 0,
        accepted: 0,
        rejected: 0,
        awaiting: 0,
        lost: 0,
        lost_by_reason: {},
        unanswered: 0,
        replayed: 0,
        splits: 0,
        connections: 0,
      },
    };
  const isUp = !isIdle(world);
  const active = {
    name: "datum-beta1.mine.ocean.xyz:28915",
    state: isUp ? "up" : "down",
    is_active: true,
    down_for_s: isUp ? null : 73.1,
    motd: isUp ? "Welcome to OCEAN's DATUM beta <img src=x onerror=alert(1)>" : null,
    last_error: isUp ? null : "connection refused: the next try is in 12 s",
    prime_id: 1_234_567,
    tag: "< OCEAN.XYZ >",
    difficulty_min: 16_384,
    script_hex: "001432e7d1a6bd2c5b9ef4d5e9a1d4b9c2aa03f1c7de",
    address: "bc1qxtnarf4a93deaaxhdxdh25rexjh5mqd3xzmlr",
    shares: {
      accepted: 128_101,
      tentative: 2,
      accepted_difficulty: 8_890_000_000,
      rejected: 4,
      rejected_by_reason: { "stale-work": 3, duplicate: 1 },
    },
    round_trip_ms: isUp ? 48.2 : null,
  };
  const backup = {
    name: "backup.example.org:28915",
    state: "standby",
    is_active: false,
    down_for_s: null,
    motd: null,
    last_error: null,
    prime_id: null,
    tag: null,
    difficulty_min: null,
    script_hex: null,
    address: null,
    shares: nothing,
    round_trip_ms: null,
  };
  return { pools: [active, backup], relay };
}

function nodesOf(world) {
  const none = {
    is_active: false,
    version: null,
    network: null,
    height: null,
    is_in_initial_download: false,
    template_age_s: null,
    template_fetch_ms: null,
    answer_age_s: null,
    last_error: null,
  };
  return {
    nodes: [
      {
        ...none,
        name: "127.0.0.1:8332",
        state: "ready",
        is_active: true,
        version: "/Satoshi:29.2.0/Knots:20251110/",
        network: "bitcoin",
        height: world.height,
        template_age_s: 21.4,
        template_fetch_ms: 183.2,
        answer_age_s: 1.2,
      },
      {
        ...none,
        name: "192.168.1.9:8332",
        state: "down",
        last_error: "connection refused: check that the node runs and that rpc_url is right",
      },
      { ...none, name: "192.168.1.10:8332", state: "submit-only" },
    ],
  };
}

function makeBans() {
  const ban = (address, limit, row, refused) => ({
    address,
    limit,
    since_at_unix_s: Math.floor(now() - 30),
    ends_in_s: 60 * 2 ** (row - 1),
    row,
    refused,
  });
  return [ban("203.0.113.7", "bad-shares", 3, 1204), ban("2001:db8:1:2::/64", "connections", 1, 7)];
}

function bansOf(world) {
  const crossed = { connections: 41, logins: 0, "bad-shares": 12, bytes: 3 };
  return {
    total: world.bans.length,
    bans: world.bans,
    crossed: Object.entries(crossed).map(([limit, times]) => ({ limit, times })),
    bans_session: 5,
  };
}

function blocksOf(world) {
  if (!world.miners.length) return { found: 0, found_session: 0, accepted_session: 0, blocks: [] };
  const block = (height, fate, age, submissions) => ({
    height,
    hash: `0000000000000000000184a9ec6a1a1b1b9e9f7f9d2d1c8b7a6f5e4d3c2b${height % 10_000}`,
    fate,
    found_at_unix_s: Math.floor(now() - age),
    worker: `${OWN}.s21-03`,
    submissions,
  });
  return {
    found: 2,
    found_session: 1,
    accepted_session: 1,
    blocks: [
      block(924_100, "accepted", 260_000, [
        { node: "127.0.0.1:8332", result: "accepted", detail: null },
        { node: "192.168.1.9:8332", result: "pending", detail: "connection refused" },
      ]),
      block(921_044, "stale", 2_600_000, [
        {
          node: "127.0.0.1:8332",
          result: "stale",
          detail: "inconclusive: another block of this height came first",
        },
      ]),
    ],
  };
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const { values } = parseArgs({
    options: {
      port: { type: "string", default: "7199" },
      miners: { type: "string", default: "40" },
      state: { type: "string", default: "pooled" },
    },
  });
  const mock = await startMock({
    port: Number(values.port),
    miners: Number(values.miners),
    state: values.state,
  });
  console.log(`mock: ${mock.url}`);
}
