"""The spans of sockets for OpenTelemetry: one for the handshake, and one for the end."""

from __future__ import annotations

import copy
import re
import sys
from collections.abc import Mapping
from time import time_ns
from typing import Any

from opentelemetry import context, trace
from opentelemetry.context import Context
from opentelemetry.trace import INVALID_SPAN, Link, Span, SpanContext, SpanKind, StatusCode, TracerProvider
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from opentelemetry.util.types import AttributeValue

from fastws_compat import __version__, conf
from fastws_compat.connections import hooks
from fastws_compat.connections.lifecycle import is_disconnect
from fastws_compat.connections.outcomes import NO_ROUTE, template_of
from fastws_compat.connections.registry import everywhere
from fastws_compat.logs import address_of
from fastws_compat.types import Scope

NAME = "fastws_compat"
# The key of the handshake's span context in the context of a connection.
HANDSHAKE = "fastws_compat.handshake"
# The headers of a handshake whose values are added to spans.
HEADERS = (b"host", b"user-agent", b"traceparent", b"tracestate")
# A `tracestate` of other characters is ignored: OpenTelemetry would log it as it is.
PRINTABLE = re.compile(r"[ -~\t]*")
PORTS = {"ws": 80, "wss": 443, "http": 80, "https": 443}
# The maximum number of digits of a port: a longer number from a client does not fit into an attribute.
MAX_DIGITS = 5

_propagator = TraceContextTextMapPropagator()


class Traced:
    """The spans of one connection."""

    __slots__ = ("error", "handshake", "is_answered", "is_own", "stage")

    def __init__(self, handshake: Span, is_own: bool) -> None:
        self.handshake = handshake
        # Whether the span is this library's, which ends it, or belongs to a middleware outside.
        self.is_own = is_own
        self.is_answered = False
        # What the endpoint has raised.
        self.error: BaseException | None = None
        # What makes the spans of its messages.
        self.stage: Any = None

    @property
    def context(self) -> SpanContext:
        return self.handshake.get_span_context()

    @property
    def is_sampled(self) -> bool:
        return self.context.trace_flags.sampled


class Tracing:
    """Makes spans at the rare events of connections, while it is on."""

    def __init__(self, provider: TracerProvider | None) -> None:
        self._tracer = trace.get_tracer(NAME, __version__, provider)
        # For spans that are linked to one that is sampled, so that the sampler need not decide again.
        self._follower = _unconditional(self._tracer)
        self._hooks: tuple[tuple[list[Any], hooks.Hook], ...] = (
            (hooks.begun, self._begun),
            (hooks.answered, self._answered),
            (hooks.failed, self._failed),
            (hooks.ended, self._ended),
            (hooks.refused, self._refused),
        )

    def begin(self) -> None:
        for functions, hook in self._hooks:
            functions.append(hook)

    def stop(self) -> None:
        for functions, hook in self._hooks:
            functions.remove(hook)
        for session in everywhere():
            session.traced = None

    def _begun(self, session: Any) -> None:
        span = trace.get_current_span()
        is_own = not (span.is_recording() and getattr(span, "kind", None) is SpanKind.SERVER)
        if is_own:
            span = self._arrival(session.scope)
            span.set_attribute("fastws.connection_id", session.id)
        session.traced = Traced(span, is_own)
        current = context.set_value(HANDSHAKE, span.get_span_context())
        context.attach(trace.set_span_in_context(span, current))

    def _arrival(self, scope: Scope) -> Span:
        headers = headers_of(scope)
        if not PRINTABLE.fullmatch(headers.get("tracestate", "")):
            del headers["tracestate"]
        parent = _propagator.extract(headers, Context())
        attributes = arrival_of(scope, headers)
        return self._tracer.start_span("GET", parent, SpanKind.SERVER, attributes)

    def _answered(self, session: Any) -> None:
        traced: Traced | None = session.traced
        if traced is None or traced.is_answered:
            return
        traced.is_answered = True
        status, reason = (101, None) if session.is_accepted else session.refusal or (None, None)
        user = session.extra["user_id"]
        if user is not None and conf.get("TRACE_USER"):
            traced.handshake.set_attribute("user.id", str(user))
        forget_span()
        _answer(traced.handshake, session.template, status, reason, traced.error)
        if traced.is_own:
            traced.handshake.end()

    def _failed(self, session: Any, exc: Exception) -> None:
        if session.traced is not None:
            session.traced.error = exc

    def _ended(self, session: Any) -> None:
        traced: Traced | None = session.traced
        if traced is None:
            return
        traced.error = traced.error or _leaving()
        self._answered(session)  # unless it is; the client may have left, or the server refused it
        session.traced = None
        if session.is_accepted and traced.is_sampled:
            self._close(session, traced)

    def _close(self, session: Any, traced: Traced) -> None:
        received, sent, _, _ = session.counts
        code, by = session.closed
        attributes = {
            "fastws.close.code": code,
            "fastws.close.by": by,
            "fastws.connection.duration": session.age,
            "fastws.messages.received": received,
            "fastws.messages.sent": sent,
        }
        now = time_ns()
        span = self.follow(f"close {session.template}", SpanKind.INTERNAL, traced.context, attributes, now)
        if traced.error is not None:
            _record(span, traced.error)
        span.end(now)

    def send(self, name: str, attributes: Mapping[str, Any]) -> Span:
        """A span of the current trace."""
        return self._tracer.start_span(name, None, SpanKind.PRODUCER, known(attributes))

    def follow(
        self,
        name: str,
        kind: SpanKind,
        cause: SpanContext,
        attributes: Mapping[str, Any],
        now: int | None = None,
    ) -> Span:
        """A span that begins a trace, with a link to a span that is sampled."""
        return self._follower.start_span(name, Context(), kind, known(attributes), [Link(cause)], now)

    def _refused(self, scope: Scope | None, status: int, reason: str) -> None:
        scope = scope or {}
        span = self._arrival(scope)
        _answer(span, template_of(scope) if scope else NO_ROUTE, status, reason, None)
        span.end()


def _unconditional(tracer: trace.Tracer) -> trace.Tracer:
    """The tracer, or a copy of the SDK's that samples every span."""
    if not hasattr(tracer, "sampler"):
        return tracer
    from opentelemetry.sdk.trace.sampling import ALWAYS_ON

    twin: Any = copy.copy(tracer)
    twin.sampler = ALWAYS_ON
    return twin  # type: ignore[no-any-return]


def _leaving() -> BaseException | None:
    """The exception with which a connection of the test client ends; it reaches the test, not the log."""
    exc = sys.exc_info()[1]
    return exc if isinstance(exc, Exception) and not is_disconnect(exc) else None


def _answer(
    span: Span, route: str, status: int | None, reason: str | None, exc: BaseException | None
) -> None:
    span.update_name(f"GET {route}")
    attributes = {"http.route": route, "http.response.status_code": status, "fastws.reason": reason}
    span.set_attributes(known(attributes))
    if status is not None and status >= 500:
        _record(span, exc)
        span.set_attribute("error.type", str(status) if exc is None else type(exc).__qualname__)


def _record(span: Span, exc: BaseException | None) -> None:
    span.set_status(StatusCode.ERROR)
    if exc is not None:
        span.record_exception(exc)


def forget_span() -> None:
    """Have later spans of this task begin traces of their own."""
    context.attach(trace.set_span_in_context(INVALID_SPAN))


def written(found: SpanContext) -> str:
    """A span context as the header `traceparent` has it."""
    return f"00-{found.trace_id:032x}-{found.span_id:016x}-{found.trace_flags:02x}"


def read(traceparent: str) -> SpanContext:
    """The span context in a header `traceparent`; an invalid one if it is not valid."""
    parent = _propagator.extract({"traceparent": traceparent}, Context())
    return trace.get_current_span(parent).get_span_context()


def known(attributes: Mapping[str, Any]) -> dict[str, AttributeValue]:
    return {name: value for name, value in attributes.items() if value is not None}


def headers_of(scope: Scope) -> dict[str, str]:
    found = scope.get("headers", ())
    return {name.decode(): value.decode("latin-1") for name, value in found if name in HEADERS}


def arrival_of(scope: Scope, headers: Mapping[str, str]) -> dict[str, AttributeValue]:
    """The attributes of a handshake that are known when it arrives."""
    scheme = scope.get("scheme", "ws")
    host, port = server_of(scope, scheme, headers.get("host"))
    attributes = {
        "http.request.method": "GET",
        "url.scheme": scheme,
        "server.address": host,
        "server.port": port,
        "network.protocol.name": "http",
        "network.protocol.version": scope.get("http_version", "1.1"),
        "user_agent.original": headers.get("user-agent"),
        "client.address": address_of(scope),
    }
    return known(attributes)


def server_of(scope: Scope, scheme: str, host: str | None) -> tuple[str | None, int | None]:
    """The name and the port that the client asked for, or else those of the server."""
    if not host:
        name, port = scope.get("server") or (None, None)
        return name, port
    name, colon, digits = host.rpartition(":")
    if colon and digits.isdecimal() and len(digits) <= MAX_DIGITS:
        return name.strip("[]"), int(digits)
    return host.strip("[]"), PORTS.get(scheme)
