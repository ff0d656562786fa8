"""A compiled plan and its steps."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any

from fastws_compat.concurrency import Concurrency
from fastws_compat.dependencies.fields import AnyField
from fastws_compat.dependencies.signature import Kind
from fastws_compat.websockets import WebSocket

# The value of a step that was not called.
FAILED = object()

# Returns the keyword arguments of a step, or None if a value that the step needs is missing or invalid. Takes
# the `dependencies.run.Solution` of the connection.
Gather = Callable[[Any], dict[str, Any] | None]
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
    # Without a concurrency limit a coroutine function is awaited directly, ...
    plain: bool
    # ... and an async generator function is called directly.
    plain_generator: bool
    # The OAuth2 scopes that are required where it stands.
    scopes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Plan:
    """Everything that happens before an endpoint is called, in order; compiled once, immutable."""

    steps: tuple[Step, ...]
    endpoint: Step
    has_generators: bool
    # One of the steps is a sync generator. While it is open, all sync steps share one thread with it.
    needs_thread: bool
    # One of the generators ends with the endpoint, before the background tasks run.
    has_function_generators: bool = False
    # The TypedWebSocket that the endpoint or a dependency names; None if all take a plain one.
    socket: type[WebSocket] | None = None
