"""Speed, checked by measures that do not depend on the machine, and the correctness of fast paths.

Times are ratios to a bare ASGI function in the same process, each the best of many rounds. Another round is
measured while a ratio exceeds its limit, which is about twice the ratio on an idle machine.
For real measurements, see `benchmarks/`.
"""

import asyncio
import gc
import json
import subprocess
import sys
import time
import tracemalloc
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws_compat import (
    APIRouter,
    Cookie,
    Depends,
    FastAPI,
    Header,
    HTTPException,
    WebSocket,
    WebSocketDisconnect,
)
from fastws_compat.connections import census
from fastws_compat.groups import Group
from fastws_compat.groups import group as group_module
from fastws_compat.groups.hub import Hub, hub_of
from fastws_compat.layers.client import layer_of
from fastws_compat.layers.wire import Envelope, Payload, encode, pack
from fastws_compat.routing import BaseRoute, Host, Match, Mount, Router, WebSocketRoute, flatten
from tests.live_clients import connected, eventually

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 200
CONNECT = {"type": "websocket.connect"}
MESSAGE = {"type": "websocket.receive", "text": "x" * 32}
DISCONNECT = {"type": "websocket.disconnect", "code": 1000}


def scope(path: str, query: bytes = b"") -> dict[str, Any]:
    return {
        "type": "websocket",
        "path": path,
        "root_path": "",
        "query_string": query,
        "headers": [(b"host", b"testserver"), (b"x-token", b"secret"), (b"cookie", b"session=1; other=2")],
        "subprotocols": [],
        "client": ("127.0.0.1", 50000),
        "server": ("testserver", 80),
    }


async def swallow(message: Any) -> None:
    pass


async def bare(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    while (message := await receive())["type"] == "websocket.receive":
        await send({"type": "websocket.send", "text": message["text"]})
    await send({"type": "websocket.close", "code": 1000})


async def converse(
    app: Any, path: str, messages: int, query: bytes = b"", message: dict[str, Any] = MESSAGE
) -> None:
    """One connection that echoes this many messages."""
    left = iter((CONNECT, *[message] * messages, DISCONNECT))

    async def receive() -> Any:
        return next(left)

    await app(scope(path, query), receive, swallow)


@contextmanager
def untraced() -> Iterator[None]:
    """Disable the trace function of coverage, which slows down the package but not the bare function."""
    tracer = sys.gettrace()
    sys.settrace(None)
    try:
        yield
    finally:
        sys.settrace(tracer)


def ratio(bar: float, measured: Callable[[], Awaitable[None]], base: Callable[[], Awaitable[None]]) -> float:
    """The ratio of the times of `measured` and `base`: the best of each, measured in turn."""

    async def best() -> float:
        times = [float("inf"), float("inf")]
        for _ in range(ROUNDS):
            for index, work in enumerate((measured, base)):
                start = time.perf_counter()
                await work()
                times[index] = min(times[index], time.perf_counter() - start)
            if times[0] < bar * times[1]:
                break
        return times[0] / times[1]

    with untraced():
        return asyncio.run(best())


def calls(work: Callable[[], Awaitable[None]]) -> int:
    """How many Python functions run during `work`."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> None:
        nonlocal count
        count += event == "call"

    async def counted() -> None:
        sys.setprofile(note)
        try:
            await work()
        finally:
            sys.setprofile(None)

    with untraced():
        asyncio.run(counted())
    return count


def test_counting_adds_few_calls_to_a_connection_and_none_to_a_message() -> None:
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        async for text in websocket.iter_text():
            await websocket.send_text(text)

    def of(messages: int) -> int:
        # The fewest: garbage collection after earlier tests, or a sweep on a busy machine, makes calls too.
        return min(calls(lambda: converse(app, "/", messages)) for _ in range(15))

    of(1)  # creates what is created once
    off = of(1), of(50)
    census.start()
    try:
        of(1)
        on = of(1), of(50)
    finally:
        census.stop()
    assert on[1] - on[0] == off[1] - off[0]
    assert on[0] - off[0] <= 13


def bytecodes(work: Callable[[], Awaitable[None]]) -> int:
    """How many instructions of Python functions run during `work`."""
    count = 0

    def note(frame: Any, event: str, argument: Any) -> Any:
        nonlocal count
        count += event == "opcode"
        frame.f_trace_lines, frame.f_trace_opcodes = False, True
        return note

    async def counted() -> None:
        sys.settrace(note)
        try:
            await work()
        finally:
            sys.settrace(None)

    with untraced():
        asyncio.run(counted())
    return count


class WithoutKinds(Group):  # type: ignore[type-arg]
    """A group as it was before groups could keep anything."""

    __slots__ = ()

    async def _send_encoded(
        self, message: Any, payload: Payload, exclude: Any = None, key: str | None = None
    ) -> bool:
        await self._asend(pack(self.name, payload, self.type, self._extra(exclude)))
        for observer in group_module.observers:
            observer(group_module.Sent(self, message, payload))
        return True


class HubWithoutFeeds(Hub):
    """A hub as it was before groups could keep anything."""

    async def _take(self, envelope: Envelope) -> None:
        self._loss_detector.record(envelope)
        await self._deliver(envelope)


class Counted:
    """A member that takes what it gets."""

    socket = None

    def __init__(self, number: int) -> None:
        self.id = str(number)

    def deliver(self, delivery: Any) -> None: ...

    def tell(self, frame: Any) -> None: ...

    def close(self, close: Any) -> None: ...


@pytest.fixture
def kinds(settings: Any) -> None:
    """Kinds, none of which fits the group `plain`."""
    settings.CHANNEL_LAYERS = {}
    settings.FASTWS = {"GROUPS": {f"room{number}.*": {"history": True} for number in range(20)}}


def test_a_group_without_a_kind_pays_one_look_up_for_a_send(kinds: None) -> None:
    def of(group: Group[Any], count: Callable[..., int]) -> int:
        async def work() -> None:
            for _ in range(100):
                await group.asend({"a": 1})

        return min(count(work) for _ in range(3))

    with_kinds, without = Group("plain"), WithoutKinds("plain")
    of(with_kinds, calls)  # creates what is created once
    assert of(with_kinds, calls) - of(without, calls) == 100
    assert of(with_kinds, bytecodes) - of(without, bytecodes) <= 100 * 30


def test_a_group_without_a_kind_pays_nothing_for_a_delivery(kinds: None) -> None:
    message = pack("plain", encode({"a": 1}), None, {})

    def of(hub_class: type[Hub], members: int, count: Callable[..., int]) -> int:
        hub = hub_class("default", layer_of("default"))
        hub.members["plain"] = {member.id: member for member in map(Counted, range(members))}

        async def work() -> None:
            for _ in range(100):
                await hub._dispatch(message, None)

        return min(count(work) for _ in range(3))

    for members in (1, 50):
        assert of(Hub, members, calls) == of(HubWithoutFeeds, members, calls)
        assert of(Hub, members, bytecodes) - of(HubWithoutFeeds, members, bytecodes) <= 100 * 10


def test_a_delivery_to_one_more_member_is_a_handful_of_calls(kinds: None) -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.join("plain")
        async for _ in websocket.iter_text():
            pass

    app = FastAPI()
    app.websocket("/ws")(endpoint)

    def of(members: int) -> int:
        found: list[int] = []

        async def main() -> None:
            sockets = [connected(app) for _ in range(members)]
            hub = hub_of("default")
            await eventually(lambda: len(hub.members.get("plain", ())) == members)
            message = pack("plain", encode({"a": 1}), None, {})
            count = 0

            def note(frame: Any, event: str, argument: Any) -> None:
                nonlocal count
                count += event == "call"

            sys.setprofile(note)
            try:
                await hub._dispatch(message, None)
            finally:
                sys.setprofile(None)
            found.append(count)
            for socket in sockets:
                assert socket.sent[-1]["text"] == '{"a":1}'
                await socket.leave()

        with untraced():
            asyncio.run(main())
        return found[0]

    assert of(30) - of(20) <= 10 * 8


def test_a_message_costs_little_more_than_in_a_bare_function() -> None:
    app = FastAPI()

    @app.websocket("/")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(await websocket.receive_text())
        except WebSocketDisconnect:
            pass

    assert ratio(5, lambda: converse(app, "/", 1000), lambda: converse(bare, "/", 1000)) < 5


def test_json_costs_less_than_the_json_module_in_a_bare_function() -> None:
    app = FastAPI()

    @app.websocket("/")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        async for value in websocket.iter_json():
            await websocket.send_json(value)

    async def bare(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        await send({"type": "websocket.accept"})
        while (message := await receive())["type"] == "websocket.receive":
            text = json.dumps(json.loads(message["text"]), separators=(",", ":"), ensure_ascii=False)
            await send({"type": "websocket.send", "text": text})

    message = {"type": "websocket.receive", "text": '{"to":"lobby","text":"Hello, world!","ids":[1,2,3]}'}
    assert (
        ratio(
            1.2,
            lambda: converse(app, "/", 300, message=message),
            lambda: converse(bare, "/", 300, message=message),
        )
        < 1.2
    )


def test_a_handshake_with_dependencies_is_a_few_dozen_bare_ones() -> None:
    app = FastAPI()

    async def page(page: int = 1) -> int:
        return page

    async def token(x_token: Annotated[str, Header()], page: Annotated[int, Depends(page)]) -> str:
        return x_token

    @app.websocket("/rooms/{room}")
    async def endpoint(
        websocket: WebSocket,
        room: int,
        session: Annotated[str, Cookie()],
        page: Annotated[int, Depends(page)],
        token: Annotated[str, Depends(token)],
    ) -> None:
        await websocket.accept()

    async def ours() -> None:
        for _ in range(20):
            await converse(app, "/rooms/7", 0, b"page=2")

    async def floor() -> None:
        for _ in range(20):
            await converse(bare, "/rooms/7", 0)

    assert ratio(60, ours, floor) < 60


def test_the_last_of_many_routes_is_found_as_fast_as_the_only_one() -> None:
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()

    few, many = FastAPI(), FastAPI()
    few.websocket("/r1999/{room}")(endpoint)
    for number in range(2000):
        many.websocket(f"/r{number}/{{room}}")(endpoint)

    async def first() -> None:
        await converse(few, "/r1999/lobby", 0)

    async def last() -> None:
        await converse(many, "/r1999/lobby", 0)

    assert ratio(2, last, first) < 2


@pytest.mark.parametrize("path", ["/quiet", "/left", "/refused", "/generator/7", "/copied/quiet"])
def test_a_connection_leaves_nothing_to_the_garbage_collector(path: str) -> None:
    app = FastAPI()
    sockets: list[weakref.ref[WebSocket[Any]]] = []

    async def resource() -> AsyncIterator[None]:
        yield

    @app.websocket("/quiet")
    async def quiet(websocket: WebSocket) -> None:
        sockets.append(weakref.ref(websocket))
        await websocket.accept()
        await websocket.receive_text()

    @app.websocket("/left")
    async def left(websocket: WebSocket) -> None:
        sockets.append(weakref.ref(websocket))
        await websocket.accept()
        while True:
            await websocket.receive_text()  # raises when the client has left

    @app.websocket("/refused")
    async def refused(websocket: WebSocket) -> None:
        sockets.append(weakref.ref(websocket))
        raise HTTPException(403)

    @app.websocket("/generator/{number}")
    async def generator(websocket: WebSocket, number: int, held: Annotated[None, Depends(resource)]) -> None:
        sockets.append(weakref.ref(websocket))
        await websocket.accept()

    async def copies(scope: Any, receive: Any, send: Any) -> None:
        await app.router({**scope, "path": scope["path"].removeprefix("/copied")}, receive, send)

    app.mount("/copied", copies)

    async def connect() -> list[bool]:
        await converse(app, path, 1)
        return [socket() is not None for socket in sockets]

    gc.disable()
    try:
        assert asyncio.run(connect()) == [False]
    finally:
        gc.enable()


def test_an_idle_socket_takes_a_few_kilobytes() -> None:
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.receive()

    async def waiting(app: Any) -> None:
        silence = asyncio.get_running_loop().create_future()
        connect = iter((CONNECT,))

        async def receive() -> Any:
            return next(connect, None) or await silence

        await app(scope("/"), receive, swallow)

    async def bytes_of(app: Any, count: int) -> float:
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        tasks = [asyncio.create_task(waiting(app)) for _ in range(count)]
        await asyncio.sleep(0)
        gc.collect()
        taken = tracemalloc.get_traced_memory()[0] - before
        assert not any(task.done() for task in tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return taken / count

    async def compare() -> float:
        await bytes_of(app, 5)  # warm up: creates everything that is created once
        floor = await bytes_of(bare, 200)
        return await bytes_of(app, 200) - floor

    tracemalloc.start()
    try:
        assert asyncio.run(compare()) < 4 * 1024
    finally:
        tracemalloc.stop()


# Prints the bytes of an idle socket in a process with the apps that are named.
IDLE = """
import asyncio, gc, sys, tracemalloc
import django
from django.conf import settings
settings.configure(SECRET_KEY="x", INSTALLED_APPS=sys.argv[1:])
django.setup()
from fastws_compat import FastAPI, WebSocket
from tests.test_performance import CONNECT, scope, swallow

app = FastAPI()

@app.websocket("/")
async def endpoint(websocket: WebSocket) -> None:
    await websocket.accept()
    await websocket.receive()

async def idle(silence):
    connect = iter((CONNECT,))
    async def receive():
        return next(connect, None) or await silence
    await app(scope("/"), receive, swallow)

async def main():
    silence = asyncio.get_running_loop().create_future()
    tasks, taken = [], []
    for count in (5, 300):
        gc.collect()
        before = tracemalloc.get_traced_memory()[0]
        tasks += [asyncio.create_task(idle(silence)) for _ in range(count)]
        await asyncio.sleep(0)
        gc.collect()
        taken.append((tracemalloc.get_traced_memory()[0] - before) / count)
    assert not any(task.done() for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    print(taken[-1])

tracemalloc.start()
asyncio.run(main())
"""
APPS = ("django.contrib.contenttypes", "django.contrib.auth", "fastws_compat")


def test_the_operations_app_takes_no_memory_of_an_idle_socket() -> None:
    """At most 200 bytes, with everything else at its default."""

    def taken(*apps: str) -> float:
        command = [sys.executable, "-c", IDLE, *APPS, *apps]
        ran = subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=ROOT)
        assert ran.returncode == 0, ran.stderr
        return float(ran.stdout)

    assert taken("fastws_compat.operations") - taken() <= 200


def test_importing_all_names_imports_neither_django_nor_a_server() -> None:
    statement = "import sys; from fastws_compat import *; print(*sys.modules)"
    output = subprocess.run([sys.executable, "-c", statement], capture_output=True, text=True, check=True)
    packages = {name.partition(".")[0] for name in output.stdout.split()}
    assert packages.isdisjoint({"django", "channels", "daphne", "twisted", "autobahn", "zope"})
    assert packages.isdisjoint({"fastapi", "starlette", "anyio", "uvicorn", "httpx"})


# The index of routes must not change the result: the first route that matches wins.

SEGMENTS = st.sampled_from(["", "a", "b", "ab", "{x}", "{x:path}", "a{x}", "{x}b", "{x:int}", "a.c", "é"])
TEMPLATES = st.lists(SEGMENTS, max_size=3).map(lambda parts: "/" + "/".join(parts))
PATHS = st.lists(
    st.sampled_from(["", "a", "b", "ab", "abb", "7", "a.c", "abc", "é", "b\n", "\n"]), max_size=4
)


async def ignored(scope: Any, receive: Any, send: Any) -> None:
    pass


def route_for(kind: str, template: str) -> BaseRoute | None:
    if template.count("{x") > 1:
        return None
    match kind:
        case "mount":
            return Mount(template, app=ignored)
        case "host":
            return Host("testserver", ignored)
        case _:
            return WebSocketRoute(template, ignored)


def tried_one_by_one(router: Router, scope: dict[str, Any]) -> Any:
    for route in flatten(router.routes):
        match, child_scope = route.matches(scope)
        if match is Match.FULL:
            return route, child_scope
    return None


@given(
    st.lists(st.tuples(st.sampled_from(["socket", "socket", "mount", "host"]), TEMPLATES), max_size=8),
    PATHS.map(lambda parts: "/" + "/".join(parts)) | st.sampled_from(["", "a", "\n"]),
    st.sampled_from(["", "/a"]),
)
def test_the_index_finds_what_trying_each_route_finds(
    kinds: list[tuple[str, str]], path: str, root_path: str
) -> None:
    router = Router([route for kind, template in kinds if (route := route_for(kind, template))])
    asked = {**scope(path), "root_path": root_path}
    assert router.match(asked) == tried_one_by_one(router, asked)


def test_a_route_with_its_own_matching_is_always_called() -> None:
    class Everything(WebSocketRoute):
        def matches(self, scope: Any) -> Any:
            return Match.FULL, {}

    everything = Everything("/only/in/name", ignored)
    router = Router([WebSocketRoute("/a", ignored), everything])
    assert router.match(scope("/b")) == (everything, {})


def test_the_index_follows_every_change_of_the_routes() -> None:
    async def endpoint(websocket: WebSocket) -> None:
        pass

    app, inner, deeper = FastAPI(), APIRouter(), APIRouter()
    app.include_router(inner, prefix="/inner")
    inner.include_router(deeper, prefix="/deeper")

    def found(path: str) -> bool:
        return app.router.match(scope(path)) is not None

    assert not found("/a")
    app.websocket("/a")(endpoint)
    assert found("/a")
    assert not found("/inner/deeper/b")
    deeper.websocket("/b")(endpoint)
    assert found("/inner/deeper/b")
    inner.routes.pop()
    assert not found("/inner/deeper/b")
    inner.websocket("/c")(endpoint)
    assert found("/inner/c")
    app.routes[:] = []
    assert not found("/inner/c")
    assert not found("/a")


def test_a_removed_router_counts_as_a_change() -> None:
    async def endpoint(websocket: WebSocket) -> None:
        pass

    app, inner = FastAPI(), APIRouter()
    inner.websocket("/a")(endpoint)
    app.include_router(inner)
    assert app.router.match(scope("/a")) is not None
    # One more change here, and one router with one change fewer.
    app.routes.pop()
    assert app.router.match(scope("/a")) is None
