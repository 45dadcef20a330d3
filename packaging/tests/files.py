#!/usr/bin/env python3
"""What can be checked in the packaging files without Docker, Umbrel, StartOS or Grafana.

    files.py GATEWAYD DEPFILE UMBREL_FOLDER RULES_OUT

GATEWAYD is the binary; DEPFILE is cargo's list of the files that it was made of; UMBREL_FOLDER is
what packaging/umbrel/render wrote; the dashboard's queries go to RULES_OUT, for promtool.
"""

import fnmatch
import json
import os
import pathlib
import re
import string
import subprocess
import sys
import tempfile
import tomllib

import yaml

ADDRESS = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
REPO = pathlib.Path(__file__).resolve().parents[2]
problems = []


def check(ok, what):
    if not ok:
        problems.append(what)


def main():
    binary, depfile, umbrel, rules_out = sys.argv[1:]
    docker_context(depfile)
    dockerfile()
    compose(binary)
    umbrel_app(binary, pathlib.Path(umbrel))
    start9(binary)
    dashboard(rules_out)
    for problem in problems:
        print(f"packaging: {problem}", file=sys.stderr)
    sys.exit(bool(problems))


def docker_context(depfile):
    """Whatever the binary is made of must be allowed into the build's context."""
    lines = (REPO / ".dockerignore").read_text().splitlines()
    let_in = [line[1:] for line in lines if line.startswith("!")]
    words = pathlib.Path(depfile).read_text().replace("\\ ", "\0").split()[1:]
    sources = [pathlib.Path(word.replace("\0", " ")) for word in words]
    ours = [path.relative_to(REPO) for path in sources if path.is_relative_to(REPO)]
    check(len(ours) > 50, f"{depfile} names only {len(ours)} files of this repository")
    ours += [pathlib.Path("Cargo.toml"), pathlib.Path("Cargo.lock")]
    for path in ours:
        inside = any(fnmatch.fnmatch(path.parts[0], pattern) for pattern in let_in)
        check(inside, f".dockerignore keeps {path} out, which the build needs")
    for name in ["target", ".git"]:
        check(name not in let_in, f".dockerignore lets {name} in")
    manifest = (REPO / "Cargo.toml").read_text()
    for kind in ["bench", "example"]:
        if f"[[{kind}]]" in manifest:
            check(kind + "es" in let_in or kind + "s" in let_in, f"cargo will miss its {kind}")


def dockerfile():
    text = (REPO / "Dockerfile").read_text()
    last = text[text.rindex("\nFROM ") :]
    check(re.search(r"^USER 1000:1000$", last, re.M), "the image does not run as 1000:1000")
    check(re.search(r'^HEALTHCHECK [^\n]*\\\n +CMD \["gatewayd",[^\n]*"healthcheck"\]$', last, re.M),
          "the image's health is not checked by `gatewayd healthcheck`")
    check(re.search(r'^ENTRYPOINT \["gatewayd"', last, re.M), "signals would not reach gatewayd")
    check("RUN " not in last, "the last stage runs something: an emulated build would be slow")
    check("cargo build --locked --no-default-features " in text, "the image would carry a CPU miner")
    check("--profile dist " in text, "the image is not built by the profile for packages")
    dist = tomllib.loads((REPO / "Cargo.toml").read_text())["profile"]["dist"]
    check(dist.get("strip") == "debuginfo", "the image would carry line tables, or no names")
    for arch in ["amd64", "arm64"]:
        check(f"  {arch}) target=" in text, f"no build for {arch}")
    rust = re.search(r"rust:(\d+\.\d+)", text).group(1)
    wanted = re.search(r'^rust-version = "(.*)"$', (REPO / "Cargo.toml").read_text(), re.M).group(1)
    version = lambda it: tuple(map(int, it.split(".")))
    check(version(rust) >= version(wanted), f"rust {rust} is too old: Cargo.toml says {wanted}")


def compose(binary):
    folder = REPO / "packaging/docker"
    file = yaml.safe_load((folder / "compose.yml").read_text())
    env = dict(line.split("=", 1) for line in (folder / "env.example").read_text().splitlines()
               if line and not line.startswith("#"))
    used = set(re.findall(r"\$\{(\w+)", (folder / "compose.yml").read_text()))
    check(used == set(env), f"compose.yml uses {used}, env.example has {set(env)}")
    gateway = file["services"]["gatewayd"]
    check(gateway["read_only"] and gateway["cap_drop"] == ["ALL"], "the example is not locked down")
    for service in file["services"].values():
        if "build" in service:
            context = (folder / service["build"]["context"]).resolve()
            dockerfile = context / service["build"].get("dockerfile", "Dockerfile")
            check(dockerfile.exists(), f"{dockerfile} is not there")
    values = {"ADDRESS": ADDRESS, "RPC_PASSWORD": "abc123"}
    understood(binary, "compose.yml", expand(gateway["environment"], values), pools=1)
    args = file["services"]["bitcoin"]["command"]
    check(any("zmqpubhashblock=tcp://0.0.0.0:28332" in arg for arg in args), "the node has no ZMQ")


def umbrel_app(binary, folder):
    app = yaml.safe_load((folder / "gatewayd/umbrel-app.yml").read_text())
    file = yaml.safe_load((folder / "gatewayd/docker-compose.yml").read_text())
    order = ("manifestVersion id category name version tagline description releaseNotes developer "
             "website dependencies repo support port gallery path defaultUsername defaultPassword "
             "submitter submission").split()
    keys = [key for key in app if key in order]
    check(keys == order, f"umbrel-app.yml's fields should be in the order {order}")
    optional = {"deterministicPassword", "widgets"}
    check(set(app) <= set(order) | optional, f"unknown fields: {set(app) - set(order)}")
    check(app["id"] == "gatewayd", "the id must be the folder's name")
    check(app["dependencies"] == ["bitcoin"], "it needs a node")
    check(app["gallery"] == [] and app["releaseNotes"] == "", "the store's team adds those")
    service = file["services"]["gatewayd"]
    proxy = file["services"]["app_proxy"]["environment"]
    check(proxy["APP_HOST"] == "gatewayd_gatewayd_1", "APP_HOST is <app>_<service>_1")
    check(re.fullmatch(r"[^@]+:[\d.]+@sha256:[0-9a-f]{64}", service["image"]), "image is not pinned")
    check(service["user"] == "1000:1000" and service["restart"] == "on-failure", "user or restart")
    check("build" not in service, "the store takes no build")
    for mount in service["volumes"]:
        source = mount.split(":")[0].removeprefix("${APP_DATA_DIR}/")
        template = folder / f"gatewayd/{source}.template"
        check((folder / "gatewayd" / source).is_dir() or template.exists(), f"no source for {mount}")
    for widget in app["widgets"]:
        host, path = widget["endpoint"].split("/", 1)
        name, port = host.split(":")
        check(name in file["services"] and port == str(proxy["APP_PORT"]), "the widget's endpoint")
        check(widget["example"]["type"] == widget["type"], "the widget's example")
        check("/" + path in proxy["PROXY_AUTH_WHITELIST"], "the widget's path is not let through")
    for text in [folder / "gatewayd/umbrel-app.yml", folder / "gatewayd/docker-compose.yml"]:
        left = re.findall(r"@[A-Z]+@", text.read_text())
        check(not left, f"{text.name} still has {left}")
    values = {"APP_BITCOIN_NODE_IP": "10.21.21.8", "APP_BITCOIN_RPC_PORT": "8332",
              "APP_BITCOIN_RPC_USER": "umbrel", "APP_BITCOIN_RPC_PASS": "x0_-=",
              "APP_BITCOIN_ZMQ_HASHBLOCK_PORT": "28334", "APP_DATA_DIR": "/data"}
    env = expand(service["environment"], values)
    # The owner enters the address on the first page.
    understood(binary, "Umbrel's compose file", {**env, "GATEWAYD_MINING__ADDRESS": ADDRESS})


def start9(binary):
    """Types are tsc's part; here, that gatewayd understands what it is given."""
    source = (REPO / "packaging/start9/startos/main.ts").read_text()
    utils = (REPO / "packaging/start9/startos/utils.ts").read_text()
    values = dict(re.findall(r"^export const (\w+) = [`']?([^`'\n]+)[`']?$", utils, re.M))
    values = {name: value.replace("${dataDir}", values["dataDir"]) for name, value in values.items()}
    block = source[source.index("const env") : source.index("return sdk.Daemons")]
    env = {}
    for name, value in re.findall(r"^    (GATEWAYD_\w+): (.*),$", block, re.M):
        value = value.strip("`") if value.startswith("`") else values[value]
        value = value.replace("${node ?? '127.0.0.1:8332'}", "10.0.3.1:49152")
        env[name] = re.sub(r"\$\{(\w+)\}", lambda it: values[it.group(1)], value)
    check(len(env) == 4, f"main.ts: {env}")
    understood(binary, "StartOS's environment", {**env, "GATEWAYD_MINING__ADDRESS": ADDRESS})
    version = re.search(r'^version = "(.*)"$', (REPO / "Cargo.toml").read_text(), re.M).group(1)
    current = (REPO / "packaging/start9/startos/versions/current.ts").read_text()
    check(f"version: '{version}:" in current, f"StartOS's version is not {version}")


def expand(environment, values):
    text = {name: re.sub(r"\$\{(\w+)(:\?[^}]*)?\}", lambda it: values[it.group(1)], str(value))
            for name, value in environment.items()}
    for name, value in text.items():
        check("$" not in value, f"{name}: {value}")
    return text


def understood(binary, what, environment, pools=0):
    """gatewayd must know every key. Neither node nor pool is there, and that is fine."""
    clean = {name: it for name, it in os.environ.items() if not name.startswith("GATEWAYD_")}
    with tempfile.TemporaryDirectory() as folder:
        environment = dict(environment, GATEWAYD_LEDGER__DATA_DIR=folder,
                           GATEWAYD_STRATUM__LISTEN='["127.0.0.1:0"]')
        # No test sends a packet beyond this machine.
        for name in ["GATEWAYD_NODE", "GATEWAYD_POOL"]:
            if name in environment:
                environment[name] = re.sub(r'(host=|http://|tcp://)("?)[^":,]+', r"\1\g<2>127.0.0.1",
                                           environment[name])
        run = subprocess.run([binary, "--config", f"{folder}/gatewayd.toml", "check"],
                             env={**clean, **environment}, capture_output=True, text=True)
    told = run.stdout + run.stderr
    check("ok      configuration" in told, f"{what} is not understood:\n{told}")
    check(told.count(" node 127.0.0.1:") == 1, f"{what} names no node:\n{told}")
    check(told.count(" pool 127.0.0.1:") == pools, f"{what}: not {pools} pools:\n{told}")


def dashboard(rules_out):
    """Grafana's queries, as rules that promtool can read, with a value for each variable."""
    file = json.loads((REPO / "packaging/grafana/dashboard.json").read_text())
    ids = [panel["id"] for panel in file["panels"]]
    check(len(ids) == len(set(ids)), "panels share an id")
    cells = set()
    rules = []
    for panel in file["panels"]:
        at = panel["gridPos"]
        for x in range(at["x"], at["x"] + at["w"]):
            for y in range(at["y"], at["y"] + at["h"]):
                check((x, y) not in cells and x < 24, f"{panel['title']} lies on another panel")
                cells.add((x, y))
        rules += [target["expr"] for target in panel["targets"]]
    rules += [note["expr"] for note in file["annotations"]["list"]]
    values = {"instance": ".*", "__rate_interval": "5m", "__interval": "1m"}
    rules = [string.Template(rule).substitute(values) for rule in rules]
    group = {"name": "dashboard", "rules": [{"record": f"q:{n}", "expr": rule}
                                            for n, rule in enumerate(rules)]}
    pathlib.Path(rules_out).write_text(yaml.safe_dump({"groups": [group]}))


main()
