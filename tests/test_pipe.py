"""The stages between the server and the socket of one connection."""

from __future__ import annotations

import asyncio
import inspect
import re
import textwrap
from pathlib import Path
from typing import Any

import pytest

from fastws_compat import FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.connections import pipe
from fastws_compat.connections.pipe import Place, Stage, is_direct, passes, pipe_of
from fastws_compat.connections.readahead import ReadAhead
from fastws_compat.connections.states import SESSION
from fastws_compat.groups import Group
from tests.fake_server import FakeServer, connected, converse, text

DESIGN = Path(__file__).resolve().parents[1] / "docs" / "design.md"


def example() -> Any:
    """The stage of docs/design.md, with its entry added to `Place` as the document says."""
    section = DESIGN.read_text().split("\n## The pipe\n")[1].split("\n## ")[0]
    entry, code = re.findall(r"```python pipe\n(.*?)```", section, re.S)
    names = {**vars(pipe)}
    exec(inspect.getsource(Place) + textwrap.indent(entry, "    "), names)
    exec("from __future__ import annotations\n" + code, names)
    return names["Counter"]


class Tracing(Stage):
    """Records who handles a message."""

    def __init__(self, name: str, trace: list[str]) -> None:
        self.name, self.trace = name, trace

    async def receive(self) -> Any:
        message = await self._receive()
        self.trace.append(f"{self.name} receives")
        return message

    async def send(self, message: Any) -> None:
        self.trace.append(f"{self.name} sends")
        await self._send(message)


def tracing(place: Place, trace: list[str]) -> Tracing:
    stage = Tracing(place.name, trace)
    stage.place = place  # type: ignore[misc]
    return stage


def echo_with(*stages: Stage) -> FastAPI:
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        for stage in stages:
            pipe_of(websocket).insert(stage)
        await websocket.send_text(await websocket.receive_text())
        for stage in stages:
            pipe_of(websocket).remove(stage)
        await websocket.send_text("bye")

    return app


def test_the_order_does_not_depend_on_who_comes_first() -> None:
    for places in (list(Place), list(reversed(Place))):
        trace: list[str] = []
        sent = converse(echo_with(*(tracing(place, trace) for place in places)), text("hi"))
        assert [message.get("text") for message in sent[1:3]] == ["hi", "bye"]
        names = [place.name for place in Place]
        assert trace == [f"{n} receives" for n in names] + [f"{n} sends" for n in reversed(names)]


def test_the_places_in_their_order() -> None:
    assert [place.name for place in Place] == [
        "HELLO",
        "SIGNALS",
        "GUARD",
        "READ_AHEAD",
        "LOGIN",
        "TRACES",
        "TAP",
    ]
    assert ReadAhead.place is Place.READ_AHEAD


def test_a_connection_without_stages_has_no_pipe() -> None:
    app, seen = FastAPI(), []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        server_send = websocket.scope[SESSION].server_send
        seen.append((websocket._pipe, is_direct(websocket, server_send), passes(websocket)))
        pipe_of(websocket).insert(tracing(Place.GUARD, []))
        seen.append((is_direct(websocket, server_send), passes(websocket)))

    converse(app)
    assert seen == [(None, True, True), (True, False)]


def test_removing_a_stage_that_is_not_there_does_nothing() -> None:
    stage = tracing(Place.GUARD, [])

    @(app := FastAPI()).websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        pipe_of(websocket).remove(stage)
        await websocket.send_text("ok")

    assert converse(app)[1]["text"] == "ok"


def test_the_stage_of_the_design_document() -> None:
    counter = example()()
    converse(echo_with(counter), text("hi"))
    assert (counter.received, counter.sent) == (1, 1)


def test_a_broadcast_passes_through_the_stage_of_the_design_document() -> None:
    counter = example()()

    @(app := FastAPI()).websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        pipe_of(websocket).insert(counter)
        await websocket.join("g")
        await websocket.send_text("joined")
        await websocket.receive()

    async def main() -> None:
        server = connected(app)
        await server.frame()
        assert await server.text() == "joined"
        await Group("g").asend("hi")
        assert await server.text() == "hi"
        await server.leave()

    asyncio.run(main())
    assert counter.sent == 2


@pytest.mark.parametrize("kind", ["receive", "send"])
def test_a_connection_that_was_cut_raises_behind_every_stage(kind: str) -> None:
    trace: list[str] = []
    codes: list[int] = []

    @(app := FastAPI()).websocket("/ws")
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()
        await pipe.hang_up(websocket, 4000, "enough")
        pipe_of(websocket).insert(tracing(Place.LOGIN, trace))
        try:
            await (websocket.receive_text() if kind == "receive" else websocket.send_text("late"))
        except WebSocketDisconnect as exc:
            codes.append(exc.code)

    async def main() -> FakeServer:
        server = connected(app)
        await server.wait_ended()
        return server

    server = asyncio.run(main())
    assert (codes, server.closes, server.texts, trace) == ([4000], [4000], [], [])
