"""The spans of messages for OpenTelemetry: of those of a socket, and of those to a group."""

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from random import random
from typing import Any, ClassVar

from opentelemetry import context, trace
from opentelemetry.trace import Span, SpanKind

from fastws_compat import conf
from fastws_compat.connections import hooks
from fastws_compat.connections.pipe import Place, Stage, pipe_of
from fastws_compat.connections.registry import everywhere
from fastws_compat.connections.states import message_size
from fastws_compat.contrib.instruments import SENDING
from fastws_compat.contrib.spans import Traced, Tracing, forget_span, read, written
from fastws_compat.layers.wire import KEY
from fastws_compat.types import Message

# The keys of an envelope that hold what the sockets get.
CONTENTS = ("json", "text", "bytes", "state")

Call = Coroutine[Any, Any, Any]


class Messages:
    """Follows the messages of connections that are sampled, if the setting `TRACE_MESSAGES` asks for it."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def begin(self) -> None:
        hooks.answered.append(self._answered)
        hooks.ended.append(self._ended)

    def stop(self) -> None:
        hooks.answered.remove(self._answered)
        hooks.ended.remove(self._ended)
        for session in everywhere():
            self._ended(session)

    def _answered(self, session: Any) -> None:
        traced: Traced | None = session.traced
        if session.websocket is None or not session.is_accepted:
            return
        share = float(conf.get("TRACE_MESSAGES"))
        if share and traced is not None and traced.is_sampled:
            traced.stage = Processing(self._tracing, session, traced, share)

    def _ended(self, session: Any) -> None:
        if session.traced is not None and session.traced.stage is not None:
            session.traced.stage.stop()


class Processing(Stage):
    """Makes the spans of a socket's messages: each lasts until the endpoint asks for the next one."""

    __slots__ = ("_attributes", "_cause", "_share", "_span", "_tracing")

    place: ClassVar[Place] = Place.TRACES

    def __init__(self, tracing: Tracing, session: Any, traced: Traced, share: float) -> None:
        self._tracing = tracing
        self._cause = traced.context
        self._share = share
        self._socket = session.websocket
        self._span: Span | None = None
        self._attributes = {
            "messaging.system": "websocket",
            "messaging.operation.name": "process",
            "messaging.operation.type": "process",
            "messaging.destination.template": session.template,
            "fastws.connection_id": session.id,
        }
        pipe_of(self._socket).insert(self)

    async def receive(self) -> Message:
        hooks.run((Processing.end,), self)
        message = await self._receive()
        if message["type"] == "websocket.receive" and random() < self._share:
            hooks.run((Processing.begin,), self, message)
        return message

    def begin(self, message: Message) -> None:
        name = f"process {self._attributes['messaging.destination.template']}"
        attributes = {**self._attributes, "messaging.message.body.size": message_size(message)}
        self._span = self._tracing.follow(name, SpanKind.CONSUMER, self._cause, attributes)
        context.attach(trace.set_span_in_context(self._span))

    def end(self) -> None:
        if self._span is not None:
            span, self._span = self._span, None
            forget_span()
            span.end()

    def stop(self) -> None:
        self.remove()
        self.end()


class GroupMessages:
    """Follows messages to groups: their sending, and their delivery in each process."""

    def __init__(self, tracing: Tracing) -> None:
        self._tracing = tracing

    def begin(self) -> None:
        hooks.sending, hooks.delivering = self._sending, self._delivering

    def stop(self) -> None:
        hooks.sending = hooks.delivering = None

    def _sending(self, call: Call, alias: str, group: str, message: dict[str, Any]) -> Call:
        span = self._tracing.send("send group", _attributes(alias, group, message))
        if not span.is_recording():
            return call
        if (sender := span.get_span_context()).trace_flags.sampled:
            message[KEY]["trace"] = written(sender)
        return _lasting(span, _within(span, call))

    def _delivering(
        self, call: Call, alias: str, group: str, message: Mapping[str, Any], members: int
    ) -> Call:
        sender = read(message[KEY].get("trace", ""))
        if not sender.trace_flags.sampled:
            return call
        attributes = {**_attributes(alias, group, message), "fastws.members": members}
        return _lasting(self._tracing.follow("deliver group", SpanKind.CONSUMER, sender, attributes), call)


def _attributes(alias: str, group: str, message: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **SENDING,
        "messaging.message.body.size": _size(message[KEY]),
        "messaging.destination.name": group if conf.get("TRACE_GROUP_NAMES") else None,
        "fastws.layer": alias,
    }


def _size(envelope: Mapping[str, Any]) -> int:
    """The size of what an envelope holds for the sockets; 0 for one that closes them."""
    content: Any = next((envelope[kind] for kind in CONTENTS if kind in envelope), b"")
    return len(content.encode() if isinstance(content, str) else content)


async def _within(span: Span, call: Call) -> None:
    """Await a call with its span as the current one."""
    with trace.use_span(span):
        await call


async def _lasting(span: Span, call: Call) -> None:
    """Await a call, and end its span with it.

    It need not be the current one: tasks that a delivery starts outlive it.
    """
    try:
        await call
    finally:
        hooks.run((_end,), span)


def _end(span: Span) -> None:
    span.end()
