"""Whether the client of a connection has left, found out without reading."""

from __future__ import annotations

import select
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
