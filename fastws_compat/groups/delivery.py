"""One message on its way from a hub to the members of a group."""

from __future__ import annotations

from itertools import count
from typing import Protocol
from uuid import uuid4

from fastws_compat.layers.wire import Close, Payload
from fastws_compat.types import Message

_process_id = uuid4().hex[:16]
_numbers = count()


def new_id() -> str:
    """An id that is unique among the members in all processes."""
    return f"{_process_id}.{id(_numbers):x}.{next(_numbers)}"


class FrameServer(Protocol):
    """A server that can write one prepared frame to many sockets (daphne, with this library's additions)."""

    def frame_of(self, message: Message) -> bytes: ...

    def write_at_once(self, frame: bytes) -> bool: ...


class Delivery:
    """A message for the members in this process, decoded and encoded once for all of them."""

    __slots__ = ("_frame", "message", "payload")

    def __init__(self, payload: Payload) -> None:
        self.payload = payload
        self.message = payload.frame
        self._frame: bytes | None = None

    def frame(self, server: FrameServer) -> bytes:
        """The message as the server writes it. A process runs one kind of server, so any of them will do."""
        if self._frame is None:
            self._frame = server.frame_of(self.message)
        return self._frame


class Participant(Protocol):
    """A member of a group as its hub sees it: a socket or a subscriber."""

    id: str

    def deliver(self, delivery: Delivery) -> None: ...

    def close(self, close: Close) -> None: ...
