"""Groups whose messages have types."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Annotated, Any, Literal

import pytest
from django.contrib.auth.models import User
from django.db import transaction
from pydantic import BaseModel, Field

from fastws_compat import FastAPI, TypedWebSocket, WebSocket
from fastws_compat.exceptions import DeclarationError, ResponseValidationError
from fastws_compat.groups import Group, record
from fastws_compat.testclient import TestClient


class Said(BaseModel):
    type: Literal["said"] = "said"
    text: str = Field(serialization_alias="words")


class Typing(BaseModel):
    type: Literal["typing"] = "typing"
    user: str


class Feed(Group[Said | Typing]):
    def __init__(self, room: int) -> None:
        super().__init__(f"chat.{room}")


WRONG: list[Any] = [{"type": "said"}, {"type": "nope"}, "text", b"bytes", Said.model_construct(text=1)]


def test_a_typed_group_is_a_name_like_any_other() -> None:
    assert Group[Said] is Group[Said]
    assert Feed(7) == Group("chat.7") == Group[Said]("chat.7")
    assert hash(Feed(7)) == hash(Group("chat.7"))
    assert Group[Said].for_user(User(pk=7)) == Group.for_user(User(pk=7))
    assert Group[Said].everyone().outgoing is Group[Said].outgoing is not None
    assert Group("x").outgoing is None


@pytest.mark.parametrize("message", WRONG)
def test_a_misfit_raises_at_the_call(message: Any) -> None:
    with record() as sent:
        for send in (Feed(1).send, Feed(1).send_on_commit):
            with pytest.raises(ResponseValidationError):
                send(message)
        with pytest.raises(ResponseValidationError):
            asyncio.run(Feed(1).asend(message))
    assert sent == []


@pytest.mark.django_db(transaction=True)
def test_what_fits_is_serialized_once() -> None:
    with record() as sent, transaction.atomic():
        Feed(1).send_on_commit(Said(text="x"))
        Feed(1).send({"type": "typing", "user": "ann"})  # type: ignore[arg-type]
    assert [(each.payload.kind, each.payload.data) for each in sent] == [
        ("json", '{"type":"typing","user":"ann"}'),
        ("json", '{"type":"said","words":"x"}'),
    ]


def test_raw_text_and_bytes() -> None:
    with record() as sent:
        Group[str]("x").send("text")
        Group[bytes | Said]("x").send(b"bytes")
    assert [(each.payload.kind, each.payload.data) for each in sent] == [
        ("text", "text"),
        ("bytes", b"bytes"),
    ]


def test_str_beside_models_is_refused() -> None:
    with pytest.raises(DeclarationError, match="'str' beside Said"):
        Group[Said | str]
    with pytest.raises(TypeError, match="has its messages already"):
        Feed[Said]  # type: ignore[misc]


def app_that_joins(annotation: Any, *groups: Any) -> FastAPI:
    app = FastAPI()

    async def endpoint(websocket: Any) -> None:
        await websocket.accept()
        await websocket.join(*groups)
        await websocket.send_json({"type": "typing", "user": "joined"})
        async for _ in websocket.iter_text():
            await Feed(1).asend(Said(text="x"))

    endpoint.__annotations__["websocket"] = annotation
    app.websocket("/")(endpoint)
    return app


def test_members_get_what_the_route_declares() -> None:
    app = app_that_joins(TypedWebSocket[None, Said | Typing | bytes], Feed(1), Group("any"), "other")
    with TestClient(app).websocket_connect("/") as socket:
        assert socket.receive_message() == Typing(user="joined")
        socket.send_text("go")
        assert socket.receive_message() == Said(text="x")


def test_joining_a_group_of_other_messages_is_a_mistake() -> None:
    app = app_that_joins(TypedWebSocket[None, Said], Feed(1))
    with pytest.raises(TypeError, match="gets Typing, which is not among"):
        with TestClient(app).websocket_connect("/") as socket:
            socket.receive_json()


def test_a_plain_socket_joins_any_group() -> None:
    with TestClient(app_that_joins(WebSocket, Feed(1))).websocket_connect("/") as socket:
        socket.receive_json()
        socket.send_text("go")
        assert socket.receive_json() == {"type": "said", "words": "x"}


async def first(messages: AsyncIterator[Any], act: Callable[[], Awaitable[None]]) -> Any:
    await act()
    async with asyncio.timeout(20):
        return await anext(messages)


def test_subscribers_get_models_and_not_what_does_not_fit(caplog: pytest.LogCaptureFixture) -> None:
    async def act() -> None:
        await Group("chat.1").asend({"type": "raw"})
        await Feed(1).asend(Said(text="x"))

    async def run() -> Any:
        async with Feed(1).subscribe() as messages:
            return await first(messages, act)

    assert asyncio.run(run()) == Said(text="x")
    [line] = caplog.records
    assert line.levelno == logging.WARNING
    assert "does not fit" in line.getMessage()


def test_a_history_has_models_and_not_what_does_not_fit(
    caplog: pytest.LogCaptureFixture, settings: Any
) -> None:
    """An older release may have sent what is kept."""
    settings.FASTWS = {"GROUPS": {"kept.*": {"history": True}}}
    typed, older = Group[Said | Typing]("kept.1"), Group("kept.1")

    async def run() -> list[Any]:
        await typed.asend(Said(text="x"))
        await older.asend({"type": "typing"})
        await typed.asend(Typing(user="ann"))
        return [(entry.offset, entry.message) for entry in await typed.ahistory(limit=2)]

    assert asyncio.run(run()) == [(1, Said(text="x")), (3, Typing(user="ann"))]
    [line] = caplog.messages
    assert "'kept.1'" in line
    assert "does not fit" in line


def test_a_raw_message_reaches_members_unchanged() -> None:
    app = FastAPI()

    @app.websocket("/")
    async def endpoint(websocket: TypedWebSocket[None, Said | Typing]) -> None:
        await websocket.accept()
        await websocket.join(Feed(1))
        await Group("chat.1").asend({"type": "raw"})
        await websocket.receive()

    with TestClient(app).websocket_connect("/") as socket:
        assert json.loads(socket.receive_text()) == {"type": "raw"}


def test_types_without_a_hash() -> None:
    with record() as sent:
        Group[Annotated[Said, {"not": "hashable"}]]("x").send(Said(text="x"))
    assert [each.payload.data for each in sent] == ['{"type":"said","words":"x"}']
