"""The specification's examples answer a real client on both servers."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import websockets

from tests.servers.conftest import Running, Server

pytestmark = pytest.mark.servers

EXAMPLES = "tests.servers.specification"


def start(server: Server, example: str) -> Running:
    return server.shared(f"{EXAMPLES}.{example}:app")


def talk(url: str, *texts: str | bytes, headers: dict[str, str] | None = None) -> list[Any]:
    """Send each text and receive one answer to it."""

    async def run() -> list[Any]:
        answers = []
        async with websockets.connect(url, additional_headers=headers) as client, asyncio.timeout(10):
            for text in texts:
                await client.send(text)
                answers.append(await client.recv())
        return answers

    return asyncio.run(run())


def refusal(url: str, headers: dict[str, str] | None = None) -> tuple[int, bytes]:
    """The status and the body of a refused handshake."""

    async def run() -> tuple[int, bytes]:
        with pytest.raises(websockets.InvalidStatus) as refused:
            async with asyncio.timeout(10):
                await websockets.connect(url, additional_headers=headers)
        return refused.value.response.status_code, bytes(refused.value.response.body or b"")

    return asyncio.run(run())


def test_basic(server: Server) -> None:
    url = start(server, "basic").url("/ws")
    assert talk(url, "hello", "grüß dich 🌍") == [
        "Message text was: hello",
        "Message text was: grüß dich 🌍",
    ]


def test_path_parameter(server: Server) -> None:
    assert talk(start(server, "path_parameters").url("/ws/7"), "hi") == ["Client 7: hi"]


def test_path_parameter_of_the_wrong_type_is_refused(server: Server) -> None:
    assert refusal(start(server, "path_parameters").url("/ws/seven"))[0] == 403


def test_unknown_path_is_refused(server: Server) -> None:
    assert refusal(start(server, "path_parameters").url("/nowhere"))[0] == 403


@pytest.mark.parametrize(
    ("headers", "detail"),
    [
        ({}, "Not authenticated"),
        ({"Authorization": "Basic abc"}, "Not authenticated"),
        ({"Authorization": "Bearer wrong"}, "Invalid token"),
    ],
)
def test_token_missing_or_wrong_is_refused_with_401(
    server: Server, headers: dict[str, str], detail: str
) -> None:
    status, body = refusal(start(server, "dependencies").url("/ws"), headers)
    assert (status, json.loads(body)) == (401, {"detail": detail})


def test_valid_token(server: Server) -> None:
    async def run() -> list[Any]:
        url = start(server, "dependencies").url("/ws")
        headers = {"Authorization": "Bearer valid-token"}
        async with websockets.connect(url, additional_headers=headers) as client, asyncio.timeout(10):
            first = await client.recv()
            await client.send("hello")
            return [first, await client.recv()]

    assert asyncio.run(run()) == ["Authenticated with token: valid-token", "Echo: hello"]


def test_json(server: Server) -> None:
    [answer] = talk(start(server, "json_communication").url("/ws/json"), '{"a": [1, 2.5, null, "ü"]}')
    assert json.loads(answer) == {
        "type": "response",
        "original_message": {"a": [1, 2.5, None, "ü"]},
        "timestamp": "2023-01-01T00:00:00Z",
    }


def test_connection_manager_with_two_clients(server: Server) -> None:
    running = start(server, "connection_manager")

    async def run() -> None:
        async with websockets.connect(running.url("/ws/1")) as one, asyncio.timeout(10):
            async with websockets.connect(running.url("/ws/2")) as two:
                await two.send("hi")
                assert [await two.recv(), await two.recv()] == ["You wrote: hi", "Client #2 says: hi"]
                assert await one.recv() == "Client #2 says: hi"
            assert await one.recv() == "Client #2 left the chat"

    asyncio.run(run())


def test_query_parameters(server: Server) -> None:
    async def run() -> list[Any]:
        url = start(server, "query_parameters").url("/ws?room=lobby&user_id=3")
        async with websockets.connect(url) as client, asyncio.timeout(10):
            first = await client.recv()
            await client.send("hello")
            return [first, await client.recv()]

    assert asyncio.run(run()) == ["Welcome to room lobby, user 3!", "[lobby] User 3: hello"]


@pytest.mark.parametrize("query", ["", "?room=lobby", "?room=lobby&user_id=three", "?user_id=3"])
def test_query_parameters_that_do_not_fit_are_refused(server: Server, query: str) -> None:
    assert refusal(start(server, "query_parameters").url(f"/ws{query}"))[0] == 403


def test_bad_json_is_answered_and_the_socket_lives(server: Server) -> None:
    answers = talk(
        start(server, "error_handling").url("/ws/safe"),
        "{bad",
        '{"no": "action"}',
        '{"action": "go", "data": 1}',
    )
    assert [json.loads(answer) for answer in answers] == [
        {"error": "Invalid JSON format"},
        {"error": "Missing 'action' field"},
        {"success": True, "action": "go", "data": 1},
    ]


def test_custom_close_echoes_other_texts(server: Server) -> None:
    assert talk(start(server, "custom_close").url("/ws/custom-close"), "x") == ["Received: x"]


@pytest.mark.parametrize(
    ("text", "code", "reason"),
    [("close", 1000, "Client requested close"), ("error", 1011, "Server error occurred")],
)
def test_custom_close_arrives_with_code_and_reason(server: Server, text: str, code: int, reason: str) -> None:
    async def run() -> tuple[int | None, str | None]:
        url = start(server, "custom_close").url("/ws/custom-close")
        async with websockets.connect(url) as client, asyncio.timeout(10):
            await client.send(text)
            await client.wait_closed()
            return client.close_code, client.close_reason

    assert asyncio.run(run()) == (code, reason)
