"""One connection from the outermost of the library's applications to its end.

However the application ends, the client gets a defined end, and no exception reaches the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from contextlib import suppress
from functools import partial
from traceback import walk_tb
from types import FrameType, MethodType
from typing import Any
from uuid import uuid4

from asgiref.sync import markcoroutinefunction

from fastws_compat import conf, health
from fastws_compat.connections import census, hooks, tally
from fastws_compat.connections.answers import checked_answer
from fastws_compat.connections.closing import closing_messages
from fastws_compat.connections.counted import Counted
from fastws_compat.connections.guard import Guard
from fastws_compat.connections.interrupt import Cleanup, current_task, is_from_operator, is_running_in
from fastws_compat.connections.monitor import Monitored
from fastws_compat.connections.outcomes import NO_ROUTE, Reason, note_answer
from fastws_compat.connections.pipe import pipe_of
from fastws_compat.connections.refusal import refuse
from fastws_compat.connections.registry import register
from fastws_compat.connections.states import (
    ANSWERS,
    CONNECTED,
    CONNECTING,
    DISCONNECTED,
    HANDLERS,
    RAISE_EXCEPTIONS,
    RESPONSE,
    SESSION,
    TURN,
    WebSocketDisconnect,
    WebSocketState,
)
from fastws_compat.connections.tally import Tally
from fastws_compat.connections.tracebacks import flat, for_log, leaves
from fastws_compat.daphne.portable import is_stock, with_codes
from fastws_compat.exception_handlers import DEFAULT_HANDLERS, handle
from fastws_compat.logger import logger
from fastws_compat.porting import foreign
from fastws_compat.threads import orm
from fastws_compat.types import ASGIApp, ExceptionHandler, Message, Receive, Scope, Send
from fastws_compat.websockets import WebSocket

# Seconds that a close frame has to reach a client that may not be reading.
CLOSE_TIMEOUT = 1.0

# In these states a close ends the socket; later it is a mistake that the server reports.
OPEN_STATES = (CONNECTING, CONNECTED)

# The query parameter of clients of `live.js`.
OURS = b"fastws="

# The scope of every connection that has ended.
ENDED: Scope = {"type": "websocket", "path": ""}

# Called with each WebSocket before its dependencies are solved; `signals` adds itself.
observers: list[Callable[[WebSocket], None]] = []


class Session(Monitored, Counted):
    """The lifecycle of one connection; the scope refers to it while the connection lasts."""

    guard: Guard | None = None
    _tasks: set[asyncio.Task[None]] | None = None
    # The state that the client knows of, where something else than our WebSocket may have sent.
    _sent: WebSocketState | None = None
    # The task of an application that does not use our WebSocket, as far as there may be one.
    foreign_task: asyncio.Task[Any] | None = None
    _id: str | None = None
    _at_end: list[Callable[[], Awaitable[None]]] | None = None

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        if (turn := scope.get(TURN)) is not None:
            self.turn, self.begun = turn, turn.begun
        else:
            self.begun = asyncio.get_running_loop().time()
        self.server_send = send
        if type(send) is MethodType:
            self.server = send.__self__
            if type(self.server).__module__.startswith("uvicorn."):
                self._tally = Tally()
                self.server_send = self._tally.yielding(send)
        elif type(send) is partial and is_stock(send):
            self.server_send = with_codes(send)

    def at_end(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Await `callback` when the connection ends, for whatever reason; the last one added runs first."""
        if self._at_end is None:
            self._at_end = []
        self._at_end.append(callback)

    @property
    def extra(self) -> dict[str, Any]:
        """The fields of log records about the connection; they contain nothing that the client sent."""
        route, user, template = self.scope.get("route"), self.scope.get("user"), self.template
        # A lazy user may not be loaded yet, and a log record must not query the database.
        user = getattr(user, "__dict__", {}).get("_wrapped", user)
        return {
            "route": None if template == NO_ROUTE else template,
            "endpoint": getattr(route, "name", None),
            "user_id": getattr(user, "pk", None),
            "connection_id": self.id,
        }

    @property
    def id(self) -> str:
        """The connection's id in logs, created when it is first needed."""
        if self._id is None:
            self._id = uuid4().hex
        return self._id

    def mark_closed(self) -> None:
        """Record that the close frame has been sent by other code, so that `finish` sends nothing."""
        self._sent = DISCONNECTED

    def cancel_foreign(self) -> None:
        """Cancel an application that does not use our WebSocket; the session absorbs the cancellation."""
        if self.foreign_task is not None:
            self._cancels += 1
            self.foreign_task.cancel()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` concurrently with the endpoint. At the end it has `CLOSE_TIMEOUT` to finish."""
        task = asyncio.create_task(work)
        if self._tasks is None:
            self._tasks = set()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def close(self) -> None:
        """Stop what runs concurrently with the endpoint, then call the callbacks of `at_end`."""
        if self.guard is not None:
            self.guard.stop()
        if self.read_ahead is not None:
            self.read_ahead.stop()
        try:
            if self._tasks:
                _, late = await asyncio.wait(self._tasks, timeout=CLOSE_TIMEOUT)
                for task in late:
                    task.cancel()
        finally:
            if self._at_end:
                await self._call_at_end(self._at_end)

    async def _call_at_end(self, callbacks: list[Callable[[], Awaitable[None]]]) -> None:
        """Call the callbacks. The exception of one is logged and does not stop the others."""
        cleanup = Cleanup()
        cleanup.begin()  # each callback has a time limit of its own
        try:
            while callbacks:
                try:
                    async with asyncio.timeout(conf.get("CLEANUP_TIMEOUT") or None):
                        await callbacks.pop()()
                except (Exception, asyncio.CancelledError) as exc:
                    if isinstance(exc, asyncio.CancelledError) and current_task().cancelling():
                        await self._call_at_end(callbacks)  # the server cancels one callback at a time
                        raise
                    logger.error("The end of a WebSocket session failed", exc_info=for_log(exc))
        finally:
            cleanup.end()

    def let_go(self) -> None:
        """Break the reference cycle with the scope, so that the garbage collector has nothing to find."""
        self._sent = DISCONNECTED
        if self.websocket is not None and self.websocket._pipe is not None:
            self.websocket._pipe.let_go()
        self.scope, self.websocket, self.read_ahead = ENDED, None, None

    @property
    def has_ended(self) -> bool:
        return self.scope is ENDED

    @property
    def state(self) -> WebSocketState:
        """The state of the application's side."""
        if self._sent is not None:
            return self._sent
        return CONNECTING if self.websocket is None else self.websocket.application_state

    def watch(self, send: Send) -> Send:
        """Wrap `send` for applications that do not use our WebSocket, to keep `state` up to date."""
        self._sent = self.state
        self.foreign_task = asyncio.current_task()

        def watched(message: Message) -> Any:
            return send(message) if message["type"] == "websocket.send" else self._pass_on(message, send)

        return markcoroutinefunction(watched)  # Channels warns of a `send` that does not look async

    async def _pass_on(self, message: Message, send: Send) -> None:
        """Send a message that answers or ends the connection, in a form that the server can send."""
        messages: Sequence[Message] = [checked_answer(message)]
        if message["type"] == "websocket.close" and self._sent in OPEN_STATES:
            messages = closing_messages(message, self.scope, accepted=self._sent is CONNECTED)
        for message in messages:
            before, after = self._sent, _state_after(message, self._sent)
            self._sent = after
            try:
                await send(message)
            except BaseException:
                if self._sent is after:
                    self._sent = before  # it was not sent, so `finish` will
                raise
            if before is CONNECTING:
                note_answer(self.scope, message)
                self.end_turn()
            elif message["type"] == "websocket.close":
                self.note_close(message["code"], "server")

    def socket(self, receive: Receive, send: Send) -> WebSocket:
        """The endpoint's own WebSocket, or a new one in the connection's present state."""
        if self.websocket is None:
            self.websocket = WebSocket(self.scope, receive, send)
            self.websocket.application_state = self.state
            if self.state is not CONNECTING:
                self.websocket.client_state = CONNECTED
            self._sent = None  # from now on, the socket knows the state
        return self.websocket

    def is_normal_end(self, exc: BaseException) -> bool:
        """Whether an exception means that the client has left.

        A disconnect of another socket, such as a dead member of a broadcast, is an error of the endpoint.
        """
        if not all(is_disconnect(each) or self._is_lost(each) for each in leaves(exc)):
            return False
        own = self.websocket
        is_open = own is not None and own.client_state is CONNECTED is own.application_state
        return own is None or not is_open or not any(map(self._raised_by_another, leaves(exc)))

    def _is_lost(self, exc: BaseException) -> bool:
        """Whether the server's `send` raised an exception, as ASGI asks for once the client has left."""
        return isinstance(exc, OSError) and any(
            self._is_send(frame) for frame, _ in walk_tb(exc.__traceback__)
        )

    def _is_send(self, frame: FrameType) -> bool:
        if self.server is None:  # `send` is a function, such as that of a middleware around the application
            return frame.f_code is getattr(self.server_send, "__code__", None)
        return frame.f_locals.get("self") is self.server

    def _raised_by_another(self, exc: BaseException) -> bool:
        """Whether a disconnect comes from the socket of another connection."""
        raiser = getattr(exc, "_raiser", None)  # Starlette's class has none
        return raiser is not None and raiser() is not self

    def is_abandoned_by(self, exc: BaseException) -> bool:
        """Whether the coroutine is being closed because its loop is, so that nothing can be awaited."""
        return isinstance(exc, GeneratorExit) and not is_running_in(self.task, self.foreign_task)

    async def finish(self, code: int = 1000) -> None:
        """End the connection for the client, unless it has ended or the client has left."""
        state = self.state
        gone = self.websocket is not None and self.websocket.client_state is DISCONNECTED
        if gone or state is DISCONNECTED:
            return
        try:
            if state is RESPONSE:
                await self.server_send({"type": "websocket.http.response.body", "body": b""})
            elif state is CONNECTING and code == 1011:
                await self.deny(500, "error")
            else:
                if state is CONNECTING:
                    self.note_refusal(403)
                self.close_code = code
                # The library's own codes are valid and have no reason, so there is nothing to check.
                await self.server_send({"type": "websocket.close", "code": code, "reason": ""})
            self._sent = DISCONNECTED
        except Exception as exc:
            logger.debug("The client left before its socket was closed (%r)", exc)

    async def deny(self, status: int, reason: Reason = "endpoint") -> None:
        """Refuse the handshake with a status."""
        with suppress(OSError, RuntimeError):  # the client has left, or has been answered meanwhile
            await refuse(self.scope, self.server_send, status, reason=reason, code=1011)

    async def fail(self, exc: BaseException) -> None:
        """Log an exception once, and close with 1011 or the code for the client's frame that caused it."""
        exc = flat(_innermost(exc))
        census.failed(self.template, exc)
        cause = None if self.websocket is None else self.websocket._client_error
        extra = self.extra
        # Without a route, the path is the client's: escaped and truncated, it cannot forge a log line.
        template = extra["route"] or ascii(self.scope["path"])[:200]
        if cause is not None and cause[0] is exc:
            logger.warning(
                "WebSocket %s: the client sent a frame that the endpoint cannot read (%s); closed with %d",
                template,
                type(exc).__name__,
                cause[1],
                extra=extra,
            )
            await self.finish(cause[1])
        else:
            hooks.run(hooks.failed, self, exc)
            gone = self.websocket is not None and self.websocket.client_state is DISCONNECTED
            if self.state is CONNECTED and not gone:
                self.close_code = 1011  # noted before it is sent, for the error's event in Sentry
            logger.error("Exception in WebSocket %s", template, exc_info=for_log(exc), extra=extra)
            await self.finish(1011)


def _state_after(message: Message, before: WebSocketState | None) -> WebSocketState | None:
    kind = message["type"]
    if kind == "websocket.http.response.body":
        return before if message.get("more_body") else DISCONNECTED
    return ANSWERS.get(kind, before)


def open_socket(scope: Scope, receive: Receive, send: Send, kind: type[WebSocket] = WebSocket) -> WebSocket:
    """The WebSocket for an endpoint that runs in the current task."""
    websocket = kind(scope, receive, send)
    session: Session | None = scope.get(SESSION)
    if session is not None:
        session.websocket = websocket
        session.task = asyncio.current_task()
        for observe in observers:
            observe(websocket)
        if OURS in scope.get("query_string", b""):
            greet(websocket)
    return websocket


def greet(websocket: WebSocket) -> None:
    """Send the hello to a client of `live.js` as soon as it is accepted."""
    from fastws_compat.groups.greeting import Greeting

    pipe_of(websocket).insert(Greeting(websocket))


async def serve(app: ASGIApp, scope: Scope, receive: Receive, send: Send, *, watched: bool = True) -> None:
    """Run `app` as the outermost application of a connection, and then end the connection.

    While an operator drains the process, the handshake is refused instead.

    `watched=False` means that only our WebSocket sends, which saves a call per message.
    """
    if health.is_closed:
        await refuse(scope, send, 503, reason="stopping")
        return
    session = scope[SESSION] = Session(scope, send)
    if tally.is_thorough and (own := session._tally) is not None:
        receive = session.count_thoroughly(own, receive)
    send = session.server_send
    open_here = register(session)
    if hooks.begun:
        hooks.run(hooks.begun, session)
    try:
        await app(scope, receive, session.watch(send) if watched else send)
    except Exception as exc:
        if scope.get(RAISE_EXCEPTIONS):
            raise
        if session.is_normal_end(exc):
            await session.finish()
        else:
            await session.fail(exc)
    except asyncio.CancelledError as exc:
        if not session.absorb_cancellation():
            await _end_cancelled(session, exc)
    except BaseException as exc:
        # Servers differ in what they do with these, and uvicorn sends no close frame.
        if scope.get(RAISE_EXCEPTIONS) or is_from_operator(exc) or session.is_abandoned_by(exc):
            raise
        await session.fail(exc)
    else:
        websocket = session.websocket
        if websocket is None or websocket.application_state is not DISCONNECTED or session._sent is not None:
            await session.finish()
    finally:
        session.leaving = True
        if session.turn is not None:
            session.end_turn()
        try:
            if session.guard or session.read_ahead or session._tasks or session._at_end:
                await session.close()
        finally:
            if census.is_on:
                census.retire(session, open_here)
            else:
                open_here.discard(session)
            if orm.lent_to_tests and not open_here:
                orm.release_after_test()
            session.let_go()


async def _end_cancelled(session: Session, exc: asyncio.CancelledError) -> None:
    """End the connection after a CancelledError; raises it again if the server has cancelled the application.

    Otherwise code of the project has raised it, for example by awaiting a task that was cancelled.
    """
    if current_task().cancelling() or session.scope.get(RAISE_EXCEPTIONS):
        session.note_cancelled()
        raise exc
    await session.fail(exc)


def with_handlers(target: Callable[[Scope], ASGIApp], handlers: Mapping[Any, ExceptionHandler]) -> ASGIApp:
    """What `target` names for a connection, as an application whose exceptions go to `handlers`."""

    async def handled(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "websocket":
            await target(scope)(scope, receive, send)
            return
        scope[HANDLERS] = handlers
        try:
            await target(scope)(scope, receive, send)
        except Exception as exc:
            # Raised by a mounted application; an endpoint's exceptions have met the handlers before.
            session: Session = scope[SESSION]
            if not await handle(session.socket(receive, send), exc, handlers):
                raise

    return handled


async def serve_alone(
    target: Callable[[Scope], ASGIApp], scope: Scope, receive: Receive, send: Send, *, watched: bool = False
) -> None:
    """Serve a connection that reached a route or router without an application, like one without options."""
    await serve(with_handlers(target, DEFAULT_HANDLERS), scope, receive, send, watched=watched)


def is_disconnect(exc: BaseException) -> bool:
    """Whether an exception, or every exception of a group, means that the client has left: a normal end."""
    if isinstance(exc, BaseExceptionGroup):
        return all(foreign.means(each, WebSocketDisconnect) for each in leaves(exc))
    return foreign.means(exc, WebSocketDisconnect)


def _innermost(exc: BaseException) -> BaseException:
    """The exception inside task groups of which only one task failed."""
    while isinstance(exc, BaseExceptionGroup) and len(exc.exceptions) == 1:
        [exc] = exc.exceptions
    return exc
