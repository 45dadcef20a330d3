#!/usr/bin/env python3
"""Submits unsolved nonces to a gatewayd on regtest, where half of all hashes are blocks.

With --pid it also reports the process's memory, threads and open files, which should stay bounded while the
chain grows.
"""

import argparse
import json
import pathlib
import socket
import time


def held(pid):
    status = pathlib.Path(f"/proc/{pid}/status").read_text()
    told = dict(line.split(":", 1) for line in status.splitlines() if ":" in line)
    files = len(list(pathlib.Path(f"/proc/{pid}/fd").iterdir()))
    rss = int(told["VmRSS"].split()[0]) // 1024
    return f"{rss} MiB, {told['Threads'].strip()} threads, {files} files"


class Miner:
    def __init__(self, address, user):
        host, port = address.rsplit(":", 1)
        self.stream = socket.create_connection((host.strip("[]"), int(port)))
        self.lines, self.job = self.stream.makefile("rb"), None
        self.user, self.answers, self.refused = user, 0, 0
        self.send(1, "mining.subscribe", ["storm/1"])
        self.send(2, "mining.authorize", [user, "x"])
        while self.job is None:
            self.read()

    def send(self, number, method, params):
        line = json.dumps({"id": number, "method": method, "params": params})
        self.stream.sendall(line.encode() + b"\n")

    def read(self):
        told = json.loads(self.lines.readline())
        if told.get("method") == "mining.notify":
            self.job = told["params"]
        elif told.get("id") == 1:
            self.extranonce2_len = told["result"][2]
        elif told.get("id", 0) and told["id"] > 2:
            self.answers += 1
            self.refused += told.get("result") is not True

    def storm(self, count):
        """In batches, as a pool's front end would send them."""
        number = 0
        for start in range(0, count, 64):
            batch = min(64, count - start)
            lines = []
            for _ in range(batch):
                number += 1
                extranonce2 = f"{number:0{2 * self.extranonce2_len}x}"[-2 * self.extranonce2_len :]
                params = [self.user, self.job[0], extranonce2, self.job[7], f"{number:08x}"]
                lines.append(json.dumps({"id": 2 + number, "method": "mining.submit", "params": params}))
            self.stream.sendall(("\n".join(lines) + "\n").encode())
            wanted = self.answers + batch
            while self.answers < wanted:
                self.read()
            yield number


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("stratum", help="host:port of gatewayd's Stratum V1")
    parser.add_argument("--user", default="bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080.storm")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--pid", type=int, help="of gatewayd, on this machine")
    args = parser.parse_args()
    miner, started, said = Miner(args.stratum, args.user), time.monotonic(), 0
    for number in miner.storm(args.count):
        if time.monotonic() - said >= 1:
            said = time.monotonic()
            print(f"{number} submitted", held(args.pid) if args.pid else "", flush=True)
    took = time.monotonic() - started
    print(f"{miner.answers} answered in {took:.1f} s, {miner.refused} refused")
    if args.pid:
        print(held(args.pid))


if __name__ == "__main__":
    main()
