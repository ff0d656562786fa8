"""`dependency_overrides`: what replaces a dependency, and where."""

import functools
from typing import Annotated, Any

import pytest

from tests.parity.asking import ask, errors, refusal, visit


def original():
    return "original"


async def overriding():
    return "overriding"


def serving(lib, owner, dependency, path="/ws"):
    @owner.websocket(path)
    async def endpoint(websocket: lib.WebSocket, value: Any = lib.Depends(dependency)):
        await websocket.accept()
        await websocket.send_json(value)


def application(lib, dependency=original):
    app = lib.FastAPI()
    serving(lib, app, dependency)
    return app


def test_starts_empty(lib):
    app = application(lib)

    assert app.dependency_overrides == {}
    assert ask(lib, app) == "original"


def test_override_in_a_parameter(lib):
    app = application(lib)
    app.dependency_overrides[original] = overriding

    assert ask(lib, app) == "overriding"


def test_override_is_looked_up_for_each_connection(lib):
    app = application(lib)
    answers = [ask(lib, app)]
    app.dependency_overrides[original] = overriding
    answers.append(ask(lib, app))
    app.dependency_overrides[original] = lambda: "another"
    answers.append(ask(lib, app))
    app.dependency_overrides.clear()
    answers.append(ask(lib, app))

    assert answers == ["original", "overriding", "another", "original"]


def test_overrides_as_a_new_dict(lib):
    app = application(lib)
    app.dependency_overrides = {original: overriding}

    assert ask(lib, app) == "overriding"


def test_override_of_a_nested_dependency(lib):
    def upper(value: str = lib.Depends(original)):
        return f"upper {value}"

    app = application(lib, upper)
    app.dependency_overrides[original] = overriding

    assert ask(lib, app) == "upper overriding"


def test_dependencies_of_the_overridden_are_not_called(lib):
    called = []

    def upper(value: None = lib.Depends(lambda: called.append("lower")), q: int = 0):
        return "upper"

    app = application(lib, upper)
    app.dependency_overrides[upper] = lambda: "instead"

    assert ask(lib, app, "/ws?q=x") == "instead"
    assert called == []


def test_override_has_parameters_of_its_own(lib):
    def instead(q: int, other: str = lib.Depends(overriding)):
        return [q, other]

    app = application(lib)
    app.dependency_overrides[original] = instead

    assert ask(lib, app, "/ws?q=3") == [3, "overriding"]
    assert [error["loc"] for error in errors(lib, app)] == [["query", "q"]]


def test_override_reads_the_path(lib):
    app = lib.FastAPI()
    serving(lib, app, original, "/rooms/{room}")
    app.dependency_overrides[original] = lambda room: room

    assert ask(lib, app, "/rooms/a") == "a"


def test_override_takes_the_websocket(lib):
    def instead(socket: lib.WebSocket):
        return socket.url.path

    app = application(lib)
    app.dependency_overrides[original] = instead

    assert ask(lib, app) == "/ws"


def test_overrides_are_not_followed_twice(lib):
    app = application(lib)
    app.dependency_overrides[original] = overriding
    app.dependency_overrides[overriding] = lambda: "never"

    assert ask(lib, app) == "overriding"


def sending_both(lib, one, two):
    """An application whose endpoint sends what its two dependencies return."""
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, a: Any = one, b: Any = two):
        await websocket.accept()
        await websocket.send_json([a, b])

    return app


def counting():
    """A dependency that returns how often it was called."""
    calls = []

    def instead():
        calls.append(None)
        return len(calls)

    return instead


def test_two_dependencies_swapped(lib):
    def left():
        return "left"

    def right():
        return "right"

    app = sending_both(lib, lib.Depends(left), lib.Depends(right))
    app.dependency_overrides = {left: right, right: left}
    assert ask(lib, app) == ["right", "left"]


def test_override_is_called_once_for_a_connection(lib):
    app = sending_both(lib, lib.Depends(original), lib.Depends(original))
    app.dependency_overrides[original] = counting()
    assert ask(lib, app) == [1, 1]


def test_override_of_an_uncached_dependency_is_called_again(lib):
    app = sending_both(lib, lib.Depends(original), lib.Depends(original, use_cache=False))
    app.dependency_overrides[original] = counting()
    assert ask(lib, app) == [1, 2]


def test_two_dependencies_with_one_override_are_two_calls(lib):
    def other():
        raise AssertionError

    app, instead = sending_both(lib, lib.Depends(original), lib.Depends(other)), counting()
    app.dependency_overrides = {original: instead, other: instead}
    assert ask(lib, app) == [1, 2]


@pytest.mark.parametrize("place", ["decorator", "router", "include", "app"])
def test_override_of_a_parameterless_dependency(lib, place):
    def refuse():
        raise lib.WebSocketException(4000)

    depends = {place: [lib.Depends(refuse)]}
    router = lib.APIRouter(dependencies=depends.get("router"))
    app = lib.FastAPI(dependencies=depends.get("app"))

    @router.websocket("/ws", dependencies=depends.get("decorator"))
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()

    app.include_router(router, dependencies=depends.get("include"))
    assert refusal(lib, app).code == 4000
    app.dependency_overrides[refuse] = lambda: None
    visit(lib, app)


def test_overrides_reach_nested_routers(lib):
    inner, outer, app = lib.APIRouter(), lib.APIRouter(), lib.FastAPI()
    serving(lib, inner, original)
    outer.include_router(inner, prefix="/inner")
    app.include_router(outer, prefix="/outer")
    app.dependency_overrides[original] = overriding

    assert ask(lib, app, "/outer/inner/ws") == "overriding"


def test_one_router_in_two_apps(lib):
    router, first, second = lib.APIRouter(), lib.FastAPI(), lib.FastAPI()
    serving(lib, router, original)
    first.include_router(router)
    second.include_router(router)
    first.dependency_overrides[original] = overriding

    assert (ask(lib, first), ask(lib, second)) == ("overriding", "original")


def test_mounted_app_has_overrides_of_its_own(lib):
    app, mounted = lib.FastAPI(), lib.FastAPI()
    serving(lib, app, original)
    serving(lib, mounted, original)
    app.mount("/sub", mounted)

    app.dependency_overrides[original] = overriding
    assert (ask(lib, app), ask(lib, app, "/sub/ws")) == ("overriding", "original")
    mounted.dependency_overrides[original] = lambda: "mounted"
    assert (ask(lib, app), ask(lib, app, "/sub/ws")) == ("overriding", "mounted")


def test_endpoint_itself_is_not_overridden(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()
        await websocket.send_json("endpoint")

    app.dependency_overrides[endpoint] = overriding
    assert ask(lib, app) == "endpoint"


@pytest.mark.parametrize(
    "kind", ["function", "coroutine", "generator", "async generator", "class", "partial"]
)
def test_kinds_of_overrides(lib, kind):
    def function():
        return "function"

    async def coroutine():
        return "coroutine"

    def generator():
        yield "generator"

    async def async_generator():
        yield "async generator"

    class Words(str):
        def __new__(cls):
            return super().__new__(cls, "class")

    kinds = {
        "function": function,
        "coroutine": coroutine,
        "generator": generator,
        "async generator": async_generator,
        "class": Words,
        "partial": functools.partial(lambda word: word, "partial"),
    }
    app = application(lib)
    app.dependency_overrides[original] = kinds[kind]

    assert ask(lib, app) == kind


def test_override_of_a_generator_by_a_function(lib):
    notes = []

    async def lasting():
        notes.append("in")
        yield "lasting"
        notes.append("out")

    app = application(lib, lasting)
    app.dependency_overrides[lasting] = overriding

    assert ask(lib, app) == "overriding"
    assert notes == []


@pytest.mark.parametrize(("scope", "order"), [("function", ["f", "r"]), (None, ["r", "f"])])
def test_override_by_a_generator_keeps_the_scope(lib, scope, order):
    ended = []

    async def last():
        yield
        ended.append("r")

    async def instead():
        yield
        ended.append("f")

    depends = [lib.Depends(original, scope=scope), lib.Depends(last)]
    app = lib.FastAPI()

    @app.websocket("/ws", dependencies=depends)
    async def endpoint(websocket: lib.WebSocket):
        await websocket.accept()

    app.dependency_overrides[original] = instead
    visit(lib, app)
    assert ended == order


def test_override_whose_scope_does_not_fit(lib):
    async def instead(value: Annotated[str, lib.Depends(overriding, scope="function")]):
        yield value

    app = application(lib)
    app.dependency_overrides[original] = instead

    with pytest.raises(lib.DependencyScopeError, match=r'^The dependency "instead"'):
        visit(lib, app)


def test_override_of_a_class(lib):
    class Settings:
        name = "production"

    class TestSettings:
        name = "test"

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, settings: Annotated[Settings, lib.Depends()]):
        await websocket.accept()
        await websocket.send_json(settings.name)

    app.dependency_overrides[Settings] = TestSettings
    assert ask(lib, app) == "test"


def test_override_of_an_instance(lib):
    class Checker:
        def __call__(self):
            return "checker"

    checker = Checker()
    app = application(lib, checker)
    app.dependency_overrides[checker] = overriding

    assert ask(lib, app) == "overriding"


def test_override_of_a_bound_method(lib):
    class Checker:
        def check(self):
            return "checker"

    checker = Checker()
    app = application(lib, checker.check)
    app.dependency_overrides[checker.check] = overriding

    assert ask(lib, app) == "overriding"


def test_override_of_a_security_scheme(lib):
    scheme = lib.HTTPBearer()
    app = application(lib, scheme)
    app.dependency_overrides[scheme] = lambda: "known"

    assert ask(lib, app) == "known"


def test_override_gets_the_scopes(lib):
    def user(scopes: lib.SecurityScopes):
        raise AssertionError

    def instead(scopes: lib.SecurityScopes):
        return scopes.scopes

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(
        websocket: lib.WebSocket, value: Annotated[Any, lib.Security(user, scopes=["a", "b"])]
    ):
        await websocket.accept()
        await websocket.send_json(value)

    app.dependency_overrides[user] = instead
    assert ask(lib, app) == ["a", "b"]


def test_override_passes_the_scopes_on(lib):
    def inner(scopes: lib.SecurityScopes):
        return scopes.scopes

    def instead(value: Annotated[Any, lib.Security(inner, scopes=["c", "a"])]):
        return value

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, value: Annotated[Any, lib.Security(original, scopes=["a"])]):
        await websocket.accept()
        await websocket.send_json(value)

    app.dependency_overrides[original] = instead
    assert ask(lib, app) == ["a", "c"]


def test_override_with_a_wrong_signature_is_found_when_connecting(lib):
    def instead(value: Annotated[int, lib.Query(3)]):
        pass

    app = application(lib)
    app.dependency_overrides[original] = instead

    with pytest.raises(AssertionError, match="default value cannot be set in `Annotated`"):
        visit(lib, app)


def test_exception_of_an_override(lib):
    def instead():
        raise lib.WebSocketException(4001, "instead")

    app = application(lib)
    app.dependency_overrides[original] = instead

    assert refusal(lib, app).code == 4001


def test_unrelated_override_changes_nothing(lib):
    app = application(lib)
    app.dependency_overrides[overriding] = lambda: "unrelated"

    assert ask(lib, app) == "original"


def test_override_during_a_connection_is_for_the_next(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, value: str = lib.Depends(original)):
        app.dependency_overrides[original] = overriding
        await websocket.accept()
        await websocket.send_json(value)

    assert [ask(lib, app), ask(lib, app)] == ["original", "overriding"]
