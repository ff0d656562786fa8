"""A session is one connection from the outermost of the library's applications to its end.

Whatever way the application ends, the client is told and nothing escapes to the server.
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any, cast

from fastws_compat.concurrency import CLEANUP, Cleanup
from fastws_compat.dependencies.solve import Plan, Solution
from fastws_compat.exceptions import EndpointContext, WebSocketRequestValidationError
from fastws_compat.types import ASGIApp, Message, Receive, Scope, Send
from fastws_compat.websockets import WebSocket, WebSocketDisconnect, WebSocketState, can_deny

logger = logging.getLogger("fastws_compat")

SESSION = "fastws_compat.session"
# Set by the test client: exceptions reach the test, as with FastAPI, instead of the log.
RAISES = "fastws_compat.raise_exceptions"


class Session:
    """What the server was told on a connection; lives in the scope while the connection does."""

    __slots__ = ("_at_end", "_send", "_told", "scope", "websocket")

    def __init__(self, scope: Scope, send: Send) -> None:
        self.scope = scope
        self.websocket: WebSocket | None = None
        self._send = send
        self._told: WebSocketState | None = None
        self._at_end: list[Callable[[], Awaitable[None]]] = []

    def at_end(self, callback: Callable[[], Awaitable[None]]) -> None:
        """Await `callback` when the connection is over, however it ends; the last added comes first."""
        self._at_end.append(callback)

    async def leave(self) -> None:
        """Run what was left for the end; one that fails is logged and keeps no other from running."""
        while self._at_end:
            try:
                await self._at_end.pop()()
            except Exception:
                logger.exception("The end of a WebSocket session failed")

    @property
    def state(self) -> WebSocketState:
        """How far the application's side has come."""
        if self._told is not None:
            return self._told
        return self.websocket.application_state if self.websocket else WebSocketState.CONNECTING

    def watch(self, send: Send) -> Send:
        """`send`, watched: for applications that do not speak through a WebSocket of ours."""
        self._told = self.state

        def watched(message: Message) -> Any:
            kind = message["type"]
            if kind == "websocket.accept":
                self._told = WebSocketState.CONNECTED
            elif kind == "websocket.http.response.start":
                self._told = WebSocketState.RESPONSE
            elif kind == "websocket.close" or (
                kind == "websocket.http.response.body" and not message.get("more_body")
            ):
                self._told = WebSocketState.DISCONNECTED
            return send(message)

        return watched

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
            elif state is WebSocketState.CONNECTING and code == 1011 and can_deny(self.scope):
                await self._send({"type": "websocket.http.response.start", "status": 500, "headers": []})
                await self._send({"type": "websocket.http.response.body", "body": b""})
            else:
                await self._send({"type": "websocket.close", "code": code, "reason": ""})
        except Exception as exc:
            logger.debug("The client was gone before its socket was closed (%r)", exc)

    async def fail(self, exc: Exception) -> None:
        """Log what was raised, once, and close: 1011, or the code for the frame that was at fault."""
        exc = _innermost(exc)
        blamed = self.websocket.client_error if self.websocket else None
        route = self.scope.get("route")
        template = getattr(route, "path", None)
        extra = {"route": template, "endpoint": getattr(route, "name", None)}
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
            logger.error("Exception in WebSocket %s", template, exc_info=exc, extra=extra)
            await self.finish(1011)


def open_socket(scope: Scope, receive: Receive, send: Send) -> WebSocket:
    """The WebSocket that an endpoint gets; the session looks at it when the endpoint has ended."""
    websocket = WebSocket(scope, receive, send)
    session: Session | None = scope.get(SESSION)
    if session is not None:
        session.websocket = websocket
    return websocket


async def serve(app: ASGIApp, scope: Scope, receive: Receive, send: Send, *, watched: bool = True) -> None:
    """Run `app` as the outermost application of a connection and end the connection after it.

    `watched=False` says that only a WebSocket of ours will speak, which saves a call per message.
    """
    session = scope[SESSION] = Session(scope, send)
    try:
        await app(scope, receive, session.watch(send) if watched else send)
    except Exception as exc:
        if scope.get(RAISES):
            raise
        if is_disconnect(exc):
            await session.finish()
        else:
            await session.fail(exc)
    else:
        await session.finish()
    finally:
        if session._at_end:
            await session.leave()


def is_disconnect(exc: BaseException) -> bool:
    """Whether an exception, or all of a group, only says that the client has gone: a normal end."""
    if isinstance(exc, BaseExceptionGroup):
        return exc.split(WebSocketDisconnect)[1] is None
    return isinstance(exc, WebSocketDisconnect)


def _innermost(exc: Exception) -> Exception:
    """What a task group raised, if only one of its tasks failed."""
    while isinstance(exc, ExceptionGroup) and len(exc.exceptions) == 1:
        [exc] = exc.exceptions
    return exc


async def run_endpoint(plan: Plan, websocket: WebSocket, context: EndpointContext) -> None:
    """Solve the plan, call the endpoint, unwind: the function's scope first, then the request's."""
    if not plan.has_generators:
        solution = Solution(websocket, cast(Any, None), cast(Any, None))
        await _call(plan, solution, context)
        await _after(solution)
        return
    cleanup = websocket.scope.get(CLEANUP) or Cleanup()
    try:
        async with AsyncExitStack() as request_stack:
            async with AsyncExitStack() as function_stack:
                solution = Solution(websocket, request_stack, function_stack)
                try:
                    await _call(plan, solution, context)
                finally:
                    cleanup.running = True
            await _after(solution)
    finally:
        cleanup.running = False


async def _call(plan: Plan, solution: Solution, context: EndpointContext) -> None:
    arguments = await solution.solve(plan)
    if solution.errors:
        mount = solution.websocket.scope.get("root_path", "").rstrip("/")
        context = {**context, "path": f"WS {mount}{context['path']}"}
        raise WebSocketRequestValidationError(solution.errors, endpoint_ctx=context)
    try:
        await plan.endpoint.call(**arguments)
    except WebSocketDisconnect:
        if solution.background_tasks is not None:
            await solution.background_tasks()
            solution.background_tasks = None
        raise


async def _after(solution: Solution) -> None:
    """Run the background tasks; the client does not wait for them."""
    if solution.background_tasks is not None and solution.background_tasks.tasks:
        session: Session | None = solution.websocket.scope.get(SESSION)
        if session is not None:
            await session.finish()
            solution.websocket.application_state = WebSocketState.DISCONNECTED
        await solution.background_tasks()
