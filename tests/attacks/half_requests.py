#!/usr/bin/env python3
"""Half-sent requests take the API's connections; then others ask for /healthz and a page.

They should be answered at once, even from the attacker's own machine. Exit code 1: they were not.
"""

import argparse
import socket
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="of the API, host:port")
    parser.add_argument("--connections", type=int, default=512)
    args = parser.parse_args()
    address = where(args.address)
    half = []
    for number in range(args.connections):
        connection = socket.create_connection(address, 5)
        connection.sendall([b"GET / HTTP/1.1\r\nHost: x\r\n", b"G", b""][number % 3])
        half.append(connection)
    worst = 0.0
    answered = 0
    tries = ["/healthz", "/readyz", "/api/v1/status", "/"] * 10
    for path in tries:
        began = time.monotonic()
        answered += ask(address, path) is not None
        worst = max(worst, time.monotonic() - began)
    print(f"{len(half)} half requests; {answered} of {len(tries)} others answered, the slowest in {worst:.3f} s")
    raise SystemExit(answered < len(tries))


def where(text):
    host, _, port = text.rpartition(":")
    return host.strip("[]"), int(port)


def ask(address, path):
    try:
        with socket.create_connection(address, 5) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n".encode())
            return connection.recv(4096) or None
    except OSError:
        return None


main()
