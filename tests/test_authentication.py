"""`requires`, users and credentials."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from fastws_compat.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    AuthenticationError,
    BaseUser,
    SimpleUser,
    UnauthenticatedUser,
    has_required_scope,
    requires,
)
from fastws_compat.exceptions import DeclarationError
from fastws_compat.requests import HTTPConnection
from fastws_compat.websockets import WebSocket
from tests.fake_server import CONNECT, FakeServer, websocket_scope


def socket(*scopes: str) -> tuple[WebSocket, list[Any]]:
    """A connection with these scopes, and the messages sent on it."""
    server = FakeServer(CONNECT)
    scope = websocket_scope(auth=AuthCredentials(scopes))
    return WebSocket(scope, server.receive, server.send), server.sent


@pytest.mark.parametrize("needed", ["admin", ["admin"], ["admin", "user"], []])
def test_granted_scopes_reach_the_endpoint(needed: Any) -> None:
    @requires(needed)
    async def endpoint(websocket: WebSocket) -> None:
        await websocket.accept()

    websocket, sent = socket("user", "admin")
    asyncio.run(endpoint(websocket))
    assert [message["type"] for message in sent] == ["websocket.accept"]


@pytest.mark.parametrize("needed", ["admin", ["user", "admin"]])
def test_lacking_scope_closes_the_socket(needed: Any) -> None:
    @requires(needed)
    async def endpoint(websocket: WebSocket) -> None:
        raise AssertionError("not called")

    websocket, sent = socket("user")
    asyncio.run(endpoint(websocket))
    assert sent == [{"type": "websocket.close", "code": 1000, "reason": ""}]


def test_socket_by_keyword_and_among_other_parameters() -> None:
    seen: list[Any] = []

    @requires("a")
    async def endpoint(room: str, websocket: WebSocket, limit: int = 0) -> None:
        seen.append((room, limit))

    asyncio.run(endpoint("r", socket("a")[0]))
    asyncio.run(endpoint(room="r", websocket=socket("a")[0], limit=2))
    assert seen == [("r", 0), ("r", 2)]
    assert endpoint.__name__ == "endpoint"


def test_function_without_a_socket() -> None:
    async def endpoint(room: str) -> None:
        pass

    with pytest.raises(
        Exception, match=r'^No "request" or "websocket" argument on function "<function .*endpoint'
    ):
        requires("a")(endpoint)


def test_function_for_http() -> None:
    async def endpoint(request: object) -> None:
        pass

    with pytest.raises(
        DeclarationError, match=r"endpoint takes a request, and HTTP is Django's: use a decorator"
    ):
        requires("a")(endpoint)


@pytest.mark.parametrize("args", [("text",), ()])
def test_something_else_for_a_socket(args: Any) -> None:
    @requires("a")
    async def endpoint(websocket: WebSocket) -> None:
        pass

    message = "Parameter with name 'websocket' is required to be of type 'WebSocket' not '(str|NoneType)'"
    with pytest.raises(AssertionError, match=message):
        asyncio.run(endpoint(*args))


def test_credentials_keep_their_own_list() -> None:
    scopes = ["a"]
    credentials = AuthCredentials(scopes)
    scopes.append("b")
    assert credentials.scopes == ["a"]
    assert AuthCredentials().scopes == []


def test_scopes_of_a_connection() -> None:
    connection = HTTPConnection({"type": "websocket", "auth": AuthCredentials(["a", "b"])})
    assert has_required_scope(connection, ["b", "a"])
    assert has_required_scope(connection, [])
    assert not has_required_scope(connection, ["a", "c"])


def test_users() -> None:
    user, nobody = SimpleUser("ann"), UnauthenticatedUser()
    assert (user.is_authenticated, user.display_name, user.identity) == (True, "ann", "ann")
    assert (nobody.is_authenticated, nobody.display_name, nobody.identity) == (False, "", "")


@pytest.mark.parametrize("name", ["is_authenticated", "display_name", "identity"])
def test_base_user_says_nothing(name: str) -> None:
    with pytest.raises(NotImplementedError):
        getattr(BaseUser(), name)


def test_base_backend_authenticates_no_one() -> None:
    connection = HTTPConnection({"type": "websocket"})
    with pytest.raises(NotImplementedError):
        asyncio.run(AuthenticationBackend().authenticate(connection))
    assert issubclass(AuthenticationError, Exception)
