#!/usr/bin/env python3
"""The dashboard's cookie, as a program on another port of the host gets it from the browser: what it is worth
on its own. Needs the admin password to play the browser. Exit code 1: it opens something.
"""

import argparse
import http.client
import json


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="of the API, host:port")
    parser.add_argument("password")
    args = parser.parse_args()
    origin = f"http://{args.address}"
    status, headers, body = ask(
        args.address, "POST", "/api/v1/session", {"Origin": origin}, {"password": args.password}
    )
    if status != 200:
        raise SystemExit(f"cannot sign in: {status} {body}")
    cookie = headers["set-cookie"].split(";")[0]
    token = json.loads(body)["csrf_token"]
    stolen = {"Cookie": cookie}
    fell = []
    _, _, body = ask(args.address, "GET", "/api/v1/session", stolen)
    print(f"the session by the cookie alone: {body}")
    fell += ["token"] if json.loads(body)["csrf_token"] else []
    token_seen = json.loads(body)["csrf_token"] or ""
    for method, path, more in [
        ("GET", "/api/v1/config", {}),
        ("POST", "/api/v1/notify", {"X-CSRF-Token": token_seen}),
        ("POST", "/api/v1/notify", {"X-CSRF-Token": token, "Origin": "http://localhost:8080"}),
    ]:
        status, _, _ = ask(args.address, method, path, {**stolen, **more})
        print(f"{status} {method} {path} {sorted(more)}")
        fell += [path] if status == 200 else []
    status, _, _ = ask(
        args.address, "POST", "/api/v1/notify", {**stolen, "X-CSRF-Token": token, "Origin": origin}
    )
    print(f"{status} for the page itself; fell: {fell}")
    raise SystemExit(bool(fell) or status != 200)


def ask(address, method, path, headers, json_body=None):
    connection = http.client.HTTPConnection(address, timeout=10)
    body = None if json_body is None else json.dumps(json_body)
    if body:
        headers = {**headers, "Content-Type": "application/json"}
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    return answer.status, dict((k.lower(), v) for k, v in answer.getheaders()), answer.read().decode()


main()
