#!/usr/bin/env python3
"""Floods from one address, with an honest miner at another: --kind connections (connect, hang up), logins
(mining.authorize again and again) or bad-shares (which are never hashed).

For a gateway with a tiny difficulty (stratum.difficulty_start = 1e-9). No limit applies to 127.0.0.1 itself,
so the flood comes from 127.0.1.1 and the miner is 127.0.2.1. The attack has worked if the miner loses a
share, or if the flood has not been cut down when it ends: bad shares and logins lead to a ban, and no more
connections are served than limits.connections_per_minute allows."""

import sys
import threading
import time

import sv1

FLOODER, HONEST = "127.0.1.1", "127.0.2.1"


def main():
    options = sv1.arguments(__doc__, kind=("connections", "or logins, or bad-shares"), threads=(8, "at once"),
                            limit=(12000, "limits.connections_per_minute"))
    flood = {"connections": connections, "logins": logins, "bad-shares": bad_shares}[options.kind]
    end = time.time() + options.seconds
    did, honest = [], {"accepted": 0, "lost": [], "slowest": 0.0}
    threads = [threading.Thread(target=flood, args=(options.gateway, end, did)) for _ in range(options.threads)]
    threads.append(threading.Thread(target=mine, args=(options.gateway, end, honest)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    late = [what for at, what in did if at > end - options.seconds / 4]
    print(f"{len(did)} times {options.kind}; in the last quarter {len(late)}, of which got through "
          f"{sum(late)}")
    print(f"the honest miner: {honest['accepted']} shares accepted, lost {honest['lost'] or 'none'}, "
          f"slowest answer {honest['slowest'] * 1000:.0f} ms")
    if honest["lost"] or not honest["accepted"]:
        sys.exit("an honest miner was hurt")
    if options.kind == "connections":
        if sum(what for _, what in did) > 1.1 * options.limit * (1 + options.seconds / 60):
            sys.exit("more connections are served than a minute may have")
    elif options.seconds >= 45 and late and sum(late) > len(late) / 10:
        sys.exit("the flooder is not banned")


def connections(gateway, end, did):
    """What got through: a client that is served gets an answer."""
    while time.time() < end:
        try:
            client = sv1.connect(gateway, FLOODER)
            client.sendall(sv1.line("mining.subscribe", "flood/1"))
            did.append((time.time(), bool(client.recv(1))))
            client.close()
        except OSError:
            did.append((time.time(), False))


def logins(gateway, end, did):
    flood(gateway, end, did, lambda name, at: sv1.line("mining.authorize", name, "x", number=9))


def bad_shares(gateway, end, did):
    job = "0000000000000000"
    flood(gateway, end, did, lambda name, at: sv1.line(
        "mining.submit", name, job, "zz" * 8, "00000000", f"{at & 0xFFFFFFFF:08x}", number=9))


def flood(gateway, end, did, line):
    at = 0
    while time.time() < end:
        try:
            client = sv1.connect(gateway, FLOODER)
            client.settimeout(5)
            file = client.makefile("rb")
            client.sendall(sv1.line("mining.subscribe", "flood/1"))
            while time.time() < end:
                at += 1
                client.sendall(line("flood", at))
                said = file.readline()
                while said and b'"id":9' not in said and b'"id": 9' not in said:
                    said = file.readline()
                did.append((time.time(), bool(said)))
                if not said:
                    break
            client.close()
        except OSError:
            did.append((time.time(), False))


def mine(gateway, end, honest):
    try:
        miner = sv1.Miner(gateway, "honest", HONEST)
        while time.time() < end:
            for submit in miner.submits():
                job, began = miner.job, time.time()
                miner.socket.sendall(submit)
                while True:
                    said = miner.hear()
                    if said.get("id") == 9:
                        break
                honest["slowest"] = max(honest["slowest"], time.time() - began)
                if said["result"]:
                    honest["accepted"] += 1
                elif miner.job is job:
                    honest["lost"].append(str(said["error"]))
                time.sleep(0.02)
                if miner.job is not job or time.time() > end:
                    break
    except (OSError, ValueError) as error:
        honest["lost"].append(f"connection: {error}")


if __name__ == "__main__":
    main()
