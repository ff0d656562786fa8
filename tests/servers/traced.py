"""Sockets whose spans are written to the file that $SPANS names, a JSON object in each line."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import django
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor, SpanExporter, SpanExportResult

django.setup()

from fastws_compat import FastAPI, WebSocket  # noqa: E402
from fastws_compat.asgi import get_asgi_application  # noqa: E402
from fastws_compat.contrib.opentelemetry import FastWSInstrumentor  # noqa: E402
from fastws_compat.groups import Group  # noqa: E402


class Written(SpanExporter):
    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with Path(os.environ["SPANS"]).open("a") as file:
            file.writelines(span.to_json(indent=None) + "\n" for span in spans)
        return SpanExportResult.SUCCESS


provider = TracerProvider()
provider.add_span_processor(SimpleSpanProcessor(Written()))
FastWSInstrumentor().instrument(tracer_provider=provider)

app = FastAPI()


@app.websocket("/ws/{room}")
async def room(websocket: WebSocket, room: str) -> None:
    await websocket.accept()
    await websocket.join(f"room.{room}")
    await websocket.send_text("ready")
    async for text in websocket.iter_text():
        await Group(f"room.{room}").asend(text)


application = get_asgi_application(app)
