"""Functions of the project that translate messages from plain Channels code for the sockets of a group."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from fastws_compat.concurrency import is_async
from fastws_compat.layers.wire import Payload, encode
from fastws_compat.types import DecoratedCallable


@dataclass(frozen=True, slots=True)
class Handler:
    """A function for one type of message, in the groups whose names match a pattern."""

    type: str
    groups: str
    func: Callable[[dict[str, Any]], Any]

    async def translate(self, message: dict[str, Any]) -> Payload | None:
        """What the sockets receive for `message`, if anything."""
        result = self.func(message)
        if is_async(self.func):
            result = await result
        return None if result is None else encode(result)


# Every handler of the process, in the order of registration.
registered: list[Handler] = []


def on(type: str, *, groups: str = "*") -> Callable[[DecoratedCallable], DecoratedCallable]:
    """Decorate a function that takes a Channels message of this type and returns what sockets receive.

    If it returns None, they receive nothing. `groups` limits it to groups with matching names (`"chat.*"`).
    Register at import: a group looks for its handlers when the first socket of a process joins it.
    """

    def decorator(func: DecoratedCallable) -> DecoratedCallable:
        registered.append(Handler(type, groups, func))
        return func

    return decorator


def expects_messages(group: str) -> bool:
    """Whether some handler accepts messages to the group from plain Channels code."""
    return any(fnmatchcase(group, handler.groups) for handler in registered)


def handler_for(type: Any, group: str) -> Handler | None:
    """The handler registered last for the type and the group."""
    return next(
        (
            handler
            for handler in reversed(registered)
            if handler.type == type and fnmatchcase(group, handler.groups)
        ),
        None,
    )
