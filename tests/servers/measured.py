"""A site with metrics, probes, an access log and a slow drain.

Its pages redirect to HTTPS; $DATABASE is its database as JSON, and $FASTWS has further values of FASTWS.
"""

from __future__ import annotations

import asyncio
import json
import os
from typing import Any

from django.conf import settings
from django.dispatch import receiver
from django.urls import path

if not settings.configured:
    settings.configure(
        SECRET_KEY="x",
        DEBUG=False,
        ALLOWED_HOSTS=["127.0.0.1", "localhost"],
        INSTALLED_APPS=["django.contrib.contenttypes", "django.contrib.auth", "fastws_compat"],
        DATABASES={
            "default": json.loads(
                os.environ.get("DATABASE", '{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}')
            )
        },
        MIDDLEWARE=["django.middleware.security.SecurityMiddleware"],
        SECURE_SSL_REDIRECT=True,
        SECURE_REDIRECT_EXEMPT=["^metrics/", "^database$"],
        ROOT_URLCONF="tests.servers.measured",
        LOGGING={
            "version": 1,
            "disable_existing_loggers": False,
            "formatters": {"line": {"format": "ACCESS %(message)s"}},
            "handlers": {"access": {"class": "logging.StreamHandler", "formatter": "line"}},
            "loggers": {"fastws_compat.access": {"handlers": ["access"], "level": "INFO"}},
        },
        FASTWS={
            "ALLOWED_ORIGINS": ["*"],
            "ACCESS_LOG": True,
            "HEALTH": "/-/",
            "DRAIN_DELAY": 3,
            "DRAIN_SPREAD": 1,
            "SHUTDOWN_GRACE": 1,
            **json.loads(os.environ.get("FASTWS", "{}")),
        },
    )

import django

django.setup()

from fastws_compat import FastAPI, WebSocket  # noqa: E402
from fastws_compat.asgi import get_asgi_application  # noqa: E402
from fastws_compat.signals import disconnected  # noqa: E402


def metrics(request: Any) -> Any:
    from fastws_compat.contrib import prometheus

    return prometheus.metrics(request)


import fastws_compat.contrib.prometheus  # noqa: E402, F401


def database(request: Any) -> Any:
    from django.db import connection
    from django.http import HttpResponse

    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return HttpResponse(str(cursor.fetchone()[0]))


urlpatterns = [path("metrics/sockets", metrics), path("database", database)]

app = FastAPI()


@receiver(disconnected)
def note_end(sender: Any, code: int, **values: Any) -> None:
    print("SIGNAL", sender.path, code)


@app.websocket("/unanswered")
async def unanswered(websocket: WebSocket) -> None:
    print("HANDSHAKE")
    await asyncio.Event().wait()


@app.websocket("/rooms/{room}")
async def room(websocket: WebSocket, room: str) -> None:
    await websocket.accept()
    async for text in websocket.iter_text():
        if text == "close":
            await websocket.close(4001)
            return
        await websocket.send_text(text)


application = get_asgi_application(app)
