"""Traces and metrics of sockets for OpenTelemetry.

FastWSInstrumentor().instrument()
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

from opentelemetry import context, trace
from opentelemetry.instrumentation.instrumentor import BaseInstrumentor  # type: ignore[attr-defined]
from opentelemetry.trace import SpanContext

from fastws_compat.connections import census
from fastws_compat.contrib import spans
from fastws_compat.contrib.instruments import Instruments
from fastws_compat.contrib.messaging import GroupMessages, Messages
from fastws_compat.contrib.spans import Tracing


class FastWSInstrumentor(BaseInstrumentor):  # type: ignore[misc]
    """Reports sockets to OpenTelemetry from `instrument` to `uninstrument`.

    `instrument` takes a `tracer_provider` and a `meter_provider`; the defaults are the global ones.
    """

    _parts: tuple[Messages, GroupMessages, Tracing, Instruments]

    def instrumentation_dependencies(self) -> Collection[str]:
        return ()

    def _instrument(self, **kwargs: Any) -> None:
        census.start()
        tracing = Tracing(kwargs.get("tracer_provider"))
        instruments = Instruments(kwargs.get("meter_provider"))
        # Messages are first, because tracing forgets a connection at its end.
        self._parts = Messages(tracing), GroupMessages(tracing), tracing, instruments
        for part in self._parts:
            part.begin()

    def _uninstrument(self, **kwargs: Any) -> None:
        for part in self._parts:
            part.stop()
        census.stop()


def traceparent() -> str | None:
    """The current span as the header `traceparent` names it, or else the handshake of the connection.

    None if there is neither. The library itself sends it to no client.
    """
    current = trace.get_current_span().get_span_context()
    handshake: SpanContext | None = context.get_value(spans.HANDSHAKE)  # type: ignore[assignment]
    found = current if current.is_valid else handshake
    return None if found is None or not found.is_valid else spans.written(found)
