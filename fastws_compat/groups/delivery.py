"""One message on its way from a hub to the members of a group."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Hashable
from itertools import count
from socket import socket
from typing import Protocol
from uuid import uuid4

from fastws_compat.connections.outlet import Form, Outlet
from fastws_compat.connections.states import message_size
from fastws_compat.groups.entries import OVERHEAD, message_frame
from fastws_compat.groups.positions import Position
from fastws_compat.layers.wire import Close, Envelope, Payload
from fastws_compat.types import Message

# The maximum size in bytes of the messages whose frames are kept for members that catch up.
MAX_RECENT_BYTES = 2 * 1024 * 1024

_process_id = uuid4().hex[:16]
_numbers = count()


def new_id() -> str:
    """An id that is unique among the members in all processes."""
    return f"{_process_id}.{id(_numbers):x}.{next(_numbers)}"


class FrameServer(Protocol):
    """A server that can write one prepared frame to many sockets (daphne, with this library's additions)."""

    @property
    def frame_of(self) -> Callable[[Message], bytes]:
        """The function that prepares a frame; sockets that can share a frame have the same function."""

    def write_at_once(self, frame: bytes, size: int) -> bool: ...

    async def write_in_turn(self, frame: bytes, size: int) -> None: ...

    def lend(self, outlet: Outlet) -> None:
        """Let `outlet` write to the socket until something changes. Called after a `write_at_once`."""


class Frame:
    """A message for members in this process, encoded and compressed once for all of them."""

    __slots__ = ("_frames", "message", "size")

    def __init__(self, message: Message) -> None:
        self.message = message
        self.size = message_size(message)
        # By the function that prepared them, because sockets have negotiated different compression.
        self._frames: dict[Callable[[Message], bytes], bytes] = {}

    def frame(self, frame_of: Callable[[Message], bytes]) -> bytes:
        """The message as a server writes it to sockets that have this function."""
        try:
            return self._frames[frame_of]
        except KeyError:
            frame = self._frames[frame_of] = frame_of(self.message)
            return frame


class Delivery(Frame):
    """A message to a group. `offset` is its place in the history, if it is kept."""

    __slots__ = ("_envelope", "group", "key", "offset", "payload")

    def __init__(
        self, payload: Payload, group: str, offset: int | None = None, key: str | None = None
    ) -> None:
        super().__init__(payload.frame)
        self.payload = payload
        self.group = group
        self.offset = offset
        self.key = key
        self._envelope: Frame | None = None

    @property
    def envelope(self) -> Frame:
        """The message in its envelope, for clients of `live.js`."""
        if self._envelope is None:
            frame = message_frame(self.payload, self.group, self.offset, self.key)
            self._envelope = Frame(frame)
        return self._envelope

    def in_form(self, form: Form) -> tuple[bytes, int]:
        """The frame for sockets of this form, and the size of its payload."""
        message = self.envelope if form.is_enveloped else self
        return message.frame(form.frame_of), message.size


class RecentFrames:
    """The frames that were made last for members that catch up: those who follow need the same ones."""

    def __init__(self) -> None:
        self._frames: OrderedDict[Hashable, Frame] = OrderedDict()
        self._size = 0

    def get(self, key: Hashable, make: Callable[[], Frame]) -> Frame:
        frame = self._frames.pop(key, None)
        if frame is None:
            frame = make()
            self._size += frame.size + OVERHEAD
        self._frames[key] = frame
        while self._size > MAX_RECENT_BYTES:
            _, oldest = self._frames.popitem(last=False)
            self._size -= oldest.size + OVERHEAD
        return frame


class Participant(Protocol):
    """A member of a group as its hub sees it: a socket or a subscriber."""

    id: str

    @property
    def socket(self) -> socket | None:
        """The socket of an `Outlet` that is ready."""

    @property
    def ids(self) -> Collection[str]:
        """Its id, and those of the client's earlier connections."""

    def deliver(self, delivery: Delivery) -> None: ...

    def tell(self, frame: Frame) -> None:
        """Send a frame that only a client of `live.js` understands."""

    def close(self, close: Close) -> None: ...


class Receiver(Protocol):
    """Receives the messages of a group whose order matters."""

    async def receive(self, envelope: Envelope) -> bool:
        """Take a message, unless it is to be delivered at once."""

    def position_of(self, member_id: str) -> Position | None:
        """The position that a member has reached; None if it has not been told one."""

    def owes_values_to(self, member_id: str) -> bool:
        """Whether a member still has to receive all values."""

    def close(self) -> None: ...


class Catcher(Protocol):
    """What catches up for a member."""

    # The position that the member has reached; None if it has not been told one.
    given: Position | None
    # Whether the member still has to receive all values.
    wants_values: bool
