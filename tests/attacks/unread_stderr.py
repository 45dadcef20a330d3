#!/usr/bin/env python3
"""Starts gatewayd with a standard error that nobody reads, causes lines in its log, and checks that it still
answers. GATEWAYD_LOG__LEVEL=debug logs a line per request. Exit code 1: it hangs.
"""

import argparse
import os
import socket
import subprocess
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="of the API, as api.listen in CONFIG has it, host:port")
    parser.add_argument("gatewayd", help="the program")
    parser.add_argument("config")
    parser.add_argument("--requests", type=int, default=20_000)
    args = parser.parse_args()
    host, _, port = args.address.rpartition(":")
    address = (host.strip("[]"), int(port))
    env = {**os.environ, "GATEWAYD_LOG__LEVEL": "debug", "NO_COLOR": "1"}
    command = [args.gatewayd, "--config", args.config, "run"]
    run = subprocess.Popen(command, stderr=subprocess.PIPE, env=env)
    try:
        deadline = time.monotonic() + 20
        while not ask(address, b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"):
            if time.monotonic() > deadline:
                raise SystemExit("it does not answer at all")
            time.sleep(0.1)
        for number in range(args.requests):
            if not ask(address, b"no HTTP\r\n\r\n"):
                print(f"it hangs after {number} requests")
                raise SystemExit(1)
        print(f"it answers after {args.requests} requests")
        metrics = ask(address, b"GET /metrics HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        for line in metrics.decode().splitlines():
            if line.startswith("gatewayd_log_lines_dropped_total"):
                print(line)
    finally:
        run.kill()
        run.wait()


def ask(address, request):
    try:
        with socket.create_connection(address, 5) as connection:
            connection.settimeout(5)
            connection.sendall(request)
            answer = b""
            while more := connection.recv(65536):
                answer += more
                if not request.startswith(b"GET /metrics"):
                    break
            return answer
    except OSError:
        return b""


main()
