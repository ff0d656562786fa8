"""Endpoints and dependencies whose annotations are strings; `build` creates them for one library."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from decimal import Decimal

# The library that the annotations below refer to; set by `build`.
WebSocket: Any = None
Query: Any = None
Depends: Any = None
Token: Any = None


class Page(BaseModel):
    limit: int = 10


@dataclass
class Words:
    first: str
    last: str = "none"


def token(x_token: int) -> Decimal:
    """Only type checkers can resolve the return annotation."""
    return x_token * 2  # type: ignore[return-value]


async def generated(q: int = 0) -> AsyncIterator[int]:
    yield q


class Room:
    def __init__(self, room: int, page: Annotated[Page, Query()]):
        self.room, self.page = room, page


class Caller:
    def __call__(self, q: int) -> Decimal:
        return q + 1  # type: ignore[return-value]

    async def method(self, q: int) -> Decimal:
        return q + 2  # type: ignore[return-value]


def decorated(call: Any) -> Any:
    @functools.wraps(call)
    async def wrapper(*args: Any, **kwargs: Any) -> Any:
        return await call(*args, **kwargs)

    return wrapper


def build(lib: Any) -> Any:
    """An application of `lib` with one route per question."""
    global WebSocket, Query, Depends, Token
    WebSocket, Query, Depends = lib.WebSocket, lib.Query, lib.Depends
    Token = Annotated[int, lib.Depends(token)]
    app = lib.FastAPI()

    @app.websocket("/typed/{number}")
    async def typed(websocket: WebSocket, number: int, q: Annotated[int, Query(gt=3)] = 5) -> None:
        await websocket.accept()
        await websocket.send_json([number, q])

    @app.websocket("/decorated/{number}")
    @decorated
    async def wrapped(websocket: WebSocket, number: int) -> None:
        await websocket.accept()
        await websocket.send_json(number)

    @app.websocket("/depends")
    async def depends(websocket: WebSocket, value: Token, other: int = Depends(generated)) -> None:
        await websocket.accept()
        await websocket.send_json([value, other])

    @app.websocket("/class")
    async def words(websocket: WebSocket, words: Annotated[Words, Depends()]) -> None:
        await websocket.accept()
        await websocket.send_json([words.first, words.last])

    @app.websocket("/init")
    async def room(websocket: WebSocket, room: Room = Depends()) -> None:
        await websocket.accept()
        await websocket.send_json([room.room, room.page.limit])

    @app.websocket("/callable")
    async def callable_(
        websocket: WebSocket, one: int = Depends(Caller()), two: int = Depends(Caller().method)
    ) -> None:
        await websocket.accept()
        await websocket.send_json([one, two])

    @app.websocket("/partial")
    async def partial(websocket: WebSocket, value: Annotated[int, Depends(functools.partial(token))]) -> None:
        await websocket.accept()
        await websocket.send_json(value)

    @app.websocket("/quoted")
    async def quoted(websocket: WebSocket, q: int, many: Annotated[list[int], Query()]) -> None:
        await websocket.accept()
        await websocket.send_json([q, many])

    return app
