"""Typed messages in process: what validation both ways costs on top of JSON.

    python -m benchmarks.typed [--quick]

Microseconds per message on one connection. "raw" is this library's receive_json and send_json, "by hand" is
pydantic around them, "error" is an invalid message and the answer to it.
"""

# Annotations are evaluated here: they name local classes.

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Annotated, Any, Literal

from benchmarks import peers
from benchmarks.in_process import echoes
from benchmarks.peers import OURS
from benchmarks.report import Ratio, Table, in_turn, main, rounds

TEXT = '{"type":"post","text":"Hello, world!"}'
BAD = '{"type":"post","text":1,"id":"c7"}'
RICH = (
    '{"type":"rich","id":"00000000-0000-0000-0000-000000000007","day":"2026-01-02",'
    '"author":{"name":"Ann","tags":["a","b"]},"text":"Hello, world!"}'
)
CHANX = '{"action":"message","payload":{"text":"Hello, world!"}}'
COUNTS = {"chanx": 100}


def tables(quick: bool) -> Iterator[Table]:
    app = ours()
    by_library = {name: peers.MAKERS[name]() for name in peers.available("fastapi", "chanx")}
    table = Table("Typed messages in process", "us per message")
    for row, text in (("one string", TEXT), ("UUID, date and a nested model", RICH)):
        runs = {
            "typed": measured(app, "/typed", text, quick),
            "typed router": measured(app, "/router", text, quick),
            "raw": measured(app, "/raw", text, quick),
            "by hand": measured(app, "/hand", text, quick),
        }
        if "fastapi" in by_library:
            runs["fastapi, untyped"] = measured(by_library["fastapi"], "/json", text, quick)
        if "chanx" in by_library and row == "one string":
            runs["chanx"] = measured(by_library["chanx"], "/json", CHANX, quick, 100)
        table.add(
            row,
            in_turn(rounds(15, quick), runs),
            Ratio("typed", "raw", "<= 2" if row == "one string" else ""),
            Ratio("typed", "fastapi, untyped", "<= 1.1" if row == "one string" else ""),
            Ratio("typed", "by hand", "<= 0.65"),
            Ratio("chanx", "typed", ">= 25" if row == "one string" else ""),
        )
    error = {"typed": measured(app, "/typed", BAD, quick), "raw": measured(app, "/raw", BAD, quick)}
    table.add("a message that does not fit", in_turn(rounds(15, quick), error), Ratio("typed", "raw"))
    yield table


def measured(app: Any, path: str, text: str, quick: bool, count: int = 10_000) -> Callable[[], float]:
    message = {"type": "websocket.receive", "text": text}
    return partial(echoes, app, path, message, 10 if quick else count)


def ours() -> Any:
    peers.django()
    library = importlib.import_module(OURS)
    pydantic = importlib.import_module("pydantic")
    datetime, uuid = importlib.import_module("datetime"), importlib.import_module("uuid")
    BaseModel, WebSocket, TypedWebSocket = pydantic.BaseModel, library.WebSocket, library.TypedWebSocket

    class Post(BaseModel):  # type: ignore[misc, valid-type]
        type: Literal["post"] = "post"
        text: str

    class Author(BaseModel):  # type: ignore[misc, valid-type]
        name: str
        tags: list[str]

    class Rich(BaseModel):  # type: ignore[misc, valid-type]
        type: Literal["rich"] = "rich"
        id: uuid.UUID
        day: datetime.date
        author: Author
        text: str

    messages: Any = Post | Rich
    socket = TypedWebSocket[messages, messages]
    app = library.FastAPI(max_invalid=None)
    handlers = library.MessageRouter()

    @handlers.on
    async def same(message: messages) -> messages:
        return message

    @app.websocket("/typed")
    async def typed(websocket: socket) -> None:  # type: ignore[valid-type]
        await websocket.accept()
        async for message in websocket:
            await websocket.send_message(message)

    @app.websocket("/router", handlers=handlers)
    async def router(websocket: socket) -> None:  # type: ignore[valid-type]
        await websocket.accept()
        await websocket.serve()

    @app.websocket("/raw")
    async def raw(websocket: WebSocket) -> None:
        await websocket.accept()
        async for value in websocket.iter_json():
            await websocket.send_json(value)

    adapter = pydantic.TypeAdapter(Annotated[messages, pydantic.Field(discriminator="type")])

    @app.websocket("/hand")
    async def hand(websocket: WebSocket) -> None:
        await websocket.accept()
        async for value in websocket.iter_json():
            message = adapter.validate_python(value)
            await websocket.send_json(message.model_dump(mode="json"))

    return app


if __name__ == "__main__":
    main(__doc__, tables)
