"""A router of messages: one function for each kind of message that a client may send."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, overload

from fastws_compat.params import Depends, dependency_list
from fastws_compat.porting import foreign
from fastws_compat.types import DecoratedCallable


class Handler(NamedTuple):
    """A function of a router, and the dependencies that are called before it."""

    call: Callable[..., Any]
    dependencies: tuple[Depends, ...]


class MessageRouter:
    """Functions that `websocket.serve()` calls, each with the messages that its annotation names.

    What a function returns is sent to the client that sent the message. `dependencies` are called for each
    message.
    """

    def __init__(self, *, dependencies: Sequence[Depends] | None = None) -> None:
        #: The dependencies of every function.
        self.dependencies = tuple(dependency_list(dependencies, "dependencies= of MessageRouter"))
        #: The functions, each with the dependencies that are called before it.
        self.handlers: list[Handler] = []

    @overload
    def on(self, func: DecoratedCallable) -> DecoratedCallable: ...

    @overload
    def on(
        self, func: None = None, *, dependencies: Sequence[Depends] | None = None
    ) -> Callable[[DecoratedCallable], DecoratedCallable]: ...

    def on(
        self, func: DecoratedCallable | None = None, *, dependencies: Sequence[Depends] | None = None
    ) -> Any:
        """Decorate the function for a message; the function itself is not changed."""
        own = dependency_list(dependencies, "dependencies= of MessageRouter.on")

        def decorator(func: DecoratedCallable) -> DecoratedCallable:
            foreign.refuse_call(func, "MessageRouter.on")
            self.handlers.append(Handler(func, (*self.dependencies, *own)))
            return func

        return decorator if func is None else decorator(func)
