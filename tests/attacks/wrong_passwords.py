#!/usr/bin/env python3
"""Strangers behind the owner's proxy guess passwords (X-Forwarded-For names them); then the owner signs in,
through the same proxy and from this machine. Also shows how many log lines the guesses cost (--log). Exit
code 1: the owner was locked out for more than two seconds.
"""

import argparse
import http.client
import json
import os
import time


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="of the API, host:port")
    parser.add_argument("password", help="the right one")
    parser.add_argument("--guesses", type=int, default=60)
    parser.add_argument("--log", help="gatewayd's log: how much it grows")
    args = parser.parse_args()
    size = os.path.getsize(args.log) if args.log else 0
    seen = {}
    for number in range(args.guesses):
        client = f"203.0.113.{number % 8}" if number % 2 else None
        status = login(args.address, "wrong guess", client)
        seen[status] = seen.get(status, 0) + 1
    print(f"guesses: {seen}")
    if args.log:
        print(f"the log grew by {os.path.getsize(args.log) - size} bytes")
    worst = 0.0
    for client in ["192.168.1.7", None]:
        began = time.monotonic()
        while login(args.address, args.password, client) != 200 and time.monotonic() - began < 60:
            time.sleep(0.2)
        waited = time.monotonic() - began
        print(f"the owner as {client or 'this machine'} is in after {waited:.1f} s")
        worst = max(worst, waited)
    raise SystemExit(worst > 2)


def login(address, password, client):
    connection = http.client.HTTPConnection(address, timeout=10)
    headers = {"Content-Type": "application/json"}
    if client:
        headers["X-Forwarded-For"] = client
    connection.request("POST", "/api/v1/session", json.dumps({"password": password}), headers)
    return connection.getresponse().status


main()
