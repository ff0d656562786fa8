"""Free ports on loopback."""

from __future__ import annotations

import secrets
import socket


def free_port() -> int:
    """A free port that the system gives to no client, so that none takes it before the server does."""
    while True:
        port = 20_000 + secrets.randbelow(10_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
