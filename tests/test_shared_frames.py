"""A group message is encoded as one frame for all its members, if the server accepts frames."""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from fastws_compat import FastAPI, WebSocket
from fastws_compat.connections.outlet import Outlet
from fastws_compat.connections.states import MEMBER
from fastws_compat.daphne import deflate, frames
from fastws_compat.daphne.deflate import independent_frames
from fastws_compat.groups import Group, delivery
from fastws_compat.groups.delivery import Frame, RecentFrames
from fastws_compat.groups.entries import OVERHEAD
from tests.fake_server import CONNECT, FakeServer, until, websocket_scope


class Server(FakeServer):
    """A server that accepts frames like the completed daphne."""

    made: int
    shares_frames = True

    def __init__(self, *, takes: bool = True) -> None:
        super().__init__(CONNECT)
        self.takes = takes
        # Whether the client does not read, until `drained` is set.
        self.is_full = False
        self.drained = asyncio.Event()
        self.written: list[bytes] = []
        self.arrived = asyncio.Event()

    async def send(self, message: dict[str, Any]) -> None:
        await super().send(message)
        if message["type"] == "websocket.send":
            self.arrived.set()

    def write_at_once(self, frame: bytes, size: int) -> bool:
        if self.takes:
            self.written.append(frame)
            self.arrived.set()
        return self.takes

    def lend(self, outlet: Outlet) -> None:
        """Write every frame itself."""

    async def write_in_turn(self, frame: bytes, size: int) -> None:
        if self.is_full:
            await self.drained.wait()
        self.written.append(frame)
        self.arrived.set()

    @staticmethod
    def frame_of(message: dict[str, Any]) -> bytes:
        Server.made += 1
        return frames.build(frames.TEXT, message["text"].encode())


class CompressingServer(Server):
    """The same for a socket that has negotiated compression."""

    frame_of = staticmethod(independent_frames(12, 6, 0))


class ContextServer(Server):
    """A server whose frames belong to one socket."""

    shares_frames = False


def app_with(**limits: Any) -> FastAPI:
    app = FastAPI()

    @app.websocket("/", **limits)
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.join(Group("shared"))
        await websocket.send_text("ready")
        await websocket.receive()

    return app


async def member(app: FastAPI, server: Server, scope: dict[str, Any] | None = None) -> asyncio.Task[None]:
    """The task of a connection whose socket has joined the group."""
    scope = {} if scope is None else scope
    scope.update({"type": "websocket", "path": "/", "headers": [], "query_string": b""})
    task = server.start(app, scope)
    await asyncio.wait_for(server.arrived.wait(), 5)
    server.sent.clear()
    server.arrived.clear()
    return task


async def leave(servers: list[Server], tasks: list[asyncio.Task[None]]) -> None:
    for server in servers:
        server.hang_up(1000)
    await asyncio.wait_for(asyncio.gather(*tasks), 5)


@pytest.fixture(autouse=True)
def _none_made() -> None:
    Server.made = 0


@pytest.fixture(params=["off", "instrumented"])
def _instrumented(request: pytest.FixtureRequest) -> Iterator[None]:
    """Everything off, and then OpenTelemetry and Sentry on: neither may hide the server's method."""
    if request.param == "off":
        yield
        return
    sdk = pytest.importorskip("opentelemetry.sdk.trace")
    pytest.importorskip("sentry_sdk")
    from fastws_compat.contrib.opentelemetry import FastWSInstrumentor
    from tests.test_sentry import client

    instrumentor = FastWSInstrumentor()
    instrumentor.instrument(tracer_provider=sdk.TracerProvider())
    try:
        with client(True):
            yield
    finally:
        instrumentor.uninstrument()


@pytest.mark.usefixtures("_instrumented")
def test_members_share_one_frame():
    async def run() -> None:
        app, servers = app_with(), [Server() for _ in range(3)]
        tasks = [await member(app, server) for server in servers]
        await Group("shared").asend({"n": 1})
        await asyncio.gather(*(asyncio.wait_for(server.arrived.wait(), 5) for server in servers))
        assert Server.made == 1
        assert [server.written for server in servers] == [[b'\x81\x07{"n":1}']] * 3
        assert len({id(server.written[0]) for server in servers}) == 1
        assert [server.sent for server in servers] == [[], [], []]
        await leave(servers, tasks)

    asyncio.run(run())


def test_members_that_have_negotiated_the_same_compression_share_one_frame(monkeypatch):
    deflated = []
    monkeypatch.setattr(deflate, "new_deflater", lambda *a: deflated.append(a) or zlib.compressobj(wbits=-12))

    async def run() -> None:
        kinds = [Server, CompressingServer, CompressingServer, Server, ContextServer]
        app, servers = app_with(), [kind() for kind in kinds]
        tasks = [await member(app, server) for server in servers]
        await Group("shared").asend("a" * 99)
        await asyncio.gather(*(asyncio.wait_for(server.arrived.wait(), 5) for server in servers))
        [plain], [compressed], again, plain_again, none = (server.written for server in servers)
        assert (Server.made, deflated) == (1, [(12, 6)])
        assert plain == b"\x81\x63" + b"a" * 99
        assert (compressed[0], len(compressed)) == (0xC1, 2 + compressed[1])
        assert zlib.decompress(compressed[2:] + deflate.TAIL + deflate.FINAL_BLOCK, -12) == b"a" * 99
        assert again[0] is compressed
        assert plain_again[0] is plain
        assert (none, servers[-1].sent) == ([], [{"type": "websocket.send", "text": "a" * 99}])
        await leave(servers, tasks)

    asyncio.run(run())


def test_members_that_have_to_wait_share_the_frames_too():
    """One in this step, one until its client reads; the frames are made once even so."""

    async def run() -> None:
        app, servers = app_with(), [Server(), Server(takes=False), Server(takes=False)]
        tasks = [await member(app, server) for server in servers]
        servers[2].is_full = True
        for text in "abc":
            await Group("shared").asend(text)
        await until(lambda: [len(server.written) for server in servers] == [3, 3, 0])
        servers[2].drained.set()
        await until(lambda: len(servers[2].written) == 3)
        assert Server.made == 3
        assert [server.written for server in servers] == [[b"\x81\x01a", b"\x81\x01b", b"\x81\x01c"]] * 3
        assert all(a is b for a, b in zip(servers[0].written, servers[2].written, strict=True))
        assert [server.sent for server in servers] == [[]] * 3
        await leave(servers, tasks)

    asyncio.run(run())


def test_only_the_latest_frames_are_kept_for_those_who_follow(monkeypatch):
    monkeypatch.setattr(delivery, "MAX_RECENT_BYTES", 2 * (OVERHEAD + 100))
    recent, made = RecentFrames(), []

    def get(key: str, size: int = 100) -> Frame:
        def make() -> Frame:
            made.append(key)
            return Frame({"type": "websocket.send", "text": "x" * size})

        return recent.get(key, make)

    assert get("a") is get("a")
    for key in "babcba":
        get(key)
    assert made == ["a", "b", "c", "a"]
    assert get("large", 1_000).size == 1_000
    get("large", 1_000)
    assert made[4:] == ["large", "large"]
    assert (len(recent._frames), recent._size) == (0, 0)


def is_of_group(frame: bytes) -> bool:
    """Whether a frame says the same to all members of the group."""
    return not any(kind in frame for kind in (b'"hello"', b'"joined"', b'"beat"'))


@pytest.mark.parametrize("query", [b"", b"fastws="])
def test_members_that_catch_up_share_the_frames_of_what_they_missed(settings, query):
    """Each is told its own position; the history and the values are the same for all of them."""
    settings.FASTWS = {"GROUPS": {"shared": {"history": True, "state": True}}}
    app, room, joined = FastAPI(), Group("shared"), []

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        joined.append(await websocket.join(room, last=3))
        await websocket.receive()

    async def run() -> None:
        for text in "abc":
            await room.asend(text)
        await room.aset("light", "green")
        servers = [Server() for _ in range(3)]
        scopes = [websocket_scope("/", query_string=query) for _ in servers]
        tasks = [server.start(app, scope) for server, scope in zip(servers, scopes, strict=True)]
        await until(lambda: len(joined) == 3)
        await room.asend("last")
        await until(lambda: all(b"last" in b"".join(server.written) for server in servers))
        first, *others = [[each for each in server.written if is_of_group(each)] for server in servers]
        # b, c and the last one; for clients of `live.js` the change and the values too.
        assert len(first) == (5 if query else 3)
        for other in others:
            assert all(a is b for a, b in zip(first, other, strict=True))
        await leave(servers, tasks)

    asyncio.run(run())


def test_a_message_without_a_frame_is_one_that_cannot_be_sent(caplog, monkeypatch):
    async def run() -> None:
        app, server = app_with(), Server(takes=False)
        scope: dict[str, Any] = {}
        task = await member(app, server, scope)
        monkeypatch.setattr(Server, "frame_of", staticmethod(lambda message: 1 // 0))
        await scope[MEMBER].send(Frame({"type": "websocket.send", "text": "a"}))
        assert server.written == []
        await leave([server], [task])

    asyncio.run(run())
    assert "A group message could not be sent to a member" in caplog.text


def test_a_limit_that_counts_messages_sees_them():
    async def run() -> None:
        app, server = app_with(idle_timeout=60), Server()
        task = await member(app, server)
        await Group("shared").asend("a")
        await asyncio.wait_for(server.arrived.wait(), 5)
        assert (server.written, server.sent) == ([], [{"type": "websocket.send", "text": "a"}])
        await leave([server], [task])

    asyncio.run(run())


def test_the_user_s_middleware_sees_them():
    async def run() -> None:
        seen: list[str] = []

        class Middleware:
            def __init__(self, app: Any) -> None:
                self.app = app

            async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
                async def watched(message: Any) -> None:
                    seen.append(message.get("text", message["type"]))
                    await send(message)

                await self.app(scope, receive, watched)

        app, server = app_with(), Server()
        app.add_middleware(Middleware)
        task = await member(app, server)
        await Group("shared").asend("a")
        await asyncio.wait_for(server.arrived.wait(), 5)
        assert (server.written, seen) == ([], ["websocket.accept", "ready", "a"])
        await leave([server], [task])

    asyncio.run(run())


@pytest.mark.parametrize("ended", [False, True])
def test_a_login_lets_frames_pass_until_it_ends(ended):
    from fastws_compat.logins.gate import Login

    async def run() -> None:
        app, server, last = app_with(), Server(), Server()
        scope: dict[str, Any] = {}
        tasks = [await member(app, server, scope), await member(app, last)]
        websocket = scope[MEMBER].websocket
        login = Login(websocket, scope["fastws_compat.session"], "1")
        if ended:
            login.ended = (4401, "")
        await Group("shared").asend("a")
        await asyncio.wait_for(last.arrived.wait(), 5)  # the last one to join
        assert last.written == [b"\x81\x01a"]
        assert (server.written, server.sent) == ([] if ended else [b"\x81\x01a"], [])
        await leave([server, last], tasks)

    asyncio.run(run())
