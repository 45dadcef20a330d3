#!/usr/bin/env python3
"""Clients that send requests and do not read the answers: 500 of them once cost the machine all its socket
memory, 8 MiB each. Reports the kernel's memory for TCP before, during and after; meant for a gateway on this
machine (the clients' own part is kept small)."""

import pathlib
import selectors
import socket
import sys
import time

import sv1


def main():
    options = sv1.arguments(__doc__, connections=(500, "clients"))
    before = memory()
    host, _, port = options.gateway.rpartition(":")
    watch = selectors.DefaultSelector()
    clients = []
    for _ in range(options.connections):
        client = socket.socket()
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        client.connect((host, int(port)))
        client.setblocking(False)
        watch.register(client, selectors.EVENT_WRITE)
        clients.append(client)
    asked = sv1.line("mining.subscribe", "deaf/1") + sv1.line("mining.extranonce.subscribe") * 500
    sent, cut, most = 0, 0, 0
    end = time.time() + options.seconds
    while time.time() < end and watch.get_map():
        for key, _ in watch.select(0.5):
            try:
                sent += key.fileobj.send(asked)
            except BlockingIOError:
                pass
            except OSError:
                watch.unregister(key.fileobj)
                cut += 1
        most = max(most, memory())
    for client in clients:
        client.close()
    time.sleep(1)
    each = (most - before) / options.connections / 1024
    print(f"{options.connections} clients sent {sent / 1e6:.1f} MB and read nothing; {cut} were cut off")
    print(f"kernel memory for TCP: {before >> 20} MiB before, {most >> 20} MiB at most, "
          f"{memory() >> 20} MiB after: {each:.0f} KiB for each")
    if each > 512:
        sys.exit("a client that does not read costs too much")


def memory():
    """Memory of all TCP sockets, in bytes."""
    for text in pathlib.Path("/proc/net/sockstat").read_text().splitlines():
        if text.startswith("TCP:"):
            return int(text.split()[-1]) * 4096
    return 0


if __name__ == "__main__":
    main()
