"""Annotations without quotes that only type checkers can resolve, which Python 3.14 evaluates on access."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel

from fastws_compat import Depends, FastAPI, Query, TypedWebSocket, WebSocket
from fastws_compat.authentication import AuthCredentials, requires
from fastws_compat.checks import application
from fastws_compat.exceptions import DeclarationError
from fastws_compat.testclient import TestClient
from tests.fake_server import CONNECT, FakeServer, websocket_scope

if TYPE_CHECKING:
    from decimal import Decimal

pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="older versions evaluate them at once")


def refusal(endpoint: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        FastAPI().websocket("/ws")(endpoint)
    return str(caught.value)


def test_parameters_are_refused_in_one_sentence() -> None:
    async def plain(websocket: WebSocket, amount: Decimal) -> None: ...
    async def optional(websocket: WebSocket, amount: Decimal | None = None) -> None: ...
    async def several(websocket: WebSocket, amount: Annotated[list[Decimal], Query()]) -> None: ...

    for endpoint, name in ((plain, "Decimal"), (optional, "Decimal | None"), (several, "Decimal")):
        assert refusal(endpoint) == (
            f"Annotation {name!r} of parameter 'amount' of {endpoint.__name__} cannot be resolved: import or "
            "define the name at the top of its module."
        )


def test_the_class_of_a_dependency_is_refused_too() -> None:
    class Filter:
        def __init__(self, amount: Decimal) -> None: ...

    async def chat(websocket: WebSocket, filter: Annotated[Filter, Depends()]) -> None: ...

    assert refusal(chat).startswith("Annotation 'Decimal' of parameter 'amount' of Filter cannot be resolved")


def test_a_dependency_provides_the_value() -> None:
    """FastAPI does not need the type of a parameter that has a dependency, and neither does this library."""

    def price() -> Decimal:
        return 3  # type: ignore[return-value]

    app = FastAPI()

    @app.websocket("/ws")
    async def chat(websocket: WebSocket, price: Annotated[Decimal, Depends(price)]) -> None:
        await websocket.accept()
        await websocket.send_text(str(price))

    with TestClient(app).websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "3"


def test_messages_that_are_defined_below() -> None:
    app = FastAPI()

    @app.websocket("/ws")
    async def chat(websocket: TypedWebSocket[Asked, Answered]) -> None:
        await websocket.accept()
        async for message in websocket:
            await websocket.send_message(Answered(text=message.text))

    with TestClient(app).websocket_connect("/ws") as websocket:
        websocket.send_json({"text": "hello"})
        assert websocket.receive_json() == {"text": "hello"}


class Asked(BaseModel):
    text: str


class Answered(BaseModel):
    text: str


def test_requires() -> None:
    @requires("admin")
    async def endpoint(amount: Decimal, websocket: WebSocket) -> None:
        await websocket.accept()

    server = FakeServer(CONNECT)
    scope = websocket_scope(auth=AuthCredentials(["admin"]))
    asyncio.run(endpoint(1, WebSocket(scope, server.receive, server.send)))  # type: ignore[arg-type]
    assert [message["type"] for message in server.sent] == ["websocket.accept"]


def test_system_checks_read_the_annotations_of_a_function_that_joins() -> None:
    def joins(texts: list[str], amount: Decimal, connection: WebSocket) -> str:
        connection.join("news")
        return ", ".join(texts)

    def only_texts(texts: list[str], amount: Decimal) -> str:
        return ", ".join(texts)

    assert application._joins(joins)
    assert not application._joins(only_texts)
