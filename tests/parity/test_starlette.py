"""`Starlette`, an application without dependencies, and Starlette's middleware that handles sockets."""

from __future__ import annotations

import asyncio
import base64
import contextlib

import pytest

from tests.fake_server import DENIAL, FakeServer, converse, websocket_scope


def starlette(lib):
    return lib.module("starlette.applications").Starlette


def says(lib, word="hello"):
    async def endpoint(websocket):
        await websocket.accept()
        await websocket.send_text(word)
        await websocket.close()

    return endpoint


def visit(lib, app, url="/ws", **options):
    """Open the socket at `url` and read its first text."""
    with lib.TestClient(app).websocket_connect(url, **options) as websocket:
        return websocket.receive_text()


def denial(lib, app, url="/ws", base_url="http://testserver", **options):
    """The response that a handshake is refused with."""
    denied = lib.module("starlette.testclient").WebSocketDenialResponse
    with pytest.raises(denied) as caught:
        with lib.TestClient(app, base_url=base_url).websocket_connect(url, **options):
            pass
    return caught.value


def refused(lib, app, url="/ws", **options):
    with pytest.raises(lib.WebSocketDisconnect) as caught:
        with lib.TestClient(app).websocket_connect(url, **options):
            pass
    return caught.value


# The application


@pytest.mark.parametrize("status", [204, 304])
def test_http_exception_without_a_body(lib, status):
    async def endpoint(websocket):
        raise lib.HTTPException(status, headers={"x-room": "1"})

    denied = denial(lib, starlette(lib)(routes=[lib.WebSocketRoute("/ws", endpoint)]))
    assert (denied.status_code, denied.content, denied.headers["x-room"]) == (status, b"", "1")


def test_routes(lib):
    app = starlette(lib)(routes=[lib.WebSocketRoute("/ws", says(lib))])
    assert visit(lib, app) == "hello"
    assert refused(lib, app, "/other").code == 1000
    assert [route.path for route in app.routes] == ["/ws"]


def test_arguments_by_position(lib):
    async def handler(websocket, exc):
        await websocket.close(4000)

    async def endpoint(websocket):
        raise KeyError

    app = starlette(lib)(True, [lib.WebSocketRoute("/ws", endpoint)], None, {KeyError: handler}, None)
    assert app.debug is True
    assert refused(lib, app).code == 4000


def test_fastapi_is_a_starlette(lib):
    assert issubclass(lib.FastAPI, starlette(lib))
    assert not hasattr(starlette(lib)(), "websocket")


def test_what_a_new_application_has(lib):
    app = starlette(lib)()
    assert (app.debug, app.routes, app.exception_handlers, app.user_middleware) == (False, [], {}, [])
    assert (app.middleware_stack, app.max_body_size) == (None, None)
    assert type(app.router) is lib.Router
    app.state.number = 1
    assert app.state.number == 1


def test_unknown_options(lib):
    with pytest.raises(TypeError, match="dependencies"):
        starlette(lib)(dependencies=[])
    with pytest.raises(TypeError, match="title"):
        starlette(lib)(title="x")


def test_body_limit_is_taken(lib):
    app = starlette(lib)(routes=[lib.WebSocketRoute("/ws", says(lib))], max_body_size=10)
    assert visit(lib, app) == "hello"


@pytest.mark.parametrize("kind", ["Router", "Mount"])
def test_body_limit_of_a_router_is_taken(lib, kind):
    routes = [lib.WebSocketRoute("/ws", says(lib))]
    if kind == "Router":
        app = lib.Router(routes, max_body_size=10)
    else:
        app = lib.Router([lib.Mount("", routes=routes, max_body_size=10)])
    assert visit(lib, app) == "hello"


def test_a_class_as_endpoint(lib):
    class Echo(lib.WebSocketEndpoint):
        encoding = "text"

        async def on_receive(self, websocket, data):
            await websocket.send_text(data.upper())

    app = starlette(lib)(routes=[lib.WebSocketRoute("/ws", Echo)])
    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        websocket.send_text("x")
        assert websocket.receive_text() == "X"


def test_route_with_parameters_and_scope(lib):
    async def endpoint(websocket):
        await websocket.accept()
        await websocket.send_json([websocket.path_params["number"], str(websocket.url_for("room", number=2))])
        assert websocket.app is app

    app = starlette(lib)(routes=[lib.WebSocketRoute("/rooms/{number:int}", endpoint, name="room")])
    with lib.TestClient(app).websocket_connect("/rooms/1") as websocket:
        assert websocket.receive_json() == [1, "ws://testserver/rooms/2"]
    assert app.url_path_for("room", number=3) == "/rooms/3"


def test_mount_and_host(lib):
    app, sub, other = (starlette(lib)() for _ in range(3))
    sub.router.routes.append(lib.WebSocketRoute("/ws", says(lib, "mounted")))
    other.router.routes.append(lib.WebSocketRoute("/ws", says(lib, "host")))
    app.host("api.example.org", other)
    app.mount("/sub", sub)
    assert visit(lib, app, "/sub/ws") == "mounted"
    assert visit(lib, app, headers={"host": "api.example.org"}) == "host"


def test_mount_of_routes(lib):
    mount = lib.Mount("/sub", routes=[lib.WebSocketRoute("/ws", says(lib))], name="sub")
    app = starlette(lib)(routes=[mount])
    assert visit(lib, app, "/sub/ws") == "hello"
    assert app.url_path_for("sub:endpoint") == "/sub/ws"


def test_fastapi_inside_starlette_and_the_other_way_round(lib):
    inner = lib.FastAPI()
    inner.websocket("/ws")(annotated(lib))
    app = starlette(lib)(routes=[lib.Mount("/api", app=inner)])
    assert visit(lib, app, "/api/ws") == "annotated"
    outer = lib.FastAPI()
    outer.mount("/inner", app)
    assert visit(lib, outer, "/inner/api/ws") == "annotated"


def annotated(lib):
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_text("annotated")

    endpoint.__annotations__["websocket"] = lib.WebSocket
    return endpoint


def test_middleware(lib):
    seen = []

    class Noting:
        def __init__(self, app, word):
            self.app, self.word = app, word

        async def __call__(self, scope, receive, send):
            if scope["type"] == "websocket":
                seen.append(self.word)
            await self.app(scope, receive, send)

    routes = [lib.WebSocketRoute("/ws", says(lib))]
    app = starlette(lib)(routes=routes, middleware=[lib.Middleware(Noting, "listed")])
    app.add_middleware(Noting, word="added")
    assert visit(lib, app) == "hello"
    assert seen == ["added", "listed"]
    with pytest.raises(RuntimeError, match="after an application has started"):
        app.add_middleware(Noting, word="late")


def test_middleware_of_a_route(lib):
    class Greeting:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            scope["greeting"] = "hello"
            await self.app(scope, receive, send)

    async def endpoint(websocket):
        await websocket.accept()
        await websocket.send_text(websocket.scope["greeting"])

    route = lib.WebSocketRoute("/ws", endpoint, middleware=[lib.Middleware(Greeting)])
    assert visit(lib, starlette(lib)(routes=[route])) == "hello"


def test_lifespan_state(lib):
    events = []

    @contextlib.asynccontextmanager
    async def lifespan(app):
        events.append("startup")
        yield {"word": "from the lifespan"}
        events.append("shutdown")

    async def endpoint(websocket):
        await websocket.accept()
        await websocket.send_text(websocket.state.word)

    app = starlette(lib)(routes=[lib.WebSocketRoute("/ws", endpoint)], lifespan=lifespan)
    with lib.TestClient(app) as client:
        with client.websocket_connect("/ws") as websocket:
            assert websocket.receive_text() == "from the lifespan"
    assert events == ["startup", "shutdown"]


def test_http_exception_before_accept(lib):
    async def endpoint(websocket):
        raise lib.module("starlette.exceptions").HTTPException(418, "no", headers={"x-why": "tea"})

    app = starlette(lib)(routes=[lib.WebSocketRoute("/ws", endpoint)])
    response = denial(lib, app)
    assert (response.status_code, response.text, response.headers["x-why"]) == (418, "no", "tea")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"


def test_websocket_exception(lib):
    async def endpoint(websocket):
        await websocket.accept()
        raise lib.module("starlette.exceptions").WebSocketException(4001, "why")

    app = starlette(lib)(routes=[lib.WebSocketRoute("/ws", endpoint)])
    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        with pytest.raises(lib.WebSocketDisconnect) as caught:
            websocket.receive_text()
    assert (caught.value.code, caught.value.reason) == (4001, "why")


def test_exception_handler_that_is_added(lib):
    async def handler(websocket, exc):
        await websocket.close(4002, str(exc))

    async def endpoint(websocket):
        await websocket.accept()
        raise ValueError("bad")

    app = starlette(lib)(routes=[lib.WebSocketRoute("/ws", endpoint)])
    app.add_exception_handler(ValueError, handler)
    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        with pytest.raises(lib.WebSocketDisconnect) as caught:
            websocket.receive_text()
    assert (caught.value.code, caught.value.reason) == (4002, "bad")


def test_handler_for_a_status(lib):
    def handler(websocket, exc):
        return lib.PlainTextResponse("handled", status_code=499)

    async def endpoint(websocket):
        raise lib.module("starlette.exceptions").HTTPException(404)

    app = starlette(lib)(routes=[lib.WebSocketRoute("/ws", endpoint)], exception_handlers={404: handler})
    assert (denial(lib, app).status_code, denial(lib, app).text) == (499, "handled")


def test_unhandled_exception(lib):
    async def endpoint(websocket):
        raise ZeroDivisionError("here")

    app = starlette(lib)(routes=[lib.WebSocketRoute("/ws", endpoint)])
    with pytest.raises(ZeroDivisionError, match="here"):
        visit(lib, app)


# StreamingResponse as a refusal


async def pieces():
    yield "a"
    yield b"b"
    yield memoryview(b"c")


@pytest.mark.parametrize("content", [pieces, lambda: ["a", b"b", "c"], lambda: iter([b"abc"]), list])
def test_a_streamed_refusal(lib, content):
    done = []

    async def endpoint(websocket):
        task = lib.module("starlette.background").BackgroundTask(done.append, 1)
        await websocket.send_denial_response(
            lib.StreamingResponse(content(), 503, {"x-y": "z"}, "text/plain", background=task)
        )

    app = starlette(lib)(routes=[lib.WebSocketRoute("/ws", endpoint)])
    response = denial(lib, app)
    assert (response.status_code, response.headers["x-y"]) == (503, "z")
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.text == ("abc" if content() else "")
    assert done == [1]


def test_a_streamed_refusal_from_a_handler(lib):
    async def handler(websocket, exc):
        return lib.StreamingResponse(pieces(), 409)

    async def endpoint(websocket):
        raise ValueError

    app = starlette(lib)(
        routes=[lib.WebSocketRoute("/ws", endpoint)], exception_handlers={ValueError: handler}
    )
    assert (denial(lib, app).status_code, denial(lib, app).content) == (409, b"abc")


@pytest.mark.parametrize("kind", ["http", "websocket"])
def test_the_messages_of_a_streamed_response(lib, kind):
    server = FakeServer()

    class Own(lib.StreamingResponse):
        media_type = "application/x-own"

    scope = {"type": kind, "asgi": {"spec_version": "2.4"}}
    asyncio.run(Own(pieces())(scope, server.receive, server.send))
    prefix = "websocket." if kind == "websocket" else ""
    assert server.sent == [
        {
            "type": f"{prefix}http.response.start",
            "status": 200,
            "headers": [(b"content-type", b"application/x-own")],
        },
        {"type": f"{prefix}http.response.body", "body": b"a", "more_body": True},
        {"type": f"{prefix}http.response.body", "body": b"b", "more_body": True},
        {"type": f"{prefix}http.response.body", "body": memoryview(b"c"), "more_body": True},
        {"type": f"{prefix}http.response.body", "body": b"", "more_body": False},
    ]


# AuthenticationMiddleware


def backend_of(lib):
    authentication = lib.module("starlette.authentication")

    class Basic(authentication.AuthenticationBackend):
        async def authenticate(self, conn):
            if "authorization" not in conn.headers:
                return None
            scheme, _, credentials = conn.headers["authorization"].partition(" ")
            if scheme != "Basic":
                raise authentication.AuthenticationError("Invalid basic auth credentials")
            name = base64.b64decode(credentials).decode().partition(":")[0]
            return authentication.AuthCredentials(["authenticated"]), authentication.SimpleUser(name)

    return Basic()


def authenticated(lib, endpoint, **options):
    middleware = lib.module("starlette.middleware.authentication").AuthenticationMiddleware
    return starlette(lib)(
        routes=[lib.WebSocketRoute("/ws", endpoint)],
        middleware=[lib.Middleware(middleware, backend=backend_of(lib), **options)],
    )


def basic(name):
    return {"authorization": "Basic " + base64.b64encode(f"{name}:secret".encode()).decode()}


def test_the_lifespan_passes_a_backend(lib):
    middleware = lib.module("starlette.middleware.authentication").AuthenticationMiddleware
    seen = []

    async def app(scope, receive, send):
        seen.append(sorted(scope))

    converse(middleware(app, backend_of(lib)), type="lifespan")
    assert seen == [sorted(websocket_scope())]


def test_a_backend_that_fails(lib):
    class Broken(type(backend_of(lib))):
        async def authenticate(self, conn):
            raise LookupError("no such table")

    middleware = lib.module("starlette.middleware.authentication").AuthenticationMiddleware
    with pytest.raises(LookupError, match="no such table"):
        converse(middleware(None, Broken()))


def whoami(lib):
    async def endpoint(websocket):
        await websocket.accept()
        user = websocket.user
        await websocket.send_json([user.is_authenticated, user.display_name, websocket.auth.scopes])

    return endpoint


def test_user_of_a_backend(lib):
    client = lib.TestClient(authenticated(lib, whoami(lib)))
    with client.websocket_connect("/ws", headers=basic("tom")) as websocket:
        assert websocket.receive_json() == [True, "tom", ["authenticated"]]


def test_nobody(lib):
    with lib.TestClient(authenticated(lib, whoami(lib))).websocket_connect("/ws") as websocket:
        assert websocket.receive_json() == [False, "", []]


def test_wrong_credentials(lib):
    app = authenticated(lib, whoami(lib))
    assert refused(lib, app, headers={"authorization": "Token x"}).code == 1000


def test_wrong_credentials_call_on_error(lib):
    called = []

    def on_error(conn, exc):
        called.append((type(conn).__name__, conn.url.path, str(exc)))
        return lib.JSONResponse({}, status_code=401)

    app = authenticated(lib, whoami(lib), on_error=on_error)
    assert refused(lib, app, headers={"authorization": "Token x"}).code == 1000
    assert called == [("HTTPConnection", "/ws", "Invalid basic auth credentials")]


def test_requires(lib):
    requires = lib.module("starlette.authentication").requires

    @requires("authenticated")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_text("in")

    app = authenticated(lib, endpoint)
    assert refused(lib, app).code == 1000
    assert visit(lib, app, headers=basic("tom")) == "in"


def test_user_of_a_backend_in_a_dependency(lib):
    middleware = lib.module("starlette.middleware.authentication").AuthenticationMiddleware
    app = lib.FastAPI()
    app.add_middleware(middleware, backend=backend_of(lib))

    def name(connection):
        return connection.user.display_name

    name.__annotations__["connection"] = lib.HTTPConnection

    async def endpoint(websocket, who=lib.Depends(name)):
        await websocket.accept()
        await websocket.send_text(who)

    endpoint.__annotations__["websocket"] = lib.WebSocket
    app.websocket("/ws")(endpoint)
    assert visit(lib, app, headers=basic("tom")) == "tom"


# TrustedHostMiddleware and HTTPSRedirectMiddleware


def trusting(lib, *hosts, **options):
    middleware = lib.module("starlette.middleware.trustedhost").TrustedHostMiddleware
    return starlette(lib)(
        routes=[lib.WebSocketRoute("/ws", says(lib))],
        middleware=[lib.Middleware(middleware, allowed_hosts=list(hosts), **options)],
    )


@pytest.mark.parametrize(
    ("hosts", "host"),
    [
        (["testserver", "*.example.org"], "testserver"),
        (["testserver", "*.example.org"], "a.example.org"),
        (["testserver", "*.example.org"], "A.Example.Org:8000"),
        (["Example.ORG"], "example.org"),
        (["*"], "anything"),
        (["[::1]"], "[::1]:80"),
    ],
)
def test_a_trusted_host(lib, hosts, host):
    assert visit(lib, trusting(lib, *hosts), headers={"host": host}) == "hello"


@pytest.mark.parametrize(
    "host", ["example.com", "example.org", "evilexample.org", "a.example.org.evil", "", "a b"]
)
def test_a_host_that_is_not_trusted(lib, host):
    response = denial(lib, trusting(lib, "testserver", "*.example.org"), headers={"host": host})
    assert (response.status_code, response.text) == (400, "Invalid host header")


def test_a_host_that_lacks_its_www(lib):
    response = denial(lib, trusting(lib, "www.example.org"), "/ws?a=b", headers={"host": "example.org:81"})
    assert (response.status_code, response.headers["location"]) == (307, "ws://www.example.org:81/ws?a=b")
    alone = trusting(lib, "www.example.org", www_redirect=False)
    assert denial(lib, alone, headers={"host": "example.org"}).status_code == 400


def test_every_host_is_trusted_by_default(lib):
    middleware = lib.module("starlette.middleware.trustedhost").TrustedHostMiddleware
    app = lib.FastAPI()
    app.add_middleware(middleware)
    app.router.routes.append(lib.WebSocketRoute("/ws", says(lib)))
    assert visit(lib, app) == "hello"


@pytest.mark.parametrize("pattern", ["exam*ple.org", "*example.org", "example.*", "**"])
def test_a_wrong_pattern(lib, pattern):
    middleware = lib.module("starlette.middleware.trustedhost").TrustedHostMiddleware
    with pytest.raises(AssertionError, match="Domain wildcard patterns must be like"):
        middleware(None, allowed_hosts=[pattern])


def test_redirect_to_wss(lib):
    middleware = lib.module("starlette.middleware.httpsredirect").HTTPSRedirectMiddleware
    app = lib.FastAPI()
    app.add_middleware(middleware)
    app.router.routes.append(lib.WebSocketRoute("/ws", says(lib)))
    response = denial(lib, app, "/ws?a=b")
    assert (response.status_code, response.headers["location"]) == (307, "wss://testserver/ws?a=b")
    response = denial(lib, app, "/ws", headers={"host": "testserver:8000"})
    assert response.headers["location"] == "wss://testserver:8000/ws"
    assert visit(lib, app, "wss://testserver/ws") == "hello"


def test_redirect_without_a_host(lib):
    middleware = lib.module("starlette.middleware.httpsredirect").HTTPSRedirectMiddleware
    sent = converse(middleware(None), scheme="ws", extensions=DENIAL)
    assert sent[0]["status"] == 400
    assert sent[1]["body"] == b"Invalid host header"


# BaseHTTPMiddleware


def test_sockets_pass_a_middleware_for_http(lib):
    base = lib.module("starlette.middleware.base")
    called = []

    class Guarding(base.BaseHTTPMiddleware):
        def __init__(self, app, word):
            super().__init__(app)
            self.word = word

        async def dispatch(self, request, call_next):
            called.append(self.word)
            return await call_next(request)

    app = lib.FastAPI()
    app.add_middleware(Guarding, word="x")
    app.add_middleware(base.BaseHTTPMiddleware, dispatch=Guarding.dispatch)
    app.router.routes.append(lib.WebSocketRoute("/ws", says(lib)))
    assert visit(lib, app) == "hello"
    assert called == []


def test_the_function_of_a_middleware_for_http(lib):
    base = lib.module("starlette.middleware.base").BaseHTTPMiddleware

    async def dispatch(request, call_next):
        raise NotImplementedError

    assert base(None, dispatch=dispatch).dispatch_func is dispatch
    assert base(None).dispatch_func.__name__ == "dispatch"
    with pytest.raises(NotImplementedError):
        asyncio.run(base(None).dispatch_func(None, None))


# Aliases


@pytest.mark.parametrize(
    ("module", "name", "other", "original"),
    [
        ("fastapi.middleware.trustedhost", "TrustedHostMiddleware", "starlette.middleware.trustedhost", None),
        (
            "fastapi.middleware.httpsredirect",
            "HTTPSRedirectMiddleware",
            "starlette.middleware.httpsredirect",
            None,
        ),
        ("fastapi.responses", "StreamingResponse", "starlette.responses", None),
        ("fastapi.routing", "WebSocket", "starlette.websockets", None),
        ("starlette.endpoints", "Response", "starlette.responses", None),
        ("fastapi.background", "StarletteBackgroundTasks", "starlette.background", "BackgroundTasks"),
        ("fastapi.exceptions", "StarletteHTTPException", "starlette.exceptions", "HTTPException"),
        ("fastapi.security.base", "SecurityBaseModel", "fastapi.openapi.models", "SecurityBase"),
    ],
)
def test_a_name_in_two_places(lib, module, name, other, original):
    assert getattr(lib.module(module), name) is getattr(lib.module(other), original or name)


def test_get_name(lib):
    class Endpoint: ...

    get_name = lib.module("starlette.routing").get_name
    assert (get_name(visit), get_name(Endpoint), get_name(Endpoint())) == ("visit", "Endpoint", "Endpoint")


def test_cookie_parser(lib):
    parse = lib.module("starlette.requests").cookie_parser
    assert parse('a=b; c="d\\"e"; word') == {"a": "b", "c": 'd"e', "": "word"}


def test_is_async_callable(lib):
    class Callable:
        async def __call__(self): ...

    is_async = lib.module("starlette.routing").is_async_callable
    assert (is_async(Callable()), is_async(pieces), is_async(says(lib))) == (True, False, True)
