from __future__ import annotations

import asyncio
import contextvars
import re
from contextlib import asynccontextmanager

import httpx2
import pytest
from starlette.datastructures import MutableHeaders

# Keys for internal use by our client and our applications; Starlette's client has none.
PRIVATE = "fastws_compat."
# Starlette's client adds what httpx can decompress, such as zstd on Python 3.14. A handshake has no content.
OTHER_ENCODINGS = re.compile(rb"(?<=^gzip, deflate)(, (br|zstd))+$")
ACCEPT = {"type": "websocket.accept"}


def scope_of(client, *args, **options):
    """The scope that an application gets, or the type of the exception that connecting raises."""
    scopes = []

    async def app(scope, receive, send):
        scopes.append(scope)
        await send(ACCEPT)

    try:
        with client(app).websocket_connect(*args, **options):
            pass
    except Exception as exc:
        return type(exc)
    scope = {key: value for key, value in scopes[0].items() if not key.startswith(PRIVATE)}
    return scope | {"headers": [(name, OTHER_ENCODINGS.sub(b"", value)) for name, value in scope["headers"]]}


def same_scope(client_options, *args, **options):
    """The clients of both libraries, used in the same way, pass the same scope to the application."""
    from fastapi.testclient import TestClient as Oracle

    from fastws_compat.testclient import TestClient

    def copied():
        return {key: dict(value) if isinstance(value, dict) else value for key, value in options.items()}

    expected = scope_of(lambda app: Oracle(app, **client_options()), *args, **copied())
    assert scope_of(lambda app: TestClient(app, **client_options()), *args, **copied()) == expected
    return expected


@pytest.mark.parametrize(
    "url",
    [
        "/ws",
        "ws",
        "",
        "?q=1",
        "/ws?",
        "/ws?x=a b&y=%20&z=é#fragment",
        "/a b/é/%2F/%2525/%zz",
        "/ws/'(<{[`\"^|\\~;=@:$&+,",
        "/ws?'(<{[`\"^|\\~;=@:$&+,",
        "/a/../b/./c",
        "/a//b",
        "a//b",
        "//other/ws",
        "wss://example.com/ws",
        "wss://example.com:8443/ws",
        "wss://example.com:443/ws",
        "ws://EXAMPLE.com:80/a/./b/../c",
        "ws://example.com/..",
        "ws://example.com/a/.",
        "ws://example.com",
        "ws://[::1]:9000/ws",
        "ws://bücher.example/ws",
        "ws://user:p%40ss@example.com/ws",
        "ws://user@example.com/ws",
        "/new\nline",
    ],
)
def test_urls(url):
    assert same_scope(dict, url)["type"] == "websocket"


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"a": 1},
        {"a": ["1", 2], "b": True, "c": False, "d": None, "e": 1.5},
        {"é &": "a b+c/ü"},
        [("a", 1), ("b", 2), ("a", 3)],
        "a=1&b=&c",
        "y=2+3&z=%C3%A9",
        "",
    ],
)
def test_params(params):
    same_scope(dict, "/ws", params=params)
    same_scope(dict, "/ws?x=1", params=params)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"X-Token": "abc", "Accept": "text/html"},
        {"host": "example.com"},
        {"Host": "example.com", "user-agent": "me"},
        {"connection": "close", "sec-websocket-key": "mine", "sec-websocket-version": "8"},
        {"Connection": "close"},
        {"sec-websocket-protocol": "a ,b"},
        {"cookie": "a=1"},
        {"Authorization": "Bearer x"},
        {"x": "é"},
    ],
)
def test_headers(headers):
    same_scope(dict, "/ws", headers=headers)
    same_scope(
        lambda: {"headers": {"X-Client": "1", "host": "h"}, "cookies": {"c": "1"}}, "/ws", headers=headers
    )
    same_scope(lambda: {"headers": dict(headers)}, "/ws")


@pytest.mark.parametrize("subprotocols", [None, [], ["a"], ["a", "b"], ("a", "b")])
def test_subprotocols(subprotocols):
    same_scope(dict, "/ws", subprotocols)
    same_scope(dict, "/ws", subprotocols, headers={"sec-websocket-protocol": "c"})


def test_auth():
    same_scope(dict, "/ws", auth=("user", "päss"))
    same_scope(lambda: {"cookies": {"a": "1"}}, "ws://u:p@h/ws", auth=("user", "pass"))
    same_scope(dict, "/ws", auth=("user", "pass"), headers={"x": "1"})


@pytest.mark.filterwarnings("ignore:Setting per-request cookies")
@pytest.mark.parametrize("cookies", [{}, {"a": "1"}, {"b": "2", "a": 'x y;"z'}, {"a": "é"}])
def test_cookies(cookies):
    same_scope(lambda: {"cookies": dict(cookies)}, "/ws")
    same_scope(lambda: {"cookies": {"a": "0", "z": "9"}}, "/ws", cookies=cookies)
    same_scope(lambda: {"cookies": dict(cookies)}, "/ws", headers={"Cookie": "own=1"})


def cookie_jar():
    jar = httpx2.Cookies({"a": "1", "q": 'x y;"z'})
    jar.set("elsewhere", "2", domain="other.example")
    jar.set("below", "3", path="/ws")
    return jar


@pytest.mark.filterwarnings("ignore:Setting per-request cookies")
@pytest.mark.parametrize("jar", [cookie_jar, lambda: cookie_jar().jar], ids=["httpx", "http.cookiejar"])
@pytest.mark.parametrize("url", ["/", "/ws/a", "wss://other.example/ws"])
def test_cookie_jars(jar, url):
    from fastapi.testclient import TestClient as Oracle

    from fastws_compat.testclient import TestClient

    def sent(client):
        headers = dict(scope_of(client, url, cookies=jar())["headers"])
        return sorted(headers[b"cookie"].split(b"; "))

    assert sent(TestClient) == sent(Oracle)
    same_scope(lambda: {"cookies": httpx2.Cookies({"a": "1", "q": 'x y;"z'})}, "/ws")
    same_scope(lambda: {"cookies": httpx2.Cookies({"a": "1"}).jar}, "/ws")


@pytest.mark.parametrize("cookies", [{"a": 1}, [("a", 1)]])
def test_cookies_that_are_not_text(lib, cookies):
    with pytest.raises(TypeError):
        with lib.TestClient(None, cookies=cookies).websocket_connect("/"):
            pass


def test_options_of_the_client():
    same_scope(lambda: {"base_url": "https://example.com/sub", "root_path": "/root"}, "/ws")
    same_scope(lambda: {"client": ("10.0.0.1", 1234), "follow_redirects": False}, "/ws")
    same_scope(lambda: {"base_url": "https://example.com"}, "ws")


def test_headers_of_the_client_may_repeat(lib):
    client = lib.TestClient(None)
    client.headers = [("X-One", "1"), ("x-ONE", "2"), (b"x-two", b"3"), ("User-Agent", "me")]
    assert client.headers["X-one"] == "1, 2"
    assert client.headers.get_list("x-one") == ["1", "2"]
    client.headers.update([("x-two", "4"), ("x-two", "5")])
    client.headers["x-ONE"] = "6"
    del client.headers["accept"]
    with pytest.raises(KeyError):
        del client.headers["accept"]
    assert ("accept" in client.headers, "X-TWO" in client.headers) == (False, True)
    assert client.headers.multi_items()[-4:] == [
        ("x-one", "6"),
        ("user-agent", "me"),
        ("x-two", "4"),
        ("x-two", "5"),
    ]
    headers = client.websocket_connect("/").scope["headers"]
    assert [value for name, value in headers if name == b"x-two"] == [b"4", b"5"]


TWICE = [("X-One", "1"), ("x-one", "2"), ("Connection", "keep-alive")]


@pytest.mark.parametrize(
    "headers",
    [
        httpx2.Headers,
        lambda pairs: MutableHeaders(raw=[(name.lower().encode(), value.encode()) for name, value in pairs]),
    ],
    ids=["httpx", "starlette"],
)
def test_headers_of_a_multi_dict_repeat(lib, headers):
    for client_options, options in (({}, {"headers": headers(TWICE)}), ({"headers": headers(TWICE)}, {})):
        sent = lib.TestClient(None, **client_options).websocket_connect("/ws", **options).scope["headers"]
        assert [value for name, value in sent if name == b"x-one"] == [b"1", b"2"]
    sent = lib.TestClient(None).websocket_connect("/ws", headers=headers(TWICE)).scope["headers"]
    assert [value for name, value in sent if name == b"connection"] == [b"keep-alive"]


def test_params_of_httpx_repeat():
    params = httpx2.QueryParams([("a", "1"), ("b", "x y"), ("a", "2")])
    assert same_scope(dict, "/ws", params=params)["query_string"] == b"a=1&a=2&b=x+y"


@pytest.mark.parametrize("option", ["json", "extensions", "follow_redirects"])
def test_options_for_http(lib, option):
    connect = lib.TestClient(None).websocket_connect
    if lib.is_oracle:
        assert connect("/ws", **{option: {}}).scope["path"] == "/ws"
    else:
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{option}'"):
            connect("/ws", **{option: {}})


def test_url_for_http(lib):
    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    with pytest.raises(RuntimeError if lib.is_oracle else ValueError):
        lib.TestClient(app).websocket_connect("http://other/ws")


def test_cookies_and_headers_set_on_the_client(lib):
    client = lib.TestClient(None)
    client.cookies.set("a", "1")
    client.cookies["b"] = "2"
    client.cookies.update({"c": "3"})
    client.cookies.delete("a")
    client.headers["X-One"] = "1"
    client.headers.update({"x-two": "2"})
    client.headers["x-one"] = "3"
    assert dict(client.cookies) == {"b": "2", "c": "3"}
    assert client.cookies.get("a", "gone") == "gone"
    headers = client.websocket_connect("/").scope["headers"]
    assert [name for name, _ in headers] == [
        b"host",
        b"accept",
        b"accept-encoding",
        b"user-agent",
        b"x-one",
        b"x-two",
        b"connection",
        b"sec-websocket-key",
        b"sec-websocket-version",
        b"cookie",
    ]
    assert dict(headers)[b"x-one"] == b"3"
    assert dict(headers)[b"cookie"] == b"b=2; c=3"


def test_frames(lib):
    received = []

    async def app(scope, receive, send):
        received.append(await receive())
        await send(ACCEPT)
        for _ in range(4):
            received.append(await receive())
        await send({"type": "websocket.send", "text": '{"a": 1}'})
        await send({"type": "websocket.send", "bytes": b"[1]"})
        await send({"type": "websocket.send", "text": "t", "bytes": None})
        received.append(await receive())

    with lib.TestClient(app).websocket_connect("/") as websocket:
        websocket.send_text("é")
        websocket.send_bytes(b"\x00")
        websocket.send_json({"é": [1, None]})
        websocket.send_json({"é": 1}, mode="binary")
        assert websocket.receive_json() == {"a": 1}
        assert websocket.receive_json(mode="binary") == [1]
        assert websocket.receive() == {"type": "websocket.send", "text": "t", "bytes": None}
        websocket.close(4000, "bye")
        assert websocket.app is app
        assert websocket.accepted_subprotocol is None
        assert websocket.extra_headers is None
    assert received == [
        {"type": "websocket.connect"},
        {"type": "websocket.receive", "text": "é"},
        {"type": "websocket.receive", "bytes": b"\x00"},
        {"type": "websocket.receive", "text": '{"é":[1,null]}'},
        {"type": "websocket.receive", "bytes": '{"é":1}'.encode()},
        {"type": "websocket.disconnect", "code": 4000, "reason": "bye"},
    ]


def test_frame_of_the_other_kind(lib):
    async def app(scope, receive, send):
        await send(ACCEPT)
        await send({"type": "websocket.send", "bytes": b"b"})
        await send({"type": "websocket.send", "text": "t"})
        await receive()

    with lib.TestClient(app).websocket_connect("/") as websocket:
        with pytest.raises(KeyError):
            websocket.receive_text()
        with pytest.raises(KeyError):
            websocket.receive_bytes()


def test_accept_with_everything(lib):
    async def app(scope, receive, send):
        await send({**ACCEPT, "subprotocol": "b", "headers": [(b"x", b"1")]})

    with lib.TestClient(app).websocket_connect("/", ["a", "b"]) as websocket:
        assert websocket.accepted_subprotocol == "b"
        assert websocket.extra_headers == [(b"x", b"1")]


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ({}, (1000, "")),
        ({"code": 1008, "reason": "policy"}, (1008, "policy")),
        ({"code": 4001, "reason": None}, (4001, "")),
    ],
)
def test_close_before_and_after_accept(lib, message, expected):
    async def app(scope, receive, send):
        await receive()
        if scope["path"] == "/after":
            await send(ACCEPT)
        await send({"type": "websocket.close", **message})

    with pytest.raises(lib.WebSocketDisconnect) as before:
        with lib.TestClient(app).websocket_connect("/before"):
            pass
    with lib.TestClient(app).websocket_connect("/after") as websocket:
        with pytest.raises(lib.WebSocketDisconnect) as after:
            websocket.receive_text()
    assert (before.value.code, before.value.reason) == expected
    assert (after.value.code, after.value.reason) == expected


def test_denial_response(lib):
    async def app(scope, receive, send):
        headers = [(b"Content-Type", b"application/json"), (b"X-Why", b"because")]
        await send({"type": "websocket.http.response.start", "status": 403, "headers": headers})
        await send({"type": "websocket.http.response.body", "body": b'{"detail":', "more_body": True})
        await send({"type": "websocket.http.response.body", "body": '"né"}'.encode()})

    with pytest.raises(lib.WebSocketDenialResponse) as caught:
        with lib.TestClient(app).websocket_connect("/"):
            pass
    response = caught.value
    assert isinstance(response, lib.WebSocketDisconnect)
    assert response.status_code == 403
    assert response.headers["x-why"] == "because"
    assert response.headers["Content-Type"] == "application/json"
    assert response.content == '{"detail":"né"}'.encode()
    assert response.text == '{"detail":"né"}'
    assert response.json() == {"detail": "né"}
    assert (response.reason_phrase, response.is_error, response.is_success) == ("Forbidden", True, False)


@pytest.mark.parametrize("path", ["/connect", "/receive", "/disconnect", "/cleanup"])
def test_exception_of_the_application_comes_out(lib, path):
    async def app(scope, receive, send):
        await receive()
        if path == "/connect":
            raise LookupError(path)
        await send(ACCEPT)
        try:
            if path == "/cleanup":
                await asyncio.Event().wait()
            while (await receive())["type"] != "websocket.disconnect":
                if path == "/receive":
                    raise LookupError(path)
        finally:
            if path != "/receive":
                raise LookupError(path)

    with pytest.raises(LookupError, match=path):
        with lib.TestClient(app).websocket_connect(path) as websocket:
            websocket.send_text("go")
            if path == "/receive":
                websocket.receive_text()


def test_uncaught_disconnect_comes_out(lib):
    async def echo(websocket):
        await websocket.accept()
        while True:
            await websocket.send_text(await websocket.receive_text())

    echo.__annotations__["websocket"] = lib.WebSocket
    app = lib.FastAPI()
    app.websocket("/ws")(echo)
    with pytest.raises(lib.WebSocketDisconnect) as caught:
        with lib.TestClient(app).websocket_connect("/ws") as websocket:
            websocket.send_text("a")
            assert websocket.receive_text() == "a"
    assert caught.value.code == 1000


def test_application_that_never_reads_ends_with_the_session(lib):
    events = []

    async def app(scope, receive, send):
        await send(ACCEPT)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            events.append("cancelled")
            raise

    with lib.TestClient(app).websocket_connect("/"):
        pass
    assert events == ["cancelled"]


def test_context_variables(lib):
    tenant = contextvars.ContextVar("tenant", default="nobody")
    seen = []

    async def app(scope, receive, send):
        seen.append(tenant.get())
        tenant.set("application")
        await send(ACCEPT)

    tenant.set("test")
    with lib.TestClient(app).websocket_connect("/"):
        pass
    assert seen == ["test"]
    assert tenant.get() == "test"


def test_what_was_done_before_the_next_await_is_done_when_the_test_receives(lib):
    done = []

    async def app(scope, receive, send):
        await send(ACCEPT)
        for number in range(20):
            await send({"type": "websocket.send", "text": str(number)})
            done.append(str(number))
        await receive()

    with lib.TestClient(app).websocket_connect("/") as websocket:
        for _ in range(20):
            assert websocket.receive_text() in done


def test_lifespan_state(lib):
    events = []

    async def app(scope, receive, send):
        if scope["type"] == "lifespan":
            assert (await receive())["type"] == "lifespan.startup"
            scope["state"]["pool"] = "ready"
            await send({"type": "lifespan.startup.complete"})
            events.append((await receive())["type"])
            await send({"type": "lifespan.shutdown.complete"})
        else:
            events.append(dict(scope["state"]))
            scope["state"]["own"] = True
            await send(ACCEPT)

    with lib.TestClient(app) as client:
        for _ in range(2):
            with client.websocket_connect("/"):
                pass
        assert client.app_state == {"pool": "ready"}
    assert events == [{"pool": "ready"}, {"pool": "ready"}, "lifespan.shutdown"]


@pytest.mark.parametrize("event", ["startup", "shutdown"])
@pytest.mark.parametrize("says_so", [True, False])
def test_lifespan_that_fails(lib, event, says_so):
    async def app(scope, receive, send):
        await receive()
        if event == "shutdown":
            await send({"type": "lifespan.startup.complete"})
            await receive()
        if says_so:
            await send({"type": f"lifespan.{event}.failed", "message": "broken"})
        raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        with lib.TestClient(app):
            pass


def test_lifespan_of_an_application(lib):
    events = []

    @asynccontextmanager
    async def lifespan(app):
        events.append("start")
        yield {"pool": "ready"}
        events.append("stop")

    async def state(websocket):
        await websocket.accept()
        await websocket.send_text(websocket.state.pool)

    state.__annotations__["websocket"] = lib.WebSocket
    app = lib.FastAPI(lifespan=lifespan)
    app.websocket("/ws")(state)
    with lib.TestClient(app) as client:
        with client.websocket_connect("/ws") as websocket:
            assert websocket.receive_text() == "ready"
    assert events == ["start", "stop"]


def test_application_of_asgi_2(lib):
    class App:
        def __init__(self, scope):
            self.scope = scope

        async def __call__(self, receive, send):
            await send(ACCEPT)
            await send({"type": "websocket.send", "text": self.scope["path"]})
            await receive()

    with lib.TestClient(App).websocket_connect("/two") as websocket:
        assert websocket.receive_text() == "/two"


# The portal, which calls functions in the application's event loop


def broadcasting(lib):
    """An application with a list of its sockets, which the test sends to."""
    app, members = lib.FastAPI(), []

    @app.websocket_route("/ws")
    async def endpoint(websocket):
        await websocket.accept()
        members.append(websocket)
        await websocket.receive_text()

    async def broadcast(text):
        for member in members:
            await member.send_text(text)
        return len(members)

    return app, broadcast


def test_portal_of_a_client_calls_in_the_loop(lib):
    app, broadcast = broadcasting(lib)
    client = lib.TestClient(app)
    assert client.portal is None
    with client, client.websocket_connect("/ws") as one, client.websocket_connect("/ws") as two:
        assert client.portal.call(broadcast, "hello") == 2
        assert one.receive_text() == two.receive_text() == "hello"
        one.send_text("done")
        two.send_text("done")
    assert client.portal is None


def test_portal_of_a_session(lib):
    app, broadcast = broadcasting(lib)
    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        assert websocket.portal.start_task_soon(broadcast, "hello", name="broadcast").result(10) == 1
        assert websocket.receive_text() == "hello"
        websocket.send_text("done")


def test_portal_calls_a_function_that_is_not_async(lib):
    with lib.TestClient(lib.FastAPI()) as client:
        loop = client.portal.call(asyncio.get_running_loop)
        assert loop is client.portal.call(asyncio.get_running_loop)


def test_portal_names_the_task(lib):
    async def name():
        return asyncio.current_task().get_name()

    with lib.TestClient(lib.FastAPI()) as client:
        assert client.portal.start_task_soon(name, name="mine").result(10) == "mine"


def test_portal_raises_what_the_function_raises(lib):
    async def fail():
        raise LookupError("in the loop")

    with lib.TestClient(lib.FastAPI()) as client, pytest.raises(LookupError, match="in the loop"):
        client.portal.call(fail)


def test_portal_cannot_be_called_from_its_own_loop(lib):
    with lib.TestClient(lib.FastAPI()) as client:
        portal = client.portal
        with pytest.raises(RuntimeError, match="cannot be called from the event loop thread"):
            portal.call(lambda: portal.call(asyncio.get_running_loop))
