"""The effects of exceptions: refusals, closes, handlers, and unhandled exceptions."""

import functools
import threading

import pytest

from tests.fake_server import converse


def refusal(lib, app, url="/ws"):
    """The HTTP response that answers the handshake."""
    denial = lib.module("starlette.testclient").WebSocketDenialResponse
    with pytest.raises(denial) as caught:
        with lib.TestClient(app).websocket_connect(url):
            pass
    return caught.value


def refused(lib, app, url="/ws"):
    """The code and reason of the close that answers the handshake."""
    with pytest.raises(lib.WebSocketDisconnect) as caught:
        with lib.TestClient(app).websocket_connect(url):
            pass
    return caught.value.code, caught.value.reason


def closed(lib, app, url="/ws"):
    """The code and reason of the close after the first message of an accepted socket."""
    with lib.TestClient(app).websocket_connect(url) as websocket:
        websocket.send_text("go")
        with pytest.raises(lib.WebSocketDisconnect) as caught:
            websocket.receive_text()
    return caught.value.code, caught.value.reason


def raises(lib, error):
    """An endpoint that raises `error` before it accepts."""

    async def endpoint(websocket: lib.WebSocket):
        raise error

    return endpoint


def accepts_and_raises(lib, error):
    """An endpoint that accepts, waits for a message, and raises `error`."""

    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.receive_text()
        raise error

    return endpoint


def closes(code):
    """A handler that closes with `code` and the exception's text."""

    async def handler(websocket, exc):
        await websocket.close(code, str(exc))

    return handler


class Parent(Exception):
    pass


class Child(Parent):
    pass


class Mixin(Exception):
    pass


class Both(Child, Mixin):
    pass


# The exceptions themselves


@pytest.mark.parametrize(
    ("arguments", "detail"),
    [
        ((404,), "Not Found"),
        ((404, "x"), "x"),
        ((404, None), "Not Found"),
        ((599,), ""),
        ((404, ""), ""),
        ((404, {"a": 1}), {"a": 1}),
    ],
)
def test_http_exception_detail(lib, arguments, detail):
    error = lib.HTTPException(*arguments)
    assert (error.status_code, error.detail, error.headers) == (
        404 if 404 in arguments else 599,
        detail,
        None,
    )


def test_http_exception_as_text(lib):
    error = lib.HTTPException(401, detail="no", headers={"X-A": "1"})
    assert str(error) == "401: no"
    assert repr(error) == "HTTPException(status_code=401, detail='no')"
    assert error.headers == {"X-A": "1"}


def test_http_exception_subclass_as_text(lib):
    class Teapot(lib.HTTPException):
        def __init__(self):
            super().__init__(418)

    assert repr(Teapot()) == 'Teapot(status_code=418, detail="I\'m a Teapot")'


def test_http_exception_is_starlettes_too(lib):
    assert issubclass(lib.HTTPException, lib.module("starlette.exceptions").HTTPException)


def test_websocket_exception_as_text(lib):
    error = lib.WebSocketException(code=1008, reason="r")
    assert str(error) == "1008: r"
    assert repr(error) == "WebSocketException(code=1008, reason='r')"
    assert str(lib.WebSocketException(1008)) == "1008: "
    assert lib.WebSocketException(1008).reason == ""


def test_websocket_exception_is_starlettes_too(lib):
    assert issubclass(lib.WebSocketException, lib.module("starlette.exceptions").WebSocketException)


def test_websocket_exception_is_no_disconnect(lib):
    assert not issubclass(lib.WebSocketException, (lib.WebSocketDisconnect, lib.HTTPException))


def test_validation_error_of_a_socket(lib):
    exceptions = lib.module("fastapi.exceptions")
    error = exceptions.WebSocketRequestValidationError([{"type": "missing"}])
    assert isinstance(error, exceptions.ValidationException)
    assert error.errors() == [{"type": "missing"}]
    assert str(error) == "1 validation error:\n  {'type': 'missing'}"


def test_validation_error_with_its_place(lib):
    context = {"function": "f", "path": "WS /a", "file": "x.py", "line": 3}
    error = lib.WebSocketRequestValidationError(["a", "b"], endpoint_ctx=context)
    assert (error.endpoint_function, error.endpoint_path) == ("f", "WS /a")
    assert (error.endpoint_file, error.endpoint_line, error.endpoint_ctx) == ("x.py", 3, context)
    assert str(error) == '2 validation errors:\n  a\n  b\n\n  File "x.py", line 3, in f\n    WS /a'


def test_validation_error_with_its_path_alone(lib):
    error = lib.WebSocketRequestValidationError(["a"], endpoint_ctx={"path": "WS /a"})
    assert str(error) == "1 validation error:\n  a\n\n  Endpoint: WS /a"


# HTTPException before accept


def test_http_exception_refuses_with_status_and_detail(lib):
    app = lib.FastAPI()
    app.websocket("/ws")(raises(lib, lib.HTTPException(404, "no such room")))
    response = refusal(lib, app)
    assert (response.status_code, response.json()) == (404, {"detail": "no such room"})
    assert response.headers["content-type"] == "application/json"
    assert isinstance(response, lib.WebSocketDisconnect)


@pytest.mark.parametrize("detail", [{"a": [1, None]}, ["ä"], 5, True])
def test_http_exception_detail_is_json(lib, detail):
    app = lib.FastAPI()
    app.websocket("/ws")(raises(lib, lib.HTTPException(400, detail)))
    assert refusal(lib, app).json() == {"detail": detail}


def test_http_exception_without_detail_has_the_standard_phrase(lib):
    app = lib.FastAPI()
    app.websocket("/ws")(raises(lib, lib.HTTPException(403)))
    assert refusal(lib, app).json() == {"detail": "Forbidden"}


def test_http_exception_headers(lib):
    app = lib.FastAPI()
    error = lib.HTTPException(401, headers={"WWW-Authenticate": "Bearer", "X-Other": "1"})
    app.websocket("/ws")(raises(lib, error))
    headers = refusal(lib, app).headers
    assert (headers["www-authenticate"], headers["x-other"]) == ("Bearer", "1")


@pytest.mark.parametrize("status", [204, 205, 304])
def test_http_exception_without_body(lib, status):
    app = lib.FastAPI()
    app.websocket("/ws")(raises(lib, lib.HTTPException(status, "not sent", headers={"X-A": "1"})))
    response = refusal(lib, app)
    assert (response.status_code, response.content, response.headers["x-a"]) == (status, b"", "1")


def test_http_exception_of_starlette(lib):
    app = lib.FastAPI()
    app.websocket("/ws")(raises(lib, lib.module("starlette.exceptions").HTTPException(404, "x")))
    assert refusal(lib, app).json() == {"detail": "x"}


def test_http_exception_in_a_raw_route(lib):
    app = lib.FastAPI()
    app.websocket_route("/ws")(raises(lib, lib.HTTPException(404, "x")))
    assert refusal(lib, app).json() == {"detail": "x"}


def test_http_exception_messages(lib):
    app = lib.FastAPI()
    app.websocket("/ws")(raises(lib, lib.HTTPException(404, "x")))
    seen = []

    async def watched(scope, receive, send):
        async def watch(message):
            seen.append(message["type"])
            await send(message)

        await app(scope, receive, watch)

    refusal(lib, watched)
    assert seen == ["websocket.http.response.start", "websocket.http.response.body"]


# WebSocketException


def test_websocket_exception_before_accept(lib):
    app = lib.FastAPI()
    app.websocket("/ws")(raises(lib, lib.WebSocketException(1008, "no token")))
    assert refused(lib, app) == (1008, "no token")


def test_websocket_exception_after_accept(lib):
    app = lib.FastAPI()
    app.websocket("/ws")(accepts_and_raises(lib, lib.WebSocketException(4001, "kicked")))
    assert closed(lib, app) == (4001, "kicked")


def test_websocket_exception_without_reason(lib):
    app = lib.FastAPI()
    app.websocket("/ws")(accepts_and_raises(lib, lib.WebSocketException(1011)))
    assert closed(lib, app) == (1011, "")


def test_websocket_exception_in_a_raw_route(lib):
    app = lib.FastAPI()
    app.websocket_route("/ws")(accepts_and_raises(lib, lib.WebSocketException(4001, "x")))
    assert closed(lib, app) == (4001, "x")


def test_websocket_exception_subclass(lib):
    class Kicked(lib.WebSocketException):
        pass

    app = lib.FastAPI()
    app.websocket("/ws")(accepts_and_raises(lib, Kicked(4001, "x")))
    assert closed(lib, app) == (4001, "x")


def test_websocket_exception_after_own_close(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.close(4000)
        raise lib.WebSocketException(4001)

    with pytest.raises(
        lib.WebSocketDisconnected, match='Cannot call "send" once a close message has been sent'
    ):
        with lib.TestClient(app).websocket_connect("/ws") as websocket:
            websocket.receive()


@pytest.mark.parametrize("handled", [False, True], ids=["default", "handler"])
def test_response_of_a_handler_after_own_close_before_accept(lib, handled):
    app = lib.FastAPI()
    if handled:

        @app.exception_handler(LookupError)
        async def handler(websocket, exc):
            return lib.module("fastapi.responses").JSONResponse({"detail": "gone"}, status_code=404)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.close(4000, "no")
        raise LookupError if handled else lib.HTTPException(401)

    with pytest.raises(lib.WebSocketDisconnect) as caught:
        with lib.TestClient(app).websocket_connect("/ws"):
            pass
    assert (caught.value.code, caught.value.reason) == (4000, "no")


def test_http_exception_after_own_close(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.close(4000, "no")
        raise lib.HTTPException(401)

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        assert websocket.receive() == {"type": "websocket.close", "code": 4000, "reason": "no"}


# Validation


def test_validation_error_closes_with_1008_and_the_errors(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, number: int): ...

    code, reason = refused(lib, app, "/ws?number=a")
    assert code == 1008
    assert [(error["type"], error["loc"], error["input"]) for error in reason] == [
        ("int_parsing", ["query", "number"], "a")
    ]


def test_validation_error_handler(lib):
    app = lib.FastAPI()

    @app.exception_handler(lib.WebSocketRequestValidationError)
    async def handler(websocket, exc):
        await websocket.close(4422, exc.errors()[0]["type"])

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, number: int): ...

    assert refused(lib, app) == (4422, "missing")


def test_validation_error_handler_may_accept_first(lib):
    app = lib.FastAPI()

    @app.exception_handler(lib.WebSocketRequestValidationError)
    async def handler(websocket, exc):
        await websocket.accept()
        await websocket.send_json([error["loc"] for error in exc.errors()])
        await websocket.close(4422)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, number: int): ...

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        assert websocket.receive_json() == [["query", "number"]]
        assert websocket.receive()["code"] == 4422


def test_validation_error_names_its_place(lib):
    app, router, sub = lib.FastAPI(), lib.APIRouter(prefix="/router"), lib.FastAPI()
    seen = []

    @sub.exception_handler(lib.WebSocketRequestValidationError)
    async def handler(websocket, exc):
        seen.append((exc.endpoint_path, exc.endpoint_function, exc.endpoint_file, exc.endpoint_line))
        await websocket.close()

    @router.websocket("/{x}")
    async def chat(websocket: lib.WebSocket, x: int): ...

    sub.include_router(router)
    app.mount("/sub", sub)
    refused(lib, app, "/sub/router/a")
    [(path, function, file, line)] = seen
    assert (path, function, file) == ("WS /sub/router/{x}", "chat", __file__)
    assert line in (chat.__code__.co_firstlineno, chat.__code__.co_firstlineno + 1)


def test_handler_for_the_http_form_is_not_called(lib):
    app = lib.FastAPI()

    @app.exception_handler(lib.RequestValidationError)
    async def handler(websocket, exc):
        await websocket.close(4000)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, number: int): ...

    assert refused(lib, app)[0] == 1008


def test_handler_for_every_validation_error(lib):
    """FastAPI's own handler is registered for the nearer class."""
    app = lib.FastAPI()
    app.add_exception_handler(lib.module("fastapi.exceptions").ValidationException, closes(4000))

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, number: int): ...

    assert refused(lib, app)[0] == 1008


# Handlers: where they are registered


def test_handler_by_decorator(lib):
    app = lib.FastAPI()
    app.exception_handler(Parent)(closes(4001))
    app.websocket("/ws")(raises(lib, Parent("x")))
    assert refused(lib, app) == (4001, "x")


def test_handler_by_constructor(lib):
    app = lib.FastAPI(exception_handlers={Parent: closes(4001)})
    app.websocket("/ws")(raises(lib, Parent("x")))
    assert refused(lib, app) == (4001, "x")


def test_handler_by_method(lib):
    app = lib.FastAPI()
    app.add_exception_handler(Parent, closes(4001))
    app.websocket("/ws")(raises(lib, Parent("x")))
    assert refused(lib, app) == (4001, "x")


def test_last_handler_for_a_class_wins(lib):
    app = lib.FastAPI(exception_handlers={Parent: closes(4001)})
    app.add_exception_handler(Parent, closes(4002))
    app.websocket("/ws")(raises(lib, Parent()))
    assert refused(lib, app)[0] == 4002


def test_handler_in_an_included_router_is_the_applications(lib):
    app, router = lib.FastAPI(exception_handlers={Parent: closes(4001)}), lib.APIRouter()
    router.websocket("/ws")(raises(lib, Parent()))
    app.include_router(router)
    assert refused(lib, app)[0] == 4001


def test_handler_added_after_the_first_connection_is_not_called(lib):
    app = lib.FastAPI(exception_handlers={Parent: closes(4001)})
    app.websocket("/ws")(raises(lib, Child()))
    assert refused(lib, app)[0] == 4001
    app.add_exception_handler(Child, closes(4002))
    assert refused(lib, app)[0] == 4001


def test_dict_of_handlers_is_copied(lib):
    handlers = {}
    app = lib.FastAPI(exception_handlers=handlers)
    app.add_exception_handler(Parent, closes(4001))
    assert handlers == {}


def test_default_handlers(lib):
    app = lib.FastAPI()
    starlette_error = lib.module("starlette.exceptions").HTTPException
    assert {starlette_error, lib.RequestValidationError, lib.WebSocketRequestValidationError} <= set(
        app.exception_handlers
    )


def test_default_handlers_have_fastapis_names(lib):
    handlers = lib.module("fastapi.exception_handlers")
    assert handlers.http_exception_handler
    assert handlers.request_validation_exception_handler
    assert handlers.websocket_request_validation_exception_handler


# Handlers: how they are found


def test_handler_for_a_parent_class(lib):
    app = lib.FastAPI(exception_handlers={Parent: closes(4001)})
    app.websocket("/ws")(raises(lib, Child()))
    assert refused(lib, app)[0] == 4001


def test_handler_for_the_nearest_class(lib):
    app = lib.FastAPI(exception_handlers={Parent: closes(4001), Child: closes(4002)})
    app.websocket("/child")(raises(lib, Child()))
    app.websocket("/parent")(raises(lib, Parent()))
    assert refused(lib, app, "/child")[0] == 4002
    assert refused(lib, app, "/parent")[0] == 4001


def test_handler_by_the_order_of_the_mro(lib):
    app = lib.FastAPI(exception_handlers={Mixin: closes(4001), Parent: closes(4002)})
    app.websocket("/ws")(raises(lib, Both()))
    assert refused(lib, app)[0] == 4002


def test_handler_by_status(lib):
    app = lib.FastAPI(exception_handlers={404: closes(4404)})
    app.websocket("/a")(raises(lib, lib.HTTPException(404, "x")))
    app.websocket("/b")(raises(lib, lib.HTTPException(403, "y")))
    assert refused(lib, app, "/a") == (4404, "404: x")
    assert refusal(lib, app, "/b").status_code == 403


def test_handler_by_status_comes_before_the_class(lib):
    class Missing(lib.HTTPException):
        pass

    app = lib.FastAPI(exception_handlers={404: closes(4404), Missing: closes(4001)})
    app.websocket("/a")(raises(lib, Missing(404)))
    app.websocket("/b")(raises(lib, Missing(410)))
    assert refused(lib, app, "/a")[0] == 4404
    assert refused(lib, app, "/b")[0] == 4001


def test_handler_by_status_of_an_enum(lib):
    from http import HTTPStatus

    app = lib.FastAPI(exception_handlers={HTTPStatus.NOT_FOUND: closes(4404)})
    app.websocket("/ws")(raises(lib, lib.HTTPException(404)))
    assert refused(lib, app)[0] == 4404


def test_handler_for_500_is_not_called_for_an_http_exception(lib):
    app = lib.FastAPI(exception_handlers={500: closes(4500)})
    app.websocket("/ws")(raises(lib, lib.HTTPException(500, "x")))
    assert refusal(lib, app).json() == {"detail": "x"}


def test_handler_for_404_is_not_called_for_an_unknown_path(lib):
    app = lib.FastAPI(exception_handlers={404: closes(4404)})
    assert refused(lib, app) == (1000, "")


def test_handler_for_http_exceptions(lib):
    app = lib.FastAPI(exception_handlers={lib.HTTPException: closes(4000)})
    app.websocket("/ws")(raises(lib, lib.HTTPException(404, "x")))
    assert refused(lib, app) == (4000, "404: x")


def test_handler_for_websocket_exceptions(lib):
    app = lib.FastAPI(exception_handlers={lib.WebSocketException: closes(4000)})
    app.websocket("/ws")(raises(lib, lib.WebSocketException(1008, "x")))
    assert refused(lib, app) == (4000, "1008: x")


def test_handler_for_disconnects(lib):
    seen = []
    app = lib.FastAPI()

    @app.exception_handler(lib.WebSocketDisconnect)
    async def handler(websocket, exc):
        seen.append(exc.code)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.receive_text()

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        websocket.close(4321)
    assert seen == [4321]


def test_handler_for_builtin_errors(lib):
    app = lib.FastAPI(exception_handlers={LookupError: closes(4000)})

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        {}[await websocket.receive_text()]

    assert closed(lib, app) == (4000, "'go'")


# Handlers: their arguments and what they may do


def test_handler_gets_the_socket_of_the_endpoint(lib):
    app = lib.FastAPI()
    seen = []

    @app.exception_handler(Parent)
    async def handler(websocket, exc):
        seen.append((websocket, websocket.application_state.name, exc))
        await websocket.send_json({"error": str(exc)})
        await websocket.close(4000)

    error = Parent("x")

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        seen.append(websocket)
        await websocket.accept()
        raise error

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        assert websocket.receive_json() == {"error": "x"}
        assert websocket.receive()["code"] == 4000
    assert seen == [seen[0], (seen[0], "CONNECTED", error)]


def test_handler_that_closes_nothing_after_the_endpoint_did(lib):
    app = lib.FastAPI()

    @app.exception_handler(Parent)
    async def handler(websocket, exc): ...

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.close(4000)
        raise Parent

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        assert websocket.receive()["code"] == 4000


def test_handler_may_go_on_with_the_conversation(lib):
    app = lib.FastAPI()

    @app.exception_handler(Parent)
    async def handler(websocket, exc):
        await websocket.send_text(await websocket.receive_text())

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        raise Parent

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        websocket.send_text("hello")
        assert websocket.receive_text() == "hello"


def test_handler_returns_a_response(lib):
    app = lib.FastAPI()

    @app.exception_handler(Parent)
    async def handler(websocket, exc):
        return lib.JSONResponse({"teapot": str(exc)}, status_code=418, headers={"X-A": "1"})

    app.websocket("/ws")(raises(lib, Parent("x")))
    response = refusal(lib, app)
    assert (response.status_code, response.json(), response.headers["x-a"]) == (418, {"teapot": "x"}, "1")


def test_handler_in_a_thread(lib):
    app = lib.FastAPI()
    seen = []

    @app.exception_handler(Parent)
    def handler(websocket, exc):
        seen.append((threading.get_ident(), type(websocket)))
        return lib.Response("tea", status_code=418)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        seen.append(threading.get_ident())
        raise Parent

    response = refusal(lib, app)
    assert (response.status_code, response.text) == (418, "tea")
    assert seen[1][1] is lib.WebSocket
    assert seen[1][0] != seen[0]


@pytest.mark.parametrize("kind", ["partial", "method", "callable object", "partial of a callable object"])
def test_handlers_that_are_no_plain_functions(lib, kind):
    class Handler:
        async def __call__(self, websocket, exc):
            await websocket.close(4000)

        async def method(self, websocket, exc):
            await websocket.close(4000)

    async def handler(code, websocket, exc):
        await websocket.close(code)

    handlers = {
        "partial": functools.partial(handler, 4000),
        "method": Handler().method,
        "callable object": Handler(),
        "partial of a callable object": functools.partial(Handler()),
    }
    app = lib.FastAPI(exception_handlers={Parent: handlers[kind]})
    app.websocket("/ws")(raises(lib, Parent()))
    assert refused(lib, app)[0] == 4000


def test_handler_raises_another_exception(lib):
    app = lib.FastAPI()

    @app.exception_handler(Parent)
    async def handler(websocket, exc):
        raise LookupError("second")

    app.websocket("/ws")(raises(lib, Parent("first")))
    with pytest.raises(LookupError, match="second"):
        with lib.TestClient(app).websocket_connect("/ws"):
            pass


def test_handler_raises_an_exception_that_has_a_handler(lib):
    app = lib.FastAPI()

    @app.exception_handler(Parent)
    async def handler(websocket, exc):
        raise lib.WebSocketException(4001, "second")

    app.websocket("/ws")(raises(lib, Parent()))
    assert refused(lib, app) == (4001, "second")


def test_handler_raises_the_same_exception(lib):
    app = lib.FastAPI()
    seen = []

    @app.exception_handler(Parent)
    async def handler(websocket, exc):
        seen.append(exc)
        raise exc

    error = Parent()
    app.websocket("/ws")(raises(lib, error))
    with pytest.raises(Parent):
        with lib.TestClient(app).websocket_connect("/ws"):
            pass
    assert seen == [error, error]


def test_handled_exception_keeps_no_traceback(lib):
    app = lib.FastAPI(exception_handlers={Parent: closes(4000)})
    error = Parent()
    app.websocket("/ws")(raises(lib, error))
    refused(lib, app)
    assert error.__traceback__ is None


def test_one_exception_object_for_every_connection(lib):
    app = lib.FastAPI()
    app.websocket("/ws")(raises(lib, lib.HTTPException(403, "x")))
    assert [refusal(lib, app).json() for _ in range(2)] == [{"detail": "x"}] * 2


# Exceptions in dependencies


def test_http_exception_in_a_dependency(lib):
    app = lib.FastAPI()
    called = []

    async def dependency():
        raise lib.HTTPException(401, "who?", {"WWW-Authenticate": "Bearer"})

    @app.websocket("/ws", dependencies=[lib.Depends(dependency)])
    async def endpoint(websocket: lib.WebSocket):
        called.append("endpoint")

    response = refusal(lib, app)
    assert (response.status_code, response.headers["www-authenticate"], called) == (401, "Bearer", [])


def test_websocket_exception_in_a_sync_dependency(lib):
    app = lib.FastAPI()

    def dependency():
        raise lib.WebSocketException(1008, "policy")

    app.websocket("/ws", dependencies=[lib.Depends(dependency)])(raises(lib, Parent()))
    assert refused(lib, app) == (1008, "policy")


def test_own_exception_in_a_dependency(lib):
    app = lib.FastAPI(exception_handlers={Parent: closes(4000)})

    async def dependency():
        raise Child("x")

    app.websocket("/ws", dependencies=[lib.Depends(dependency)])(raises(lib, LookupError()))
    assert refused(lib, app) == (4000, "x")


def test_exception_in_a_dependency_after_it_accepted(lib):
    app = lib.FastAPI()

    async def dependency(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.receive_text()
        raise lib.WebSocketException(4001)

    app.websocket("/ws", dependencies=[lib.Depends(dependency)])(raises(lib, Parent()))
    assert closed(lib, app) == (4001, "")


def test_exception_in_a_dependency_wins_over_validation_errors(lib):
    app = lib.FastAPI()

    async def dependency():
        raise lib.WebSocketException(4001)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, number: int, value: None = lib.Depends(dependency)): ...

    assert refused(lib, app)[0] == 4001


def test_generators_end_before_the_handler_runs(lib):
    app = lib.FastAPI()
    seen = []

    @app.exception_handler(Parent)
    async def handler(websocket, exc):
        seen.append("handler")
        await websocket.close()

    async def dependency():
        try:
            yield
        except Parent:
            seen.append("dependency saw it")
            raise
        finally:
            seen.append("dependency ended")

    app.websocket("/ws", dependencies=[lib.Depends(dependency)])(raises(lib, Parent()))
    refused(lib, app)
    assert seen == ["dependency saw it", "dependency ended", "handler"]


def test_generator_turns_one_exception_into_another(lib):
    app = lib.FastAPI()

    async def dependency():
        try:
            yield
        except Parent as exc:
            raise lib.WebSocketException(4001, str(exc))

    app.websocket("/ws", dependencies=[lib.Depends(dependency)])(accepts_and_raises(lib, Parent("x")))
    assert closed(lib, app) == (4001, "x")


def test_generator_swallows_the_exception(lib):
    app = lib.FastAPI(exception_handlers={Parent: closes(4000)})

    async def dependency(websocket: lib.WebSocket):
        try:
            yield
        except Parent:
            await websocket.close(4001)

    app.websocket("/ws", dependencies=[lib.Depends(dependency)])(accepts_and_raises(lib, Parent("x")))
    assert closed(lib, app) == (4001, "")


def test_exception_after_the_yield(lib):
    app = lib.FastAPI()

    async def dependency():
        yield
        raise lib.WebSocketException(4001, "teardown")

    @app.websocket("/ws", dependencies=[lib.Depends(dependency)])
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.receive_text()

    assert closed(lib, app) == (4001, "teardown")


def test_sync_generator_sees_the_exception(lib):
    app = lib.FastAPI()
    seen = []

    def dependency():
        try:
            yield
        except Parent as exc:
            seen.append(str(exc))
            raise lib.WebSocketException(4001)

    app.websocket("/ws", dependencies=[lib.Depends(dependency)])(accepts_and_raises(lib, Parent("x")))
    assert closed(lib, app) == (4001, "")
    assert seen == ["x"]


def test_entered_generator_sees_the_validation_error(lib):
    app = lib.FastAPI()
    seen = []

    async def dependency():
        try:
            yield
        except lib.WebSocketRequestValidationError as exc:
            seen.append(len(exc.errors()))
            raise

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, number: int, value: None = lib.Depends(dependency)): ...

    assert refused(lib, app)[0] == 1008
    assert seen == [1]


# Unhandled exceptions


def test_unhandled_exception_before_accept(lib):
    app = lib.FastAPI()
    app.websocket("/ws")(raises(lib, Parent("x")))
    with pytest.raises(Parent, match="x"):
        with lib.TestClient(app).websocket_connect("/ws"):
            pass


def test_unhandled_exception_after_accept(lib):
    app = lib.FastAPI()
    app.websocket("/ws")(accepts_and_raises(lib, Parent("x")))
    with pytest.raises(Parent, match="x"):
        with lib.TestClient(app).websocket_connect("/ws") as websocket:
            websocket.send_text("go")


def test_unhandled_exception_in_a_dependency(lib):
    app = lib.FastAPI()

    async def dependency():
        raise Parent("x")

    app.websocket("/ws", dependencies=[lib.Depends(dependency)])(raises(lib, Child()))
    with pytest.raises(Parent, match="x"):
        with lib.TestClient(app).websocket_connect("/ws"):
            pass


def test_unhandled_exception_in_a_raw_route(lib):
    app = lib.FastAPI()
    app.websocket_route("/ws")(raises(lib, Parent("x")))
    with pytest.raises(Parent, match="x"):
        with lib.TestClient(app).websocket_connect("/ws"):
            pass


def test_unhandled_exception_with_debug(lib):
    app = lib.FastAPI(debug=True)
    app.websocket("/ws")(raises(lib, Parent("x")))
    with pytest.raises(Parent, match="x"):
        with lib.TestClient(app).websocket_connect("/ws"):
            pass


def test_disconnect_that_is_not_caught(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        while True:
            await websocket.receive_text()

    with pytest.raises(lib.WebSocketDisconnect) as caught:
        with lib.TestClient(app).websocket_connect("/ws") as websocket:
            websocket.close(4321, "gone")
    assert (caught.value.code, caught.value.reason) == (4321, "gone")


def test_exception_after_the_client_left(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.receive()
        raise Parent("x")

    with pytest.raises(Parent, match="x"):
        with lib.TestClient(app).websocket_connect("/ws") as websocket:
            websocket.close()


# Mounted applications


def test_handlers_of_a_mounted_application(lib):
    app = lib.FastAPI(exception_handlers={Parent: closes(4001)})
    sub = lib.FastAPI(exception_handlers={Parent: closes(4002)})
    sub.websocket("/ws")(raises(lib, Parent()))
    app.websocket("/ws")(raises(lib, Parent()))
    app.mount("/sub", sub)
    assert refused(lib, app, "/sub/ws")[0] == 4002
    assert refused(lib, app, "/ws")[0] == 4001


def test_parent_handles_what_its_mounted_application_does_not(lib):
    app, sub = lib.FastAPI(exception_handlers={Parent: closes(4001)}), lib.FastAPI()
    sub.websocket("/ws")(raises(lib, Parent("x")))
    app.mount("/sub", sub)
    assert refused(lib, app, "/sub/ws") == (4001, "x")


def test_parent_closes_a_socket_that_its_mounted_application_accepted(lib):
    app, sub = lib.FastAPI(exception_handlers={Parent: closes(4001)}), lib.FastAPI()
    sub.websocket("/ws")(accepts_and_raises(lib, Parent("x")))
    app.mount("/sub", sub)
    assert closed(lib, app, "/sub/ws") == (4001, "x")


def test_mounted_application_answers_http_exceptions_itself(lib):
    app = lib.FastAPI(exception_handlers={404: closes(4404)})
    sub = lib.FastAPI()
    sub.websocket("/ws")(raises(lib, lib.HTTPException(404, "sub")))
    app.mount("/sub", sub)
    assert refusal(lib, app, "/sub/ws").json() == {"detail": "sub"}


def test_parent_handles_what_a_foreign_application_raises(lib):
    async def foreign(scope, receive, send):
        raise Parent("x")

    app = lib.FastAPI(exception_handlers={Parent: closes(4001)})
    app.mount("/foreign", foreign)
    assert refused(lib, app, "/foreign/") == (4001, "x")


@pytest.mark.parametrize("accepted", [[], ["websocket.accept"]], ids=["before accept", "after accept"])
def test_a_connection_of_a_foreign_application_is_closed_once(lib, accepted):
    async def foreign(scope, receive, send):
        await receive()
        for kind in accepted:
            await send({"type": kind})
        raise Parent("x")

    app = lib.FastAPI(exception_handlers={Parent: closes(4001)})
    app.mount("/foreign", foreign)
    sent = converse(app, path="/foreign/")
    assert [message["type"] for message in sent] == [*accepted, "websocket.close"]
    assert sent[-1]["code"] == 4001


def test_parent_refuses_for_an_http_exception_of_a_foreign_application(lib):
    async def foreign(scope, receive, send):
        raise lib.HTTPException(403, "foreign")

    app = lib.FastAPI()
    app.mount("/foreign", foreign)
    assert refusal(lib, app, "/foreign/").json() == {"detail": "foreign"}


def test_handlers_of_the_application_reach_mounted_routes(lib):
    app = lib.FastAPI(exception_handlers={Parent: closes(4001)})
    app.mount("/sub", lib.Router([lib.WebSocketRoute("/ws", raises(lib, Parent("x")))]))
    assert refused(lib, app, "/sub/ws") == (4001, "x")
