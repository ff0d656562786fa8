"""What a connection knows of itself: its route, its messages, how it was answered and who closed it."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Iterator
from typing import Any

import pytest
from channels.generic.websocket import AsyncWebsocketConsumer
from channels.routing import URLRouter
from django.conf import settings
from django.contrib.auth.models import User
from django.db import OperationalError
from django.test import override_settings
from django.urls import path as django_path

from fastws_compat import Depends, FastAPI, HTTPException, WebSocket, figures
from fastws_compat.asgi import get_asgi_application
from fastws_compat.auth import user_passes_test
from fastws_compat.connections import census, hooks, sweeper, tally
from fastws_compat.connections.interrupt import current_task
from fastws_compat.connections.outcomes import closed_on
from fastws_compat.connections.pipe import hang_up
from fastws_compat.connections.registry import everywhere, registry
from fastws_compat.origins import OriginCheck
from fastws_compat.routing import Host, Mount
from fastws_compat.security import HTTPBearer
from tests.fake_server import CONNECT, DENIAL, FakeServer, disconnect, text, websocket_scope


class Ended:
    """What a connection was when it ended."""

    def __init__(self, session: Any) -> None:
        self.template = session.template
        self.counts = session.counts
        self.closed = session.closed if session.is_accepted else None
        self.refusal = session.refusal
        self.last_in = session.last_in


@pytest.fixture
def ended(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Ended]]:
    """Turns the census on; the list receives every connection at its end."""
    found: list[Ended] = []
    monkeypatch.setattr(census, "is_on", True)
    monkeypatch.setattr(census, "_totals", {})
    monkeypatch.setattr(census, "_sent_codes", set())
    monkeypatch.setattr(census, "_exceptions", set())
    monkeypatch.setattr(figures, "_labels", {})
    hooks.ended.append(note := lambda session: found.append(Ended(session)))
    yield found
    hooks.ended.remove(note)


def run(app: Any, server: FakeServer, path: str = "/ws", **scope: Any) -> None:
    asyncio.run(app(websocket_scope(path, **scope), server.receive, server.send))


def echo_app() -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws")
    @app.websocket("/ws/{room}/{number:int}")
    async def echo(websocket: WebSocket) -> None:
        await websocket.accept()
        async for each in websocket.iter_text():
            await websocket.send_text(each)

    return app


def totals(template: str = "/ws") -> census.Totals:
    return census.snapshot(everywhere)[1][template]


def test_an_accepted_connection_that_the_client_closes(ended: list[Ended]) -> None:
    run(echo_app(), FakeServer(CONNECT, text("a"), text("bc"), disconnect(1001)))
    assert ended[0].template == "/ws"
    assert ended[0].closed == (1001, "client")
    assert ended[0].refusal is None
    assert ended[0].counts == (2, None, None, None)  # nobody has counted the rest
    assert totals().closed == {(1001, "client"): 1}
    assert (totals().opened, totals().messages_in) == (1, 2)
    assert sum(totals().durations.counts) == 1


@pytest.mark.parametrize(
    ("code", "label"), [(1005, 1005), (3456, "other"), (None, 1005), (1006, 1006)], ids=str
)
def test_the_codes_of_clients_are_counted_as_other(
    ended: list[Ended], code: int | None, label: int | str
) -> None:
    run(echo_app(), FakeServer(CONNECT, disconnect(code)))
    by = "lost" if code == 1006 else "client"
    assert totals().closed == {(label, by): 1}


def test_codes_that_this_process_sends_are_counted(ended: list[Ended]) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def close(websocket: WebSocket) -> None:
        await websocket.accept()
        await websocket.close(4321)

    run(app, FakeServer(CONNECT))
    run(echo_app(), FakeServer(CONNECT, disconnect(4321)))
    assert totals().closed == {(4321, "server"): 1, (4321, "client"): 1}


class UvicornLike(FakeServer):
    """A server whose module is one of uvicorn's."""


UvicornLike.__module__ = "uvicorn.protocols.websockets"


@pytest.mark.parametrize(("thorough", "counts"), [(False, (2, 2, None, None)), (True, (2, 2, 4, 4))])
def test_on_uvicorn_sizes_are_counted_when_something_reads_them(
    ended: list[Ended], monkeypatch: pytest.MonkeyPatch, thorough: bool, counts: Any
) -> None:
    monkeypatch.setattr(tally, "is_thorough", thorough)
    run(echo_app(), UvicornLike(CONNECT, text("a"), text("bü"), disconnect(1000)))
    assert ended[0].counts == counts
    assert (ended[0].last_in is not None) is thorough
    assert totals().messages_out == 2
    assert totals().bytes_in == (counts[2] or 0)


def test_calls_of_receive_that_are_cancelled_are_no_messages(ended: list[Ended]) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        for receive in (websocket.receive_text, websocket.receive_bytes, websocket.receive_json):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(receive(), 0.001)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(websocket.receive(), 0.001)

    run(app, FakeServer(CONNECT))
    assert ended[0].counts[0] == 0


@pytest.mark.parametrize(
    ("what", "closed"),
    [
        ("returns", (1000, "server")),
        ("raises", (1011, "server")),
        ("closes", (4000, "server")),
        ("hung up", (4403, "operator")),
        ("too big", (1009, "server")),
    ],
)
def test_who_closed_first(ended: list[Ended], what: str, closed: tuple[int, str]) -> None:
    app = FastAPI(max_message_size=3)

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        if what == "raises":
            raise ValueError
        if what == "closes":
            await websocket.close(4000)
        if what == "hung up":
            await hang_up(websocket, 4403, "abuse", "operator")
        if what == "too big":
            await websocket.receive_text()

    run(app, FakeServer(CONNECT, text("12345")))
    assert ended[0].closed == closed
    assert totals().exceptions == ({"ValueError": 1} if what == "raises" else {})


class DaphneLike(FakeServer):
    """A server that closes the connections of cancelled applications, as the completed daphne does."""

    def close_from_server(self, code: int, reason: str = "") -> None:
        raise AssertionError


@pytest.mark.parametrize(
    ("path", "server", "refused", "closed"),
    [
        ("/before", FakeServer(CONNECT), (500, "error"), None),
        ("/after", FakeServer(CONNECT), None, (1006, "lost")),
        ("/after", DaphneLike(CONNECT), None, (1011, "server")),
        ("/left", FakeServer(CONNECT), None, None),
    ],
)
def test_a_cancellation_that_nobody_handles(
    ended: list[Ended], path: str, server: FakeServer, refused: Any, closed: Any
) -> None:
    """The server answers after the application: with 500, or with the close code 1011."""
    app = FastAPI()

    @app.websocket("/{when}")
    async def endpoint(websocket: WebSocket, when: str) -> None:
        if when == "after":
            await websocket.accept()
        if when == "left":
            server.client_socket = None
        current_task().cancel()
        await asyncio.sleep(20)

    with pytest.raises(asyncio.CancelledError):
        run(app, server, path)
    [end] = ended
    assert end.refusal == refused
    assert end.closed == closed


@pytest.mark.parametrize(
    ("path", "refused", "closed"),
    [("/before", (500, "error"), None), ("/after", None, (1011, "server"))],
)
def test_a_cancellation_that_nobody_asked_for(
    ended: list[Ended], path: str, refused: Any, closed: Any
) -> None:
    """The library answers, as for any other exception."""
    app = FastAPI()
    server = FakeServer(CONNECT)

    @app.websocket("/{when}")
    async def endpoint(websocket: WebSocket, when: str) -> None:
        if when == "after":
            await websocket.accept()
        task = asyncio.create_task(asyncio.sleep(20))
        task.cancel()
        await task

    run(app, server, path, extensions=DENIAL)
    [end] = ended
    assert end.refusal == refused
    assert end.closed == closed
    assert totals("/{when}").exceptions == {"CancelledError": 1}


def refusing() -> FastAPI:
    app = FastAPI(max_connections_per_address=0)
    other = FastAPI()

    @other.websocket("/declined")
    async def declined(websocket: WebSocket) -> None:
        await websocket.close()

    @other.websocket("/silent")
    async def silent(websocket: WebSocket) -> None: ...

    @other.websocket("/raises")
    async def raises(websocket: WebSocket) -> None:
        raise RuntimeError

    @other.websocket("/http")
    async def http(websocket: WebSocket) -> None:
        raise HTTPException(418)

    @other.websocket("/number/{number}")
    async def number(websocket: WebSocket, number: int) -> None: ...

    @other.websocket("/token", dependencies=[Depends(HTTPBearer())])
    async def token(websocket: WebSocket) -> None: ...

    @app.websocket("/full")
    async def full(websocket: WebSocket) -> None: ...

    app.mount("/o", other)
    return app


@pytest.mark.parametrize(
    ("path", "template", "refusal"),
    [
        ("/o/declined", "/o/declined", (403, "endpoint")),
        ("/o/silent", "/o/silent", (403, "endpoint")),
        ("/o/raises", "/o/raises", (500, "error")),
        ("/o/http", "/o/http", (418, "endpoint")),
        ("/o/number/x", "/o/number/{number}", (403, "invalid")),
        ("/o/token", "/o/token", (401, "login")),
        ("/o/nothing", "(none)", (403, "not_found")),
        ("/nothing", "(none)", (403, "not_found")),
        ("/full", "/full", (429, "limit_address")),
    ],
)
def test_why_a_handshake_was_refused(
    ended: list[Ended], path: str, template: str, refusal: tuple[int, str]
) -> None:
    run(refusing(), FakeServer(CONNECT), path, extensions=DENIAL, client=("127.0.0.1", 5))
    assert (ended[0].template, ended[0].refusal, ended[0].closed) == (template, refusal, None)
    assert totals(template).refused == {refusal: 1}
    assert totals(template).opened == 0


def beside_consumers() -> dict[str, Any]:
    legacy = URLRouter([django_path("legacy", AsyncWebsocketConsumer.as_asgi())])
    return {
        "fallback": get_asgi_application(FastAPI(), fallback=legacy),
        "origin check": OriginCheck(legacy),
    }


@pytest.mark.parametrize("kind", ["fallback", "origin check"])
@pytest.mark.usefixtures("ended")
def test_a_path_that_no_consumer_has_is_counted_as_refused(kind: str) -> None:
    run(beside_consumers()[kind], FakeServer(CONNECT), "/nothing")
    assert totals("(none)").refused == {(403, "not_found"): 1}


def limited() -> FastAPI:
    app = FastAPI()
    everybody = user_passes_test(lambda user: user.username == "boss")

    @app.websocket("/forbidden", dependencies=[Depends(everybody)])
    @app.websocket("/once", max_connections_per_user=0)
    async def endpoint(websocket: WebSocket) -> None: ...

    return app


@pytest.mark.parametrize(
    ("path", "refusal"), [("/forbidden", (403, "forbidden")), ("/once", (429, "limit_user"))]
)
def test_why_a_user_was_refused(ended: list[Ended], path: str, refusal: tuple[int, str]) -> None:
    run(limited(), FakeServer(CONNECT), path, extensions=DENIAL, user=User(pk=5, username="ann"))
    assert ended[0].refusal == refusal
    assert totals(path).refused == {refusal: 1}


def test_a_user_who_cannot_be_looked_up_is_refused_because_of_the_database(
    ended: list[Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def owner(session: Any, turn: Any) -> Any:
        raise OperationalError("the database is down")

    monkeypatch.setattr("fastws_compat.logins.identify.owner", owner)
    app = get_asgi_application(limited())
    headers = [
        (b"host", b"testserver"),
        (b"origin", b"http://testserver"),
        (b"cookie", f"{settings.SESSION_COOKIE_NAME}={'k' * 32}".encode()),
    ]
    run(app, FakeServer(CONNECT), "/once", extensions=DENIAL, headers=headers)
    refused = {each for found in census.snapshot(everywhere)[1].values() for each in found.refused}
    assert refused == {(503, "database")}


def test_a_handshake_that_is_not_answered_in_time(
    ended: list[Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fastws_compat.connections.sweeper.INTERVAL", 0.001)
    app = FastAPI()

    @app.websocket("/ws")
    async def waits(websocket: WebSocket) -> None:
        await asyncio.sleep(60)

    with override_settings(FASTWS={"HANDSHAKE_TIMEOUT": 0.01}):
        run(app, FakeServer(CONNECT), extensions=DENIAL)
    assert ended[0].refusal == (503, "timeout")


def test_a_client_that_left_before_the_answer_counts_as_neither(ended: list[Ended]) -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def late(websocket: WebSocket) -> None:
        await websocket.receive()
        await websocket.receive()

    run(app, FakeServer(CONNECT, disconnect(1006)))
    assert (ended[0].closed, ended[0].refusal) == (None, None)
    assert (totals().opened, totals().refused, totals().closed) == (0, {}, {})


def test_templates_have_those_of_mounts_and_hosts(ended: list[Ended]) -> None:
    inner = echo_app()
    app = FastAPI(
        routes=[
            Mount("/t/{tenant}", app=FastAPI(routes=[Mount("/v1", app=inner)])),
            Host("{sub}.test", inner),
        ]
    )
    run(app, FakeServer(CONNECT, disconnect()), "/t/acme/v1/ws/lobby/7")
    run(app, FakeServer(CONNECT, disconnect()), "/ws", headers=[(b"host", b"eu.test")])
    assert [each.template for each in ended] == ["/t/{tenant}/v1/ws/{room}/{number:int}", "{sub}.test/ws"]


def test_answers_of_a_mounted_asgi_application_are_seen(ended: list[Ended]) -> None:
    async def foreign(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        if scope["path"].endswith("no"):
            await send({"type": "websocket.close"})
            return
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 3001})

    app = FastAPI(routes=[Mount("/legacy", app=foreign)])
    run(app, FakeServer(CONNECT), "/legacy/yes")
    run(app, FakeServer(CONNECT), "/legacy/no")
    assert [(each.template, each.closed, each.refusal) for each in ended] == [
        ("/legacy", (3001, "server"), None),
        ("/legacy", None, (403, "endpoint")),
    ]


def test_live_connections_are_listed_until_they_are_in_the_sums(ended: list[Ended]) -> None:
    app = echo_app()

    async def compare() -> None:
        server = FakeServer(CONNECT)
        server.start(app)
        await server.wait_sent("websocket.accept")
        [live], sums = census.snapshot(everywhere)
        assert (live.is_accepted, live.template) == (True, "/ws")
        assert all(each.opened == 0 for each in sums.values())
        assert live.age < 60
        server.hang_up(1000)
        await server.wait_ended()
        assert census.snapshot(everywhere)[0] == []
        # What a reader in another thread still holds is what the sums have.
        assert (live.template, live.is_accepted, live.counts[0]) == ("/ws", True, 0)

    asyncio.run(compare())


def test_connections_are_summed_up_before_too_many_wait_for_a_reader(
    ended: list[Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(census, "MAX_ENDED", 3)
    app = echo_app()
    waiting = []
    for _ in range(5):
        run(app, FakeServer(CONNECT, text("a"), disconnect()))
        waiting.append(len(census._ended))
    assert waiting == [1, 2, 0, 1, 2]
    for _ in range(2):  # reading changes nothing
        assert (totals().opened, totals().messages_in, sum(totals().handshakes.counts)) == (5, 5, 5)


def test_a_connection_that_began_before_the_counting_is_counted_as_a_whole(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    app = echo_app()

    async def compare() -> None:
        server = FakeServer(CONNECT)
        server.start(app)
        await server.wait_sent("websocket.accept")
        monkeypatch.setattr(census, "is_on", True)
        [route] = figures.routes().values()
        assert (route.opened, sum(route.totals.handshakes.counts)) == (1, 1)
        server.hang_up(1000)
        await server.wait_ended()

    asyncio.run(compare())
    assert (totals().opened, sum(totals().handshakes.counts), sum(totals().durations.counts)) == (1, 1, 1)


def test_a_handshake_is_counted_once_while_its_socket_is_open_and_afterwards(ended: list[Ended]) -> None:
    app = echo_app()

    async def compare() -> None:
        server = FakeServer(CONNECT)
        server.start(app)
        await server.wait_sent("websocket.accept")
        assert sum(figures.routes()["/ws"].totals.handshakes.counts) == 1
        server.hang_up(1000)
        await server.wait_ended()
        assert sum(figures.routes()["/ws"].totals.handshakes.counts) == 1

    asyncio.run(compare())


def test_nothing_is_summed_up_unless_something_reads_it() -> None:
    before = census.snapshot(everywhere)[1]
    run(echo_app(), FakeServer(CONNECT, disconnect()))
    run(refusing(), FakeServer(CONNECT), "/o/raises", extensions=DENIAL)
    census.refused(None, 503, "stopping")
    assert census.snapshot(everywhere)[1].keys() == before.keys()


def test_a_hook_that_fails_is_reported_once_and_harms_no_socket(
    ended: list[Ended], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(session: Any) -> None:
        raise RuntimeError("no disk")

    hooks.begun.append(broken)
    try:
        run(echo_app(), FakeServer(CONNECT, disconnect(1000)))
        run(echo_app(), FakeServer(CONNECT, disconnect(1000)))
    finally:
        hooks.begun.remove(broken)
    assert [each.closed for each in ended] == [(1000, "client")] * 2
    assert [record.getMessage() for record in caplog.records if "no disk" in record.getMessage()] == [
        "test_a_hook_that_fails_is_reported_once_and_harms_no_socket.<locals>.broken failed; its further "
        "failures are not logged: RuntimeError('no disk')"
    ]


def test_hooks_see_the_answer(ended: list[Ended]) -> None:
    seen: list[tuple[bool, Any]] = []
    hooks.answered.append(note := lambda session: seen.append((session.is_accepted, session.refusal)))
    try:
        run(echo_app(), FakeServer(CONNECT, disconnect(1000)))
        run(refusing(), FakeServer(CONNECT), "/o/http", extensions=DENIAL)
    finally:
        hooks.answered.remove(note)
    assert seen == [(True, None), (False, (418, "endpoint"))]


class Frame:
    def __init__(self, code: int, reason: str = "") -> None:
        self.code, self.reason = code, reason


class Connection:
    """The attributes of `websockets` that tell who closed."""

    def __init__(self, received: Any = None, sent: Any = None, echoed: bool | None = None) -> None:
        self.close_rcvd, self.close_sent, self.close_rcvd_then_sent = received, sent, echoed


@pytest.mark.parametrize(
    ("connection", "closed"),
    [
        (Connection(Frame(1001), Frame(1001), True), (1001, "client")),
        (Connection(Frame(1001)), (1001, "client")),
        (Connection(Frame(4000), Frame(4000), False), (4000, "server")),
        (Connection(None, Frame(1012)), (1012, "server")),
        (Connection(None, Frame(1011, "keepalive ping timeout")), (1006, "lost")),
        (Connection(), (1006, "lost")),
    ],
)
def test_uvicorns_protocols_show_who_closed(connection: Connection, closed: tuple[int, str]) -> None:
    assert closed_on(connection) == closed


class Busy:
    """An endpoint that handles one message after the other, each until the test says that it is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(sweeper.Sweeper, "arm", lambda self, loop: None)  # the clock is the test's own
        self.app = FastAPI()
        self.app.add_api_websocket_route("/ws", self._handle)
        self.servers: list[FakeServer] = []
        self._done: dict[int, asyncio.Semaphore] = {}
        self._websockets: dict[int, WebSocket] = {}
        self._sweeper: sweeper.Sweeper | None = None

    async def _handle(self, websocket: WebSocket, number: int) -> None:
        self._websockets[number] = websocket
        await websocket.accept()
        async for _ in websocket.iter_text():
            await self._done[number].acquire()

    async def open(self, number: int) -> None:
        self._done[number] = asyncio.Semaphore(0)
        server = FakeServer(CONNECT)
        server.start(self.app, websocket_scope("/ws", query_string=b"number=%d" % number))
        self.servers.append(server)
        await server.wait_sent("websocket.accept")
        await self._until(number, receiving=True)

    async def begin(self, number: int) -> None:
        self.servers[number].say("work")
        await self._until(number, receiving=False)

    async def end(self, number: int) -> None:
        self._done[number].release()
        await self._until(number, receiving=True)

    async def _until(self, number: int, receiving: bool) -> None:
        websocket = self._websockets[number]
        while (websocket._receive_calls > websocket._receive_returns) is not receiving:
            await asyncio.sleep(0)

    def sweep(self, now: float) -> None:
        if self._sweeper is None:
            self._sweeper = sweeper.Sweeper(registry().connections)
        self._sweeper._look(now)

    async def leave(self) -> None:
        for number, server in enumerate(self.servers):
            self._done[number].release()
            await server.leave()


def test_an_endpoint_is_away_while_it_handles_a_message(
    ended: list[Ended], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        busy = Busy(monkeypatch)
        await busy.open(0)
        for now in range(3):
            busy.sweep(now)
        assert "/ws" not in census.snapshot(everywhere)[1]
        for now in range(3, 6):  # each is shorter than the time between two sweeps
            await busy.begin(0)
            busy.sweep(now)
            await busy.end(0)
            assert totals().away == now - 2
        busy.sweep(6)
        assert totals().away == 3
        await busy.leave()

    asyncio.run(main())


@pytest.mark.parametrize("at_once", [10, 3])
def test_the_mean_time_of_a_message_is_the_time_away_per_message(
    ended: list[Ended], monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    """Little's law, for ten endpoints with random handling times on a clock of the test's own."""
    monkeypatch.setattr(sweeper, "SLICE", at_once)
    chance, count, seconds, handling, pause = random.Random(1), 10, 1200.0, 0.2, 0.3

    async def main() -> tuple[float, float]:
        busy = Busy(monkeypatch)
        for number in range(count):
            await busy.open(number)
        due = [(chance.expovariate(1 / pause), number, True) for number in range(count)]
        due.append((sweeper.INTERVAL, count, True))
        heapq.heapify(due)
        spent = 0.0
        while due[0][0] < seconds:
            now, number, begins = heapq.heappop(due)
            if number == count:
                busy.sweep(now)
                heapq.heappush(due, (now + sweeper.INTERVAL, count, True))
                continue
            lasts = chance.expovariate(1 / (handling if begins else pause))
            spent += lasts if begins else 0
            await (busy.begin(number) if begins else busy.end(number))
            heapq.heappush(due, (now + lasts, number, not begins))
        received = sum(session.messages_in for session in everywhere())
        estimate = totals().away / received
        await busy.leave()
        return estimate, spent / received

    estimate, mean = asyncio.run(main())
    assert abs(estimate / mean - 1) < 0.03
