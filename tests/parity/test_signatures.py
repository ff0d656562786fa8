"""How signatures are read: strings, wrappers, partials, and the rules of `Annotated`."""

import functools
import inspect
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NewType, TypeVar

import pytest
from pydantic import BaseModel, Field

from tests.parity import future_annotations
from tests.parity.asking import ask, echo, errors

if TYPE_CHECKING:
    from decimal import Decimal


# --- annotations as strings ---


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("/typed/3", [3, 5]),
        ("/typed/3?q=4", [3, 4]),
        ("/decorated/3", 3),
        ("/depends?x_token=3&q=1", [6, 1]),
        ("/class?first=a&last=b", ["a", "b"]),
        ("/class?first=a", ["a", "none"]),
        ("/init?room=3", [3, 10]),
        ("/init?room=3&limit=5", [3, 5]),
        ("/callable?q=1", [2, 3]),
        ("/quoted?q=1&many=2&many=3", [1, [2, 3]]),
    ],
)
def test_future_annotations(lib, url, expected):
    assert ask(lib, future_annotations.build(lib), url) == expected


@pytest.mark.parametrize(
    ("url", "loc"),
    [
        ("/typed/x", ["path", "number"]),
        ("/typed/3?q=3", ["query", "q"]),
        ("/depends?x_token=x", ["query", "x_token"]),
        ("/init", ["query", "room"]),
        ("/init?room=3&limit=x", ["query", "limit"]),
        ("/quoted?q=x&many=1", ["query", "q"]),
    ],
)
def test_future_annotations_validate(lib, url, loc):
    assert [error["loc"] for error in errors(lib, future_annotations.build(lib), url)] == [loc]


def test_partial_of_a_function_with_a_name_for_type_checkers_only(lib):
    def outcome():
        app = future_annotations.build(lib)
        try:
            return ask(lib, app, "/partial?x_token=3")
        except lib.WebSocketDisconnect as exc:
            return exc.reason

    assert outcome() == 6


def test_quoted_annotation(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, q: "int", other: "int | None" = None):
        await websocket.accept()
        await websocket.send_json([q, other])

    assert ask(lib, app, "/ws?q=3") == [3, None]
    assert [error["loc"] for error in errors(lib, app, "/ws?q=x&other=y")] == [
        ["query", "q"],
        ["query", "other"],
    ]


def test_quoted_name_inside_an_annotation(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, q: Annotated["int", lib.Query()], many: list["int"] = []):
        await websocket.accept()
        await websocket.send_json(q)

    assert ask(lib, app, "/ws?q=3") == 3


def test_return_annotation_for_type_checkers_only(lib):
    app = lib.FastAPI()

    def dependency(q: int) -> "Decimal":
        return q

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, q: int = lib.Depends(dependency)) -> "Decimal":
        await websocket.accept()
        await websocket.send_json(q)

    assert ask(lib, app, "/ws?q=3") == 3


def test_dependency_annotated_with_a_name_for_type_checkers_only(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, value: "Decimal" = lib.Depends(lambda: 3)):
        await websocket.accept()
        await websocket.send_json(value)

    assert ask(lib, app) == 3


def test_string_annotations_resolve_in_the_globals_of_the_wrapped_function(lib):
    def elsewhere(call: Callable[..., Any]) -> Callable[..., Any]:
        namespace: dict[str, Any] = {"functools": functools}
        exec(
            "def decorate(call):\n"
            "    @functools.wraps(call)\n"
            "    async def wrapper(**values):\n"
            "        return await call(**values)\n"
            "    return wrapper",
            namespace,
        )
        return namespace["decorate"](call)

    app = lib.FastAPI()

    @app.websocket("/ws")
    @elsewhere
    async def endpoint(websocket: lib.WebSocket, q: "int | None" = None):
        await websocket.accept()
        await websocket.send_json(q)

    assert ask(lib, app, "/ws?q=3") == 3


# --- what may be an endpoint ---


def sends(websocket_class):
    async def endpoint(websocket: websocket_class, q: int = 1):
        await websocket.accept()
        await websocket.send_json(q)

    return endpoint


def test_endpoint_wrapped_by_a_decorator(lib):
    def decorate(call):
        @functools.wraps(call)
        async def wrapper(*args, **kwargs):
            assert not args
            return await call(**kwargs)

        return wrapper

    app = lib.FastAPI()
    app.websocket("/ws")(decorate(sends(lib.WebSocket)))

    assert ask(lib, app, "/ws?q=3") == 3


def test_endpoint_as_partial(lib):
    async def endpoint(websocket: lib.WebSocket, prefix: str, q: int):
        await websocket.accept()
        await websocket.send_json(f"{prefix}{q}")

    app = lib.FastAPI()
    app.add_api_websocket_route("/ws", functools.partial(endpoint, prefix="a"), name="partial")

    assert ask(lib, app, "/ws?q=3") == "a3"
    assert ask(lib, app, "/ws?q=3&prefix=b") == "b3"


def test_endpoint_as_partial_with_a_positional_value(lib):
    async def endpoint(prefix, websocket: lib.WebSocket, q: int):
        await websocket.accept()
        await websocket.send_json(f"{prefix}{q}")

    app = lib.FastAPI()
    app.add_api_websocket_route("/ws", functools.partial(endpoint, "a"), name="partial")

    assert ask(lib, app, "/ws?q=3&prefix=b") == "a3"


def test_endpoint_as_bound_method(lib):
    class Chat:
        async def serve(self, websocket: lib.WebSocket, q: int):
            await websocket.accept()
            await websocket.send_json(q)

    app = lib.FastAPI()
    app.websocket("/ws")(Chat().serve)

    assert ask(lib, app, "/ws?q=3") == 3


def test_endpoint_as_callable_object(lib):
    class Chat:
        async def __call__(self, websocket: lib.WebSocket, q: int):
            await websocket.accept()
            await websocket.send_json(q)

    app = lib.FastAPI()
    app.websocket("/ws")(Chat())

    assert ask(lib, app, "/ws?q=3") == 3
    assert app.routes[-1].name == "Chat"


def test_endpoint_with_keyword_only_parameters(lib):
    app = lib.FastAPI()

    @app.websocket("/ws/{room}")
    async def endpoint(*, websocket: lib.WebSocket, q: int = 1, room: str):
        await websocket.accept()
        await websocket.send_json([room, q])

    assert ask(lib, app, "/ws/a?q=3") == ["a", 3]


def test_signature_attribute_wins(lib):
    async def endpoint(**values):
        await values["socket"].accept()
        await values["socket"].send_json(values["q"])

    keyword = inspect.Parameter.KEYWORD_ONLY
    endpoint.__signature__ = inspect.Signature(
        [
            inspect.Parameter("socket", keyword, annotation=lib.WebSocket),
            inspect.Parameter("q", keyword, annotation=int),
        ]
    )
    app = lib.FastAPI()
    app.websocket("/ws")(endpoint)

    assert ask(lib, app, "/ws?q=3") == 3


def test_any_name_for_the_websocket(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(q: int, connection_of_the_client: lib.WebSocket):
        await connection_of_the_client.accept()
        await connection_of_the_client.send_json(q)

    assert ask(lib, app, "/ws?q=3") == 3


def test_one_endpoint_at_two_paths(lib):
    endpoint = sends(lib.WebSocket)
    app = lib.FastAPI()
    app.websocket("/a")(endpoint)
    app.websocket("/b/{q}")(endpoint)

    assert ask(lib, app, "/a") == 1
    assert ask(lib, app, "/b/4") == 4
    assert [error["loc"] for error in errors(lib, app, "/b/x")] == [["path", "q"]]


# --- Annotated ---


def test_depends_in_annotated(lib):
    alias = Annotated[int, lib.Depends(lambda q: int(q))]

    assert ask(lib, echo(lib, alias), "/ws?q=3") == "3"


def test_metadata_of_others_is_ignored(lib):
    assert ask(lib, echo(lib, Annotated[int, "documentation", lib.Query(), object()]), "/ws?value=3") == "3"
    assert ask(lib, echo(lib, Annotated[int, "documentation"]), "/ws?value=3") == "3"
    assert ask(lib, echo(lib, Annotated[int, "documentation", lib.Depends(lambda: 1)])) == "1"


def test_last_marker_wins(lib):
    app = echo(lib, Annotated[str, lib.Query(alias="a"), lib.Header(alias="b")], "default")

    assert ask(lib, app, "/ws?a=1&b=1", headers={"b": "sent"}) == "'sent'"


def test_last_of_depends_and_marker_wins(lib):
    assert ask(lib, echo(lib, Annotated[str, lib.Query(), lib.Depends(lambda: "called")])) == "'called'"
    app = echo(lib, Annotated[str, lib.Depends(lambda: "called"), lib.Query()])
    assert ask(lib, app, "/ws?value=sent") == "'sent'"


def test_last_marker_of_nested_annotated_wins(lib):
    inner = Annotated[str, lib.Query(alias="a")]
    app = echo(lib, Annotated[inner, lib.Query(alias="b")], "default")

    assert ask(lib, app, "/ws?b=1") == "'1'"


def test_alias_serves_several_parameters(lib):
    number = Annotated[int, lib.Query(gt=3)]
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, a: number, b: number = 5, c: number = 6):
        await websocket.accept()
        await websocket.send_json([a, b, c])

    assert ask(lib, app, "/ws?a=4&c=7") == [4, 5, 7]
    assert [error["loc"] for error in errors(lib, app, "/ws?a=1&b=1")] == [["query", "a"], ["query", "b"]]


def test_alias_serves_several_routes(lib):
    number = Annotated[int, lib.Path(gt=3)]
    app = lib.FastAPI()

    @app.websocket("/a/{one}")
    async def first(websocket: lib.WebSocket, one: number):
        await websocket.accept()
        await websocket.send_json(one)

    @app.websocket("/b/{two}")
    async def second(websocket: lib.WebSocket, two: number):
        await websocket.accept()
        await websocket.send_json(two)

    assert (ask(lib, app, "/a/4"), ask(lib, app, "/b/5")) == (4, 5)


def test_default_marker_serves_one_parameter_of_two_routes(lib):
    app = lib.FastAPI()

    async def endpoint(websocket: lib.WebSocket, q: int = lib.Query(gt=3)):
        await websocket.accept()
        await websocket.send_json(q)

    app.websocket("/a")(endpoint)
    app.websocket("/b")(endpoint)
    assert (ask(lib, app, "/a?q=4"), ask(lib, app, "/b?q=5")) == (4, 5)


def test_annotated_alias_that_infers_its_source(lib):
    number = Annotated[int, Field(gt=3)]
    app = lib.FastAPI()

    @app.websocket("/ws/{a}")
    async def endpoint(websocket: lib.WebSocket, a: number, b: number = 5):
        await websocket.accept()
        await websocket.send_json([a, b])

    assert ask(lib, app, "/ws/4") == [4, 5]
    assert [error["loc"] for error in errors(lib, app, "/ws/3?b=3")] == [["path", "a"], ["query", "b"]]


def refused(lib, annotation, default=..., path="/ws"):
    with pytest.raises(AssertionError) as caught:
        echo(lib, annotation, default, path)
    return str(caught.value)


@pytest.mark.parametrize("marker", ["Query", "Header", "Cookie", "Body"])
def test_default_inside_annotated(lib, marker):
    assert refused(lib, Annotated[str, getattr(lib, marker)("default")]) == (
        f"`{marker}` default value cannot be set in `Annotated` for 'value'. "
        "Set the default value with `=` instead."
    )


def test_default_of_a_path_parameter(lib):
    assert (
        refused(lib, Annotated[int, lib.Path()], 3, "/ws/{value}")
        == "Path parameters cannot have default values"
    )


def test_default_of_the_path_marker(lib):
    with pytest.raises(AssertionError, match=r"^Path parameters cannot have a default value$"):
        lib.Path(3)


def test_depends_twice(lib):
    assert refused(lib, Annotated[int, lib.Depends(int)], lib.Depends(int)) == (
        "Cannot specify `Depends` in `Annotated` and default value together for 'value'"
    )


def test_marker_in_annotated_and_depends_as_default(lib):
    assert refused(lib, Annotated[int, lib.Query()], lib.Depends(int)) == (
        "Cannot specify a FastAPI annotation in `Annotated` and `Depends` as a default value together "
        "for 'value'"
    )


def test_marker_twice(lib):
    assert refused(lib, Annotated[int, lib.Query()], lib.Query()) == (
        "Cannot specify FastAPI annotations in `Annotated` and default value together for 'value'"
    )


def test_pydantic_field_as_default_value(lib):
    assert refused(lib, int, Field(gt=3)) == (
        "non-body parameters must be in path, query, header or cookie: value"
    )


@pytest.mark.parametrize(
    "name", ["WebSocket", "HTTPConnection", "Response", "BackgroundTasks", "SecurityScopes"]
)
def test_marker_on_a_special_class(lib, name):
    special = getattr(lib, name)

    assert refused(lib, Annotated[special, lib.Query()]) == (
        f"Cannot specify FastAPI annotation for type {special!r}"
    )


def test_type_that_pydantic_cannot_validate(lib):
    class Unknown:
        pass

    with pytest.raises(lib.FastAPIError):
        echo(lib, Unknown)


def test_optional_websocket_is_no_websocket(lib):
    with pytest.raises(lib.FastAPIError):
        echo(lib, lib.WebSocket | None)


def test_new_type(lib):
    user_id = NewType("user_id", int)

    assert ask(lib, echo(lib, user_id), "/ws?value=3") == "3"


def test_type_variable(lib):
    number = TypeVar("number", bound=int)

    assert ask(lib, echo(lib, number), "/ws?value=3") == "3"


def test_none_annotation(lib):
    assert [error["type"] for error in errors(lib, echo(lib, None), "/ws?value=3")] == ["none_required"]


def test_class_with_its_own_schema(lib):
    class Upper(str):
        @classmethod
        def __get_pydantic_core_schema__(cls, source, handler):
            from pydantic_core import core_schema

            return core_schema.no_info_after_validator_function(str.upper, core_schema.str_schema())

    assert ask(lib, echo(lib, Upper), "/ws?value=a") == "'A'"


def test_generic_class_with_its_own_schema_belongs_to_the_body(lib):
    from typing import Generic

    T = TypeVar("T")

    class Box(Generic[T]):
        @classmethod
        def __get_pydantic_core_schema__(cls, source, handler):
            from pydantic_core import core_schema

            return core_schema.any_schema()

    assert ask(lib, echo(lib, Box[int], "default"), "/ws?value=a") == "'default'"


def test_class_dependency_with_inherited_init(lib):
    class Base:
        def __init__(self, q: int):
            self.q = q

    class Child(Base):
        pass

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, child: Child = lib.Depends()):
        await websocket.accept()
        await websocket.send_json([type(child).__name__, child.q])

    assert ask(lib, app, "/ws?q=3") == ["Child", 3]


def test_class_dependency_made_by_new(lib):
    class Made:
        def __new__(cls, q: int):
            made = super().__new__(cls)
            made.q = q
            return made

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, made: Made = lib.Depends()):
        await websocket.accept()
        await websocket.send_json(made.q)

    assert ask(lib, app, "/ws?q=3") == 3


def test_model_with_aliases_as_dependency(lib):
    class Page(BaseModel):
        limit: int = Field(10, alias="pageLimit")

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, page: Page = lib.Depends()):
        await websocket.accept()
        await websocket.send_json(page.limit)

    assert ask(lib, app, "/ws?pageLimit=3") == 3


def test_named_tuple_and_typed_dict_as_dependency(lib):
    from typing import NamedTuple

    class Pair(NamedTuple):
        a: int
        b: int = 2

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, pair: Pair = lib.Depends()):
        await websocket.accept()
        await websocket.send_json(pair)

    assert ask(lib, app, "/ws?a=1") == [1, 2]


# --- PEP 695 ---

ALIASES = """
type Number = int
type Checked = Annotated[int, lib.Query(gt=3)]
type Called = Annotated[int, lib.Depends(lambda: 7)]
type Socket = lib.WebSocket

async def endpoint(socket: Socket, n: Number, called: Called, checked: Checked = 5):
    await socket.accept()
    await socket.send_json([n, called, checked])
"""


@pytest.mark.skipif(sys.version_info < (3, 12), reason="`type X = ...` is Python 3.12's")
def test_type_statement(lib):
    namespace: dict[str, Any] = {"lib": lib, "Annotated": Annotated}
    exec(ALIASES, namespace)
    app = lib.FastAPI()
    app.websocket("/ws")(namespace["endpoint"])

    assert ask(lib, app, "/ws?n=3") == [3, 7, 5]
    assert [error["loc"] for error in errors(lib, app, "/ws?n=x&checked=1")] == [
        ["query", "n"],
        ["query", "checked"],
    ]


def test_backported_type_alias(lib):
    from typing_extensions import TypeAliasType

    checked = TypeAliasType("checked", Annotated[int, lib.Query(gt=3)])
    called = TypeAliasType("called", Annotated[int, lib.Depends(lambda: 7)])
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, one: checked, two: called):
        await websocket.accept()
        await websocket.send_json([one, two])

    assert ask(lib, app, "/ws?one=4") == [4, 7]
    assert [error["loc"] for error in errors(lib, app, "/ws?one=3")] == [["query", "one"]]
