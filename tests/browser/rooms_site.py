"""A page with a room that keeps its history, under a strict policy and with hashed names of static files.

What is said is also written to the file $LINES, as a project would write it to its database. A cookie named
`member` stands for a login.
"""

from __future__ import annotations

import os
from pathlib import Path

import django
from django.conf import settings

LINES = Path(os.environ["LINES"])
STATIC = LINES.parent / f"static-{os.environ['NAME']}"
REDIS = {"address": os.environ["REDIS_URL"], "socket_timeout": None}

settings.configure(
    SECRET_KEY="a secret of this test",
    ALLOWED_HOSTS=["127.0.0.1"],
    ROOT_URLCONF=__name__,
    INSTALLED_APPS=["daphne", "django.contrib.staticfiles", "fastws_compat"],
    STATIC_URL="/static/",
    STATIC_ROOT=STATIC,
    STORAGES={"staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.ManifestStaticFilesStorage"}},
    TEMPLATES=[{"BACKEND": "django.template.backends.django.DjangoTemplates"}],
    CHANNEL_LAYERS={
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [REDIS]},
        }
    },
    FASTWS={
        "GROUPS": {"room.*": {"history": True, "state": True, "presence": {"linger": 2}}},
        "RECONNECT_SPREAD": 0.5,
        "CHECK_SECONDS": 1,
    },
)
django.setup()

from typing import Any  # noqa: E402

from django.core.management import call_command  # noqa: E402
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect, JsonResponse  # noqa: E402
from django.template import engines  # noqa: E402
from django.urls import path  # noqa: E402
from django.views.static import serve  # noqa: E402

from fastws_compat import FastAPI, HTTPException, WebSocket  # noqa: E402
from fastws_compat.asgi import get_asgi_application  # noqa: E402
from fastws_compat.groups import Group  # noqa: E402

call_command("collectstatic", interactive=False, verbosity=0)

ROOM = Group("room.1")
PAGE = """{% load static %}<!doctype html>
<html lang="en"><title>Room</title>
<script type="module" src="/page.js"></script>
<main id="room" data-live="{% static 'fastws/live.js' %}" data-socket="/ws/room"
 data-position="{{ position }}"></main></html>
"""
SCRIPT = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => violations.push(event.violatedDirective));
window.page = document.getElementById("room").dataset;
const { Live } = await import(page.live);
Object.assign(window, { Live });
document.title = "Ready";
"""


def answer(content: str, content_type: str = "text/html") -> HttpResponse:
    return HttpResponse(
        content, content_type=content_type, headers={"Content-Security-Policy": "default-src 'self'"}
    )


def page(request: HttpRequest) -> HttpResponse:
    if not request.COOKIES.get("member"):
        return HttpResponseRedirect("/login/")
    return answer(engines["django"].from_string(PAGE).render({"position": ROOM.position()}))


def script(request: HttpRequest) -> HttpResponse:
    return answer(SCRIPT, "text/javascript")


def login(request: HttpRequest) -> HttpResponse:
    return answer("<!doctype html><title>Log in</title>")


def logout(request: HttpRequest) -> HttpResponse:
    ROOM.disconnect(4401, "logged out")
    return answer("<!doctype html><title>Logged out</title>")


def write(text: str) -> None:
    with LINES.open("a") as lines:
        lines.write(f"{text}\n")


def say(request: HttpRequest) -> HttpResponse:
    for text in request.GET.getlist("text"):
        write(text)
        ROOM.send({"text": text})
    return answer("said")


def set_value(request: HttpRequest) -> HttpResponse:
    for key, value in request.GET.items():
        ROOM.set(key, value)
    return answer("set")


def data(request: HttpRequest) -> JsonResponse:
    position = ROOM.position()
    return JsonResponse({"position": position, "lines": LINES.read_text().split()})


def clear(request: HttpRequest) -> HttpResponse:
    ROOM.clear()
    return answer("cleared")


urlpatterns = [
    path("", page),
    path("page.js", script),
    path("login/", login),
    path("logout/", logout),
    path("say/", say),
    path("set/", set_value),
    path("data/", data),
    path("clear/", clear),
    path("static/<path:path>", serve, {"document_root": STATIC}),
]

app = FastAPI()


@app.websocket("/ws/room")
async def room(websocket: WebSocket, name: str = "somebody") -> None:
    if not websocket.cookies.get("member"):
        raise HTTPException(401)
    await websocket.accept()
    await websocket.join(ROOM, presence={"name": name}, presence_key=name)
    async for message in websocket.iter_json():
        key, text = message["key"], message["text"]
        if await ROOM.asend({"text": text}, key=key) is not False:
            write(text)


application: Any = get_asgi_application(app)
