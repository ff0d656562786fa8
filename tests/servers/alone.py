# ruff: noqa: E402 (models can be imported only after setup)
"""A router that no application includes, served in every possible way, with all kinds of errors.

"/fallback/..." is `get_asgi_application(fallback=...)`, any other path an `OriginCheck` around a `URLRouter`.
"""

from __future__ import annotations

from typing import Any

import django

django.setup()

from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from django.core.exceptions import PermissionDenied, SuspiciousOperation
from django.http import Http404
from django.urls import path, re_path

from fastws_compat import APIRouter, Depends, FastAPI, HTTPException, WebSocket, WebSocketException
from fastws_compat.asgi import get_asgi_application
from fastws_compat.auth import login_required
from fastws_compat.endpoints import WebSocketEndpoint
from fastws_compat.origins import OriginCheck
from fastws_compat.routing import APIWebSocketRoute, Mount, Router, WebSocketRoute, websocket_session
from fastws_compat.types import Receive, Scope, Send

FAULTS: dict[str, Exception] = {
    "http": HTTPException(409, "taken"),
    "websocket": WebSocketException(4001, "why"),
    "http404": Http404("secret"),
    "denied": PermissionDenied("secret"),
    "suspicious": SuspiciousOperation("secret"),
}


async def fail(websocket: WebSocket) -> None:
    if "after" in websocket.query_params:
        await websocket.accept()
    raise FAULTS[websocket.query_params["fault"]]


async def validated(websocket: WebSocket, number: int) -> None:
    await websocket.accept()


async def login(websocket: WebSocket, user: Any = Depends(login_required)) -> None:
    await websocket.accept()


class Endpoint(WebSocketEndpoint):
    async def on_connect(self, websocket: WebSocket) -> None:
        await fail(websocket)


async def foreign(scope: Scope, receive: Receive, send: Send) -> None:
    """A mounted application that does not use this library's WebSocket."""
    await fail(WebSocket(scope, receive, send))


class Legacy(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def connect(self) -> None:
        if "broken" in self.scope["path"]:
            raise ValueError("No route found for path 'broken'.")
        await self.accept()
        if "long" in self.scope["path"]:
            await self.close(4000, reason="x" * 200)


router = APIRouter()
router.add_api_websocket_route("/patterns", fail)
router.add_api_websocket_route("/validated", validated)
router.add_api_websocket_route("/login", login)
router.add_websocket_route("/raw", fail)
router.add_websocket_route("/class", Endpoint)
router.mount("/mounted", foreign)
inner = APIRouter(prefix="/included")
inner.add_api_websocket_route("/route", fail)
router.include_router(inner)

consumer = APIWebSocketRoute("/consumer", fail).consumer
below: Any = Router([WebSocketRoute("/router", fail), Mount("/mount", routes=[WebSocketRoute("/x", fail)])])

ROADS = {
    "/patterns": "a route of a router",
    "/raw": "a route of Starlette's kind",
    "/class": "an endpoint class of a router",
    "/mounted/": "an application that a router mounts",
    "/included/route": "a route of a router that a router includes",
    "/consumer": "a consumer",
    "/router": "a router itself",
    "/mount/x": "a mount of a router itself",
    "/route": "a route itself",
    "/api": "a typed route itself",
    "/session": "a function itself",
    "/endpoint": "an endpoint class itself",
}

urls = URLRouter(
    [
        *router.websocket_urlpatterns,
        path("consumer", consumer.as_asgi()),
        re_path("^(?:router|mount/x)$", below),
        path("route", WebSocketRoute("/route", fail)),
        path("api", APIWebSocketRoute("/api", fail)),
        path("session", websocket_session(fail)),
        path("endpoint", Endpoint),
    ]
)
application = FastAPI()
application.mount("/urls", URLRouter([path("known", Legacy.as_asgi())]))
with_fallback = get_asgi_application(
    application,
    fallback=URLRouter(
        [re_path("^fallback/(?:known|broken|long)$", Legacy.as_asgi()), *router.websocket_urlpatterns]
    ),
)
by_hand = OriginCheck(urls)


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    other = scope["type"] != "websocket" or scope["path"].startswith(("/fallback/", "/urls/"))
    await (with_fallback if other else by_hand)(scope, receive, send)
