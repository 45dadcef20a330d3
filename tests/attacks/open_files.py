#!/usr/bin/env python3
"""What another user of the machine can read of a data_dir, and whether he can lock its ledger.
Run it as that user (`nobody`). Exit code 1: he can."""

import argparse
import fcntl
import os


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir")
    args = parser.parse_args()
    fell = []
    for folder, _, names in os.walk(args.data_dir):
        for name in names:
            path = os.path.join(folder, name)
            mode = os.stat(path).st_mode & 0o777
            # That file's mode is up to its owner.
            if mode & 0o077 and name != "gatewayd.toml":
                fell.append(f"{path} is {mode:o}")
            if name.endswith(".lock"):
                try:
                    with open(path, encoding="ascii") as lock:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        fell.append(f"{path} can be locked")
                except OSError as error:
                    print(f"{path}: {error}")
    print("\n".join(fell) or "nothing is open to others")
    raise SystemExit(bool(fell))


main()
