"""Limits on the messages of a route, on the lifetime of its connections, and on their number."""

import asyncio
import logging

import pytest
from django.test import override_settings

from fastws_compat import APIRouter, FastAPI, WebSocket, WebSocketDisconnect, limits
from fastws_compat.asgi import get_asgi_application
from fastws_compat.connections import guard as guard_module
from fastws_compat.connections.guard import Bucket
from fastws_compat.connections.states import SESSION
from fastws_compat.endpoints import WebSocketEndpoint
from fastws_compat.exceptions import DeclarationError
from fastws_compat.limits import Limits, parse_rate
from fastws_compat.routing import flatten
from fastws_compat.testclient import TestClient
from fastws_compat.websockets import WebSocketState
from tests.fake_server import connected, converse, text, until
from tests.test_endings import records


def echoing(app, path="/ws", **limits):
    """Add an endpoint that echoes, and return a list for the exception that ends it."""
    ended = []

    @app.websocket(path, **limits)
    async def echo(websocket: WebSocket):
        await websocket.accept()
        try:
            while True:
                await websocket.send_text(await websocket.receive_text())
        except WebSocketDisconnect as exc:
            ended.append((exc.code, exc.reason))

    return ended


def frame(data):
    return {"type": "websocket.receive", "text" if isinstance(data, str) else "bytes": data}


def after(app, *messages, path="/ws"):
    """The connection after exactly these messages, once the endpoint has ended by itself."""

    async def run():
        line = connected(app, path=path)
        for message in messages:
            line.put(frame(message))
        await line.wait_ended()
        return line

    return asyncio.run(run())


# Starlette's kinds of routes


async def starlette_echo(websocket: WebSocket):
    await websocket.accept()
    async for data in websocket.iter_text():
        await websocket.send_text(data)


class StarletteEcho(WebSocketEndpoint):
    encoding = "text"

    async def on_receive(self, websocket, data):
        await websocket.send_text(data)


@pytest.mark.parametrize("endpoint", [starlette_echo, StarletteEcho])
@pytest.mark.parametrize("prefix", ["", "/inner"])
@pytest.mark.parametrize(
    ("options", "code"),
    [({"max_message_size": 10}, 1009), ({"rate_limit": "1/h"}, 4429), ({"max_age": 0.01}, 4408)],
)
def test_limits_of_the_app_hold_for_starlette_s_routes(endpoint, prefix, options, code):
    app, router = FastAPI(**options), APIRouter()
    (router if prefix else app.router).add_websocket_route("/ws", endpoint)
    if prefix:
        app.include_router(router, prefix=prefix)

    async def run():
        line = connected(app, path=f"{prefix}/ws")
        if code != 4408:
            line.say("fits")
            line.say("x" * 11)
        await line.wait_ended()
        return line

    line = asyncio.run(run())
    assert line.closes == [code]
    assert line.texts == ([] if code == 4408 else ["fits"])


# The size of a message


@pytest.mark.parametrize("message", ["x" * 11, "\N{EURO SIGN}" * 4, b"x" * 11, "\ud800" * 4])
def test_message_that_is_too_big_closes_with_1009(message, caplog):
    app = FastAPI(max_message_size=10)
    ended = echoing(app)
    line = after(app, message)
    assert line.sent[1:] == [{"type": "websocket.close", "code": 1009, "reason": "message too big"}]
    assert ended == [(1009, "message too big")]
    assert records(caplog) == []


@pytest.mark.parametrize("message", ["x" * 10, "\N{EURO SIGN}" * 3, "", "xx"])
def test_message_that_just_fits(message):
    app = FastAPI(max_message_size=10)
    echoing(app)
    with TestClient(app).websocket_connect("/ws") as websocket:
        websocket.send_text(message)
        assert websocket.receive_text() == message


def test_big_message_for_an_endpoint_that_receives_raw_messages():
    app, seen = FastAPI(max_message_size=10), []

    @app.websocket("/ws")
    async def raw(websocket: WebSocket):
        await websocket.accept()
        seen.append(await websocket.receive())
        with pytest.raises(RuntimeError):
            await websocket.receive()
        with pytest.raises(WebSocketDisconnect):
            await websocket.send_text("anybody?")

    assert after(app, b"x" * 11).closes == [1009]
    assert seen == [{"type": "websocket.disconnect", "code": 1009, "reason": "message too big"}]


def test_default_size_is_a_mebibyte():
    app = FastAPI()
    ended = echoing(app)
    assert after(app, "x" * 1024 * 1024, "x" * (1024 * 1024 + 1)).closes == [1009]
    assert ended == [(1009, "message too big")]


@override_settings(FASTWS={"MAX_MESSAGE_SIZE": 5})
def test_default_size_is_a_setting():
    app = FastAPI()
    echoing(app)
    assert after(app, "123456").closes == [1009]


def test_none_is_no_limit():
    app = FastAPI(max_message_size=5)
    echoing(app, max_message_size=None)
    with TestClient(app).websocket_connect("/ws") as websocket:
        websocket.send_text("x" * 3_000_000)
        assert len(websocket.receive_text()) == 3_000_000


# Rates


def test_too_many_messages_close_with_4429(caplog):
    app = FastAPI()
    ended = echoing(app, rate_limit="3/h")
    line = after(app, *"12345")
    assert line.texts == ["1", "2", "3"]
    assert line.sent[-1] == {"type": "websocket.close", "code": 4429, "reason": "too many messages"}
    assert ended == [(4429, "too many messages")]
    assert records(caplog) == []


def test_too_many_bytes_close_with_4429():
    app = FastAPI()
    echoing(app, rate_limit="100/s, 10B/h")
    line = after(app, "12345", "12345", "1")
    assert line.texts == ["12345", "12345"]
    assert line.closes == [4429]


def test_bucket_fills_with_time():
    bucket, message = Bucket(parse_rate("2/s")), frame("x")
    assert [bucket.charge(message, 0, 0) for _ in range(3)] == [True, True, False]
    bucket = Bucket(parse_rate("2/s"))
    assert all(bucket.charge(message, 0, 0.5) for _ in range(100))
    assert not all(bucket.charge(message, 0, 0.4) for _ in range(100))


def test_silence_fills_a_bucket_once():
    bucket, message = Bucket(parse_rate("2/s")), frame("x")
    assert [bucket.charge(message, 0, 60), *(bucket.charge(message, 0, 0) for _ in range(2))] == [
        True,
        True,
        False,
    ]


def test_client_is_not_charged_for_a_slow_endpoint():
    """At 20 per second, 100 messages may arrive in the 5 seconds for which the endpoint was busy."""
    bucket, message = Bucket(parse_rate("20/s")), frame("x")
    assert bucket.charge(message, 5, 0)
    assert all(bucket.charge(message, 0, 0) for _ in range(99))
    assert not all(bucket.charge(message, 0, 0) for _ in range(22))


@pytest.mark.parametrize(
    ("text", "amount", "seconds", "of_bytes"),
    [
        ("20/s", 20, 1, False),
        (" 100 / m ", 100, 60, False),
        ("100/min", 100, 60, False),
        ("1000/hour", 1000, 3600, False),
        ("5/10s", 5, 10, False),
        ("9/day", 9, 86400, False),
        ("64KiB/s", 65536, 1, True),
        ("1.5MB/s", 1_500_000, 1, True),
        ("10 B/s", 10, 1, True),
    ],
)
def test_rate_is_read(text, amount, seconds, of_bytes):
    rate = parse_rate(text)
    assert (rate.amount, rate.seconds, rate.of_bytes) == (amount, seconds, of_bytes)


# Time


def test_idle_connection_closes_with_4408():
    app = FastAPI(idle_timeout=0.05)
    ended = echoing(app)
    line = after(app)
    assert line.sent[-1] == {"type": "websocket.close", "code": 4408, "reason": "idle"}
    assert ended == [(4408, "idle")]


@pytest.mark.parametrize("direction", ["from the client", "to the client"])
def test_a_message_in_either_direction_keeps_a_connection_alive(monkeypatch, direction):
    now, app, sockets, go = 0.0, FastAPI(), [], asyncio.Event()
    monkeypatch.setattr(guard_module, "monotonic", lambda: now)

    @app.websocket("/ws", idle_timeout=3600)
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        sockets.append(websocket)
        if direction == "to the client":
            await go.wait()
            await websocket.send_text("hello")
        await websocket.receive_text()
        await websocket.receive_text()

    async def run():
        nonlocal now
        line = connected(app)
        await until(lambda: sockets)
        guard = sockets[0].scope[SESSION].guard
        now = 3000.0
        if direction == "to the client":
            go.set()
            await until(lambda: line.texts)
        else:
            line.say("hello")
            await until(lambda: sockets[0]._receive_returns == 1 and line.receiving)
        now = 6599.0
        guard._check_idle()
        assert not line.task.done()
        assert line.closes == []
        now = 6600.0
        guard._check_idle()
        await line.wait_ended()
        assert line.closes == [4408]

    asyncio.run(run())


def test_old_connection_closes_with_4408():
    app = FastAPI()
    ended = echoing(app, max_age=0.05, idle_timeout=60)
    line = after(app)
    assert line.sent[-1] == {"type": "websocket.close", "code": 4408, "reason": "max age"}
    assert ended == [(4408, "max age")]


@override_settings(FASTWS={"DISCONNECT_GRACE": 0})
def test_endpoint_that_does_not_receive_is_cancelled_after_the_grace(monkeypatch):
    monkeypatch.setattr("fastws_compat.connections.sweeper.INTERVAL", 0.01)
    app, seen = FastAPI(), []

    @app.websocket("/ws", max_age=0.05)
    async def sleeps(websocket: WebSocket):
        await websocket.accept()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    assert after(app).closes == [4408]
    assert seen == ["cancelled"]


def test_every_task_that_receives_sees_the_end():
    app, seen = FastAPI(), []

    @app.websocket("/ws", idle_timeout=0.05)
    async def two(websocket: WebSocket):
        await websocket.accept()

        async def reader():
            try:
                await websocket.receive_text()
            except WebSocketDisconnect as exc:
                seen.append(exc.code)

        async with asyncio.TaskGroup() as group:
            group.create_task(reader())
            group.create_task(reader())

    assert after(app).closes == [4408]
    assert seen == [4408, 4408]


def test_receive_that_the_endpoint_cancels_is_no_end():
    app, seen = FastAPI(), []

    @app.websocket("/ws", idle_timeout=60)
    async def impatient(websocket: WebSocket):
        await websocket.accept()
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(websocket.receive_text(), 0.01)
        await websocket.send_text("now")
        seen.append(await websocket.receive_text())

    async def run():
        line = connected(app)
        await line.wait_sent("websocket.send")
        line.say("a")
        await line.wait_ended()
        assert line.closes == [1000]

    asyncio.run(run())
    assert seen == ["a"]


def test_handshake_is_not_idle():
    app = FastAPI()

    @app.websocket("/ws", idle_timeout=0.01, max_age=0.01)
    async def slow(websocket: WebSocket):
        await asyncio.sleep(0.05)
        await websocket.accept()
        await websocket.close(1000)

    assert after(app).closes == [1000]


def test_close_that_cannot_be_sent_does_not_hold_the_session(monkeypatch):
    monkeypatch.setattr("fastws_compat.connections.lifecycle.CLOSE_TIMEOUT", 0.01)
    app = FastAPI()
    echoing(app, idle_timeout=0.01)

    async def hangs(message):
        if message["type"] == "websocket.close":
            await asyncio.Event().wait()

    assert [message["type"] for message in converse(app, on_send=hangs)] == ["websocket.accept"]


# Numbers of connections


def refused_by(app, **scope):
    """The status with which a second connection is refused while one is open; None if it is accepted."""

    async def run():
        scope["extensions"] = {"websocket.http.response": {}}
        first = connected(app, **scope)
        await first.wait_sent("websocket.accept")
        second = connected(app, **scope)
        await until(lambda: second.sent)
        answer = second.sent[0].get("status")
        for line in (first, second):
            line.hang_up()
            await line.wait_ended()
        third = connected(app, **scope)
        await third.wait_sent("websocket.accept")
        third.hang_up()
        await third.wait_ended()
        return answer

    return asyncio.run(run())


class User:
    pk = 7
    is_authenticated = True


def test_connection_over_the_cap_is_refused_with_503(caplog):
    app = FastAPI(max_connections=1)
    echoing(app)
    assert refused_by(app) == 503
    assert records(caplog) == ["WebSocket refused: all clients together may have at most 1 open connections"]


@pytest.mark.parametrize("endpoint", [starlette_echo, StarletteEcho])
def test_cap_of_the_app_counts_starlette_s_routes(endpoint):
    app = FastAPI(max_connections=1)
    app.websocket_route("/ws")(endpoint)
    assert refused_by(app) == 503


def test_connection_of_one_user_over_the_cap_is_refused_with_429():
    app = FastAPI()
    echoing(app, max_connections_per_user=1)
    assert refused_by(app, user=User()) == 429


def test_anonymous_users_have_no_cap():
    app = FastAPI()
    echoing(app, max_connections_per_user=1)
    assert refused_by(app) is None


def test_connection_of_one_address_over_the_cap_is_refused_with_429():
    app = FastAPI()
    echoing(app, max_connections_per_address=1)
    assert refused_by(app, client=("192.0.2.1", 1)) == 429
    assert refused_by(app, client=None) is None


@pytest.mark.parametrize(
    ("address", "other", "is_same"),
    [
        ("2001:db8::1", "2001:db8::ffff:1", True),  # a client chooses the last 64 bits itself
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("::1", "::2", True),
        ("a:b", "a:b", True),
        ("a:b", "a:c", False),
    ],
)
def test_address_that_a_client_counts_as(address, other, is_same):
    owners = [limits.owner({"client": (text, 1)}, "address") for text in (address, other)]
    assert (owners[0] == owners[1]) is is_same


@pytest.mark.parametrize(
    ("name", "status"),
    [("MAX_CONNECTIONS", 503), ("MAX_CONNECTIONS_PER_USER", 429), ("MAX_CONNECTIONS_PER_ADDRESS", 429)],
)
def test_caps_of_the_settings_hold_for_the_process(name, status):
    app = FastAPI()
    echoing(app)
    with override_settings(FASTWS={name: 1}):
        assert refused_by(app, user=User(), client=("192.0.2.1", 1)) == status
    assert all(cap.counts == {} for cap in limits.PROCESS_CAPS.values())


def test_full_process_logs_no_refusal_of_what_the_fallback_serves(caplog):
    served = []

    async def fallback(scope, receive, send):
        served.append(scope["path"])
        await send({"type": "websocket.accept"})

    app = FastAPI()
    echoing(app)
    with override_settings(FASTWS={"MAX_CONNECTIONS": 1, "ALLOWED_ORIGINS": ["*"]}):
        application = get_asgi_application(app, fallback=fallback)
        logging.getLogger().addHandler(caplog.handler)  # django.setup() has removed it

        async def run():
            first = connected(application)
            await first.wait_sent("websocket.accept")
            legacy = connected(application, path="/legacy")
            await legacy.wait_sent("websocket.accept")
            assert records(caplog) == []
            second = connected(application)
            await second.wait_ended()
            await first.leave()

        asyncio.run(run())
    assert served == ["/legacy"]
    assert records(caplog) == ["WebSocket refused: all clients together may have at most 1 open connections"]


def test_cap_of_the_app_counts_all_its_routes_and_that_of_a_route_its_own():
    app = FastAPI(max_connections=1)
    echoing(app, "/a")
    echoing(app, "/b")
    echoing(app, "/c", max_connections=1)

    async def run():
        first = connected(app, path="/a")
        await first.wait_sent("websocket.accept")
        other, own = connected(app, path="/b"), connected(app, path="/c")
        await other.wait_sent("websocket.close")
        await own.wait_sent("websocket.accept")
        for line in (first, own):
            line.hang_up()
            await line.wait_ended()

    asyncio.run(run())


def test_every_connection_that_ends_frees_one_place():
    app = FastAPI(max_connections=2)
    echoing(app)
    [route] = flatten(app.routes)

    async def run():
        lines = [connected(app), connected(app)]
        for line in lines:
            await line.wait_sent("websocket.accept")
        await lines[0].leave()
        assert list(route.limits.get("max_connections").counts.values()) == [1]
        third, fourth = connected(app), connected(app)
        await third.wait_sent("websocket.accept")
        await fourth.wait_sent("websocket.close")
        for line in (lines[1], third):
            await line.leave()

    asyncio.run(run())


def test_a_limit_that_does_not_exist():
    with pytest.raises(TypeError, match=r"There is no limit 'max_sockets', only .*max_connections"):
        limits.Limits({"max_sockets": 1})


def test_refusal_by_a_later_cap_frees_the_places_taken():
    app = FastAPI(max_connections=5)
    echoing(app, max_connections_per_address=0)
    [route] = flatten(app.routes)

    async def run():
        line = connected(app, client=("192.0.2.1", 1))
        await line.wait_ended()
        assert line.closes == [1000]

    asyncio.run(run())
    assert route.limits.get("max_connections").counts == {}


# Declarations


def test_the_innermost_limit_wins():
    app = FastAPI(max_message_size=1, idle_timeout=1)
    router = APIRouter(max_message_size=2, rate_limit="2/s")
    echoing(router, "/router")
    echoing(router, "/route", max_message_size=3, rate_limit=None)
    app.include_router(router, prefix="/in")
    found = {route.path: route.limits.options for route in flatten(app.routes)}
    assert found == {
        "/in/router": {"max_message_size": 2, "rate_limit": "2/s", "idle_timeout": 1},
        "/in/route": {"max_message_size": 3, "rate_limit": None, "idle_timeout": 1},
    }


@pytest.mark.parametrize(
    "options",
    [
        {"max_message_size": 0},
        {"max_message_size": "1M"},
        {"max_message_size": 1.5},
        {"rate_limit": "fast"},
        {"rate_limit": "0/s"},
        {"rate_limit": "20/fortnight"},
        {"rate_limit": 20},
        {"rate_limit": "0.5/s"},
        {"rate_limit": "5/0s"},
        {"rate_limit": f"5/{10**400}d"},
        {"idle_timeout": 0},
        {"idle_timeout": float("nan")},
        {"idle_timeout": float("inf")},
        {"max_age": 10**400},
        {"max_age": True},
        {"max_connections": -1},
    ],
)
def test_invalid_limit_is_refused_at_import(options):
    with pytest.raises(DeclarationError, match=next(iter(options))):
        FastAPI(**options)


def test_rate_of_less_than_one_message_is_refused_with_the_way_to_write_it():
    with pytest.raises(DeclarationError, match=r"'0\.5/s' allows no message: .*'1/10s'"):
        parse_rate("0.5/s")


def test_unknown_limit_of_a_route_is_found_at_import():
    app = FastAPI()
    with pytest.raises(TypeError, match="max_mesage_size"):
        app.websocket("/ws", max_mesage_size=1)(test_unknown_limit_of_a_route_is_found_at_import)


def test_limits_show_what_was_written():
    assert repr(Limits({"rate_limit": "20/s"})) == "Limits(rate_limit='20/s')"


# JSON


@pytest.mark.parametrize(
    "text",
    [
        "[" * 100_000,
        '{"a":' * 100_000,
        "9" * 5000,
        "{",
        "",
        '{"a":1}'.encode("utf-16").decode("latin-1"),
    ],
)
def test_json_that_cannot_be_read_closes_with_1007_and_one_line(text, caplog):
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        while True:
            await websocket.send_json(await websocket.receive_json())

    assert after(app, text).closes == [1007]
    [line] = records(caplog)
    assert "the client sent a frame that the endpoint cannot read" in line
    assert "Traceback" not in caplog.text


def test_json_in_utf_16_closes_with_1007():
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.receive_json(mode="binary")

    assert after(app, '{"a":1}'.encode("utf-16")).closes == [1007]


def test_half_a_surrogate_pair_in_an_echo_closes_with_1007_and_one_line(caplog):
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        assert websocket.application_state is WebSocketState.CONNECTED
        while True:
            await websocket.send_json(await websocket.receive_json())

    async def encode(message):
        message.get("text", "").encode()  # as servers do

    sent = converse(app, text('"\\ud800"'), on_send=encode)
    assert sent[-1] == {"type": "websocket.close", "code": 1007, "reason": ""}
    [line] = records(caplog)
    assert "UnicodeEncodeError" in line
    assert "Traceback" not in caplog.text


def test_json_that_python_reads_is_passed_on_as_on_fastapi():
    app, seen = FastAPI(), []

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        for _ in range(3):
            seen.append(await websocket.receive_json())

    after(app, '{"a":1,"a":2}', "[NaN, Infinity]", '"\\ud800"')
    assert seen[0] == {"a": 2}
    assert str(seen[1]) == "[nan, inf]"
    assert seen[2] == "\ud800"


def test_nothing_is_logged_for_a_client_that_keeps_to_the_limits(caplog):
    caplog.set_level(logging.DEBUG)
    app = FastAPI(max_message_size=10, rate_limit="1000/s", idle_timeout=60, max_age=60, max_connections=9)
    echoing(app)
    with TestClient(app).websocket_connect("/ws") as websocket:
        websocket.send_text("x")
        assert websocket.receive_text() == "x"
    assert records(caplog) == []
