#!/usr/bin/env python3
"""An honest miner during an attack: how soon its shares are answered, and new tips reach it.

For a gateway with a tiny difficulty. With --tips, a file to which the node's tips are written, as `gatewayd
devnet node --block-every 500ms` prints them."""

import sys
import threading
import time

import sv1


def main():
    # Searching threads must not keep listening ones waiting: they share one interpreter.
    sys.setswitchinterval(0.0002)
    options = sv1.arguments(__doc__, tips=("", "file that `devnet node` writes to"), miners=(4, "miners"))
    end = time.time() + options.seconds
    tips, answers, told, lost = {}, [], [], []
    threads = [threading.Thread(target=mine, args=(options.gateway, at, end, answers, told, lost))
               for at in range(options.miners)]
    if options.tips:
        threads.append(threading.Thread(target=watch, args=(options.tips, end, tips)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    show("share to answer", answers)
    late = [at - tips[tip] for (tip, _), at in first_of(told).items() if tip in tips]
    show("tip to work", late)
    wanted = [tip for tip, at in tips.items() if at < end - 1]
    missed = sum(max(0, options.miners - sum(it == tip for it, _ in first_of(told))) for tip in wanted)
    print(f"tips that were not told: {missed} of {len(wanted) * options.miners}; not accepted: {len(lost)}")
    for why in sorted(set(lost)):
        print(f"  {lost.count(why):9} {why}")


def mine(gateway, at, end, answers, told, lost):
    try:
        miner = sv1.Miner(gateway, f"honest{at}")
        # In the long run vardiff asks for a share every few seconds, which this is slow to find.
        miner.socket.settimeout(120)
        pending = {}
        reader = (miner, end, pending, answers, told, lost)
        threading.Thread(target=listen, args=reader, daemon=True).start()
        while time.time() < end:
            job = miner.job
            for submit in miner.submits():
                # One at a time, but a lost answer is no reason to wait for ever.
                waited = time.time() + 5
                while pending and time.time() < min(waited, end):
                    time.sleep(0.001)
                pending["sent"] = (time.time(), job)
                miner.socket.sendall(submit)
                time.sleep(0.02)
                if miner.job is not job or time.time() > end:
                    break
    except (OSError, ValueError) as error:
        lost.append(f"connection: {error}")


def listen(miner, end, pending, answers, told, lost):
    try:
        while time.time() < end:
            said = miner.hear()
            now = time.time()
            if said.get("method") == "mining.notify":
                told.append(((tip_of(said["params"]), id(miner)), now))
            if said.get("id") == 9:
                began, job = pending.pop("sent", (now, None))
                answers.append(now - began)
                if not said["result"] and miner.job is job:
                    lost.append(str(said["error"][1]))
    except (OSError, ValueError) as error:
        lost.append(f"connection: {error}")


def first_of(told):
    """When each miner first got each tip: later jobs are on it too."""
    first = {}
    for tip_and_miner, at in told:
        first.setdefault(tip_and_miner, at)
    return first


def tip_of(params):
    words = bytes.fromhex(params[1])
    return b"".join(words[at : at + 4][::-1] for at in range(0, 32, 4))[::-1].hex()


def watch(path, end, tips):
    """When each tip appeared in the file: any word of a line that is a block's hash."""
    with open(path, encoding="utf-8") as file:
        file.seek(0, 2)
        while time.time() < end:
            text = file.readline()
            if not text:
                time.sleep(0.0005)
                continue
            for word in text.replace("=", " ").split():
                if len(word) == 64:
                    tips.setdefault(word, time.time())


def show(what, times):
    if not times:
        return print(f"{what}: none")
    times.sort()
    at = lambda part: times[min(len(times) - 1, int(part * len(times)))] * 1000
    print(f"{what}: p50 {at(0.5):.1f} ms, p95 {at(0.95):.1f} ms, p99 {at(0.99):.1f} ms, "
          f"max {times[-1] * 1000:.1f} ms ({len(times)})")


if __name__ == "__main__":
    main()
