"""The codes and reasons that a close may have, and what is sent if the close itself fails."""

import asyncio
import enum
from http import HTTPStatus

import pytest
from django.utils.functional import lazystr

from fastws_compat import FastAPI, HTTPException, WebSocket, WebSocketDisconnect, WebSocketException
from fastws_compat.auth import adisconnect_user
from fastws_compat.connections.answers import checked_answer
from fastws_compat.connections.closing import as_text, close_code, close_message, close_reason, is_close_code
from fastws_compat.exceptions import WebSocketRequestValidationError
from fastws_compat.groups import Group
from fastws_compat.layers.wire import unpack
from fastws_compat.testclient import TestClient, WebSocketDenialResponse
from fastws_compat.websockets import WebSocketClose, WebSocketState
from tests.fake_server import DENIAL, converse


class Bye(enum.IntEnum):
    BYE = 4321


class Word(str, enum.Enum):  # noqa: UP042 (as those of older projects)
    WHY = "why"


class Broken:
    def __str__(self):
        raise ValueError


# Codes


def test_valid_close_codes():
    valid = {code for code in range(-1, 6000) if is_close_code(code)}
    assert valid == {*range(1000, 1004), *range(1007, 1015), *range(3000, 5000)}
    assert not is_close_code("1000")


def test_close_codes_of_an_accepted_socket():
    assert [close_code(code) for code in (1000, 4999, Bye.BYE)] == [1000, 4999, 4321]
    assert {type(close_code(Bye.BYE)), type(close_code(HTTPStatus.NOT_FOUND))} == {int}


def test_http_status_is_4000_and_the_status():
    assert [close_code(code) for code in (400, 403, 599, HTTPStatus.NOT_FOUND)] == [4400, 4403, 4599, 4404]


@pytest.mark.parametrize(
    "code",
    [-1, 0, 200, 399, 600, 999, 1004, 1005, 1006, 1015, 2999, 5000, True, None, "1000", 1000.0, [], 1j],
)
def test_invalid_close_codes(code):
    with pytest.raises(ValueError, match=r"cannot be closed with .*: use 1000 to 1003, .* 400 to 599"):
        close_code(code)


# Reasons


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        (None, ""),
        ("", ""),
        ("why", "why"),
        (Word.WHY, "why"),
        (ValueError("no"), "no"),
        (HTTPException(404), "404: Not Found"),
        (lazystr("Monday"), "Monday"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff", "\ufffd"),
        ({"a": [1, None]}, '{"a":[1,null]}'),
        ({"a": ValueError("no")}, '{"a":"no"}'),
        ([], "[]"),
        (("é",), '["é"]'),
        ({("a",): 1}, "{('a',): 1}"),
        (0, "0"),
        ("a\ud800", "a?"),
        (Broken(), "Broken"),
    ],
)
def test_a_reason_is_text(reason, text):
    assert close_reason(reason) == as_text(reason) == text
    assert type(close_reason(reason)) is str


def test_a_reason_that_holds_itself():
    reason = []
    reason.append(reason)
    assert close_reason(reason) == "[[...]]"


@pytest.mark.parametrize("filler", ["", "a", "ab", "abc"])
@pytest.mark.parametrize("character", ["x", "é", "€", "🙂", "\ud800"])
def test_a_reason_is_cut_between_characters(filler, character):
    cut = close_reason(filler + character * 200)
    size = len(character.encode("utf-8", "replace"))
    assert 123 - size < len(cut.encode()) <= 123
    assert (filler + character.replace("\ud800", "?") * 200).startswith(cut)
    assert len(as_text(filler + character * 200)) == len(filler) + 200


def test_a_reason_of_exactly_123_bytes_is_whole():
    assert close_reason("é" * 61 + "x") == "é" * 61 + "x"


# Ways to close


async def closes(websocket, code, reason):
    await websocket.close(code, reason)


async def sends(websocket, code, reason):
    await websocket.send({"type": "websocket.close", "code": code, "reason": reason})


async def raises(websocket, code, reason):
    raise WebSocketException(code, reason)


ROADS = [closes, sends, raises]


def app_with(road, code, reason="why", accept=True):
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        if accept:
            await websocket.accept()
        await road(websocket, code, reason)

    return app


def shown(app, path="/ws", **options):
    """The end of a connection as a test client sees it."""
    with pytest.raises(WebSocketDisconnect) as caught:
        with TestClient(app, **options).websocket_connect(path) as socket:
            socket.receive_text()
    return caught.value


@pytest.mark.parametrize("road", ROADS)
def test_the_test_client_shows_what_servers_send(road):
    ends = [shown(app_with(road, code, "é" * 100)) for code in (4000, 403, Bye.BYE)]
    assert [(end.code, end.reason) for end in ends] == [(code, "é" * 61) for code in (4000, 4403, 4321)]


@pytest.mark.parametrize("road", ROADS)
def test_the_test_client_shows_a_status_before_accept(road):
    denied = shown(app_with(road, 404, accept=False))
    assert isinstance(denied, WebSocketDenialResponse)
    assert (denied.status_code, denied.content) == (404, b"")


@pytest.mark.parametrize("road", ROADS)
def test_a_code_that_cannot_be_sent_is_a_mistake_of_the_endpoint(road):
    with pytest.raises(ValueError, match="cannot be closed with 1006"):
        shown(app_with(road, 1006))
    end = shown(app_with(road, 1006), raise_server_exceptions=False)
    assert (end.code, end.reason) == (1011, "")


def test_an_endpoint_that_catches_it_can_close_again():
    app, states = FastAPI(), []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        with pytest.raises(ValueError):
            await websocket.close(999)
        states.append(websocket.application_state)
        await websocket.close(4000, "second")

    end = shown(app)
    assert (end.code, end.reason, states) == (4000, "second", [WebSocketState.CONNECTED])


def test_an_application_that_only_closes():
    app = FastAPI()
    app.mount("/status", WebSocketClose(401))
    app.mount("/code", WebSocketClose(4001, "why"))
    assert shown(app, "/status/").status_code == shown(WebSocketClose(401)).status_code == 401
    assert (shown(app, "/code/").code, shown(app, "/code/").reason) == (4001, "why")


def test_middleware_that_answers_itself():
    class Middleware:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await receive()
            if "accept" in scope["path"]:
                await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 403, "reason": ["no"]})

    app = FastAPI()
    app.add_middleware(Middleware)
    assert (shown(app, "/accept").code, shown(app, "/accept").reason) == (4403, '["no"]')
    assert shown(app, "/").status_code == 403


def test_errors_of_a_validation_after_accept_are_no_reason():
    async def fails(websocket, code, reason):
        raise WebSocketRequestValidationError([{"loc": ["query", "secret"]}])

    end = shown(app_with(fails, 0))
    assert (end.code, end.reason) == (1008, "")


@pytest.mark.parametrize("extensions", [{}, DENIAL])
def test_status_before_accept_where_the_server_can_deny_and_where_it_cannot(extensions):
    sent = converse(app_with(closes, 404, accept=False), extensions=extensions)
    if extensions:
        assert [message.get("status") for message in sent] == [404, None]
    else:
        assert sent == [{"type": "websocket.close", "code": 1000, "reason": ""}]


# Closing sockets from elsewhere


def test_a_group_refuses_a_code_that_cannot_be_sent():
    with pytest.raises(ValueError, match="cannot be closed with 1006"):
        Group("room").disconnect(1006)


def test_logins_refuse_a_code_that_cannot_be_sent():
    with pytest.raises(ValueError, match="cannot be closed with 5000"):
        asyncio.run(adisconnect_user(1, code=5000))


@pytest.mark.parametrize("code", [1006, "1000", None])
def test_a_layer_brings_no_code_that_cannot_be_sent(code):
    with pytest.raises(ValueError, match="its format is not that of a group message"):
        unpack({"fastws": {"group": "room", "close": [code, ""]}})


# A server that does not accept a message


def refusing(app, **options):
    """Connect to a server that can send a denial response."""
    return converse(app, extensions=DENIAL, **options)


def once(kind, error):
    """Make the first message of a type fail."""
    left = [error]

    async def on_send(message):
        if message["type"] == kind and left:
            raise left.pop()

    return on_send


@pytest.mark.parametrize("error", [ValueError(), RuntimeError(), TypeError()])
def test_a_close_that_fails_is_followed_by_1011(error):
    sent = refusing(app_with(closes, 4000), on_send=once("websocket.close", error))
    assert sent[-1] == close_message(1011)


@pytest.mark.parametrize("error", [ValueError(), RuntimeError(), TypeError()])
def test_an_accept_that_fails_is_followed_by_500(error):
    sent = refusing(app_with(closes, 4000), on_send=once("websocket.accept", error))
    assert [message.get("status") for message in sent] == [500, None]


@pytest.mark.parametrize("kind", ["start", "body"])
def test_a_refusal_that_fails_is_ended(kind):
    fails = once(f"websocket.http.response.{kind}", ValueError())
    sent = refusing(app_with(closes, 404, accept=False), on_send=fails)
    assert [message.get("status") for message in sent] == [500 if kind == "start" else 404, None]
    assert not sent[-1].get("more_body")


@pytest.mark.parametrize("kind", ["websocket.accept", "websocket.close"])
def test_what_fails_for_a_mounted_application_is_ended_too(kind):
    async def foreign(scope, receive, send):
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close", "code": 4000})

    app = FastAPI()
    app.mount("/m", foreign)
    sent = refusing(app, path="/m/", on_send=once(kind, RuntimeError()))
    end = ("websocket.http.response.body", None) if kind == "websocket.accept" else ("websocket.close", 1011)
    assert (sent[-1]["type"], sent[-1].get("code")) == end


@pytest.mark.parametrize(
    ("headers", "error"),
    [([("a", "b")], TypeError), ([5], TypeError), ([(b"a",)], TypeError), ([(b"a b", b"c")], ValueError)],
)
def test_headers_that_are_none_are_refused_before_anything_is_sent(headers, error):
    app, states = FastAPI(), []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        with pytest.raises(error, match="header"):
            await websocket.accept(headers=headers)
        states.append(websocket.application_state)
        await websocket.accept(headers=[(b"x-room", bytearray(b"1"))])

    sent = refusing(app)
    assert sent == [
        {"type": "websocket.accept", "subprotocol": None, "headers": [(b"x-room", b"1")]},
        close_message(),
    ]
    assert states == [WebSocketState.CONNECTING]


@pytest.mark.parametrize(
    ("header", "given"),
    [
        (("set-cookie", "secret"), "str and str"),
        ((b"set-cookie", "secret"), "bytes and str"),
        ("secret", "str"),
        ((b"a", b"b", b"secret"), "bytes and bytes and bytes"),
        ((), "nothing"),
    ],
)
def test_error_of_a_header_names_its_types(header, given):
    with pytest.raises(TypeError) as caught:
        checked_answer({"type": "websocket.accept", "headers": [header]})
    assert str(caught.value).endswith(f"pair of bytes, such as (b'x-room', b'1'), but got {given}.")
