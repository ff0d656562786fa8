"""What plain Channels code sends to a group, translated for the sockets by functions of the project."""

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
    """A function for one type of message, in the groups that a pattern names."""

    type: str
    groups: str
    func: Callable[[dict[str, Any]], Any]

    async def translate(self, message: dict[str, Any]) -> Payload | None:
        """What the sockets are sent for `message`, if anything."""
        answer = self.func(message)
        if is_async(self.func):
            answer = await answer
        return None if answer is None else encode(answer)


_handlers: list[Handler] = []


def on(type: str, *, groups: str = "*") -> Callable[[DecoratedCallable], DecoratedCallable]:
    """Decorate a function from a Channels message of this type to what sockets are sent, or None.

    `groups` limits it to the groups with matching names (`"chat.*"`). Register at import: a group looks for
    its handlers when the first socket of a process joins it.
    """

    def decorator(func: DecoratedCallable) -> DecoratedCallable:
        _handlers.append(Handler(type, groups, func))
        return func

    return decorator


def expects_messages(group: str) -> bool:
    """Whether plain Channels code may send something to the group that sockets understand."""
    return any(fnmatchcase(group, handler.groups) for handler in _handlers)


def handler_for(type: Any, group: str) -> Handler | None:
    """The handler registered last for the type and the group."""
    return next(
        (
            handler
            for handler in reversed(_handlers)
            if handler.type == type and fnmatchcase(group, handler.groups)
        ),
        None,
    )
