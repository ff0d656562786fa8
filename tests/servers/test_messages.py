"""Typed messages on real servers: what a client gets for each kind of message that does not fit."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from tests.servers.client import Raw, open_socket, unique
from tests.servers.conftest import Running, Server

pytestmark = pytest.mark.servers

APP = "tests.servers.typed:app"
POST = '{"type":"post","text":"hi"}'
# By kind: the frame, the status in the answer, and the code that closes instead.
BAD: dict[str, tuple[str | bytes, int, int]] = {
    "no JSON": ("{bad", 400, 1007),
    "nothing": ("", 400, 1007),
    "half a pair": ('{"type":"post","text":"\\ud800"}', 400, 1007),
    "too deep": ("[" * 5000, 400, 1007),
    "number too long": ('{"type":"post","text":' + "1" * 5000 + "}", 400, 1007),
    "more than JSON": (POST + "{}", 400, 1007),
    "a byte order mark": ("\ufeff" + POST, 400, 1007),
    "half an escape": ('{"type":"post","text":"\\u12"}', 400, 1007),
    "deep below a field": ('{"type":"post","text":' + "[" * 5000 + "]" * 5000 + "}", 400, 1007),
    "binary": (b"\x00\xff", 415, 1003),
    "JSON in binary": (POST.encode(), 415, 1003),
    "an empty binary frame": (b"", 415, 1003),
    "unknown tag": ('{"type":"nope"}', 422, 4422),
    "missing tag": ('{"text":"hi"}', 422, 4422),
    "does not fit": ('{"type":"post","text":""}', 422, 4422),
    "tag of another type": ('{"type":["post"],"text":"hi"}', 422, 4422),
    "two tags, the last of which counts": ('{"type":"post","text":"hi","type":"x"}', 422, 4422),
    "no object": ("[1]", 422, 4422),
    "null": ("null", 422, 4422),
}


@pytest.fixture
def running(server: Server) -> Running:
    return server.shared(APP)


def ask(client: ClientConnection, frame: str | bytes) -> Any:
    client.send(frame)
    return json.loads(client.recv(timeout=20))


def code_after(client: ClientConnection, *frames: str | bytes) -> int:
    for frame in frames:
        client.send(frame)
    with pytest.raises(ConnectionClosed) as caught:
        while True:
            client.recv(timeout=20)
    assert caught.value.rcvd is not None
    return caught.value.rcvd.code


@pytest.mark.parametrize("kind", BAD)
def test_a_message_that_does_not_fit_is_answered_and_the_socket_lives(running: Running, kind: str) -> None:
    frame, status, _ = BAD[kind]
    with open_socket(running, "/answer") as client:
        answer = ask(client, frame)
        assert (answer["type"], answer["status"]) == ("error", status)
        assert isinstance(answer["detail"], list if status == 422 else str)
        assert ask(client, POST) == {"type": "said", "text": "hi"}


@pytest.mark.parametrize("path", ["/close", "/router/closing", "/raise", "/handled/raise"])
@pytest.mark.parametrize("kind", BAD)
def test_where_nobody_answers_the_socket_closes(running: Running, kind: str, path: str) -> None:
    frame, _, code = BAD[kind]
    with open_socket(running, path) as client:
        assert code_after(client, frame) == code


@pytest.mark.parametrize("kind", BAD)
def test_a_handler_of_the_application_takes_the_place_of_the_answer(running: Running, kind: str) -> None:
    frame, status, code = BAD[kind]
    with open_socket(running, "/handled/talk") as client:
        assert ask(client, frame) == {"handled": status, "code": code}
        assert ask(client, POST) == {"type": "said", "text": "hi"}


def test_bad_text_on_the_wire_closes_with_1007(running: Running) -> None:
    with Raw(running, "/answer").accepted() as client:
        client.send(1, b'{"type":"post","text":"\xff"}')
        assert client.close_frame()[0] == 1007


def test_bad_utf8_in_binary_json(running: Running) -> None:
    with open_socket(running, "/binary") as client:
        assert ask(client, b'{"type":"post","text":"\xff"}')["status"] == 400
        assert ask(client, POST.encode()) == {"type": "said", "text": "hi"}


@pytest.mark.parametrize("frame", ["x", b"x", POST])
def test_a_route_without_incoming_messages(running: Running, frame: str | bytes) -> None:
    with open_socket(running, "/silent") as client:
        assert ask(client, frame)["status"] == 415


def test_bytes_beside_models(running: Running) -> None:
    with open_socket(running, "/upload") as client:
        client.send(b"\x00\x01")
        assert client.recv(timeout=20) == b"\x00\x01"
        assert ask(client, POST) == {"type": "said", "text": "hi"}


def test_raw_text_is_no_json(running: Running) -> None:
    with open_socket(running, "/raw") as client:
        client.send("{bad")
        assert client.recv(timeout=20) == "{BAD"
        assert ask(client, b"x")["status"] == 415


def test_the_eleventh_in_a_row_closes_with_the_code_of_its_kind(running: Running) -> None:
    with open_socket(running, "/answer") as client:
        for _ in range(10):
            ask(client, "{bad")
        assert ask(client, POST) == {"type": "said", "text": "hi"}
        for _ in range(10):
            ask(client, b"x")
        assert code_after(client, '{"type":"nope"}') == 4422


def test_errors_of_the_client_are_counted_and_not_answered(running: Running) -> None:
    with open_socket(running, "/answer") as client:
        client.send('{"type":"error","status":400}')
        assert ask(client, POST) == {"type": "said", "text": "hi"}
        assert code_after(client, *['{"type":"error"}'] * 11) == 4422


@pytest.mark.parametrize(
    ("sent", "echoed"),
    [
        ('"c7"', "c7"),
        ('""', ""),
        ("-7", -7),
        ("9007199254740993", 9007199254740993),
        (json.dumps("é" * 64), "é" * 64),
        (json.dumps("x" * 65), None),
        ("true", None),
        ("1.0", None),
        ("null", None),
        ('["c7"]', None),
    ],
)
def test_ids_of_messages_that_do_not_fit(running: Running, sent: str, echoed: str | int | None) -> None:
    with open_socket(running, "/answer") as client:
        answer = ask(client, f'{{"type":"nope","id":{sent}}}')
    assert answer.get("id") == echoed
    assert ("id" in answer) == (echoed is not None)


@pytest.mark.parametrize("key", ["x" * 5000, "é" * 5000, "\U0001f600" * 5000, '"' * 5000])
def test_error_frames_are_text_of_at_most_2_kib(running: Running, key: str) -> None:
    bad = json.dumps({"type": key, "id": "c7"})
    with Raw(running, "/answer").accepted() as client:
        client.send(1, bad.encode())
        opcode, payload = client.data_frame()
    assert (opcode, len(payload) <= 2048) == (1, True)
    answer = json.loads(payload)
    assert (answer["status"], answer["id"], len(answer["detail"])) == (422, "c7", 1)
    [error] = answer["detail"]
    assert sorted(error) == ["loc", "msg", "type"]
    assert len(error["msg"]) == 200
    assert error["msg"].endswith("…")


def test_functions_of_a_router(server: Server) -> None:
    running = server.start(APP)
    with open_socket(running, "/functions") as client:
        conflict = {"type": "error", "status": 409, "detail": {"why": ["a conflict"]}}
        assert ask(client, '{"type":"post","text":"409","id":"x"}') == conflict
        failure = {"type": "error", "status": 500, "detail": "Internal Server Error"}
        assert ask(client, '{"type":"search","q":"boom","id":7}') == {**failure, "id": 7}
        assert ask(client, '{"type":"post","text":""}')["status"] == 422
        assert ask(client, '{"type":"search","q":"x","id":""}') == {"type": "found", "hits": ["x"], "id": ""}
        assert code_after(client, '{"type":"post","text":"bye"}') == 4001
    assert running.logs().count("Traceback") == 1


def test_functions_and_streams_may_close_the_socket(server: Server) -> None:
    running = server.start(APP)
    with open_socket(running, "/functions") as client:
        assert code_after(client, '{"type":"post","text":"close"}', POST) == 4005
    name = unique()
    with open_socket(running, f"/own/{name}") as client:
        assert json.loads(client.recv(timeout=20)) == {"number": 1}
        assert code_after(client) == 4010
    assert ended(running, name) == 1
    assert "Traceback" not in running.logs()
    assert "Exception" not in running.logs()


def test_bad_messages_count_against_the_rate(running: Running) -> None:
    with open_socket(running, "/rate") as client:
        for frame in ("{bad", b"x", '{"type":"nope"}'):
            assert ask(client, frame)["type"] == "error"
        assert code_after(client, POST) == 4429


def test_a_silent_client_is_closed(running: Running) -> None:
    with open_socket(running, "/idle") as client:
        assert code_after(client) == 4408


def test_limits_close_as_they_do_elsewhere(running: Running) -> None:
    with open_socket(running, "/small") as client:
        assert code_after(client, json.dumps({"type": "post", "text": "x" * 200})) == 1009


@pytest.mark.parametrize(
    ("text", "code"), [("boom", 1011), ("409", 4409), ("misfit", 1011), ("incomplete", 1011)]
)
def test_exceptions_of_the_endpoint_mean_what_they_do_elsewhere(
    running: Running, text: str, code: int
) -> None:
    with open_socket(running, "/answer") as client:
        assert code_after(client, json.dumps({"type": "post", "text": text})) == code


def test_errors_and_replies_of_the_endpoint(running: Running) -> None:
    with open_socket(running, "/answer") as client:
        teapot = {"type": "error", "status": 418, "detail": "I'm a Teapot"}
        assert ask(client, '{"type":"post","text":"418"}') == teapot
        missing = {"type": "error", "status": 404, "detail": "no hits", "id": 7}
        assert ask(client, '{"type":"search","q":"404","id":7}') == missing
        found = {"type": "found", "hits": ["x"], "id": "c1"}
        assert ask(client, '{"type":"search","q":"x","id":"c1"}') == found
        assert ask(client, '{"type": "ping"}') == {"type": "pong"}


def ended(running: Running, name: str) -> int:
    """How often a stream has cleaned up; waits until it has."""
    with open_socket(running, f"/ended/{name}") as client:
        return int(json.loads(client.recv(timeout=20))["number"])


@pytest.mark.parametrize("leave", ["close", "vanish"])
@pytest.mark.parametrize("path", ["ticks", "flood"])
def test_a_client_that_leaves_a_stream_is_noticed(running: Running, path: str, leave: str) -> None:
    name = unique()
    with Raw(running, f"/{path}/{name}").accepted() as client:
        assert client.data_frame() == (1, b'{"number":1}')
        left = time.monotonic()
        client.send(8, b"\x03\xe8") if leave == "close" else client.reset()
        assert ended(running, name) == 1
        assert time.monotonic() - left < 10  # daphne sends its first ping after 20 s


def test_a_client_that_leaves_while_a_function_runs_is_noticed(running: Running) -> None:
    """As with any busy endpoint: it has a few seconds to notice the disconnect by itself."""
    name = unique()
    with Raw(running, f"/functions?name={name}").accepted() as client:
        client.send(1, b'{"type":"post","text":"wait"}')
        assert client.data_frame() == (1, b'"waiting"')
        client.reset()
        assert ended(running, name) == 1


def test_a_stream_ends(running: Running) -> None:
    with open_socket(running, "/count/3") as client:
        assert [json.loads(client.recv(timeout=20))["number"] for _ in range(3)] == [0, 1, 2]
        assert code_after(client) == 1000
    with open_socket(running, "/count/13") as client:
        assert code_after(client) == 1011


def test_what_the_client_of_a_stream_says_is_answered(running: Running) -> None:
    name = unique()
    with open_socket(running, f"/ticks/{name}") as client:
        assert json.loads(client.recv(timeout=20)) == {"number": 1}
        for _ in range(10):
            assert ask(client, "hello?")["status"] == 415
        assert code_after(client, "hello?") == 1003
    assert ended(running, name) == 1


def test_a_raised_error_is_one_line_in_the_log(server: Server) -> None:
    running = server.start(APP)
    with open_socket(running, "/raise") as client:
        assert code_after(client, '{"type":"post","text":"","secret":"s3cr3t"}') == 4422
    with open_socket(running, "/answer") as client:
        ask(client, "{bad")
    logs = running.logs()
    assert logs.count("MessageValidationError") == 1
    assert "closed with 4422" in logs
    assert "Traceback" not in logs
    assert "s3cr3t" not in logs


def test_whatever_is_sent_ends_in_a_frame_or_a_code_and_in_no_traceback(server: Server) -> None:
    running = server.start(APP)
    leaves = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    json_values = st.recursive(
        leaves, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=10
    )
    tagged = st.fixed_dictionaries(
        {"type": st.sampled_from(["post", "search", "error", "x"])},
        optional={"id": leaves, "text": leaves, "q": leaves},
    )
    frames = st.binary() | st.text() | (json_values | tagged).map(json.dumps)

    @settings(max_examples=60, deadline=None)
    @given(frames, st.sampled_from(["/answer", "/close", "/raise", "/handled/talk", "/binary", "/upload"]))
    def holds(frame: str | bytes, path: str) -> None:
        with open_socket(running, path) as client:
            code = None
            try:
                client.send(frame)
                client.send("{end")
                client.recv(timeout=20)
            except ConnectionClosed as closed:
                code = closed.rcvd and closed.rcvd.code
            assert code in (None, 1003, 1007, 1009, 4422)

    holds()
    assert "Traceback" not in running.logs()
    assert "ERROR" not in running.logs().replace('"ERROR"', "")
