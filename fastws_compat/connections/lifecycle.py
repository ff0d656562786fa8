"""A session is one connection from the outermost of the library's applications to its end.

Whatever way the application ends, the client is told and nothing escapes to the server.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from math import inf
from types import MethodType
from typing import Any
from uuid import uuid4
from weakref import ref

from fastws_compat import conf
from fastws_compat.concurrency import Cleanup, own_thread, release_orm_thread, uncancel
from fastws_compat.connections.answers import checked_answer
from fastws_compat.connections.closing import close_message, closing_messages, refusal
from fastws_compat.connections.sweeper import Ahead, has_left, sweeper
from fastws_compat.connections.tracebacks import for_log
from fastws_compat.dependencies.codegen import FAILED
from fastws_compat.dependencies.run import Plan, Solution
from fastws_compat.exceptions import EndpointContext, WebSocketRequestValidationError
from fastws_compat.limits import Guard
from fastws_compat.logger import logger
from fastws_compat.porting import foreign
from fastws_compat.requests import SESSION as SESSION
from fastws_compat.threads.databases import in_tests
from fastws_compat.types import ASGIApp, Message, Receive, Scope, Send
from fastws_compat.websockets import ANSWERS, MOST_FAILURES, WebSocket, WebSocketDisconnect, WebSocketState

# So long a session waits for a close frame to go out to a client that may not read.
LAST_WORDS = 1.0

# After so many messages of one connection others get a turn.
MOST_IN_A_ROW = 64

# Set by the test client: exceptions reach the test, as with FastAPI, instead of the log.
RAISES = "fastws_compat.raise_exceptions"

# A close sent in these states is one of the socket; a later one is a mistake for the server to find.
OPEN_STATES = (WebSocketState.CONNECTING, WebSocketState.CONNECTED)

# Called with each WebSocket before its dependencies are solved; `signals` adds itself.
observers: list[Callable[[WebSocket], None]] = []


class Notice(str):
    """The message of a cancellation: it is there as long as somebody handles the exception."""


class Session:
    """What the server was told on a connection; lives in the scope while the connection does."""

    __slots__ = (
        "_ahead",
        "_asked",
        "_at_end",
        "_cancels",
        "_deadline",
        "_failures",
        "_id",
        "_notice",
        "_send",
        "_server",
        "_tasks",
        "_told",
        "begun",
        "guard",
        "leaving",
        "scope",
        "task",
        "websocket",
    )

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.websocket: WebSocket | None = None
        # The task that the endpoint runs in, once there is one, and whether it has left the endpoint.
        self.task: asyncio.Task[Any] | None = None
        self.leaving = False
        self.guard: Guard | None = None
        self.begun = asyncio.get_running_loop().time()
        self._asked = -1
        self._ahead: Ahead | None = None
        self._deadline: float | None = None
        self._cancels = 0
        self._notice: ref[Notice] | None = None
        self._failures = 0
        self._tasks: set[asyncio.Task[None]] | None = None
        # The server's own object for the connection, where `send` is a method of it.
        self._server: Any = send.__self__ if type(send) is MethodType else None
        self._send = in_turns(send) if type(self._server).__module__.startswith("uvicorn.") else send
        self._told: WebSocketState | None = None
        self._id: str | None = None
        self._at_end: list[Callable[[], Awaitable[None]]] | None = None

    def at_end(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Await `callback` when the connection is over, however it ends; the last added comes first."""
        if self._at_end is None:
            self._at_end = []
        self._at_end.append(callback)

    @property
    def extra(self) -> dict[str, Any]:
        """What log records tell of the connection: nothing that its client sent."""
        route, user = self.scope.get("route"), self.scope.get("user")
        # A lazy user may not have been asked for yet, and a log record is no reason to.
        user = getattr(user, "__dict__", {}).get("_wrapped", user)
        return {
            "route": getattr(route, "path", None),
            "endpoint": getattr(route, "name", None),
            "user_id": getattr(user, "pk", None),
            "connection_id": self.id,
        }

    @property
    def id(self) -> str:
        """A name for the connection in logs; made when first asked for."""
        if self._id is None:
            self._id = uuid4().hex
        return self._id

    def closed(self) -> None:
        """Somebody else has told the client that it is over: nothing is left to say."""
        self._told = WebSocketState.DISCONNECTED

    async def leave(self) -> None:
        """Run what was left for the end; one that fails is logged and keeps no other from running."""
        cleanup = Cleanup()
        cleanup.begin(None)  # each has a limit of its own
        try:
            while self._at_end:
                try:
                    async with asyncio.timeout(conf.get("CLEANUP_TIMEOUT")):
                        await self._at_end.pop()()
                except Exception as exc:
                    logger.error("The end of a WebSocket session failed", exc_info=for_log(exc))
        finally:
            cleanup.end()

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` beside the endpoint; the session waits for it, but not long."""
        task = asyncio.create_task(work)
        if self._tasks is None:
            self._tasks = set()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop(self) -> None:
        """End what watches over the connection."""
        if self.guard is not None:
            self.guard.stop()
        if self._ahead is not None:
            self._ahead.stop()
        if self._tasks:
            _, late = await asyncio.wait(self._tasks, timeout=LAST_WORDS)
            for task in late:
                task.cancel()

    # What the sweeper finds

    @property
    def is_ending(self) -> bool:
        """Whether the endpoint is left, or cancelled, and only the cleanup remains."""
        return self.leaving or (self.task is not None and self.task.cancelling() > 0)

    @property
    def is_unaware(self) -> bool:
        """Whether the client has gone and the endpoint was not told yet."""
        return self.websocket is not None and self.websocket.farewell is not None and not self.is_ending

    def sweep(self, now: float) -> None:
        """See what the endpoint does not see: that the client has gone, or waits too long for an answer."""
        websocket = self.websocket
        if websocket is None or self.leaving:
            return
        if websocket.failures and self._is_failing(websocket):
            self._end_failing(now)
        elif websocket.farewell is not None:
            if self._is_time_to_end(now):
                self._cancel()
        elif websocket.application_state is WebSocketState.CONNECTING:
            self._await_answer(websocket, now)
        elif websocket.application_state is WebSocketState.CONNECTED:
            self._watch(websocket, now)

    def _watch(self, websocket: WebSocket, now: float) -> None:
        """Listen for an endpoint that has not listened since the last time."""
        asked, ahead = websocket.asked, self._ahead
        away = asked == websocket.answered == self._asked
        self._asked = asked
        if not away or websocket.client_state is not WebSocketState.CONNECTED:
            self._deadline = None
        elif ahead is None or ahead.left:
            self._ahead = Ahead(websocket)
        elif ahead.farewell is None:
            ahead.read_on()
            if ahead.is_full and self._is_left():
                ahead.farewell = {"type": "websocket.disconnect", "code": 1006, "reason": ""}
        elif self._is_time_to_end(now):
            websocket.lose(ahead.farewell)
            self._cancel()

    def _is_failing(self, websocket: WebSocket) -> bool:
        """Whether the endpoint does nothing but use a closed socket; a handshake has a limit of its own."""
        seen, self._failures = self._failures, websocket.failures
        if websocket.failures > max(seen, MOST_FAILURES):
            return websocket.application_state is not WebSocketState.CONNECTING
        websocket.failures = self._failures = 0
        return False

    def _end_failing(self, now: float) -> None:
        if self._deadline is None:
            logger.warning(
                "WebSocket %s: the endpoint goes on using a socket that is closed, in a loop that swallows "
                "the errors; it will be cancelled",
                self.extra["route"],
                extra=self.extra,
            )
        if self._is_time_to_end(now):
            self._cancel()

    def _is_left(self) -> bool:
        """Whether the client is gone, behind more messages than are received for an endpoint that is away."""
        gone: bool | None = getattr(self._server, "gone", None)  # daphne, completed
        if gone is not None:
            return gone
        transport: Any = getattr(self._server, "transport", None)
        if not hasattr(transport, "get_extra_info"):
            return False
        socket = transport.get_extra_info("socket")
        return transport.is_closing() or (socket is not None and has_left(socket))

    def _is_time_to_end(self, now: float) -> bool:
        """Whether an endpoint has had its time since nobody is there any more; then it gets it once more."""
        grace = conf.get("DISCONNECT_GRACE")
        if self._deadline is None:
            self._deadline = inf if grace is None else now + grace
        if now < self._deadline:
            return False
        self._deadline = now + max(grace, 1)
        return True

    def _await_answer(self, websocket: WebSocket, now: float) -> None:
        """Refuse a handshake that nobody answers; not for a test, which may be debugged."""
        timeout = conf.get("HANDSHAKE_TIMEOUT")
        if timeout is None or now < self.begun + timeout or self.scope.get(RAISES):
            return
        logger.warning("WebSocket %s: the handshake was not answered in %g s", self.extra["route"], timeout)
        self.spawn(self._deny(503))
        websocket.application_state = WebSocketState.DISCONNECTED
        self._cancel()

    def _cancel(self) -> None:
        """Cancel the endpoint, unless it is still at what it does because it was cancelled before."""
        handled = self._notice is not None and self._notice() is not None
        if self.task is None or self.task.done() or handled or self.task.cancelling() > self._cancels:
            return
        notice = Notice("The client has gone")
        self._notice = ref(notice)
        self._cancels += 1
        self.task.cancel(notice)

    @property
    def gone_with(self) -> int:
        """The close code that an endpoint is told which did not learn it from the socket."""
        farewell = self.websocket.farewell if self.websocket is not None else None
        code = farewell.get("code") if farewell else None
        return 1006 if code is None else code

    def take_back(self) -> bool:
        """Whether a cancellation that has come was the session's own, and nobody else's too."""
        cancels, self._cancels = self._cancels, 0
        return cancels > 0 and uncancel(cancels)

    @property
    def state(self) -> WebSocketState:
        """How far the application's side has come."""
        if self._told is not None:
            return self._told
        return WebSocketState.CONNECTING if self.websocket is None else self.websocket.application_state

    def watch(self, send: Send) -> Send:
        """`send`, watched: for applications that do not speak through a WebSocket of ours."""
        self._told = self.state

        def watched(message: Message) -> Any:
            return send(message) if message["type"] == "websocket.send" else self._pass_on(message, send)

        return watched

    async def _pass_on(self, message: Message, send: Send) -> None:
        """Pass a message on that somebody else answers or ends the connection with, as it can be sent."""
        messages: Sequence[Message] = [checked_answer(message)]
        if message["type"] == "websocket.close" and self._told in OPEN_STATES:
            accepted = self._told is WebSocketState.CONNECTED
            messages = closing_messages(message, self.scope, accepted=accepted)
        for message in messages:
            before, told = self._told, _told_by(message, self._told)
            self._told = told
            try:
                await send(message)
            except BaseException:
                if self._told is told:
                    self._told = before  # it was not told: `finish` does it
                raise

    def socket(self, receive: Receive, send: Send) -> WebSocket:
        """The endpoint's own WebSocket, or one that stands where the connection stands."""
        if self.websocket is None:
            self.websocket = WebSocket(self.scope, receive, send)
            self.websocket.application_state = self.state
            if self.state is not WebSocketState.CONNECTING:
                self.websocket.client_state = WebSocketState.CONNECTED
        return self.websocket

    async def finish(self, code: int = 1000) -> None:
        """Tell the client that it is over, unless it was told or is gone."""
        state = self.state
        gone = self.websocket is not None and self.websocket.client_state is WebSocketState.DISCONNECTED
        if gone or state is WebSocketState.DISCONNECTED:
            return
        try:
            if state is WebSocketState.RESPONSE:
                await self._send({"type": "websocket.http.response.body", "body": b""})
            elif state is WebSocketState.CONNECTING and code == 1011:
                await self._deny(500)
            else:
                await self._send(close_message(code))
        except Exception as exc:
            logger.debug("The client was gone before its socket was closed (%r)", exc)

    async def _deny(self, status: int) -> None:
        """Refuse the handshake with a status, where the server can; else with 403."""
        for message in refusal(status, self.scope, code=1011):
            await self._send(message)

    async def fail(self, exc: Exception) -> None:
        """Log what was raised, once, and close: 1011, or the code for the frame that was at fault."""
        exc = _innermost(exc)
        blamed = None if self.websocket is None else self.websocket.client_error
        extra = self.extra
        # Without a route the client chose the path: escaped and cut, it cannot forge a line.
        template = extra["route"] or ascii(self.scope["path"])[:200]
        if blamed is not None and blamed[0] is exc:
            if blamed[1] == 1006:
                return  # the client went away while it was accepted
            logger.warning(
                "WebSocket %s: the client sent what the endpoint does not read (%s); closed with %d",
                template,
                type(exc).__name__,
                blamed[1],
                extra=extra,
            )
            await self.finish(blamed[1])
        else:
            logger.error("Exception in WebSocket %s", template, exc_info=for_log(exc), extra=extra)
            await self.finish(1011)


def _told_by(message: Message, before: WebSocketState | None) -> WebSocketState | None:
    """What a client knows of its connection once it has a message."""
    kind = message["type"]
    if kind == "websocket.http.response.body":
        return before if message.get("more_body") else WebSocketState.DISCONNECTED
    return ANSWERS.get(kind, before)


def open_socket(scope: Scope, receive: Receive, send: Send) -> WebSocket:
    """The WebSocket that an endpoint gets; the session looks at it when the endpoint has ended."""
    websocket = WebSocket(scope, receive, send)
    session: Session | None = scope.get(SESSION)
    if session is not None:
        session.websocket = websocket
        session.task = asyncio.current_task()
        for observe in observers:
            observe(websocket)
    return websocket


def in_turns(send: Send) -> Send:
    """uvicorn's `send`, which lets others run now and then.

    It takes messages for a client that is gone without waiting, and is told of that by the loop only: an
    endpoint that sends without end would hold the process for ever.
    """
    left = MOST_IN_A_ROW

    async def rested(message: Message) -> None:
        await asyncio.sleep(0)
        await send(message)

    def sending(message: Message) -> Any:
        nonlocal left
        left -= 1
        if left:
            return send(message)  # no coroutine of its own: it is on the way of every message
        left = MOST_IN_A_ROW
        return rested(message)

    return sending


async def serve(app: ASGIApp, scope: Scope, receive: Receive, send: Send, *, watched: bool = True) -> None:
    """Run `app` as the outermost application of a connection and end the connection after it.

    `watched=False` says that only a WebSocket of ours will speak, which saves a call per message.
    """
    session = scope[SESSION] = Session(scope, send)
    send = session._send
    sweep = sweeper()
    sweep.add(session)
    try:
        await app(scope, receive, session.watch(send) if watched else send)
    except Exception as exc:
        if scope.get(RAISES):
            raise
        if is_disconnect(exc):
            await session.finish()
        else:
            await session.fail(exc)
    except asyncio.CancelledError:
        if not session.take_back():
            raise
    else:
        if session.state is not WebSocketState.DISCONNECTED:
            await session.finish()
    finally:
        session.leaving = True
        sweep.discard(session)
        if not sweep.members and in_tests():
            release_orm_thread()
        if session.guard or session._ahead or session._tasks:
            await session.stop()
        if session._at_end:
            await session.leave()


def is_disconnect(exc: BaseException) -> bool:
    """Whether an exception, or all of a group, only says that the client has gone: a normal end."""
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(_says_gone)[1] is None
    return _says_gone(exc)


def _says_gone(exc: BaseException) -> bool:
    return foreign.means(exc, WebSocketDisconnect)


def _innermost(exc: Exception) -> Exception:
    """What a task group raised, if only one of its tasks failed."""
    while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
        [exc] = exc.exceptions
    return exc


def run_endpoint(plan: Plan, websocket: WebSocket, context: EndpointContext) -> Coroutine[Any, Any, None]:
    """Solve the plan, call the endpoint, unwind: the function's scope first, then the request's."""
    if plan.has_generators:
        return _unwound(plan, websocket, context)
    return _call(plan, Solution(websocket), context)


async def _unwound(plan: Plan, websocket: WebSocket, context: EndpointContext) -> None:
    cleanup = Cleanup()
    timeout = conf.get("CLEANUP_TIMEOUT")
    try:
        async with AsyncExitStack() as request_stack:
            thread = request_stack.enter_context(own_thread()) if plan.needs_thread else None
            try:
                async with AsyncExitStack() as function_stack:
                    solution = Solution(websocket, request_stack, function_stack, thread)
                    try:
                        await _call(plan, solution, context)
                    finally:
                        cleanup.begin(timeout)
                cleanup.end()
                await _after(solution)
            finally:
                cleanup.begin(timeout)
    except asyncio.CancelledError as exc:
        if not cleanup.take_back():
            raise
        raise TimeoutError(f"The cleanup of a dependency took longer than {timeout} s") from exc
    finally:
        cleanup.end()


async def _call(plan: Plan, solution: Solution, context: EndpointContext) -> None:
    """Solve the plan and call the endpoint, in one coroutine: it stays for as long as the connection.

    The session may cancel both, which says that the client has gone.
    """
    session: Session | None = solution.websocket.scope.get(SESSION)
    called = False
    try:
        try:
            if plan.steps:
                values = solution.values = []
                for step in plan.steps:
                    arguments = step.gather(solution)
                    # Without one only its dependents are left out: the errors of siblings add up (FastAPI).
                    if arguments is None:
                        values.append(FAILED)
                    elif step.plain:
                        values.append(await step.call(**arguments))
                    else:
                        values.append(await solution.run(step, arguments))
            arguments = plan.endpoint.gather(solution)
            if arguments is None or solution.errors:
                raise _invalid(solution, context)
            if solution.thread is not None:
                solution.solved()
            called = True
            work = plan.endpoint.call(**arguments)
            del arguments  # not to be held for as long as it runs
            await work
        except asyncio.CancelledError:
            if session is None or not session.take_back():
                raise
            raise WebSocketDisconnect(session.gone_with) from None
        finally:
            if session is not None:
                session.leaving = True
    except Exception as exc:
        if called and solution.background_tasks is not None and _says_gone(exc):
            await solution.background_tasks()
            solution.background_tasks = None
        raise
    if solution.background_tasks is not None and not plan.has_generators:
        await _after(solution)


def _invalid(solution: Solution, context: EndpointContext) -> WebSocketRequestValidationError:
    mount = solution.websocket.scope.get("root_path", "").rstrip("/")
    path, context = context["path"], {**context, "path": f"WS {mount}{context['path']}"}
    session: Session | None = solution.websocket.scope.get(SESSION)
    extra = None if session is None else session.extra
    misfits = ", ".join(dict.fromkeys(map(_misfit, solution.errors)))
    logger.warning("WebSocket %s: the handshake does not fit its parameters: %s", path, misfits, extra=extra)
    return WebSocketRequestValidationError(solution.errors, endpoint_ctx=context)


def _misfit(error: dict[str, Any]) -> str:
    """The parameter that an error is about, and what is wrong: no value, nor a name that the client chose."""
    source, *names = error["loc"]
    known = names[:1] if error["type"] != "extra_forbidden" else []
    return f"{'.'.join(map(str, [source, *known]))} ({error['type']})"


async def _after(solution: Solution) -> None:
    """Run the background tasks; the client does not wait for them."""
    if solution.background_tasks is not None and solution.background_tasks.tasks:
        session: Session | None = solution.websocket.scope.get(SESSION)
        if session is not None:
            await session.finish()
            solution.websocket.application_state = WebSocketState.DISCONNECTED
        await solution.background_tasks()
