#!/usr/bin/env python3
"""Connections that send empty lines without pause: 64 of them once held up a new tip for 7.7 s."""

import selectors
import sys
import threading
import time

import sv1


def main():
    options = sv1.arguments(__doc__, connections=(64, "connections"))
    watch = selectors.DefaultSelector()
    for _ in range(options.connections):
        client = sv1.connect(options.gateway)
        client.sendall(sv1.line("mining.subscribe", "newlines/1"))
        client.setblocking(False)
        watch.register(client, selectors.EVENT_READ | selectors.EVENT_WRITE)
    lines, sent, closed = b"\n" * 65536, 0, 0
    end = time.time() + options.seconds
    answers = []
    threading.Thread(target=ping, args=(options.gateway, end, answers), daemon=True).start()
    while time.time() < end and watch.get_map():
        for key, events in watch.select(1):
            try:
                if events & selectors.EVENT_READ and not key.fileobj.recv(65536):
                    raise ConnectionError
                if events & selectors.EVENT_WRITE:
                    sent += key.fileobj.send(lines)
            except BlockingIOError:
                pass
            except OSError:
                watch.unregister(key.fileobj)
                closed += 1
    rate = sent / options.seconds / 1e6
    print(f"{options.connections} connections, {rate:.1f} million empty lines a second, {closed} closed")
    answers.sort()
    if not answers or answers[-1] > 1:
        sys.exit(f"somebody else waited for {answers[-1] if answers else options.seconds:.1f} s")
    print(f"somebody else waited for {answers[-1] * 1000:.0f} ms at most, {len(answers)} times")


def ping(gateway, end, answers):
    """Another client's requests, and how soon they are answered."""
    client = sv1.connect(gateway)
    file = client.makefile("rb")
    while time.time() < end:
        began = time.time()
        client.sendall(sv1.line("mining.ping"))
        if not file.readline():
            return
        answers.append(time.time() - began)
        time.sleep(0.02)


if __name__ == "__main__":
    main()
