"""The writing half of a WebSocket on daphne: sends bytes, and waits for clients that read slowly."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from twisted.internet import tcp

from fastws_compat.connections.outlet import Outlet
from fastws_compat.daphne.beginning import SharedBeginning
from fastws_compat.daphne.phases import Phase

OPEN = Phase.OPEN  # looked up for every message

# Until the socket takes its first broadcast.
NO_OUTLET = Outlet()
# `send` lets other tasks run after this many bytes, even if the socket accepts them all.
MAX_BYTES_PER_TURN = 256 * 1024
# What a frame counts besides its bytes.
FRAME_OVERHEAD = 2048


class FrameWriter(SharedBeginning):
    """Writes to the socket without Twisted's buffer where possible, and stops while the client does not read.

    The transport calls `pauseProducing` when its buffer is full, and `resumeProducing` once it is empty.
    """

    phase: Phase
    disconnected: bool
    # Raises if the application may not send a message of this type now.
    _expect: Callable[[str], None]
    # The messages that were sent here, and the bytes of their payloads.
    messages_out = bytes_out = 0
    # What writes broadcasts to the socket while it is free, and has its own counts of them.
    _outlet = NO_OUTLET
    _writable: asyncio.Event | None = None  # set while the transport's buffer is full

    def _prepare_writing(self) -> None:
        self._late_ping: bytes | None = None
        self._writable = None
        self._bytes_this_turn = 0
        self._socket = plain_socket(self.transport)

    def pauseProducing(self) -> None:
        self._take_back()
        if self._writable is None:
            self._writable = asyncio.Event()

    def resumeProducing(self) -> None:
        self._wake_writers()
        if self._late_ping is not None:
            payload, self._late_ping = self._late_ping, None
            self.sendPong(payload)

    def stopProducing(self) -> None:
        """The connection is lost; `connectionLost` follows."""

    def onPing(self, payload: bytes) -> None:
        if self._writable is None:
            super().onPing(payload)
        else:
            # The client is not reading. Answering only the latest ping is allowed (RFC 6455, 5.5.3).
            self._late_ping = payload

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        self._write(data)

    def write_at_once(self, frame: bytes, size: int) -> bool:
        """Write a frame made by `frame_of` without waiting; False if it has to wait, or cannot be sent.

        `size` is that of the payload before compression.
        """
        if self.phase is not OPEN or self.disconnected or self._writable is not None:
            return False
        self._bytes_this_turn += len(frame) + FRAME_OVERHEAD
        if self._bytes_this_turn > MAX_BYTES_PER_TURN:
            return False
        self.messages_out += 1
        self.bytes_out += size
        self._write(frame)
        return True

    async def write_in_turn(self, frame: bytes, size: int) -> None:
        """As `write_at_once`, but wait while `send` would wait; raise what it would raise."""
        self._expect("websocket.send")
        if self._writable is not None or self._bytes_this_turn > MAX_BYTES_PER_TURN:
            await self._wait_writable("websocket.send")
        self._bytes_this_turn += len(frame) + FRAME_OVERHEAD
        self.messages_out += 1
        self.bytes_out += size
        self._write(frame)

    def _write(self, data: bytes) -> None:
        """Write to the socket at once if Twisted has nothing buffered; leave the rest to Twisted."""
        transport = self.transport
        if self._socket is not None and not transport._tempDataLen and not transport.dataBuffer:
            try:
                sent = self._socket.send(data)
            except OSError:
                sent = 0  # full or broken; Twisted's own write finds out which
            if sent == len(data):
                return
            data = data[sent:]
        self.write_rest(data)

    def write_rest(self, data: bytes) -> None:
        """Leave to Twisted what the socket does not take."""
        self._take_back()
        self.transport.write(data)

    def lend(self, outlet: Outlet) -> None:
        """Let `outlet` write to the socket until something changes. Called after a `write_at_once`."""
        transport = self.transport
        if self._socket is not None and not transport._tempDataLen and not transport.dataBuffer:
            if self._outlet is not outlet:
                self._take_back()
                outlet.written = self._outlet.written
                self._outlet = outlet
            outlet.socket = self._socket

    def _take_back(self) -> None:
        """Have the next broadcast check everything again."""
        self._outlet.socket = None

    def _end_writing(self) -> None:
        """Write nothing more. Only the counts of the outlet are kept, because it refers to this object."""
        self._take_back()
        self._socket = None
        self._outlet = Outlet(self._outlet.written)

    async def _wait_writable(self, kind: str) -> None:
        """Let other tasks run, then wait until the client has read; raise if `kind` cannot be sent then."""
        await self._let_others_run()
        while self._writable is not None:
            await self._writable.wait()
        self._expect(kind)

    async def _let_others_run(self) -> None:
        self._bytes_this_turn = 0
        await asyncio.sleep(0)

    def _wake_writers(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def _limit_silence(self, seconds: float) -> None:
        """Have the kernel drop the connection after this much silence from the peer; 0 is its default."""
        if self._socket is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            option = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
            with suppress(OSError):  # not a TCP socket
                self._socket.setsockopt(*option)


def handle_of(transport: Any) -> Any:
    """The socket of a transport; a TLS transport wraps the one that has it."""
    return getattr(transport, "transport", transport).getHandle()


def plain_socket(transport: Any) -> socket.socket | None:
    """The socket of a transport if it can be written to directly; None for TLS and for wrapped transports."""
    if isinstance(transport, tcp.Server) and not transport.TLS and hasattr(transport, "_tempDataLen"):
        return transport.socket
    return None
