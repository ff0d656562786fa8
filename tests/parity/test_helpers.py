"""Threads, context variables, the connection as a parameter, and the names themselves."""

import asyncio
import contextvars
import threading

import pytest
from anyio import from_thread

run = asyncio.run


def visit(lib, app, url="/ws"):
    with lib.TestClient(app).websocket_connect(url) as websocket:
        return websocket.receive_json()


# Names


@pytest.mark.parametrize(
    ("module", "names"),
    [
        (
            "fastapi",
            "FastAPI APIRouter WebSocket WebSocketDisconnect WebSocketException HTTPException Depends "
            "Security Path Query Header Cookie Body Form File UploadFile BackgroundTasks Request "
            "Response status __version__",
        ),
        ("fastapi.websockets", "WebSocket WebSocketDisconnect WebSocketState"),
        ("fastapi.requests", "HTTPConnection Request"),
        ("fastapi.responses", "Response JSONResponse PlainTextResponse"),
        ("fastapi.testclient", "TestClient"),
        (
            "fastapi.exceptions",
            "HTTPException WebSocketException WebSocketRequestValidationError RequestValidationError "
            "ResponseValidationError ValidationException FastAPIError DependencyScopeError "
            "PydanticV1NotSupportedError FastAPIDeprecationWarning EndpointContext",
        ),
        (
            "fastapi.exception_handlers",
            "http_exception_handler request_validation_exception_handler "
            "websocket_request_validation_exception_handler",
        ),
        ("fastapi.params", "Param Path Query Header Cookie Body Form File Depends Security ParamTypes"),
        ("fastapi.routing", "APIRouter APIWebSocketRoute Mount websocket_session"),
        (
            "fastapi.datastructures",
            "URL Address Headers QueryParams State UploadFile Default DefaultPlaceholder",
        ),
        (
            "fastapi.concurrency",
            "run_in_threadpool iterate_in_threadpool run_until_first_complete contextmanager_in_threadpool "
            "asynccontextmanager",
        ),
        ("fastapi.background", "BackgroundTasks"),
        ("fastapi.encoders", "jsonable_encoder"),
        ("fastapi.logger", "logger"),
        ("fastapi.types", "DecoratedCallable"),
        ("fastapi.middleware", "Middleware"),
        (
            "starlette.websockets",
            "WebSocket WebSocketState WebSocketDisconnect WebSocketDisconnected WebSocketClose",
        ),
        (
            "starlette.routing",
            "Router WebSocketRoute Mount Host BaseRoute Match NoMatchFound compile_path replace_params "
            "websocket_session",
        ),
        ("starlette.endpoints", "WebSocketEndpoint"),
        ("starlette.testclient", "TestClient WebSocketTestSession WebSocketDenialResponse"),
        (
            "starlette.authentication",
            "requires has_required_scope AuthCredentials BaseUser SimpleUser UnauthenticatedUser "
            "AuthenticationBackend AuthenticationError",
        ),
        ("starlette.convertors", "Convertor CONVERTOR_TYPES register_url_convertor"),
        ("starlette.background", "BackgroundTask BackgroundTasks"),
        ("starlette.concurrency", "run_in_threadpool iterate_in_threadpool run_until_first_complete"),
        (
            "starlette.datastructures",
            "URL URLPath Address Headers MutableHeaders QueryParams ImmutableMultiDict MultiDict State",
        ),
        ("starlette.exceptions", "HTTPException WebSocketException StarletteDeprecationWarning"),
        ("starlette.middleware", "Middleware"),
        ("starlette.requests", "HTTPConnection"),
        ("starlette.responses", "Response JSONResponse PlainTextResponse"),
        ("starlette.types", "ASGIApp ExceptionHandler Lifespan Message Receive Scope Send"),
        ("starlette.status", "WS_1000_NORMAL_CLOSURE WS_1008_POLICY_VIOLATION HTTP_401_UNAUTHORIZED"),
    ],
)
def test_names_of_a_module(lib, module, names):
    found = lib.module(module)
    assert [name for name in names.split() if not hasattr(found, name)] == []


def test_close_codes(lib):
    from starlette import status

    expected = {name: getattr(status, name) for name in dir(status) if name.startswith("WS_")}
    assert {name: getattr(lib.status, name) for name in dir(lib.status) if name.startswith("WS_")} == expected
    assert len(expected) == 15


# run_in_threadpool()


def test_run_in_threadpool(lib):
    def work(a, b=0, *, c):
        return a, b, c, threading.get_ident()

    *values, thread = run(lib.run_in_threadpool(work, 1, 2, c=3))
    assert values == [1, 2, 3]
    assert thread != threading.get_ident()


def test_run_in_threadpool_raises(lib):
    def work():
        raise LookupError("thread")

    with pytest.raises(LookupError, match="thread"):
        run(lib.run_in_threadpool(work))


def test_run_in_threadpool_of_what_stops_an_iteration(lib):
    async def main():
        task = asyncio.ensure_future(lib.run_in_threadpool(next, iter([])))
        await asyncio.wait({task}, timeout=5)
        return task

    loop = asyncio.new_event_loop()
    task = loop.run_until_complete(main())
    loop.close()
    assert task.done(), "its future was never told"
    assert repr(task.exception()) == "RuntimeError('coroutine raised StopIteration')"


def test_run_in_threadpool_copies_the_context(lib):
    variable = contextvars.ContextVar("variable")

    def work():
        value = variable.get()
        variable.set("thread")
        return value

    async def main():
        variable.set("loop")
        return await lib.run_in_threadpool(work), variable.get()

    assert run(main()) == ("loop", "loop")


def test_run_in_threadpool_leaves_the_loop_free(lib):
    async def main():
        loop, event = asyncio.get_running_loop(), threading.Event()
        loop.call_soon(event.set)
        return await lib.run_in_threadpool(event.wait, 5)

    assert run(main()) is True


def test_way_back_from_a_thread(lib):
    async def where():
        return id(asyncio.get_running_loop())

    def work():
        from_thread.check_cancelled()
        inside = from_thread.run_sync(lambda: id(asyncio.get_running_loop()))
        return inside, from_thread.run(where)

    async def main():
        return [*await lib.run_in_threadpool(work), await where()]

    assert len(set(run(main()))) == 1


# iterate_in_threadpool()


def test_iterate_in_threadpool(lib):
    threads = set()

    def items():
        for number in range(3):
            threads.add(threading.get_ident())
            yield number

    async def main():
        return [item async for item in lib.iterate_in_threadpool(items())]

    assert run(main()) == [0, 1, 2]
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("make", [list, tuple, iter, dict.fromkeys])
def test_iterate_over_any_iterable(lib, make):
    async def main():
        return [item async for item in lib.iterate_in_threadpool(make([1, 2]))]

    assert run(main()) == [1, 2]


def test_iterate_over_none_values(lib):
    async def main():
        return [item async for item in lib.iterate_in_threadpool([None, None])]

    assert run(main()) == [None, None]


def test_iterate_in_threadpool_raises(lib):
    def items():
        yield 1
        raise LookupError("item")

    async def main():
        seen = []
        with pytest.raises(LookupError, match="item"):
            async for item in lib.iterate_in_threadpool(items()):
                seen.append(item)
        return seen

    assert run(main()) == [1]


# contextmanager_in_threadpool()


def test_contextmanager_in_threadpool(lib):
    threads = []

    class Manager:
        def __enter__(self):
            threads.append(threading.get_ident())
            return "value"

        def __exit__(self, *exc_info):
            threads.append(threading.get_ident())

    async def main():
        async with lib.contextmanager_in_threadpool(Manager()) as value:
            return value

    assert run(main()) == "value"
    assert len(threads) == 2
    assert threading.get_ident() not in threads


@pytest.mark.parametrize("swallows", [True, False])
def test_contextmanager_in_threadpool_sees_the_exception(lib, swallows):
    seen = []

    class Manager:
        def __enter__(self): ...

        def __exit__(self, kind, exc, traceback):
            seen.append(str(exc))
            return swallows

    async def main():
        async with lib.contextmanager_in_threadpool(Manager()):
            raise LookupError("inside")

    if swallows:
        run(main())
    else:
        with pytest.raises(LookupError, match="inside"):
            run(main())
    assert seen == ["inside"]


# run_until_first_complete()


def test_run_until_first_complete_warns(lib):
    async def work(): ...

    async def main():
        with pytest.warns(UserWarning, match="run_until_first_complete") as caught:
            await lib.run_until_first_complete((work, {}))
        return caught

    [warning] = run(main())
    assert warning.category.__name__ == "StarletteDeprecationWarning"
    assert str(warning.message) == (
        "run_until_first_complete is deprecated and will be removed in a future version."
    )


@pytest.mark.filterwarnings("ignore:run_until_first_complete is deprecated")
def test_run_until_first_complete_waits_for_the_cancelled(lib):
    seen, started = [], asyncio.Event()

    async def short():
        await started.wait()

    async def long():
        try:
            started.set()
            await asyncio.Event().wait()
        finally:
            seen.append("cleaned up")

    run(lib.run_until_first_complete((short, {}), (long, {})))
    assert seen == ["cleaned up"]


@pytest.mark.filterwarnings("ignore:run_until_first_complete is deprecated")
def test_run_until_first_complete_when_one_raises(lib):
    async def broken():
        raise LookupError("broken")

    async def long():
        await asyncio.Event().wait()

    with pytest.raises(ExceptionGroup) as caught:
        run(lib.run_until_first_complete((broken, {}), (long, {})))
    assert [repr(exc) for exc in caught.value.exceptions] == ["LookupError('broken')"]


# Context variables on a connection


def test_context_variable_of_an_async_dependency_reaches_the_endpoint(lib):
    variable = contextvars.ContextVar("variable", default="unset")
    app = lib.FastAPI()

    async def dependency():
        variable.set("dependency")

    @app.websocket("/ws", dependencies=[lib.Depends(dependency)])
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_json(variable.get())

    assert visit(lib, app) == "dependency"


def test_context_variable_of_a_sync_dependency_stays_in_its_thread(lib):
    variable = contextvars.ContextVar("variable", default="unset")
    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(lambda: variable.set("dependency") and None)])
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_json(variable.get())

    assert visit(lib, app) == "unset"


def test_context_variable_of_middleware_reaches_a_sync_dependency(lib):
    variable = contextvars.ContextVar("variable", default="unset")

    class Middleware:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            variable.set("middleware")
            await self.app(scope, receive, send)

    app = lib.FastAPI()
    app.add_middleware(Middleware)

    def dependency():
        return variable.get()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, value: str = lib.Depends(dependency)):
        await websocket.accept()
        await websocket.send_json(value)

    assert visit(lib, app) == "middleware"


def test_context_variable_of_a_generator_can_be_reset(lib):
    variable = contextvars.ContextVar("variable", default="unset")
    seen = []
    app = lib.FastAPI()

    async def dependency():
        token = variable.set("generator")
        yield
        variable.reset(token)
        seen.append(variable.get())

    @app.websocket("/ws", dependencies=[lib.Depends(dependency)])
    async def endpoint(websocket: lib.WebSocket):
        seen.append(variable.get())
        await websocket.accept()
        await websocket.send_json(1)

    visit(lib, app)
    assert seen == ["generator", "unset"]


def test_connections_have_contexts_of_their_own(lib):
    variable = contextvars.ContextVar("variable", default="unset")
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        before = variable.get()
        variable.set("connection")
        await websocket.accept()
        await websocket.send_json(before)

    with lib.TestClient(app) as client:
        for _ in range(2):
            with client.websocket_connect("/ws") as websocket:
                assert websocket.receive_json() == "unset"


# The connection as a parameter


def test_http_connection_is_the_socket(lib):
    app = lib.FastAPI()

    async def dependency(connection: lib.HTTPConnection):
        return connection

    @app.websocket("/ws")
    async def endpoint(
        websocket: lib.WebSocket, connection: lib.HTTPConnection, other: object = lib.Depends(dependency)
    ):
        await websocket.accept()
        await websocket.send_json([connection is websocket, other is websocket])

    assert visit(lib, app) == [True, True]


def test_socket_parameter_may_have_any_name(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(anything: lib.WebSocket):
        await anything.accept()
        await anything.send_json("hello")

    assert visit(lib, app) == "hello"


def test_socket_of_a_subclass_annotation(lib):
    class Own(lib.WebSocket):
        pass

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: Own):
        await websocket.accept()
        await websocket.send_json(type(websocket).__name__)

    assert visit(lib, app) == "WebSocket"


def test_optional_socket_annotation(lib):
    app = lib.FastAPI()

    async def dependency(connection: lib.HTTPConnection = None):
        return connection is not None

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, value: bool = lib.Depends(dependency)):
        await websocket.accept()
        await websocket.send_json(value)

    assert visit(lib, app) is True


def test_state_is_shared_by_dependencies_and_endpoint(lib):
    app = lib.FastAPI()

    async def first(websocket: lib.WebSocket):
        websocket.state.numbers = [1]

    async def second(connection: lib.HTTPConnection):
        connection.state.numbers.append(2)

    @app.websocket("/ws", dependencies=[lib.Depends(first), lib.Depends(second)])
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_json(websocket.state.numbers)

    assert visit(lib, app) == [1, 2]


def test_state_is_fresh_for_each_connection(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        known = hasattr(websocket.state, "seen")
        websocket.state.seen = True
        await websocket.accept()
        await websocket.send_json(known)

    client = lib.TestClient(app)
    for _ in range(2):
        with client.websocket_connect("/ws") as websocket:
            assert websocket.receive_json() is False


@pytest.mark.parametrize(
    ("name", "middleware"),
    [("session", "Session"), ("auth", "Authentication"), ("user", "Authentication")],
)
def test_what_needs_a_middleware(lib, name, middleware):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        getattr(websocket, name)

    with pytest.raises(AssertionError) as caught:
        visit(lib, app)
    assert str(caught.value) == f"{middleware}Middleware must be installed to access request.{name}"


# requires()


def guarded(lib, granted, needed):
    """An application whose user has the scopes `granted` and whose endpoint requires `needed`."""
    authentication = lib.module("starlette.authentication")

    class Login:
        def __init__(self, app):
            self.app = app

        async def __call__(self, scope, receive, send):
            scope["auth"] = authentication.AuthCredentials(granted)
            scope["user"] = authentication.SimpleUser("ann")
            await self.app(scope, receive, send)

    app = lib.FastAPI()
    app.add_middleware(Login)

    @app.websocket_route("/ws")
    @authentication.requires(needed)
    async def endpoint(websocket):
        await websocket.accept()
        await websocket.send_json([websocket.user.display_name, websocket.user.is_authenticated])

    return app


@pytest.mark.parametrize(("granted", "needed"), [(["a"], "a"), (["a", "b"], ["a", "b"]), (["a"], [])])
def test_requires_lets_in(lib, granted, needed):
    assert visit(lib, guarded(lib, granted, needed)) == ["ann", True]


@pytest.mark.parametrize(("granted", "needed"), [([], "a"), (["a"], ["a", "b"]), (None, "a")])
def test_requires_refuses(lib, granted, needed):
    with pytest.raises(lib.WebSocketDisconnect) as caught:
        visit(lib, guarded(lib, granted, needed))
    assert (caught.value.code, caught.value.reason) == (1000, "")


def test_requires_on_an_endpoint_with_parameters(lib):
    app = lib.FastAPI()
    requires = lib.module("starlette.authentication").requires

    async def login(connection: lib.HTTPConnection):
        connection.scope["auth"] = lib.module("starlette.authentication").AuthCredentials(["a"])

    @app.websocket("/{x}", dependencies=[lib.Depends(login)])
    @requires("a")
    async def endpoint(websocket: lib.WebSocket, x: int):
        await websocket.accept()
        await websocket.send_json(x)

    assert visit(lib, app, "/5") == 5


def test_requires_needs_a_parameter_named_websocket(lib):
    async def endpoint(socket): ...

    with pytest.raises(Exception) as caught:
        lib.module("starlette.authentication").requires("a")(endpoint)
    assert str(caught.value) == f'No "request" or "websocket" argument on function "{endpoint}"'
