"""Pure ASGI middleware: its order, what it sees, and what it may do to a connection."""

import pytest


def recorder(seen, word):
    """A middleware class that records when a connection enters and leaves it."""

    class Recorder:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            if scope["type"] == "websocket":
                seen.append(word)
            try:
                await self.app(scope, receive, send)
            finally:
                if scope["type"] == "websocket":
                    seen.append(f"/{word}")

    return Recorder


class Catcher:
    """Records the exceptions that pass through it."""

    def __init__(self, app, caught):
        self.app = app
        self.caught = caught

    async def __call__(self, scope, receive, send):
        try:
            await self.app(scope, receive, send)
        except Exception as exc:
            self.caught.append(exc)
            raise


def visit(lib, app, url="/ws"):
    """Open the socket at `url` and read its first text."""
    with lib.TestClient(app).websocket_connect(url) as websocket:
        return websocket.receive_text()


def refused(lib, app, url="/ws"):
    with pytest.raises(lib.WebSocketDisconnect) as caught:
        with lib.TestClient(app).websocket_connect(url):
            pass
    return caught.value


def says(lib, word="hello"):
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_text(word)

    return endpoint


# Order


def test_last_added_is_outermost(lib):
    app, seen = lib.FastAPI(), []
    app.add_middleware(recorder(seen, "first"))
    app.add_middleware(recorder(seen, "second"))
    app.websocket("/ws")(says(lib))
    visit(lib, app)
    assert seen == ["second", "first", "/first", "/second"]


def test_first_listed_is_outermost(lib):
    seen = []
    listed = [lib.Middleware(recorder(seen, "a")), lib.Middleware(recorder(seen, "b"))]
    app = lib.FastAPI(middleware=listed)
    app.websocket("/ws")(says(lib))
    visit(lib, app)
    assert seen == ["a", "b", "/b", "/a"]


def test_added_goes_around_listed(lib):
    seen = []
    listed = [lib.Middleware(recorder(seen, "listed"))]
    app = lib.FastAPI(middleware=listed)
    app.add_middleware(recorder(seen, "added"))
    app.websocket("/ws")(says(lib))
    visit(lib, app)
    assert seen[:2] == ["added", "listed"]
    assert len(listed) == 1


def test_middleware_runs_around_dependencies(lib):
    seen = []
    app = lib.FastAPI(dependencies=[lib.Depends(lambda: seen.append("dependency"))])
    app.add_middleware(recorder(seen, "middleware"))
    app.websocket("/ws")(says(lib))
    visit(lib, app)
    assert seen == ["middleware", "dependency", "/middleware"]


def test_middleware_of_parent_and_mounted_application(lib):
    app, sub, seen = lib.FastAPI(), lib.FastAPI(), []
    app.add_middleware(recorder(seen, "app"))
    sub.add_middleware(recorder(seen, "sub"))
    sub.websocket("/ws")(says(lib))
    app.mount("/sub", sub)
    visit(lib, app, "/sub/ws")
    assert seen == ["app", "sub", "/sub", "/app"]


def test_middleware_sees_unknown_paths(lib):
    app, seen = lib.FastAPI(), []
    app.add_middleware(recorder(seen, "m"))
    assert refused(lib, app).code == 1000
    assert seen == ["m", "/m"]


# How it is constructed


def test_arguments_of_add_middleware(lib):
    made = []

    class Options:
        def __init__(self, app, *args, **kwargs):
            made.append((args, kwargs))
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)

    app = lib.FastAPI()
    app.add_middleware(Options, 1, two=2)
    app.websocket("/ws")(says(lib))
    visit(lib, app)
    visit(lib, app)
    assert made == [((1,), {"two": 2})]


def test_middleware_may_be_a_function(lib):
    def factory(app, word):
        async def middleware(scope, receive, send):
            scope["word"] = word
            await app(scope, receive, send)

        return middleware

    app = lib.FastAPI()
    app.add_middleware(factory, word="x")

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_text(websocket["word"])

    assert visit(lib, app) == "x"


def test_middleware_is_not_made_before_the_first_connection(lib):
    made = []

    def factory(app):
        made.append(app)
        return app

    app = lib.FastAPI()
    app.add_middleware(factory)
    assert (made, app.middleware_stack) == ([], None)
    app.websocket("/ws")(says(lib))
    visit(lib, app)
    assert len(made) == 1
    assert app.middleware_stack is not None


def test_add_middleware_after_start(lib):
    app = lib.FastAPI()
    app.websocket("/ws")(says(lib))
    visit(lib, app)
    with pytest.raises(RuntimeError) as caught:
        app.add_middleware(recorder([], "late"))
    assert str(caught.value) == "Cannot add middleware after an application has started"


def test_add_middleware_after_the_lifespan_began(lib):
    app = lib.FastAPI()
    with lib.TestClient(app):
        with pytest.raises(RuntimeError):
            app.add_middleware(recorder([], "late"))


def test_middleware_stack_is_built_by_hand(lib):
    app, seen = lib.FastAPI(), []
    app.websocket("/ws")(says(lib))
    visit(lib, app)
    app.user_middleware.append(lib.Middleware(recorder(seen, "late")))
    app.middleware_stack = app.build_middleware_stack()
    visit(lib, app)
    assert seen == ["late", "/late"]


def test_user_middleware_is_listed(lib):
    app = lib.FastAPI()
    app.add_middleware(Catcher, caught=[])
    [middleware] = app.user_middleware
    assert isinstance(middleware, lib.Middleware)
    assert (middleware.cls, middleware.args, middleware.kwargs) == (Catcher, (), {"caught": []})


def test_middleware_unpacks_and_prints(lib):
    middleware = lib.Middleware(Catcher, 1, caught=2)
    cls, args, kwargs = middleware
    assert (cls, args, kwargs) == (Catcher, (1,), {"caught": 2})
    assert repr(middleware) == "Middleware(Catcher, 1, caught=2)"


def test_middleware_sees_the_lifespan(lib):
    app, seen = lib.FastAPI(), []

    class Kinds:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            seen.append(scope["type"])
            await self.app(scope, receive, send)

    app.add_middleware(Kinds)
    with lib.TestClient(app):
        pass
    assert seen == ["lifespan"]


# What it sees


def test_middleware_has_the_application_in_the_scope(lib):
    app, seen = lib.FastAPI(), []

    class Look:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            seen.append((scope["app"], "route" in scope, "router" in scope))
            await self.app(scope, receive, send)
            seen.append((scope["app"], "route" in scope, "router" in scope))

    app.add_middleware(Look)
    app.websocket("/ws")(says(lib))
    visit(lib, app)
    assert seen == [(app, False, False), (app, True, True)]


def test_unhandled_exception_passes_through_middleware(lib):
    app, caught = lib.FastAPI(), []
    app.add_middleware(Catcher, caught=caught)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        raise LookupError("x")

    with pytest.raises(LookupError):
        visit(lib, app)
    assert [str(exc) for exc in caught] == ["x"]


def test_handled_exception_does_not_reach_middleware(lib):
    app, caught = lib.FastAPI(), []
    app.add_middleware(Catcher, caught=caught)

    @app.exception_handler(LookupError)
    async def handler(websocket, exc):
        await websocket.close(4000)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        raise LookupError

    assert refused(lib, app).code == 4000
    assert caught == []


@pytest.mark.parametrize("name", ["validation", "http", "websocket"])
def test_exceptions_of_the_framework_do_not_reach_middleware(lib, name):
    app, caught = lib.FastAPI(), []
    app.add_middleware(Catcher, caught=caught)

    @app.websocket("/validation")
    async def validation(websocket: lib.WebSocket, number: int): ...

    @app.websocket("/http")
    async def http(websocket: lib.WebSocket):
        raise lib.HTTPException(403)

    @app.websocket("/websocket")
    async def websocket(websocket: lib.WebSocket):
        raise lib.WebSocketException(1008)

    refused(lib, app, f"/{name}")
    assert caught == []


def test_uncaught_disconnect_reaches_middleware(lib):
    app, caught = lib.FastAPI(), []
    app.add_middleware(Catcher, caught=caught)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.receive_text()

    with pytest.raises(lib.WebSocketDisconnect):
        with lib.TestClient(app).websocket_connect("/ws") as websocket:
            websocket.close(4321)
    assert [exc.code for exc in caught] == [4321]


def test_middleware_swallows_an_exception(lib):
    class Swallow:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            try:
                await self.app(scope, receive, send)
            except LookupError:
                await send({"type": "websocket.close", "code": 4001})

    app = lib.FastAPI()
    app.add_middleware(Swallow)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        raise LookupError

    assert refused(lib, app).code == 4001


def test_exception_of_middleware_meets_no_handler(lib):
    class Fails:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            if scope["type"] == "websocket":
                raise lib.HTTPException(403, "middleware")
            await self.app(scope, receive, send)

    app = lib.FastAPI()
    app.add_middleware(Fails)
    app.websocket("/ws")(says(lib))
    with pytest.raises(lib.HTTPException, match="middleware"):
        visit(lib, app)


def test_exception_of_a_mounted_applications_middleware_meets_the_parents_handlers(lib):
    class Fails:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            raise lib.WebSocketException(4001)

    app, sub = lib.FastAPI(), lib.FastAPI()
    sub.add_middleware(Fails)
    app.mount("/sub", sub)
    assert refused(lib, app, "/sub/ws").code == 4001


# What it may do


def test_middleware_refuses(lib):
    class Refuse:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await send({"type": "websocket.close", "code": 4003, "reason": "no"})

    app = lib.FastAPI()
    app.add_middleware(Refuse)
    app.websocket("/ws")(says(lib))
    error = refused(lib, app)
    assert (error.code, error.reason) == (4003, "no")


def test_middleware_refuses_with_a_response(lib):
    class Refuse:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            websocket = lib.WebSocket(scope, receive, send)
            await websocket.send_denial_response(lib.JSONResponse({"no": 1}, status_code=418))

    app = lib.FastAPI()
    app.add_middleware(Refuse)
    app.websocket("/ws")(says(lib))
    response = refused(lib, app)
    assert (response.status_code, response.json()) == (418, {"no": 1})


def test_middleware_answers_by_itself(lib):
    class Answer:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            websocket = lib.WebSocket(scope, receive, send)
            await websocket.accept()
            await websocket.send_text("middleware")
            await websocket.close(4000)

    app = lib.FastAPI()
    app.add_middleware(Answer)
    with lib.TestClient(app).websocket_connect("/any") as websocket:
        assert websocket.receive_text() == "middleware"
        assert websocket.receive()["code"] == 4000


def test_middleware_changes_the_path(lib):
    class Rewrite:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app({**scope, "path": "/ws"}, receive, send)

    app = lib.FastAPI()
    app.add_middleware(Rewrite)
    app.websocket("/ws")(says(lib))
    assert visit(lib, app, "/old") == "hello"


def test_middleware_adds_to_the_state(lib):
    class Add:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            scope.setdefault("state", {})["number"] = 5
            scope["user"] = "ann"
            await self.app(scope, receive, send)

    app = lib.FastAPI()
    app.add_middleware(Add)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_text(f"{websocket.state.number} {websocket.user}")

    assert visit(lib, app) == "5 ann"


def test_middleware_wraps_send(lib):
    class Wrap:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            async def wrapped(message):
                if message["type"] == "websocket.accept":
                    message = {**message, "subprotocol": "chosen", "headers": [(b"x-a", b"1")]}
                elif message["type"] == "websocket.send":
                    message = {**message, "text": message["text"].upper()}
                await send(message)

            await self.app(scope, receive, wrapped)

    app = lib.FastAPI()
    app.add_middleware(Wrap)
    app.websocket("/ws")(says(lib))
    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        assert websocket.accepted_subprotocol == "chosen"
        assert websocket.extra_headers == [(b"x-a", b"1")]
        assert websocket.receive_text() == "HELLO"


def test_middleware_wraps_receive(lib):
    class Wrap:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            async def wrapped():
                message = await receive()
                return {**message, "text": message["text"] + "!"} if "text" in message else message

            await self.app(scope, wrapped, send)

    app = lib.FastAPI()
    app.add_middleware(Wrap)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_text(await websocket.receive_text())

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        websocket.send_text("hello")
        assert websocket.receive_text() == "hello!"


def test_middleware_sends_after_the_endpoint(lib):
    class After:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            await self.app(scope, receive, send)
            if scope["type"] == "websocket":
                await send({"type": "websocket.send", "text": "after"})

    app = lib.FastAPI()
    app.add_middleware(After)
    app.websocket("/ws")(says(lib))
    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "hello"
        assert websocket.receive_text() == "after"


# On a route, a mount, a router


def test_middleware_of_a_raw_route(lib):
    seen = []
    route = lib.WebSocketRoute("/ws", says(lib), middleware=[lib.Middleware(recorder(seen, "route"))])
    app = lib.FastAPI(routes=[route, lib.WebSocketRoute("/other", says(lib))])
    visit(lib, app, "/other")
    assert seen == []
    visit(lib, app)
    assert seen == ["route", "/route"]


def test_middleware_of_a_raw_route_in_order(lib):
    seen = []
    middleware = [lib.Middleware(recorder(seen, "a")), lib.Middleware(recorder(seen, "b"))]
    app = lib.FastAPI(routes=[lib.WebSocketRoute("/ws", says(lib), middleware=middleware)])
    app.add_middleware(recorder(seen, "app"))
    visit(lib, app)
    assert seen == ["app", "a", "b", "/b", "/a", "/app"]


def test_exception_in_a_raw_route_is_handled_inside_its_middleware(lib):
    caught = []

    async def endpoint(websocket):
        raise lib.WebSocketException(4001)

    route = lib.WebSocketRoute("/ws", endpoint, middleware=[lib.Middleware(Catcher, caught=caught)])
    assert refused(lib, lib.FastAPI(routes=[route])).code == 4001
    assert caught == []


def test_exception_of_a_routes_middleware_meets_the_handlers(lib):
    class Fails:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            raise lib.WebSocketException(4001, "route")

    route = lib.WebSocketRoute("/ws", says(lib), middleware=[lib.Middleware(Fails)])
    error = refused(lib, lib.FastAPI(routes=[route]))
    assert (error.code, error.reason) == (4001, "route")


def test_middleware_of_a_mount(lib):
    seen = []
    mount = lib.Mount(
        "/sub",
        routes=[lib.WebSocketRoute("/ws", says(lib))],
        middleware=[lib.Middleware(recorder(seen, "mount"))],
    )
    app = lib.FastAPI(routes=[mount, lib.WebSocketRoute("/ws", says(lib))])
    visit(lib, app)
    assert seen == []
    visit(lib, app, "/sub/ws")
    assert seen == ["mount", "/mount"]


def test_middleware_of_a_mount_around_an_application(lib):
    seen, sub = [], lib.FastAPI()
    sub.add_middleware(recorder(seen, "sub"))
    sub.websocket("/ws")(says(lib))
    mount = lib.Mount("/sub", app=sub, middleware=[lib.Middleware(recorder(seen, "mount"))])
    visit(lib, lib.FastAPI(routes=[mount]), "/sub/ws")
    assert seen == ["mount", "sub", "/sub", "/mount"]


def test_middleware_of_a_router(lib):
    seen = []
    router = lib.Router(
        [lib.WebSocketRoute("/ws", says(lib))], middleware=[lib.Middleware(recorder(seen, "router"))]
    )
    visit(lib, router)
    assert seen == ["router", "/router"]


def test_websocket_route_middleware_sees_the_match(lib):
    seen = []

    class Look:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            seen.append(scope["path_params"])
            await self.app(scope, receive, send)

    route = lib.WebSocketRoute("/{x:int}", says(lib), middleware=[lib.Middleware(Look)])
    visit(lib, lib.FastAPI(routes=[route]), "/5")
    assert seen == [{"x": 5}]


def test_application_as_middleware_of_another(lib):
    """An application in a manual wrapper is just another ASGI application."""
    app, seen = lib.FastAPI(), []
    app.websocket("/ws")(says(lib))
    visit(lib, recorder(seen, "outer")(app))
    assert seen == ["outer", "/outer"]
