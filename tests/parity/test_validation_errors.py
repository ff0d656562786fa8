"""`WebSocketRequestValidationError`: its items, its location and its text."""

import functools
import inspect
from typing import Annotated

import pytest
from pydantic import AfterValidator, BaseModel

from tests.fake_server import converse
from tests.parity.asking import errors, refusal, visit


def caught_by(lib, app):
    """The validation errors that reach the handler of the application."""
    seen = []

    @app.exception_handler(lib.WebSocketRequestValidationError)
    async def handle(websocket, exc):
        seen.append(exc)
        await websocket.close(1008)

    return seen


def failing(lib, path="/ws"):
    app = lib.FastAPI()

    @app.websocket(path)
    async def endpoint(websocket: lib.WebSocket, q: int):
        pass

    return app, endpoint


def test_handler_gets_the_errors(lib):
    app, _ = failing(lib)
    seen = caught_by(lib, app)
    refusal(lib, app, "/ws?q=x")

    assert seen[0].errors() == [
        {
            "type": "int_parsing",
            "loc": ("query", "q"),
            "msg": "Input should be a valid integer, unable to parse string as an integer",
            "input": "x",
        }
    ]


def test_handler_may_choose_code_and_reason(lib):
    app, _ = failing(lib)

    @app.exception_handler(lib.WebSocketRequestValidationError)
    async def handle(websocket, exc):
        await websocket.close(4400, exc.errors()[0]["type"])

    refused = refusal(lib, app)
    assert (refused.code, refused.reason) == (4400, "missing")


def test_handler_may_accept(lib):
    app, _ = failing(lib)

    @app.exception_handler(lib.WebSocketRequestValidationError)
    async def handle(websocket, exc):
        await websocket.accept()
        await websocket.send_json({"errors": exc.errors()})
        await websocket.close(1008)

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        assert websocket.receive_json()["errors"][0]["loc"] == ["query", "q"]


def test_default_handler_is_nearer_than_that_of_a_base_class(lib):
    app, _ = failing(lib)

    @app.exception_handler(lib.ValidationException)
    async def handle(websocket, exc):
        await websocket.close(4401)

    assert refusal(lib, app).code == 1008


def test_default_close(lib):
    app, _ = failing(lib)
    refused = refusal(lib, app)

    assert refused.code == 1008
    assert refused.reason == [
        {"type": "missing", "loc": ["query", "q"], "msg": "Field required", "input": None}
    ]


def test_default_handler_is_a_function_of_the_module(lib):
    handlers = lib.module("fastapi.exception_handlers")
    app, _ = failing(lib)

    @app.exception_handler(lib.WebSocketRequestValidationError)
    async def handle(websocket, exc):
        await handlers.websocket_request_validation_exception_handler(websocket, exc)

    assert refusal(lib, app).code == 1008


def test_endpoint_is_not_called(lib):
    app = lib.FastAPI()
    called = []

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, q: int):
        called.append(q)

    errors(lib, app)
    assert called == []


def test_context_of_the_endpoint(lib):
    app, endpoint = failing(lib)
    seen = caught_by(lib, app)
    refusal(lib, app)

    [exc] = seen
    line = inspect.getsourcelines(endpoint)[1]
    assert exc.endpoint_function == "endpoint"
    assert exc.endpoint_path == "WS /ws"
    assert exc.endpoint_file == __file__
    assert exc.endpoint_line == line
    assert exc.endpoint_ctx == {"function": "endpoint", "path": "WS /ws", "file": __file__, "line": line}


def test_text(lib):
    app, endpoint = failing(lib)
    seen = caught_by(lib, app)
    refusal(lib, app)

    line = inspect.getsourcelines(endpoint)[1]
    assert str(seen[0]) == (
        "1 validation error:\n"
        "  {'type': 'missing', 'loc': ('query', 'q'), 'msg': 'Field required', 'input': None}\n"
        "\n"
        f'  File "{__file__}", line {line}, in endpoint\n'
        "    WS /ws"
    )


def test_text_of_two_errors(lib):
    app = lib.FastAPI()
    seen = caught_by(lib, app)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, a: int, b: int):
        pass

    refusal(lib, app)
    assert str(seen[0]).startswith("2 validation errors:\n  {'type': 'missing', 'loc': ('query', 'a')")


@pytest.mark.parametrize(
    ("path", "url", "expected"),
    [
        ("/ws/{number}", "/ws/x", "WS /ws/{number}"),
        ("/ws/{number:path}", "/ws/x", "WS /ws/{number}"),
        ("/ws", "/ws?number=x", "WS /ws"),
    ],
)
def test_path_of_the_context_is_the_template(lib, path, url, expected):
    app = lib.FastAPI()
    seen = caught_by(lib, app)

    @app.websocket(path)
    async def endpoint(websocket: lib.WebSocket, number: int):
        pass

    refusal(lib, app, url)
    assert seen[0].endpoint_path == expected


def test_path_of_an_included_router(lib):
    app, router = lib.FastAPI(), lib.APIRouter(prefix="/router")
    seen = caught_by(lib, app)

    @router.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, q: int):
        pass

    app.include_router(router, prefix="/app")
    refusal(lib, app, "/app/router/ws")
    assert seen[0].endpoint_path == "WS /app/router/ws"


def test_path_of_a_mounted_app(lib):
    app, (mounted, _) = lib.FastAPI(), failing(lib)
    seen = caught_by(lib, mounted)
    app.mount("/sub", mounted)

    refusal(lib, app, "/sub/ws")
    assert seen[0].endpoint_path == "WS /sub/ws"


def test_path_below_a_root_path(lib):
    app, _ = failing(lib)
    seen = caught_by(lib, app)

    with pytest.raises(lib.WebSocketDisconnect):
        with lib.TestClient(app, root_path="/root/").websocket_connect("/ws"):
            pass
    assert seen[0].endpoint_path == "WS /root/ws"


def test_context_of_a_callable_object(lib):
    class Chat:
        async def __call__(self, websocket: lib.WebSocket, q: int):
            pass

    app = lib.FastAPI()
    seen = caught_by(lib, app)
    app.websocket("/ws")(Chat())

    refusal(lib, app)
    assert (seen[0].endpoint_function, seen[0].endpoint_file, seen[0].endpoint_line) == (None, None, None)
    assert str(seen[0]).endswith("\n\n  Endpoint: WS /ws")


def test_context_of_a_wrapped_endpoint(lib):
    async def inner(websocket: lib.WebSocket, q: int):
        pass

    @functools.wraps(inner)
    async def outer(**values):
        await inner(**values)

    app = lib.FastAPI()
    seen = caught_by(lib, app)
    app.websocket("/ws")(outer)

    refusal(lib, app)
    assert seen[0].endpoint_function == "inner"
    assert seen[0].endpoint_line == inspect.getsourcelines(inner)[1]


def test_context_is_that_of_the_endpoint_not_of_the_dependency(lib):
    def dependency(q: int):
        pass

    app = lib.FastAPI()
    seen = caught_by(lib, app)

    @app.websocket("/ws", dependencies=[lib.Depends(dependency)])
    async def endpoint(websocket: lib.WebSocket):
        pass

    refusal(lib, app)
    assert seen[0].endpoint_function == "endpoint"


def test_locs_are_tuples_in_the_exception(lib):
    app = lib.FastAPI()
    seen = caught_by(lib, app)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, many: Annotated[list[int], lib.Query()]):
        pass

    refusal(lib, app, "/ws?many=1&many=x")
    assert [error["loc"] for error in seen[0].errors()] == [("query", "many", 1)]


def test_context_of_an_error_keeps_its_exception(lib):
    def refuse(value):
        raise ValueError("never")

    app = lib.FastAPI()
    seen = caught_by(lib, app)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, q: Annotated[str, AfterValidator(refuse)]):
        pass

    refusal(lib, app, "/ws?q=a")
    [error] = seen[0].errors()
    assert isinstance(error["ctx"]["error"], ValueError)
    assert error["msg"] == "Value error, never"


def test_exception_of_a_validator_is_no_validation_error(lib):
    def refuse(value):
        raise KeyError("lost")

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, q: Annotated[str, AfterValidator(refuse)]):
        pass

    with pytest.raises(KeyError, match="lost"):
        visit(lib, app, "/ws?q=a")


def test_errors_are_not_shared_between_connections(lib):
    app, _ = failing(lib)
    seen = caught_by(lib, app)
    refusal(lib, app)
    seen[0].errors()[0]["msg"] = "changed"
    refusal(lib, app)

    assert seen[1].errors()[0]["msg"] == "Field required"


def test_context_is_not_shared_between_mounts(lib):
    app, (mounted, _) = lib.FastAPI(), failing(lib)
    seen = caught_by(lib, mounted)
    app.mount("/a", mounted)
    app.mount("/b", mounted)
    refusal(lib, app, "/a/ws")
    refusal(lib, app, "/b/ws")

    assert [exc.endpoint_path for exc in seen] == ["WS /a/ws", "WS /b/ws"]


def test_input_of_a_union(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, q: int | float):
        pass

    assert [error["loc"] for error in errors(lib, app, "/ws?q=x")] == [
        ["query", "q", "int"],
        ["query", "q", "float"],
    ]


def test_error_of_a_nested_json_model(lib):
    from pydantic import Json

    class Inner(BaseModel):
        number: int

    class Outer(BaseModel):
        inner: Json[Inner]

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, q: Annotated[Outer, lib.Query()]):
        pass

    found = errors(lib, app, params={"inner": '{"number": "x"}'})
    assert [error["loc"] for error in found] == [["query", "inner", "number"]]


# --- the exception alone ---


@pytest.mark.parametrize(
    "name",
    [
        "ValidationException",
        "RequestValidationError",
        "WebSocketRequestValidationError",
        "ResponseValidationError",
    ],
)
@pytest.mark.parametrize(
    ("items", "context", "text"),
    [
        ([], None, "0 validation errors:"),
        (["a"], None, "1 validation error:\n  a"),
        (["a", "b"], None, "2 validation errors:\n  a\n  b"),
        (["a"], {}, "1 validation error:\n  a"),
        (["a"], {"path": "WS /x"}, "1 validation error:\n  a\n\n  Endpoint: WS /x"),
        (["a"], {"path": "WS /x", "file": "f.py"}, "1 validation error:\n  a\n\n  Endpoint: WS /x"),
        (
            ["a"],
            {"file": "f.py", "line": 3, "function": "f"},
            '1 validation error:\n  a\n\n  File "f.py", line 3, in f',
        ),
        (
            ["a"],
            {"file": "f.py", "line": 3, "function": "f", "path": "WS /x"},
            '1 validation error:\n  a\n\n  File "f.py", line 3, in f\n    WS /x',
        ),
        ([], {"path": "WS /x"}, "0 validation errors:\n\n  Endpoint: WS /x"),
    ],
    ids=repr,
)
def test_text_of_an_exception(lib, name, items, context, text):
    exc = getattr(lib, name)(items, endpoint_ctx=context)

    assert str(exc) == text
    assert exc.errors() == items
    assert exc.endpoint_path == (context or {}).get("path")


def test_family(lib):
    for name in ("RequestValidationError", "WebSocketRequestValidationError", "ResponseValidationError"):
        assert issubclass(getattr(lib, name), lib.ValidationException)
    assert issubclass(lib.ValidationException, Exception)
    assert not issubclass(lib.WebSocketRequestValidationError, lib.RequestValidationError)


def test_body_of_the_http_exceptions(lib):
    assert lib.RequestValidationError([], body={"a": 1}).body == {"a": 1}
    assert lib.ResponseValidationError([], body=None).body is None


def test_error_without_a_test_client(lib):
    """A server without the denial response extension gets a close before accept."""
    app, _ = failing(lib)
    assert [(message["type"], message["code"]) for message in converse(app)] == [("websocket.close", 1008)]
