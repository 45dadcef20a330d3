#!/usr/bin/env python3
"""Event streams that nobody reads take up all places; then a dashboard opens one.

It should get its events. With --path /api/v1/miners it does the same with long answers: watch gatewayd's
memory (--pid). Exit code 1: the dashboard was turned away.
"""

import argparse
import socket
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="of the API, host:port")
    parser.add_argument("--connections", type=int, default=100)
    parser.add_argument("--path", default="/api/v1/events")
    parser.add_argument("--pid", type=int, help="of gatewayd, to show its memory")
    args = parser.parse_args()
    host, _, port = args.address.rpartition(":")
    address = (host.strip("[]"), int(port))
    before = memory(args.pid)
    unread = []
    for _ in range(args.connections):
        connection = socket.socket()
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(5)
        connection.connect(address)
        try:
            # Several requests: the next answer is made as soon as one has been sent.
            connection.sendall(request(args.path) * (1 if "events" in args.path else 8))
            unread.append(connection)
        except OSError:
            pass
    time.sleep(5)
    with socket.create_connection(address, 5) as dashboard:
        dashboard.settimeout(10)
        dashboard.sendall(request("/api/v1/events"))
        answer = b""
        try:
            while b"event: status" not in answer:
                more = dashboard.recv(65536)
                if not more:
                    break
                answer += more
        except OSError:
            pass
    print(f"{len(unread)} do not read {args.path}; a dashboard heard: {answer[:40]!r}")
    if args.pid:
        print(f"memory {before} -> {memory(args.pid)} MiB")
    raise SystemExit(b"event: status" not in answer)


def request(path):
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode()


def memory(pid):
    if not pid:
        return None
    with open(f"/proc/{pid}/status", encoding="ascii") as status:
        return next(int(line.split()[1]) // 1024 for line in status if line.startswith("VmRSS"))


main()
