"""Members of groups whose login ends, or whose connection is closed, while the endpoint is busy."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from fastws_compat import Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.auth import disconnect_user, login_required
from fastws_compat.groups import Group, hub
from fastws_compat.groups.feeds import GroupFeed
from fastws_compat.layers import client as layers
from tests.fake_server import until
from tests.users import client_of, make_user

pytestmark = pytest.mark.django_db

ROOM = Group("room.1")
KIND = {"history": True, "state": True, "presence": {"linger": 600}}


@pytest.fixture(autouse=True)
def project(monkeypatch: pytest.MonkeyPatch, settings: Any) -> None:
    # The transaction of a test is never committed.
    monkeypatch.setattr("django.db.transaction.on_commit", lambda call, using=None, robust=False: call())
    settings.CHANNEL_LAYERS = {}
    settings.FASTWS = {"GROUPS": {"room.*": KIND}}
    layers.local_layer.cache_clear()


class Site:
    """An endpoint that joins the room, does what it is told to, and is busy until it may go on."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.may_go_on = asyncio.Event()
        self.found: list[Any] = []
        self.app.websocket("/ws", dependencies=[Depends(login_required)])(self.endpoint)

    async def endpoint(self, websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.join(ROOM, presence="here")
        await websocket.send_json("in")
        await self.may_go_on.wait()
        await self.act(websocket)

    async def act(self, websocket: WebSocket) -> None:
        with pytest.raises(WebSocketDisconnect) as caught:
            await websocket.receive_text()
        self.found.append(caught.value.code)


def frames_until(socket: Any, last: Any) -> list[Any]:
    frames = []
    while (frame := socket.receive_json(timeout=10)) != last:
        frames.append(frame)
    return frames


def rest(socket: Any) -> tuple[list[Any], int]:
    """What still comes, and the close code."""
    frames = []
    with pytest.raises(WebSocketDisconnect) as closed:
        while True:
            frames.append(socket.receive_json(timeout=10))
    return frames, closed.value.code


async def nobody() -> bool:
    await until(lambda: not hub.hubs.get(asyncio.get_running_loop(), {}))
    return True


@pytest.mark.parametrize("claims", ["", "?fastws="])
@pytest.mark.parametrize("by", ["a logout", "a disconnect"])
def test_a_closed_connection_is_present_nowhere_and_gets_nothing(
    by: str, claims: str, caplog: pytest.LogCaptureFixture
) -> None:
    site, user = Site(), make_user("ann")
    with client_of(user, site.app).websocket_connect("/ws" + claims) as socket:
        frames_until(socket, "in")
        assert ROOM.count() == 1
        if by == "a logout":
            disconnect_user(user)
        else:
            ROOM.disconnect(4401)
        ROOM.send({"secret": 1})
        ROOM.set("secret", 1)
        frames, code = rest(socket)
        assert ("secret" in str(frames), code, ROOM.count()) == (False, 4401, 0)
        socket.portal.call(site.may_go_on.set)
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


@pytest.mark.parametrize("method", ["join", "update"])
@pytest.mark.parametrize("by", ["a logout", "a disconnect"])
def test_nobody_becomes_present_after_the_close(
    by: str, method: str, caplog: pytest.LogCaptureFixture
) -> None:
    class Late(Site):
        async def act(self, websocket: WebSocket) -> None:
            try:
                if method == "join":
                    await websocket.join(ROOM, presence="again")
                else:
                    await websocket.update(ROOM, "again")
            except WebSocketDisconnect as exc:
                self.found.append(exc.code)
            self.found.append(await ROOM.acount())

    site, user = Late(), make_user("ann")
    with client_of(user, site.app).websocket_connect("/ws") as socket:
        frames_until(socket, "in")
        if by == "a logout":
            disconnect_user(user)
        else:
            ROOM.disconnect(4403)
        rest(socket)
        socket.portal.call(site.may_go_on.set)
    assert site.found == ([4401, 0] if (by, method) == ("a logout", "join") else [0])
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


def test_a_login_that_ends_during_a_recovery(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that was missed is sent after the close, and the user does not become present."""
    reached, may_go_on, entries_after = asyncio.Event(), asyncio.Event(), GroupFeed.entries_after

    async def slowly(self: GroupFeed, *arguments: Any, **options: Any) -> Any:
        reached.set()
        await may_go_on.wait()
        return await entries_after(self, *arguments, **options)

    monkeypatch.setattr(GroupFeed, "entries_after", slowly)

    class Quiet(Site):
        async def endpoint(self, websocket: WebSocket) -> None:
            await websocket.accept()
            await websocket.join(ROOM, presence="here")
            await self.act(websocket)

    site, user, position = Quiet(), make_user("ann"), ROOM.position()
    ROOM.set("secret", 1)
    ROOM.send({"secret": 2})
    with client_of(user, site.app).websocket_connect(f"/ws?fastws=room.1:{position}") as socket:
        assert [socket.receive_json()["fastws"] for _ in range(2)] == ["hello", "joined"]
        socket.portal.call(reached.wait)
        disconnect_user(user)
        assert rest(socket) == ([], 4401)
        socket.portal.call(may_go_on.set)
        assert socket.portal.call(nobody)
    assert (site.found, ROOM.count()) == ([4401], 0)
