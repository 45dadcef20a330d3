"""Every request comes from a client of its own, as from machines all over a network.

Wrong passwords are counted by address, and schemathesis tries many: from one address it would see
nothing but 429 after the first few. All of 127.0.0.0/8 is this machine.
"""

import itertools

import urllib3.connection
import urllib3.connectionpool

NUMBERS = itertools.count(2)
connect = urllib3.connection.HTTPConnection.connect


def connect_from_another(self):
    number = next(NUMBERS)
    self.source_address = (f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}", 0)
    return connect(self)


def close(_pool, connection):
    """Instead of keeping it for the next request."""
    if connection is not None:
        connection.close()


urllib3.connection.HTTPConnection.connect = connect_from_another
urllib3.connectionpool.HTTPConnectionPool._put_conn = close
