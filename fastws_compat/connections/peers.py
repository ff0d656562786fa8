"""Whether the client of a connection has left, found out without reading."""

from __future__ import annotations

import select
import socket
import struct
from collections.abc import Iterable, Sequence
from contextlib import suppress
from typing import Any


def has_left(server: Any) -> bool:
    """Whether the client has left; `server` is the server's own object for the connection."""
    return have_left([server])[0]


def have_left(servers: Iterable[Any]) -> list[bool]:
    """As `has_left`, for many connections with one system call."""
    descriptors = [_descriptor(server) for server in servers]
    closed = closed_by_peers([fd for fd in descriptors if fd is not None and fd >= 0])
    return [fd is not None and (fd < 0 or fd in closed) for fd in descriptors]


def _descriptor(server: Any) -> int | None:
    """The file descriptor of the client's socket; negative if the client has left, None if unknown."""
    if hasattr(server, "client_socket"):  # daphne, completed
        connection = server.client_socket
    else:
        transport: Any = getattr(server, "transport", None)
        if not hasattr(transport, "get_extra_info"):
            return None
        connection = None if transport.is_closing() else transport.get_extra_info("socket") or transport
    if connection is None:
        return -1
    return int(connection.fileno()) if hasattr(connection, "fileno") else None


def closed_by_peers(descriptors: Sequence[int]) -> set[int]:
    """Those of the sockets with these file descriptors whose peers will send no more."""
    if not descriptors or not hasattr(select, "poll"):
        return set()
    poll = select.poll()
    # poll() always reports a reset; a half-closed connection only with POLLRDHUP, where that exists.
    event = getattr(select, "POLLRDHUP", 0)
    for fd in descriptors:
        poll.register(fd, event)
    return {fd for fd, _ in poll.poll(0)}


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
