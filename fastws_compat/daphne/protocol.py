"""One WebSocket on daphne: autobahn implements RFC 6455, this module the ASGI side of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from time import time
from typing import Any

from twisted.internet.defer import Deferred

from fastws_compat import conf, status
from fastws_compat.connections import census
from fastws_compat.connections.admission import Turn, admission
from fastws_compat.connections.answers import checked_answer
from fastws_compat.connections.closing import close_code, close_reason
from fastws_compat.connections.deadlines import Deadlines
from fastws_compat.connections.outcomes import LOST, By, Closed, Reason
from fastws_compat.connections.peers import closed_by_peers
from fastws_compat.connections.refusal import retry_after
from fastws_compat.connections.states import DEFLATE, TURN, message_size
from fastws_compat.connections.tracebacks import for_log
from fastws_compat.daphne import deflate, frames, handshake
from fastws_compat.daphne.handshake import Upgrade
from fastws_compat.daphne.inbox import Inbox
from fastws_compat.daphne.loop import has_left_the_backlog
from fastws_compat.daphne.negotiation import Agreement, MalformedHeader, negotiate
from fastws_compat.daphne.phases import EXPECTED, ClientDisconnected, Phase, unexpected
from fastws_compat.daphne.reader import MessageReader
from fastws_compat.daphne.writer import FRAME_OVERHEAD, MAX_BYTES_PER_TURN, OPEN, handle_of
from fastws_compat.requests import with_root_path
from fastws_compat.types import Message

logger = logging.getLogger("daphne.server")

# How long a peer that broke the protocol may take to close. Others have closeHandshakeTimeout.
FAULT_TIMEOUT = 2
# How often a client is pinged while reading is paused. Its close frame cannot be read then, but a client that
# has closed the connection answers a ping with a reset.
PAUSED_PING_INTERVAL = 4
# A client must not send before the handshake is answered (RFC 6455, 4.1). At most this much is read early.
MAX_EARLY_BYTES = 64 * 1024

# Attributes that are not needed once the handshake is answered: a tenth of an idle socket's memory.
HANDSHAKE_ATTRIBUTES = (
    "http_request_data",
    "http_status_line",
    "http_headers",
    "http_request_params",
    "upgrade",
)


class WebSocketProtocol(MessageReader):
    """The complete ASGI WebSocket specification on top of daphne's protocol.

    `state` is autobahn's and describes the client's side of the connection, `phase` the application's side.
    """

    upgrade: Upgrade  # set by the factory
    # Makes the frame for a message. A broadcast makes it once for all sockets that have the same function
    # here, and writes it to each of them; not to those whose `shares_frames` is False.
    frame_of: Callable[[Message], bytes] = staticmethod(frames.of)
    shares_frames = True
    # Whether the client is one of `live.js`.
    _is_live = False
    # Whether the server refused the handshake: the application was too slow, or the server is stopping.
    _refused_by_server = False
    # The first close, and the refusal of a handshake that an application was working on.
    closed: Closed | None = None
    refusal: tuple[int, Reason] | None = None
    # The handshake's place among those that the process works on, until it is answered.
    _turn: Turn | None = None
    # The sizes of the messages in and out, where a subclass measures them.
    sizes: Any = None

    # The handshakes that the application is working on.
    unanswered: Deadlines[WebSocketProtocol]

    # Called by Twisted and autobahn

    def connectionMade(self) -> None:
        self.server = self.factory.server_class
        self.client_addr = self.upgrade.client
        self.path = self.upgrade.target.partition(b"?")[0]
        self.loop = asyncio.get_event_loop()
        self.inbox = Inbox(self.loop)
        self.phase = Phase.CONNECTING
        self.disconnected = False
        self._registered = self._is_waiting = False
        self._application_informed = False
        self._refusal: Message | None = None
        self._abort_timer: asyncio.TimerHandle | None = None
        self._prepare_writing()
        self._prepare_reading()
        self.factory.countConnections += 1
        # An HTTP channel that received the handshake is still registered as the producer.
        self.transport.unregisterProducer()
        self.transport.registerProducer(self, True)

    def begin_handshake(self) -> None:
        """Begin to answer a request that autobahn would accept, without having it read the request again."""
        self._wskey = self.upgrade.values(b"sec-websocket-key")[0].decode()
        self._queue()

    def onConnect(self, request: Any) -> Deferred[None]:
        if (objection := self.upgrade.objection) is not None:
            self.failHandshake(*objection)
        else:
            self._queue()
        return Deferred()  # never fires: `send` answers the client, not autobahn

    def _queue(self) -> None:
        """Begin when it is the handshake's turn."""
        if self.server.stopping:
            self._refuse_for_now("stopping")
        elif admission().lately_full and has_left_the_backlog(self):
            self._refuse_for_now(None)
        elif not admission().request(self, self._begin):
            self._is_waiting = True

    def _begin(self, turn: Turn) -> None:
        """Start the application when the handshake's turn has come; the time for an answer begins here."""
        self._turn = turn
        turn.is_watched = True
        try:
            self._begin_application(turn)
        except Exception:  # the caller is the handshake that has made room
            logger.exception("The handshake failed on %r.", self)
            self.failHandshake("", 500)

    def _begin_application(self, turn: Turn) -> None:
        if self._is_waiting:
            self._is_waiting = False
            if self.server.stopping or not self.transport.connected or turn.is_abandoned:
                self._refuse_for_now("stopping" if self.server.stopping else None)
                return
        if self.openHandshakeTimeout > 0:
            self.unanswered.add(self)
        self.server.protocol_connected(self)
        self._registered = True
        self.socket_opened = self.last_ping = time()
        self.inbox.put({"type": "websocket.connect"}, 0)
        scope = self.upgrade.scope(self.server.root_path, conf.get("DAPHNE_ROOT_PATH_HEADER"))
        scope[TURN] = turn
        self._is_live = b"fastws=" in scope["query_string"]
        if root_path := scope["root_path"].rstrip("/"):
            scope = with_root_path(root_path, scope)  # a proxy may have removed the prefix from the path
        self.server.start_application(self, scope)
        self._log_action("connecting")

    def dataReceived(self, data: bytes) -> None:
        if self.state == self.STATE_CLOSED:
            return
        if self.state == self.STATE_CONNECTING and not self._registered and not self._is_waiting:
            self._dataReceived(data)
            return
        if self.data:
            data = self.data + data
        if self.state != self.STATE_CONNECTING:
            self._read_frames(data)
            return
        self.data = data
        if len(data) > MAX_EARLY_BYTES:
            self.transport.pauseProducing()

    def onCloseFrame(self, code: int | None, reasonRaw: bytes | None) -> bool | None:
        was_open = self.state == self.STATE_OPEN
        # autobahn rejects 1014. It is given 1013, which it echoes; the application receives 1014.
        known = status.WS_1013_TRY_AGAIN_LATER if code == status.WS_1014_BAD_GATEWAY else code
        stop: bool | None = super().onCloseFrame(known, reasonRaw)
        if was_open and not self.failedByMe:
            self._note_close(received_code(code), "client")
            self._mark_disconnected(received_code(code), self.remoteCloseReason or "")
        return stop

    def onOpen(self) -> None:
        self._log_action("connected")

    def onClose(self, wasClean: bool, code: int | None, reason: str | None) -> None:
        if not self._registered:
            return
        if not wasClean:
            self._note_close(*LOST)
            self._mark_disconnected(status.WS_1006_ABNORMAL_CLOSURE, "")
        else:
            self._mark_disconnected(received_code(code), reason or "")
        self.server.protocol_disconnected(self)
        self._log_action("disconnected")

    def onOpenHandshakeTimeout(self) -> None:
        if self.state == self.STATE_CONNECTING:
            logger.warning("The handshake was not answered in time on %r.", self)
            self._refused_by_server = True
            self._refuse_for_now("timeout")

    def failHandshake(self, reason: str, code: int = 400, responseHeaders: Any = None) -> None:
        headers = [] if self.upgrade.has_version else [handshake.VERSION]
        # The reason of a 500 is the text of an exception, which must not reach the client.
        body = reason.encode() if code < 500 else b""
        self._refuse(code, [(b"Content-Type", b"text/plain; charset=utf-8"), *headers], body)

    def _fail_connection(self, code: int = 1001, reason: str = "") -> None:
        if self.failedByMe:
            return  # one fault is often found twice; the close frame reports the first
        self.closeHandshakeTimeout = FAULT_TIMEOUT
        self._partial = None
        self._note_close(code, "server")
        super()._fail_connection(code, reason)
        self._mark_disconnected(code, reason)

    def dropConnection(self, abort: bool = False) -> None:
        super().dropConnection(abort and not self.wasClean)
        if self._abort_timer is None and self.transport.connected:
            # The client may never read what is still buffered.
            timeout = self.closeHandshakeTimeout
            self._abort_timer = self.loop.call_later(timeout, self.transport.abortConnection)

    def connectionLost(self, reason: Any) -> None:
        self._end_writing()
        # These refer to this object, which would be left to the garbage collector.
        self.transport.__dict__.pop("doRead", None)
        self.inbox.on_low = None
        if self.closeHandshakeTimeoutCall is not None:
            self.closeHandshakeTimeoutCall.cancel()
            self.closeHandshakeTimeoutCall = None
        if self._abort_timer is not None:
            self._abort_timer.cancel()
        super().connectionLost(reason)
        self._end_turn()
        self.resumeProducing()
        self.server.websocket_lost(self)

    # Called by the application

    async def send(self, message: Message) -> None:
        if self.phase is not OPEN or self.disconnected or message.get("type") != "websocket.send":
            await self._send_event(message)
            return
        if self._writable is not None:
            await self._wait_writable("websocket.send")
        # Nothing may be written between making a frame and writing it: it may refer to the frames before it.
        frame = self.frame_of(message)
        self._bytes_this_turn += len(frame) + FRAME_OVERHEAD
        self.messages_out += 1
        self.bytes_out += message_size(message)
        self._write(frame)
        if self._bytes_this_turn > MAX_BYTES_PER_TURN:
            await self._let_others_run()  # after the write: the messages of several tasks keep their order

    async def _send_event(self, message: Message) -> None:
        """Send what is not a message of an open socket: an answer, a close, or a mistake."""
        kind = message.get("type")
        self._expect(kind)
        if kind == "websocket.close":
            self._close(message)
        elif kind == "websocket.accept":
            self._accept(message)
        elif kind == "websocket.http.response.start":
            self._begin_refusal(message)
        else:
            await self._continue_refusal(message)

    def _expect(self, kind: str | None) -> None:
        """Raise if the application may not send a message of this type now."""
        if kind not in EXPECTED[self.phase]:
            if self._refused_by_server:
                raise ClientDisconnected("The server has refused the handshake.")
            raise unexpected(kind, self.phase)
        if self.disconnected:
            self._application_informed = True
            raise ClientDisconnected("The client has disconnected.")

    def _accept(self, message: Message) -> None:
        subprotocol = message.get("subprotocol") or None
        agreement = self._negotiate(message[DEFLATE]) if DEFLATE in message else None
        key, headers = self._wskey.encode(), message.get("headers") or ()
        extensions = agreement.response if agreement is not None else None
        answer = handshake.acceptance(key, subprotocol, headers, self.server.server_name, extensions)
        self._end_turn()
        self.phase, self.state = Phase.OPEN, self.STATE_OPEN
        self.websocket_protocol_in_use = subprotocol
        self.inside_message, self.current_frame = False, None
        if agreement is not None:
            self._compress(agreement, message[DEFLATE])
        self._write(answer)
        self._forget_handshake()
        if self._socket is not None:
            self.transport.doRead = self._read_socket
        self.onOpen()
        if self.data:
            self._read_frames(self.data)
        if not self._reading_paused:
            self.transport.resumeProducing()

    def _negotiate(self, options: Message) -> Agreement | None:
        """Agree with the client on compression; refuse a handshake that cannot be understood."""
        try:
            return negotiate(self.upgrade.extensions, options["options"])
        except MalformedHeader:
            self.failHandshake("The header 'sec-websocket-extensions' is malformed.")
            raise ClientDisconnected("The client's handshake is malformed.") from None

    def _compress(self, agreement: Agreement, options: Message) -> None:
        self._perMessageCompress = deflate.ACCEPTED
        limit = min(filter(None, (options["max_size"], self._limit)), default=deflate.MAX_INFLATED)
        self._inflater = deflate.inflater_for(agreement, limit)
        self.frame_of = deflate.frames_for(agreement, options["options"])
        self.shares_frames = agreement.server_no_context_takeover

    def _forget_handshake(self) -> None:
        for name in HANDSHAKE_ATTRIBUTES:
            self.__dict__.pop(name, None)

    def _close(self, message: Message) -> None:
        self._application_informed = True
        if self.phase is Phase.CONNECTING:
            self._refuse(403)  # a close code needs an open WebSocket
            return
        code = message.get("code")
        self._send_close(1000 if code is None else close_code(code), close_reason(message.get("reason")))

    def _send_close(self, code: int, reason: str) -> None:
        """Send a close frame. The application receives the disconnect at once, not with the answer."""
        self.phase = Phase.CLOSED
        self._note_close(code, "server")
        self._end_inbox(code, reason)
        self.sendCloseFrame(code, reason.encode())
        self._resume_reading()

    def _begin_refusal(self, message: Message) -> None:
        self._refusal = checked_answer(message)
        self.phase = Phase.REFUSING
        self._end_turn()

    async def _continue_refusal(self, message: Message) -> None:
        body, more_body = message.get("body", b""), message.get("more_body", False)
        if self._writable is not None:
            await self._wait_writable("websocket.http.response.body")
        if self._refusal is not None:
            code, headers = self._refusal["status"], self._refusal.get("headers") or ()
            self._refusal = None
            body = handshake.refusal(code, headers, body, more_body, self.server.server_name)
        self._write(body)
        if not more_body:
            self._application_informed = True
            self._refused()

    def _refuse(self, code: int, headers: handshake.Headers = (), body: bytes = b"") -> None:
        self._write(handshake.refusal(code, headers, body, False, self.server.server_name))
        self._refused()

    def _refuse_for_now(self, reason: Reason | None) -> None:
        """Refuse a handshake that may succeed later, or in another process; it is counted for a reason."""
        if reason is not None:
            self.refusal = (503, reason)  # the session counts it when it ends, if there is one
            if not self._registered:
                census.refused(None, 503, reason)
        self._refuse(503, [(b"Retry-After", retry_after().encode())])

    def _refused(self) -> None:
        self._end_turn()
        self.phase = Phase.CLOSED
        self.wasNotCleanReason = "the handshake was refused"
        self._mark_disconnected(status.WS_1006_ABNORMAL_CLOSURE, "")
        self.dropConnection()
        self._log_action("rejected")

    def _end_turn(self) -> None:
        """The handshake is answered, or over."""
        if self._turn is not None:
            self.unanswered.discard(self)
            self._turn.end()
            self._turn = None

    # Called by the server

    @property
    def client_socket(self) -> Any:
        """The socket to the client, which may be closed at its end; None if the connection is over."""
        is_over = self.disconnected or not self.transport.connected
        return None if is_over else handle_of(self.transport)

    @property
    def application_knows(self) -> bool:
        """Whether the application closed the connection or received its disconnect."""
        return self._application_informed or (self.disconnected and self.inbox.is_empty)

    def mark_informed(self) -> None:
        """Record that the application knows, for example because it was cancelled."""
        self._application_informed = True

    def application_done(self, task: asyncio.Task[None]) -> None:
        """Close the connection when its application has returned or raised, unless it is over already."""
        error = None if task.cancelled() else task.exception()
        self.server.application_ended(self)
        failed = error is not None or task.cancelled()
        try:
            if error is not None:
                self._application_raised(error)
            elif not failed and self._is_unanswered:
                logger.error("The application returned without answering the handshake on %r.", self)
        finally:  # an exception that cannot be logged ends the connection too
            self._end(failed=failed)

    def _application_raised(self, error: BaseException) -> None:
        if not isinstance(error, ClientDisconnected):
            logger.error("Exception inside application: %s", error, exc_info=for_log(error))

    @property
    def _is_unanswered(self) -> bool:
        return self.phase is Phase.CONNECTING and not self.disconnected

    def _end(self, failed: bool) -> None:
        if self.disconnected or self.phase is Phase.CLOSED:
            return
        if self.phase is Phase.OPEN:
            self._send_close(status.WS_1011_INTERNAL_ERROR if failed else 1000, "")
        elif self.phase is Phase.CONNECTING or self._refusal is not None:
            self._refuse(500)
        else:
            # Part of the response has been sent; cutting the connection shows that it is incomplete.
            self.phase = Phase.CLOSED
            self.dropConnection(abort=True)

    def close_from_server(self, code: int, reason: str = "") -> None:
        """Close the connection on the server's behalf; the application receives the disconnect at once."""
        if self.disconnected or self.phase is Phase.CLOSED:
            return
        self._mark_disconnected(code, reason)
        if self.phase is Phase.OPEN:
            self._note_close(code, "server")
            self.sendCloseFrame(code, close_reason(reason).encode())
            self._resume_reading()
        elif self.phase is Phase.CONNECTING or self._refusal is not None:
            self._refused_by_server = True
            self._refuse_for_now("stopping")
        else:
            self.dropConnection(abort=True)

    def close_for_restart(self) -> None:
        """Close with 1012; clients of `live.js` are told over how many seconds they spread their return."""
        reason = f"spread={conf.get('RECONNECT_SPREAD')}" if self._is_live else ""
        self.close_from_server(status.WS_1012_SERVICE_RESTART, reason)

    def _note_close(self, code: int, by: By) -> None:
        if self.closed is None and self.phase is not Phase.CONNECTING:
            self.closed = (code, by)

    def _mark_disconnected(self, code: int, reason: str) -> None:
        if self.disconnected:
            return
        self.disconnected = True
        self._end_inbox(code, reason)
        self._wake_writers()

    def _end_inbox(self, code: int, reason: str) -> None:
        self._take_back()
        self.inbox.end({"type": "websocket.disconnect", "code": code, "reason": reason})

    def check_timeouts(self) -> None:
        """Apply daphne's timeouts and send pings. A negative timeout is off."""
        self.next_check = 0.0
        age = self.duration()
        if self.state == self.STATE_CONNECTING:
            if self.phase is Phase.CONNECTING and 0 <= self.server.websocket_connect_timeout < age:
                self.onOpenHandshakeTimeout()
        elif self.state == self.STATE_OPEN:
            if 0 <= self.server.websocket_timeout < age:
                self.close_from_server(1000)
            elif self._reading_paused and closed_by_peers([handle_of(self.transport).fileno()]):
                # The application may still receive what arrived, until daphne's application_close_timeout.
                self.server.protocol_disconnected(self)
            elif time() - max(self.last_ping, self.last_in or 0) > self._ping_interval:
                self._ping()
            elif not self._reading_paused:
                self.next_check = self._next_check()

    def _next_check(self) -> float:
        """When a timeout of an open connection may be due; what the client sends puts the ping off."""
        ping: float = max(self.last_ping, self.last_in or 0) + self.server.ping_interval
        limit = self.server.websocket_timeout
        return ping if limit < 0 else min(ping, self.socket_opened + limit)

    @property
    def _ping_interval(self) -> float:
        interval: float = self.server.ping_interval
        return min(interval, PAUSED_PING_INTERVAL) if self._reading_paused else interval

    def _ping(self) -> None:
        self.last_ping = time()
        if self._reading_paused:
            self.sendPing()  # the pong is not read, but a peer that has closed resets the connection
        elif self.autoPingTimeoutCall is None:
            self._sendAutoPing()

    def _log_action(self, action: str) -> None:
        if self.server.action_logger is None:
            return
        client = f"{self.client_addr[0]}:{self.client_addr[1]}" if self.client_addr else None
        details = {"path": self.path.decode("latin-1"), "client": client, "socket": self}
        self.server.log_action("websocket", action, details)


def received_code(code: int | None) -> int:
    """The code of a close frame as ASGI reports it: a frame without one has 1005."""
    return status.WS_1005_NO_STATUS_RCVD if code is None else code
