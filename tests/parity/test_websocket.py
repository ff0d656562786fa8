"""`WebSocket` without a server: every call in every state, what it sends and what it raises."""

import asyncio
import json
from typing import Annotated, Any

import pytest

from tests.fake_server import CONNECT, TIMEOUT, FakeServer, binary, disconnect, text, websocket_scope


def run(work):
    """The result of `work`. A call that receives more than the test provides times out."""

    async def main():
        return await asyncio.wait_for(work, TIMEOUT)

    return asyncio.run(main())


ACCEPT = {"type": "websocket.accept"}
CLOSE = {"type": "websocket.close"}
BYE = disconnect(1001, "bye")
START = {"type": "websocket.http.response.start", "status": 403, "headers": []}

NOT_CONNECT = 'Expected ASGI message "websocket.connect", but got {!r}'
NOT_RECEIVE = 'Expected ASGI message "websocket.receive" or "websocket.disconnect", but got {!r}'
NOT_ANSWER = (
    'Expected ASGI message "websocket.accept", "websocket.close" or "websocket.http.response.start", '
    "but got {!r}"
)
NOT_SEND = 'Expected ASGI message "websocket.send" or "websocket.close", but got {!r}'
NOT_BODY = 'Expected ASGI message "websocket.http.response.body", but got {!r}'
NO_RECEIVE = 'Cannot call "receive" once a disconnect message has been received.'
NO_SEND = 'Cannot call "send" once a close message has been sent.'
NOT_ACCEPTED = 'WebSocket is not connected. Need to call "accept" first.'
BAD_MODE = 'The "mode" argument should be "text" or "binary".'
NO_DENIAL = "The server doesn't support the Websocket Denial Response extension."


def connect(lib, server, /, **scope):
    return lib.WebSocket(websocket_scope(**{"path": "/", **scope}), server.receive, server.send)


def accepted(lib, *messages, **scope):
    """An accepted socket, whose server then provides `messages` and has been sent nothing else."""
    server = FakeServer(CONNECT, *messages)
    websocket = connect(lib, server, **scope)
    run(websocket.accept())
    server.sent.clear()
    return websocket, server


def states(websocket):
    return websocket.client_state.name, websocket.application_state.name


def test_http_scope_is_refused(lib):
    server = FakeServer()
    with pytest.raises(AssertionError):
        lib.WebSocket({"type": "http"}, server.receive, server.send)


def test_fresh_socket_is_connecting_on_both_sides(lib):
    websocket = connect(lib, FakeServer())
    assert states(websocket) == ("CONNECTING", "CONNECTING")
    assert websocket.client_state is lib.WebSocketState.CONNECTING


def test_state_names(lib):
    assert {state.name for state in lib.WebSocketState} == {
        "CONNECTING",
        "CONNECTED",
        "DISCONNECTED",
        "RESPONSE",
    }


def test_states_are_found_by_value(lib):
    assert all(lib.WebSocketState(state.value) is state for state in lib.WebSocketState)


# receive()


def test_receive_connect(lib):
    websocket = connect(lib, FakeServer(CONNECT))
    assert run(websocket.receive()) == CONNECT
    assert states(websocket) == ("CONNECTED", "CONNECTING")


@pytest.mark.parametrize("kind", ["websocket.receive", "websocket.disconnect", "http.request"])
def test_receive_other_than_connect_first(lib, kind):
    websocket = connect(lib, FakeServer({"type": kind}))
    with pytest.raises(RuntimeError) as caught:
        run(websocket.receive())
    assert str(caught.value) == NOT_CONNECT.format(kind)
    assert states(websocket) == ("CONNECTING", "CONNECTING")


def test_receive_gives_the_message_unchanged(lib):
    message = {"type": "websocket.receive", "text": "a", "bytes": None, "extra": 1}
    websocket, _ = accepted(lib, message)
    assert run(websocket.receive()) is message


def test_receive_returns_the_disconnect(lib):
    websocket, _ = accepted(lib, BYE)
    assert run(websocket.receive()) == BYE
    assert states(websocket) == ("DISCONNECTED", "CONNECTED")


@pytest.mark.parametrize("kind", ["websocket.connect", "websocket.send", "http.disconnect"])
def test_receive_what_cannot_come_while_connected(lib, kind):
    websocket, _ = accepted(lib, {"type": kind})
    with pytest.raises(RuntimeError) as caught:
        run(websocket.receive())
    assert str(caught.value) == NOT_RECEIVE.format(kind)
    assert states(websocket) == ("CONNECTED", "CONNECTED")


def test_receive_after_disconnect(lib):
    websocket, _ = accepted(lib, BYE)
    run(websocket.receive())
    with pytest.raises(lib.WebSocketDisconnected) as caught:
        run(websocket.receive())
    assert str(caught.value) == NO_RECEIVE


def test_receive_while_not_yet_accepted(lib):
    websocket = connect(lib, FakeServer(CONNECT, text("early")))
    run(websocket.receive())
    assert run(websocket.receive()) == text("early")


def test_receive_after_own_close_still_reads(lib):
    websocket, _ = accepted(lib, BYE)
    run(websocket.close())
    assert run(websocket.receive()) == BYE


def test_disconnected_is_a_runtime_error(lib):
    assert issubclass(lib.WebSocketDisconnected, RuntimeError)
    assert not issubclass(lib.WebSocketDisconnected, lib.WebSocketDisconnect)


# send()


def test_send_accept(lib):
    server = FakeServer(CONNECT)
    websocket = connect(lib, server)
    run(websocket.receive())
    run(websocket.send(ACCEPT))
    assert server.sent == [ACCEPT]
    assert states(websocket) == ("CONNECTED", "CONNECTED")


def test_send_accept_before_connect_was_received(lib):
    server = FakeServer()
    websocket = connect(lib, server)
    run(websocket.send(ACCEPT))
    assert states(websocket) == ("CONNECTING", "CONNECTED")


def test_send_close_before_accept(lib):
    server = FakeServer()
    websocket = connect(lib, server)
    run(websocket.send(CLOSE))
    assert server.sent == [CLOSE]
    assert states(websocket) == ("CONNECTING", "DISCONNECTED")


def test_send_response_start_before_accept(lib):
    server = FakeServer()
    websocket = connect(lib, server)
    run(websocket.send(START))
    assert server.sent == [START]
    assert states(websocket) == ("CONNECTING", "RESPONSE")


@pytest.mark.parametrize("kind", ["websocket.send", "websocket.http.response.body", "http.response.start"])
def test_send_what_does_not_answer_the_handshake(lib, kind):
    server = FakeServer()
    websocket = connect(lib, server)
    with pytest.raises(RuntimeError) as caught:
        run(websocket.send({"type": kind}))
    assert str(caught.value) == NOT_ANSWER.format(kind)
    assert states(websocket) == ("CONNECTING", "CONNECTING")
    assert server.sent == []


@pytest.mark.parametrize("kind", ["websocket.accept", "websocket.http.response.start", "websocket.bogus"])
def test_send_what_cannot_go_while_connected(lib, kind):
    websocket, server = accepted(lib)
    with pytest.raises(RuntimeError) as caught:
        run(websocket.send({"type": kind}))
    assert str(caught.value) == NOT_SEND.format(kind)
    assert states(websocket) == ("CONNECTED", "CONNECTED")
    assert server.sent == []


@pytest.mark.parametrize("kind", ["websocket.accept", "websocket.close", "websocket.send"])
def test_send_other_than_body_in_a_response(lib, kind):
    websocket = connect(lib, FakeServer())
    run(websocket.send(START))
    with pytest.raises(RuntimeError) as caught:
        run(websocket.send({"type": kind}))
    assert str(caught.value) == NOT_BODY.format(kind)
    assert states(websocket) == ("CONNECTING", "RESPONSE")


def test_send_body_in_parts(lib):
    server = FakeServer()
    websocket = connect(lib, server)
    first = {"type": "websocket.http.response.body", "body": b"a", "more_body": True}
    last = {"type": "websocket.http.response.body", "body": b"b"}
    run(websocket.send(START))
    run(websocket.send(first))
    assert states(websocket) == ("CONNECTING", "RESPONSE")
    run(websocket.send(last))
    assert states(websocket) == ("CONNECTING", "DISCONNECTED")
    assert server.sent == [START, first, last]


@pytest.mark.parametrize("message", [ACCEPT, CLOSE, {"type": "websocket.send", "text": "x"}, START])
def test_send_after_close(lib, message):
    websocket, server = accepted(lib)
    run(websocket.close())
    with pytest.raises(lib.WebSocketDisconnected) as caught:
        run(websocket.send(message))
    assert str(caught.value) == NO_SEND
    assert [sent["type"] for sent in server.sent] == ["websocket.close"]


def test_send_after_refusal(lib):
    websocket = connect(lib, FakeServer())
    run(websocket.close())
    with pytest.raises(lib.WebSocketDisconnected) as caught:
        run(websocket.send_text("x"))
    assert str(caught.value) == NO_SEND


def test_send_after_the_last_body(lib):
    websocket = connect(lib, FakeServer())
    run(websocket.send(START))
    run(websocket.send({"type": "websocket.http.response.body"}))
    with pytest.raises(lib.WebSocketDisconnected) as caught:
        run(websocket.send({"type": "websocket.http.response.body"}))
    assert str(caught.value) == NO_SEND


def test_send_after_the_client_left_is_passed_on(lib):
    websocket, server = accepted(lib, BYE)
    run(websocket.receive())
    run(websocket.send_text("x"))
    assert server.sent == [{"type": "websocket.send", "text": "x"}]


@pytest.mark.parametrize("error", [OSError, ConnectionResetError, BrokenPipeError])
def test_send_to_a_lost_client(lib, error):
    websocket, server = accepted(lib)
    server.error = error()
    with pytest.raises(lib.WebSocketDisconnect) as caught:
        run(websocket.send_text("x"))
    assert (caught.value.code, caught.value.reason, str(caught.value)) == (1006, "", "")
    assert websocket.application_state.name == "DISCONNECTED"  # the client's state: test_differences


def test_close_to_a_lost_client(lib):
    websocket, server = accepted(lib)
    server.error = OSError()
    with pytest.raises(lib.WebSocketDisconnect) as caught:
        run(websocket.close())
    assert caught.value.code == 1006


def test_other_errors_of_the_server_pass(lib):
    websocket, server = accepted(lib)
    server.error = LookupError("server")
    with pytest.raises(LookupError, match="server"):
        run(websocket.send_text("x"))
    assert states(websocket) == ("CONNECTED", "CONNECTED")


def test_state_changes_before_the_message_is_sent(lib):
    seen = []

    async def note(message):
        seen.append((message["type"], websocket.application_state.name))

    websocket = connect(lib, FakeServer(CONNECT, on_send=note))
    run(websocket.accept())
    run(websocket.close())
    assert seen == [("websocket.accept", "CONNECTED"), ("websocket.close", "DISCONNECTED")]


# accept()


def test_accept_waits_for_connect(lib):
    server = FakeServer(CONNECT)
    websocket = connect(lib, server)
    run(websocket.accept())
    assert server.incoming == []
    assert server.sent == [{"type": "websocket.accept", "subprotocol": None, "headers": []}]
    assert states(websocket) == ("CONNECTED", "CONNECTED")


def test_accept_after_connect_was_received(lib):
    server = FakeServer(CONNECT, text("next"))
    websocket = connect(lib, server)
    run(websocket.receive())
    run(websocket.accept())
    assert server.incoming == [text("next")]


def test_accept_with_subprotocol_and_headers(lib):
    server = FakeServer(CONNECT)
    run(connect(lib, server).accept(subprotocol="chat", headers=[(b"x-a", b"1"), (b"x-a", b"2")]))
    assert server.sent == [
        {"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x-a", b"1"), (b"x-a", b"2")]}
    ]


def test_accept_by_position(lib):
    server = FakeServer(CONNECT)
    run(connect(lib, server).accept("chat", [(b"x-a", b"1")]))
    assert server.sent == [{"type": "websocket.accept", "subprotocol": "chat", "headers": [(b"x-a", b"1")]}]


def test_accept_does_not_check_the_subprotocol(lib):
    server = FakeServer(CONNECT)
    run(connect(lib, server, subprotocols=["other"]).accept(subprotocol="chat"))
    assert server.sent[0]["subprotocol"] == "chat"


def test_accept_when_the_client_has_left_already(lib):
    websocket = connect(lib, FakeServer(BYE))
    with pytest.raises(RuntimeError) as caught:
        run(websocket.accept())
    assert str(caught.value) == NOT_CONNECT.format("websocket.disconnect")


def test_accept_twice(lib):
    websocket, _ = accepted(lib)
    with pytest.raises(RuntimeError) as caught:
        run(websocket.accept())
    assert str(caught.value) == NOT_SEND.format("websocket.accept")


def test_accept_after_close(lib):
    websocket = connect(lib, FakeServer(CONNECT))
    run(websocket.close())
    with pytest.raises(lib.WebSocketDisconnected) as caught:
        run(websocket.accept())
    assert str(caught.value) == NO_SEND


# receive_text(), receive_bytes(), receive_json()

READERS = ["receive_text", "receive_bytes", "receive_json"]


@pytest.mark.parametrize("reader", READERS)
def test_read_before_accept(lib, reader):
    server = FakeServer(CONNECT)
    websocket = connect(lib, server)
    with pytest.raises(lib.WebSocketDisconnected) as caught:
        run(getattr(websocket, reader)())
    assert str(caught.value) == NOT_ACCEPTED
    assert server.incoming == [CONNECT]


@pytest.mark.parametrize("reader", READERS)
def test_read_after_own_close(lib, reader):
    websocket, server = accepted(lib, text("unread"))
    run(websocket.close())
    with pytest.raises(lib.WebSocketDisconnected) as caught:
        run(getattr(websocket, reader)())
    assert str(caught.value) == NOT_ACCEPTED
    assert server.incoming == [text("unread")]


@pytest.mark.parametrize("reader", READERS)
def test_read_when_the_client_leaves(lib, reader):
    websocket, _ = accepted(lib, BYE)
    with pytest.raises(lib.WebSocketDisconnect) as caught:
        run(getattr(websocket, reader)())
    assert (caught.value.code, caught.value.reason) == (1001, "bye")
    assert states(websocket) == ("DISCONNECTED", "CONNECTED")


@pytest.mark.parametrize("reader", READERS)
def test_read_again_after_the_client_left(lib, reader):
    websocket, _ = accepted(lib, BYE)
    run(websocket.receive())
    with pytest.raises(lib.WebSocketDisconnected) as caught:
        run(getattr(websocket, reader)())
    assert str(caught.value) == NO_RECEIVE


@pytest.mark.parametrize("reader", READERS)
def test_read_an_unexpected_message(lib, reader):
    websocket, _ = accepted(lib, CONNECT)
    with pytest.raises(RuntimeError) as caught:
        run(getattr(websocket, reader)())
    assert str(caught.value) == NOT_RECEIVE.format("websocket.connect")


@pytest.mark.parametrize("reason", [{}, {"reason": None}, {"reason": ""}])
def test_disconnect_without_reason(lib, reason):
    websocket, _ = accepted(lib, {"type": "websocket.disconnect", "code": 1005, **reason})
    with pytest.raises(lib.WebSocketDisconnect) as caught:
        run(websocket.receive_text())
    assert (caught.value.code, caught.value.reason) == (1005, "")


def test_receive_text(lib):
    websocket, _ = accepted(lib, text("äß"), text(""))
    assert run(websocket.receive_text()) == "äß"
    assert run(websocket.receive_text()) == ""


def test_receive_text_of_a_binary_frame(lib):
    websocket, _ = accepted(lib, binary(b"x"))
    with pytest.raises(KeyError) as caught:
        run(websocket.receive_text())
    assert caught.value.args == ("text",)
    assert states(websocket) == ("CONNECTED", "CONNECTED")


def test_receive_text_of_a_binary_frame_with_both_keys(lib):
    websocket, _ = accepted(lib, {"type": "websocket.receive", "text": None, "bytes": b"x"})
    assert run(websocket.receive_text()) is None


def test_receive_goes_on_after_a_frame_of_the_wrong_kind(lib):
    websocket, _ = accepted(lib, binary(b"x"), text("y"))
    with pytest.raises(KeyError):
        run(websocket.receive_text())
    assert run(websocket.receive_text()) == "y"


def test_receive_bytes(lib):
    websocket, _ = accepted(lib, binary(b"\x00\xff"), binary(b""))
    assert run(websocket.receive_bytes()) == b"\x00\xff"
    assert run(websocket.receive_bytes()) == b""


def test_receive_bytes_of_a_text_frame(lib):
    websocket, _ = accepted(lib, text("x"))
    with pytest.raises(KeyError) as caught:
        run(websocket.receive_bytes())
    assert caught.value.args == ("bytes",)


def test_receive_bytes_of_a_text_frame_with_both_keys(lib):
    websocket, _ = accepted(lib, {"type": "websocket.receive", "text": "x", "bytes": None})
    assert run(websocket.receive_bytes()) is None


@pytest.mark.parametrize(
    ("frame", "value"),
    [
        ('{"a":[1,null]}', {"a": [1, None]}),
        ("[]", []),
        ('"ä"', "ä"),
        ("1.5", 1.5),
        ("null", None),
        (" 1 ", 1),
    ],
)
def test_receive_json(lib, frame, value):
    websocket, _ = accepted(lib, text(frame))
    assert run(websocket.receive_json()) == value


def test_receive_json_takes_nan(lib):
    websocket, _ = accepted(lib, text("[NaN,Infinity]"))
    nan, infinity = run(websocket.receive_json())
    assert nan != nan
    assert infinity == float("inf")


def test_receive_json_in_binary(lib):
    websocket, _ = accepted(lib, binary('{"a":"ä"}'.encode()))
    assert run(websocket.receive_json(mode="binary")) == {"a": "ä"}


def test_receive_json_mode_by_position(lib):
    websocket, _ = accepted(lib, binary(b"1"))
    assert run(websocket.receive_json("binary")) == 1


@pytest.mark.parametrize("frame", ["", "{", "{'a': 1}", "1 2", "[1,]"])
def test_receive_json_that_is_none(lib, frame):
    websocket, _ = accepted(lib, text(frame))
    with pytest.raises(json.JSONDecodeError):
        run(websocket.receive_json())
    assert states(websocket) == ("CONNECTED", "CONNECTED")


def test_receive_json_that_is_not_utf_8(lib):
    websocket, _ = accepted(lib, binary(b'"\xff"'))
    with pytest.raises(UnicodeDecodeError):
        run(websocket.receive_json("binary"))


def test_receive_json_too_deep(lib):
    websocket, _ = accepted(lib, text("[" * 100_000))
    with pytest.raises(RecursionError):
        run(websocket.receive_json())


@pytest.mark.parametrize(
    ("mode", "frame", "error"),
    [
        ("text", {"bytes": b"1"}, KeyError),
        ("text", {"bytes": b"1", "text": None}, TypeError),
        ("binary", {"text": "1"}, KeyError),
        ("binary", {"text": "1", "bytes": None}, AttributeError),
    ],
)
def test_receive_json_of_the_other_kind(lib, mode, frame, error):
    websocket, _ = accepted(lib, {"type": "websocket.receive", **frame})
    with pytest.raises(error):
        run(websocket.receive_json(mode))


@pytest.mark.parametrize("mode", ["bytes", "", None])
def test_receive_json_in_an_unknown_mode(lib, mode):
    websocket, server = accepted(lib, text("1"))
    with pytest.raises(RuntimeError) as caught:
        run(websocket.receive_json(mode))
    assert str(caught.value) == BAD_MODE
    assert server.incoming == [text("1")]


def test_receive_json_checks_the_mode_before_the_state(lib):
    websocket = connect(lib, FakeServer(CONNECT))
    with pytest.raises(RuntimeError) as caught:
        run(websocket.receive_json("bogus"))
    assert str(caught.value) == BAD_MODE


# iter_*()


async def collect(iterator):
    return [item async for item in iterator]


def test_iter_text_ends_with_the_client(lib):
    websocket, _ = accepted(lib, text("a"), text("b"), BYE)
    assert run(collect(websocket.iter_text())) == ["a", "b"]
    assert states(websocket) == ("DISCONNECTED", "CONNECTED")


def test_iter_bytes_ends_with_the_client(lib):
    websocket, _ = accepted(lib, binary(b"a"), binary(b"b"), BYE)
    assert run(collect(websocket.iter_bytes())) == [b"a", b"b"]


def test_iter_json_ends_with_the_client(lib):
    websocket, _ = accepted(lib, text("1"), text("[2]"), BYE)
    assert run(collect(websocket.iter_json())) == [1, [2]]


@pytest.mark.parametrize("name", ["iter_text", "iter_bytes", "iter_json"])
def test_iter_before_accept(lib, name):
    websocket = connect(lib, FakeServer(CONNECT))
    with pytest.raises(lib.WebSocketDisconnected) as caught:
        run(collect(getattr(websocket, name)()))
    assert str(caught.value) == NOT_ACCEPTED


def test_iter_text_again_after_the_client_left(lib):
    websocket, _ = accepted(lib, BYE)
    run(collect(websocket.iter_text()))
    with pytest.raises(lib.WebSocketDisconnected) as caught:
        run(collect(websocket.iter_text()))
    assert str(caught.value) == NO_RECEIVE


def test_iter_text_of_a_binary_frame(lib):
    websocket, _ = accepted(lib, text("a"), binary(b"b"))
    with pytest.raises(KeyError):
        run(collect(websocket.iter_text()))


def test_iter_json_of_invalid_json(lib):
    websocket, _ = accepted(lib, text("1"), text("{"))
    with pytest.raises(json.JSONDecodeError):
        run(collect(websocket.iter_json()))


def test_iter_text_when_closed_inside_the_loop(lib):
    websocket, _ = accepted(lib, text("a"), text("b"))

    async def read():
        async for _ in websocket.iter_text():
            await websocket.close()

    with pytest.raises(lib.WebSocketDisconnected) as caught:
        run(read())
    assert str(caught.value) == NOT_ACCEPTED


# send_text(), send_bytes(), send_json()


def test_send_text(lib):
    websocket, server = accepted(lib)
    run(websocket.send_text("äß"))
    run(websocket.send_text(""))
    assert server.sent == [{"type": "websocket.send", "text": "äß"}, {"type": "websocket.send", "text": ""}]


def test_send_bytes(lib):
    websocket, server = accepted(lib)
    run(websocket.send_bytes(b"\x00\xff"))
    assert server.sent == [{"type": "websocket.send", "bytes": b"\x00\xff"}]


@pytest.mark.parametrize(
    ("value", "frame"),
    [
        ({"a": [1, None, True]}, '{"a":[1,null,true]}'),
        ("ä€😀", '"ä€😀"'),
        (float("nan"), "NaN"),
        ({1: 2}, '{"1":2}'),
        ((1, 2), "[1,2]"),
    ],
)
def test_send_json_is_compact_and_not_escaped(lib, value, frame):
    websocket, server = accepted(lib)
    run(websocket.send_json(value))
    assert server.sent == [{"type": "websocket.send", "text": frame}]


def test_send_json_in_binary(lib):
    websocket, server = accepted(lib)
    run(websocket.send_json({"a": "ä"}, mode="binary"))
    assert server.sent == [{"type": "websocket.send", "bytes": '{"a":"ä"}'.encode()}]


def test_send_json_in_an_unknown_mode(lib):
    websocket, server = accepted(lib)
    with pytest.raises(RuntimeError) as caught:
        run(websocket.send_json({}, mode="bytes"))
    assert str(caught.value) == BAD_MODE
    assert server.sent == []


def test_send_json_of_what_json_cannot_say(lib):
    websocket, server = accepted(lib)
    with pytest.raises(TypeError, match="not JSON serializable"):
        run(websocket.send_json(object()))
    assert server.sent == []
    assert states(websocket) == ("CONNECTED", "CONNECTED")


@pytest.mark.parametrize(("name", "value"), [("send_text", "x"), ("send_bytes", b"x"), ("send_json", {})])
def test_write_before_accept(lib, name, value):
    websocket = connect(lib, FakeServer(CONNECT))
    with pytest.raises(RuntimeError) as caught:
        run(getattr(websocket, name)(value))
    assert str(caught.value) == NOT_ANSWER.format("websocket.send")


@pytest.mark.parametrize(("name", "value"), [("send_text", "x"), ("send_bytes", b"x"), ("send_json", {})])
def test_write_after_close(lib, name, value):
    websocket, _ = accepted(lib)
    run(websocket.close())
    with pytest.raises(lib.WebSocketDisconnected) as caught:
        run(getattr(websocket, name)(value))
    assert str(caught.value) == NO_SEND


# close()


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [
        ({}, 1000, ""),
        ({"code": 4001}, 4001, ""),
        ({"code": 1008, "reason": "no"}, 1008, "no"),
        ({"reason": None}, 1000, ""),
        ({"code": 4999}, 4999, ""),
    ],
)
def test_close(lib, arguments, code, reason):
    websocket, server = accepted(lib)
    run(websocket.close(**arguments))
    assert server.sent == [{"type": "websocket.close", "code": code, "reason": reason}]
    assert states(websocket) == ("CONNECTED", "DISCONNECTED")


def test_close_by_position(lib):
    websocket, server = accepted(lib)
    run(websocket.close(4000, "why"))
    assert server.sent == [{"type": "websocket.close", "code": 4000, "reason": "why"}]


def test_close_before_accept_does_not_wait_for_connect(lib):
    server = FakeServer(CONNECT)
    websocket = connect(lib, server)
    run(websocket.close(4003, "no"))
    assert server.sent == [{"type": "websocket.close", "code": 4003, "reason": "no"}]
    assert server.incoming == [CONNECT]


def test_close_twice(lib):
    websocket, server = accepted(lib)
    run(websocket.close())
    with pytest.raises(lib.WebSocketDisconnected) as caught:
        run(websocket.close())
    assert str(caught.value) == NO_SEND
    assert len(server.sent) == 1


def test_close_after_the_client_left(lib):
    websocket, server = accepted(lib, BYE)
    run(websocket.receive())
    run(websocket.close())
    assert server.sent == [{"type": "websocket.close", "code": 1000, "reason": ""}]
    assert states(websocket) == ("DISCONNECTED", "DISCONNECTED")


# send_denial_response()

DENIAL = {"websocket.http.response": {}}


def test_denial_response(lib):
    server = FakeServer()
    websocket = connect(lib, server, extensions=DENIAL)
    run(websocket.send_denial_response(lib.Response("no", status_code=418, headers={"X-Why": "tea"})))
    start, body = server.sent
    assert (start["type"], start["status"]) == ("websocket.http.response.start", 418)
    assert {(b"x-why", b"tea"), (b"content-length", b"2")} <= set(start["headers"])
    assert (body["type"], body["body"]) == ("websocket.http.response.body", b"no")
    assert states(websocket) == ("CONNECTING", "DISCONNECTED")


def test_denial_response_in_json(lib):
    server = FakeServer()
    websocket = connect(lib, server, extensions=DENIAL)
    run(websocket.send_denial_response(lib.JSONResponse({"a": "ä"}, status_code=401)))
    start, body = server.sent
    assert (b"content-type", b"application/json") in start["headers"]
    assert json.loads(body["body"]) == {"a": "ä"}


@pytest.mark.parametrize("scope", [{}, {"extensions": {}}, {"extensions": {"tls": {}}}])
def test_denial_response_without_the_extension(lib, scope):
    server = FakeServer()
    websocket = connect(lib, server, **scope)
    with pytest.raises(RuntimeError) as caught:
        run(websocket.send_denial_response(lib.Response("no")))
    assert str(caught.value) == NO_DENIAL
    assert server.sent == []
    assert states(websocket) == ("CONNECTING", "CONNECTING")


def test_denial_response_after_accept(lib):
    websocket, server = accepted(lib, extensions=DENIAL)
    with pytest.raises(RuntimeError) as caught:
        run(websocket.send_denial_response(lib.Response("no")))
    assert str(caught.value) == NOT_SEND.format("websocket.http.response.start")
    assert server.sent == []


def test_denial_response_after_close(lib):
    websocket = connect(lib, FakeServer(), extensions=DENIAL)
    run(websocket.close())
    with pytest.raises(lib.WebSocketDisconnected) as caught:
        run(websocket.send_denial_response(lib.Response("no")))
    assert str(caught.value) == NO_SEND


def test_read_after_denial_response(lib):
    websocket = connect(lib, FakeServer(CONNECT), extensions=DENIAL)
    run(websocket.send_denial_response(lib.Response("no")))
    with pytest.raises(lib.WebSocketDisconnected) as caught:
        run(websocket.receive_text())
    assert str(caught.value) == NOT_ACCEPTED


# WebSocketDisconnect and WebSocketClose


@pytest.mark.parametrize(
    ("arguments", "code", "reason"),
    [((), 1000, ""), ((1001,), 1001, ""), ((4000, "x"), 4000, "x"), ((4000, None), 4000, "")],
)
def test_disconnect_carries_code_and_reason(lib, arguments, code, reason):
    error = lib.WebSocketDisconnect(*arguments)
    assert (error.code, error.reason) == (code, reason)
    assert not isinstance(error, RuntimeError)


def test_disconnect_as_text(lib):
    assert str(lib.WebSocketDisconnect(1001, "x")) == "(1001, 'x')"
    assert repr(lib.WebSocketDisconnect(1001)) == "WebSocketDisconnect(1001)"
    assert str(lib.WebSocketDisconnect(code=1001, reason="x")) == ""


@pytest.mark.parametrize(
    ("arguments", "code", "reason"), [({}, 1000, ""), ({"code": 4000, "reason": "x"}, 4000, "x")]
)
def test_websocket_close_is_an_application(lib, arguments, code, reason):
    server = FakeServer()
    run(lib.WebSocketClose(**arguments)({"type": "websocket"}, server.receive, server.send))
    assert server.sent == [{"type": "websocket.close", "code": code, "reason": reason}]


# What it inherits from HTTPConnection


def test_socket_is_a_mapping_over_the_scope(lib):
    websocket = connect(lib, FakeServer(), extra=1)
    assert websocket["path"] == "/"
    assert websocket.get("extra") == 1
    assert websocket.get("missing") is None
    assert "extra" in websocket
    assert list(websocket) == ["type", "path", "headers", "query_string", "extra"]
    assert len(websocket) == 5
    assert dict(websocket) == websocket.scope


def test_missing_scope_key(lib):
    with pytest.raises(KeyError):
        connect(lib, FakeServer())["missing"]


def test_sockets_are_equal_only_to_themselves(lib):
    server = FakeServer()
    websocket, twin = connect(lib, server), connect(lib, server)
    assert websocket == websocket
    assert websocket != twin
    assert len({websocket, twin}) == 2


def test_socket_is_an_http_connection(lib):
    assert issubclass(lib.WebSocket, lib.HTTPConnection)


def test_socket_type_takes_the_type_of_its_state(lib):
    assert lib.WebSocket[dict] is not None


def test_scope_is_not_copied(lib):
    scope = {"type": "websocket"}
    server = FakeServer()
    assert lib.WebSocket(scope, server.receive, server.send).scope is scope


def test_state_is_made_in_the_scope(lib):
    websocket = connect(lib, FakeServer())
    websocket.state.name = "x"
    assert websocket.scope["state"] == {"name": "x"}
    assert websocket.state.name == "x"


def test_state_of_the_server(lib):
    websocket = connect(lib, FakeServer(), state={"pool": 1})
    assert websocket.state.pool == 1


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("session", "SessionMiddleware must be installed to access request.session"),
        ("auth", "AuthenticationMiddleware must be installed to access request.auth"),
        ("user", "AuthenticationMiddleware must be installed to access request.user"),
    ],
)
def test_what_a_middleware_must_have_set(lib, name, message):
    with pytest.raises(AssertionError) as caught:
        getattr(connect(lib, FakeServer()), name)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", ["session", "auth", "user"])
def test_what_a_middleware_has_set(lib, name):
    value = object()
    assert getattr(connect(lib, FakeServer(), **{name: value}), name) is value


def test_url_and_its_parts(lib):
    websocket = connect(
        lib, FakeServer(), scheme="wss", server=("example.org", 443), path="/a", query_string=b"x=1&x=2"
    )
    assert str(websocket.url) == "wss://example.org/a?x=1&x=2"
    assert websocket.query_params.getlist("x") == ["1", "2"]


def test_client_address(lib):
    assert connect(lib, FakeServer(), client=("10.0.0.1", 5)).client.host == "10.0.0.1"
    assert connect(lib, FakeServer()).client is None


def test_cookies_of_every_header(lib):
    headers = [(b"cookie", b"a=1; b=2"), (b"cookie", b"c=3")]
    assert connect(lib, FakeServer(), headers=headers).cookies == {"a": "1", "b": "2", "c": "3"}


def test_path_params_without_route(lib):
    assert connect(lib, FakeServer()).path_params == {}


def test_url_for_without_router(lib):
    with pytest.raises(RuntimeError) as caught:
        connect(lib, FakeServer()).url_for("x")
    assert str(caught.value) == (
        "The `url_for` method can only be used inside a Starlette application or with a router."
    )


def test_every_method_goes_by_way_of_receive_and_send_of_a_subclass(lib):
    class Told(lib.WebSocket):
        async def receive(self):
            message = await super().receive()
            heard.append(message["type"])
            return message

        async def send(self, message):
            spoken.append(message["type"])
            await super().send(message)

    class Further(Told):
        pass

    heard, spoken = [], []
    app = lib.FastAPI()

    def told(websocket: lib.WebSocket):
        return Further(websocket.scope, websocket.receive, websocket.send)

    @app.websocket("/ws")
    async def endpoint(websocket: Annotated[Any, lib.Depends(told)]):
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())
        await websocket.send_bytes(await websocket.receive_bytes())
        await websocket.send_json(await websocket.receive_json())
        await websocket.close()

    with lib.TestClient(app).websocket_connect("/ws") as socket:
        socket.send_text("a")
        socket.send_bytes(b"b")
        socket.send_json({"c": 1})
        assert (socket.receive_text(), socket.receive_bytes(), socket.receive_json()) == ("a", b"b", {"c": 1})
    assert heard == ["websocket.connect", *["websocket.receive"] * 3]
    assert spoken == ["websocket.accept", *["websocket.send"] * 3, "websocket.close"]


def test_raise_on_disconnect(lib):
    websocket = lib.WebSocket({"type": "websocket"}, None, None)
    assert websocket._raise_on_disconnect({"type": "websocket.receive", "text": "x"}) is None
    with pytest.raises(lib.WebSocketDisconnect) as caught:
        websocket._raise_on_disconnect({"type": "websocket.disconnect", "code": 4001, "reason": "why"})
    assert (caught.value.code, caught.value.reason) == (4001, "why")
    with pytest.raises(lib.WebSocketDisconnect) as caught:
        websocket._raise_on_disconnect({"type": "websocket.disconnect", "code": 1001})
    assert (caught.value.code, caught.value.reason) == (1001, "")


@pytest.mark.parametrize("method", ["receive_text", "receive_bytes", "receive_json"])
def test_raise_on_disconnect_of_a_subclass(lib, method):
    """As in a session library that raises its own exception."""
    raised = []

    class Own(lib.WebSocket):
        def _raise_on_disconnect(self, message):
            if message["type"] == "websocket.disconnect":
                raised.append(message["code"])
            super()._raise_on_disconnect(message)

    async def app(scope, receive, send):
        websocket = Own(scope, receive, send)
        await websocket.accept()
        with pytest.raises(lib.WebSocketDisconnect):
            await getattr(websocket, method)()

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        websocket.close(4002)
    assert raised == [4002]


def test_receiving_by_hand(lib):
    """A loop that accepts both text and bytes, as in public code."""
    seen = []

    async def app(scope, receive, send):
        websocket = lib.WebSocket(scope, receive, send)
        await websocket.accept()
        try:
            while True:
                message = await websocket.receive()
                websocket._raise_on_disconnect(message)
                seen.append(message.get("text") or message.get("bytes"))
        except lib.WebSocketDisconnect as exc:
            seen.append(exc.code)

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        websocket.send_text("a")
        websocket.send_bytes(b"b")
        websocket.close(1001)
    assert seen == ["a", b"b", 1001]
