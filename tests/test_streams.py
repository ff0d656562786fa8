"""Generator endpoints: what they yield is sent, and they clean up however they end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Annotated, Any

import anyio
import pytest
from pydantic import BaseModel

from fastws_compat import (
    APIRouter,
    Depends,
    FastAPI,
    HTTPException,
    TypedWebSocket,
    WebSocket,
    WebSocketDisconnect,
)
from fastws_compat.exceptions import DeclarationError, ResponseValidationError
from fastws_compat.testclient import TestClient


class Price(BaseModel):
    amount: int


def connect(app: FastAPI, path: str = "/") -> Any:
    return TestClient(app).websocket_connect(path)


def code_of(socket: Any) -> int:
    with pytest.raises(WebSocketDisconnect) as caught:
        while True:
            socket.receive_message()
    return caught.value.code


@pytest.mark.parametrize("kind", [AsyncIterator, AsyncIterable, AsyncGenerator])
def test_items_are_sent_and_the_end_is_1000(kind: Any) -> None:
    app = FastAPI()

    async def prices(symbol: str, after: int = 0) -> Any:
        yield Price(amount=after + 1)
        yield {"amount": after + 2}

    prices.__annotations__["return"] = kind[Price, None] if kind is AsyncGenerator else kind[Price]
    app.websocket("/prices/{symbol}")(prices)
    with connect(app, "/prices/x?after=4") as socket:
        assert [socket.receive_message() for _ in range(2)] == [Price(amount=5), Price(amount=6)]
        assert code_of(socket) == 1000


def test_dependencies_refuse_before_the_stream_is_accepted() -> None:
    app = FastAPI()

    async def refuse() -> None:
        raise HTTPException(404)

    @app.websocket("/", dependencies=[Depends(refuse)])
    async def prices() -> AsyncIterator[Price]:
        yield Price(amount=1)

    with pytest.raises(WebSocketDisconnect) as caught, connect(app):
        pass
    assert getattr(caught.value, "status_code", None) == 404


def test_a_stream_with_a_socket_accepts_itself() -> None:
    app = FastAPI()

    @app.websocket("/")
    async def prices(websocket: TypedWebSocket[None, Price]) -> AsyncIterator[Price]:
        await websocket.accept(subprotocol="prices")
        yield Price(amount=1)

    with TestClient(app).websocket_connect("/", subprotocols=["prices"]) as socket:
        assert socket.accepted_subprotocol == "prices"
        assert socket.receive_message() == Price(amount=1)


def test_a_stream_may_close_itself() -> None:
    app = FastAPI()

    @app.websocket("/")
    async def prices(websocket: TypedWebSocket[None, Price]) -> AsyncIterator[Price]:
        await websocket.accept()
        await websocket.close(4010, "own")
        await asyncio.sleep(0)
        return
        yield

    with connect(app) as socket:
        assert code_of(socket) == 4010


def test_a_plain_socket_will_do() -> None:
    app = FastAPI()

    @app.websocket("/")
    async def prices(websocket: WebSocket) -> AsyncIterator[Price]:
        await websocket.accept()
        yield Price(amount=1)

    with connect(app) as socket:
        assert socket.receive_message() == Price(amount=1)


def test_an_exception_is_1011_and_a_misfit_too() -> None:
    for item in (Price.model_construct(amount="x"), {"amount": "x"}):
        app = FastAPI()
        finished = []

        @app.websocket("/")
        async def prices() -> AsyncIterator[Price]:
            try:
                yield item  # type: ignore[misc]
            finally:
                finished.append(1)

        with pytest.raises(ResponseValidationError), connect(app) as socket:
            socket.receive_message()
        with TestClient(app, raise_server_exceptions=False).websocket_connect("/") as socket:
            assert code_of(socket) == 1011
        assert finished == [1, 1]


def test_the_client_leaves_in_the_middle() -> None:
    app = FastAPI()
    finished: list[Any] = []

    @app.websocket("/")
    async def prices() -> AsyncIterator[Price]:
        task = asyncio.current_task()
        try:
            async with asyncio.timeout(600):
                yield Price(amount=1)
                await asyncio.sleep(600)
        finally:
            await asyncio.sleep(0)
            finished.append(asyncio.current_task() is task)

    with connect(app) as socket:
        socket.receive_message()
    assert finished == [True]


def test_a_generator_that_swallows_the_cancellation_is_closed() -> None:
    app = FastAPI()
    finished: list[str] = []

    @app.websocket("/")
    async def prices() -> AsyncIterator[Price]:
        try:
            yield Price(amount=1)
            try:
                await asyncio.sleep(600)
            except asyncio.CancelledError:
                yield Price(amount=2)
        finally:
            finished.append("closed")

    with connect(app) as socket:
        socket.receive_message()
    assert finished == ["closed"]


def test_what_the_client_says_is_answered_415() -> None:
    app = FastAPI()

    @app.websocket("/", max_invalid=2)
    async def prices() -> AsyncIterator[Price]:
        yield Price(amount=1)
        await asyncio.sleep(600)

    with connect(app) as socket:
        socket.receive_message()
        for _ in range(2):
            socket.send_text("x")
            assert socket.receive_message().status == 415
        socket.send_text("x")
        assert code_of(socket) == 1003


def test_a_raised_misfit_ends_the_stream() -> None:
    app = FastAPI()

    @app.websocket("/", on_invalid="raise")
    async def prices() -> AsyncIterator[Price]:
        yield Price(amount=1)
        await asyncio.sleep(600)

    with TestClient(app, raise_server_exceptions=False).websocket_connect("/") as socket:
        socket.receive_message()
        socket.send_text("x")
        assert code_of(socket) == 1003


def test_cleanup_is_bounded(settings: Any) -> None:
    settings.FASTWS = {"CLEANUP_TIMEOUT": 0.05}
    app = FastAPI()

    @app.websocket("/")
    async def prices() -> AsyncIterator[Price]:
        try:
            while True:
                yield Price(amount=1)
        finally:
            await asyncio.sleep(600)

    with pytest.raises(TimeoutError, match="stream took longer"), connect(app) as socket:
        socket.receive_message()


def test_cleanup_is_shielded_from_a_cancel_scope_around_the_application() -> None:
    app = FastAPI()
    finished: list[str] = []
    around: list[anyio.CancelScope] = []

    @app.websocket("/")
    async def prices() -> AsyncIterator[Price]:
        with anyio.CancelScope():
            try:
                yield "a misfit"
            finally:
                around[0].cancel()
                await asyncio.sleep(0)
                finished.append("closed")

    async def scoped(scope: Any, receive: Any, send: Any) -> None:
        with anyio.CancelScope() as outer:
            around.append(outer)
            await app(scope, receive, send)

    # After the cleanup, the scope may swallow the misfit's exception: the application has then just returned.
    misfit = pytest.raises((ResponseValidationError, RuntimeError))
    with misfit, TestClient(scoped).websocket_connect("/") as socket:
        code_of(socket)
    assert finished == ["closed"]


def test_a_stream_in_an_included_router() -> None:
    app, router = FastAPI(), APIRouter(prefix="/x")

    @router.websocket("/")
    async def prices(amount: Annotated[int, Depends(number)]) -> AsyncIterator[Price]:
        """The prices."""
        yield Price(amount=amount)

    app.include_router(router)
    with connect(app, "/x/") as socket:
        assert socket.receive_message() == Price(amount=1)
    app.dependency_overrides[number] = lambda: 5
    with connect(app, "/x/") as socket:
        assert socket.receive_message() == Price(amount=5)
    route: Any = app.routes[0].expanded()[0]
    assert route.endpoint is prices
    assert (route.summary, route.contract.sends, route.contract.receives) == ("The prices.", (Price,), ())


async def number() -> int:
    return 1


def declare(annotation: Any, socket: Any = None) -> None:
    async def endpoint(websocket: Any = None) -> Any:
        yield 1

    endpoint.__annotations__["return"] = annotation
    if socket is not None:
        endpoint.__annotations__["websocket"] = socket
        endpoint.__defaults__ = None
    FastAPI().websocket("/")(endpoint)


@pytest.mark.parametrize(
    ("annotation", "socket", "words"),
    [
        (Any, None, "no 'yield'"),
        (Price, None, "no 'yield'"),
        (AsyncIterator, None, "no 'yield'"),
        (AsyncIterator[Price], TypedWebSocket[Price, Price], "reads nothing"),
        (AsyncIterator[Price], TypedWebSocket[None, int], "write the same"),
    ],
)
def test_generator_that_cannot_work(annotation: Any, socket: Any, words: str) -> None:
    with pytest.raises(DeclarationError, match=words):
        declare(annotation, socket)
