"""The phases of a connection as the application sees it, and the messages that it may send in each."""

from __future__ import annotations

from enum import Enum, auto

from fastws_compat.connections.states import CLOSED_BY_SERVER


class ClientDisconnected(OSError):
    """Raised by `send` once the connection is lost."""


class Phase(Enum):
    """The application's side of a connection."""

    CONNECTING = auto()
    REFUSING = auto()
    OPEN = auto()
    CLOSED = auto()


EXPECTED = {
    Phase.CONNECTING: ("websocket.accept", "websocket.close", "websocket.http.response.start"),
    Phase.REFUSING: ("websocket.http.response.body",),
    Phase.OPEN: ("websocket.send", "websocket.close"),
    Phase.CLOSED: (),
}


def unexpected(kind: str | None, phase: Phase) -> RuntimeError:
    """The error for a message that the ASGI specification does not allow in this phase."""
    if expected := EXPECTED[phase]:
        return RuntimeError(f"Expected ASGI message {' or '.join(map(repr, expected))}, but got {kind!r}.")
    return RuntimeError(f"Unexpected ASGI message {kind!r}, {CLOSED_BY_SERVER}.")
