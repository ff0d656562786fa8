"""A site below a path: pages, sockets, a mounted application and an existing consumer."""

from __future__ import annotations

import os

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.servers.script_name_settings")

import django

django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer  # noqa: E402
from channels.routing import URLRouter  # noqa: E402
from django.http import HttpRequest, HttpResponse  # noqa: E402
from django.template import engines  # noqa: E402
from django.urls import path, reverse  # noqa: E402

from fastws_compat import FastAPI, WebSocket  # noqa: E402
from fastws_compat.asgi import get_asgi_application  # noqa: E402

LINKS = "{% load fastws %}{% ws_url 'where' room=7 %} {% ws_url 'sub:there' %}"

app, sub = FastAPI(), FastAPI()


@app.websocket("/ws/where/{room}", name="where")
async def where(websocket: WebSocket, room: int) -> None:
    await websocket.accept()
    await websocket.send_json([reverse("links"), websocket.url.path, websocket.url_for("where", room=8).path])


@sub.websocket("/there", name="there")
async def there(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.send_json([reverse("links"), websocket.url.path])


class Old(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def connect(self) -> None:
        await self.accept()
        await self.send(text_data=f'["{reverse("links")}"]')


def links(request: HttpRequest) -> HttpResponse:
    """The URLs of the sockets, as a page would contain them."""
    return HttpResponse(engines["django"].from_string(LINKS).render({"request": request}))


app.mount("/sub", sub, name="sub")
urlpatterns = [path("links/", links, name="links")]
application = get_asgi_application(app, fallback=URLRouter([path("old/", Old.as_asgi())]))
