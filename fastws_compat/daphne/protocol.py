"""One WebSocket on daphne: autobahn speaks RFC 6455, this speaks ASGI to the application."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from enum import Enum, auto
from time import time
from typing import Any

import daphne.ws_protocol
from twisted.internet import tcp
from twisted.internet.defer import Deferred

from fastws_compat import conf
from fastws_compat.connections.answers import checked_answer
from fastws_compat.connections.closing import close_code, close_reason
from fastws_compat.connections.monitor import peer_has_closed
from fastws_compat.connections.tracebacks import for_log
from fastws_compat.daphne import frames, handshake
from fastws_compat.daphne.fragments import MAX_FRAGMENTS, InvalidText, PartialBinary, PartialText
from fastws_compat.daphne.handshake import Upgrade
from fastws_compat.daphne.inbox import Inbox
from fastws_compat.requests import below
from fastws_compat.types import Message

logger = logging.getLogger("daphne.server")

# A peer that broke the protocol gets this long to read why, any other peer autobahn's closeHandshakeTimeout.
FAULT_TIMEOUT = 2
# A client that has to wait may have closed; word of it waits behind all that it sent, a ping is answered.
PAUSED_INTERVAL = 4
# A client must not send before it is answered (RFC 6455, 4.1); so much is kept of one that does.
MOST_EARLY_BYTES = 64 * 1024
# After so much `send` lets the others run, even if the socket takes all of it.
MOST_IN_A_ROW = 256 * 1024
COST_OF_A_FRAME = 2048

# What is not needed once the handshake is answered, and takes a tenth of an idle socket's memory.
LEFT_OVER = ("http_request_data", "http_status_line", "http_headers", "http_request_params", "upgrade")

ABNORMAL = 1006
NO_STATUS = 1005
MESSAGE_TOO_BIG = 1009
INTERNAL_ERROR = 1011
TRY_AGAIN_LATER = 1013
BAD_GATEWAY = 1014


class ClientDisconnected(OSError):
    """`send` came after the connection had gone."""


class Phase(Enum):
    """How far the application has come."""

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


class WebSocketProtocol(daphne.ws_protocol.WebSocketProtocol):  # type: ignore[misc]
    """The whole of ASGI's WebSocket specification over daphne's protocol.

    `state` is autobahn's, the connection as the client sees it; `phase` is the application's side of it.
    """

    upgrade: Upgrade  # given by the factory
    # The application has not answered in time, or the server stops: what it says now comes too late.
    _refused_by_server = False

    # autobahn's own, as far as they are used here
    data: bytes
    state: int
    current_frame: Any
    inside_message: bool
    autoPingTimeoutCall: Any
    openHandshakeTimeoutCall: Any

    # Twisted and autobahn call these

    def connectionMade(self) -> None:
        self.server = self.factory.server_class
        self.client_addr = self.upgrade.client
        self.path = self.upgrade.target.partition(b"?")[0]
        self.loop = asyncio.get_event_loop()
        self.inbox = Inbox(self.loop)
        self.phase = Phase.CONNECTING
        self.gone = False
        self._known = False
        self._partial: PartialBinary | PartialText | None = None
        self._informed = False
        self._refusal: Message | None = None
        self._reading_paused = False
        self._writable: asyncio.Event | None = None
        self._late_ping: bytes | None = None
        self._in_a_row = 0
        self._lingering: asyncio.TimerHandle | None = None
        self._socket = plain_socket(self.transport)
        super().connectionMade()
        self.send_queue = ()  # autobahn's sendData would use it; an empty one takes 760 bytes
        self._limit = min(filter(None, (self.maxFramePayloadSize, self.maxMessagePayloadSize)), default=0)
        # The HTTP channel that received the handshake is still registered.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)

    def onConnect(self, request: Any) -> Deferred[None]:
        if twice := self.upgrade.ambiguous:
            self.failHandshake(f"More than one header {twice!r}.", 403 if twice == "origin" else 400)
        elif self.server.stopping:
            self.failHandshake("The server is stopping.", 503)
        else:
            self._begin()
        return Deferred()  # `send` answers the client, so autobahn waits for ever

    def _begin(self) -> None:
        self.server.protocol_connected(self)
        self._known = True
        self.socket_opened = self.last_ping = time()
        self.inbox.put({"type": "websocket.connect"}, 0)
        scope = self.upgrade.scope(self.server.root_path, conf.get("DAPHNE_ROOT_PATH_HEADER"))
        if root_path := scope["root_path"].rstrip("/"):
            scope = below(root_path, scope)  # a proxy may have cut it off
        self.server.start_application(self, scope)
        self._log_action("connecting")

    def dataReceived(self, data: bytes) -> None:
        if self.state == self.STATE_CLOSED:
            return
        if self.state == self.STATE_CONNECTING and not self._known:
            self._dataReceived(data)
            return
        self.data = self.data + data if self.data else data
        if self.state != self.STATE_CONNECTING:
            self._read_frames()
        elif len(self.data) > MOST_EARLY_BYTES:
            self.transport.pauseProducing()

    def onMessageBegin(self, isBinary: bool) -> None:
        self.message_data_total_length = 0
        if not self.failedByMe:
            self._partial = PartialBinary() if isBinary else PartialText()

    def onMessageFrameBegin(self, length: int) -> None:
        super().onMessageFrameBegin(length)
        if self._partial is None:
            return
        self._partial.fragments += 1
        if self._partial.fragments > MAX_FRAGMENTS:
            logger.warning("WebSocket closed: a message of more than %d fragments on %r", MAX_FRAGMENTS, self)
            self._fail_connection(MESSAGE_TOO_BIG, "a message of too many fragments")

    def onMessageFrameData(self, payload: bytes) -> None:
        if self._partial is not None:
            try:
                self._partial.add(payload)
            except InvalidText as error:
                self._invalid_payload(str(error))

    def onMessageFrameEnd(self) -> None:
        """Nothing is left to do: the pieces of a frame are added as they come."""

    def onMessageEnd(self) -> None:
        partial, self._partial = self._partial, None
        if partial is not None:
            try:
                self._deliver(partial.message(), partial.size)
            except InvalidText as error:
                self._invalid_payload(str(error))

    def onPing(self, payload: bytes) -> None:
        if self._writable is None:
            super().onPing(payload)
        else:
            # The client does not read; the latest ping is the one to answer (RFC 6455, 5.5.3).
            self._late_ping = payload

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        was_open = self.state == self.STATE_OPEN
        # autobahn does not know 1014; it echoes another code, the application gets the right one.
        known = TRY_AGAIN_LATER if code == BAD_GATEWAY else code
        stop: bool | None = super().onCloseFrame(known, reasonRaw)
        if was_open and not self.failedByMe:
            self._disconnected(NO_STATUS if code is None else code, self.remoteCloseReason or "")
        return stop

    def onOpen(self) -> None:
        self._log_action("connected")

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if not self._known:
            return
        if not wasClean:
            self._disconnected(ABNORMAL, "")
        else:
            self._disconnected(NO_STATUS if code is None else code, reason or "")
        self.server.protocol_disconnected(self)
        self._log_action("disconnected")

    def onOpenHandshakeTimeout(self) -> None:
        self.openHandshakeTimeoutCall = None
        if self.state == self.STATE_CONNECTING:
            logger.warning("No answer to the handshake in time on %r.", self)
            self._refused_by_server = True
            self._refuse(503)

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        headers = [(name.encode(), value.encode()) for name, value in responseHeaders or ()]
        # The reason for a 500 is the text of an exception, and none of the client's business.
        body = reason.encode() if code < 500 else b""
        self._refuse(code, [(b"Content-Type", b"text/plain; charset=utf-8"), *headers], body)

    def _fail_connection(self, code: int = 1001, reason: str = "") -> None:
        if self.failedByMe:
            return  # one fault is often found twice, and the peer is to read about the first
        self.closeHandshakeTimeout = FAULT_TIMEOUT
        self._partial = None
        super()._fail_connection(code, reason)
        self._disconnected(code, reason)

    def dropConnection(self, abort: bool = False) -> None:
        super().dropConnection(abort and not self.wasClean)
        if self._lingering is None and self.transport.connected:
            # What is still to be written may never be read.
            self._lingering = self.loop.call_later(self.closeHandshakeTimeout, self.transport.abortConnection)

    def connectionLost(self, reason: Any) -> None:
        self._socket = None
        if self._lingering is not None:
            self._lingering.cancel()
        super().connectionLost(reason)
        self.resumeProducing()
        self.server.websocket_lost(self)

    # Back-pressure: the transport tells its producer, and is told by the inbox

    def pauseProducing(self) -> None:
        if self._writable is None:
            self._writable = asyncio.Event()

    def resumeProducing(self) -> None:
        if self._writable is not None:
            self._writable.set()
            self._writable = None
        if self._late_ping is not None:
            payload, self._late_ping = self._late_ping, None
            self.sendPong(payload)

    def stopProducing(self) -> None:
        """The connection is lost; `connectionLost` follows."""

    def _pause_reading(self) -> None:
        self._reading_paused = True
        self.transport.pauseProducing()
        # A pong could not be heard now: do not wait for one, let TCP tell whether the peer is there.
        if self.autoPingTimeoutCall is not None:
            self.autoPingTimeoutCall.cancel()
            self.autoPingTimeoutCall = self.autoPingPending = None
        self._limit_silence(self.autoPingTimeout)

    def _resume_reading(self) -> None:
        if not self._reading_paused or (self.phase is Phase.OPEN and not self.gone and not self.inbox.is_low):
            return
        self._reading_paused = False
        self._read_frames()
        if not self._reading_paused:
            self._limit_silence(0)
            self.transport.resumeProducing()

    def _limit_silence(self, seconds: float) -> None:
        if self._socket is not None and hasattr(socket, "TCP_USER_TIMEOUT"):
            option = (socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))
            with suppress(OSError):  # not a TCP socket
                self._socket.setsockopt(*option)

    # Reading

    def consumeData(self) -> None:
        if self.state == self.STATE_CONNECTING:
            super().consumeData()
        else:
            self._read_frames()

    def _read_frames(self) -> None:
        """Take whole plain messages at once, give autobahn everything else frame by frame."""
        data, self.data = self.data, b""
        start, size = 0, len(data)
        while start < size and not self._reading_paused and self.state != self.STATE_CLOSED:
            start = self._read_message(data, start) or self._read_frame(data, start)
        if start < size:
            self.data = data[start:]

    def _read_message(self, data: bytes, start: int) -> int:
        """Deliver the message that begins at `start` and return where it ends, 0 if this is autobahn's."""
        if self.current_frame is not None or self.inside_message or self.state != self.STATE_OPEN:
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
        if self.autoPingTimeoutCall is not None and self.autoPingRestartOnAnyTraffic:
            self._cancelAutoPingTimeoutCall()
        self._deliver(message, len(payload))
        return end

    def _read_frame(self, data: bytes, start: int) -> int:
        if self.current_frame is None:
            end = frames.end(data, start)
        else:
            end = min(len(data), start + self.current_frame.length - self.current_frame_masker.pointer())
        # Autobahn copies what it was given for every frame in it, so it gets one.
        self.data = data[start:end]
        while self.processData() and self.state != self.STATE_CLOSED:
            pass
        return end

    def _deliver(self, message: Message, size: int) -> None:
        if self.gone or self.phase is not Phase.OPEN:
            return
        self.last_ping = time()
        self.inbox.put(message, size)
        if self.inbox.is_full and not self._reading_paused:
            self._pause_reading()

    # Writing

    def sendData(self, data: bytes, sync: bool = False, chopsize: int | None = None) -> None:
        self._write(data)

    def _write(self, data: bytes) -> None:
        """Write at once if nothing waits; what the socket does not take is left to Twisted."""
        transport = self.transport
        if self._socket is not None and not transport._tempDataLen and not transport.dataBuffer:
            try:
                sent = self._socket.send(data)
            except OSError:
                sent = 0  # full, or broken, and then Twisted's own write finds out
            if sent == len(data):
                return
            data = data[sent:]
        transport.write(data)

    # The application calls these

    async def receive(self) -> Message:
        message = await self.inbox.get()
        if self._reading_paused and self.inbox.is_low:
            self.loop.call_soon(self._resume_reading)
        return message

    async def send(self, message: Message) -> None:
        kind = message.get("type")
        self._expect(kind)
        if kind == "websocket.send":
            await self._send(message)
        elif kind == "websocket.close":
            self._close(message)
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.http.response.start":
            self._begin_refusal(message)
        else:
            await self._continue_refusal(message)

    def _expect(self, kind: str | None) -> None:
        expected = EXPECTED[self.phase]
        if kind not in expected:
            if self._refused_by_server:
                raise ClientDisconnected("The server has refused the handshake.")
            if not expected:
                raise RuntimeError(f"Unexpected ASGI message {kind!r}, after the connection was closed.")
            raise RuntimeError(f"Expected ASGI message {' or '.join(map(repr, expected))}, but got {kind!r}.")
        if self.gone:
            self._informed = True
            raise ClientDisconnected("The client has disconnected.")

    def write_at_once(self, frame: bytes) -> bool:
        """Write a frame of `frame_of`, if nothing is to be waited for or said about it; else use `send`."""
        if self.phase is not Phase.OPEN or self.gone or self._writable is not None:
            return False
        self._in_a_row += len(frame) + COST_OF_A_FRAME
        if self._in_a_row > MOST_IN_A_ROW:
            return False
        self._write(frame)
        return True

    @staticmethod
    def frame_of(message: Message) -> bytes:
        """The frame that sends a message, for one that goes to many sockets."""
        text, data = message.get("text"), message.get("bytes")
        if (text is None) == (data is None):
            raise ValueError("'websocket.send' takes either text or bytes.")
        if text is not None:
            return frames.build(frames.TEXT, text.encode())
        payload = data if isinstance(data, bytes) else memoryview(data).tobytes()  # type: ignore[arg-type]
        return frames.build(frames.BINARY, payload)

    async def _send(self, message: Message) -> None:
        frame = self.frame_of(message)
        self._in_a_row += len(frame) + COST_OF_A_FRAME
        if self._writable is not None or self._in_a_row > MOST_IN_A_ROW:
            await self._turn("websocket.send")
        self._write(frame)

    async def _turn(self, kind: str) -> None:
        """Let the others run, and wait until the client has read."""
        self._in_a_row = 0
        await asyncio.sleep(0)
        while self._writable is not None:
            await self._writable.wait()
        self._expect(kind)

    def _accept(self, message: Message) -> None:
        subprotocol = message.get("subprotocol") or None
        if subprotocol is not None and subprotocol not in self.upgrade.subprotocols:
            raise ValueError(f"The client did not offer the subprotocol {subprotocol!r}.")
        key, headers = self._wskey.encode(), message.get("headers") or ()
        answer = handshake.acceptance(key, subprotocol, headers, self.server.server_name)
        self._stop_handshake_timer()
        self.phase, self.state = Phase.OPEN, self.STATE_OPEN
        self.websocket_protocol_in_use = subprotocol
        self.inside_message, self.current_frame = False, None
        self._write(answer)
        self._forget_handshake()
        self.onOpen()
        if self.data:
            self._read_frames()
        if not self._reading_paused:
            self.transport.resumeProducing()

    def _forget_handshake(self) -> None:
        for name in LEFT_OVER:
            self.__dict__.pop(name, None)

    def _close(self, message: Message) -> None:
        self._informed = True
        if self.phase is Phase.CONNECTING:
            self._refuse(403)  # no frame will carry the code
            return
        code = message.get("code")
        self._finish(1000 if code is None else close_code(code), close_reason(message.get("reason")))

    def _finish(self, code: int, reason: str) -> None:
        """Say goodbye; `websocket.disconnect` comes when the client has answered, or has not."""
        self.phase = Phase.CLOSED
        self.sendCloseFrame(code, reason.encode())
        self._resume_reading()

    def _begin_refusal(self, message: Message) -> None:
        self._refusal = checked_answer(message)
        self.phase = Phase.REFUSING
        self._stop_handshake_timer()

    async def _continue_refusal(self, message: Message) -> None:
        body, more_body = message.get("body", b""), message.get("more_body", False)
        if self._writable is not None:
            await self._turn("websocket.http.response.body")
        if self._refusal is not None:
            status, headers = self._refusal["status"], self._refusal.get("headers") or ()
            self._refusal = None
            body = handshake.refusal(status, headers, body, more_body, self.server.server_name)
        self._write(body)
        if not more_body:
            self._informed = True
            self._refused()

    def _refuse(self, status: int, headers: handshake.Headers = (), body: bytes = b"") -> None:
        self._write(handshake.refusal(status, headers, body, False, self.server.server_name))
        self._refused()

    def _refused(self) -> None:
        self.phase = Phase.CLOSED
        self.wasNotCleanReason = "the handshake was refused"
        self._disconnected(ABNORMAL, "")
        self.dropConnection()
        self._log_action("rejected")

    def _stop_handshake_timer(self) -> None:
        if self.openHandshakeTimeoutCall is not None:
            self.openHandshakeTimeoutCall.cancel()
            self.openHandshakeTimeoutCall = None

    # The server calls these

    @property
    def is_known_to_be_over(self) -> bool:
        """Whether the application has ended the connection itself, or was told that it is over."""
        return self._informed or (self.gone and self.inbox.is_empty)

    def inform(self) -> None:
        """Note that the application knows: it was cancelled, for one."""
        self._informed = True

    def application_done(self, task: asyncio.Task[None]) -> None:
        """End the connection as the application ended, unless it is over already."""
        error = None if task.cancelled() else task.exception()
        if not self.server.application_ended(self) and error is not None:
            return  # daphne's own look, once a second, was quicker: it has called handle_exception
        if isinstance(error, KeyboardInterrupt):
            self.server.stop()
        elif error is not None and not isinstance(error, ClientDisconnected):
            logger.error("Exception inside application: %s", error, exc_info=for_log(error))
        elif error is None and not task.cancelled() and self.phase is Phase.CONNECTING and not self.gone:
            logger.error("The application returned and did not answer the handshake on %r.", self)
        self._end(failed=error is not None or task.cancelled())

    def handle_exception(self, exception: BaseException) -> None:
        self._end(failed=True)

    def _end(self, failed: bool) -> None:
        if self.gone or self.phase is Phase.CLOSED:
            return
        if self.phase is Phase.OPEN:
            self._finish(INTERNAL_ERROR if failed else 1000, "")
        elif self.phase is Phase.CONNECTING or self._refusal is not None:
            self._refuse(500)
        else:
            # The client has the beginning of an answer; a cut connection tells it that there is no end.
            self.phase = Phase.CLOSED
            self.dropConnection(abort=True)

    def shut(self, code: int, reason: str = "") -> None:
        """End the connection for a reason of the server's; the application is told at once."""
        if self.gone or self.phase is Phase.CLOSED:
            return
        self._disconnected(code, reason)
        if self.phase is Phase.OPEN:
            self.sendCloseFrame(code, close_reason(reason).encode())
            self._resume_reading()
        elif self.phase is Phase.CONNECTING or self._refusal is not None:
            self._refused_by_server = True
            self._refuse(503)
        else:
            self.dropConnection(abort=True)

    def _disconnected(self, code: int, reason: str) -> None:
        if self.gone:
            return
        self.gone = True
        self.inbox.put({"type": "websocket.disconnect", "code": code, "reason": reason}, 0)
        if self._writable is not None:
            self._writable.set()
            self._writable = None

    def check_timeouts(self) -> None:
        """daphne's time-outs, and pings; a negative one is none."""
        age = self.duration()
        if self.state == self.STATE_CONNECTING:
            if self.phase is Phase.CONNECTING and 0 <= self.server.websocket_connect_timeout < age:
                self.onOpenHandshakeTimeout()
        elif self.state == self.STATE_OPEN:
            if 0 <= self.server.websocket_timeout < age:
                self.shut(1000)
            elif self._reading_paused and peer_has_closed(handle_of(self.transport)):
                # What it sent can be received as long as daphne lets an application without a client run.
                self.server.protocol_disconnected(self)
            elif time() - self.last_ping > self._ping_interval:
                self._ping()

    @property
    def _ping_interval(self) -> float:
        interval: float = self.server.ping_interval
        return min(interval, PAUSED_INTERVAL) if self._reading_paused else interval

    def _ping(self) -> None:
        self.last_ping = time()
        if self._reading_paused:
            self.sendPing()  # nobody hears the pong, but a peer that has closed resets the connection
        elif self.autoPingTimeoutCall is None:
            self._sendAutoPing()

    def _log_action(self, action: str) -> None:
        client = f"{self.client_addr[0]}:{self.client_addr[1]}" if self.client_addr else None
        self.server.log_action("websocket", action, {"path": self.path.decode("latin-1"), "client": client})


def handle_of(transport: Any) -> Any:
    return getattr(transport, "transport", transport).getHandle()  # TLS has one below it


def plain_socket(transport: Any) -> socket.socket | None:
    """The socket under a transport that may be written to past Twisted; TLS and proxies may not."""
    if isinstance(transport, tcp.Server) and not transport.TLS and hasattr(transport, "_tempDataLen"):
        return transport.socket
    return None
