"""The project of the code fragments in the documentation: its modules, and the names that they use."""

from __future__ import annotations

import json
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any

import pytest
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from django.contrib.auth.models import Group as Room
from django.contrib.auth.models import User
from django.contrib.sessions.backends.db import SessionStore
from django.shortcuts import get_object_or_404
from django.urls import path

import fastws_compat
from fastws_compat import Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.asgi import get_asgi_application
from fastws_compat.auth import login_required, permission_required, staff_member_required
from fastws_compat.groups import Group

app = FastAPI()


@app.websocket("/ws/results/{number}", dependencies=[Depends(staff_member_required)])
async def results(websocket: WebSocket, number: int) -> None:
    await websocket.accept()
    await websocket.send_json({"votes": 0})


@app.websocket("/ws/inbox", dependencies=[Depends(login_required)])
async def inbox(websocket: WebSocket) -> None:
    await websocket.accept()
    async for _ in websocket.iter_text():
        pass


@app.websocket("/ws/rooms/{slug}")
async def rooms(websocket: WebSocket, user: Annotated[User, Depends(login_required)]) -> None:
    await websocket.accept()
    async for message in websocket.iter_json():
        await websocket.send_json({"user": user.username, "text": message["text"]})


class Legacy(AsyncWebsocketConsumer):  # type: ignore[misc]
    async def connect(self) -> None:
        await self.accept()


MODULES = {
    "mysite": {},
    "mysite.asgi": {"application": get_asgi_application(app)},
    "mysite.routing": {"legacy": URLRouter([path("ws/legacy/", Legacy.as_asgi())])},
    "mysite.sockets": {"app": FastAPI()},
    "mysite.websocket": {"websocket_application": Legacy.as_asgi()},
    "mysite.models": {"Room": Room},
    "chat": {},
    "chat.routing": {"websocket_urlpatterns": [path("ws/chat/", Legacy.as_asgi())]},
    "chat.sockets": {"app": FastAPI()},
}


class Page:
    """Django's test client, with a view that announces a vote."""

    def post(self, url: str, data: dict[str, Any]) -> None:
        Group(f"results.{url.split('/')[2]}").send_on_commit({"choice": data["choice"]})


class Socket:
    """The socket of an endpoint that the documentation shows only in part."""

    def __init__(self) -> None:
        self.session = SessionStore()
        self.sent: list[Any] = []

    async def iter_json(self) -> AsyncIterator[Any]:
        yield {"text": "hello"}

    async def send_json(self, data: Any) -> None:
        self.sent.append(data)


def get_order(pk: int) -> Room:
    return get_object_or_404(Room, pk=pk)


def names() -> dict[str, Any]:
    """The names that a fragment may use without an import: the page or the reader's project has them."""
    given = [Depends, Group, User, WebSocket, WebSocketDisconnect]
    return {
        **{value.__name__: value for value in given},
        "Annotated": Annotated,
        "Room": Room,
        "Order": Room,
        "CurrentUser": Annotated[User, Depends(login_required)],
        "app": FastAPI(),
        "get_object_or_404": get_object_or_404,
        "get_order": get_order,
        "permission_required": permission_required,
        "pytest": pytest,
        "set_tenant_of": lambda scope: scope.update(tenant="acme"),
        "websocket": Socket(),
        "__package__": "mysite",
        "__name__": "mysite.fragment",
    }


@contextmanager
def project() -> Iterator[None]:
    """Make the modules importable, and undo what a fragment registers."""
    import wsproject.asgi  # noqa: F401 - or a fragment is the first to import it, and its sockets are undone too
    from fastws_compat.groups import handlers

    modules = {name: ModuleType(name) for name in MODULES}
    for name, values in MODULES.items():
        vars(modules[name]).update(values)
    modules["mysite"].__path__ = modules["chat"].__path__ = []
    with pytest.MonkeyPatch.context() as patch:
        # `mock.patch.dict` would also remove what a fragment is the first to import, such as a part of anyio.
        for name, module in modules.items():
            patch.setitem(sys.modules, name, module)
        patch.setattr(handlers, "registered", list(handlers.registered))
        patch.setattr(fastws_compat, "websocket", FastAPI().websocket)
        yield


def consumer_of(sent: list[Any]) -> Any:
    """A consumer that records what it sends."""

    async def send(text_data: str) -> None:
        sent.append(json.loads(text_data))

    async def close(code: int) -> None:
        sent.append(code)

    return SimpleNamespace(send=send, close=close)
