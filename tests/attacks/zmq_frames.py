#!/usr/bin/env python3
"""A hostile ZeroMQ publisher: each subscriber gets the next of its tricks.

Set zmq_hashblock of a [[node]] to the address given here and start gatewayd. It should drop each connection
at once, name the problem in its log and on its page, and keep following tips in other ways; its memory should
not grow.
"""

import argparse
import itertools
import socket
import struct
import time

GREETING = b"\xff" + bytes(8) + b"\x7f\x03\x01" + b"NULL".ljust(20, b"\0") + bytes(32)


def frame(flags, body, length=None):
    length = len(body) if length is None else length
    if length > 255:
        return struct.pack(">BQ", flags | 2, length) + body
    return bytes([flags, length]) + body


READY = frame(4, b"\x05READY\x0bSocket-Type" + struct.pack(">I", 3) + b"PUB")
OPEN = GREETING + READY
TOPIC = frame(1, b"hashblock")


def mechanism(name):
    return GREETING[:12] + name.ljust(20, b"\0") + bytes(32)


def endless(start, piece):
    return itertools.chain([start], itertools.repeat(piece))


def drip(data, pause):
    for byte in data:
        yield bytes([byte])
        time.sleep(pause)


ATTACKS = {
    "length": lambda: [OPEN + frame(2, b"", 1 << 40)],
    "length-max": lambda: [OPEN + frame(2, b"", (1 << 64) - 1)],
    "command-length": lambda: [OPEN + frame(6, b"", 1 << 40)],
    "multipart": lambda: endless(OPEN, TOPIC * 4096),
    "good-then-multipart": lambda: endless(OPEN + TOPIC, frame(1, bytes(32)) * 1024),
    "empty-frames": lambda: endless(OPEN, frame(1, b"") * 4096),
    "commands": lambda: endless(OPEN, frame(4, b"\x04PING\0\0") * 512),
    "blocks": lambda: endless(OPEN, (TOPIC + frame(1, b"\x5a" * 32) + frame(0, bytes(4))) * 64),
    "reserved": lambda: [OPEN + b"\xf8\x00"],
    "greeting": lambda: endless(b"\xff" + bytes(8) + b"\x7f\x03\x01", bytes(4096)),
    "greeting-drip": lambda: drip(GREETING, 0.5),
    "greeting-none": lambda: drip(b"", 0) if not time.sleep(8) else [],
    "curve": lambda: [mechanism(b"CURVE")],
    "plain": lambda: [mechanism(b"PLAIN")],
    "old": lambda: [GREETING[:10] + b"\x01"],
    "http": lambda: [b"HTTP/1.1 400 Bad Request\r\n\r\n"],
    "push": lambda: [GREETING + READY.replace(b"PUB", b"PUL")],
}


def serve(stream, attack):
    """How many bytes went out, and for how long the subscriber stayed."""
    sent, started = 0, time.monotonic()
    try:
        for piece in ATTACKS[attack]():
            stream.sendall(piece)
            sent += len(piece)
            if time.monotonic() - started > 20:
                return sent, None
        stream.settimeout(20)
        while stream.recv(4096):
            pass
    except TimeoutError:
        return sent, None
    except OSError:
        pass
    return sent, time.monotonic() - started


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("listen", nargs="?", default="127.0.0.1:28999", help="host:port to listen on")
    parser.add_argument("--attack", choices=ATTACKS, help="only this one, again and again")
    parser.add_argument("--times", type=int, default=len(ATTACKS), help="connections to serve")
    args = parser.parse_args()
    host, port = args.listen.rsplit(":", 1)
    listener = socket.create_server((host.strip("[]"), int(port)))
    print(f"zmq_hashblock = \"tcp://{args.listen}\"", flush=True)
    attacks = itertools.cycle([args.attack] if args.attack else ATTACKS)
    for attack in itertools.islice(attacks, args.times):
        stream, _ = listener.accept()
        with stream:
            stream.settimeout(20)
            sent, stayed = serve(stream, attack)
        how = "is still there after 20 s" if stayed is None else f"left after {stayed:.3f} s"
        print(f"{attack:20} {sent:>10} bytes sent, the subscriber {how}", flush=True)


if __name__ == "__main__":
    main()
