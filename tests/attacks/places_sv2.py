#!/usr/bin/env python3
"""Stratum V2 channels without a share take every place they can get: four connections of 5,000 once held all
of them for two hours. Then newcomers from elsewhere try to mine.

Uses `gatewayd devnet load`: --gatewayd names the program. The attack has worked if no newcomer gets work."""

import subprocess
import sys
import time

import sv1


def main():
    options = sv1.arguments(
        __doc__, gatewayd=("target/release/gatewayd", "the program"), miners=(20000, "channels"),
        sources=(4, "loopback addresses to come from"))
    crowd = subprocess.Popen(
        [options.gatewayd, "devnet", "load", "--connect", options.gateway, "--protocol", "sv2-extended",
         "--miners", str(options.miners), "--channels-per-connection", "5000", "--sources", str(options.sources),
         "--in-flight", "0", "--for", f"{options.seconds:g}s"],
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        time.sleep(options.seconds / 2)
        came = 0
        for at in range(10):
            try:
                newcomer = sv1.Miner(options.gateway, f"newcomer{at}", f"127.1.{2 + at}.1")
                newcomer.socket.close()
                came += 1
            except OSError as error:
                print(f"newcomer {at}: {error}")
    finally:
        crowd.terminate()
        crowd.wait(30)
    print(f"of 10 newcomers from elsewhere, {came} got work by Stratum V1")
    if came == 0:
        sys.exit("nobody else can mine here")


if __name__ == "__main__":
    main()
