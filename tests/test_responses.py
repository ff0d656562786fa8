"""Refusals, beyond parity with FastAPI."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

from fastws_compat.background import BackgroundTasks
from fastws_compat.datastructures import Headers
from fastws_compat.responses import JSONResponse, PlainTextResponse, Response
from tests.fake_server import FakeServer


def test_given_headers_are_not_changed() -> None:
    given = Headers({"a": "1"})
    response = PlainTextResponse("x", headers=given)
    response.set_cookie("k", "v")
    assert given.items() == [("a", "1")]


def test_cookie_is_seen_through_headers_that_were_read_before() -> None:
    response = Response()
    headers = response.headers
    response.set_cookie("k", "v")
    assert headers["set-cookie"] == "k=v; Path=/; SameSite=lax"


@pytest.mark.skipif(sys.version_info >= (3, 14), reason="3.14 knows the attribute")
def test_partitioned_cookie_needs_a_newer_python() -> None:
    with pytest.raises(ValueError, match=r"only supported in Python 3\.14 and above"):
        Response().set_cookie("k", partitioned=True)


def test_media_type_of_the_class_stays() -> None:
    JSONResponse({}, media_type="a/b")
    assert JSONResponse.media_type == "application/json"
    assert JSONResponse({}).headers["content-type"] == "application/json"


def test_background_tasks_run_in_order_after_a_refusal() -> None:
    order: list[str] = []
    tasks = BackgroundTasks()
    tasks.add_task(order.append, "sync")

    async def later(word: str) -> None:
        order.append(word)

    async def note(message: Any) -> None:
        order.append(message["type"])

    server = FakeServer(AssertionError("a refusal reads nothing"), on_send=note)
    tasks.add_task(later, word="async")
    asyncio.run(Response(background=tasks)({"type": "websocket"}, server.receive, server.send))
    start, body = "websocket.http.response.start", "websocket.http.response.body"
    assert order == [start, body, "sync", "async"]
