#!/usr/bin/env python3
"""A node that lies about its chain, in front of a real regtest node whose answers it changes.

Configure it as an additional [[node]] of a gatewayd that also has the real one. gatewayd should keep using
the real node's work, and name the liar in its log and on its page.
"""

import argparse
import base64
import http.server
import json
import pathlib
import urllib.request

ALL_WORK = "f" * 64
TIP = "0" * 8 + "ab" * 28


def header(real, lie):
    told = dict(real, hash=TIP, height=real["height"] + 1, confirmations=1, chainwork=ALL_WORK)
    if lie == "unshown":
        for name in ("merkleroot", "nonce", "previousblockhash"):
            told.pop(name, None)
    else:
        told["previousblockhash"] = real["hash"]
    return told


class Liar(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    calls = 0

    def ask(self, method, params):
        body = json.dumps({"id": 0, "method": method, "params": params}).encode()
        request = urllib.request.Request(self.server.node, body)
        login = base64.b64encode(self.server.login.encode()).decode()
        request.add_header("Authorization", "Basic " + login)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return json.load(answer)["result"], None
        except urllib.error.HTTPError as error:
            return None, json.load(error)["error"]

    def lie(self, method, params):
        lie = self.server.lie
        if lie in ("work", "unshown"):
            if method == "getbestblockhash":
                return TIP, None
            if method == "getblockheader" and params and params[0] == TIP:
                best, _ = self.ask("getbestblockhash", [])
                return header(self.ask("getblockheader", [best])[0], lie), None
            if method == "waitforblockheight":
                return None, {"code": -32601, "message": "Method not found"}
        result, error = self.ask(method, params)
        if method == "getblockheader" and result and lie == "chainwork":
            result["chainwork"] = ALL_WORK
        if method == "getblocktemplate" and isinstance(result, dict):
            if lie in ("work", "unshown"):
                result.update(previousblockhash=TIP, height=result["height"] + 1)
            changes = {
                "clock-2106": {"curtime": 0xFFFFFFFF},
                "clock-0": {"curtime": 0, "mintime": 0},
                "future": {"curtime": 0xFFFFFFF0, "mintime": 0xFFFFFFF0},
                "coinbase": {"coinbasevalue": result["coinbasevalue"] * 2},
                "height": {"height": result["height"] + 100},
                "bits": {"bits": "1d00ffff"},
            }
            result.update(changes.get(lie, {}))
        return result, error

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        result, error = self.lie(body["method"], body.get("params") or [])
        answer = json.dumps({"result": result, "error": error, "id": body.get("id")}).encode()
        Liar.calls += 1
        if body["method"] == "getblocktemplate":
            print(f"{Liar.calls} calls; a template was asked for, and lied about: {self.server.lie}")
        self.send_response(500 if error else 200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_):
        pass


LIES = ["work", "unshown", "chainwork", "clock-2106", "clock-0", "future", "coinbase", "height", "bits"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("node", help="host:port of the real node's RPC")
    parser.add_argument("lie", choices=LIES)
    parser.add_argument("--login", help="user:password, or the path of the cookie file", required=True)
    parser.add_argument("--listen", default="127.0.0.1:28998", help="host:port")
    args = parser.parse_args()
    host, port = args.listen.rsplit(":", 1)
    server = http.server.ThreadingHTTPServer((host, int(port)), Liar)
    path = pathlib.Path(args.login)
    server.login = path.read_text().strip() if path.is_file() else args.login
    server.node, server.lie = f"http://{args.node}/", args.lie
    print(f"[[node]]\nrpc_url = \"http://{args.listen}\"\nrpc_user = \"u\"\nrpc_password = \"p\"")
    try:
        server.serve_forever()
    except KeyboardInterrupt:
        print(f"{Liar.calls} calls in all")


if __name__ == "__main__":
    main()
