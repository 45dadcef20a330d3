#!/usr/bin/env python3
"""All floods of the Stratum and API ports at once, alongside honest miners: `all_at_once.py GATEWAYD` starts
a devnet node that has a new tip every two seconds and the gateway, lets the honest miners work alone for a
while, then with 200 connections of each kind of flood, and reports what they noticed. Fails if they lose a
share, learn about a new tip later than 100 ms (p99), or if the gateway's memory plus the kernel's for TCP
(including the floods' own halves of the connections) exceeds 300 MiB.

The floods run at the lowest priority on the machine that they share with the gateway, because real attackers
would use other machines. They come from their own addresses (127.1.0.0/16). --allow: the gateway's limits and
bans do not apply to them, so that everything else has to withstand them."""

import argparse
import os
import pathlib
import re
import selectors
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import time

import sv1

HERE = pathlib.Path(__file__).parent


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("gatewayd", help="the program")
    parser.add_argument("--for", dest="seconds", type=float, default=300, help="how long (300 s)")
    parser.add_argument("--alone", type=float, default=30, help="how long without floods first (30 s)")
    parser.add_argument("--connections", type=int, default=200, help="of each kind (200)")
    parser.add_argument("--miners", type=int, default=4, help="honest ones (4)")
    parser.add_argument("--kinds", default=",".join(KINDS), help=",".join(KINDS))
    parser.add_argument("--allow", action="store_true", help="no limit applies to the floods")
    parser.add_argument("--flood", help=argparse.SUPPRESS)
    parser.add_argument("--stratum", help=argparse.SUPPRESS)
    parser.add_argument("--api", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.flood:
        return flood(options)
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(run(options, pathlib.Path(folder)))


def run(options, folder):
    stratum, api, rpc = free_port(), free_port(), free_port()
    tips = folder / "tips"
    node = start(tips, options.gatewayd, "devnet", "node", "--listen", f"127.0.0.1:{rpc}",
                 "--nbits", "1d00ffff", "--block-every", "2s")
    config = folder / "gatewayd.toml"
    config.write_text(CONFIG.format(
        rpc=rpc, stratum=stratum, api=api, data=folder / "data",
        allow='[limits]\nallow = ["127.1.0.0/16"]' if options.allow else ""))
    log = folder / "log"
    gateway = start(log, options.gatewayd, "--config", config)
    children = [node, gateway]
    try:
        wait_for(stratum, log)
        here = f"127.0.0.1:{stratum}"
        print("== alone", flush=True)
        honest(here, tips, options.alone, options.miners)
        calm = memory(gateway.pid)
        mine = ["--stratum", here, "--api", f"127.0.0.1:{api}", "--for", str(options.seconds + 5),
                "--connections", str(options.connections)]
        floods = [start(folder / kind, "nice", "-n", "19", sys.executable, __file__, options.gatewayd,
                        "--flood", kind, *mine) for kind in options.kinds.split(",")]
        children += floods
        time.sleep(3)
        print(f"== during {options.connections} connections of each of {len(floods)} floods", flush=True)
        figures, most = honest(here, tips, options.seconds, options.miners, gateway.pid)
        for child, kind in zip(floods, options.kinds.split(",")):
            child.wait(60)
            print(f"  {kind}: {(folder / kind).read_text().strip()}")
        if gateway.poll() is not None:
            print(log.read_text()[-4000:])
            return "the gateway has ended"
        print(f"memory, gateway and TCP, MiB: {calm[0]} and {calm[1]} before; {most[0]} and {most[1]} at most; "
              f"log: {log.stat().st_size >> 10} KiB")
        return verdict(figures, most)
    finally:
        if "--keep" in os.environ.get("ALL_AT_ONCE", ""):
            pathlib.Path("/tmp/all_at_once.log").write_text(log.read_text())
        for child in children:
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
                child.wait(30)


def verdict(figures, most):
    p99 = re.search(r"tip to work: .*p99 ([0-9.]+) ms", figures)
    lost = re.search(r"tips that were not told: (\d+) of \d+; not accepted: (\d+)", figures)
    if not p99 or not lost:
        return "the honest miners heard of no tip"
    if float(p99[1]) > 100:
        return f"a new tip came after {p99[1]} ms"
    if (int(lost[1]), int(lost[2])) != (0, 0):
        return "honest miners lost something"
    if sum(most) > 300:
        return f"{sum(most)} MiB"
    return 0


def honest(here, tips, seconds, miners, pid=None):
    """What the honest miners saw, and the peak memory in the meantime."""
    child = subprocess.Popen(
        [sys.executable, HERE / "honest.py", here, "--for", str(seconds), "--tips", tips,
         "--miners", str(miners)], stdout=subprocess.PIPE, text=True)
    most = (0, 0)
    while child.poll() is None:
        time.sleep(0.5)
        if pid:
            most = max(most, memory(pid), key=sum)
    figures = child.stdout.read()
    print(figures, end="", flush=True)
    return figures, most


def memory(pid):
    """MiB of the gateway, and of the kernel's TCP sockets."""
    try:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        resident = int(re.search(r"VmRSS:\s+(\d+)", status)[1]) >> 10
    except (OSError, TypeError):
        resident = 0
    sockets = re.search(r"TCP:.* mem (\d+)", pathlib.Path("/proc/net/sockstat").read_text())
    return resident, int(sockets[1]) * 4 >> 10


def start(output, *command):
    with open(output, "w", encoding="utf-8") as file:
        return subprocess.Popen([str(word) for word in command], stdout=file, stderr=file)


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def wait_for(port, log):
    for _ in range(300):
        try:
            # Not refused: there is work.
            return socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            time.sleep(0.1)
    raise SystemExit(f"the gateway takes no miners:\n{log.read_text()}")


CONFIG = """
[mining]
address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
[[node]]
rpc_url = "http://127.0.0.1:{rpc}"
rpc_user = "devnet"
rpc_password = "devnet"
[stratum]
listen = ["127.0.0.1:{stratum}"]
difficulty_min = 1e-8
difficulty_start = 1e-8
[api]
listen = "127.0.0.1:{api}"
[ledger]
data_dir = "{data}"
{allow}
"""

# For each: what is sent first, what is sent repeatedly, whether answers are read, whether each
# connection ends at once, how many bytes a second one may send (0: as many as it can), and whether
# it is the API's port.
LOGIN = sv1.line("mining.subscribe", "flood/1") + sv1.line("mining.authorize", "flood", "x")
SHARE = sv1.line("mining.submit", "flood", "0", "00" * 8, "65000000", "00000001", number=9)
GET = b"GET /api/v1/miners HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
KINDS = {
    "newlines": (LOGIN, b"\n" * 16384, True, False, 0, False),
    "garbage": (b"", os.urandom(8192).replace(b"\n", b" ") + b"\n", True, True, 0, False),
    "long_lines": (LOGIN, b"A" * 16384, True, False, 0, False),
    "unknown": (LOGIN, sv1.line("mining.\x1b[31m\u202enothing", ["x"] * 50) * 16, True, False, 0, False),
    "deaf": (LOGIN, sv1.line("mining.extranonce.subscribe") * 200, False, False, 0, False),
    "bad_shares": (LOGIN, SHARE * 50, True, False, 0, False),
    "logins": (LOGIN, b"", True, False, 0, False),
    "slow": (b"{", b" ", True, False, 1, False),
    "connects": (b"", b"", True, True, 0, False),
    "noise": (b"", b"", True, True, 0, False),
    "tls": (b"", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc" + os.urandom(508), True, True, 0, False),
    "api": (GET[:-2], GET, False, False, 0, True),
}


class Client:
    """One connection of a flood, reopened when it has ended."""

    def __init__(self, kind, target, source):
        self.kind, self.target, self.source = kind, target, source
        self.socket = None
        self.names = 0

    def open(self, watch):
        self.socket = socket.socket()
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 16384)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.setblocking(False)
        self.socket.bind((self.source, 0))
        self.socket.connect_ex(self.target)
        self.out, self.first, self.next_at = KINDS[self.kind][0], True, 0
        if self.kind == "noise":
            # Any 64 bytes are a key, and answering it costs the gateway a multiplication.
            self.out = os.urandom(64)
        watch.register(self.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def close(self, watch):
        watch.unregister(self.socket)
        self.socket.close()

    def write(self, now):
        """Returns the bytes sent; raises if the connection has ended, or should."""
        _, again, _, ends, rate, _ = KINDS[self.kind]
        if not self.out:
            if ends and not self.first:
                raise ConnectionError
            if rate and now < self.next_at:
                return 0
            self.next_at, self.first = now + 1, False
            self.out = again if self.kind != "logins" else self.login()
            if not self.out:
                return 0
        sent = self.socket.send(self.out)
        self.out = self.out[sent:]
        return sent

    def login(self):
        self.names += 1
        return b"".join(sv1.line("mining.authorize", f"{id(self)}.{self.names}.{at}", "x") for at in range(20))

    def read(self):
        if not self.socket.recv(65536):
            raise ConnectionError
        if self.kind in ("noise", "tls"):
            raise ConnectionError


def flood(options):
    _, _, reads, _, rate, is_api = KINDS[options.flood]
    host, _, port = (options.api if is_api else options.stratum).rpartition(":")
    watch, end = selectors.DefaultSelector(), time.time() + options.seconds
    clients = [Client(options.flood, (host, int(port)), f"127.1.{at // 100 + 1}.{at % 100 + 1}")
               for at in range(options.connections)]
    waiting = [(0, client) for client in clients]
    sent, ended, refused = 0, 0, 0
    while (now := time.time()) < end:
        due = [client for at, client in waiting if at <= now]
        waiting = [(at, client) for at, client in waiting if at > now]
        for client in due:
            client.open(watch)
        for key, events in watch.select(0.05):
            client = key.data
            try:
                if events & selectors.EVENT_READ and reads:
                    client.read()
                if events & selectors.EVENT_WRITE:
                    sent += client.write(now)
            except BlockingIOError:
                pass
            except OSError as error:
                client.close(watch)
                ended += 1
                refused += isinstance(error, ConnectionRefusedError)
                waiting.append((now + 0.02, client))
        if rate:
            time.sleep(0.02)
    print(f"{sent / options.seconds / 1e6:.2f} MB/s sent, {ended / options.seconds:.0f} connections/s ended, "
          f"{refused} refused")


if __name__ == "__main__":
    main()
