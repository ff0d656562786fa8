"""A compiled plan and its steps, and what one connection holds while its plan runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from dataclasses import dataclass
from typing import Any

from fastws_compat.background import BackgroundTasks
from fastws_compat.concurrency import Concurrency
from fastws_compat.dependencies.fields import AnyField, Errors
from fastws_compat.dependencies.signature import Injection, Kind
from fastws_compat.responses import Response
from fastws_compat.websockets import WebSocket

# The value of a step that was not called.
FAILED = object()

# Returns the keyword arguments of a step, or None if a value that the step needs is missing or invalid.
Gather = Callable[["Solution"], dict[str, Any] | None]
Manager = Callable[..., AbstractAsyncContextManager[Any]]


@dataclass(frozen=True, slots=True)
class Step:
    """One call in a plan: what it needs and how it is run. Its value is stored in the slot of its index."""

    call: Callable[..., Any]
    kind: Kind
    fields: tuple[AnyField, ...]
    gather: Gather
    # Makes the context manager of a generator dependency; None for other kinds.
    manager: Manager | None
    ends_with_function: bool
    concurrency: Concurrency | None
    # A coroutine function without a concurrency limit: it is awaited directly.
    plain: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that happens before an endpoint is called, in order; compiled once, immutable."""

    steps: tuple[Step, ...]
    endpoint: Step
    has_generators: bool
    # One of the steps is a sync generator. While it is open, all sync steps share one thread with it.
    needs_thread: bool
    # The TypedWebSocket that the endpoint or a dependency names; None if all take a plain one.
    socket: type[WebSocket] | None = None


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
        # Where sync steps run; None means the pool.
        self.thread = thread
        # These are replaced when there is something to hold: a solution lives as long as its connection.
        self.values: Sequence[Any] = ()
        self.errors: Sequence[dict[str, Any]] = ()
        self.background_tasks: BackgroundTasks | None = None
        self.response: Response | None = None

    def fail(self, errors: Errors) -> None:
        """Record the errors of a step that is therefore not called."""
        self.errors = [*self.errors, *errors]

    def injected(self, kind: Injection, scopes: tuple[str, ...]) -> Any:
        """The object for a parameter that the library fills; made when the first step takes it."""
        match kind:
            case "security_scopes":
                # The security classes are slow to import, and most applications use none.
                from fastws_compat.security.oauth2 import SecurityScopes

                return SecurityScopes(list(scopes))
            case "background_tasks":
                self.background_tasks = self.background_tasks or BackgroundTasks()
                return self.background_tasks
            case "response":
                self.response = self.response or self._handshake_response()
                return self.response

    def _handshake_response(self) -> Response:
        """A response whose headers go out with accept(): what dependencies set on it takes effect."""
        response = Response()
        del response.headers["content-length"]
        self.websocket._accept_headers = response.headers
        return response
