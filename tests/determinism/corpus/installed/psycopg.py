"""As far as the corpus needs it: a connection, to where nobody listens."""

import socket


def connect(conninfo: str) -> socket.socket:
    return socket.create_connection(("127.0.0.1", 1))
