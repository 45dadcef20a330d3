#!/usr/bin/env python3
"""Runs gatewayd as its service unit, or its image, would have it run, without systemd or Docker.

    sandbox.py unit  UNIT            the installed unit: its user, mounts, limits and system calls
    sandbox.py image GATEWAYD        uid 1000, read-only root, no capabilities, the image's variables

A node and a miner of the devnet stand outside. gatewayd must say that it is ready, hand out work,
get a block to the node, say that it lives, read its configuration again and end in time. Needs root,
for the mounts. What cannot be had without systemd: RestrictSUIDSGID, LockPersonality, KeyringMode,
the device cgroup. None of them takes anything from gatewayd that it would notice.
"""

import ctypes
import json
import os
import pathlib
import re
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

import pyseccomp as seccomp

REPO = pathlib.Path(__file__).resolve().parents[2]
ADDRESS = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
WATCHDOG_S = 2
libc = ctypes.CDLL(None, use_errno=True)


def main():
    if sys.argv[1] == "--inside":
        return inside(json.loads(sys.argv[2]))
    kind, path = sys.argv[1:]
    if kind == "unit":
        return run_unit(Unit(path))
    return run_image(os.path.abspath(path))


class Unit:
    """The settings of a service unit, the last of each, or all where they accumulate."""

    def __init__(self, path):
        lines = pathlib.Path(path).read_text().splitlines()
        pairs = [line.split("=", 1) for line in lines if "=" in line and line[0] not in "#;["]
        self.settings = {}
        for key, value in pairs:
            self.settings.setdefault(key, []).append(value)

    def get(self, key, default=None):
        return self.settings.get(key, [default])[-1]

    def on(self, key):
        return self.get(key) == "yes"

    def all(self, key):
        return self.settings.get(key, [])


def run_unit(unit):
    command = unit.get("ExecStart").split()
    config = pathlib.Path(command[command.index("--config") + 1])
    user = unit.get("User")
    folders = {
        "StateDirectory": "/var/lib", "LogsDirectory": "/var/log", "ConfigurationDirectory": "/etc",
    }
    writable = []
    for key, parent in folders.items():
        folder = f"{parent}/{unit.get(key)}"
        os.makedirs(folder, exist_ok=True)
        if key != "ConfigurationDirectory":
            shutil.chown(folder, user, unit.get("Group"))
            os.chmod(folder, int(unit.get(key + "Mode", "0755"), 8))
            writable.append(folder)
    writable += [path.removeprefix("-") for path in unit.all("ReadWritePaths")]
    with Outside() as outside:
        # As its owner would set it: the address, the node, and for the test free ports.
        text = config.read_text()
        for old, new in outside.settings().items():
            assert re.search(old, text, re.M), f"{config} has no {old}"
            text = re.sub(old, new, text, count=1, flags=re.M)
        config.write_text(text)
        plan = {
            "command": command,
            "user": user,
            "group": unit.get("Group"),
            "writable": writable,
            "nofile": int(unit.get("LimitNOFILE")),
            "umask": int(unit.get("UMask"), 8),
            "tmp": unit.on("PrivateTmp"),
            "devices": unit.on("PrivateDevices"),
            "proc": [unit.get("ProtectProc"), unit.get("ProcSubset")],
            "mdwe": unit.on("MemoryDenyWriteExecute"),
            "calls": system_calls(unit.all("SystemCallFilter")),
            "families": unit.get("RestrictAddressFamilies").split(),
            "env": {},
        }
        assert unit.get("ProtectSystem") == "strict" and unit.get("CapabilityBoundingSet") == ""
        exercise(plan, outside, stop_s=int(unit.get("TimeoutStopSec").rstrip("s")))


def run_image(binary):
    needed = subprocess.run(["ldd", binary], capture_output=True, text=True, check=True).stdout
    libraries = {line.split()[0] for line in needed.splitlines()}
    in_image = r"linux-vdso\.so\.1|lib(c|m|gcc_s)\.so\.\d|/lib64/ld-linux-x86-64\.so\.2|/lib/ld-linux-aarch64\.so\.1"
    strange = [it for it in libraries if not re.fullmatch(in_image, it)]
    assert not strange, f"debian:bookworm-slim has no {strange}"
    text = (REPO / "Dockerfile").read_text()
    env = dict(re.findall(r"(GATEWAYD_\w+)=(\S+)", text))
    command = json.loads(re.search(r"^ENTRYPOINT (.*)$", text, re.M).group(1))
    check = json.loads(re.search(r"^    CMD (\[.*healthcheck.*\])$", text, re.M).group(1))
    place = pathlib.Path(tempfile.mkdtemp(prefix="gatewayd-image-"))
    # Other users must be able to reach it, wherever it was built.
    os.chmod(place, 0o755)
    binary = shutil.copy(binary, place / "gatewayd")
    data = place / "data"
    data.mkdir()
    os.chown(data, 1000, 1000)
    with Outside() as outside:
        here = lambda words: [str(binary), *words[1:2], str(data / "gatewayd.toml"), *words[3:]]
        env.update(outside.environment(), GATEWAYD_LEDGER__DATA_DIR=str(data))
        plan = {
            "command": here(command) + ["run"],
            "user": 1000, "group": 1000, "writable": [str(data)], "nofile": 1024, "umask": 0o022,
            "tmp": True, "devices": True, "proc": ["default", "all"], "mdwe": False,
            "calls": None, "families": None, "env": env,
        }
        exercise(plan, outside, stop_s=30, health={**plan, "command": here(check)})
    shutil.rmtree(place)


class Outside:
    """The devnet's node and miner, and a socket for notifications."""

    def __enter__(self):
        self.folder = tempfile.mkdtemp(prefix="gatewayd-outside-", dir="/run")
        os.chmod(self.folder, 0o755)
        self.ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ear.bind(f"{self.folder}/notify")
        os.chmod(f"{self.folder}/notify", 0o666)
        self.started = []
        self.rpc, self.stratum, self.api = free_port(), free_port(), free_port()
        # Blocks are as hard as the easiest shares, so that there is one within seconds.
        self.devnet("node", "--listen", f"127.0.0.1:{self.rpc}", "--nbits", "1f00ffff")
        return self

    def __exit__(self, *_):
        for process in self.started:
            process.kill()
            process.wait()
        shutil.rmtree(self.folder)

    def devnet(self, *args):
        binary = os.environ["GATEWAYD"]
        log = open(f"{self.folder}/{args[0]}.log", "w")
        self.started.append(subprocess.Popen([binary, "devnet", *args], stdout=log, stderr=log))

    def settings(self):
        listen = f'["127.0.0.1:{self.stratum}"]'
        return {
            r'^rpc_url = .*$': f'rpc_url = "http://127.0.0.1:{self.rpc}"',
            r'^rpc_cookie_file = .*$': 'rpc_user = "devnet"\nrpc_password = "devnet"',
            r'^address = ""': f'address = "{ADDRESS}"',
            r'^\[\[pool\]\]\n(.*\n)+?\n': "\n",
            r'^listen = \["0\.0\.0\.0:23334".*$': f"listen = {listen}",
            r'^difficulty_min = .*$': "difficulty_min = 0.0001",
            r'^difficulty_start = .*$': "difficulty_start = 0.0001",
            r'^listen = "127\.0\.0\.1:7152"': f'listen = "127.0.0.1:{self.api}"',
            r'^file = ""': 'file = "/var/log/gatewayd/gatewayd.log"',
        }

    def environment(self):
        return {
            "GATEWAYD_MINING__ADDRESS": ADDRESS,
            "GATEWAYD_NODE": f'[{{rpc_url="http://127.0.0.1:{self.rpc}", rpc_user="devnet", '
                             'rpc_password="devnet"}]',
            "GATEWAYD_STRATUM__LISTEN": f'["127.0.0.1:{self.stratum}"]',
            "GATEWAYD_STRATUM__DIFFICULTY_MIN": "0.0001",
            "GATEWAYD_STRATUM__DIFFICULTY_START": "0.0001",
            "GATEWAYD_API__LISTEN": f"127.0.0.1:{self.api}",
        }

    def hear(self, wanted, seconds=30):
        """The notification that begins with `wanted`; earlier ones are dropped."""
        heard = []
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.ear.settimeout(max(end - time.monotonic(), 0.01))
            try:
                message = self.ear.recv(4096).decode()
            except TimeoutError:
                break
            if any(line.startswith(wanted) for line in message.splitlines()):
                return message
            heard.append(message)
        raise AssertionError(f"no {wanted} within {seconds} s, but {heard}")


def exercise(plan, outside, stop_s, health=None):
    plan["env"].update(NOTIFY_SOCKET=f"{outside.folder}/notify",
                       WATCHDOG_USEC=str(WATCHDOG_S * 1_000_000))
    log_path = f"{outside.folder}/gatewayd.log"
    started = start(plan, open(log_path, "w"))
    log = lambda: pathlib.Path(log_path).read_text()
    try:
        outside.hear("READY=1")
        outside.hear("STATUS=serving")
        outside.devnet("miner", "--connect", f"127.0.0.1:{outside.stratum}")
        wait_for(lambda: "block accepted" in log(), "a block")
        for _ in range(3):
            outside.hear("WATCHDOG=1", WATCHDOG_S * 2)
        if health:
            assert start(health, subprocess.DEVNULL).wait() == 0, "healthcheck says no"
        confined(started.pid, plan)
        metrics(outside.api)
        os.kill(started.pid, signal.SIGHUP)
        outside.hear("RELOADING=1")
        outside.hear("READY=1")
        assert started.poll() is None
        began = time.monotonic()
        os.kill(started.pid, signal.SIGTERM)
        outside.hear("STOPPING=1")
        assert started.wait(stop_s) == 0, "it did not exit cleanly"
        print(f"packaging: ended within {time.monotonic() - began:.1f} s")
        for word in ["not permitted", "ermission denied", "Read-only", "panicked"]:
            assert word not in log(), f"its log says {word!r}"
        for folder in plan["writable"]:
            if "/lib/" in folder or "image" in folder:
                assert any(pathlib.Path(folder).iterdir()), f"{folder} is empty"
    except BaseException:
        print(log(), file=sys.stderr)
        raise
    finally:
        started.kill()
        started.wait()


def confined(pid, plan):
    """The kernel's own confirmation of the sandbox."""
    status = dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status") if ":\t" in line)
    assert "0" not in status["Uid"].split(), status["Uid"]
    assert int(status["CapBnd"], 16) == 0 and int(status["NoNewPrivs"]) == 1, status
    assert int(status["Seccomp"]) == (2 if plan["calls"] else 0), status["Seccomp"]
    root = next(line for line in open(f"/proc/{pid}/mountinfo") if line.split()[4] == "/")
    assert root.split()[5].startswith("ro"), root


def metrics(port):
    """Every metric that the dashboard and the alerts use must exist."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics") as answer:
        page = answer.read().decode()
    families = re.findall(r"^# TYPE (\w+) (\w+)$", page, re.M)
    suffixes = {"counter": ["_total"], "info": ["_info"],
                "histogram": ["_bucket", "_sum", "_count"]}
    known = {name + end for name, kind in families for end in suffixes.get(kind, [""])}
    texts = (REPO / "packaging/grafana/dashboard.json", REPO / "packaging/prometheus/alerts.yml")
    asked = {it for text in texts for it in re.findall(r"\bgatewayd_[a-z_]+\b", text.read_text())}
    assert len(asked) > 15 and asked <= known, f"no such metrics: {asked - known}"


def start(plan, log):
    """Starts the plan's command in a mount namespace of its own; the pid is gatewayd's."""
    stage = ["unshare", "--mount", "--propagation", "private", sys.executable,
             os.path.abspath(__file__), "--inside", json.dumps(plan)]
    return subprocess.Popen(stage, stdout=log, stderr=log)


def inside(plan):
    mounts(plan)
    import grp
    import pwd
    user, group = plan["user"], plan["group"]
    uid = user if isinstance(user, int) else pwd.getpwnam(user).pw_uid
    gid = group if isinstance(group, int) else grp.getgrnam(group).gr_gid
    # Where root may not raise limits, the present ones have to do.
    most = min(plan["nofile"], resource.getrlimit(resource.RLIMIT_NOFILE)[1])
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 1024), most))
    rules = seccomp_filter(plan) if plan["calls"] else None
    last = int(pathlib.Path("/proc/sys/kernel/cap_last_cap").read_text()) \
        if os.path.exists("/proc/sys/kernel/cap_last_cap") else 63
    for capability in range(last + 1):
        libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0)
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)
    os.umask(plan["umask"])
    assert libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0
    if plan["mdwe"] and libc.prctl(PR_SET_MDWE, 1, 0, 0, 0) != 0:
        print("no PR_SET_MDWE in this kernel: not tested", file=sys.stderr)
    os.chdir("/")
    env = {"PATH": "/usr/bin:/bin", **plan["env"]}
    if rules:
        rules.load()
    os.execve(plan["command"][0], plan["command"], env)


def mounts(plan):
    def mount(*args):
        subprocess.run(["mount", *args], check=True)

    for path in plan["writable"]:
        mount("--bind", path, path)
    if plan["tmp"]:
        for path in ["/tmp", "/var/tmp"]:
            if not any(it.startswith(path) for it in plan["writable"] + plan["command"][:1]):
                mount("-t", "tmpfs", "tmpfs", path)
    if plan["devices"]:
        nodes = ["null", "zero", "full", "random", "urandom"]
        with tempfile.TemporaryDirectory(dir="/run") as keep:
            for node in nodes:
                pathlib.Path(f"{keep}/{node}").touch()
                mount("--bind", f"/dev/{node}", f"{keep}/{node}")
            mount("-t", "tmpfs", "tmpfs", "/dev")
            for node in nodes:
                pathlib.Path(f"/dev/{node}").touch()
                mount("--move", f"{keep}/{node}", f"/dev/{node}")
    points = [line.split()[4] for line in open("/proc/self/mountinfo")]
    keep = plan["writable"] + ["/proc", "/tmp", "/var/tmp", "/dev"]
    for point in dict.fromkeys(points):
        if not any(point == it or point.startswith(it + "/") for it in keep):
            mount("-o", "remount,bind,ro", point)
    hide, subset = plan["proc"]
    if subset == "pid":
        mount("-t", "proc", "-o", f"hidepid={hide},subset=pid", "proc", "/proc")


def system_calls(lines):
    """The calls that a unit's SystemCallFilter= lines let through."""
    allowed = set()
    for line in lines:
        words = line.lstrip("~").split()
        calls = {call for word in words for call in expand(word)}
        allowed = allowed - calls if line.startswith("~") else allowed | calls
    return sorted(allowed)


def expand(word):
    if not word.startswith("@"):
        return {word}
    told = subprocess.run(["systemd-analyze", "syscall-filter", word],
                          capture_output=True, text=True, check=True).stdout
    calls = [line.strip() for line in told.splitlines()[1:]]
    return {it for call in calls if call and call[0] != "#" for it in expand(call)}


def seccomp_filter(plan):
    rules = seccomp.SyscallFilter(seccomp.ERRNO(1))
    for call in plan["calls"]:
        if call in ("socket", "clone3"):
            continue
        try:
            rules.add_rule(seccomp.ALLOW, call)
        except (ValueError, OSError, RuntimeError):
            pass  # of another architecture
    # As RestrictNamespaces= does: libc does with clone what is refused here.
    rules.add_rule(seccomp.ERRNO(38), "clone3")
    for family in plan["families"]:
        number = int(getattr(socket, family))
        rules.add_rule(seccomp.ALLOW, "socket", seccomp.Arg(0, seccomp.EQ, number))
    return rules


def wait_for(condition, what, seconds=30):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"no {what} within {seconds} s"
        time.sleep(0.05)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


# linux/prctl.h
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS, PR_SET_MDWE = 24, 38, 65

main()
