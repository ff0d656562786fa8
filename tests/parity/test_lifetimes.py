"""The lifetime of dependencies: generators, the order of their teardown, what they see, and limits."""

import asyncio
import contextlib
import contextvars
import functools
import threading
from typing import Annotated, Any

import pytest

from tests.fake_server import aconverse, disconnect
from tests.parity.asking import ask, errors, visit

KINDS = ["async", "sync"]


def lasting(kind, notes, name):
    """A generator dependency that records its start, the exception it sees and its end."""

    async def async_generator():
        notes.append(f"{name} in")
        try:
            yield name
        except BaseException as exc:
            notes.append(f"{name} saw {type(exc).__name__}")
            raise
        finally:
            notes.append(f"{name} out")

    def generator():
        notes.append(f"{name} in")
        try:
            yield name
        except BaseException as exc:
            notes.append(f"{name} saw {type(exc).__name__}")
            raise
        finally:
            notes.append(f"{name} out")

    return async_generator if kind == "async" else generator


def serving(lib, notes, dependencies, exc=None):
    """An application that accepts, records "endpoint" and raises `exc`, with these dependencies."""
    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=dependencies)
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        notes.append("endpoint")
        if exc is not None:
            raise exc

    return app


@pytest.mark.parametrize("kind", KINDS)
def test_last_entered_is_first_left(lib, kind):
    notes = []
    depends = [lib.Depends(lasting(kind, notes, name)) for name in "ab"]

    visit(lib, serving(lib, notes, depends))
    assert notes == ["a in", "b in", "endpoint", "b out", "a out"]


def test_both_kinds_share_one_order(lib):
    notes = []
    depends = [lib.Depends(lasting(kind, notes, name)) for kind, name in zip(["async", "sync"] * 2, "abcd")]

    visit(lib, serving(lib, notes, depends))
    assert notes == ["a in", "b in", "c in", "d in", "endpoint", "d out", "c out", "b out", "a out"]


@pytest.mark.parametrize("kind", KINDS)
def test_function_scope_ends_before_request_scope(lib, kind):
    notes = []
    depends = [
        lib.Depends(lasting(kind, notes, "f"), scope="function"),
        lib.Depends(lasting(kind, notes, "r"), scope="request"),
        lib.Depends(lasting(kind, notes, "g"), scope="function"),
        lib.Depends(lasting(kind, notes, "d")),
    ]

    visit(lib, serving(lib, notes, depends))
    assert notes == [
        "f in",
        "r in",
        "g in",
        "d in",
        "endpoint",
        "g out",
        "f out",
        "d out",
        "r out",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_generators_see_the_exception_before_its_handler_runs(lib, kind):
    notes = []
    depends = [
        lib.Depends(lasting(kind, notes, "r")),
        lib.Depends(lasting(kind, notes, "f"), scope="function"),
    ]
    app = serving(lib, notes, depends, ValueError("x"))

    @app.exception_handler(ValueError)
    async def handle(websocket, exc):
        notes.append("handler")

    visit(lib, app)
    assert notes == [
        "r in",
        "f in",
        "endpoint",
        "f saw ValueError",
        "f out",
        "r saw ValueError",
        "r out",
        "handler",
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_exception_without_handler_passes_generators(lib, kind):
    notes = []
    app = serving(lib, notes, [lib.Depends(lasting(kind, notes, "a"))], ValueError("lost"))

    with pytest.raises(ValueError, match="lost"):
        visit(lib, app)
    assert notes == ["a in", "endpoint", "a saw ValueError", "a out"]


@pytest.mark.parametrize("kind", KINDS)
def test_websocket_exception_is_seen_and_then_closes(lib, kind):
    notes = []
    app = serving(lib, notes, [lib.Depends(lasting(kind, notes, "a"))], lib.WebSocketException(4002, "over"))

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        with pytest.raises(lib.WebSocketDisconnect) as caught:
            websocket.receive_text()
    assert (caught.value.code, caught.value.reason) == (4002, "over")
    assert notes == ["a in", "endpoint", "a saw WebSocketException", "a out"]


@pytest.mark.parametrize("kind", KINDS)
def test_disconnect_is_seen(lib, kind):
    notes = []
    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(lasting(kind, notes, "a"))])
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        try:
            await websocket.receive_text()
        except lib.WebSocketDisconnect as exc:
            notes.append(exc.code)
            raise ValueError from None

    with pytest.raises(ValueError):
        with lib.TestClient(app).websocket_connect("/ws") as websocket:
            websocket.close(4003)
            websocket.receive_text()
    assert notes == ["a in", 4003, "a saw ValueError", "a out"]


@pytest.mark.parametrize("kind", KINDS)
def test_generators_see_the_validation_error(lib, kind):
    notes = []
    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(lasting(kind, notes, "a"))])
    async def endpoint(websocket: lib.WebSocket, q: int):
        notes.append("endpoint")

    errors(lib, app)
    assert notes == ["a in", "a saw WebSocketRequestValidationError", "a out"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", ["function", "request"])
def test_generators_see_the_exception_of_a_later_dependency(lib, kind, scope):
    notes = []

    def fails():
        raise lib.WebSocketException(4004)

    app = serving(lib, notes, [lib.Depends(lasting(kind, notes, "a"), scope=scope), lib.Depends(fails)])

    with pytest.raises(lib.WebSocketDisconnect):
        visit(lib, app)
    assert notes == ["a in", "a saw WebSocketException", "a out"]


def swallowing(kind):
    async def async_generator():
        with contextlib.suppress(ValueError):
            yield

    def generator():
        with contextlib.suppress(ValueError):
            yield

    return async_generator if kind == "async" else generator


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", ["function", "request"])
def test_swallowed_exception_is_gone(lib, kind, scope):
    notes = []
    depends = [
        lib.Depends(lasting(kind, notes, "outer"), scope=scope),
        lib.Depends(swallowing(kind), scope=scope),
    ]

    visit(lib, serving(lib, notes, depends, ValueError("swallowed")))
    assert notes == ["outer in", "endpoint", "outer out"]


def test_exception_swallowed_in_function_scope_does_not_reach_request_scope(lib):
    notes = []
    depends = [
        lib.Depends(swallowing("async"), scope="function"),
        lib.Depends(lasting("async", notes, "r")),
    ]

    visit(lib, serving(lib, notes, depends, ValueError("swallowed")))
    assert notes == ["r in", "endpoint", "r out"]


def test_handler_does_not_run_for_a_swallowed_exception(lib):
    notes = []
    app = serving(lib, notes, [lib.Depends(swallowing("sync"))], ValueError())

    @app.exception_handler(ValueError)
    async def handle(websocket, exc):
        notes.append("handler")

    visit(lib, app)
    assert notes == ["endpoint"]


def replacing(kind, exc):
    async def async_generator():
        try:
            yield
        except ValueError:
            raise exc

    def generator():
        try:
            yield
        except ValueError:
            raise exc

    return async_generator if kind == "async" else generator


@pytest.mark.parametrize("kind", KINDS)
def test_replaced_exception_is_what_others_see(lib, kind):
    notes = []
    depends = [
        lib.Depends(lasting(kind, notes, "outer")),
        lib.Depends(replacing(kind, lib.WebSocketException(4005, "replaced"))),
    ]
    app = serving(lib, notes, depends, ValueError())

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        with pytest.raises(lib.WebSocketDisconnect) as caught:
            websocket.receive_text()
    assert (caught.value.code, caught.value.reason) == (4005, "replaced")
    assert notes == ["outer in", "endpoint", "outer saw WebSocketException", "outer out"]


def raising_at_the_end(kind, exc):
    async def async_generator():
        yield
        raise exc

    def generator():
        yield
        raise exc

    return async_generator if kind == "async" else generator


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", ["function", "request"])
def test_exception_of_the_end_goes_to_the_handlers(lib, kind, scope):
    app = serving(
        lib, [], [lib.Depends(raising_at_the_end(kind, lib.WebSocketException(4006, "end")), scope=scope)]
    )

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        with pytest.raises(lib.WebSocketDisconnect) as caught:
            websocket.receive_text()
    assert (caught.value.code, caught.value.reason) == (4006, "end")


def test_exception_of_the_end_is_seen_by_what_ends_later(lib):
    notes = []
    depends = [
        lib.Depends(lasting("async", notes, "r")),
        lib.Depends(raising_at_the_end("async", KeyError("end")), scope="function"),
    ]

    with pytest.raises(KeyError):
        visit(lib, serving(lib, notes, depends))
    assert notes == ["r in", "endpoint", "r saw KeyError", "r out"]


def test_http_exception_of_an_end_before_accept_denies(lib):
    app = lib.FastAPI()

    @app.websocket(
        "/ws", dependencies=[lib.Depends(raising_at_the_end("async", lib.HTTPException(403, "end")))]
    )
    async def endpoint(websocket: lib.WebSocket):
        pass

    with pytest.raises(lib.WebSocketDenialResponse) as caught:
        visit(lib, app)
    assert (caught.value.status_code, caught.value.json()) == (403, {"detail": "end"})


@pytest.mark.parametrize("kind", KINDS)
def test_exception_of_the_beginning(lib, kind):
    async def async_generator():
        raise lib.WebSocketException(4007, "beginning")
        yield

    def generator():
        raise lib.WebSocketException(4007, "beginning")
        yield

    notes = []
    depends = [
        lib.Depends(lasting(kind, notes, "outer")),
        lib.Depends(async_generator if kind == "async" else generator),
    ]

    with pytest.raises(lib.WebSocketDisconnect) as caught:
        visit(lib, serving(lib, notes, depends))
    assert caught.value.code == 4007
    assert notes == ["outer in", "outer saw WebSocketException", "outer out"]


@pytest.mark.parametrize("kind", KINDS)
def test_generator_without_yield(lib, kind):
    async def async_generator():
        if False:
            yield

    def generator():
        if False:
            yield

    app = serving(lib, [], [lib.Depends(async_generator if kind == "async" else generator)])

    with pytest.raises(RuntimeError, match=r"^generator didn't yield$"):
        visit(lib, app)


@pytest.mark.parametrize("kind", KINDS)
def test_generator_with_two_yields(lib, kind):
    async def async_generator():
        yield 1
        yield 2

    def generator():
        yield 1
        yield 2

    app = serving(lib, [], [lib.Depends(async_generator if kind == "async" else generator)])

    with pytest.raises(RuntimeError, match=r"^generator didn't stop$"):
        visit(lib, app)


def test_generator_depends_on_a_generator(lib):
    notes = []
    outer = lasting("async", notes, "outer")

    def inner(value: str = lib.Depends(outer)):
        notes.append(f"inner in {value}")
        yield
        notes.append("inner out")

    visit(lib, serving(lib, notes, [lib.Depends(inner)]))
    assert notes == ["outer in", "inner in outer", "endpoint", "inner out", "outer out"]


@pytest.mark.parametrize("kind", KINDS)
def test_generator_is_entered_once_for_a_connection(lib, kind):
    notes = []
    shared = lasting(kind, notes, "a")

    visit(lib, serving(lib, notes, [lib.Depends(shared), lib.Depends(shared)]))
    assert notes == ["a in", "endpoint", "a out"]


@pytest.mark.parametrize("kind", KINDS)
def test_uncached_generator_is_entered_and_left_twice(lib, kind):
    notes = []
    shared = lasting(kind, notes, "a")
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(
        websocket: lib.WebSocket,
        one: Any = lib.Depends(shared),
        two: Any = lib.Depends(shared, use_cache=False),
    ):
        await websocket.accept()

    visit(lib, app)
    assert notes == ["a in", "a in", "a out", "a out"]


def test_same_generator_in_both_scopes_is_entered_twice(lib):
    notes = []
    shared = lasting("async", notes, "a")

    visit(lib, serving(lib, notes, [lib.Depends(shared), lib.Depends(shared, scope="function")]))
    assert notes == ["a in", "a in", "endpoint", "a out", "a out"]


@pytest.mark.parametrize("scope", ["function", "request"])
def test_socket_is_open_while_generators_end(lib, scope):
    async def says_goodbye(websocket: lib.WebSocket):
        yield
        await websocket.send_text("goodbye")
        await websocket.close(4008, "end")

    app = serving(lib, [], [lib.Depends(says_goodbye, scope=scope)])

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "goodbye"
        with pytest.raises(lib.WebSocketDisconnect) as caught:
            websocket.receive_text()
    assert caught.value.code == 4008


def test_sync_generator_runs_in_threads(lib):
    threads = []

    def generator():
        threads.append(threading.get_ident())
        yield
        threads.append(threading.get_ident())

    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(generator)])
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        threads.append(threading.get_ident())

    visit(lib, app)
    beginning, loop, end = threads
    assert loop not in (beginning, end)


def test_async_generator_begins_and_ends_in_the_endpoints_task(lib):
    tasks = []

    async def generator():
        tasks.append(asyncio.current_task())
        yield
        tasks.append(asyncio.current_task())

    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(generator)])
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        tasks.append(asyncio.current_task())

    visit(lib, app)
    assert len(set(tasks)) == 1


def test_task_group_as_dependency(lib):
    done = []

    async def group():
        async with asyncio.TaskGroup() as tasks:
            yield tasks

    async def work():
        await asyncio.sleep(0)
        done.append("work")

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, tasks: Any = lib.Depends(group)):
        await websocket.accept()
        tasks.create_task(work())

    visit(lib, app)
    assert done == ["work"]


def test_task_group_as_dependency_ends_the_endpoint(lib):
    async def group():
        async with asyncio.TaskGroup() as tasks:
            yield tasks

    async def fails():
        raise KeyError("task")

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, tasks: Any = lib.Depends(group)):
        await websocket.accept()
        tasks.create_task(fails())
        await asyncio.Event().wait()

    @app.exception_handler(ExceptionGroup)
    async def handle(websocket, exc):
        await websocket.close(4009, repr(exc.exceptions[0]))

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        with pytest.raises(lib.WebSocketDisconnect) as caught:
            websocket.receive_text()
    assert (caught.value.code, caught.value.reason) == (4009, "KeyError('task')")


def test_timeout_as_dependency(lib):
    async def limit():
        async with asyncio.timeout(None) as timeout:
            yield timeout

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, timeout: Any = lib.Depends(limit, scope="function")):
        await websocket.accept()
        timeout.reschedule(0)
        await asyncio.Event().wait()

    @app.exception_handler(TimeoutError)
    async def handle(websocket, exc):
        await websocket.close(4010, "late")

    with lib.TestClient(app).websocket_connect("/ws") as websocket:
        with pytest.raises(lib.WebSocketDisconnect) as caught:
            websocket.receive_text()
    assert caught.value.code == 4010


word = contextvars.ContextVar("word", default="unset")


def test_context_variable_of_an_async_generator_is_reset_at_its_end(lib):
    async def sets_word():
        token = word.set("set")
        yield
        word.reset(token)

    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(sets_word)])
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_json(word.get())

    assert ask(lib, app) == "set"


def test_sync_generator_ends_with_the_context_of_the_endpoint(lib):
    seen = []

    def generator():
        seen.append(word.get())
        yield
        seen.append(word.get())

    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(generator)])
    async def endpoint(websocket: lib.WebSocket):
        word.set("endpoint")
        await websocket.accept()

    visit(lib, app)
    assert seen == ["unset", "endpoint"]


@pytest.mark.parametrize("kind", KINDS)
def test_generators_end_when_the_connection_is_cancelled(lib, kind):
    notes = []
    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(lasting(kind, notes, "a"))])
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await asyncio.Event().wait()

    visit(lib, app, stay=False)
    assert notes == ["a in", "a saw CancelledError", "a out"]


@pytest.mark.parametrize("scope", ["function", "request"])
def test_cleanup_may_wait_when_the_connection_is_cancelled(lib, scope):
    notes = []

    async def cleans_up():
        try:
            yield
        finally:
            for turn in range(5):
                await asyncio.sleep(0)
                notes.append(turn)

    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(cleans_up, scope=scope)])
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await asyncio.Event().wait()

    visit(lib, app, stay=False)
    assert notes == [0, 1, 2, 3, 4]


def test_cleanup_of_several_generators_when_the_connection_is_cancelled(lib):
    notes = []

    def cleaning(name):
        async def generator():
            try:
                yield
            finally:
                await asyncio.sleep(0)
                notes.append(name)

        return lib.Depends(generator)

    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[cleaning("a"), cleaning("b"), cleaning("c")])
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await asyncio.Event().wait()

    visit(lib, app, stay=False)
    assert notes == ["c", "b", "a"]


def test_cleanup_goes_on_when_it_is_cancelled_itself(lib):
    """The client disconnects while the cleanup is waiting. The cleanup is shielded and finishes."""
    notes, client_left = [], threading.Event()

    async def cleans_up():
        yield
        await asyncio.get_running_loop().run_in_executor(None, client_left.wait)
        await asyncio.sleep(0)
        notes.append("cleaned up")

    app = serving(lib, notes, [lib.Depends(cleans_up)])

    with lib.TestClient(app).websocket_connect("/ws"):
        timer = threading.Timer(0.1, client_left.set)
        timer.start()
    timer.join()
    assert notes == ["endpoint", "cleaned up"]


def test_sync_cleanup_goes_on_when_it_is_cancelled_itself(lib):
    notes, client_left = [], threading.Event()

    def cleans_up():
        yield
        client_left.wait()
        notes.append("cleaned up")

    app = serving(lib, notes, [lib.Depends(cleans_up)])

    with lib.TestClient(app).websocket_connect("/ws"):
        timer = threading.Timer(0.1, client_left.set)
        timer.start()
    timer.join()
    assert notes == ["endpoint", "cleaned up"]


def test_generator_that_swallows_the_cancellation(lib):
    notes = []

    async def swallows():
        try:
            yield
        except asyncio.CancelledError:
            notes.append("swallowed")

    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(swallows)])
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await asyncio.Event().wait()

    visit(lib, app, stay=False)
    assert notes == ["swallowed"]


# --- incompatible scopes ---


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scope", [None, "request"])
def test_request_scope_cannot_depend_on_function_scope(lib, kind, scope):
    inner = lasting("async", [], "inner")

    async def async_outer(value: Annotated[str, lib.Depends(inner, scope="function")]):
        yield

    def outer(value: Annotated[str, lib.Depends(inner, scope="function")]):
        yield

    call = async_outer if kind == "async" else outer

    with pytest.raises(lib.DependencyScopeError) as caught:
        serving(lib, [], [lib.Depends(call, scope=scope)])
    assert str(caught.value) == (
        f'The dependency "{call.__name__}" has a scope of "request", it cannot depend on dependencies with '
        'scope "function".'
    )


def test_request_scope_cannot_depend_on_a_plain_function_of_function_scope(lib):
    async def outer(value: Annotated[None, lib.Depends(lambda: None, scope="function")]):
        yield

    with pytest.raises(lib.DependencyScopeError):
        serving(lib, [], [lib.Depends(outer)])


def test_scope_error_of_a_nested_dependency(lib):
    async def outer(value: Annotated[None, lib.Depends(lambda: None, scope="function")]):
        yield

    def top(value: Annotated[None, lib.Depends(outer)]):
        pass

    with pytest.raises(lib.DependencyScopeError, match=r'^The dependency "outer"'):
        serving(lib, [], [lib.Depends(top)])


def test_scope_error_names_a_partial(lib):
    async def outer(word, value: Annotated[None, lib.Depends(lambda: None, scope="function")]):
        yield

    with pytest.raises(lib.DependencyScopeError, match=r'^The dependency "<unnamed_callable>"'):
        serving(lib, [], [lib.Depends(functools.partial(outer, "word"))])


def test_scope_error_is_a_fastapi_error(lib):
    assert issubclass(lib.DependencyScopeError, lib.FastAPIError)
    assert issubclass(lib.FastAPIError, RuntimeError)


def test_function_scope_may_depend_on_request_scope(lib):
    notes = []
    inner = lasting("async", notes, "inner")

    async def outer(value: Annotated[str, lib.Depends(inner)]):
        notes.append("outer in")
        yield
        notes.append("outer out")

    visit(lib, serving(lib, notes, [lib.Depends(outer, scope="function")]))
    assert notes == ["inner in", "outer in", "endpoint", "outer out", "inner out"]


def test_plain_function_of_request_scope_may_depend_on_function_scope(lib):
    notes = []
    inner = lasting("sync", notes, "inner")

    def outer(value: Annotated[str, lib.Depends(inner, scope="function")]):
        notes.append("outer")

    visit(lib, serving(lib, notes, [lib.Depends(outer, scope="request")]))
    assert notes == ["inner in", "outer", "endpoint", "inner out"]


# --- max_concurrency ---


class Watch:
    """Counts the calls inside, and releases them on request."""

    def __init__(self):
        self.inside = self.most = 0
        self.lock = threading.Lock()

    def enter(self):
        with self.lock:
            self.inside += 1
            self.most = max(self.most, self.inside)

    def leave(self):
        with self.lock:
            self.inside -= 1


def limited_dependency(kind, watch, barrier):
    """A dependency that waits inside until `barrier()` returns."""

    async def coroutine():
        watch.enter()
        await barrier()
        watch.leave()

    def function():
        watch.enter()
        watch.leave()

    async def async_generator():
        watch.enter()
        await barrier()
        yield
        await barrier()
        watch.leave()

    def generator():
        watch.enter()
        yield
        watch.leave()

    return {
        "coroutine": coroutine,
        "function": function,
        "async generator": async_generator,
        "generator": generator,
    }[kind]


async def several_turns():
    for _ in range(20):
        await asyncio.sleep(0)


async def connect(app, path="/ws"):
    """Run one connection whose client leaves at once; return what the application sends."""
    return await aconverse(app, disconnect(1000), path=path, extensions={})


async def together(*apps_and_paths):
    async with asyncio.TaskGroup() as tasks:
        for app, path in apps_and_paths:
            tasks.create_task(connect(app, path))


@pytest.mark.parametrize("limit", [1, 2])
@pytest.mark.parametrize("kind", ["coroutine", "async generator"])
def test_no_more_than_the_limit_at_a_time(lib, kind, limit):
    watch = Watch()
    call = limited_dependency(kind, watch, several_turns)
    app = serving(lib, [], [lib.Depends(call, max_concurrency=limit)])

    asyncio.run(together(*[(app, "/ws")] * 5))
    assert watch.most == limit
    assert watch.inside == 0


@pytest.mark.parametrize("kind", ["function", "generator"])
def test_no_more_sync_calls_than_the_limit_at_a_time(lib, kind):
    watch = Watch()
    call = limited_dependency(kind, watch, several_turns)
    app = serving(lib, [], [lib.Depends(call, max_concurrency=1)])

    asyncio.run(together(*[(app, "/ws")] * 5))
    assert watch.most == 1


def test_without_limit_all_are_inside(lib):
    watch = Watch()
    call = limited_dependency("async generator", watch, several_turns)
    app = serving(lib, [], [lib.Depends(call)])

    asyncio.run(together(*[(app, "/ws")] * 5))
    assert watch.most == 5


def test_limit_of_a_generator_holds_until_its_end(lib):
    watch = Watch()

    async def generator():
        watch.enter()
        yield
        watch.leave()

    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=[lib.Depends(generator, max_concurrency=1)])
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await several_turns()

    asyncio.run(together(*[(app, "/ws")] * 3))
    assert watch.most == 1


def test_limit_belongs_to_the_declaration(lib):
    watch = Watch()
    call = limited_dependency("async generator", watch, several_turns)
    app = lib.FastAPI()
    shared = lib.Depends(call, max_concurrency=1)

    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()

    app.websocket("/a", dependencies=[shared])(endpoint)
    app.websocket("/b", dependencies=[shared])(endpoint)
    app.websocket("/c", dependencies=[lib.Depends(call, max_concurrency=1)])(endpoint)

    asyncio.run(together((app, "/a"), (app, "/b")))
    assert watch.most == 1
    asyncio.run(together((app, "/a"), (app, "/c")))
    assert watch.most == 2


def test_limit_in_annotated_is_shared_by_those_who_use_the_alias(lib):
    watch = Watch()
    alias = Annotated[
        Any, lib.Depends(limited_dependency("coroutine", watch, several_turns), max_concurrency=1)
    ]
    app = lib.FastAPI()

    @app.websocket("/a")
    async def first(websocket: lib.WebSocket, value: alias):
        await websocket.accept()

    @app.websocket("/b")
    async def second(websocket: lib.WebSocket, value: alias):
        await websocket.accept()

    asyncio.run(together((app, "/a"), (app, "/b")))
    assert watch.most == 1


def test_limit_is_free_again_after_an_exception(lib):
    async def fails():
        raise lib.WebSocketException(4011)

    app = serving(lib, [], [lib.Depends(fails, max_concurrency=1)])

    async def twice():
        return [await connect(app), await connect(app)]

    assert [sent[-1]["code"] for sent in asyncio.run(twice())] == [4011, 4011]


def test_limit_is_free_again_after_a_cancellation(lib):
    watch = Watch()

    async def generator():
        watch.enter()
        try:
            yield
        finally:
            watch.leave()

    app = lib.FastAPI()
    entered = asyncio.Event()

    @app.websocket("/wait", dependencies=[shared := lib.Depends(generator, max_concurrency=1)])
    async def wait(websocket: lib.WebSocket):
        entered.set()
        await asyncio.Event().wait()

    @app.websocket("/ws", dependencies=[shared])
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()

    async def scenario():
        task = asyncio.create_task(connect(app, "/wait"))
        await entered.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return await asyncio.wait_for(connect(app), 5)

    assert asyncio.run(scenario())[0]["type"] == "websocket.accept"
    assert watch.inside == 0


def test_limit_in_two_event_loops(lib):
    app = serving(lib, [], [lib.Depends(lambda: None, max_concurrency=1)])

    for _ in range(2):
        assert asyncio.run(connect(app))[0]["type"] == "websocket.accept"


def test_limit_stays_with_an_override(lib):
    watch = Watch()

    async def original():
        raise AssertionError

    app = serving(lib, [], [lib.Depends(original, max_concurrency=1)])
    app.dependency_overrides[original] = limited_dependency("async generator", watch, several_turns)

    asyncio.run(together(*[(app, "/ws")] * 3))
    assert watch.most == 1


def test_cached_dependency_takes_the_limit_once(lib):
    async def value():
        return 1

    limited = lib.Depends(value, max_concurrency=1)
    app = serving(lib, [], [limited, limited])

    assert asyncio.run(asyncio.wait_for(connect(app), 5))[0]["type"] == "websocket.accept"
