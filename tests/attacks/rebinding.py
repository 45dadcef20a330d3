#!/usr/bin/env python3
"""What a stranger's page gets whose name suddenly resolves to the gateway (DNS rebinding), or that only
sends. Nothing but health should be answered. Exit code 1: something was."""

import argparse
import http.client


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="of the API, host:port")
    args = parser.parse_args()
    fell = []
    paths = ["/", "/api/v1/status", "/api/v1/miners", "/api/v1/config", "/metrics", "/NOTIFY"]
    for path in paths:
        for headers in [{"Host": "evil.example"}, {"Host": "evil.example:7152", "Origin": "http://evil.example:7152"}]:
            status = ask(args.address, "GET", path, headers)
            print(f"{status} GET {path} {headers}")
            fell += [path] if status != 403 else []
    for headers in [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Sec-Fetch-Site": "cross-site"}, {"Sec-Fetch-Site": "same-site"}]:
        status = ask(args.address, "POST", "/NOTIFY", headers)
        print(f"{status} POST /NOTIFY {headers}")
        fell += ["/NOTIFY"] if status != 403 else []
    print(f"{ask(args.address, 'GET', '/healthz', {'Host': 'evil.example'})} GET /healthz, which is for all")
    print(f"fell: {fell}")
    raise SystemExit(bool(fell))


def ask(address, method, path, headers):
    connection = http.client.HTTPConnection(address, timeout=10)
    connection.request(method, path, headers=headers)
    return connection.getresponse().status


main()
