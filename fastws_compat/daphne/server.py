"""daphne's server with the WebSocket protocol, the lifespan and the shutdown that ASGI specifies."""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
import threading
import warnings
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext
from contextvars import Context, copy_context
from functools import partial
from math import inf
from time import monotonic, time
from typing import Any

import autobahn.twisted.websocket
import autobahn.websocket.protocol
import daphne.http_protocol
import daphne.server
import daphne.ws_protocol
from twisted.internet import reactor
from twisted.internet.defer import Deferred

from fastws_compat import conf
from fastws_compat.collector import frozen_survivors
from fastws_compat.concurrency import is_cleaning
from fastws_compat.connections.admission import admission, admission_of
from fastws_compat.connections.deadlines import Deadlines
from fastws_compat.connections.interrupt import is_from_operator
from fastws_compat.connections.registry import ending_tasks
from fastws_compat.daphne import hooks
from fastws_compat.daphne.arrivals import Arrival
from fastws_compat.daphne.handshake import Upgrade
from fastws_compat.daphne.lifespan import Lifespan
from fastws_compat.daphne.loop import prepare_loop
from fastws_compat.daphne.protocol import WebSocketProtocol
from fastws_compat.daphne.shutdown import (
    EXIT_TIMEOUT,
    MAX_DEVELOPMENT_GRACE,
    SHUTDOWN_MARGIN,
    drain,
    exit_by,
    stop_at_exit,
)
from fastws_compat.daphne.sizing import MeasuringProtocol
from fastws_compat.types import ASGIApp, Receive, Scope, Send

logger = logging.getLogger("daphne.server")

# How many connections the kernel may keep until they are accepted; it allows at most `net.core.somaxconn`.
# With Twisted's default of 50, clients of a restarted server wait for a second, then for three, for seven.
BACKLOG = 65535

CLOSE_TIMEOUT = 10  # autobahn's default of 1 s is too short for a slow mobile connection


def unformatted(value: object, **style: Any) -> object:
    return value


# autobahn formats and colours the arguments of its debug log even if that is off, many times per connection.
for _module in (autobahn.websocket.protocol, autobahn.twisted.websocket):
    for _name in ("hl", "hlid", "hltype", "hlval", "pformat"):
        if hasattr(_module, _name):
            setattr(_module, _name, unformatted)


def protocol_of(transport: Any) -> Any:
    """What receives the data of a connection; under TLS the transport is a protocol too."""
    return transport.wrappedProtocol if hasattr(transport, "wrappedProtocol") else transport.protocol


class WebRequest(daphne.http_protocol.WebRequest):  # type: ignore[misc]
    """Gives itself to the WebSocket factory, which needs the raw headers: daphne joins repeated ones."""

    def process(self) -> Any:
        if not conf.get("DAPHNE_ROOT_PATH_HEADER"):
            self.requestHeaders.removeHeader(b"Daphne-Root-Path")
        factory, channel = self.server.ws_factory, self.channel
        factory.request = self
        try:
            processed = super().process()
        finally:
            factory.request = None
        if self.transport is None:  # it belongs to the WebSocket now
            self.content.close()
            # What the client has sent early, in the same packet, Twisted would keep for the next request.
            if early := channel.clearLineBuffer():
                protocol_of(channel.transport).dataReceived(early)
        return processed


class HTTPFactory(daphne.http_protocol.HTTPFactory):  # type: ignore[misc]
    def __init__(self, server: Server) -> None:
        super().__init__(server)
        # The connections that have not sent anything yet.
        self.silent = Deadlines(asyncio.get_event_loop(), self.timeOut, Arrival.time_out)

    def buildProtocol(self, addr: Any) -> Any:
        arrival = Arrival()
        arrival.factory = self
        return arrival

    def channel(self, addr: Any) -> Any:
        """Twisted's protocol for a connection."""
        protocol = super().buildProtocol(addr)
        protocol.requestFactory = WebRequest
        return protocol


class WebSocketFactory(daphne.ws_protocol.WebSocketFactory):  # type: ignore[misc]
    protocol = WebSocketProtocol
    request: WebRequest | None = None

    def __init__(self, server: Server) -> None:
        super().__init__(server, server=server.server_name)
        self.setProtocolOptions(
            versions=[13],
            failByDrop=False,
            echoCloseCodeReason=True,
            closeHandshakeTimeout=CLOSE_TIMEOUT,
            # The protocol decodes texts anyway, and autobahn's validation would take twice as long as that.
            utf8validateIncoming=False,
        )

    def setProtocolOptions(self, **options: Any) -> None:
        """Store the options in a subclass; autobahn would copy them into every connection."""
        super().setProtocolOptions(**options)
        values = {name: getattr(self, name) for name in WebSocketProtocol.CONFIG_ATTRS}
        base = MeasuringProtocol if conf.get("METRICS_SIZES") else WebSocketProtocol
        own: Any = type("WebSocketProtocol", (base,), {**values, "CONFIG_ATTRS": (), "factory": self})
        for name, value in own.initial_state().items():
            setattr(own, name, value)
        seconds = self.openHandshakeTimeout
        own.unanswered = Deadlines(asyncio.get_event_loop(), seconds, own.onOpenHandshakeTimeout)
        self.protocol = own

    def buildProtocol(self, addr: Any) -> Any:
        request: Any = self.request
        protocol = self.protocol()
        protocol.upgrade = Upgrade.from_request(request)
        # autobahn rejects an origin that it cannot parse, but only the application decides who may connect.
        request.requestHeaders.removeHeader(b"origin")
        return protocol

    def begin(self, transport: Any, upgrade: Upgrade) -> None:
        """Begin the handshake of a request that autobahn would accept."""
        transport.protocol = protocol = self.protocol()
        protocol.upgrade = upgrade
        protocol.makeConnection(transport)
        protocol.begin_handshake()


class Server(daphne.server.Server):  # type: ignore[misc]
    """The completed daphne, which `daphne` and `manage.py runserver` run after `install`."""

    stopping = False
    deadline: float | None = None
    emptied: asyncio.Event | None = None
    connections: dict[Any, dict[str, Any]]
    application: Any
    # Every application begins in a copy of it. The running context may be that of another connection, which
    # has made room for this one or has resumed what Twisted reads.
    context = Context()

    def run(self) -> None:
        self.context = copy_context()
        hooks.run_callbacks(self.application)
        self.lifespan = Lifespan(self.application)
        self.application = partial(call, self.application)  # daphne itself calls it for HTTP
        self.websockets: set[WebSocketProtocol] = set()
        # The connections whose client has left; daphne has not forgotten them yet.
        self.left: set[Any] = set()
        self.ports: list[Any] = []
        loop = prepare_loop(reactor)
        logger.info("Running on the event loop of %s", type(loop).__module__.partition(".")[0])
        if self.drain_delay or self.drain_spread:
            logger.info("Stopping takes up to %g s: supervisors must wait longer", self.stop_seconds)
        asyncio.set_event_loop(loop)
        if not loop.run_until_complete(self.lifespan.startup()):
            sys.exit(1)
        self._stop_with_process()
        admission_of(loop).on_full.append(self.pause_listening)
        # daphne starts Twisted's log, which takes Python's warnings, and then discards it.
        reactor.callWhenRunning(setattr, warnings, "showwarning", warnings.showwarning)
        try:
            with frozen_survivors(loop) if conf.get("GC_FREEZE") else nullcontext():
                super().run()
            if self.abort_start:
                loop.run_until_complete(self.lifespan.shutdown(timeout=self.grace))
        finally:
            self.ended.set()
        if self.signal_handlers and self.deadline is not None:
            exit_by(max(self.deadline, monotonic() + EXIT_TIMEOUT))

    def _stop_with_process(self) -> None:
        """Shut down gracefully where Twisted has not installed its signal handlers, or not yet."""
        self.ended = threading.Event()
        if threading.current_thread() is not threading.main_thread():
            stop_at_exit(self)
        elif self.signal_handlers or signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
            signal.signal(signal.SIGTERM, lambda *_: reactor.callFromThread(self.stop))

    @property
    def grace(self) -> float:
        """Seconds that endpoints have to finish; fewer under `runserver`, where a developer is waiting."""
        seconds = float(conf.get("SHUTDOWN_GRACE"))
        return seconds if self.signal_handlers else min(seconds, MAX_DEVELOPMENT_GRACE)

    @property
    def drain_delay(self) -> float:
        """Seconds for which the server still serves after SIGTERM; none where a developer is waiting."""
        return float(conf.get("DRAIN_DELAY")) if self.signal_handlers else 0.0

    @property
    def drain_spread(self) -> float:
        return float(conf.get("DRAIN_SPREAD")) if self.signal_handlers else 0.0

    @property
    def stop_seconds(self) -> float:
        """The longest time from SIGTERM to the end of the process."""
        return self.drain_delay + self.drain_spread + self.grace + SHUTDOWN_MARGIN

    # daphne's `run` creates stock factories and assigns them; the setters replace them.

    @property
    def http_factory(self) -> HTTPFactory:
        return self._http_factory

    @http_factory.setter
    def http_factory(self, stock: object) -> None:
        self._http_factory = HTTPFactory(self)

    @property
    def ws_factory(self) -> WebSocketFactory:
        return self._ws_factory

    @ws_factory.setter
    def ws_factory(self, stock: object) -> None:
        self._ws_factory = WebSocketFactory(self)

    def listen_success(self, port: Any) -> None:
        self.ports.append(port)
        limit_accepts(port)
        super().listen_success(port)

    def pause_listening(self, paused: bool) -> None:
        """Leave new connections to the kernel while the process works on as many handshakes as it may."""
        for port in [] if self.stopping else self.ports:
            # The loop calls a port in the context in which it was told to watch it.
            self.context.copy().run(port.stopReading if paused else port.startReading)

    def stop_listening(self) -> None:
        self.stopping = True
        for port in self.ports:
            port.stopListening()

    # Applications

    def create_application(self, protocol: Any, scope: Scope) -> Any:
        scope["state"] = dict(self.lifespan.state)
        return self.context.copy().run(super().create_application, protocol, scope)

    def start_application(self, protocol: WebSocketProtocol, scope: Scope) -> None:
        scope["state"] = dict(self.lifespan.state)
        task = asyncio.get_event_loop().create_task(
            self.application(scope, protocol.inbox.get, protocol.send), context=self.context.copy()
        )
        self.connections[protocol]["application_instance"] = task
        self.websockets.add(protocol)
        task.add_done_callback(protocol.application_done)

    def application_ended(self, protocol: WebSocketProtocol) -> None:
        """Remove the application from daphne's records."""
        details = self.connections.get(protocol, {})
        details.pop("application_instance", None)
        if "disconnected" in details:
            self._forget(protocol)

    def _is_ending(self, protocol: Any) -> bool:
        """Whether the application of a WebSocket has ended, and `application_done` is about to be called."""
        task = self.connections.get(protocol, {}).get("application_instance")
        return isinstance(protocol, WebSocketProtocol) and task is not None and task.done()

    def _forget(self, protocol: WebSocketProtocol) -> None:
        del self.connections[protocol]
        self.left.discard(protocol)

    def applications(self, http: bool = False) -> list[asyncio.Task[None]]:
        """The running applications, or only those of plain HTTP requests."""
        tasks = [
            details["application_instance"]
            for protocol, details in self.connections.items()
            if "application_instance" in details and not (http and isinstance(protocol, WebSocketProtocol))
        ]
        return [task for task in tasks if not task.done()]

    def protocol_disconnected(self, protocol: Any) -> None:
        # No record exists if the application ended after its client left but before the connection was lost.
        if protocol in self.connections:
            self.left.add(protocol)
            super().protocol_disconnected(protocol)

    def application_checker(self) -> None:
        """Cancel each application whose client left too long ago; daphne calls this once a second.

        An application that received the disconnect, or was cancelled before, may take as long as it needs.
        """
        now = time()
        chosen = (self.connections.keys() - self.websockets) | self.left
        with self._only([each for each in chosen if not self._is_ending(each)]):
            late = [
                (protocol, details)
                for protocol, details in self.connections.items()
                if now - details.get("disconnected", now) > self.application_close_timeout
            ]
            ending = ending_tasks() if late else set()
            for protocol, details in late:
                if isinstance(protocol, WebSocketProtocol):
                    _spare_or_inform(protocol, details, ending)
            super().application_checker()
            for _, details in late:
                details["disconnected"] = now
        self.left &= self.connections.keys()

    def timeout_checker(self) -> None:
        now = time()
        with self._only([each for each in self.connections if getattr(each, "next_check", 0.0) <= now]):
            super().timeout_checker()

    @contextmanager
    def _only(self, chosen: Iterable[Any]) -> Iterator[None]:
        """Show daphne these of the connections: it looks at each of them, and most need nothing."""
        everything = self.connections
        shown = {protocol: everything[protocol] for protocol in chosen if protocol in everything}
        self.connections = dict(shown)
        try:
            yield
        finally:
            for protocol in shown.keys() - self.connections.keys():
                del everything[protocol]
            everything.update(self.connections)
            self.connections = everything

    def websocket_lost(self, protocol: WebSocketProtocol) -> None:
        self.websockets.discard(protocol)
        details = self.connections.get(protocol)
        if details is not None and "application_instance" not in details:
            self._forget(protocol)
        if self.emptied is not None and not self.websockets:
            self.emptied.set()

    def kill_all_applications(self) -> Deferred[None]:
        self.deadline = monotonic() + self.stop_seconds
        drained: Deferred[None] = Deferred.fromFuture(asyncio.ensure_future(drain(self, self.grace)))
        drained.addErrback(lambda failure: logger.error("The shutdown failed: %s", failure))
        return drained


def limit_accepts(port: Any) -> None:
    """Let the kernel keep as many connections as it allows, and accept no more at once than may begin."""
    port.socket.listen(BACKLOG)
    do_read = port.doRead

    def accept() -> None:
        free = admission().free
        port.numberAccepts = int(max(1, min(free, port.numberAccepts)))
        do_read()

    port.doRead = accept


async def call(application: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Call the application in a coroutine, so that an error before its first `await` ends the task too.

    A SystemExit or KeyboardInterrupt becomes an ordinary error, as on uvicorn: asyncio would raise it in the
    loop too, and the process would end without a shutdown.
    """
    try:
        await application(scope, receive, send)
    except (SystemExit, KeyboardInterrupt) as exc:
        if is_from_operator(exc):
            raise
        raise RuntimeError(f"The application raised {type(exc).__name__}") from exc


def _spare_or_inform(protocol: WebSocketProtocol, details: dict[str, Any], ending: set[Any]) -> None:
    """Have daphne spare an application that knows its client has left; it will cancel any other one."""
    task = details.get("application_instance")
    if protocol.application_knows or task in ending or is_cleaning(task):
        details["disconnected"] = inf
    else:
        protocol.mark_informed()
