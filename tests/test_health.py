"""The probes for load balancers, and draining, without a server; see tests/servers/test_health.py for one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from channels.routing import URLRouter
from django.test import override_settings

from fastws_compat import FastAPI, WebSocket, health
from fastws_compat.asgi import get_asgi_application
from fastws_compat.connections import registry
from fastws_compat.daphne import shutdown
from fastws_compat.operations.answers import respond
from tests.fake_server import CONNECT, DENIAL, FakeServer, connected, websocket_scope


@pytest.fixture(autouse=True)
def _ready(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("is_starting", "is_stopping", "is_closed"):
        monkeypatch.setattr(health, name, False)


@pytest.fixture
def app() -> Iterator[Any]:
    sockets = FastAPI()

    @sockets.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()

    with override_settings(FASTWS={"HEALTH": "/-/", "MAX_CONNECTIONS": 1}, ALLOWED_HOSTS=["example.com"]):
        yield get_asgi_application(sockets)


def ask(app: Any, path: str, method: str = "GET", root_path: str = "") -> tuple[int, bytes]:
    server = FakeServer({"type": "http.request", "body": b"", "more_body": False})
    scope = {
        "type": "http",
        "method": method,
        "path": path,
        "root_path": root_path,
        "headers": [(b"host", b"wrong.example")],
        "query_string": b"",
    }
    asyncio.run(app(scope, server.receive, server.send))
    return server.sent[0]["status"], server.sent[1]["body"]


def test_probes_need_neither_django_nor_its_database(app: Any, settings: Any) -> None:
    """The host is wrong, and this test may not use the database."""
    settings.SECURE_SSL_REDIRECT = True
    settings.ALLOWED_HOSTS = []
    settings.MIDDLEWARE = ["no.such.Middleware"]
    for path in ("live", "ready", "ready/sockets"):
        assert ask(app, f"/-/{path}")[0] == 200


def test_a_process_that_serves_is_live_and_ready(app: Any) -> None:
    assert ask(app, "/-/live") == (200, b"live")
    assert ask(app, "/-/ready") == (200, b"ready")
    assert ask(app, "/-/ready/sockets") == (200, b"ready")
    assert ask(app, "/-/ready", "HEAD") == (200, b"")
    assert ask(app, "/-/other")[0] in (400, 404)
    assert ask(app, "/-/live", "POST")[0] in (400, 404)


def test_probes_below_a_root_path(app: Any) -> None:
    for path in ("/app/-/live", "/-/live"):
        assert ask(app, path, root_path="/app") == (200, b"live")
    assert ask(app, "/app/-/live")[0] in (400, 404)


@pytest.mark.parametrize(
    ("name", "word"), [("is_starting", b"starting"), ("is_stopping", b"draining"), ("is_closed", b"draining")]
)
def test_a_process_that_is_not_ready_is_live(
    app: Any, monkeypatch: pytest.MonkeyPatch, name: str, word: bytes
) -> None:
    monkeypatch.setattr(health, name, True)
    assert ask(app, "/-/live") == (200, b"live")
    assert ask(app, "/-/ready") == (503, word)
    assert ask(app, "/-/ready/sockets") == (503, word)


def test_a_full_process_is_ready_for_pages_alone(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mounted = SimpleNamespace(websocket=None)  # the limit does not count it
    monkeypatch.setattr(health, "everywhere", lambda: [mounted])
    assert ask(app, "/-/ready/sockets") == (200, b"ready")
    monkeypatch.setattr(health, "everywhere", lambda: [mounted, SimpleNamespace(websocket=object())])
    assert ask(app, "/-/ready") == (200, b"ready")
    assert ask(app, "/-/ready/sockets") == (503, b"full")


def test_without_the_setting_the_path_is_djangos() -> None:
    with override_settings(FASTWS={}):
        assert ask(get_asgi_application(FastAPI()), "/-/live")[0] in (400, 404)


def test_a_process_that_an_operator_drains_refuses_handshakes(app: Any) -> None:
    assert status_of(app) == 101
    health.drain()
    assert health.is_draining()
    assert status_of(app) == 503
    health.undo()
    assert status_of(app) == 101
    assert not health.is_draining()


def test_a_drained_process_looks_no_user_up(app: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    looked_up: list[Any] = []

    async def identify(scope: Any) -> Any:
        looked_up.append(scope)
        return scope

    monkeypatch.setattr("fastws_compat.logins.identify.identify", identify)
    assert status_of(app) == 101
    health.drain()
    assert status_of(app) == 503
    assert len(looked_up) == 1


@pytest.mark.parametrize("has_fallback", [False, True])
def test_a_handshake_that_waits_while_the_process_is_drained_is_refused(
    app: Any, monkeypatch: pytest.MonkeyPatch, has_fallback: bool
) -> None:
    """It is not yet among the connections that the drain closes."""
    if has_fallback:
        app = get_asgi_application(FastAPI(), fallback=URLRouter(drained().websocket_urlpatterns))

    async def identify(scope: Any) -> Any:
        health.drain()
        return scope

    monkeypatch.setattr("fastws_compat.logins.identify.identify", identify)
    assert status_of(app) == 503


def status_of(app: Any, path: str = "/ws", **headers: str) -> int:
    server = FakeServer(CONNECT)
    pairs = [(b"host", b"example.com"), *((name.encode(), text.encode()) for name, text in headers.items())]
    scope = websocket_scope(path, extensions=DENIAL, headers=pairs)
    asyncio.run(app(scope, server.receive, server.send))
    status: int = server.sent[0].get("status", 101)
    return status


def drained() -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()

    return app


async def accept_and_wait(scope: Any, receive: Any, send: Any) -> None:
    await receive()
    await send({"type": "websocket.accept"})
    await receive()


def test_a_drain_leaves_the_sockets_of_the_fallback_to_the_server() -> None:
    async def main() -> None:
        with override_settings(ALLOWED_HOSTS=["example.com"]):
            app = get_asgi_application(FastAPI(), fallback=accept_and_wait)
            server = connected(app, headers=[(b"host", b"example.com")])
            await server.wait_sent("websocket.accept")
            answer = await respond({"op": "drain", "where": {}})
            assert (answer["drained"], answer["matched"]) == (True, 0)
            await server.leave()
            assert server.types == ["websocket.accept"]

    asyncio.run(main())


WAYS: list[Callable[[FastAPI], Any]] = [
    lambda app: app,
    lambda app: app.router,
    lambda app: URLRouter(app.websocket_urlpatterns),
    lambda app: get_asgi_application(FastAPI(), fallback=URLRouter(app.websocket_urlpatterns)),
]


@pytest.mark.parametrize("served_by", WAYS)
def test_every_way_to_serve_refuses_while_the_process_is_drained(served_by: Any) -> None:
    """Also an application that runs without `get_asgi_application`, and routes in a project's own router."""
    with override_settings(ALLOWED_HOSTS=["example.com"]):
        app = served_by(drained())
        assert status_of(app) == 101
        health.drain()
        assert status_of(app) == 503
        health.undo()
        assert status_of(app) == 101


def test_the_process_is_starting_until_its_lifespan_has_begun() -> None:
    states: list[str] = []

    async def lifespan(scope: Any, receive: Any, send: Any) -> None:
        states.append(health.state())
        await send({"type": "lifespan.startup.complete"})
        states.append(health.state())

    server = FakeServer()
    asyncio.run(health.lifespan(lifespan, {"type": "lifespan"}, server.receive, server.send))
    assert states == ["starting", "ready"]


class Socket:
    def __init__(self, closed: list[float]) -> None:
        self.closed = closed

    def close_for_restart(self) -> None:
        self.closed.append(asyncio.get_running_loop().time())


class Clock(asyncio.SelectorEventLoop):
    """A loop whose time passes at once."""

    skipped = 0.0

    def time(self) -> float:
        return super().time() + self.skipped

    def skip(self, seconds: float) -> None:
        self.skipped += seconds


def test_three_hundred_sockets_over_three_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[float] = []

    async def close() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, Clock)

        async def sleep(seconds: float) -> None:
            loop.skip(seconds)

        monkeypatch.setattr(shutdown.asyncio, "sleep", sleep)
        await shutdown.close_all([Socket(closed) for _ in range(300)], 3)

    with asyncio.Runner(loop_factory=Clock) as runner:
        runner.run(close())
    monkeypatch.undo()
    assert len(closed) == 300
    assert closed[-1] - closed[0] < 3.5
    assert max(sum(start <= at < start + 1 for at in closed) for start in closed) <= 150


def test_the_process_is_not_ready_from_the_first_moment_of_a_shutdown() -> None:
    class Server:
        drain_delay = 60.0

    async def stop() -> str:
        assert health.state() == "ready"
        draining = asyncio.create_task(shutdown.drain(Server(), 1))  # type: ignore[arg-type]
        await asyncio.sleep(0)
        state = health.state()
        draining.cancel()
        return state

    assert asyncio.run(stop()) == "draining"


def test_what_waits_for_the_end_of_the_server_ends_before_the_process_exits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ended: list[str] = []

    async def end() -> None:
        await asyncio.sleep(0)
        ended.append("ended")

    monkeypatch.setattr(registry, "shutdowns", [end, end])

    class Ending:
        is_ending = True
        task: asyncio.Task[None]

    async def stop() -> None:
        connection = Ending()
        connection.task = asyncio.create_task(end())
        registry.registry().connections.add(connection)  # type: ignore[arg-type]
        await registry.drain(20)

    asyncio.run(stop())
    assert ended == ["ended"] * 3


def test_sockets_are_closed_evenly_over_the_spread() -> None:
    closed: list[float] = []
    asyncio.run(shutdown.close_all([Socket(closed) for _ in range(10)], 0.2))
    assert len(closed) == 10
    assert closed[-1] - closed[0] >= 0.17
    assert sorted(closed) == closed
