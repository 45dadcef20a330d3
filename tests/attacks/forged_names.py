#!/usr/bin/env python3
"""A Stratum V1 miner whose user agent and user names forge log lines, colour terminals and reverse text.
Reports how the API shows them (--api) and what of it is raw in a log (--log). Exit code 1: something is."""

import argparse
import http.client
import json
import socket

EVIL = "bc1q\n2026-01-01T00:00:00Z  INFO block found \x1b[31m\x1b]0;owned\x07\u202egnp.exe\u2066\x9b2J"
RAW = ["\x1b]0;", "\u202e", "\u2066", "\x9b", "\n2026-01-01T00:00:00Z  INFO block found"]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="of Stratum, host:port")
    parser.add_argument("--api", help="host:port of the API")
    parser.add_argument("--log", help="gatewayd's log")
    args = parser.parse_args()
    host, _, port = args.address.rpartition(":")
    miner = socket.create_connection((host.strip("[]"), int(port)), 5)
    for number, (method, params) in enumerate(
        [
            ("mining.subscribe", [EVIL]),
            ("mining.authorize", [EVIL, "x"]),
            ("mining.submit", [EVIL, "0", "00000000", "00000000", "00000000"]),
            ("mining." + EVIL, []),
        ]
    ):
        line = json.dumps({"id": number, "method": method, "params": params})
        miner.sendall(line.encode() + b"\n")
    miner.settimeout(3)
    print(f"Stratum: {miner.recv(65536)[:80]!r}")
    fell = []
    if args.api:
        connection = http.client.HTTPConnection(args.api, timeout=5)
        connection.request("GET", "/api/v1/miners")
        for one in json.loads(connection.getresponse().read())["miners"]:
            text = one["user_agent"] + "".join(one["workers"])
            print(f"API: {text!r}")
            fell += [raw for raw in RAW if raw in text]
    miner.close()
    if args.log:
        with open(args.log, encoding="utf-8", errors="surrogateescape", newline="") as log:
            text = log.read()
        fell += [raw for raw in RAW if raw in text]
    print(f"raw: {fell}")
    raise SystemExit(bool(fell))


main()
