"""A compiled plan, its steps, and the values of one connection while the plan runs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from fastws_compat.background import BackgroundTasks
from fastws_compat.concurrency import Concurrency, OwnThread, run_in
from fastws_compat.dependencies.fields import AnyField, Errors
from fastws_compat.dependencies.signature import Injection, Kind
from fastws_compat.responses import Response
from fastws_compat.websockets import WebSocket

# Returns the keyword arguments of a step; None if a value that it needs is missing or invalid.
Gather = Callable[["Solution"], dict[str, Any] | None]

# The value of a step that was not called.
FAILED = object()


@dataclass(frozen=True, slots=True)
class Step:
    """One call in a plan: what it needs and how it is run. Its value goes to the slot of its index."""

    call: Callable[..., Any]
    kind: Kind
    fields: tuple[AnyField, ...]
    gather: Gather
    # Enters a generator's context manager; made once, here for the steps of those kinds only.
    manager: Callable[..., AbstractAsyncContextManager[Any]] | None
    ends_with_function: bool
    concurrency: Concurrency | None
    # A coroutine function that nothing limits: awaited as it is.
    plain: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that happens before an endpoint is called, in order; compiled once, never changed."""

    steps: tuple[Step, ...]
    endpoint: Step
    has_generators: bool
    # A sync generator is among the steps: it and all other sync steps share a thread while it is open.
    needs_thread: bool


class Solution:
    """The values of one connection while its plan runs."""

    __slots__ = (
        "background_tasks",
        "errors",
        "function_stack",
        "request_stack",
        "response",
        "thread",
        "values",
        "websocket",
    )

    def __init__(
        self,
        websocket: WebSocket,
        request_stack: AsyncExitStack | None = None,
        function_stack: AsyncExitStack | None = None,
        thread: Executor | None = None,
    ) -> None:
        self.websocket = websocket
        self.request_stack = request_stack
        self.function_stack = function_stack
        # Where sync steps run; the pool, if it is None.
        self.thread = thread
        # Made when there is something to put in: a solution lasts as long as its connection.
        self.values: Sequence[Any] = ()
        self.errors: Sequence[dict[str, Any]] = ()
        self.background_tasks: BackgroundTasks | None = None
        self.response: Response | None = None

    def fail(self, errors: Errors) -> None:
        self.errors = [*self.errors, *errors]

    def injected(self, kind: Injection, scopes: tuple[str, ...]) -> Any:
        """An object that is made for the connection when a step takes it."""
        match kind:
            case "security_scopes":
                from fastws_compat.security.oauth2 import SecurityScopes

                return SecurityScopes(list(scopes))
            case "background_tasks":
                self.background_tasks = self.background_tasks or BackgroundTasks()
                return self.background_tasks
            case "response":
                self.response = self.response or self._handshake_response()
                return self.response

    def _handshake_response(self) -> Response:
        """A response whose headers go out with accept(): what dependencies set on it is not lost."""
        response = Response()
        del response.headers["content-length"]
        self.websocket._accept_headers = response.headers
        return response

    async def run(self, step: Step, arguments: dict[str, Any]) -> Any:
        if step.manager is not None:
            stack = self.function_stack if step.ends_with_function else self.request_stack
            assert stack is not None
            where = (self.thread,) if step.kind == "generator" else ()
            return await stack.enter_async_context(step.manager(*where, **arguments))
        if step.concurrency is None:
            return await self._call(step, arguments)
        async with step.concurrency.semaphore():
            return await self._call(step, arguments)

    async def _call(self, step: Step, arguments: dict[str, Any]) -> Any:
        if step.kind == "coroutine":
            return await step.call(**arguments)
        return await run_in(self.thread, partial(step.call, **arguments))

    def solved(self) -> None:
        """All steps are done, and the endpoint may take long."""
        if isinstance(self.thread, OwnThread):
            self.thread.park()


def limited(
    manager: Callable[..., AbstractAsyncContextManager[Any]], concurrency: Concurrency
) -> Callable[..., AbstractAsyncContextManager[Any]]:
    """The context manager, counted against the limit until its cleanup has ended."""

    @asynccontextmanager
    async def counted(*where: Executor, **arguments: Any) -> AsyncGenerator[Any, None]:
        async with concurrency.semaphore(), manager(*where, **arguments) as value:
            yield value

    return counted
