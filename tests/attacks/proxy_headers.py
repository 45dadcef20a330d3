#!/usr/bin/env python3
"""Floods of PROXY headers. Through a trusted proxy (127.0.3.1): half headers that are held, version 2 headers
with 64 KiB of fields, malformed headers, endless headers. From others (127.0.1.1): headers that claim an
address. At the same time miners connect through the proxy and directly.

For a gateway with stratum.trusted_proxies = ["127.0.3.0/24"]. The attack has worked if an untrusted peer is
believed or served, if the miners are not answered within two seconds (p95), or if half headers are waited for
longer than five seconds (seen with --for 10 and more)."""

import socket
import struct
import sys
import threading
import time

import sv1

PROXY, STRANGER, HONEST = "127.0.3.1", "127.0.1.1", "127.0.2.1"
V2 = b"\r\n\r\n\0\r\nQUIT\n"
SUBSCRIBE = sv1.line("mining.subscribe", "proxied/1")
HALF = [b"P", b"PROXY TCP4 192.0.2.7 10.0.0.1", V2[:5], V2 + b"\x21\x11\x00\x0c\xc0"]


def main():
    options = sv1.arguments(__doc__, connections=(600, "half headers that are held"), threads=(2, "of each kind"))
    end = time.time() + options.seconds
    held = []
    for at in range(options.connections):
        try:
            client = sv1.connect(options.gateway, PROXY)
            client.sendall(HALF[at % len(HALF)])
            held.append(client)
        except OSError:
            pass
    count, served, waits, lost = {}, [], {"by way of the proxy": [], "without it": []}, []
    threads = [threading.Thread(target=flood, args=(options.gateway, kind, end, count, served))
               for kind in FLOODS for _ in range(options.threads)]
    threads += [threading.Thread(target=mine, args=(options.gateway, way, end, waits[way], lost)) for way in waits]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stay = sum(not sv1.has_ended(client) for client in held)
    print(", ".join(f"{count.get(kind, 0) / options.seconds:.0f} {kind}/s" for kind in FLOODS))
    print(f"of {len(held)} half headers {stay} are waited for after {options.seconds:g} s")
    worst = 0
    for way, times in waits.items():
        times.sort()
        p95 = times[min(len(times) - 1, int(0.95 * len(times)))] if times else float("inf")
        print(f"a miner {way} was answered {len(times)} times, p95 {p95 * 1000:.0f} ms")
        worst = max(worst, p95)
    print(f"lost: {lost[:3] or 'none'}; served by mistake: {sorted(set(served)) or 'nobody'}")
    if served:
        sys.exit("an untrusted peer is served, or one without a valid header")
    if worst > 2 or lost:
        sys.exit("miners are kept out")
    if options.seconds > 9 and stay:
        sys.exit("half headers are waited for endlessly")


def v1(source="192.0.2.7"):
    return f"PROXY TCP4 {source} 10.0.0.1 4711 23334\r\n".encode()


def v2(source="192.0.2.7", fields=b""):
    addresses = socket.inet_aton(source) + socket.inet_aton("10.0.0.1") + struct.pack(">HH", 4711, 23334)
    return V2 + b"\x21\x11" + struct.pack(">H", len(addresses) + len(fields)) + addresses + fields


def fields(length):
    """PP2_TYPE_NOOP fields of the maximum length."""
    out = b""
    while len(out) + 3 < length:
        part = min(length - len(out) - 3, 4096)
        out += b"\x04" + struct.pack(">H", part) + bytes(part)
    return out


# From where, and what is sent; none of it may be answered.
FLOODS = {
    "64-KiB": (PROXY, v2(fields=fields(65535 - 12)) + SUBSCRIBE),
    "garbled": (PROXY, b"PROXY TCP4 ::1 999.0.0.1 x -1\r\n" + SUBSCRIBE),
    "endless": (PROXY, b"PROXY TCP6 " + b":" * 65536 + b"\r\n" + SUBSCRIBE),
    "none": (PROXY, SUBSCRIBE),
    "twice": (PROXY, v1() + v1("127.0.0.1") + SUBSCRIBE),
    "spoofed-1": (STRANGER, v1("127.0.0.1") + SUBSCRIBE),
    "spoofed-2": (STRANGER, v2("127.0.0.1") + SUBSCRIBE),
}


def flood(gateway, kind, end, count, served):
    source, said = FLOODS[kind]
    while time.time() < end:
        try:
            with sv1.connect(gateway, source) as client:
                client.settimeout(3)
                client.sendall(said)
                if b"result\":[[" in client.recv(4096).replace(b" ", b""):
                    served.append(kind)
        except OSError:
            pass
        count[kind] = count.get(kind, 0) + 1


def mine(gateway, way, end, waits, lost):
    is_proxied, at = way == "by way of the proxy", 0
    while time.time() < end:
        at, began = at + 1, time.time()
        try:
            with sv1.connect(gateway, PROXY if is_proxied else HONEST) as client:
                head = (v1, v2)[at % 2](f"192.0.2.{1 + at % 200}") if is_proxied else b""
                client.sendall(head + SUBSCRIBE)
                if not client.recv(1):
                    raise ConnectionError("closed")
            waits.append(time.time() - began)
        except OSError as error:
            lost.append(f"{way}: {error}")
        time.sleep(0.1)


if __name__ == "__main__":
    main()
