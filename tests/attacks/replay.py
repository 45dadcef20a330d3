#!/usr/bin/env python3
"""Finds a few shares and sends them again and again (9.8 million were accepted once), or, with --fresh, sends
fresh ones as fast as it finds them, whatever difficulty it is sent.

For a gateway with a tiny difficulty (stratum.difficulty_start = 1e-9)."""

import sys
import threading
import time

import sv1


def main():
    options = sv1.arguments(__doc__, shares=(20000, "shares to find first"), fresh=(0, "1: none twice"))
    miner = sv1.Miner(options.gateway, "replay")
    threading.Thread(target=listen, args=(miner,), daemon=True).start()
    end, sent = time.time() + options.seconds, 0
    found = []
    for submit in miner.submits():
        found.append(submit)
        miner.socket.sendall(submit)
        sent += 1
        if time.time() > end or len(found) >= options.shares and not options.fresh:
            break
    batches = [b"".join(found[at : at + 100]) for at in range(0, len(found), 100)]
    try:
        while time.time() < end:
            for batch in batches:
                miner.socket.sendall(batch)
                sent += batch.count(b"\n")
                if time.time() > end:
                    break
    except OSError as error:
        print(f"the gateway ended it: {error}")
    time.sleep(2)
    print(f"found {len(found)} shares, sent {sent}, difficulty at the end {miner.difficulty}")
    for why, count in sorted(miner.answers.items()):
        print(f"  {count:9} {why}")
    if miner.answers.get("accepted", 0) > len(found):
        sys.exit("more were accepted than found: replays count")
    print("no replay was accepted")


def listen(miner):
    try:
        while True:
            miner.hear()
    except (OSError, ValueError) as error:
        print(f"heard no more: {error}")


if __name__ == "__main__":
    main()
