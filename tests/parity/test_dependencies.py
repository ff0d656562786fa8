"""What may be a dependency, the order in which dependencies run, and when one is called again."""

import asyncio
import contextlib
import contextvars
import functools
import threading
from dataclasses import dataclass
from typing import Annotated, Any

import anyio
import pytest

from tests.fake_server import CONNECT, FakeServer, aconverse, websocket_scope
from tests.parity.asking import ask, errors, visit


def answering(lib, **dependencies):
    """An application whose endpoint sends the values of its dependencies."""
    app = lib.FastAPI()
    first, *others = dependencies.values()
    second = others[0] if others else lib.Depends(lambda: None)

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, one: Any = first, two: Any = second):
        await websocket.accept()
        await websocket.send_json([one, two] if others else one)

    return app


async def coroutine(q: str):
    return f"coroutine {q}"


def function(q: str):
    return f"function {q}"


async def async_generator(q: str):
    yield f"async generator {q}"


def generator(q: str):
    yield f"generator {q}"


class Instance:
    def __call__(self, q: str):
        return f"instance {q}"

    def method(self, q: str):
        return f"method {q}"

    async def async_method(self, q: str):
        return f"async method {q}"

    def generator_method(self, q: str):
        yield f"generator method {q}"

    async def async_generator_method(self, q: str):
        yield f"async generator method {q}"

    @classmethod
    def class_method(cls, q: str):
        return f"{cls.__name__} {q}"

    @staticmethod
    async def static_method(q: str):
        return f"static {q}"


class AsyncInstance:
    async def __call__(self, q: str):
        return f"async instance {q}"


class GeneratorInstance:
    def __call__(self, q: str):
        yield f"generator instance {q}"


class AsyncGeneratorInstance:
    async def __call__(self, q: str):
        yield f"async generator instance {q}"


def plainly(call):
    @functools.wraps(call)
    def wrapper(*args, **kwargs):
        return call(*args, **kwargs)

    return wrapper


def awaiting(call):
    @functools.wraps(call)
    async def wrapper(*args, **kwargs):
        return f"awaited {call(*args, **kwargs)}"

    return wrapper


def two_words(q: str, end: str):
    return f"{q} {end}"


async def async_two_words(q: str, end: str):
    return f"{q} {end}"


def yield_two_words(q: str, end: str):
    yield f"{q} {end}"


async def async_yield_two_words(q: str, end: str):
    yield f"{q} {end}"


@pytest.mark.parametrize(
    ("dependency", "expected"),
    [
        (coroutine, "coroutine x"),
        (function, "function x"),
        (async_generator, "async generator x"),
        (generator, "generator x"),
        (Instance(), "instance x"),
        (AsyncInstance(), "async instance x"),
        (GeneratorInstance(), "generator instance x"),
        (AsyncGeneratorInstance(), "async generator instance x"),
        (Instance().method, "method x"),
        (Instance().async_method, "async method x"),
        (Instance().generator_method, "generator method x"),
        (Instance().async_generator_method, "async generator method x"),
        (Instance.class_method, "Instance x"),
        (Instance.static_method, "static x"),
        (functools.partial(two_words, end="y"), "x y"),
        (functools.partial(async_two_words, end="y"), "x y"),
        (functools.partial(yield_two_words, end="y"), "x y"),
        (functools.partial(async_yield_two_words, end="y"), "x y"),
        (functools.partial(functools.partial(async_two_words, end="y")), "x y"),
        (functools.partial(Instance()), "instance x"),
        (functools.partial(AsyncInstance()), "async instance x"),
        (functools.partial(GeneratorInstance()), "generator instance x"),
        (functools.partial(Instance().async_method), "async method x"),
        (plainly(function), "function x"),
        (plainly(coroutine), "coroutine x"),
        (plainly(generator), "generator x"),
        (plainly(async_generator), "async generator x"),
        (awaiting(function), "awaited function x"),
        (functools.partial(plainly(async_two_words), end="y"), "x y"),
        (lambda q: f"lambda {q}", "lambda x"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_kinds_of_dependencies(lib, dependency, expected):
    app = answering(lib, one=lib.Depends(dependency))

    assert ask(lib, app, "/ws?q=x") == expected


def test_partial_with_an_overridable_keyword(lib):
    app = answering(lib, one=lib.Depends(functools.partial(two_words, end="y")))

    assert ask(lib, app, "/ws?q=x&end=z") == "x z"


def test_class_as_dependency(lib):
    class Page:
        def __init__(self, skip: int = 0, limit: int = 10):
            self.skip, self.limit = skip, limit

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, page: Page = lib.Depends(Page)):
        await websocket.accept()
        await websocket.send_json([type(page).__name__, page.skip, page.limit])

    assert ask(lib, app, "/ws?skip=3") == ["Page", 3, 10]


def test_depends_without_callable_takes_the_annotation(lib):
    @dataclass
    class Page:
        skip: int = 0

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(
        websocket: lib.WebSocket, one: Annotated[Page, lib.Depends()], two: Page = lib.Depends()
    ):
        await websocket.accept()
        await websocket.send_json([one.skip, two.skip, one is two])

    assert ask(lib, app, "/ws?skip=3") == [3, 3, True]


def test_depends_on_a_pydantic_model(lib):
    from pydantic import BaseModel

    class Page(BaseModel):
        skip: int
        words: str = "none"

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, page: Annotated[Page, lib.Depends()]):
        await websocket.accept()
        await websocket.send_json(page.model_dump())

    assert ask(lib, app, "/ws?skip=3") == {"skip": 3, "words": "none"}
    assert [error["loc"] for error in errors(lib, app)] == [["query", "skip"]]


def test_class_with_callable_instances_is_called_itself(lib):
    class Callable:
        async def __call__(self):
            return "never"

        def __str__(self):
            return "an instance"

    app = answering(lib, one=lib.Depends(lambda made=lib.Depends(Callable): str(made)))

    assert ask(lib, app) == "an instance"


def test_nested_dependencies(lib):
    def base(q: str):
        return q

    def middle(base: str = lib.Depends(base), limit: int = 1):
        return f"{base}{limit}"

    async def top(middle: Annotated[str, lib.Depends(middle)]):
        return f"<{middle}>"

    assert ask(lib, answering(lib, one=lib.Depends(top)), "/ws?q=x&limit=2") == "<x2>"


def test_dependency_takes_the_websocket(lib):
    async def accept(socket: lib.WebSocket, connection: lib.HTTPConnection):
        await socket.accept(subprotocol="v1")
        return socket is connection

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(ws: lib.WebSocket, same: Annotated[bool, lib.Depends(accept)]):
        await ws.send_json(same)

    with lib.TestClient(app).websocket_connect("/ws", subprotocols=["v1"]) as websocket:
        assert websocket.accepted_subprotocol == "v1"
        assert websocket.receive_json() is True


def test_endpoint_without_websocket_parameter(lib):
    async def accept(socket: lib.WebSocket):
        await socket.accept()
        await socket.send_json("from the dependency")

    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(accept)])
    async def endpoint():
        pass

    assert ask(lib, app) == "from the dependency"


def test_two_websocket_annotated_dependencies_get_one_socket(lib):
    seen = []

    def remember(socket: lib.WebSocket):
        seen.append(socket)

    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(remember)])
    async def endpoint(ws: lib.WebSocket):
        await ws.accept()
        seen.append(ws)

    visit(lib, app)
    assert seen[0] is seen[1]


def test_subclass_of_websocket_as_annotation(lib):
    class Socket(lib.WebSocket):
        pass

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(ws: Socket):
        await ws.accept()
        await ws.send_json(type(ws).__name__)

    assert ask(lib, app) == "WebSocket"


@pytest.mark.parametrize("value", [None, 0, "", [], False])
def test_falsy_values_are_passed_on(lib, value):
    assert ask(lib, answering(lib, one=lib.Depends(lambda: value))) == value


def test_async_dependency_runs_in_the_loop(lib):
    async def where():
        return asyncio.get_running_loop()

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, loop: Any = lib.Depends(where)):
        await websocket.accept()
        await websocket.send_json(loop is asyncio.get_running_loop())

    assert ask(lib, app) is True


def test_sync_dependency_leaves_the_loop(lib):
    def where():
        with pytest.raises(RuntimeError):
            asyncio.get_running_loop()
        return threading.get_ident()

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, thread: int = lib.Depends(where)):
        await websocket.accept()
        await websocket.send_json(thread == threading.get_ident())

    assert ask(lib, app) is False


def test_class_is_made_in_a_thread(lib):
    class Made:
        def __init__(self):
            self.thread = threading.get_ident()

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, made: Annotated[Made, lib.Depends()]):
        await websocket.accept()
        await websocket.send_json(made.thread == threading.get_ident())

    assert ask(lib, app) is False


word = contextvars.ContextVar("word", default="unset")


def test_sync_dependency_sees_context_variables(lib):
    async def set_word():
        word.set("set")

    app = answering(lib, one=lib.Depends(set_word), two=lib.Depends(lambda: word.get()))

    assert ask(lib, app) == [None, "set"]


@pytest.mark.parametrize(("kind", "seen"), [("async", "set"), ("sync", "unset"), ("async generator", "set")])
def test_context_variable_of_a_dependency_in_the_endpoint(lib, kind, seen):
    async def in_coroutine():
        word.set("set")

    def in_thread():
        word.set("set")

    async def in_generator():
        word.set("set")
        yield

    dependency = {"async": in_coroutine, "sync": in_thread, "async generator": in_generator}[kind]
    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(dependency)])
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_json(word.get())

    assert ask(lib, app) == seen


class Counter:
    """Counts its calls; each call returns the count."""

    def __init__(self):
        self.calls = 0

    def __call__(self):
        self.calls += 1
        return self.calls


def test_called_once_for_a_connection(lib):
    counter = Counter()
    app = answering(lib, one=lib.Depends(counter), two=lib.Depends(counter))

    assert ask(lib, app) == [1, 1]
    assert ask(lib, app) == [2, 2]


def test_use_cache_false_calls_again(lib):
    counter = Counter()
    app = answering(lib, one=lib.Depends(counter), two=lib.Depends(counter, use_cache=False))

    assert ask(lib, app) == [1, 2]


def test_first_call_fills_the_cache_even_without_use_cache(lib):
    counter = Counter()
    app = answering(lib, one=lib.Depends(counter, use_cache=False), two=lib.Depends(counter))

    assert ask(lib, app) == [1, 1]


def test_second_call_does_not_replace_the_cached_value(lib):
    counter = Counter()

    def again(value: int = lib.Depends(counter, use_cache=False)):
        return value

    def cached(value: int = lib.Depends(counter)):
        return value

    def both(
        one: int = lib.Depends(counter), two: int = lib.Depends(again), three: int = lib.Depends(cached)
    ):
        return [one, two, three]

    assert ask(lib, answering(lib, one=lib.Depends(both))) == [1, 2, 1]


def test_uncached_below_a_cached_one_is_called_again(lib):
    counter = Counter()

    def upper(value: int = lib.Depends(counter, use_cache=False)):
        return value

    app = answering(lib, one=lib.Depends(upper), two=lib.Depends(upper))

    assert ask(lib, app) == [1, 1]
    assert counter.calls == 2


def test_parameterless_dependency_ignores_use_cache(lib):
    counter = Counter()
    app = lib.FastAPI()

    @app.websocket(
        "/ws", dependencies=[lib.Depends(counter, use_cache=False), lib.Depends(counter, use_cache=False)]
    )
    async def endpoint(websocket: lib.WebSocket, count: int = lib.Depends(counter)):
        await websocket.accept()
        await websocket.send_json(count)

    assert ask(lib, app) == 1


def test_equal_callables_are_one_dependency(lib):
    class Equal(Counter):
        def __eq__(self, other):
            return isinstance(other, Equal)

        def __hash__(self):
            return 1

    app = answering(lib, one=lib.Depends(Equal()), two=lib.Depends(Equal()))

    assert ask(lib, app) == [1, 1]


def test_bound_methods_of_one_object_are_one_dependency(lib):
    counter = Counter()
    app = answering(lib, one=lib.Depends(counter.__call__), two=lib.Depends(counter.__call__))

    assert ask(lib, app) == [1, 1]


def test_two_partials_are_two_dependencies(lib):
    counter = Counter()
    app = answering(
        lib, one=lib.Depends(functools.partial(counter)), two=lib.Depends(functools.partial(counter))
    )

    assert ask(lib, app) == [1, 2]


@pytest.mark.parametrize(
    ("first", "second", "calls"),
    [
        ({}, {"scope": "function"}, 2),
        ({}, {"scope": "request"}, 2),
        ({"scope": "request"}, {"scope": "function"}, 2),
        ({"scope": "function"}, {"scope": "function"}, 1),
        ({}, {"max_concurrency": 2}, 1),
    ],
    ids=str,
)
def test_scope_is_part_of_the_cache_key_of_functions(lib, first, second, calls):
    counter = Counter()
    app = answering(lib, one=lib.Depends(counter, **first), two=lib.Depends(counter, **second))

    ask(lib, app)
    assert counter.calls == calls


@pytest.mark.parametrize(
    ("first", "second", "calls"),
    [
        ({}, {"scope": "request"}, 1),
        ({}, {"scope": "function"}, 2),
        ({"scope": "request"}, {"scope": "function"}, 2),
        ({"scope": "function"}, {"scope": "function"}, 1),
    ],
    ids=str,
)
def test_scope_is_part_of_the_cache_key_of_generators(lib, first, second, calls):
    counter = Counter()

    async def entered():
        yield counter()

    app = answering(lib, one=lib.Depends(entered, **first), two=lib.Depends(entered, **second))

    ask(lib, app)
    assert counter.calls == calls


def noting(notes, name):
    """A dependency that records its name when it is called."""

    def note():
        notes.append(name)

    return note


def test_order_is_depth_first_in_the_order_of_parameters(lib):
    notes = []

    def left(inner: Any = lib.Depends(noting(notes, "left inner"))):
        notes.append("left")

    async def right(inner: Any = lib.Depends(noting(notes, "right inner"))):
        notes.append("right")

    visit_order(lib, notes, [], one=lib.Depends(left), two=lib.Depends(right))
    assert notes == ["left inner", "left", "right inner", "right", "endpoint"]


def visit_order(lib, notes, dependencies, one, two):
    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=dependencies)
    async def endpoint(websocket: lib.WebSocket, one: Any = one, two: Any = two):
        await websocket.accept()
        notes.append("endpoint")

    visit(lib, app)


def test_parameterless_dependencies_come_before_parameters(lib):
    notes = []
    parameterless = [lib.Depends(noting(notes, "first")), lib.Depends(noting(notes, "second"))]

    visit_order(
        lib, notes, parameterless, lib.Depends(noting(notes, "one")), lib.Depends(noting(notes, "two"))
    )
    assert notes == ["first", "second", "one", "two", "endpoint"]


def test_parameterless_dependencies_from_outside_in(lib):
    notes = []

    def depends(name):
        return [lib.Depends(noting(notes, name))]

    inner = lib.APIRouter(dependencies=depends("inner router"))
    outer = lib.APIRouter(dependencies=depends("outer router"))
    app = lib.FastAPI(dependencies=depends("app"))

    @inner.websocket("/ws", dependencies=depends("decorator"))
    async def endpoint(websocket: lib.WebSocket, one: Any = depends("parameter")[0]):
        await websocket.accept()

    outer.include_router(inner, dependencies=depends("include inner"))
    app.include_router(outer, dependencies=depends("include outer"))

    visit(lib, app)
    assert notes == [
        "app",
        "include outer",
        "outer router",
        "include inner",
        "inner router",
        "decorator",
        "parameter",
    ]


def test_app_dependency_is_shared_with_the_endpoint(lib):
    counter = Counter()
    app = lib.FastAPI(dependencies=[lib.Depends(counter)])

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, count: int = lib.Depends(counter)):
        await websocket.accept()
        await websocket.send_json(count)

    assert ask(lib, app) == 1


def test_app_dependencies_do_not_apply_to_a_mounted_app(lib):
    notes = []
    app, mounted = lib.FastAPI(dependencies=[lib.Depends(noting(notes, "app"))]), lib.FastAPI()

    @mounted.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()

    app.mount("/sub", mounted)
    visit(lib, app, "/sub/ws")
    assert notes == []


def test_value_of_a_parameterless_dependency_is_dropped(lib):
    app = lib.FastAPI(dependencies=[lib.Depends(lambda: "dropped")])

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, value: str = "default"):
        await websocket.accept()
        await websocket.send_json(value)

    assert ask(lib, app) == "default"


def test_parameterless_dependency_needs_a_callable(lib):
    app = lib.FastAPI()

    async def endpoint(websocket: lib.WebSocket):
        pass

    with pytest.raises(
        AssertionError, match=r"^A parameter-less dependency must have a callable dependency$"
    ):
        app.websocket("/ws", dependencies=[lib.Depends()])(endpoint)


def test_parameters_of_a_parameterless_dependency_are_required(lib):
    def needs(token: str):
        pass

    app = lib.FastAPI(dependencies=[lib.Depends(needs)])

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()

    assert [error["loc"] for error in errors(lib, app)] == [["query", "token"]]


def test_dependency_reads_the_path(lib):
    def room(room_id: int):
        return room_id * 2

    app = lib.FastAPI()

    @app.websocket("/rooms/{room_id}")
    async def endpoint(websocket: lib.WebSocket, double: int = lib.Depends(room)):
        await websocket.accept()
        await websocket.send_json(double)

    assert ask(lib, app, "/rooms/21") == 42
    assert [error["loc"] for error in errors(lib, app, "/rooms/x")] == [["path", "room_id"]]


def test_included_dependency_reads_the_path_of_the_prefix(lib):
    def room(room_id: int):
        return room_id

    router, app = lib.APIRouter(), lib.FastAPI()

    @router.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, number: int = lib.Depends(room)):
        await websocket.accept()
        await websocket.send_json(number)

    app.include_router(router, prefix="/rooms/{room_id}")
    assert ask(lib, app, "/rooms/7/ws") == 7


def test_errors_of_siblings_add_up_and_siblings_run(lib):
    notes = []

    def bad(a: int):
        notes.append("bad")

    def good():
        notes.append("good")

    def worse(b: int):
        notes.append("worse")

    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(bad), lib.Depends(good), lib.Depends(worse)])
    async def endpoint(websocket: lib.WebSocket, c: int):
        notes.append("endpoint")

    found = errors(lib, app, "/ws?a=x&b=y&c=z")
    assert [error["loc"][1] for error in found] == ["a", "b", "c"]
    assert notes == ["good"]


def test_failed_dependency_skips_its_dependents_but_reads_their_parameters(lib):
    notes = []

    def inner(a: int):
        notes.append("inner")

    def middle(b: int, inner: Any = lib.Depends(inner)):
        notes.append("middle")

    def outer(c: int, middle: Any = lib.Depends(middle), other: Any = lib.Depends(noting(notes, "other"))):
        notes.append("outer")

    app = answering(lib, one=lib.Depends(outer))

    assert [error["loc"][1] for error in errors(lib, app, "/ws?b=1&c=x")] == ["a", "c"]
    assert notes == ["other"]


def test_inner_dependency_runs_although_its_dependent_fails(lib):
    notes = []

    def outer(a: int, inner: Any = lib.Depends(noting(notes, "inner"))):
        notes.append("outer")

    errors(lib, answering(lib, one=lib.Depends(outer)))
    assert notes == ["inner"]


def test_exception_of_a_dependency_wins_over_errors(lib):
    def bad(a: int):
        pass

    def fails():
        raise lib.WebSocketException(4000, "first")

    def later():
        notes.append("later")

    notes = []
    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(bad), lib.Depends(fails), lib.Depends(later)])
    async def endpoint(websocket: lib.WebSocket):
        pass

    with pytest.raises(lib.WebSocketDisconnect) as caught:
        visit(lib, app)
    assert (caught.value.code, caught.value.reason) == (4000, "first")
    assert notes == []


def test_exception_of_a_dependency_reaches_its_handler(lib):
    class Unknown(Exception):
        pass

    def fails():
        raise Unknown("who")

    app = answering(lib, one=lib.Depends(fails))

    @app.exception_handler(Unknown)
    async def refuse(websocket, exc):
        await websocket.close(4001, str(exc))

    with pytest.raises(lib.WebSocketDisconnect) as caught:
        visit(lib, app)
    assert (caught.value.code, caught.value.reason) == (4001, "who")


@pytest.mark.parametrize("error", [ValueError, RuntimeError, StopIteration])
def test_exception_of_a_dependency_without_handler(lib, error):
    async def fails():
        raise error("lost")

    with pytest.raises((error, RuntimeError), match=r"lost|StopIteration"):
        visit(lib, answering(lib, one=lib.Depends(fails)))


def test_http_exception_of_a_dependency_denies(lib):
    def fails():
        raise lib.HTTPException(418, "teapot", headers={"X-Pot": "tea"})

    with pytest.raises(lib.WebSocketDenialResponse) as caught:
        visit(lib, answering(lib, one=lib.Depends(fails)))
    assert (caught.value.status_code, caught.value.json()) == (418, {"detail": "teapot"})
    assert caught.value.headers["x-pot"] == "tea"


def test_dependency_with_default_beside_depends(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(
        websocket: lib.WebSocket, value: Annotated[str, lib.Depends(lambda: "called")] = "default"
    ):
        await websocket.accept()
        await websocket.send_json(value)

    assert ask(lib, app) == "called"


def test_value_of_a_dependency_is_not_validated(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, value: Annotated[int, lib.Depends(lambda: "no number")]):
        await websocket.accept()
        await websocket.send_json(value)

    assert ask(lib, app) == "no number"


def test_depends_wins_over_injection_by_annotation(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(
        websocket: lib.WebSocket, other: Annotated[lib.WebSocket, lib.Depends(lambda: "a dependency")]
    ):
        await websocket.accept()
        await websocket.send_json(other)

    assert ask(lib, app) == "a dependency"


def test_same_parameter_in_two_dependencies(lib):
    def first(q: int):
        return q

    def second(q: str):
        return q

    app = answering(lib, one=lib.Depends(first), two=lib.Depends(second))

    assert ask(lib, app, "/ws?q=1") == [1, "1"]


def test_one_function_as_dependency_of_two_routes(lib):
    def q(room_id: str):
        return room_id

    app = lib.FastAPI()

    @app.websocket("/path/{room_id}")
    @app.websocket("/query")
    async def endpoint(websocket: lib.WebSocket, value: str = lib.Depends(q)):
        await websocket.accept()
        await websocket.send_json(value)

    assert ask(lib, app, "/path/a") == "a"
    assert ask(lib, app, "/query?room_id=b") == "b"
    assert [error["loc"] for error in errors(lib, app, "/query")] == [["query", "room_id"]]


def test_decorated_function_stays_as_it_is(lib):
    async def endpoint(websocket: lib.WebSocket):
        pass

    assert lib.FastAPI().websocket("/ws")(endpoint) is endpoint
    assert lib.APIRouter().websocket("/ws")(endpoint) is endpoint


def test_many_dependencies_in_a_deep_chain(lib):
    def link(previous):
        def call(value: int = previous):
            return value + 1

        return lib.Depends(call)

    chain = lib.Depends(lambda: 0)
    for _ in range(40):
        chain = link(chain)

    assert ask(lib, answering(lib, one=chain)) == 40


@pytest.mark.parametrize("kind", ["function", "generator"])
def test_stop_iteration_of_a_sync_dependency(lib, kind):
    def function():
        return next(iter([]))

    def generator():
        next(iter([]))
        yield

    app = answering(lib, one=lib.Depends(function if kind == "function" else generator))

    with pytest.raises(RuntimeError, match="StopIteration"):
        visit(lib, app)


def test_lru_cache_as_dependency(lib):
    calls = []

    @functools.lru_cache
    def get_settings(q: str = "none"):
        calls.append(q)
        return f"settings {q}"

    app = answering(lib, one=lib.Depends(get_settings))

    assert [ask(lib, app), ask(lib, app)] == ["settings none"] * 2
    assert calls == ["none"]


def test_partial_method_as_dependency(lib):
    class Greeter:
        def greet(self, word: str, q: str):
            return f"{word} {q}"

        hello = functools.partialmethod(greet, "hello")

    assert ask(lib, answering(lib, one=lib.Depends(Greeter().hello)), "/ws?q=x") == "hello x"


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_context_manager_function_is_no_generator_dependency(lib, kind):
    import contextlib

    @contextlib.contextmanager
    def sync():
        yield "value"

    @contextlib.asynccontextmanager
    async def asynchronous():
        yield "value"

    app = answering(lib, one=lib.Depends(sync if kind == "sync" else asynchronous))

    with pytest.raises(TypeError):
        visit(lib, app)


def test_dependency_for_http_and_sockets(lib):
    """The usual idiom: both have None as default, and the one that does not apply stays None."""

    def either(request: lib.Request = None, websocket: lib.WebSocket = None):
        return [request is None, type(websocket).__name__]

    assert ask(lib, answering(lib, one=lib.Depends(either))) == [True, "WebSocket"]


def test_default_of_an_injected_parameter_is_not_used(lib):
    def injected(connection: lib.HTTPConnection = None, scopes: lib.SecurityScopes = None):
        return [type(connection).__name__, scopes.scopes]

    assert ask(lib, answering(lib, one=lib.Depends(injected))) == ["WebSocket", []]


def test_positional_only_parameter_of_a_dependency(lib):
    def positional(q, /):
        return q

    with pytest.raises(TypeError, match="positional-only"):
        visit(lib, answering(lib, one=lib.Depends(positional)), "/ws?q=x")


def test_callable_marked_as_coroutine_function(lib):
    from asgiref.sync import markcoroutinefunction

    async def coroutine():
        return "awaited"

    marked = markcoroutinefunction(lambda: coroutine())

    assert ask(lib, answering(lib, one=lib.Depends(marked))) == "awaited"


def test_blocking_dependencies_of_two_connections_wait_for_each_other(lib):
    barrier = threading.Barrier(2, timeout=5)
    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(lambda: barrier.wait())])
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()

    async def both():
        return await asyncio.gather(aconverse(app, extensions={}), aconverse(app, extensions={}))

    assert [sent[0]["type"] for sent in asyncio.run(both())] == ["websocket.accept"] * 2


@pytest.mark.parametrize("lib", ["fastapi"], indirect=True)
def test_fastapi_reads_the_query_for_a_dependency_inside_a_union(lib):
    """So this library refuses one at import (tests/test_differences.py)."""
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(
        websocket: lib.WebSocket, user: Annotated[str, lib.Depends(lambda: "guarded")] | None = None
    ):
        await websocket.accept()
        await websocket.send_json(user)

    assert [ask(lib, app), ask(lib, app, "/ws?user=mallory")] == [None, "mallory"]


def test_a_dependency_wins_over_the_declaration_in_the_default(lib):
    app = lib.FastAPI()

    def given():
        return "given"

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, value: Annotated[str, lib.Depends(given)] = lib.Query("x")):
        await websocket.accept()
        await websocket.send_text(value)

    with lib.TestClient(app).websocket_connect("/ws?value=asked") as websocket:
        assert websocket.receive_text() == "given"


@pytest.mark.parametrize("scope", ["function", "request"])
@pytest.mark.parametrize("own", ["no scope", "a task group"])
def test_cleanup_is_shielded_from_a_cancel_scope_around_the_application(lib, scope, own):
    events = []

    async def main():
        outer = anyio.CancelScope()

        async def dependency():
            async with anyio.create_task_group() if own == "a task group" else contextlib.nullcontext():
                try:
                    yield
                finally:
                    await anyio.sleep(0)
                    events.append("cleanup")

        async def cancelling():
            outer.cancel()
            await anyio.sleep(0)

        app = lib.FastAPI(dependencies=[lib.Depends(dependency, scope=scope), lib.Depends(cancelling)])

        @app.websocket("/ws")
        async def endpoint(websocket: lib.WebSocket):
            events.append("endpoint")

        with outer:
            await app(websocket_scope(extensions={}), FakeServer(CONNECT).receive, FakeServer().send)
        assert outer.cancelled_caught
        await anyio.sleep(0)  # the scopes have been left in order

    asyncio.run(main())
    assert events == ["cleanup"]
