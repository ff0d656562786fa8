"""One message on its way from a hub to the members of a group."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Protocol
from uuid import uuid4

from fastws_compat.connections.states import message_size
from fastws_compat.layers.wire import Close, Payload
from fastws_compat.types import Message

_process_id = uuid4().hex[:16]
_numbers = count()


def new_id() -> str:
    """An id that is unique among the members in all processes."""
    return f"{_process_id}.{id(_numbers):x}.{next(_numbers)}"


class FrameServer(Protocol):
    """A server that can write one prepared frame to many sockets (daphne, with this library's additions)."""

    @property
    def frame_of(self) -> Callable[[Message], bytes]:
        """Makes a frame; the same function for all sockets that take the same frames."""

    def write_at_once(self, frame: bytes, size: int) -> bool: ...


class Delivery:
    """A message for the members in this process, decoded, encoded and compressed once for all of them."""

    __slots__ = ("_frames", "message", "payload", "size")

    def __init__(self, payload: Payload) -> None:
        self.payload = payload
        self.message = payload.frame
        self.size = message_size(self.message)
        # By the function that made them: sockets differ in what compression they have negotiated.
        self._frames: dict[Callable[[Message], bytes], bytes] = {}

    def frame(self, server: FrameServer) -> bytes:
        """The message as the server writes it to this socket."""
        frame_of = server.frame_of
        try:
            return self._frames[frame_of]
        except KeyError:
            frame = self._frames[frame_of] = frame_of(self.message)
            return frame


class Participant(Protocol):
    """A member of a group as its hub sees it: a socket or a subscriber."""

    id: str

    def deliver(self, delivery: Delivery) -> None: ...

    def close(self, close: Close) -> None: ...
