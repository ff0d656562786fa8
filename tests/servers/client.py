"""Clients for tests with servers: a real one, and one that writes bytes to a TCP socket."""

from __future__ import annotations

import socket
import struct
from collections.abc import Mapping
from contextlib import suppress
from itertools import count
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.servers.conftest import Running

KEY = b"dGhlIHNhbXBsZSBub25jZQ=="


# Seconds for the answer to a handshake, on a machine that is busy with other tests.
OPEN_TIMEOUT = 60


def open_socket(running: Running, path: str, **options: Any) -> ClientConnection:
    options = {"open_timeout": OPEN_TIMEOUT, **options}
    return connect(running.url(path), compression=None, proxy=None, **options)


_names = (f"event{number}" for number in count())


def unique() -> str:
    """A unique name for an event."""
    return next(_names)


def event(running: Running, name: str) -> str:
    """Wait until an application records the event `name`, and return its detail."""
    with open_socket(running, f"/events?name={name.replace(' ', '+')}") as events:
        return str(events.recv(timeout=15))


class Raw:
    """A WebSocket client that does not enforce any rule of the protocol."""

    def __init__(
        self, running: Running, target: str, headers: Mapping[str, str] | list[tuple[str, str]] = {}
    ) -> None:
        self.socket = running.connect()
        pairs = headers.items() if isinstance(headers, Mapping) else headers
        extra = "".join(f"{name}: {value}\r\n" for name, value in pairs)
        host = "" if any(name.lower() == "host" for name, _ in pairs) else "Host: localhost\r\n"
        self.socket.sendall(
            f"GET {target} HTTP/1.1\r\n{host}Upgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {KEY.decode()}\r\n{extra}\r\n".encode("latin-1")
        )
        self.data = b""

    def __enter__(self) -> Raw:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def answer(self) -> bytes:
        """The head of the server's answer."""
        while b"\r\n\r\n" not in self.data:
            if not (data := self.socket.recv(65536)):
                break
            self.data += data
        head, _, self.data = self.data.partition(b"\r\n\r\n")
        return head

    def accepted(self) -> Raw:
        assert self.answer().startswith(b"HTTP/1.1 101 ")
        return self

    def rest(self) -> bytes:
        """All bytes until the server closes the connection."""
        while data := self.socket.recv(65536):
            self.data += data
        return self.data

    def ended(self) -> bytes:
        """Like `rest`, but the server may also reset the connection."""
        with suppress(ConnectionError):
            self.rest()
        return self.data

    def send(self, opcode: int, payload: bytes = b"", **options: Any) -> None:
        self.socket.sendall(frame(opcode, payload, **options))

    def exactly(self, size: int) -> bytes:
        while len(self.data) < size:
            data = self.socket.recv(65536)
            assert data, f"the server closed, after {self.data!r}"
            self.data += data
        taken, self.data = self.data[:size], self.data[size:]
        return taken

    def frame(self) -> tuple[int, bytes]:
        """The next frame from the server, as (opcode, payload)."""
        first, length = self.exactly(2)
        if length == 126:
            (length,) = struct.unpack("!H", self.exactly(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.exactly(8))
        return first & 0xF, self.exactly(length)

    def data_frame(self) -> tuple[int, bytes]:
        """The next frame that is not a ping; pings are answered."""
        while (found := self.frame())[0] == 9:
            with suppress(ConnectionError):
                self.send(10, found[1])
        return found

    def close_frame(self) -> tuple[int, str]:
        """The code and reason of the next frame other than pings, which must be a close frame."""
        opcode, payload = self.data_frame()
        assert opcode == 8, (opcode, payload)
        return int.from_bytes(payload[:2], "big"), payload[2:].decode()

    def leave(self) -> None:
        """Close as a browser does that leaves the page."""
        self.send(8, b"\x03\xe9")
        assert self.close_frame()[0] == 1001

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


def frame(opcode: int, payload: bytes = b"", *, first: int | None = None, masked: bool = True) -> bytes:
    """A client's frame, masked with zeros; `first` replaces its first byte."""
    size, mark = len(payload), 0x80 if masked else 0
    if size < 126:
        length = bytes([mark | size])
    elif size < 65536:
        length = struct.pack("!BH", mark | 126, size)
    else:
        length = struct.pack("!BQ", mark | 127, size)
    return bytes([0x80 | opcode if first is None else first]) + length + bytes(4 if masked else 0) + payload
