"""Small sockets and pages for the JavaScript client, under a Content Security Policy of `'self'` alone.

A cookie named `member` stands for a login, so that the site needs no database.
"""

from __future__ import annotations

import json

import django
from django.conf import settings

settings.configure(
    SECRET_KEY="a secret of this test",
    DEBUG=True,
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["daphne", "django.contrib.staticfiles", "fastws_compat"],
    STATIC_URL="/static/",
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
)
django.setup()

from typing import Any  # noqa: E402

from django.contrib.staticfiles.handlers import ASGIStaticFilesHandler  # noqa: E402
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect  # noqa: E402
from django.template import engines  # noqa: E402
from django.urls import path  # noqa: E402

from fastws_compat import Depends, FastAPI, HTTPException, WebSocket  # noqa: E402
from fastws_compat.asgi import get_asgi_application  # noqa: E402

# No script of the page itself: a browser that enforces the policy refuses inline ones.
PAGE = """{% load static %}<!doctype html>
<html lang="en"><title>Live</title>
<link rel="modulepreload" href="{% static "fastws/live.js" %}">
<script type="module" src="/page.js" data-live="{% static "fastws/live.js" %}"></script>
<a href="/elsewhere/">Elsewhere</a></html>
"""
SCRIPT = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
const { Live, CallError } = await import("/static/fastws/live.js");
Object.assign(window, { Live, CallError });
document.title = "Ready";
"""


def answer(content: str, content_type: str = "text/html") -> HttpResponse:
    return HttpResponse(
        content, content_type=content_type, headers={"Content-Security-Policy": "default-src 'self'"}
    )


def page(request: HttpRequest) -> HttpResponse:
    return answer(engines["django"].from_string(PAGE).render())


def members(request: HttpRequest) -> HttpResponse:
    return page(request) if request.COOKIES.get("member") else HttpResponseRedirect("/login/")


def script(request: HttpRequest) -> HttpResponse:
    return answer(SCRIPT, "text/javascript")


def elsewhere(request: HttpRequest) -> HttpResponse:
    return answer("<!doctype html><title>Elsewhere</title>")


urlpatterns = [
    path("", page),
    path("members/", members),
    path("login/", elsewhere),
    path("elsewhere/", elsewhere),
    path("page.js", script),
]

app = FastAPI()


def is_member(websocket: WebSocket) -> None:
    if not websocket.cookies.get("member"):
        raise HTTPException(401)


async def converse(websocket: WebSocket) -> None:
    """Do what each message says, or send it back."""
    async for message in websocket.iter_json():
        match message:
            case {"type": "close", "code": code}:
                return await websocket.close(code, message.get("reason", ""))
            case {"type": "hold"}:
                pass
            case {"type": "fail", "id": id}:
                await websocket.send_json({"type": "error", "status": 409, "detail": "Taken", "id": id})
            case {"type": "ping"}:
                await websocket.send_json({"type": "pong"})
            case _:
                await websocket.send_json(message)
    return None


@app.websocket("/ws/echo")
async def echo(websocket: WebSocket, after: int = 0) -> None:
    await websocket.accept()
    await websocket.send_json({"type": "welcome", "after": after})
    await converse(websocket)


@app.websocket("/ws/members", dependencies=[Depends(is_member)])
async def members_only(websocket: WebSocket) -> None:
    await websocket.accept()
    await converse(websocket)


@app.websocket("/ws/hello")
async def hello(websocket: WebSocket) -> None:
    """Says hello, as a later version of the library will, and that it is heard from every second."""
    await websocket.accept()
    await websocket.send_text(json.dumps({"fastws": "hello", "id": "a", "beat": 1}, separators=(",", ":")))
    await converse(websocket)


@app.websocket("/ws/bytes")
async def binary(websocket: WebSocket) -> None:
    await websocket.accept()
    async for data in websocket.iter_bytes():
        await websocket.send_bytes(data)


application: Any = ASGIStaticFilesHandler(get_asgi_application(app))
