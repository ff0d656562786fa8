"""A site whose errors go to Sentry, through a transport that prints what it would send."""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

import sentry_sdk
from sentry_sdk.transport import Transport

from fastws_compat.contrib.sentry import FastWSIntegration


class Local(Transport):
    """Prints the envelopes, one per line."""

    def capture_envelope(self, envelope: Any) -> None:
        items = [[item.type, item.payload.json] for item in envelope.items]
        os.write(1, f"ENVELOPE {json.dumps(items)}\n".encode())


sentry_sdk.init(
    dsn="http://key@localhost/1",
    transport=Local(),
    integrations=[FastWSIntegration(isolate=True)],
    traces_sample_rate=1.0,
    send_default_pii=False,
)

from django.conf import settings  # noqa: E402

if not settings.configured:
    settings.configure(
        SECRET_KEY="x",
        ALLOWED_HOSTS=["*"],
        INSTALLED_APPS=[
            "django.contrib.contenttypes",
            "django.contrib.auth",
            "django.contrib.sessions",
            "fastws_compat",
        ],
        SESSION_ENGINE="django.contrib.sessions.backends.signed_cookies",
        ROOT_URLCONF=(),
        FASTWS={"ALLOWED_ORIGINS": ["*"]},
    )

import django  # noqa: E402

django.setup()

from fastws_compat import Depends, WebSocket  # noqa: E402
from fastws_compat.asgi import get_asgi_application  # noqa: E402
from tests.failing_rooms import failing_app  # noqa: E402

# Two endpoints of the same test raise at the same time.
app = failing_app(asyncio.Barrier(2).wait)


async def broken(websocket: WebSocket) -> None:
    raise LookupError("before accept")


@app.websocket("/refused")
async def refused(websocket: WebSocket, nothing: None = Depends(broken)) -> None: ...


@app.websocket("/silent")
async def silent(websocket: WebSocket) -> None:
    """Returns without an answer, which uvicorn logs as an error."""


@app.websocket("/well")
async def well(websocket: WebSocket) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        await websocket.send_text(text)


application = get_asgi_application(app)
