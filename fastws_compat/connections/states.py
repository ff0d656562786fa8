"""The states of a connection, the exceptions of a socket, and the library's keys in a scope."""

from __future__ import annotations

import enum
from typing import Any, Protocol
from weakref import ref

from fastws_compat.types import Message

# The lifecycle of the connection (`connections.lifecycle.Session`).
SESSION = "fastws_compat.session"
# Set by the test client: exceptions reach the test, as with FastAPI, instead of the log.
RAISE_EXCEPTIONS = "fastws_compat.raise_exceptions"
# The exception handlers of the innermost application.
HANDLERS = "fastws_compat.exception_handlers"
# The place of the handshake among those that the process works on (`connections.admission.Turn`).
TURN = "fastws_compat.turn"
# The route that Channels' URLRouter has matched, and its additions to the scope.
MATCHED_ROUTE = "fastws_compat.matched_route"
# The paths of the mounts, and the host, above the connection's route, as they were declared.
ROUTE_PREFIX = "fastws_compat.route_prefix"
# The subprotocol that accept() selects by default; set by a security class.
DEFAULT_SUBPROTOCOL = "fastws_compat.subprotocol"
# The socket's membership in groups.
MEMBER = "fastws_compat.member"
# The login that keeps the socket open.
LOGIN = "fastws_compat.login"
# The user of the scope, once they have been found allowed to log in.
JUDGED_USER = "fastws_compat.judged"
# When the user of the scope was looked up, as `time.monotonic()` gives it.
IDENTIFIED_AT = "fastws_compat.identified_at"
# Extension of the completed daphne, and key of `websocket.accept`: {"options": ..., "max_size": ...}.
DEFLATE = "fastws_compat.deflate"
# Set once the Origin header has been checked.
ORIGIN_CHECKED = "fastws_compat.origin_checked"


class WebSocketState(enum.Enum):
    """The state of one side of the connection. The numbers are those of the project's specification."""

    #: The handshake has not been answered.
    CONNECTING = 0
    #: The handshake was accepted.
    CONNECTED = 1
    #: The handshake is being refused with an HTTP response.
    RESPONSE = 2
    #: The connection has ended.
    DISCONNECTED = 3


CONNECTING, CONNECTED = WebSocketState.CONNECTING, WebSocketState.CONNECTED
RESPONSE, DISCONNECTED = WebSocketState.RESPONSE, WebSocketState.DISCONNECTED
# The messages that answer a handshake, and the state that each leads to.
ANSWERS = {
    "websocket.accept": CONNECTED,
    "websocket.close": DISCONNECTED,
    "websocket.http.response.start": RESPONSE,
}


# Part of a server's error for a send after a close that the socket does not know of: the server closed the
# connection because of a client's frame, or the lifecycle did because the endpoint has returned.
CLOSED_BY_SERVER = "after sending 'websocket.close'"


class WebSocketDisconnect(Exception):
    """The client has left; `code` is its close code (1005 without one, 1006 for a lost connection)."""

    # The connection whose socket raised it, weakly; None if the project raised it itself.
    _raiser: ref[object] | None = None

    def __init__(self, code: int = 1000, reason: str | None = None) -> None:
        #: The close code; 1006 if there was no close frame.
        self.code = code
        #: The reason in the close frame; empty if there was none.
        self.reason = reason or ""

    def __reduce__(self) -> tuple[Any, ...]:
        """Without the connection, which exists in this process only."""
        state = {name: value for name, value in vars(self).items() if name != "_raiser"}
        return type(self), self.args, state


class WebSocketDisconnected(RuntimeError):
    """The socket was used before it was accepted or after it was closed."""


class HasScope(Protocol):
    """A socket, as far as it says which connection it belongs to."""

    scope: Any


def disconnect_message(code: int, reason: str = "") -> Message:
    return {"type": "websocket.disconnect", "code": code, "reason": reason}


def disconnect_exception(socket: HasScope, message: Message) -> WebSocketDisconnect:
    """The exception that `receive_text` and similar methods raise for a disconnect message."""
    code = message.get("code")
    # ASGI: a disconnect without a code means 1005; daphne sends None.
    return raised_by(socket, WebSocketDisconnect(1005 if code is None else code, message.get("reason")))


def raised_by(socket: HasScope, exc: WebSocketDisconnect) -> WebSocketDisconnect:
    """`exc`, marked as the disconnect of this socket's connection."""
    exc._raiser = ref(socket.scope.get(SESSION, socket))
    return exc


def message_size(message: Message) -> int:
    """The size of a message's payload in bytes."""
    text: str | None = message.get("text")
    if text is None:
        return len(message.get("bytes") or b"")
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))
