#!/usr/bin/env python3
"""Takes every place it can get, from a few addresses, and sends no share; a newcomer then tries to mine. Four
connections once held all places for two hours, with Stratum V2's channels; for those:

  gatewayd devnet load --protocol sv2-extended --connect HOST:PORT --miners 20000 \\
    --channels-per-connection 5000 --sources 4 --in-flight 0 --for 600s

Needs more open files than connections (ulimit -n)."""

import sys
import time

import sv1


def main():
    options = sv1.arguments(
        __doc__, connections=(2000, "connections"), sources=(4, "loopback addresses to come from")
    )
    held, refused = [], 0
    for at in range(options.connections):
        try:
            client = sv1.connect(options.gateway, f"127.0.1.{1 + at % options.sources}")
            client.sendall(sv1.line("mining.subscribe", "places/1"))
            held.append(client)
        except OSError:
            refused += 1
    time.sleep(1)
    print(f"{len(held)} connected, {refused} refused, {ended(held)} of them closed by the gateway")
    came = 0
    for at in range(20):
        try:
            newcomer = sv1.Miner(options.gateway, f"newcomer{at}", f"127.0.{2 + at}.1")
            came += 1
            newcomer.socket.close()
        except OSError as error:
            print(f"newcomer {at}: {error}")
    print(f"of 20 newcomers from elsewhere, {came} got work")
    time.sleep(options.seconds)
    print(f"after {options.seconds:g} s, {ended(held)} of those without a share are closed")
    if came == 0:
        sys.exit("nobody else can mine here")


def ended(clients):
    count = 0
    for client in clients:
        client.setblocking(False)
        try:
            while client.recv(65536):
                pass
            count += 1
        except BlockingIOError:
            pass
        except OSError:
            count += 1
    return count


if __name__ == "__main__":
    main()
