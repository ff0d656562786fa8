"""The state in which connections begin: one copy of what autobahn would store in each of them."""

from __future__ import annotations

from types import NoneType
from typing import Any

import autobahn.websocket.protocol
import daphne.ws_protocol
from autobahn.twisted.util import peer2str
from twisted.internet.defer import Deferred

# Nothing reads these, so all connections may write to the same objects.
WRITTEN_ONLY = ("trafficStats", "utf8validator")


class Peer:
    """The name of a client; made when it is needed, because autobahn's debug log is usually off."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def __str__(self) -> str:
        return str(peer2str(self._transport))


class SharedBeginning(daphne.ws_protocol.WebSocketProtocol):  # type: ignore[misc]
    """A connection whose class has the attributes that autobahn sets in every new connection."""

    # Only autobahn's sendData uses it, and an empty deque takes 760 bytes.
    send_queue = ()
    # autobahn sets it when it reads the request, and looks at it when the client closes.
    websocket_version = 13
    # daphne's are written in Python and return the same.
    __hash__ = object.__hash__
    __eq__ = object.__eq__

    def __init__(self) -> None:
        """Set nothing: `initial_state` is in the class."""

    @property
    def peer(self) -> Peer:
        """The client as autobahn's log names it."""
        return Peer(self.transport)

    @property
    def is_closed(self) -> Deferred[Any]:
        """What autobahn resolves at the end; nothing awaits it."""
        return Deferred()

    @classmethod
    def initial_state(cls) -> dict[str, Any]:
        """What autobahn sets in a new connection, as far as all of them may share it."""
        model = cls()
        model.openHandshakeTimeout = 0  # no timer for the model
        autobahn.websocket.protocol.WebSocketProtocol._connectionMade(model)
        del model.openHandshakeTimeout
        shared = (NoneType, bool, int, bytes)
        return {
            name: value
            for name, value in vars(model).items()
            if isinstance(value, shared) or name in WRITTEN_ONLY
        }
