"""`WebSocketEndpoint`: encodings, its three methods, close codes."""

import asyncio

import pytest

from tests.fake_server import CONNECT, FakeServer, disconnect


def application(lib, endpoint):
    app = lib.FastAPI()
    app.websocket_route("/ws")(endpoint)
    return app


def connect(lib, endpoint, **options):
    return lib.TestClient(application(lib, endpoint)).websocket_connect("/ws", **options)


def echo(lib, kind):
    """An endpoint class with this encoding that sends back what it received, and its type."""

    class Echo(lib.WebSocketEndpoint):
        encoding = kind

        async def on_receive(self, websocket, data):
            await websocket.send_text(repr(data))

    return Echo


def recorder(lib, seen):
    class Recorder(lib.WebSocketEndpoint):
        async def on_connect(self, websocket):
            seen.append("connect")
            await websocket.accept()

        async def on_receive(self, websocket, data):
            seen.append(data)

        async def on_disconnect(self, websocket, close_code):
            seen.append(close_code)

    return Recorder


@pytest.mark.parametrize(
    ("kind", "frame", "data"),
    [
        ("text", {"text": "a"}, "a"),
        ("text", {"text": ""}, ""),
        ("text", {"text": "a", "bytes": None}, "a"),
        ("bytes", {"bytes": b"a"}, b"a"),
        ("bytes", {"bytes": b""}, b""),
        ("bytes", {"bytes": b"a", "text": None}, b"a"),
        ("json", {"text": '{"a":[1]}'}, {"a": [1]}),
        ("json", {"bytes": '{"ä":1}'.encode()}, {"ä": 1}),
        ("json", {"text": None, "bytes": b"1"}, 1),
        (None, {"text": "a"}, "a"),
        (None, {"bytes": b"a"}, b"a"),
        (None, {"text": "a", "bytes": b"b"}, "a"),
        (None, {"text": None, "bytes": b"b"}, b"b"),
    ],
)
def test_data(lib, kind, frame, data):
    with connect(lib, echo(lib, kind)) as websocket:
        websocket.send({"type": "websocket.receive", **frame})
        assert websocket.receive_text() == repr(data)


@pytest.mark.parametrize(
    ("kind", "frame", "message"),
    [
        ("text", {"bytes": b"a"}, "Expected text websocket messages, but got bytes"),
        ("text", {"bytes": b"a", "text": None}, "Expected text websocket messages, but got bytes"),
        ("bytes", {"text": "a"}, "Expected bytes websocket messages, but got text"),
        ("bytes", {"text": "a", "bytes": None}, "Expected bytes websocket messages, but got text"),
        ("json", {"text": "{"}, "Malformed JSON data received."),
        ("json", {"text": ""}, "Malformed JSON data received."),
        ("json", {"bytes": b"{"}, "Malformed JSON data received."),
    ],
)
def test_wrong_data(lib, kind, frame, message):
    with pytest.raises(RuntimeError) as caught:
        with connect(lib, echo(lib, kind)) as websocket:
            websocket.send({"type": "websocket.receive", **frame})
            assert websocket.receive() == {"type": "websocket.close", "code": 1003, "reason": ""}
    assert str(caught.value) == message


def test_json_that_is_not_utf_8(lib):
    with pytest.raises(UnicodeDecodeError):
        with connect(lib, echo(lib, "json")) as websocket:
            websocket.send_bytes(b'"\xff"')


def test_unknown_encoding(lib):
    with pytest.raises(AssertionError) as caught:
        with connect(lib, echo(lib, "xml")) as websocket:
            websocket.send_text("a")
    assert str(caught.value) == "Unsupported 'encoding' attribute xml"


def test_default_encoding(lib):
    assert lib.WebSocketEndpoint.encoding is None


def test_order_of_calls(lib):
    seen = []
    with connect(lib, recorder(lib, seen)) as websocket:
        websocket.send_text("a")
        websocket.send_bytes(b"b")
        websocket.close(4001)
    assert seen == ["connect", "a", b"b", 4001]


def test_close_code_when_the_client_sends_none(lib):
    seen = []
    server = FakeServer(CONNECT, disconnect(None))

    async def main():
        await recorder(lib, seen)({"type": "websocket"}, server.receive, server.send)

    asyncio.run(main())
    assert seen == ["connect", 1000]
    assert server.types == ["websocket.accept"]


def test_defaults_accept_and_ignore(lib):
    with connect(lib, lib.WebSocketEndpoint) as websocket:
        assert websocket.accepted_subprotocol is None
        websocket.send_text("ignored")


def test_on_connect_accepts_with_a_subprotocol(lib):
    class Endpoint(lib.WebSocketEndpoint):
        async def on_connect(self, websocket):
            await websocket.accept(subprotocol=websocket.scope["subprotocols"][1], headers=[(b"x-a", b"1")])

    with connect(lib, Endpoint, subprotocols=["a", "b"]) as websocket:
        assert websocket.accepted_subprotocol == "b"
        assert websocket.extra_headers == [(b"x-a", b"1")]


def test_on_connect_sends(lib):
    class Endpoint(lib.WebSocketEndpoint):
        async def on_connect(self, websocket):
            await websocket.accept()
            await websocket.send_text("welcome")

    with connect(lib, Endpoint) as websocket:
        assert websocket.receive_text() == "welcome"


def test_on_connect_raises(lib):
    seen = []

    class Endpoint(lib.WebSocketEndpoint):
        async def on_connect(self, websocket):
            raise LookupError("connect")

        async def on_disconnect(self, websocket, close_code):
            seen.append(close_code)

    with pytest.raises(LookupError, match="connect"):
        with connect(lib, Endpoint):
            pass
    assert seen == []


@pytest.mark.parametrize("kind", ["websocket", "http"])
def test_on_connect_refuses(lib, kind):
    class Endpoint(lib.WebSocketEndpoint):
        async def on_connect(self, websocket):
            raise lib.WebSocketException(4003, "no") if kind == "websocket" else lib.HTTPException(403, "no")

    with pytest.raises(lib.WebSocketDisconnect) as caught:
        with connect(lib, Endpoint):
            pass
    if kind == "websocket":
        assert (caught.value.code, caught.value.reason) == (4003, "no")
    else:
        assert (caught.value.status_code, caught.value.json()) == (403, {"detail": "no"})


def test_on_receive_raises(lib):
    seen = []

    class Endpoint(recorder(lib, seen)):
        async def on_receive(self, websocket, data):
            raise LookupError(data)

    with pytest.raises(LookupError, match="bad"):
        with connect(lib, Endpoint) as websocket:
            websocket.send_text("bad")
    assert seen == ["connect", 1011]


def test_on_receive_raises_a_websocket_exception(lib):
    seen = []

    class Endpoint(recorder(lib, seen)):
        async def on_receive(self, websocket, data):
            raise lib.WebSocketException(4001, "kicked")

    with connect(lib, Endpoint) as websocket:
        websocket.send_text("x")
        assert websocket.receive() == {"type": "websocket.close", "code": 4001, "reason": "kicked"}
    assert seen == ["connect", 1011]


def test_on_receive_raises_what_has_a_handler(lib):
    app = lib.FastAPI()

    @app.exception_handler(LookupError)
    async def handler(websocket, exc):
        await websocket.close(4002, str(exc))

    @app.websocket_route("/ws")
    class Endpoint(lib.WebSocketEndpoint):
        async def on_receive(self, websocket, data):
            raise LookupError(data)

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        websocket.send_text("x")
        assert websocket.receive() == {"type": "websocket.close", "code": 4002, "reason": "x"}


def test_on_receive_closes(lib):
    seen = []

    class Endpoint(recorder(lib, seen)):
        async def on_receive(self, websocket, data):
            await websocket.close(4001)

    with connect(lib, Endpoint) as websocket:
        websocket.send_text("x")
        assert websocket.receive()["code"] == 4001
        websocket.close(4002)
    assert seen == ["connect", 4002]


def test_on_disconnect_raises(lib):
    class Endpoint(lib.WebSocketEndpoint):
        async def on_disconnect(self, websocket, close_code):
            raise LookupError(close_code)

    with pytest.raises(LookupError, match="4001"):
        with connect(lib, Endpoint) as websocket:
            websocket.close(4001)


def test_wrong_data_meets_on_disconnect_with_1011(lib):
    seen = []

    class Endpoint(recorder(lib, seen)):
        encoding = "text"

    with pytest.raises(RuntimeError):
        with connect(lib, Endpoint) as websocket:
            websocket.send_bytes(b"x")
            websocket.receive()
    assert seen == ["connect", 1011]


def test_every_connection_has_its_own_object(lib):
    class Endpoint(lib.WebSocketEndpoint):
        async def on_receive(self, websocket, data):
            self.count = getattr(self, "count", 0) + 1
            await websocket.send_json(self.count)

    client = lib.TestClient(application(lib, Endpoint))
    with client.websocket_connect("/ws") as one, client.websocket_connect("/ws") as two:
        one.send_text("")
        two.send_text("")
        one.send_text("")
        assert [one.receive_json(), two.receive_json(), one.receive_json()] == [1, 1, 2]


def test_endpoint_knows_its_scope(lib):
    class Endpoint(lib.WebSocketEndpoint):
        async def on_receive(self, websocket, data):
            await websocket.send_json(
                [self.scope["path_params"], websocket.path_params, websocket.query_params["q"]]
            )

    app = lib.FastAPI(routes=[lib.WebSocketRoute("/{x:int}", Endpoint)])
    with lib.TestClient(app).websocket_connect("/5?q=a") as websocket:
        websocket.send_text("")
        assert websocket.receive_json() == [{"x": 5}, {"x": 5}, "a"]


def test_route_is_named_after_the_class(lib):
    class Chat(lib.WebSocketEndpoint): ...

    app = lib.FastAPI()
    assert app.websocket_route("/a")(Chat) is Chat
    app.router.add_websocket_route("/b", Chat, name="other")
    assert (app.url_path_for("Chat"), app.url_path_for("other")) == ("/a", "/b")


def test_endpoint_in_an_included_router(lib):
    app, router = lib.FastAPI(), lib.APIRouter()
    router.add_websocket_route("/ws", echo(lib, "text"))
    app.include_router(router, prefix="/x")
    with lib.TestClient(app).websocket_connect("/x/ws") as websocket:
        websocket.send_text("a")
        assert websocket.receive_text() == "'a'"


def test_endpoint_alone_is_an_application(lib):
    with lib.TestClient(echo(lib, "text")).websocket_connect("/any") as websocket:
        websocket.send_text("a")
        assert websocket.receive_text() == "'a'"


def test_dispatch_may_be_overridden(lib):
    class Endpoint(lib.WebSocketEndpoint):
        async def dispatch(self):
            websocket = lib.WebSocket(self.scope, self.receive, self.send)
            await websocket.accept()
            await websocket.send_text("own dispatch")

    with connect(lib, Endpoint) as websocket:
        assert websocket.receive_text() == "own dispatch"


def test_decode_may_be_overridden(lib):
    class Endpoint(echo(lib, "text")):
        async def decode(self, websocket, message):
            return (await super().decode(websocket, message)).split()

    with connect(lib, Endpoint) as websocket:
        websocket.send_text("a b")
        assert websocket.receive_text() == "['a', 'b']"


def test_http_scope_is_refused(lib):
    with pytest.raises(AssertionError):
        lib.WebSocketEndpoint({"type": "http"}, None, None)


def test_class_that_refuses_learns_of_the_disconnect(lib):
    seen = []

    class Refusing(recorder(lib, seen)):
        async def on_connect(self, websocket):
            await websocket.close(4003)

    server = FakeServer(CONNECT, disconnect(1006))
    asyncio.run(Refusing({"type": "websocket", "headers": []}, server.receive, server.send).dispatch())
    assert seen == [1006]


def test_class_may_accept_later(lib):
    class Waiting(lib.WebSocketEndpoint):
        encoding = "text"

        async def on_connect(self, websocket):
            self.task = asyncio.create_task(self.admit(websocket))

        async def admit(self, websocket):
            while websocket.client_state is lib.WebSocketState.CONNECTING:
                await asyncio.sleep(0)
            await websocket.accept()

        async def on_receive(self, websocket, data):
            await websocket.send_text(data + "!")

    with connect(lib, Waiting) as websocket:
        websocket.send_text("a")
        assert websocket.receive_text() == "a!"
