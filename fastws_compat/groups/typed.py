"""Groups whose messages have types: what is sent is validated and serialized once, for all members."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, ClassVar

from pydantic import ValidationError

from fastws_compat.exceptions import ResponseValidationError
from fastws_compat.groups.subscriber import Subscriber
from fastws_compat.layers.wire import Kind, Payload
from fastws_compat.logger import logger
from fastws_compat.messages.members import Classes, name_of_type
from fastws_compat.messages.outgoing import Outgoing


class Typed:
    """The additional behavior of a group whose messages have types."""

    __slots__ = ()

    outgoing: ClassVar[Outgoing]

    def _encode(self, message: Any) -> Payload:
        data = self.outgoing.encode(message)
        return Payload(_kind(self.outgoing, data), data)

    def _messages(self, payload: Payload) -> list[Any]:
        """The message as an instance of its class, or nothing if it is invalid."""
        try:
            return [self.outgoing.decode(payload.data)]
        except (ResponseValidationError, ValidationError, ValueError):
            logger.warning("A message to %r does not fit the types of the group and is skipped", self)
            return []

    async def _read(self, subscriber: Subscriber) -> AsyncIterator[Any]:
        async for payload in subscriber.payloads():  # pragma: no branch - they end with an exception
            for message in self._messages(payload):
                yield message


def _kind(outgoing: Outgoing, data: str | bytes) -> Kind:
    if isinstance(data, bytes):
        return "bytes"
    return "json" if outgoing.members.text is None else "text"


_classes = Classes()


def typed_group(base: type[Any], form: Any) -> Any:
    """The class of the groups of these messages; the same one each time."""
    return _classes.get((base, form), lambda: _new_class(base, form))


def _new_class(base: type[Any], form: Any) -> Any:
    name = f"{base.__name__}[{name_of_type(form)}]"
    names = {"__slots__": (), "__module__": base.__module__, "__doc__": base.__doc__}
    return type(name, (Typed, base), {**names, "outgoing": Outgoing(form, name, {})})
