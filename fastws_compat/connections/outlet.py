"""Writing one frame to many sockets without checking the state of each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from socket import socket as Socket
from typing import Any, Protocol, TypeVar

from fastws_compat.types import Message

# What `Outlet.written` adds up: the bytes of the messages, shifted by this many bits, and the messages.
COUNT_BITS = 40
COUNT_MASK = (1 << COUNT_BITS) - 1


class Form:
    """How a socket gets a message. Sockets with the same form get the same frame."""

    __slots__ = ("frame_of", "is_enveloped")

    def __init__(self, is_enveloped: bool, frame_of: Callable[[Message], bytes]) -> None:
        self.is_enveloped = is_enveloped
        self.frame_of = frame_of


# The same object for the same arguments. There is one for each kind of compression that is in use.
form_of = lru_cache(64)(Form)


class Outlet:
    """A socket that takes shared frames.

    With thousands of sockets, the memory that a message touches for each of them takes longer than the code.
    Therefore everything it needs is in this object, and `socket` is None while anything has to be checked.
    """

    __slots__ = ("form", "server", "socket", "written")

    form: Form
    # What writes the rest of a frame that the socket does not take.
    server: Any
    # Set only while a frame can be written at once and no stage of the connection has to see the message.
    socket: Socket | None
    # The bytes and messages, in one number: changing a number touches the memory of the old one.
    written: int

    def __init__(self, written: int = 0) -> None:
        self.server = self.socket = None
        self.written = written

    @property
    def messages_written(self) -> int:
        return self.written & COUNT_MASK

    @property
    def bytes_written(self) -> int:
        return self.written >> COUNT_BITS


class Ready(Protocol):
    """An outlet, or a receiver of another kind, whose `socket` is always None."""

    @property
    def socket(self) -> Socket | None: ...


class Shared(Protocol):
    """A message for many sockets."""

    def in_form(self, form: Form) -> tuple[bytes, int]:
        """The frame, and the size of the payload in bytes."""


R = TypeVar("R", bound=Ready)


def write_to_ready(message: Shared, receivers: Iterable[R]) -> list[R]:
    """Write a message to the outlets that are ready; returns the other receivers."""
    others: list[R] = []
    form, frame, length, step = None, b"", 0, 0
    outlet: Any
    for outlet in receivers:
        socket = outlet.socket
        if socket is None:
            others.append(outlet)
            continue
        if outlet.form is not form:
            form = outlet.form
            frame, size = message.in_form(form)
            length, step = len(frame), size << COUNT_BITS | 1
        outlet.written += step
        try:
            sent = socket.send(frame)
        except OSError:
            sent = 0  # full or broken; the server's own write finds out which
        if sent != length:
            outlet.server.write_rest(frame[sent:])
    return others
