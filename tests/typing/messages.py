"""What type checkers see of typed messages: mypy in strict mode, and pyright.

Both report a `type: ignore` on a line without an error.
"""

# pyright: reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from typing import Literal, assert_never, assert_type

from pydantic import BaseModel

from fastws_compat import Call, FastAPI, Reply, TypedWebSocket, WebSocket


class Post(BaseModel):
    type: Literal["post"] = "post"
    text: str


class Found(Reply):
    type: Literal["found"] = "found"
    hits: list[str] = []


class Other(Reply):
    type: Literal["other"] = "other"


class Search(Call[Found]):
    type: Literal["search"] = "search"
    q: str


class Said(BaseModel):
    type: Literal["said"] = "said"
    text: str


app = FastAPI(on_invalid="close", max_invalid=3)


@app.websocket("/", heartbeat=True, on_invalid="raise", max_invalid=None, tags=["chat"])
async def room(websocket: TypedWebSocket[Post | Search, Said | Found]) -> None:
    await websocket.accept()
    assert_type(await websocket.receive_message(), Post | Search)
    async for message in websocket:
        assert_type(message, Post | Search)
        match message:
            case Post():
                await websocket.send_message(Said(text=message.text))
                await websocket.send_message(Post(text="x"))  # type: ignore[arg-type]
                await websocket.send_error(404, "gone", to=message)
            case Search():
                await websocket.reply(message, Found(hits=[message.q]))
                await websocket.reply(message, Other())  # type: ignore[misc]
            case _:
                assert_never(message)
    plain: WebSocket = websocket
    await plain.send_text("x")


@app.websocket("/docs", receives=Post | Search, sends=Said)
async def documented(websocket: WebSocket) -> None: ...


@app.websocket("/silent")
async def silent(websocket: TypedWebSocket[None, Said]) -> None:
    await websocket.receive_message()


@app.websocket("/binary", binary_json=True)
async def binary(websocket: TypedWebSocket[Post | bytes, bytes]) -> None:
    assert_type(await websocket.receive_message(), Post | bytes)


app.websocket("/wrong", on_invalid="ignore")  # type: ignore[arg-type]
