#!/usr/bin/env python3
"""log.format = "journald": what arrives at the journal's socket, and what happens without one.

    journal.py GATEWAYD
"""

import os
import pathlib
import signal
import socket
import struct
import subprocess
import sys
import tempfile

SOCKET = pathlib.Path("/run/systemd/journal/socket")
CONFIG = """
[[node]]
rpc_url = "http://127.0.0.1:1"
[mining]
address = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"
[stratum]
listen = ["127.0.0.1:0"]
[api]
listen = ""
[ledger]
data_dir = "{folder}"
[log]
format = "journald"
"""


def main():
    if SOCKET.exists():
        print("packaging: this machine has a journal, so ours is not tested")
        return
    with tempfile.TemporaryDirectory() as folder:
        config = pathlib.Path(folder) / "gatewayd.toml"
        config.write_text(CONFIG.format(folder=folder))
        command = [sys.argv[1], "--config", str(config), "run"]
        run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
        first = run.stderr.readline()
        assert "WARN" in first and "no journal to write to" in first, first
        assert "gatewayd starts" in run.stderr.readline()
        stop(run)

        SOCKET.parent.mkdir(parents=True, exist_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as journal:
            journal.bind(str(SOCKET))
            journal.settimeout(20)
            try:
                run = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
                entries = []
                while not any(b"no work from the node" in it.get("MESSAGE", b"") for it in entries):
                    entries.append(entry(journal.recv(65536)))
                stop(run)
                assert run.stderr.read() == "", "the journal had it, and standard error too"
            finally:
                SOCKET.unlink()
    (starts,) = (it for it in entries if it.get("MESSAGE") == b"gatewayd starts")
    assert starts["PRIORITY"] == b"6" and starts["F_VERSION"], starts
    assert starts["SYSLOG_IDENTIFIER"] == b"gatewayd", starts
    assert entries[-1]["PRIORITY"] == b"4" and entries[-1]["F_NODE"] == b"127.0.0.1:1", entries[-1]


def stop(run):
    os.kill(run.pid, signal.SIGTERM)
    assert run.wait(20) == 0


def entry(datagram):
    """Fields of the journal's own protocol: KEY=value, or KEY, a length and the value."""
    fields = {}
    while datagram:
        line, datagram = datagram.split(b"\n", 1)
        if b"=" in line:
            key, value = line.split(b"=", 1)
        else:
            key, (length,) = line, struct.unpack("<Q", datagram[:8])
            value, datagram = datagram[8 : 8 + length], datagram[8 + length + 1 :]
        fields[key.decode()] = value
    return fields


main()
