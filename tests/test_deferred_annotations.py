"""Annotations without quotes that only type checkers can resolve, which Python 3.14 evaluates on access."""

import asyncio
import sys
from typing import TYPE_CHECKING, Annotated, Any

import pytest
from pydantic import BaseModel

from fastws_compat import APIRouter, Depends, FastAPI, MessageRouter, Query, TypedWebSocket, WebSocket
from fastws_compat.authentication import AuthCredentials, requires
from fastws_compat.checks import application
from fastws_compat.exceptions import DeclarationError
from fastws_compat.testclient import TestClient
from tests.fake_server import CONNECT, FakeServer, websocket_scope

if TYPE_CHECKING:
    from decimal import Decimal

    class Later(BaseModel):
        number: int

    class Answer(BaseModel):
        text: str


pytestmark = pytest.mark.skipif(sys.version_info < (3, 14), reason="older versions evaluate them at once")


def refusal(endpoint: Any) -> str:
    with pytest.raises(DeclarationError) as caught:
        FastAPI().websocket("/ws")(endpoint)
    return str(caught.value)


def test_parameters_are_refused_in_one_sentence() -> None:
    async def plain(websocket: WebSocket, amount: Decimal) -> None: ...
    async def optional(websocket: WebSocket, amount: Decimal | None = None) -> None: ...
    async def several(websocket: WebSocket, amount: Annotated[list[Decimal], Query()]) -> None: ...

    async def one_of(websocket: WebSocket, amount: Asked | Decimal) -> None: ...
    async def generic(websocket: WebSocket, amount: list[int] | Decimal) -> None: ...
    async def provided(websocket: WebSocket, amount: Annotated[Asked | Decimal, Depends()]) -> None: ...

    named = {
        plain: "Decimal",
        optional: "Decimal | None",
        several: "Decimal",
        one_of: "Asked | Decimal",
        generic: "list[int] | Decimal",
        provided: "Asked | Decimal",
    }
    for endpoint, name in named.items():
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


class Asked(BaseModel):
    text: str


def test_messages_that_are_defined_before_the_router_is_included(monkeypatch: pytest.MonkeyPatch) -> None:
    """A union of a class and of a name that is not defined yet has a name of Python's own for the class."""
    router, handlers = APIRouter(), MessageRouter()

    @handlers.on
    async def answer(message: Asked | Later) -> Answer | Later:
        return Answer(text=type(message).__name__)

    @router.websocket("/ws", handlers=handlers)
    async def chat(websocket: TypedWebSocket[Asked | Later, Answer | Later]) -> None:
        await websocket.accept()
        await websocket.serve()

    monkeypatch.setitem(globals(), "Later", type("Later", (BaseModel,), {"__annotations__": {"number": int}}))
    monkeypatch.setitem(globals(), "Answer", type("Answer", (Asked,), {}))
    app = FastAPI()
    app.include_router(router)
    with TestClient(app).websocket_connect("/ws") as websocket:
        websocket.send_json({"text": "hello"})
        assert websocket.receive_json() == {"text": "Asked"}
        websocket.send_json({"number": 7})
        assert websocket.receive_json() == {"text": "Later"}


def test_messages_that_are_never_defined() -> None:
    async def chat(websocket: TypedWebSocket[Asked, Asked | Decimal]) -> None: ...

    assert refusal(chat).startswith(
        "WebSocket endpoint chat names 'Decimal' in its messages, which is not def"
    )


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
