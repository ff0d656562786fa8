"""Listing and operating the sockets of one process: rows, filters, and a kick in every state of a socket."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Coroutine
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from channels.exceptions import ChannelFull
from django.contrib.auth.models import AnonymousUser, User

from fastws_compat import Depends, FastAPI, WebSocket, WebSocketDisconnect, signals
from fastws_compat.connections import census as counted
from fastws_compat.connections import sweeper
from fastws_compat.connections.census import Histogram
from fastws_compat.connections.registry import registries
from fastws_compat.connections.states import MEMBER
from fastws_compat.groups import Group
from fastws_compat.layers import subscription
from fastws_compat.logins.gate import Login
from fastws_compat.logins.remote import sender_id
from fastws_compat.operations import (
    Done,
    Page,
    acts,
    akick,
    api,
    aprocesses,
    asend,
    asockets,
    census,
    kick,
    masks,
    sockets,
    survey,
    totals,
)
from fastws_compat.operations import answers as control
from fastws_compat.operations import line as operations_line
from fastws_compat.operations.line import Line
from fastws_compat.operations.records import Row
from tests.fake_server import DENIAL, Dam, FakeServer, connected

ROOT = Path(__file__).resolve().parents[1]

HERE = census.process_name()
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, 20))


def ann(**values: Any) -> User:
    return User(pk=5, username="ann", **values)


class Site:
    """An application with one route, and what its endpoint has seen."""

    def __init__(self) -> None:
        self.app = FastAPI()
        self.ended: list[WebSocketDisconnect | None] = []
        self.entered = asyncio.Event()
        self.release = asyncio.Event()
        self.app.add_api_websocket_route("/ws/{room}", self.echo, name="echo")
        self.app.add_api_websocket_route("/busy", self.busy)
        self.app.add_api_websocket_route("/slow", self.never)

    async def echo(self, websocket: WebSocket, room: str) -> None:
        await websocket.accept()
        await websocket.join(f"room.{room}")
        try:
            while True:
                await websocket.send_text(await websocket.receive_text())
        except WebSocketDisconnect as exc:
            self.ended.append(exc)

    async def busy(self, websocket: WebSocket) -> None:
        await websocket.accept()
        self.entered.set()
        await self.release.wait()
        try:
            await websocket.send_text("done")
        except WebSocketDisconnect as exc:
            self.ended.append(exc)

    async def never(self, websocket: WebSocket) -> None:
        self.entered.set()
        await self.release.wait()
        try:
            await websocket.accept()
        except WebSocketDisconnect as exc:
            self.ended.append(exc)

    async def open(self, path: str = "/ws/1", **scope: Any) -> FakeServer:
        server = connected(self.app, path=path, **scope)
        await server.wait_sent("websocket.accept")
        while not (await asockets(id=await newest())).rows[0].groups and path.startswith("/ws/"):
            await asyncio.sleep(0)
        return server


async def newest() -> str:
    return (await asockets(limit=1)).rows[0].id


def closes(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "by an operator" in each.getMessage()]


@pytest.fixture(autouse=True)
def _info(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "fastws_compat")


# Rows


def test_row_of_a_socket() -> None:
    async def test() -> None:
        site = Site()
        headers = [(b"user-agent", FIREFOX.encode()), (b"cookie", b"sessionid=secret")]
        began = time.time()
        server = await site.open("/ws/lobby", user=ann(), client=["203.0.113.7", 5], headers=headers)
        page = await asockets()
        assert (page.total, page.matched, page.silent, page.local) == (1, 1, [], True)
        [row] = page.rows
        assert isinstance(row, Row)
        assert (row.user_id, row.user, row.route, row.endpoint) == (5, "ann", "/ws/{room}", "echo")
        assert (row.path, row.address, row.agent) == ("/ws/lobby", "203.0.113.7", FIREFOX)
        assert (row.groups, row.waiting, row.state, row.process) == (["room.lobby"], 0, "open", HERE)
        assert row.since is not None
        assert row.since.tzinfo is not None
        assert (row.messages_in, row.messages_out) == (0, None)
        assert began - 1 < row.since.timestamp() < time.time() + 1
        assert "secret" not in repr(page)
        await server.leave()
        assert (await asockets()).rows == []

    run(test())


def test_row_of_a_handshake_and_of_a_socket_that_closes() -> None:
    async def test() -> None:
        site = Site()
        server = connected(site.app, path="/slow")
        await site.entered.wait()
        assert [row.state for row in (await asockets()).rows] == ["handshaking"]
        done = await akick(everything=True)
        assert done == Done(1, 1, [])
        await asyncio.sleep(0)
        assert [row.state for row in (await asockets()).rows] == ["closing"]
        site.release.set()
        await server.wait_ended()

    run(test())


def test_slow_socket() -> None:
    async def test() -> None:
        site, dam = Site(), Dam()
        dam.open.clear()
        server = await site.open(on_send=dam)
        async with asyncio.timeout(20):
            while not (await asockets(state="slow")).rows:
                await Group("room.1").asend("x")
                await asyncio.sleep(0.01)
        assert (await asockets()).rows[0].waiting > 0
        dam.open.set()
        await server.leave()

    run(test())


# Filters


def test_filters_combine() -> None:
    async def test() -> None:
        site = Site()
        opened = [
            await site.open("/ws/1", user=ann()),
            await site.open("/ws/2", user=ann()),
            await site.open("/ws/2", user=AnonymousUser(), client=["198.51.100.1", 1]),
        ]

        async def paths(**filters: Any) -> list[str]:
            page = await asockets(order="since", **filters)
            assert page.total == 3
            assert (
                page.matched == len(page.rows) == await api.acount(**filters)
                if "search" not in filters
                else True
            )
            return [row.path or "" for row in page.rows]

        assert await paths(user=ann()) == await paths(user=5) == await paths(user="ann") == ["/ws/1", "/ws/2"]
        assert await paths(user=AnonymousUser()) == ["/ws/2"]
        assert await paths(user=ann(), group="room.2") == ["/ws/2"]
        assert await paths(group="room.2") == ["/ws/2", "/ws/2"]
        assert await paths(route="/ws/{room}") == ["/ws/1", "/ws/2", "/ws/2"]
        assert await paths(route="/ws/1") == await paths(process="other:1") == await paths(id="x") == []
        assert await paths(process=HERE, group="room.1") == ["/ws/1"]
        assert await paths(search="198.51") == ["/ws/2"]
        assert await paths(search="ANN") == ["/ws/1", "/ws/2"]
        assert (await asockets(state="open")).matched == 3
        ids = [row.id for row in (await asockets()).rows]
        assert (await asockets(id=ids[:2])).matched == 2
        assert (await asockets(search=ids[0])).matched == 1
        for server in opened:
            await server.leave()

    run(test())


def test_order_and_limit() -> None:
    async def test() -> None:
        site = Site()
        names = ["zoe", None, "ann"]
        opened = [
            await site.open(f"/ws/{n}", **({"user": User(pk=n, username=name)} if name else {}))
            for n, name in enumerate(names)
        ]

        async def paths(order: str, limit: int | None = None) -> list[str | None]:
            return [row.path for row in (await asockets(order=order, limit=limit)).rows]

        assert [row.path for row in (await asockets()).rows] == ["/ws/2", "/ws/1", "/ws/0"]
        assert await paths("since", 2) == ["/ws/0", "/ws/1"]
        assert await paths("user") == ["/ws/2", "/ws/0", "/ws/1"]
        assert await paths("-user") == ["/ws/0", "/ws/2", "/ws/1"]
        assert len(await paths("-waiting", 0)) == 0
        page = await asockets(limit=1)
        assert (len(page.rows), page.matched) == (1, 3)
        with pytest.raises(ValueError, match="order='age' is unknown"):
            await asockets(order="age")
        for server in opened:
            await server.leave()

    run(test())


# Of three sockets: user, messages in and out, bytes in and out, waiting messages, last heard.
SORTED: dict[str, tuple[Any, ...]] = {
    "a": ("zoe", 1, 9, 100, None, 2, 30.0),
    "b": ("ann", 5, None, 7, 8, 4, 20.0),
    "c": (None, None, None, None, None, 0, None),
}
IN_ORDER = {
    "since": "abc",
    "-since": "cba",
    "messages": "bac",
    "-messages": "abc",
    "user": "bac",
    "-user": "abc",
    "bytes": "bac",
    "-bytes": "abc",
    "waiting": "cab",
    "-waiting": "bac",
    "last_in": "bac",
    "-last_in": "abc",
}


def sortable(id: str) -> tuple[dict[str, Any], census.Found]:
    """A socket as a row of an answer, and as its process has it."""
    user, messages_in, messages_out, bytes_in, bytes_out, waiting, last_in = SORTED[id]
    values = {
        "since": float(ord(id)),
        "messages_in": messages_in,
        "messages_out": messages_out,
        "bytes_in": bytes_in,
        "bytes_out": bytes_out,
        "last_in": last_in,
    }
    member = SimpleNamespace(_queue=[b""] * waiting)
    scope = {"user": User(pk=1, username=user) if user else None, MEMBER: member}
    session = SimpleNamespace(id=id, scope=scope, **values)
    return {"id": id, "user": user, "waiting": waiting, **values}, census.Found(cast(Any, None), session)


@pytest.mark.parametrize("order", IN_ORDER)
def test_every_order(order: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a process and among the answers of several; what is unknown is last in both directions."""
    wire, found = zip(*map(sortable, "cab"), strict=True)
    assert "".join(each.session.id for each in census.best(found, order, 9)) == IN_ORDER[order]
    assert "".join(each.session.id for each in census.best(found, order, 2)) == IN_ORDER[order][:2]

    async def ask(op: str, where: Any, **values: Any) -> survey.Answers:
        return survey.Answers({f"web:{row['id']}": [{"rows": [row]}] for row in wire})

    monkeypatch.setattr(api, "ask", ask)
    assert "".join(row.id for row in sockets(order=order).rows) == IN_ORDER[order]
    assert {each.removeprefix("-") for each in IN_ORDER} == {*census.KEYS}


def test_facets() -> None:
    async def test() -> None:
        site = Site()
        opened = [await site.open("/ws/1", user=ann()), await site.open("/ws/2")]
        facets = (await asockets(limit=0)).facets
        assert facets["route"] == {"/ws/{room}": 2}
        assert facets["login"] == {"yes": 1, "no": 1}
        assert facets["state"] == {"open": 2}
        assert facets["process"] == {HERE: 2}
        for server in opened:
            await server.leave()

    run(test())


def test_routes_beyond_the_limit_are_counted_together(settings: Any) -> None:
    settings.FASTWS = {"METRICS_ROUTES": 1}
    counts = census.capped(census.Counter({"/a": 3, "/b": 2, "/c": 1}))
    assert counts == {"/a": 3, census.OTHER: 3}


# Kicks


def test_kick_of_a_socket_that_receives(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        site = Site()
        server = await site.open(user=ann())
        assert await akick(user=ann(), code=4403, reason="abuse") == Done(1, 1, [])
        await server.wait_sent("websocket.close")
        server.hang_up(4403, "abuse")
        await server.wait_ended()
        assert server.sent[-1] == {"type": "websocket.close", "code": 4403, "reason": "abuse"}
        assert server.closes == [4403]
        assert [exc.code for exc in site.ended if exc] == [4403]
        assert await akick(user=ann()) == Done(0, 0, [])

    run(test())
    assert closes(caplog) == ["WebSocket /ws/{room}: closed with 4403 by an operator"]


def test_kick_of_a_busy_endpoint(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        site = Site()
        server = connected(site.app, path="/busy")
        await site.entered.wait()
        await akick(route="/busy")
        await server.wait_sent("websocket.close")
        assert await akick(route="/busy") == Done(0, 0, [])
        site.release.set()
        await server.wait_ended()
        assert server.closes == [1012]
        assert [exc.code for exc in site.ended if exc] == [1012]

    run(test())
    assert len(closes(caplog)) == 1


def test_kick_of_a_handshake(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        site = Site()
        server = connected(site.app, path="/slow", extensions=DENIAL)
        await site.entered.wait()
        await akick(route="/slow", code=4403)
        await server.wait_sent("websocket.http.response.body")
        site.release.set()
        await server.wait_ended()
        assert [m.get("status") for m in server.sent] == [403, None]
        assert [exc.code for exc in site.ended if exc] == [4403]

    run(test())
    assert len(closes(caplog)) == 1


def test_kick_cancels_an_endpoint_that_does_not_notice(settings: Any) -> None:
    settings.FASTWS = {"DISCONNECT_GRACE": 0}
    seen: list[BaseException] = []

    async def test() -> None:
        site = Site()

        async def dependency() -> Any:
            try:
                yield
            except WebSocketDisconnect as exc:
                seen.append(exc)
                raise

        async def endpoint(websocket: WebSocket, _: Any = Depends(dependency)) -> None:
            await websocket.accept()
            site.entered.set()
            await asyncio.Event().wait()

        site.app.add_api_websocket_route("/stuck", endpoint)
        server = connected(site.app, path="/stuck")
        await site.entered.wait()
        await akick(route="/stuck", code=4403)
        await server.wait_ended()
        assert server.closes == [4403]

    run(test())
    assert [getattr(exc, "code", None) for exc in seen] == [4403]


def test_kick_of_a_foreign_application(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        site, entered = Site(), asyncio.Event()

        async def foreign(scope: Any, receive: Any, send: Any) -> None:
            await receive()
            if scope["path"].endswith("open"):
                await send({"type": "websocket.accept"})
            entered.set()
            await asyncio.Event().wait()

        site.app.mount("/foreign", foreign)
        for path, last in [("/foreign/open", 4403), ("/foreign/wait", 1011)]:
            entered.clear()
            server = connected(site.app, path=path)
            await entered.wait()
            assert (await akick(everything=True, code=4403)).count == 1
            await server.wait_ended()
            assert server.closes == [last]  # before accept, the server turns any code into a 403

    run(test())
    assert len(closes(caplog)) == 2


def test_kick_in_middleware_before_there_is_a_socket() -> None:
    async def test() -> None:
        site, entered = Site(), asyncio.Event()

        class Slow:
            def __init__(self, app: Any) -> None:
                self.app = app

            async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
                entered.set()
                await asyncio.Event().wait()

        site.app.add_middleware(Slow)
        server = connected(site.app, path="/ws/1", extensions=DENIAL)
        await entered.wait()
        assert (await akick(everything=True)).count == 1
        await server.wait_ended()
        assert server.types == ["websocket.http.response.start", "websocket.http.response.body"]

    run(test())


async def kicked_once(site: Site, server: FakeServer, code: int) -> None:
    """Wait until the endpoint has ended, and see that there was one close frame and one disconnect."""
    await server.wait_sent("websocket.close")
    server.hang_up(code)
    site.release.set()
    await server.wait_ended()
    assert server.closes == [code]
    assert [exc.code for exc in site.ended if exc] == [code]


def test_kick_of_a_socket_whose_login_is_being_checked(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        site = Site()

        @site.app.websocket("/held")
        async def held(websocket: WebSocket) -> None:
            await websocket.accept()
            login = Login(websocket, websocket.scope["fastws_compat.session"], "5")
            login.hold()
            site.entered.set()
            try:
                await websocket.receive_text()
            except WebSocketDisconnect as exc:
                site.ended.append(exc)

        server = connected(site.app, path="/held")
        await site.entered.wait()
        server.say("held back")
        while server.incoming:
            await asyncio.sleep(0)
        assert await akick(route="/held", code=4403) == Done(1, 1, [])
        await kicked_once(site, server, 4403)

    run(test())
    assert len(closes(caplog)) == 1


def test_kick_of_a_socket_that_is_read_ahead(caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        site, received = Site(), []

        @site.app.websocket("/later")
        async def later(websocket: WebSocket) -> None:
            await websocket.accept()
            site.entered.set()
            await site.release.wait()
            try:
                while True:
                    received.append(await websocket.receive_text())
            except WebSocketDisconnect as exc:
                site.ended.append(exc)

        server = connected(site.app, path="/later")
        await site.entered.wait()
        [found] = census.everybody()
        for number in range(3):
            server.say(f"{number}")
            for _ in range(2):
                found.session.sweep(found.loop.time())
            while server.incoming:
                await asyncio.sleep(0)
        assert found.session.read_ahead is not None
        assert await akick(route="/later", code=4403) == Done(1, 1, [])
        await kicked_once(site, server, 4403)
        assert received in ([], ["0", "1", "2"])  # never some of them

    run(test())
    assert len(closes(caplog)) == 1


@pytest.mark.parametrize("by", ["endpoint", "login", "client"])
def test_kick_of_a_socket_that_is_closing_already(by: str, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        site, logins = Site(), []

        @site.app.websocket("/closing")
        async def closing(websocket: WebSocket) -> None:
            await websocket.accept()
            logins.append(Login(websocket, websocket.scope["fastws_compat.session"], "5"))
            if by == "endpoint":
                await websocket.close(4401)
            site.entered.set()
            await site.release.wait()

        server = connected(site.app, path="/closing")
        await site.entered.wait()
        if by == "login":
            logins[0].end(4401, "")
        elif by == "client":
            [found] = census.everybody()
            server.hang_up(4401)
            while not found.session.is_unaware:
                found.session.sweep(found.loop.time())
                await asyncio.sleep(0)
        assert await akick(route="/closing", code=4403) == Done(0, 0, [])
        site.release.set()
        await server.wait_ended()
        assert server.closes == ([] if by == "client" else [4401])

    run(test())
    assert closes(caplog) == []


def test_kick_over_time() -> None:
    async def test() -> None:
        site = Site()
        opened = [await site.open(f"/ws/{n}") for n in range(4)]
        loop = asyncio.get_running_loop()
        began, done = loop.time(), await akick(everything=True, over=0.4)
        assert done.count == 4
        assert opened[-1].closes == []
        times = []
        for server in opened:
            await server.wait_sent("websocket.close")
            times.append(loop.time() - began)
            await server.leave()
        assert max(times) >= 0.29

    run(test())


def test_kick_needs_a_filter_and_a_code_that_can_be_sent() -> None:
    with pytest.raises(TypeError, match="needs a filter"):
        kick()
    with pytest.raises(ValueError, match="cannot be closed with 1005"):
        kick(everything=True, code=1005)
    for over in (-1, float("nan"), float("inf")):
        with pytest.raises(ValueError, match=f"over={over} is not a number of seconds"):
            kick(everything=True, over=over)
    assert kick(id="gone") == Done(0, 0, [])


# Sending


def test_send_a_text_json_and_bytes() -> None:
    async def test() -> None:
        site = Site()
        server = await site.open()
        [row] = (await asockets()).rows
        assert await asend(row.id, {"notice": "hello"}) == Done(1, 1, [])
        assert await asend(row.id, "plain") == Done(1, 1, [])
        assert await asend(row.id, b"\x01") == Done(1, 1, [])
        assert await asend("gone", "plain") == Done(0, 0, [])
        with pytest.raises(TypeError):
            await asend(row.id, object())
        for expected in ('{"notice":"hello"}', "plain", b"\x01"):
            message = await server.frame()
            while message["type"] != "websocket.send":
                message = await server.frame()
            assert expected in message.values()
        await server.leave()

    run(test())


def test_a_message_waits_in_the_queue_of_the_groups(settings: Any) -> None:
    """A client that does not read is closed, and in the same order with what its groups send."""
    settings.FASTWS = {"SLOW_CONSUMER_QUEUE": 5}

    async def test() -> None:
        site, dam = Site(), Dam()
        dam.open.clear()
        server = await site.open(on_send=dam)
        id = await newest()
        async with asyncio.timeout(20):
            while not (await asockets(state="slow")).rows:
                await Group("room.1").asend("by its group")
                await asyncio.sleep(0)
            waiting = (await asockets()).rows[0].waiting
            for number in range(5 - waiting):
                assert await asend(id, f"by an operator {number}") == Done(1, 1, [])
                await asyncio.sleep(0)
            assert (await asockets()).rows[0].waiting == 5
            while (await asockets(state="slow")).rows:
                await asend(id, "one too many")
                await asyncio.sleep(0)
        dam.open.set()
        await server.wait_sent("websocket.close")
        assert server.closes == [1013]
        await server.leave()

    run(test())


# Other interfaces


def test_sync_calls_from_a_thread() -> None:
    async def test() -> None:
        site = Site()
        server = await site.open()
        page: Page = await asyncio.to_thread(sockets, group="room.1")
        assert page.matched == 1
        assert await asyncio.to_thread(kick, group="room.1") == Done(1, 1, [])
        await server.wait_sent("websocket.close")
        await server.leave()

    run(test())
    assert sockets.__name__ == "sockets"


def test_signal() -> None:
    heard: list[dict[str, Any]] = []

    async def receiver(**values: Any) -> None:
        heard.append(values)

    signals.operated.connect(receiver)

    async def test() -> None:
        await akick(id="gone", by="cron")
        await asend("gone", "x")

    try:
        run(test())
    finally:
        signals.operated.disconnect(receiver)
    assert [(each["action"], each["where"], each["by"]) for each in heard] == [
        ("kick", {"id": ["gone"]}, "cron"),
        ("send", {"id": ["gone"]}, None),
    ]
    assert heard[0]["done"] == Done(0, 0, [])
    assert heard[0]["sender"] is Done


# Answers


def answer(**question: Any) -> dict[str, Any]:
    return asyncio.run(control.respond({"id": "q", **question}))


def test_questions_that_cannot_be_answered() -> None:
    for question in [
        {"op": "new"},
        {"op": "close", "where": {}},
        {"op": "close", "where": {"user": None}},
        {"op": "close", "where": {"colour": "red"}},
        {"op": "send", "where": {"id": ["x"]}, "kind": "sound", "data": ""},
        {"op": "send", "where": {"id": ["x"]}, "kind": "text", "data": 1},
        {"op": "list", "where": "everything"},
    ]:
        found = answer(**question)
        assert found == {
            "type": "fastws.answer",
            "id": "q",
            "process": HERE,
            "last": True,
            "error": "unknown",
        }


def test_old_question_is_stale(settings: Any) -> None:
    assert not control.is_stale({})
    assert not control.is_stale({"at": "now"})  # it is answered with an error, or not at all
    assert not control.is_stale({"at": time.time() - 1.5})
    assert control.is_stale({"at": time.time() - 2.5})


def test_long_answers_come_in_parts() -> None:
    parts = list(control.parts({"id": "q", "rows": list(range(120)), "last": True}))
    assert [len(part["rows"]) for part in parts] == [50, 50, 20]
    assert [part["last"] for part in parts] == [False, False, True]
    assert list(control.parts({"id": "q"})) == [{"id": "q", "rows": [], "last": True}]


def test_totals(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, settings: Any) -> None:
    monkeypatch.setattr(counted, "_totals", {})
    counted.start()  # as the app does
    counted.start()
    counted.stop()  # another reader, such as OpenTelemetry, comes and goes

    async def test() -> None:
        site = Site()
        first, second = await site.open(), connected(site.app, path="/slow")
        assert [each.process for each in await aprocesses()] == [HERE]
        await first.leave()
        third = await site.open("/ws/2")
        await site.entered.wait()
        [process] = await aprocesses()
        assert (process.open, process.handshaking, process.opened, process.closed) == (1, 1, 2, 1)
        assert set(process.routes) == {"/ws/{room}", "/slow"}
        assert process.routes["/ws/{room}"]["opened"] == 2
        assert process.since is not None
        # This server does not count what it sends, and 0 would be wrong.
        assert (process.messages_in, process.messages_out, process.bytes_in) == (0, None, None)
        assert (str(process), process.layer, process.layer_up, process.draining) == (HERE, None, True, False)
        site.release.set()
        await third.leave()
        second.hang_up()
        await second.wait_ended()

    run(test())
    settings.FASTWS = {"METRICS_ROUTES": 1}
    assert totals._of({"/a": {}}, "/b") == dict.fromkeys(totals.COUNTS, 0)
    assert totals.rss()
    monkeypatch.setattr(totals, "STATM", tmp_path / "missing")
    assert totals.rss() is None


def test_lag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "_lags", deque())
    monkeypatch.setattr(counted, "lag", Histogram(counted.LAGS))
    now = [1000.0]
    monkeypatch.setattr(counted, "monotonic", lambda: now[0])
    assert counted.lag_p99() is None
    for hundredth in range(1, 101):
        counted.note_lag(hundredth / 100)
    assert counted.lag_p99() == 0.99
    assert counted.lag.sum == pytest.approx(50.5)

    async def test() -> None:
        site = Site()
        first = await site.open()
        [process] = await aprocesses()
        assert process.lag == 0.99
        assert (await asockets()).traffic[HERE].lag == 0.99
        now[0] += counted.RECENT + 1
        assert (await aprocesses())[0].lag is None  # nothing was measured in the last minute
        await first.leave()

    run(test())


def test_lag_of_a_blocked_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counted, "_lags", deque())
    monkeypatch.setattr(sweeper, "INTERVAL", 0.01)

    async def test() -> None:
        counted.start()
        site = Site()
        first = await site.open()
        while not counted._lags:
            await asyncio.sleep(0.01)
        time.sleep(0.2)
        while (counted.lag_p99() or 0) < 0.15:
            await asyncio.sleep(0.01)
        await first.leave()

    run(test())


# What those see who may not see personal data


@pytest.mark.parametrize("shown", ["mask", "full", "none"])
def test_answers_are_masked_at_the_source(shown: str, settings: Any) -> None:
    settings.FASTWS = {"OPERATIONS_ADDRESS": shown}

    async def test() -> None:
        site = Site()
        headers = [(b"user-agent", FIREFOX.encode())]
        server = await site.open("/ws/secret", client=["203.0.113.7", 5], headers=headers)
        found = await control.respond({"op": "list", "personal": False})
        [row] = found["rows"]
        masked = {
            "mask": ("/ws/{room}", "203.0.113.x", "Firefox", ["room…"]),
            "full": ("/ws/secret", "203.0.113.7", FIREFOX, ["room.secret"]),
            "none": ("/ws/{room}", None, None, ["room…"]),
        }[shown]
        assert (row["path"], row["address"], row["agent"], row["groups"]) == masked
        for search in ("secret", "113.7"):
            page = await api.page({"search": search}, personal=False)
            assert page.matched == (shown == "full")
        assert (await api.page({"group": "room.secret"}, personal=False)).matched == (shown == "full")
        await server.leave()

    run(test())


@pytest.mark.parametrize(
    ("address", "masked"),
    [
        ("203.0.113.7", "203.0.113.x"),
        ("2001:db8:1:2::7", "2001:db8:1::x"),
        ("fe80::1%eth0", "fe80::x"),
        ("::ffff:203.0.113.7", "203.0.113.x"),
        ("unix", None),
        (None, None),
    ],
)
def test_masked_address(address: str | None, masked: str | None) -> None:
    assert masks.address(address) == masked


@pytest.mark.parametrize(
    ("agent", "masked"),
    [
        (FIREFOX, "Firefox"),
        ("Mozilla/5.0 (Windows NT 10.0) AppleWebKit/537.36 Chrome/126.0 Safari/537.36 Edg/126.0", "Edge"),
        ("okhttp/4.12.0", "okhttp"),
        ("<img onerror>", None),
        ("", None),
        (None, None),
    ],
)
def test_masked_agent(agent: str | None, masked: str | None) -> None:
    assert masks.agent(agent) == masked


@pytest.mark.parametrize(
    ("group", "masked"), [("alarms", "alarms"), ("room.5", "room…"), ("5", "…"), ("fastws.user.7", "fastws…")]
)
def test_masked_group(group: str, masked: str) -> None:
    assert masks.group(group) == masked


def test_agent_without_control_characters() -> None:
    async def test() -> None:
        site = Site()
        server = await site.open(headers=[(b"user-agent", b"a\x1b[31mb")])
        assert (await asockets()).rows[0].agent == "a\N{REPLACEMENT CHARACTER}[31mb"
        await server.leave()

    run(test())


def test_process_without_sockets_says_nothing() -> None:
    code = """
import django
from django.conf import settings
apps = ["django.contrib.auth", "django.contrib.contenttypes", "fastws_compat", "fastws_compat.operations"]
settings.configure(INSTALLED_APPS=apps)
django.setup()
from fastws_compat.operations import sockets, processes
page = sockets()
print(page.total, page.processes, page.local, processes())
import sys
print({"pydantic", "fastws_compat.websockets", "redis", "websockets"} & sys.modules.keys())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "0 [] True []\nset()\n", done.stderr


# The line


class Layer:
    """A layer with one channel; like the pub/sub layer, it drops a channel whose `receive` is cancelled."""

    def __init__(self) -> None:
        self.joined: list[str] = []
        self.queue: asyncio.Queue[Any] = asyncio.Queue()
        self.sent: list[tuple[str, Any]] = []
        self.full = 0
        self.lost = False

    async def new_channel(self) -> str:
        return "specific"

    async def group_add(self, group: str, channel: str) -> None:
        assert not self.lost
        self.joined.append(group)

    async def group_discard(self, group: str, channel: str) -> None: ...

    async def receive(self, channel: str) -> Any:
        try:
            return await self.queue.get()
        except asyncio.CancelledError:
            self.lost = True
            raise

    async def send(self, channel: str, message: Any) -> None:
        if self.full:
            self.full -= 1
            raise ChannelFull
        self.sent.append((channel, message))

    async def sent_soon(self, count: int) -> list[Any]:
        async with asyncio.timeout(20):
            while len(self.sent) < count:
                await asyncio.sleep(0.01)
        return [message for _, message in self.sent]


def test_membership_is_renewed_without_losing_the_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subscription, "RENEWAL_INTERVAL", 0.01)

    async def test() -> None:
        layer, heard, got = Layer(), list[Any](), asyncio.Event()

        def hear(message: Any) -> None:
            heard.append(message)
            got.set()

        task = asyncio.create_task(subscription.Subscription(layer, "group", hear, lambda: None).run())
        while len(layer.joined) < 3:
            await asyncio.sleep(0.01)
        layer.queue.put_nowait({"n": 1})
        await got.wait()
        assert not layer.lost
        assert heard == [{"n": 1}]
        task.cancel()
        await asyncio.wait([task])

    run(test())


@pytest.fixture
def shared(monkeypatch: pytest.MonkeyPatch) -> Layer:
    layer = Layer()
    for module in ("line", "survey"):
        monkeypatch.setattr(f"fastws_compat.operations.{module}.shared_layer", lambda: layer)
    return layer


def test_line_answers_once_per_process(shared: Layer, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        line = Line()
        line.begin()
        line.begin()  # another loop of the process would do this
        assert line.is_joined
        shared.full = 1
        for message in [
            {"type": "other"},
            {"type": "fastws.control", "op": "count", "asker": sender_id(), "reply": "own"},
            {"type": "fastws.control", "op": "count", "at": time.time() - 60.4, "reply": "old"},
            {"type": "fastws.control", "op": "count", "at": 1.0, "reply": "old"},
            {"type": "fastws.control", "op": "count"},
            {"type": "fastws.control", "op": "count", "id": "q", "reply": "asker"},
        ]:
            shared.queue.put_nowait(message)
        [answer] = await shared.sent_soon(1)
        assert (answer["id"], answer["total"], answer["last"]) == ("q", 0, True)
        assert shared.sent[0][0] == "asker"

    run(test())
    assert "An operator's question could not be answered (KeyError: 'reply')" in caplog.messages
    [late] = [each for each in caplog.messages if "is not answered" in each]
    assert re.match(r"An operator's question that was sent 6\d s ago is not answered: this process", late)


def test_an_answer_is_lost_once_the_asker_takes_none(
    shared: Layer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for pause in ("MIN_PAUSE", "MAX_PAUSE"):
        monkeypatch.setattr(operations_line, pause, 0)

    async def test() -> None:
        line = Line()
        line.begin()
        shared.full = 2 * operations_line.MAX_RETRIES + 1
        for id in ("lost", "late"):  # the second needs all its attempts
            shared.queue.put_nowait({"type": "fastws.control", "op": "count", "id": id, "reply": "asker"})
            async with asyncio.timeout(20):
                while not (shared.sent or "ChannelFull" in caplog.text):
                    await asyncio.sleep(0)
        [answer] = await shared.sent_soon(1)
        assert answer["id"] == "late"

    run(test())
    assert len([text for text in caplog.messages if "(ChannelFull)" in text]) == 1


def test_survey_waits_for_those_it_knows(shared: Layer, settings: Any) -> None:
    settings.FASTWS = {"OPERATIONS_TIMEOUT": 0.5}

    async def group_send(group: str, question: Any) -> None:
        for name in answering:
            answer = {"id": question["id"], "process": name, "total": 2, "matched": 1, "rows": []}
            shared.queue.put_nowait(answer)
        shared.queue.put_nowait({"id": question["id"], "process": "old:1", "error": "unknown"})
        shared.queue.put_nowait({"id": "another", "process": "late:1"})

    shared.group_send = group_send  # type: ignore[attr-defined]
    answering = ["a:1", "b:1"]

    async def test() -> None:
        page = await asockets()
        assert (page.total, page.matched, page.silent, page.older) == (4, 2, [], ["old:1"])
        answering.pop()
        loop = asyncio.get_running_loop()
        began = loop.time()
        assert (await asockets()).silent == ["b:1"]
        assert loop.time() - began > 0.4
        settings.FASTWS, began = {"OPERATIONS_TIMEOUT": 60}, loop.time()
        assert (await asockets()).silent == ["b:1"]
        assert loop.time() - began < 30  # it was silent before, so nobody waits for it
        survey._known[shared]["b:1"].at -= survey.MEMORY
        assert (await asockets()).silent == []

    run(test())


def test_survey_of_many_processes(shared: Layer) -> None:
    names = {f"web-{number}:1" for number in range(120)}

    async def group_send(group: str, question: Any) -> None:
        for name in names:
            answer = {"id": question["id"], "process": name, "total": 3, "matched": 2, "rows": []}
            shared.queue.put_nowait(answer)

    shared.group_send = group_send  # type: ignore[attr-defined]

    async def test() -> None:
        page = await asockets()
        assert (page.total, page.matched, page.silent) == (360, 240, [])
        assert set(page.processes) == names

    run(test())


def test_survey_of_a_layer_that_fails(shared: Layer, caplog: pytest.LogCaptureFixture) -> None:
    async def test() -> None:
        page = await asockets()  # the layer has no group_send
        assert page.unreached_since is not None
        assert (await asockets()).unreached_since == page.unreached_since

    run(test())
    assert len([text for text in caplog.messages if "cannot be asked" in text]) == 1
    survey._note_success()


def test_nobody_is_told_of_an_act_before_the_signals_are_imported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fastws_compat.signals", raising=False)

    async def test() -> None:
        site = Site()
        server = await site.open()
        assert await akick(route="/none") == Done(0, 0, [])
        await server.leave()

    run(test())
    assert "fastws_compat.signals" not in sys.modules


def test_drain_closes_the_sockets_of_one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    async def test() -> None:
        site = Site()
        server = await site.open()
        assert await api.drain({"process": "other:1"}, over=0, undo=False) == Done(0, 0, [])
        assert await api.drain({"process": HERE}, over=0, undo=True) == Done(1, 1, [])
        assert server.closes == []
        try:
            assert await api.drain({"everything": True}, over=0, undo=False) == Done(1, 1, [])
            await server.wait_sent("websocket.close")
        finally:
            await api.drain({"everything": True}, over=0, undo=True)
        assert server.closes == [1012]
        await server.leave()

    run(test())


WITHOUT_ADMIN = """
import sys
import django
from django.conf import settings
settings.configure(
    SECRET_KEY="x",
    INSTALLED_APPS=[
        "django.contrib.contenttypes", "django.contrib.auth", "fastws_compat", "fastws_compat.operations"
    ],
)
django.setup()
from django.core.checks import run_checks
from fastws_compat import FastAPI, WebSocket
from fastws_compat.operations import audit, kick, processes, sockets
from fastws_compat.testclient import TestClient

app = FastAPI()

@app.websocket("/ws")
async def endpoint(websocket: WebSocket) -> None:
    await websocket.accept()
    async for _ in websocket.iter_text():
        pass

with TestClient(app).websocket_connect("/ws") as websocket:
    [row] = sockets().rows
    audit.log(audit.Deed("kick", row.id, "/ws", "code 4000"), "me", kick(id=row.id, code=4000))
    print(row.route, websocket.receive()["code"], len(processes()))
print([each.id for each in run_checks() if each.id.startswith("fastws_operations")])
print([name for name in sys.modules if name.startswith("django.contrib.admin")])
"""


@pytest.mark.parametrize("served_by", [lambda app: app, lambda app: app.router])
def test_a_process_is_known_from_its_lifespan_on(served_by: Any) -> None:
    """Also one that serves an application without `get_asgi_application`, before it has a socket."""

    async def test() -> None:
        known: list[bool] = []

        async def receive() -> Any:
            known.append(asyncio.get_running_loop() in dict(registries()))
            return {"type": "lifespan.startup" if len(known) == 1 else "lifespan.shutdown"}

        async def send(message: Any) -> None: ...

        await served_by(FastAPI())({"type": "lifespan", "state": {}}, receive, send)
        assert known == [False, True]

    run(test())


def test_only_the_pages_need_the_admin() -> None:
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_ADMIN], capture_output=True, text=True, timeout=60, cwd=ROOT
    )
    assert done.stdout == "/ws 4000 1\n[]\n[]\n", done.stderr


def test_an_undone_drain_leaves_the_other_sockets_open(monkeypatch: pytest.MonkeyPatch) -> None:
    later: list[tuple[float, Callable[[], None]]] = []
    monkeypatch.setattr(acts, "soon", lambda found, act, seconds=0: later.append((seconds, act)))

    async def test() -> None:
        site = Site()
        opened = [await site.open(f"/ws/{n}") for n in range(3)]
        try:
            assert await api.drain({"process": HERE}, over=60, undo=False) == Done(3, 1, [])
            assert [seconds for seconds, _ in later] == [0, 20, 40]
            (_, first), *others = later
            first()
        finally:
            await api.drain({"process": HERE}, over=0, undo=True)
        for _, act in others:
            act()
        ends = [asyncio.create_task(each.wait_sent("websocket.close")) for each in opened]
        _, pending = await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        for end in pending:
            end.cancel()
        for server in opened:
            await server.leave()
        assert sorted(server.closes for server in opened) == [[], [], [1012]]

    run(test())


def test_a_drain_refuses_a_handshake_with_503() -> None:
    """Clients and proxies try elsewhere after a 503, and not after a 403."""

    async def test() -> None:
        site = Site()
        server = connected(site.app, path="/slow", extensions=DENIAL)
        await site.entered.wait()
        try:
            assert await api.drain({"process": HERE}, over=0, undo=False) == Done(1, 1, [])
            await server.wait_sent("websocket.http.response.body")
        finally:
            await api.drain({"process": HERE}, over=0, undo=True)
        site.release.set()
        await server.wait_ended()
        start = server.sent[0]
        assert start["status"] == 503
        assert b"Retry-After" in dict(start["headers"])
        assert [exc.code for exc in site.ended if exc] == [1012]

    run(test())
