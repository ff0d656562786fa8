"""Groups in one process: with no channel layer, with the in-memory one, and with one that fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from contextvars import ContextVar
from datetime import date
from types import SimpleNamespace
from typing import Any
from uuid import UUID

import pytest
from channels.generic.websocket import AsyncJsonWebsocketConsumer
from channels.layers import InMemoryChannelLayer, channel_layers
from django.core.management import BaseCommand, call_command
from django.db import connection, transaction
from pydantic import BaseModel

from fastws_compat import FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.connections.pipe import Place, Stage, pipe_of
from fastws_compat.exceptions import GroupNameError, GroupSendError
from fastws_compat.groups import ConnectionManager, Group, counters, handlers, hub, on, record
from fastws_compat.layers import client as layers
from fastws_compat.layers.sequence import LossDetector, Numbering
from fastws_compat.layers.wire import Envelope, Payload, unpack
from fastws_compat.testclient import TestClient
from fastws_compat.websockets import WebSocketDisconnected
from tests.fake_server import CONNECT, Dam, FakeServer, Message, connected, until, websocket_scope

TIMEOUT = 5


@pytest.fixture(autouse=True, params=["no layer", "in-memory layer"])
def layer(request, settings):
    """Every test runs without `CHANNEL_LAYERS` and with Channels' own layer."""
    if request.param == "no layer":
        settings.CHANNEL_LAYERS = {}
    else:
        settings.CHANNEL_LAYERS = {"default": {"BACKEND": "channels.layers.InMemoryChannelLayer"}}
    layers.health.cache_clear()
    layers.local_layer.cache_clear()
    counters.clear()
    yield layers.layer_of("default")
    assert not hub.hubs


@pytest.fixture
def registered():
    """Remove the handlers that a test registers."""
    before = list(handlers.registered)
    yield
    handlers.registered[:] = before


def member_app(*groups: Any, **options: Any) -> FastAPI:
    """An application whose sockets join the groups and receive until the client disconnects."""
    return app_joining(lambda websocket: websocket.join(*groups), **options)


def app_joining(join: Callable[[WebSocket], Awaitable[Any]], **options: Any) -> FastAPI:
    """As `member_app`, for sockets that join their groups in another way."""
    app = FastAPI(**options)

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await join(websocket)
        await websocket.send_text("joined")
        async for text in websocket.iter_text():
            await websocket.send_text(f"echo {text}")

    return app


def chat_app() -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws/{name}")
    async def chat(websocket: WebSocket, name: str, alone: bool = False):
        room = Group("chat")
        await websocket.accept()
        await websocket.join(room)
        await websocket.send_text("joined")
        async for data in websocket.iter_json():
            await room.asend({"user": name, "text": data["text"]}, exclude=websocket if alone else None)

    return app


@asynccontextmanager
async def opened(
    app: Any, sending: Callable[[Message], Awaitable[None]] | None = None
) -> AsyncIterator[FakeServer]:
    """A socket whose endpoint has joined its groups."""
    socket = connected(app, on_send=sending)
    try:
        assert (await socket.frame())["type"] == "websocket.accept"
        assert await socket.text() == "joined"
        yield socket
    finally:
        await socket.leave()


def run(main: Callable[[], Awaitable[None]]) -> None:
    async def limited() -> None:
        async with asyncio.timeout(4 * TIMEOUT):
            await main()

    asyncio.run(limited())


# ---- Names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "chat.1", "A-b_c.9", "x" * 99])
def test_a_name_that_channels_accepts(name):
    InMemoryChannelLayer().require_valid_group_name(name)
    assert Group(name).name == name


@pytest.mark.parametrize("name", ["", "chat room", "a/b", "ä", "x" * 100, "a\n", "٣", "a!b", None, 7, b"a"])
def test_a_name_that_channels_does_not_accept(name):
    with pytest.raises(GroupNameError, match=r"is not a valid group name: use 1 to 99 ASCII letters"):
        Group(name)


def test_groups_with_the_same_name_are_equal():
    assert Group("a") == Group("a", type="x")
    assert len({Group("a"), Group("a"), Group("b"), Group("a", layer="other")}) == 3
    assert repr(Group("a")) == "Group('a')"


@pytest.mark.parametrize("pk", [5, "ann", UUID(int=1), "ann@example.org", "ä"])
def test_the_group_of_a_user(pk):
    group = Group.for_user(SimpleNamespace(pk=pk))
    assert group == Group.for_user(SimpleNamespace(pk=pk))
    assert group != Group.for_user(SimpleNamespace(pk="somebody else"))


def test_the_group_of_everyone_has_its_own_name():
    assert Group.everyone() == Group.everyone()
    assert Group.everyone() != Group("everyone")


def test_an_unsaved_user_has_no_group():
    with pytest.raises(GroupNameError, match="has no group until the user has been saved"):
        Group.for_user(SimpleNamespace(pk=None))


# ---- What is sent -----------------------------------------------------------------------------------


class Reading(BaseModel):
    celsius: float
    at: date


@pytest.mark.parametrize(
    ("message", "frame"),
    [
        ({"a": [1, None, "ü"]}, {"text": '{"a":[1,null,"ü"]}'}),
        ([1, 2], {"text": "[1,2]"}),
        ((1, 2), {"text": "[1,2]"}),
        ("plain", {"text": "plain"}),
        ("", {"text": ""}),
        (b"\x00\xff", {"bytes": b"\x00\xff"}),
        (bytearray(b"ab"), {"bytes": b"ab"}),
        (Reading(celsius=2.5, at=date(2026, 1, 2)), {"text": '{"celsius":2.5,"at":"2026-01-02"}'}),
        ({"r": Reading(celsius=1, at=date(2026, 1, 2))}, {"text": '{"r":{"celsius":1.0,"at":"2026-01-02"}}'}),
        ({"id": UUID(int=1)}, {"text": '{"id":"00000000-0000-0000-0000-000000000001"}'}),
    ],
)
def test_a_message_reaches_the_member_as_a_frame(message, frame):
    with TestClient(member_app("g")).websocket_connect("/ws") as socket:
        assert socket.receive_text() == "joined"
        Group("g").send(message)
        assert socket.receive() == {"type": "websocket.send", **frame}


@pytest.mark.parametrize("message", [7, None, 1.5, object(), {1, 2}])
def test_a_message_that_does_not_fit_into_a_frame(message):
    with pytest.raises(TypeError, match="A group message must be a dict, list, pydantic model, str or bytes"):
        Group("g").send(message)


@pytest.mark.parametrize("message", ["\ud800", {"a": "\ud800"}, {"a": float("nan")}])
def test_a_message_that_no_client_could_read_fails_at_the_sender(message):
    with pytest.raises(ValueError):
        Group("g").send(message)


# ---- Membership -------------------------------------------------------------------------------------


def test_a_chat_of_two():
    client = TestClient(chat_app())
    with client.websocket_connect("/ws/ann") as ann, client.websocket_connect("/ws/bob") as bob:
        assert [ann.receive_text(), bob.receive_text()] == ["joined", "joined"]
        ann.send_json({"text": "hi"})
        assert ann.receive_json() == bob.receive_json() == {"user": "ann", "text": "hi"}


def test_the_sender_can_be_left_out():
    client = TestClient(chat_app())
    with client.websocket_connect("/ws/ann?alone=1") as ann, client.websocket_connect("/ws/bob") as bob:
        assert [ann.receive_text(), bob.receive_text()] == ["joined", "joined"]
        ann.send_json({"text": "hi"})
        assert bob.receive_json() == {"user": "ann", "text": "hi"}
        bob.send_json({"text": "hello"})
        assert ann.receive_json() == {"user": "bob", "text": "hello"}


def test_excluding_a_socket_that_has_joined_no_group():
    async def main() -> None:
        stranger = WebSocket({"type": "websocket", "headers": []}, None, None)
        async with opened(member_app("g")) as socket:
            await Group("g").asend("hi", exclude=stranger)
            assert await socket.text() == "hi"

    run(main)


def test_a_message_after_a_disconnect_is_not_sent():
    async def main() -> None:
        async with opened(member_app("g")) as socket, Group("g").subscribe() as messages:
            await Group("g").adisconnect(4000)
            await Group("g").adisconnect(4001)
            await Group("g").asend("too late")
            assert await anext(messages) == "too late"
            assert (await socket.frame())["code"] == 4000
            assert socket.take() == []

    run(main)


def test_several_groups_and_names_are_joined_in_one_call():
    async def main() -> None:
        async with opened(member_app(Group("a"), "b")) as socket:
            await Group("a").asend("1")
            await Group("b").asend("2")
            assert [await socket.text(), await socket.text()] == ["1", "2"]

    run(main)


def test_a_socket_joins_one_group_after_the_other():
    async def both(websocket: WebSocket) -> None:
        await websocket.join("a")
        await websocket.join("b")

    async def main() -> None:
        async with opened(app_joining(both)) as socket:
            await Group("a").asend("1")
            await Group("b").asend("2")
            assert [await socket.text(), await socket.text()] == ["1", "2"]

    run(main)


def test_a_member_that_joined_twice_gets_a_message_once():
    async def main() -> None:
        async with opened(member_app("g", Group("g"))) as socket:
            await Group("g").asend("1")
            await Group("g").asend("2")
            assert [await socket.text(), await socket.text()] == ["1", "2"]

    run(main)


def test_a_socket_that_has_left_receives_nothing():
    async def one_of_two(websocket: WebSocket) -> None:
        await websocket.join("a", "b")
        await websocket.leave("a", "c")

    async def main() -> None:
        async with opened(app_joining(one_of_two)) as socket:
            await Group("a").asend("1")
            await Group("b").asend("2")
            assert await socket.text() == "2"

    run(main)


@pytest.mark.parametrize("end", ["returns", "raises", "is left", "is cancelled"])
def test_every_group_is_left_however_the_connection_ends(end, layer, caplog):
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.join("a", "b")
        await websocket.send_text("joined")
        await websocket.receive_text()
        if end == "raises":
            raise ValueError("oops")

    async def main() -> None:
        socket = connected(app)
        await socket.frame()
        assert await socket.text() == "joined"
        assert sorted(groups(layer)) == ["a", "b"]
        if end == "is left":
            await socket.leave()
        elif end == "is cancelled":
            socket.task.cancel()
            await asyncio.wait([socket.task])
        else:
            socket.say("x")
            await socket.task
        assert not groups(layer)

    run(main)


def groups(layer: Any) -> Any:
    return layer.groups


def test_a_socket_without_a_session_joins_and_leaves_explicitly(layer):
    async def main() -> None:
        server = FakeServer(CONNECT)
        websocket = WebSocket(websocket_scope(), server.receive, server.send)
        await websocket.accept()
        await websocket.join("g")
        await Group("g").asend("hi")
        await server.wait_sent("websocket.send")
        await websocket.leave("g")
        assert not groups(layer)
        assert server.sent[1:] == [{"type": "websocket.send", "text": "hi"}]

    run(main)


def test_a_socket_that_joined_before_accept_receives_its_messages_after_it():
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.join("g")
        async with Group("g").subscribe() as messages:
            await Group("g").asend("early")
            assert await anext(messages) == "early"
        await websocket.accept()
        await websocket.receive()

    with TestClient(app).websocket_connect("/ws") as socket:
        assert socket.receive_text() == "early"


def test_a_closed_socket_cannot_join():
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.close(4001)
        with pytest.raises(WebSocketDisconnected, match="cannot join"):
            await websocket.join("g")

    with TestClient(app).websocket_connect("/ws") as socket:
        assert socket.receive()["code"] == 4001


@pytest.mark.parametrize("joined", [False, True])
def test_a_socket_whose_endpoint_has_returned_cannot_join(joined, layer):
    app = FastAPI()
    left_over: list[WebSocket] = []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        if joined:
            await websocket.join("before")
        left_over.append(websocket)

    async def main() -> None:
        socket = connected(app)
        await socket.task
        with pytest.raises(WebSocketDisconnected, match="cannot join"):
            await left_over[0].join("g")
        assert not groups(layer)

    run(main)


def test_a_join_that_waits_for_the_layer_while_the_endpoint_returns(watched):
    app = FastAPI()
    joining: list[asyncio.Task[None]] = []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        joining.append(asyncio.create_task(websocket.join("g")))
        await asyncio.sleep(0)

    async def main() -> None:
        await connected(app).task
        await joining[0]

    run(main)
    assert watched.groups == {}


def test_a_lost_client_does_not_affect_other_members():
    async def broken(message: Any) -> None:
        if message.get("text") == "hi":
            raise OSError("gone")

    async def main() -> None:
        async with opened(member_app("g"), broken), opened(member_app("g")) as other:
            await Group("g").asend("hi")
            assert await other.text() == "hi"

    run(main)


def test_an_unexpected_error_of_one_member_is_logged_and_does_not_affect_others(caplog):
    async def broken(message: Any) -> None:
        if message.get("text") == "hi":
            raise KeyError("bug")

    async def main() -> None:
        async with opened(member_app("g"), broken), opened(member_app("g")) as other:
            await Group("g").asend("hi")
            assert await other.text() == "hi"

    run(main)
    assert [record.getMessage() for record in caplog.records] == [
        "A group message could not be sent to a member"
    ]


@pytest.mark.parametrize("error", [OSError("gone"), RuntimeError("closed")])
def test_a_server_that_raises_at_once_does_not_affect_other_members(error, caplog):
    async def main() -> None:
        async with opened(member_app("g")) as one, opened(member_app("g")) as other:

            async def refuse(message: Any) -> None:
                raise error

            one.on_send = refuse
            await Group("g").asend("hi")
            assert await other.text() == "hi"
            one.on_send = None

    run(main)
    assert levels(caplog) == []


def test_more_members_than_get_a_message_in_a_row(monkeypatch):
    monkeypatch.setattr(hub, "MAX_DELIVERIES_IN_A_ROW", 3)
    app = member_app("g")

    async def main() -> None:
        sockets = [connected(app) for _ in range(10)]
        for socket in sockets:
            await socket.frame()
            await socket.text()
        await Group("g").asend("1")
        await Group("g").asend("2")
        for socket in sockets:
            assert [await socket.text(), await socket.text()] == ["1", "2"]
        await asyncio.gather(*(socket.leave() for socket in sockets))

    run(main)


def test_middleware_with_a_timeout_around_its_send():
    class Patient:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def patient(message: Any) -> None:
                async with asyncio.timeout(TIMEOUT):
                    await asyncio.sleep(0)
                    await send(message)

            await self.app(scope, receive, patient)

    app = member_app("g")
    app.add_middleware(Patient)

    async def main() -> None:
        async with opened(app) as one, opened(app) as two:
            for number in range(20):
                await Group("g").asend(str(number))
            for socket in (one, two):
                assert [await socket.text() for _ in range(20)] == [str(number) for number in range(20)]

    run(main)


def test_middleware_sees_its_context_variables_when_a_group_sends():
    request_id: ContextVar[str] = ContextVar("request_id", default="none")
    seen: list[str] = []

    class Tagging:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            async def tagged(message: Any) -> None:
                seen.append(request_id.get())
                await send(message)

            request_id.set("mine")
            await self.app(scope, receive, tagged)

    app = member_app("g")
    app.add_middleware(Tagging)

    async def main() -> None:
        async with opened(app) as socket:
            seen.clear()
            await Group("g").asend("hi")
            assert await socket.text() == "hi"

    run(main)
    assert seen[0] == "mine"


def test_a_server_whose_send_returns_a_future():
    class Server:
        """Passes a plain function to the application."""

        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            await self.app(scope, receive, lambda message: asyncio.ensure_future(send(message)))

    async def main() -> None:
        async with opened(Server(member_app("g"))) as socket:
            await Group("g").asend("1")
            await Group("g").asend("2")
            assert [await socket.text(), await socket.text()] == ["1", "2"]

    run(main)


def test_groups_work_without_django_settings():
    script = (
        "import asyncio\n"
        "from fastws_compat.groups import Group\n"
        "async def main():\n"
        "    async with Group('g').subscribe() as messages:\n"
        "        await Group('g').asend({'n': 1})\n"
        "        print(await anext(messages))\n"
        "asyncio.run(main())"
    )
    environ = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
    command = [sys.executable, "-W", "error", "-c", script]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("{'n': 1}\n", "")


# ---- The hub ----------------------------------------------------------------------------------------


class Watched(InMemoryChannelLayer):
    """Records its calls. With `fails` they raise; with `hangs` they never return."""

    def __init__(self) -> None:
        super().__init__(capacity=10_000)
        self.calls: list[tuple[str, str]] = []
        self.fails = False
        self.hangs = False
        self.broken = asyncio.Event()

    async def _call(self, name: str, group: str) -> None:
        self.calls.append((name, group))
        await asyncio.sleep(0)
        if self.hangs:
            await asyncio.Event().wait()
        if self.fails:
            raise ConnectionError("The layer is away.")

    async def new_channel(self, prefix: str = "specific.") -> str:
        await self._call("new_channel", "")
        return await super().new_channel(prefix)

    async def group_add(self, group: str, channel: str) -> None:
        await self._call("group_add", group)
        await super().group_add(group, channel)

    async def group_discard(self, group: str, channel: str) -> None:
        await self._call("group_discard", group)
        await super().group_discard(group, channel)

    async def group_send(self, group: str, message: Any) -> None:
        await self._call("group_send", group)
        await super().group_send(group, message)

    async def receive(self, channel: str) -> Any:
        getting = asyncio.ensure_future(super().receive(channel))
        breaking = asyncio.ensure_future(self.broken.wait())
        try:
            await asyncio.wait([getting, breaking], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (getting, breaking):
                task.cancel()
        if breaking.done() and not breaking.cancelled() and self.broken.is_set():
            raise ConnectionError("The connection to the layer was lost.")
        return getting.result()

    def count(self, name: str) -> int:
        return sum(called == name for called, _ in self.calls)


@pytest.fixture
def watched(layer):
    watched = Watched()
    channel_layers.set("default", watched)
    yield watched
    channel_layers.backends.pop("default", None)


@pytest.fixture
def impatient(settings, monkeypatch):
    settings.FASTWS = {"LAYER_TIMEOUT": 0.25}  # a busy machine takes 0.05 s for anything
    monkeypatch.setattr(hub, "RETRY_INTERVAL", 0.02)


def test_a_socket_without_groups_does_not_call_the_layer(watched):
    async def main() -> None:
        async with opened(member_app()):
            pass

    run(main)
    assert watched.calls == []


def test_a_hundred_members_join_with_one_call_to_the_layer(watched):
    app = member_app("g")

    async def main() -> None:
        sockets = [connected(app) for _ in range(100)]
        for socket in sockets:
            await socket.frame()
            await socket.text()
        await Group("g").asend("hi")
        for socket in sockets:
            assert await socket.text() == "hi"
        await asyncio.gather(*(socket.leave() for socket in sockets))

    run(main)
    assert watched.calls == [
        ("new_channel", ""),
        ("group_add", "g"),
        ("group_send", "g"),
        ("group_discard", "g"),
    ]


def test_many_groups_share_one_channel(watched):
    names = [f"g{number}" for number in range(40)]

    async def main() -> None:
        async with opened(member_app(*names)) as socket:
            for name in names:
                await Group(name).asend(name)
            assert [await socket.text() for _ in names] == names

    run(main)
    assert watched.count("new_channel") == 1
    assert watched.groups == {}


def test_the_last_of_concurrent_joins_and_leaves_wins(watched):
    async def main() -> None:
        member, other = (SimpleNamespace(id=name, deliver=None, close=None) for name in "ab")
        mine = hub.hub_of("default")
        assert mine.add("g", member)
        await asyncio.sleep(0)
        assert mine.discard("g", member)
        await asyncio.sleep(0)
        assert mine.add("g", other)
        await mine.wait_synced("g")
        assert list(watched.groups) == ["g"]
        mine.discard("g", other)
        await mine.wait_synced("g")
        assert watched.groups == {}

    run(main)


def test_a_group_that_is_left_and_joined_again_at_once_stays_joined(watched):
    async def main() -> None:
        member = SimpleNamespace(id="a", deliver=None, close=None)
        mine = hub.hub_of("default")
        assert mine.add("g", member)
        await mine.wait_synced("g")
        mine.discard("g", member)
        mine.add("g", member)
        await mine.wait_synced("g")
        assert list(watched.groups) == ["g"]
        mine.discard("g", member)
        await mine.wait_synced("g")

    run(main)
    assert (watched.count("group_add"), watched.count("group_discard")) == (1, 1)


def test_every_member_receives_the_messages_of_a_sender_in_order():
    app = member_app("g")
    texts = [str(number) for number in range(300)]

    async def slow(message: Any) -> None:
        await asyncio.sleep(0)

    async def main() -> None:
        async with opened(app) as one, opened(app, slow) as two:
            for text in texts:
                await Group("g").asend(text)
            assert [await one.text() for _ in texts] == texts
            assert [await two.text() for _ in texts] == texts

    run(main)


def test_membership_outlives_the_layers_group_expiry(watched):
    watched.group_expiry = 0.1

    async def main() -> None:
        async with opened(member_app("g")) as socket:
            async with asyncio.timeout(TIMEOUT):
                while watched.count("group_add") < 4:
                    await asyncio.sleep(0.01)
            await Group("g").asend("hi")
            assert await socket.text() == "hi"

    run(main)


def test_a_hub_whose_task_was_cancelled_is_replaced(watched):
    async def cut() -> None:
        socket = connected(member_app("g"))
        await socket.frame()
        assert await socket.text() == "joined"
        reconciler = next(iter(hub.hubs.values()))[id(watched)].task
        reconciler.cancel()
        await asyncio.wait([reconciler])
        assert not hub.hubs
        await socket.leave()

    run(cut)


def test_the_hubs_of_a_closed_loop_are_forgotten(watched):
    closed = asyncio.new_event_loop()
    closed.close()
    hub.hubs[closed] = {id(watched): hub.Hub("default", watched)}

    async def main() -> None:
        async with opened(member_app("g")) as socket:
            assert closed not in hub.hubs
            await Group("g").asend("hi")
            assert await socket.text() == "hi"

    run(main)


def test_a_message_that_the_layer_cannot_encode_is_not_an_outage(watched, monkeypatch):
    async def refuse(group: str, message: Any) -> None:
        raise TypeError("bytes are not JSON")

    monkeypatch.setattr(watched, "group_send", refuse)
    with pytest.raises(TypeError, match="bytes are not JSON"):
        Group("g").send(b"x")
    assert counters["outages"] == 0


# ---- A layer that fails -----------------------------------------------------------------------------


def test_sockets_that_join_during_an_outage_stay_open_and_are_joined_after_it(watched, impatient, caplog):
    watched.fails = True

    async def main() -> None:
        async with opened(member_app("g")) as socket:
            with pytest.raises(GroupSendError, match="did not accept a message for group 'g'"):
                await Group("g").asend("lost")
            watched.fails = False
            await until(lambda: "g" in watched.groups)
            await Group("g").asend("hi")
            assert await socket.text() == "hi"

    run(main)
    assert counters["failed"] == 1
    assert counters["outages"] == 1
    assert levels(caplog) == ["ERROR", "WARNING"]
    assert "1 messages from this process were lost" in caplog.text


def levels(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.levelname for record in caplog.records if record.name == "fastws_compat"]


def test_members_rejoin_a_layer_that_has_lost_them(watched, impatient, caplog):
    async def main() -> None:
        async with opened(member_app("a", "b")) as socket:
            watched.fails = True
            watched.groups.clear()
            watched.broken.set()
            await until(lambda: watched.count("group_add") > 3)
            watched.broken.clear()
            watched.fails = False
            await until(lambda: len(watched.groups) == 2)
            await Group("a").asend("1")
            await Group("b").asend("2")
            assert [await socket.text(), await socket.text()] == ["1", "2"]

    run(main)
    assert levels(caplog) == ["ERROR", "WARNING"]


def test_a_layer_that_hangs_does_not_block_its_callers(watched, impatient):
    async def main() -> None:
        watched.hangs = True
        async with opened(member_app("g")) as socket:
            with pytest.raises(GroupSendError, match=r"no answer within 0\.25 s"):
                await Group("g").asend("lost")
            socket.say("still")
            assert await socket.text() == "echo still"
            watched.hangs = False
            await until(lambda: "g" in watched.groups)

    run(main)


def test_a_socket_that_leaves_during_an_outage_is_not_joined_after_it(watched, impatient):
    async def main() -> None:
        async with opened(member_app("g")):
            watched.fails = True
        watched.fails = False
        await until(lambda: not hub.hubs)

    run(main)
    assert watched.groups == {}


def test_a_layer_that_hangs_does_not_block_a_leaving_socket(watched, impatient):
    async def main() -> None:
        async with opened(member_app("g")):
            watched.hangs = True
        watched.hangs = False
        await until(lambda: not hub.hubs)

    run(main)
    assert watched.groups == {}


def test_an_outage_is_logged_once_although_the_layer_still_accepts_members(watched, impatient, caplog):
    """The pub/sub layer does so while Redis is frozen: it does not await the reply to a subscription."""
    takes = watched.group_send

    async def refuse(group: str, message: Any) -> None:
        raise ConnectionError("The layer is away.")

    async def main() -> None:
        async with opened(member_app("g")) as socket:
            watched.group_send = refuse
            for number in range(3):
                with pytest.raises(GroupSendError):
                    await Group("g").asend("lost")
                async with opened(member_app(f"other.{number}")):
                    pass
            watched.group_send = takes
            await Group("g").asend("hi")
            assert await socket.text() == "hi"

    run(main)
    assert levels(caplog) == ["ERROR", "WARNING"]
    assert "'default' fails (ConnectionError: The layer is away): group messages" in caplog.text
    assert "3 messages from this process were lost" in caplog.text
    assert counters["outages"] == 1


def test_a_layer_whose_receive_times_out_is_not_failing(watched, impatient, caplog):
    timeouts = []

    class Trap(Watched):
        async def receive(self, channel: str) -> Any:
            try:
                async with asyncio.timeout(0.01):
                    return await super().receive(channel)
            except TimeoutError as exc:
                timeouts.append(exc)
                raise

    channel_layers.set("default", Trap())

    async def main() -> None:
        async with opened(member_app("g")) as socket:
            await until(lambda: len(timeouts) > 2)
            await Group("g").asend("hi")
            assert await socket.text() == "hi"

    run(main)
    assert levels(caplog) == []


# ---- Slow members -----------------------------------------------------------------------------------


def test_a_slow_member_neither_delays_others_nor_loses_messages(settings):
    app = member_app("g")
    texts = [str(number) for number in range(50)]

    async def main() -> None:
        dam = Dam()
        async with opened(app, dam) as slow, opened(app) as fast:
            dam.open.clear()
            for text in texts:
                await Group("g").asend(text)
            assert [await fast.text() for _ in texts] == texts
            assert slow.take() == []
            dam.open.set()
            assert [await slow.text() for _ in texts] == texts

    run(main)


def test_a_member_that_is_too_slow_is_closed_with_1013(settings, caplog):
    settings.FASTWS = {"SLOW_CONSUMER_QUEUE": 3}
    app = FastAPI()
    raised: list[WebSocketDisconnect] = []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, go: bool = False):
        await websocket.accept()
        await websocket.join("g")
        await websocket.send_text("joined")
        try:
            while True:
                await websocket.receive_text()
                await websocket.send_text("?")
        except WebSocketDisconnect as exc:
            raised.append(exc)

    async def main() -> None:
        dam = Dam()
        async with opened(app, dam) as slow, opened(member_app("g")) as fast:
            dam.open.clear()
            for number in range(10):
                await Group("g").asend(str(number))
            assert [await fast.text() for _ in range(10)] == [str(number) for number in range(10)]
            assert await slow.frame() == {
                "type": "websocket.close",
                "code": 1013,
                "reason": "reads too slowly",
            }
            slow.say("?")
            await slow.task

    run(main)
    assert counters["closed"] == 1
    assert [(exc.code, exc.reason) for exc in raised] == [(1013, "reads too slowly")]
    assert levels(caplog) == ["WARNING"]
    assert "/ws reads too slowly and is closed with 1013" in caplog.text


def test_a_member_that_accepts_too_late_is_refused(settings):
    settings.FASTWS = {"SLOW_CONSUMER_QUEUE": 3}
    app, may_accept = FastAPI(), asyncio.Event()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.join("g")
        await may_accept.wait()
        await websocket.accept()

    async def main() -> None:
        server = FakeServer(CONNECT)
        server.start(app)
        await until(lambda: hub.hub_of("default").members.get("g"))
        for number in range(10):
            await Group("g").asend(str(number))
        await server.wait_sent("websocket.close")
        assert server.closes == [1013]
        may_accept.set()
        await server.wait_ended()
        assert server.types == ["websocket.close"]

    run(main)


def test_a_member_that_is_too_slow_misses_the_oldest(settings, caplog):
    settings.FASTWS = {"SLOW_CONSUMER_QUEUE": 3, "SLOW_CONSUMER": "drop_oldest"}
    app = member_app("g")

    async def main() -> None:
        dam = Dam()
        async with opened(app, dam) as slow, opened(app) as fast:
            dam.open.clear()
            for number in range(10):
                await Group("g").asend(str(number))
            for _ in range(10):
                await fast.text()
            dam.open.set()
            assert [await slow.text() for _ in range(4)] == ["0", "7", "8", "9"]

    run(main)
    assert counters["dropped"] == 6
    assert levels(caplog) == ["WARNING"]


def test_a_client_that_disconnects_while_its_messages_are_queued(layer):
    async def main() -> None:
        dam = Dam()
        async with opened(member_app("g"), dam) as slow, opened(member_app("g")) as fast:
            dam.open.clear()
            for number in range(3):
                await Group("g").asend(str(number))
            assert [await fast.text() for _ in range(3)] == ["0", "1", "2"]
            await slow.leave()
            dam.open.set()
            await Group("g").asend("on")
            assert await fast.text() == "on"
            assert slow.take() == []

    run(main)
    assert not groups(layer)


@pytest.mark.parametrize("runs_user_code", [False, True])
def test_a_stage_needs_a_task_only_if_it_runs_user_code(runs_user_code):
    class Forwarding(Stage):
        place = Place.LOGIN

        async def send(self, message: Any) -> None:
            await self._send(message)

    Forwarding.runs_user_code = runs_user_code
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        pipe_of(websocket).insert(Forwarding())
        await websocket.accept()
        await websocket.join("g")
        await websocket.send_text("joined")
        await websocket.receive()

    counts: list[int] = []

    async def count(message: Any) -> None:
        if message.get("text") == "hi":
            counts.append(len(asyncio.all_tasks()))

    async def main() -> None:
        async with opened(app, count) as socket:
            before = len(asyncio.all_tasks())
            await Group("g").asend("hi")
            assert await socket.text() == "hi"
            assert counts == [before + runs_user_code]

    run(main)


# ---- Disconnecting a group --------------------------------------------------------------------------


def test_a_group_is_disconnected():
    client = TestClient(member_app("g"))
    with client.websocket_connect("/ws") as one, client.websocket_connect("/ws") as two:
        assert [one.receive_text(), two.receive_text()] == ["joined", "joined"]
        Group("g").send("bye")
        Group("g").disconnect(4401, "logged out")
        for socket in (one, two):
            assert socket.receive_text() == "bye"
            with pytest.raises(WebSocketDisconnect) as end:
                socket.receive_text()
            assert (end.value.code, end.value.reason) == (4401, "logged out")


def test_a_member_is_excluded_from_a_disconnect():
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.join("g")
        await websocket.send_text("joined")
        async for _ in websocket.iter_text():
            await Group("g").adisconnect(4000, exclude=websocket)

    client = TestClient(app)
    with client.websocket_connect("/ws") as one, client.websocket_connect("/ws") as two:
        assert [one.receive_text(), two.receive_text()] == ["joined", "joined"]
        one.send_text("only me")
        assert two.receive() == {"type": "websocket.close", "code": 4000, "reason": ""}
        Group("g").send("still here")
        assert one.receive_text() == "still here"


def test_an_endpoint_that_sends_after_a_disconnect_sees_its_code():
    app = FastAPI()
    raised: list[WebSocketDisconnect] = []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.join("g")
        async with Group("other").subscribe() as messages:
            await websocket.send_text("joined")
            await anext(messages)
        try:
            await websocket.send_text("too late")
        except WebSocketDisconnect as exc:
            raised.append(exc)

    with TestClient(app).websocket_connect("/ws") as socket:
        assert socket.receive_text() == "joined"
        Group("g").disconnect(4001, "enough")
        assert socket.receive()["code"] == 4001
        Group("other").send("go on")
    assert [(exc.code, exc.reason) for exc in raised] == [(4001, "enough")]


def test_a_slow_member_is_disconnected_too(monkeypatch):
    monkeypatch.setattr("fastws_compat.groups.member.CLOSE_TIMEOUT", 0.05)

    async def main() -> None:
        dam = Dam()
        async with opened(member_app("g"), dam) as slow:
            dam.open.clear()
            for number in range(5):
                await Group("g").asend(str(number))
            await Group("g").adisconnect(4401)
            assert await slow.frame() == {"type": "websocket.close", "code": 4401, "reason": ""}

    run(main)


def test_a_connection_waits_for_the_close_that_its_group_started():
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.join("g")
        await websocket.send_text("joined")
        async with Group("other").subscribe() as messages:
            await anext(messages)

    async def slow(message: Any) -> None:
        if message["type"] == "websocket.close":
            await asyncio.sleep(0.05)

    async def main() -> None:
        socket = connected(app, on_send=slow)
        await socket.frame()
        assert await socket.text() == "joined"
        await Group("g").adisconnect(4000)
        await Group("other").asend("end")
        await socket.task
        assert socket.closes == [4000]

    run(main)


def test_a_disconnect_before_accept_refuses_the_handshake():
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.join("g")
        async with Group("g").subscribe() as messages:
            await Group("g").adisconnect(4401)
            await Group("g").asend("after")
            await anext(messages)
        await websocket.accept()

    with pytest.raises(WebSocketDisconnect) as end, TestClient(app).websocket_connect("/ws"):
        pass
    assert end.value.code == 4401


# ---- Subscribers ------------------------------------------------------------------------------------


def test_a_subscription_yields_the_messages_as_they_were_sent():
    async def main() -> None:
        async with Group("g").subscribe() as messages:
            for message in ({"a": 1}, [1], "text", b"bytes", Reading(celsius=1, at=date(2026, 1, 2))):
                await Group("g").asend(message)
            await Group("g").adisconnect()
            assert [await anext(messages) for _ in range(5)] == [
                {"a": 1},
                [1],
                "text",
                b"bytes",
                {"celsius": 1.0, "at": "2026-01-02"},
            ]

    run(main)


def test_a_subscription_ends_with_its_block(layer):
    async def main() -> None:
        async with Group("g").subscribe():
            assert list(groups(layer)) == ["g"]
        assert not groups(layer)

    run(main)


def test_a_subscriber_that_is_too_slow_misses_the_oldest(settings, caplog):
    settings.FASTWS = {"SLOW_CONSUMER_QUEUE": 2}

    async def main() -> None:
        async with Group("g").subscribe() as slow, Group("g").subscribe() as fast:
            for number in range(5):
                await Group("g").asend([number])
                assert await anext(fast) == [number]
            assert [await anext(slow), await anext(slow)] == [[3], [4]]

    run(main)
    assert counters["dropped"] == 3
    assert levels(caplog) == ["WARNING"]


def test_sent_messages_can_be_recorded():
    with record() as sent:
        Group("a").send({"n": 1})
        Group("b").send("two")
    Group("a").send("not recorded")
    assert [(item.group.name, item.message, item.payload.data) for item in sent] == [
        ("a", {"n": 1}, '{"n":1}'),
        ("b", "two", "two"),
    ]


# ---- All ways to send -------------------------------------------------------------------------------


def test_send_in_async_code_names_asend():
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"use `await group\.asend\(\.\.\.\)`"):
            Group("g").send("hi")
        with pytest.raises(RuntimeError, match=r"send_on_commit\(\) .* use `await group\.asend\(\.\.\.\)`"):
            Group("g").send_on_commit("hi")
        with pytest.raises(RuntimeError, match=r"use `await group\.adisconnect\(\.\.\.\)`"):
            Group("g").disconnect()

    run(main)


def test_sending_to_a_group_without_members():
    with record() as sent:
        Group("nobody").send("hi")
    assert [(item.group.name, item.message) for item in sent] == [("nobody", "hi")]
    assert (counters["sent"], counters["failed"]) == (1, 0)


def test_a_separate_thread_sends():
    async def main() -> None:
        async with opened(member_app("g")) as socket:
            thread = threading.Thread(target=Group("g").send, args=("from a thread",))
            thread.start()
            assert await socket.text() == "from a thread"
            await asyncio.to_thread(thread.join)

    run(main)


def test_a_sync_dependency_sends():
    from fastws_compat import Depends

    app = FastAPI()

    def announce() -> None:
        Group("g").send("somebody comes")

    @app.websocket("/ws", dependencies=[Depends(announce)])
    async def endpoint(websocket: WebSocket):
        await websocket.accept()

    async def main() -> None:
        async with opened(member_app("g")) as socket:
            other = connected(app)
            assert await socket.text() == "somebody comes"
            await other.task

    run(main)


def test_a_management_command_sends():
    class Command(BaseCommand):
        def handle(self, *args: Any, **options: Any) -> None:
            Group("g").send("from a command")

    with TestClient(member_app("g")).websocket_connect("/ws") as socket:
        assert socket.receive_text() == "joined"
        call_command(Command())
        assert socket.receive_text() == "from a command"


@pytest.mark.django_db(transaction=True)
def test_send_on_commit_sends_after_the_transaction():
    with record() as sent:
        with transaction.atomic():
            message = {"n": 1}
            Group("g").send_on_commit(message)
            assert sent == []
        assert [item.message for item in sent] == [{"n": 1}]


@pytest.mark.django_db(transaction=True)
def test_send_on_commit_without_a_transaction_sends_now():
    with record() as sent:
        Group("g").send_on_commit("now")
        assert [item.message for item in sent] == ["now"]


@pytest.mark.django_db(transaction=True)
def test_send_on_commit_sends_nothing_after_a_rollback():
    with record() as sent:
        with pytest.raises(ZeroDivisionError), transaction.atomic():
            Group("g").send_on_commit("never")
            raise ZeroDivisionError
    assert sent == []
    assert not connection.in_atomic_block


@pytest.mark.django_db
def test_send_on_commit_waits_for_its_own_database(django_capture_on_commit_callbacks):
    with django_capture_on_commit_callbacks(using="default") as waiting:
        Group("g").send_on_commit("hi", using="default")
    assert len(waiting) == 1


def test_send_on_commit_uses_the_given_database(monkeypatch):
    hooks: list[Any] = []
    monkeypatch.setattr(transaction, "on_commit", lambda func, **options: hooks.append((func, options)))
    Group("g").send_on_commit("hi", using="reports")
    [(hook, options)] = hooks
    assert options == {"using": "reports", "robust": True}
    with record() as sent:
        hook()
    assert [item.message for item in sent] == ["hi"]


def test_send_on_commit_names_an_unknown_database():
    with pytest.raises(Exception, match="other"):
        Group("g").send_on_commit("hi", using="other")


@pytest.mark.django_db(transaction=True)
def test_send_on_commit_logs_a_failure_of_the_layer(watched, caplog):
    watched.fails = True
    with transaction.atomic():
        Group("g").send_on_commit("hi")
    assert "A message to Group('g') could not be sent after the commit" in caplog.text


@pytest.mark.django_db(transaction=True)
def test_send_on_commit_rejects_an_unsendable_message_at_once():
    with pytest.raises(TypeError, match="A group message must be"):
        Group("g").send_on_commit(7)


def test_the_connection_manager_of_fastapis_documentation():
    app, manager = FastAPI(), ConnectionManager()

    @app.websocket("/ws/{client_id}")
    async def endpoint(websocket: WebSocket, client_id: int):
        await manager.connect(websocket)
        try:
            while True:
                data = await websocket.receive_text()
                await manager.send_personal_message(f"You wrote: {data}", websocket)
                await manager.broadcast(f"Client #{client_id} says: {data}")
        except WebSocketDisconnect:
            manager.disconnect(websocket)
            await manager.broadcast(f"Client #{client_id} left the chat")

    client = TestClient(app)
    with client.websocket_connect("/ws/1") as one:
        with client.websocket_connect("/ws/2") as two:
            two.send_text("hi")
            assert [two.receive_text(), two.receive_text()] == ["You wrote: hi", "Client #2 says: hi"]
            assert one.receive_text() == "Client #2 says: hi"
            assert len(manager.active_connections) == 2
        assert one.receive_text() == "Client #2 left the chat"
    assert manager.active_connections == []


# ---- Beside plain Channels --------------------------------------------------------------------------


class Native(AsyncJsonWebsocketConsumer):
    """An ordinary consumer."""

    async def connect(self) -> None:
        await self.channel_layer.group_add("chat.1", self.channel_name)
        await self.accept()

    async def receive_json(self, content: Any, **kwargs: Any) -> None:
        await self.channel_layer.group_send("chat.1", {"type": "chat.message", "text": content["text"]})

    async def chat_message(self, event: Any) -> None:
        await self.send_json({"native": event["text"]})

    async def fastws_message(self, event: Any) -> None:
        content = event["fastws"]
        if "close" in content:
            await self.close(content["close"][0])
        else:
            await self.send(content["json"])

    async def disconnect(self, code: int) -> None:
        await self.channel_layer.group_discard("chat.1", self.channel_name)


def native_app() -> Any:
    app = Native.as_asgi()

    async def with_type(scope: Any, receive: Any, send: Any) -> None:
        await app(scope, receive, send)

    return with_type


needs_channels = pytest.mark.parametrize("layer", ["in-memory layer"], indirect=True)


@needs_channels
def test_a_native_consumer_receives_its_own_type():
    with TestClient(native_app()).websocket_connect("/ws") as native:
        with TestClient(member_app("chat.1")).websocket_connect("/ws") as ours:
            assert ours.receive_text() == "joined"
            Group("chat.1", type="chat.message").send({"text": "hi", "type": "shout"})
            assert native.receive_json() == {"native": "hi"}
            assert ours.receive_json() == {"text": "hi", "type": "shout"}


@needs_channels
def test_a_native_consumer_reads_the_wire_format_and_is_disconnected_with_the_group():
    with TestClient(native_app()).websocket_connect("/ws") as native:
        Group("chat.1").send({"n": 1})
        assert native.receive_json() == {"n": 1}
        Group("chat.1").disconnect(4001)
        assert native.receive()["code"] == 4001


@needs_channels
def test_a_message_from_a_native_consumer_reaches_sockets_through_a_handler(registered):
    @on("chat.message", groups="chat.*")
    def translate(message: dict[str, Any]) -> Any:
        return {"ours": message["text"]} if message["text"] else None

    with TestClient(native_app()).websocket_connect("/ws") as native:
        with TestClient(member_app("chat.1", "chat.2", "other")).websocket_connect("/ws") as ours:
            assert ours.receive_text() == "joined"
            native.send_json({"text": ""})
            native.send_json({"text": "hello"})
            assert ours.receive_json() == {"ours": "hello"}
            Group("other").send("ours go on")
            Group("chat.1").send({"n": 1})
            assert {ours.receive_text(), ours.receive_text()} == {"ours go on", '{"n":1}'}


@needs_channels
def test_an_async_handler(registered):
    @on("chat.message")
    async def translate(message: dict[str, Any]) -> Any:
        await asyncio.sleep(0)
        return message["text"]

    with TestClient(member_app("g")).websocket_connect("/ws") as ours:
        assert ours.receive_text() == "joined"
        send_raw("g", {"type": "chat.message", "text": "hello"})
        assert ours.receive_text() == "hello"


def send_raw(group: str, message: dict[str, Any]) -> None:
    from asgiref.sync import async_to_sync

    async_to_sync(layers.layer_of("default").group_send)(group, message)


@pytest.mark.parametrize(
    "message",
    [
        {"type": "unknown"},
        {"type": "websocket.disconnect", "code": 1000},
        {"type": "websocket.close"},
        {"type": "close"},
        {"type": "fastws.message"},
        {},
        {"type": ["a", "list"]},
        {"type": "fastws.message", "fastws": None},
        {"type": "fastws.message", "fastws": "text"},
        {"type": "fastws.message", "fastws": {"group": "g"}},
        {"type": "fastws.message", "fastws": {"group": "g", "text": 7}},
        {"type": "fastws.message", "fastws": {"group": ["g"], "text": "x"}},
        {"type": "fastws.message", "fastws": {"group": "g", "close": "x"}},
        {"type": "fastws.message", "fastws": {"group": "g", "text": "x", "from": [], "number": "x"}},
        {"type": "fastws.message", "fastws": {"group": "g", "bytes": "x"}},
    ],
)
def test_an_unknown_message_is_logged_once_and_does_not_stop_the_reader(message, caplog):
    with TestClient(member_app("g")).websocket_connect("/ws") as socket:
        assert socket.receive_text() == "joined"
        send_raw("g", message)
        send_raw("g", message)
        Group("g").send("hi")
        assert socket.receive_text() == "hi"
    assert levels(caplog) == ["WARNING"]


def test_an_error_of_a_handler_is_logged_and_does_not_stop_the_reader(registered, caplog):
    @on("boom")
    def fail(message: dict[str, Any]) -> Any:
        raise ValueError("oops")

    with TestClient(member_app("g")).websocket_connect("/ws") as socket:
        assert socket.receive_text() == "joined"
        send_raw("g", {"type": "boom"})
        Group("g").send("hi")
        assert socket.receive_text() == "hi"
    assert levels(caplog) == ["ERROR"]


# ---- Lost messages ----------------------------------------------------------------------------------


def envelope(number: int, sender: str = "s") -> Envelope:
    return Envelope("g", Payload("text", ""), None, sender, number)


def test_lost_messages_are_counted_and_logged_once(monkeypatch, caplog):
    monkeypatch.setattr("fastws_compat.layers.sequence.ARRIVAL_TIMEOUT", 0.01)

    async def main() -> None:
        detector = LossDetector()
        for number in (4, 5, 8, 9, 7):  # 6 never comes, 7 is late
            detector.record(envelope(number))
        await until(lambda: counters["lost"])

    run(main)
    assert counters["lost"] == 1
    assert levels(caplog) == ["WARNING"]


def test_reordered_messages_are_not_lost(monkeypatch, caplog):
    monkeypatch.setattr("fastws_compat.layers.sequence.ARRIVAL_TIMEOUT", 0.01)

    async def main() -> None:
        detector = LossDetector()
        for number in (0, 2, 1, 3):
            detector.record(envelope(number))
        detector.record(envelope(100, "another sender"))
        await asyncio.sleep(0.03)

    run(main)
    assert counters["lost"] == 0
    assert levels(caplog) == []


def test_more_senders_than_are_remembered(monkeypatch):
    monkeypatch.setattr("fastws_compat.layers.sequence.MAX_SENDERS", 2)
    detector = LossDetector()
    for number, sender in enumerate("abcdef"):
        detector.record(envelope(number, sender))
    detector.record(Envelope("g", Payload("text", ""), None, None, 0))
    assert len(detector.expected["g"]) <= 3


def test_a_forked_process_is_another_sender(monkeypatch):
    numbering = Numbering()
    first, second = numbering.next("default", "g"), numbering.next("default", "g")
    assert (first["from"], first["number"] + 1) == (second["from"], second["number"])
    monkeypatch.setattr("os.getpid", lambda: -1)
    other = numbering.next("default", "g")
    assert other["from"] != first["from"]
    assert other["number"] == 0


def test_a_group_of_the_same_name_on_another_layer_has_numbers_of_its_own():
    """A hub receives only the messages of its own layer. Otherwise it would report losses."""
    numbering = Numbering()
    numbers = [numbering.next(layer, "g")["number"] for layer in ("default", "other", "default", "other")]
    assert numbers == [0, 0, 1, 1]


def test_a_message_from_plain_channels_code_has_no_envelope():
    assert unpack({"type": "chat.message", "text": "hi"}) is None
