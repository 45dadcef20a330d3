#!/usr/bin/env python3
"""Connections that send empty lines without pause: 64 of them once held a new tip up by 7.7 s."""

import selectors
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


if __name__ == "__main__":
    main()
