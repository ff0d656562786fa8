"""Writing one frame to many sockets, without a look at the state of each of them."""

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


# There are as many as kinds of compression, of which a few are in use.
form_of = lru_cache(64)(Form)


class Outlet:
    """A socket that takes shared frames.

    With many thousands of sockets, a message takes as long as the memory that it touches for each of them. So
    what it needs stands together here, and one attribute says whether anything has to be checked.
    """

    __slots__ = ("form", "server", "socket", "written")

    form: Form
    # What writes the rest of a frame that the socket does not take.
    server: Any
    # Only while a frame can be written to it at once, and nothing else is to see the message.
    socket: Socket | None
    # How many bytes and messages. One number: each change of a number touches the memory of the old one.
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
    """What may be an outlet that is ready; `socket` is None in everything that is not."""

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
            sent = 0  # full or broken; Twisted's own write finds out which
        if sent != length:
            outlet.server.write_rest(frame[sent:])
    return others
