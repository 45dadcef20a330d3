#!/usr/bin/env python3
"""Stratum V2 connections that open a channel, take the first job (up to 16 kB for 128 bytes) and hang up,
without pause, with honest miners beside (honest.py).

Speaks by way of `gatewayd devnet load --churn`: --gatewayd names the program. The attack has worked if an
honest miner's share is lost, or if logins go on as fast at the end as the machine can."""

import os
import re
import subprocess
import sys

import sv1


def main():
    options = sv1.arguments(
        __doc__, gatewayd=("target/release/gatewayd", "the program"), miners=(200, "connections at once"),
        most=(1000, "logins a second that may get through, in the long run")
    )
    here = os.path.dirname(os.path.abspath(__file__))
    seconds = f"{options.seconds:g}"
    honest = subprocess.Popen(
        [sys.executable, os.path.join(here, "honest.py"), options.gateway, "--for", seconds],
        stdout=subprocess.PIPE, text=True)
    # From 127.0.0.2 and 127.0.0.3: limits leave 127.0.0.1 alone.
    churn = subprocess.run(
        [options.gatewayd, "devnet", "load", "--protocol", "sv2-extended", "--connect", options.gateway,
         "--miners", str(options.miners), "--churn", "--in-flight", "0", "--sources", "2", "--for", f"{seconds}s"],
        capture_output=True, text=True)
    said = honest.communicate()[0]
    print(churn.stdout or churn.stderr)
    print(said)
    if "not accepted: 0" not in said:
        sys.exit("an honest miner lost shares")
    rate = re.search(r"logins per second\D*(\d+)", churn.stdout)
    if rate and int(rate[1]) > options.most and options.seconds >= 120:
        sys.exit("logins are not held down")


if __name__ == "__main__":
    main()
