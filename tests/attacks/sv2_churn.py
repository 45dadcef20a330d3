#!/usr/bin/env python3
"""Stratum V2 connections that open a channel, take the first job (up to 16 kB for 128 bytes) and hang up,
without pause, alongside honest miners (honest.py).

Uses `gatewayd devnet load --churn`: --gatewayd names the program. The allowed burst (a minute's worth) is let
through, so the churn first runs for --for seconds, and is then measured for ten more. The attack has worked
if an honest miner's share is lost, or if more logins then get through than --most, which is what
limits.logins_per_minute allows two addresses."""

import os
import re
import subprocess
import sys

import sv1

LAST = 10


def main():
    options = sv1.arguments(
        __doc__, gatewayd=("target/release/gatewayd", "the program"), miners=(200, "connections at once"),
        most=(1000, "logins a second that may get through in the end"))
    here = os.path.dirname(os.path.abspath(__file__))
    honest = subprocess.Popen(
        [sys.executable, os.path.join(here, "honest.py"), options.gateway, "--for", f"{options.seconds + LAST:g}"],
        stdout=subprocess.PIPE, text=True)
    first, last = churn(options, options.seconds), churn(options, LAST)
    said = honest.communicate()[0]
    print(said)
    print(f"logins that got through: {first} a second in the first {options.seconds:g} s, {last} in the last {LAST}")
    if "not accepted: 0" not in said:
        sys.exit("an honest miner lost shares")
    if last > options.most:
        sys.exit("logins are not held down")


def churn(options, seconds):
    # From 127.0.0.2 and 127.0.0.3: limits do not apply to 127.0.0.1.
    ran = subprocess.run(
        [options.gatewayd, "devnet", "load", "--protocol", "sv2-extended", "--connect", options.gateway,
         "--miners", str(options.miners), "--churn", "--in-flight", "0", "--sources", "2", "--for", f"{seconds:g}s"],
        capture_output=True, text=True)
    print(ran.stdout or ran.stderr)
    rate = re.search(r"logins per second\D*(\d+)", ran.stdout)
    # A banned run ends with an error.
    return int(rate[1]) if rate else 0


if __name__ == "__main__":
    main()
