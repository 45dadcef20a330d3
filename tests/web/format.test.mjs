// Numbers and times as people read them.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import { test } from "node:test";
import { commentAt, lineOfKey, lineOfProblem } from "../../web/js/editor.js";
import {
  ANSWERS,
  answersIn,
  bareAddress,
  changesOf,
  fieldsOf,
  fixedAnswers,
  hostAndPort,
  problemsOf,
  tomlOf,
} from "../../web/js/first.js";
import * as format from "../../web/js/format.js";
import { minersHost } from "../../web/js/connect.js";
import { workerParts } from "../../web/js/parts.js";

const cases = (title, run, table) =>
  test(title, () => {
    for (const [input, expected] of table)
      assert.equal(run(...[input].flat()), expected, `of ${JSON.stringify(input)}`);
  });

cases("hashrates have three digits and a unit", format.hashrate, [
  [0, "0 H/s"],
  [1.5, "1.50 H/s"],
  [999.4, "999 H/s"],
  [999.6, "1.00 kH/s"],
  [12.4e12, "12.4 TH/s"],
  [999.96e9, "1.00 TH/s"],
  [99.96e12, "100 TH/s"],
  [2.5e21, "2.50 ZH/s"],
  [null, "–"],
  [Number.NaN, "–"],
]);

cases("small difficulties are whole, large ones short", format.difficulty, [
  [0, "0"],
  [0.000123456, "0.000123"],
  [16_384, "16,384"],
  [999_999, "999,999"],
  [1e6, "1.00 M"],
  [4_812_345_678.12, "4.81 G"],
  [undefined, "–"],
]);

cases("a part is never rounded to nothing or to all", ([part, all]) => format.percent(part, all), [
  [[[0, 10]], "0 %"],
  [[[1, 1e6]], "< 0.01 %"],
  [[[1, 3]], "33.3 %"],
  [[[5, 100]], "5 %"],
  [[[999_999, 1e6]], "> 99.99 %"],
  [[[7, 7]], "100 %"],
  [[[0, 0]], "–"],
  [[[null, 3]], "–"],
]);

cases("bitcoin has eight places", format.btc, [
  [0, "0.00000000"],
  [1, "0.00000001"],
  [312_500_000, "3.12500000"],
  [2_099_999_997_690_000, "20999999.97690000"],
  [-5, "-0.00000005"],
  [0.5, "–"],
  [null, "–"],
]);

cases("amounts in sentences", format.amount, [
  [0, "0 sats"],
  [99_999, "99,999 sats"],
  [100_000, "0.00100000 BTC"],
]);

cases("durations have two units at most", format.duration, [
  [0, "0 s"],
  [0.34, "340 ms"],
  [0.0001, "1 ms"],
  [59.9, "59 s"],
  [60, "1 min"],
  [61, "1 min 1 s"],
  [3600, "1 h"],
  [3661, "1 h 1 min"],
  [86_399, "23 h 59 min"],
  [90_000, "1 d 1 h"],
  [-3, "0 s"],
  [null, "–"],
]);

cases("ages", format.ago, [
  [0.2, "just now"],
  [42, "42 s ago"],
  [null, "–"],
]);
cases("round trips", format.milliseconds, [
  [0.0042, "4.2 ms"],
  [0.0482, "48 ms"],
  [1.5, "1500 ms"],
  [12, "12 s"],
  [null, "–"],
]);
cases("weights", format.weight, [
  [800, "800 WU"],
  [3_985_000, "3.98 MWU"],
  [null, "–"],
]);
cases("long texts keep their ends", format.ends, [
  ["bc1qshort", "bc1qshort"],
  ["0123456789abcdefghij", "01234567…cdefghij"],
  ["", "–"],
  [null, "–"],
]);

test("the day is shown only where it is not today", () => {
  const noon = new Date(2026, 5, 15, 12).getTime() / 1000;
  assert.doesNotMatch(format.moment(noon - 3600, noon), /Jun|15|2026/);
  assert.match(format.moment(noon - 86_400, noon), /14/);
  assert.match(format.moment(noon - 400 * 86_400, noon), /2025/);
  assert.equal(format.moment(null), "–");
});

test("a worker is known by what follows the address", () => {
  assert.deepEqual(workerParts("bc1q7wz4t4m0cfyw7n3cvlvrm4l0a8q9pkg6eg4d2k.garage"), [
    "garage",
    "bc1q7w…eg4d2k",
  ]);
  assert.deepEqual(workerParts("alice.rig.2"), ["rig.2", "alice"]);
  assert.deepEqual(workerParts("alice."), ["alice.", ""]);
  assert.deepEqual(workerParts(""), ["(no name)", ""]);
  assert.deepEqual(workerParts(null), ["(no name)", ""]);
});

test("a comment begins outside of quotes", () => {
  const comment = (line) => line.slice(commentAt(line));
  assert.equal(comment('a = "x # y" # z'), "# z");
  assert.equal(comment("a = 'it\\' # z"), "# z");
  assert.equal(comment('a = "\\" # no" # yes'), "# yes");
  assert.equal(comment("a = 1"), "");
});

test("a key is found by its section", () => {
  const text =
    "[stratum]\nlisten = 1\n[[node]]\nrpc_url = 2\n[[node]]\n# rpc_url = 9\nrpc_url = 3\n[stratum.tls]\nkey = 4\n";
  assert.equal(lineOfKey(text, "stratum.listen"), 2);
  assert.equal(lineOfKey(text, "node.0.rpc_url"), 4);
  assert.equal(lineOfKey(text, "node.1.rpc_url"), 7);
  assert.equal(lineOfKey(text, "stratum.tls.key"), 9);
  assert.equal(lineOfKey(text, "stratum.max_connections"), 1);
  assert.equal(lineOfKey(text, "mining.address"), null);
});

test("a problem leads to its line", () => {
  const text = "[mining]\naddress = 1\nfoo = 2\n";
  const line = (problem) => lineOfProblem(problem, text);
  assert.equal(line("TOML parse error at line 3, column 8"), 3);
  assert.equal(line('mining.address "x" is not a bitcoin address'), 2);
  assert.equal(line('unknown field: found `foo` for key "default.mining.foo" in TOML'), 3);
  assert.equal(line("no [[node]] gives templates"), null);
});

test("the first answers become settings and text", () => {
  const answers = { ...ANSWERS, address: " bc1qme " };
  assert.deepEqual(problemsOf(answers), {});
  const changes = changesOf(answers, { pool: [] });
  assert.equal(changes["mining.address"], "bc1qme");
  assert.equal(changes["node.0.rpc_cookie_file"], "~/.bitcoin/.cookie");
  assert.ok(!("node.0.rpc_password" in changes));
  assert.equal(changes["pool.0.port"], 28_915);
  assert.match(tomlOf(answers), /^address = "bc1qme"$/m);
  assert.match(
    tomlOf({ ...answers, auth: "password", rpc_password: 'a"b\\' }),
    /^rpc_password = "a\\"b\\\\"$/m,
  );
});

// A node with a password, and no pool.
const STORED = {
  mining: { address: "" },
  node: [
    {
      rpc_url: "http://10.0.0.5:8332",
      rpc_cookie_file: "~/.bitcoin/.cookie",
      rpc_user: "me",
      rpc_password: "<secret>",
    },
  ],
  pool: [],
};
const OTHER = { host: "fd00::1", port: 99, public_key: "AB".repeat(64) };

test("what the file says counts as answered, and is not sent again", () => {
  const shown = (config) => ({ ...ANSWERS, ...answersIn(config), address: "bc1qme" });
  const text = '[[node]]\nrpc_user = "me"';
  const answers = shown({ values: STORED, text });
  const { auth, rpc_url: url, rpc_user: user, pool } = answers;
  assert.deepEqual([auth, url, user, pool], ["password", "http://10.0.0.5:8332", "me", "solo"]);
  assert.deepEqual(problemsOf(answers, STORED), {});
  const address = { "mining.address": "bc1qme" };
  assert.deepEqual(changesOf(answers, STORED), address);

  const pooled = { ...STORED, pool: [OTHER, OTHER] };
  const withPool = shown({ values: pooled, text });
  assert.equal(withPool.pool_host, "[fd00::1]:99");
  assert.deepEqual(problemsOf(withPool, pooled), {});
  assert.deepEqual(changesOf(withPool, pooled), address);
  assert.deepEqual(changesOf({ ...withPool, pool_host: "fd.example:99" }, pooled), {
    ...address,
    "pool.0.host": "fd.example",
  });
});

test("without a file, nothing counts as answered", () => {
  const values = { ...STORED, node: [] };
  assert.deepEqual(answersIn({ values, text: "" }), {});
  assert.deepEqual(answersIn({ values, text: " # a note\n\n" }), {});
  assert.equal(answersIn({ values, text: "", from_environment: ["pool"] }).pool, "solo");
});

test("a stored password stays until it, its user or its node changes", () => {
  const answers = { ...ANSWERS, ...answersIn({ values: STORED }), address: "bc1qme" };
  for (const other of [{ rpc_url: "http://10.0.0.6:8332" }, { rpc_user: "you" }]) {
    const changed = { ...answers, ...other };
    assert.deepEqual(Object.keys(problemsOf(changed, STORED)), ["rpc_password"]);
    const typed = changesOf({ ...changed, rpc_password: "new" }, STORED);
    assert.equal(typed["node.0.rpc_password"], "new");
  }
  const cookie = changesOf({ ...answers, auth: "cookie" }, STORED);
  assert.deepEqual([cookie["node.0.rpc_user"], cookie["node.0.rpc_password"]], [null, null]);
});

test("solo removes the pools, if there are any", () => {
  const answers = { ...ANSWERS, address: "bc1qme", pool: "solo" };
  assert.equal(changesOf(answers, { pool: [OTHER] }).pool, null);
  assert.ok(!("pool" in changesOf(answers, { pool: [] })));
  assert.doesNotMatch(tomlOf(answers), /\[\[pool\]\]\nhost/);
});

test("what is missing is reported at its field", () => {
  assert.deepEqual(
    Object.keys(
      problemsOf({
        ...ANSWERS,
        rpc_url: "8332",
        auth: "password",
        pool: "other",
        pool_host: "a b",
        pool_key: "12",
      }),
    ),
    ["address", "rpc_url", "rpc_user", "rpc_password", "pool_host", "pool_key"],
  );
  assert.deepEqual(hostAndPort("pool.example.org"), { host: "pool.example.org", port: 28_915 });
  assert.deepEqual(hostAndPort("[::1]:99"), { host: "::1", port: 99 });
  assert.equal(hostAndPort("a:99999"), null);
});

cases("an address is read as wallets give it", bareAddress, [
  [" bc1qme\n", "bc1qme"],
  ["bitcoin:bc1qme?amount=0.1&label=x", "bc1qme"],
  ["BITCOIN:BC1QME", "BC1QME"],
  ["bitcoin://bc1qme#x", "bc1qme"],
]);

test("a password is asked for twice where there is none, and only then", () => {
  const answers = { ...ANSWERS, address: "bc1qme" };
  assert.deepEqual(problemsOf(answers, {}), {});
  assert.deepEqual(Object.keys(problemsOf(answers, {}, true)), ["admin_password"]);
  const chosen = { ...answers, admin_password: "battery staple" };
  assert.deepEqual(Object.keys(problemsOf(chosen, {}, true)), ["admin_password_again"]);
  assert.deepEqual(problemsOf({ ...chosen, admin_password_again: "battery staple" }, {}, true), {});
  assert.deepEqual(problemsOf({ ...answers, password: "none" }, {}, true), {});
});

test("what the gateway says about a key is shown at its field, if there is one", () => {
  const shown = new Set(["address", "rpc_password", "pool_host"]);
  const problems = [
    'mining.address "x" is not a bitcoin address: no',
    "line 4: node.0.rpc_password: node 10.0.0.5:8332: the node refuses the user or password",
    "GATEWAYD_POOL: pool.host and pool.port must name the pool's DATUM server",
    "pool.0.public_key: pool a:1: answers with another key",
    "something else",
  ];
  const { fields, rest } = fieldsOf(problems, (field) => shown.has(field));
  assert.deepEqual(fields, {
    address: '"x" is not a bitcoin address: no',
    rpc_password: "node 10.0.0.5:8332: the node refuses the user or password",
    pool_host: "and pool.port must name the pool's DATUM server",
  });
  assert.deepEqual(rest, problems.slice(3));
});

test("what the environment sets is fixed, and none of it is sent", () => {
  const fixed = fixedAnswers({ from_environment: ["node", "mining.address", "log.level"] });
  assert.equal(fixed.address, "GATEWAYD_MINING__ADDRESS");
  assert.equal(fixed.rpc_password, "GATEWAYD_NODE");
  assert.ok(!("pool" in fixed));
  const answers = { ...ANSWERS, pool: "solo" };
  assert.deepEqual(changesOf(answers, { node: [], pool: [OTHER] }, fixed), { pool: null });
});

test("a miner is told an address that it can reach", () => {
  const status = (addresses) => ({ stratum: { addresses } });
  const lan = ["192.168.1.10", "fd00::5"];
  assert.deepEqual(minersHost(status(lan), "umbrel.local"), { host: "umbrel.local", others: [] });
  for (const here of ["localhost", "127.0.0.1", "127.1.2.3", "[::1]"])
    assert.deepEqual(minersHost(status(lan), here), { host: "192.168.1.10", others: ["[fd00::5]"] });
  assert.deepEqual(minersHost(status([]), "localhost"), { host: null, others: [] });
});

test("the page fetches all its modules at once", () => {
  const web = new URL("../../web/", import.meta.url);
  const files = readdirSync(new URL("js/", web), { recursive: true }).filter((name) =>
    name.endsWith(".js"),
  );
  const page = readFileSync(new URL("index.html", web), "utf8");
  const named = [...page.matchAll(/(?:modulepreload" href|script src)="\.\/js\/([^"]+)"/g)].map(
    (found) => found[1],
  );
  assert.deepEqual(named.sort(), files.sort());
});
