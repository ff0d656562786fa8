"""Whether the client of a connection has left, found out without reading."""

from __future__ import annotations

import select
import socket
import struct
from contextlib import suppress
from typing import Any


def has_left(server: Any) -> bool:
    """Whether the client has left; `server` is the server's own object for the connection."""
    gone: bool | None = getattr(server, "gone", None)  # daphne, completed
    if gone is not None:
        return gone
    transport: Any = getattr(server, "transport", None)
    if not hasattr(transport, "get_extra_info"):
        return False
    connection = transport.get_extra_info("socket")
    return transport.is_closing() or (connection is not None and peer_has_closed(connection))


def peer_has_closed(connection: Any) -> bool:
    """Whether the peer of a socket will send no more."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    # poll() always reports a reset; a half-closed connection only with POLLRDHUP, where that exists.
    poll.register(connection, getattr(select, "POLLRDHUP", 0))
    return bool(poll.poll(0))


# Where `struct tcp_info` of Linux holds the milliseconds since data was last sent.
SILENCE_OFFSET, TCP_INFO_SIZE = 44, 104


def silence_of(server: Any) -> float | None:
    """Seconds since data was last sent to the client; None where the kernel does not tell."""
    connection = socket_of(server)
    with suppress(OSError, AttributeError, struct.error):
        info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_SIZE)
        milliseconds: int = struct.unpack_from("I", info, SILENCE_OFFSET)[0]
        return milliseconds / 1000
    return None


def socket_of(server: Any) -> Any:
    """The socket of a connection, from the server's own object for it; None if there is none."""
    transport: Any = getattr(server, "transport", None)
    if hasattr(transport, "get_extra_info"):
        return transport.get_extra_info("socket")
    transport = getattr(transport, "transport", transport)  # TLS wraps the one that has the socket
    return transport.getHandle() if hasattr(transport, "getHandle") else None
