"""The reading half of a WebSocket on daphne: turns frames into messages, at the application's pace."""

from __future__ import annotations

import logging
from asyncio import AbstractEventLoop
from time import time
from typing import Any

from autobahn.websocket.protocol import WebSocketProtocol
from twisted.internet.main import CONNECTION_DONE, CONNECTION_LOST

from fastws_compat import status
from fastws_compat.connections.tally import Counts
from fastws_compat.daphne import frames
from fastws_compat.daphne.deflate import Inflater, InflatesTooFar, PartialCompressed
from fastws_compat.daphne.fragments import MAX_FRAGMENTS, InvalidPayload, PartialBinary, PartialText
from fastws_compat.daphne.frames import read_short_text
from fastws_compat.daphne.inbox import Inbox
from fastws_compat.daphne.writer import OPEN, FrameWriter
from fastws_compat.types import Message

logger = logging.getLogger("daphne.server")

READ_SIZE = 64 * 1024
# A constant of this module is found faster than autobahn's, which is an attribute of the class.
STATE_OPEN = WebSocketProtocol.STATE_OPEN


class MessageReader(FrameWriter):
    """Puts the client's messages into the inbox; stops reading while the inbox is full.

    It reads messages of one frame itself (`frames.read`) and has autobahn process every other frame.
    """

    loop: AbstractEventLoop
    inbox: Inbox
    # Inflates the client's messages; None unless permessage-deflate has been negotiated.
    _inflater: Inflater | None = None

    # The messages that were received, the bytes of their payloads, and when the last one came.
    messages_in = bytes_in = 0
    last_in: float | None = None
    # The server checks the timeouts no sooner than at this time.
    next_check = 0.0

    # autobahn's own attributes, as far as they are used here
    data: bytes
    state: int
    current_frame: Any
    inside_message: bool
    autoPingTimeoutCall: Any
    closeHandshakeTimeoutCall: Any

    @property
    def counts(self) -> Counts:
        """The messages in and out, and the bytes of their payloads in and out."""
        outlet = self._outlet
        messages, size = outlet.messages_written, outlet.bytes_written
        return self.messages_in, self.messages_out + messages, self.bytes_in, self.bytes_out + size

    def _prepare_reading(self) -> None:
        self._partial: PartialBinary | PartialText | PartialCompressed | None = None
        self._reading_paused = False
        # Attributes of the instance are found faster than those of the class.
        self.data, self.autoPingTimeoutCall = b"", None
        self._limit = min(filter(None, (self.maxFramePayloadSize, self.maxMessagePayloadSize)), default=0)

    # autobahn calls these for a message that is not plain

    def onMessageBegin(self, isBinary: bool) -> None:
        self.message_data_total_length = 0
        if not self.failedByMe:
            self._partial = plain = PartialBinary() if isBinary else PartialText()
            if self._inflater is not None and self.current_frame.rsv:
                self._partial = PartialCompressed(plain, self._inflater)

    def onMessageFrameBegin(self, length: int) -> None:
        super().onMessageFrameBegin(length)
        if self._partial is None:
            return
        self._partial.fragments += 1
        if self._partial.fragments > MAX_FRAGMENTS:
            logger.warning("WebSocket closed: a message of more than %d fragments on %r", MAX_FRAGMENTS, self)
            self._fail_connection(status.WS_1009_MESSAGE_TOO_BIG, "a message of too many fragments")

    def onMessageFrameData(self, payload: bytes) -> None:
        if self._partial is not None:
            try:
                self._partial.add(payload)
            except (InvalidPayload, InflatesTooFar) as error:
                self._reject(error)

    def onMessageFrameEnd(self) -> None:
        """Do nothing: the payload of a frame is added as it arrives."""

    def onMessageEnd(self) -> None:
        partial, self._partial = self._partial, None
        if partial is not None:
            try:
                self._deliver(partial.message(), partial.size)
            except (InvalidPayload, InflatesTooFar) as error:
                self._reject(error)

    def _reject(self, error: InvalidPayload | InflatesTooFar) -> None:
        """Close because of a message that cannot be delivered."""
        if isinstance(error, InvalidPayload):
            self._invalid_payload(str(error))
        else:
            self._fail_connection(status.WS_1009_MESSAGE_TOO_BIG, "message too big")

    # Frames

    def _read_socket(self) -> Exception | None:
        """Read what has arrived, in place of the transport's `doRead`; what it returns ends the connection.

        Twisted's way to `dataReceived` would take a tenth of an echo's time.
        """
        try:
            data = self._socket.recv(READ_SIZE)  # type: ignore[union-attr]
        except BlockingIOError:
            return None
        except OSError:
            return CONNECTION_LOST
        if not data:
            return CONNECTION_DONE
        payload = read_short_text(data)
        if (
            payload is None
            or self.data
            or self.current_frame is not None
            or self.inside_message
            or self.state != STATE_OPEN
            or 0 < self._limit < len(payload)
            or self.autoPingTimeoutCall is not None
            or self.disconnected
            or self.phase is not OPEN
        ):
            self._read_data(data)
            return None
        # Most data is one short text. This is `_read_message` and `_deliver`, at two thirds of their cost.
        try:
            message: Message = {"type": "websocket.receive", "text": payload.decode()}
        except UnicodeDecodeError:
            self._read_data(data)
            return None
        size = len(payload)
        self.last_in = time()
        self.messages_in += 1
        self.bytes_in += size
        if self.inbox.put(message, size) and not self._reading_paused:
            self._pause_reading()
        return None

    def _read_data(self, data: bytes) -> None:
        end = 0 if self.data else self._read_message(data, 0)
        if end != len(data):
            self.dataReceived(data[end:])

    def _read_frames(self, data: bytes) -> None:
        """Deliver plain messages directly; give autobahn all other frames one by one."""
        self.data = b""
        start, size = 0, len(data)
        while start < size and not self._reading_paused and self.state != self.STATE_CLOSED:
            start = self._read_message(data, start) or self._read_frame(data, start)
        if start < size:
            self.data = data[start:]

    def _read_message(self, data: bytes, start: int) -> int:
        """Deliver the plain message that begins at `start` and return where it ends; 0 if there is none."""
        if self.current_frame is not None or self.inside_message or self.state != STATE_OPEN:
            return 0
        found = frames.read(data, start, self._limit)
        if found is None:
            return 0
        opcode, payload, end = found
        message: Message
        if opcode == frames.BINARY:
            message = {"type": "websocket.receive", "bytes": payload}
        else:
            try:
                message = {"type": "websocket.receive", "text": payload.decode()}
            except UnicodeDecodeError:
                return 0
        self._deliver(message, len(payload))
        return end

    def _read_compressed(self, inflater: Inflater, data: bytes, start: int) -> int:
        """As `_read_message` for a compressed message of one frame."""
        if self.current_frame is not None or self.inside_message or self.state != STATE_OPEN:
            return 0
        found = frames.read(data, start, self._limit, *frames.COMPRESSED)
        if found is None:
            return 0
        opcode, payload, end = found
        plain = PartialBinary() if opcode == frames.BINARY else PartialText()
        self._partial = PartialCompressed(plain, inflater)
        self.onMessageFrameData(payload)
        self.onMessageEnd()
        return end

    def _read_frame(self, data: bytes, start: int) -> int:
        """Have autobahn process one frame that is not a whole message, and return where it ends."""
        if self._inflater is not None and (end := self._read_compressed(self._inflater, data, start)):
            return end
        if self.current_frame is None:
            end = frames.end(data, start)
        else:
            end = min(len(data), start + self.current_frame.length - self.current_frame_masker.pointer())
        # autobahn copies the remaining data for every frame in it, so it gets one frame at a time.
        self.data = data[start:end]
        while self.processData() and self.state != self.STATE_CLOSED:
            pass
        return end

    def _deliver(self, message: Message, size: int) -> None:
        if self.autoPingTimeoutCall is not None and self.autoPingRestartOnAnyTraffic:
            self._cancelAutoPingTimeoutCall()
        if self.disconnected or self.phase is not OPEN:
            return
        self.last_in = time()
        self.messages_in += 1
        self.bytes_in += size
        if self.inbox.put(message, size) and not self._reading_paused:
            self._pause_reading()

    # Back-pressure

    def _pause_reading(self) -> None:
        self._reading_paused = True
        self.next_check = 0.0
        self.inbox.on_low = self._resume_soon
        self.transport.pauseProducing()
        # A pong cannot be read now. Do not wait for one; TCP shows whether the peer is still there.
        if self.autoPingTimeoutCall is not None:
            self.autoPingTimeoutCall.cancel()
            self.autoPingTimeoutCall = self.autoPingPending = None
        self._limit_silence(self.autoPingTimeout)

    def _resume_soon(self) -> None:
        self.loop.call_soon(self._resume_reading)

    def _resume_reading(self) -> None:
        if not self._reading_paused:
            return
        self._reading_paused = False
        self._read_frames(self.data)
        if not self._reading_paused:
            self._limit_silence(0)
            self.transport.resumeProducing()
