"""What the attacks have in common: a minimal Stratum V1 client."""

import argparse
import hashlib
import json
import socket


def arguments(about, **more):
    """HOST:PORT first, then `more`: name=(default, help)."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("gateway", metavar="HOST:PORT", help="where miners connect")
    parser.add_argument("--for", dest="seconds", type=float, default=10, help="how long, seconds")
    for name, (default, text) in more.items():
        parser.add_argument(f"--{name}", type=type(default), default=default, help=f"{text} ({default})")
    return parser.parse_args()


def connect(gateway, source=None):
    host, _, port = gateway.rpartition(":")
    return socket.create_connection((host, int(port)), 10, source and (source, 0))


def line(method, *params, number=1):
    return json.dumps({"id": number, "method": method, "params": params}).encode() + b"\n"


class Miner:
    """Subscribed, with a job; returns what it receives."""

    def __init__(self, gateway, name, source=None):
        self.socket = connect(gateway, source)
        self.file = self.socket.makefile("rb")
        self.name, self.job, self.difficulty, self.answers = name, None, 1.0, {}
        self.socket.sendall(line("mining.subscribe", "attack/1") + line("mining.authorize", name, "x"))
        while self.job is None:
            self.hear()

    def hear(self):
        said = json.loads(self.file.readline() or b'{"method": "gone"}')
        if said.get("method") == "mining.notify":
            self.job = said["params"]
        elif said.get("method") == "mining.set_difficulty":
            self.difficulty = said["params"][0]
        elif said.get("method") == "gone":
            raise ConnectionError("the gateway closed the connection")
        elif isinstance(said.get("result"), list):
            self.extranonce1 = said["result"][1]
        elif said.get("id") == 9:
            why = "accepted" if said["result"] else str((said.get("error") or ["", "refused"])[1])
            self.answers[why] = self.answers.get(why, 0) + 1
        return said

    def submits(self):
        """Lines of shares that meet the job's difficulty, one after the other."""
        job, prevhash, coinb1, coinb2, branches, version, nbits, ntime = self.job[:8]
        target = int((0xFFFF << 208) / self.difficulty)
        extranonce2 = "00" * 8
        coinbase = bytes.fromhex(coinb1 + self.extranonce1 + extranonce2 + coinb2)
        root = sha256d(coinbase)
        for branch in branches:
            root = sha256d(root + bytes.fromhex(branch))
        words = bytes.fromhex(prevhash)
        prevhash = b"".join(words[at : at + 4][::-1] for at in range(0, 32, 4))
        swapped = lambda text: bytes.fromhex(text)[::-1]
        head = swapped(version) + prevhash + root + swapped(ntime) + swapped(nbits)
        for nonce in range(1 << 32):
            if int.from_bytes(sha256d(head + nonce.to_bytes(4, "little")), "little") <= target:
                yield line("mining.submit", self.name, job, extranonce2, ntime, f"{nonce:08x}", number=9)


def sha256d(data):
    return hashlib.sha256(hashlib.sha256(data).digest()).digest()


def has_ended(client):
    """Whether the other side has closed this socket. Reads whatever has arrived."""
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
