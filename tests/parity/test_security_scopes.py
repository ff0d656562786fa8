"""`Security` adds scopes, `SecurityScopes` collects them, and the cache key includes them."""

import functools
from typing import Annotated, Any

import pytest

from tests.parity.asking import ask, visit


def answering(lib, **depends):
    app = lib.FastAPI()
    one = depends.get("one", lib.Depends(lambda: None))
    two = depends.get("two", lib.Depends(lambda: None))

    @app.websocket("/ws", dependencies=depends.get("dependencies", []))
    async def endpoint(websocket: lib.WebSocket, one: Any = one, two: Any = two):
        await websocket.accept()
        await websocket.send_json([one, two] if "two" in depends else one)

    return app


def collect(lib):
    """A dependency that returns the scopes and counts its calls in `calls`."""

    def call(scopes: lib.SecurityScopes):
        call.calls += 1
        return [scopes.scopes, scopes.scope_str]

    call.calls = 0
    return call


@pytest.mark.parametrize(
    ("scopes", "expected"),
    [
        (None, [[], ""]),
        ([], [[], ""]),
        (["a"], [["a"], "a"]),
        (["b", "a"], [["b", "a"], "b a"]),
        (["a", "b", "a"], [["a", "b"], "a b"]),
        (("a", "b"), [["a", "b"], "a b"]),
    ],
    ids=str,
)
def test_own_scopes(lib, scopes, expected):
    assert ask(lib, answering(lib, one=lib.Security(collect(lib), scopes=scopes))) == expected


def test_depends_has_no_scopes(lib):
    assert ask(lib, answering(lib, one=lib.Depends(collect(lib)))) == [[], ""]


def test_endpoint_has_no_scopes(lib):
    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, scopes: lib.SecurityScopes):
        await websocket.accept()
        await websocket.send_json(scopes.scopes)

    assert ask(lib, app) == []


@pytest.mark.parametrize(
    ("outer", "inner", "expected"),
    [
        (["a"], None, ["a"]),
        (["a"], ["b"], ["a", "b"]),
        (["b"], ["a"], ["b", "a"]),
        (["a", "b"], ["b", "c"], ["a", "b", "c"]),
        (None, ["b"], ["b"]),
    ],
    ids=str,
)
def test_scopes_of_parents_come_first(lib, outer, inner, expected):
    collector = collect(lib)

    def middle(value: Annotated[Any, lib.Security(collector, scopes=inner)]):
        return value[0]

    assert ask(lib, answering(lib, one=lib.Security(middle, scopes=outer))) == expected


def test_scopes_pass_through_a_plain_depends(lib):
    collector = collect(lib)

    def middle(value: Any = lib.Depends(collector)):
        return value

    def outer(value: Any = lib.Depends(middle)):
        return value

    assert ask(lib, answering(lib, one=lib.Security(outer, scopes=["a"]))) == [["a"], "a"]


def test_scopes_do_not_leak_to_siblings(lib):
    app = answering(lib, one=lib.Security(collect(lib), scopes=["a"]), two=lib.Depends(collect(lib)))

    assert ask(lib, app) == [[["a"], "a"], [[], ""]]


def test_repeated_scopes_of_a_parent_reach_its_dependencies(lib):
    collector = collect(lib)

    def middle(value: Any = lib.Depends(collector)):
        return value[0]

    assert ask(lib, answering(lib, one=lib.Security(middle, scopes=["a", "a", "b"]))) == ["a", "a", "b"]


def test_three_levels_of_scopes(lib):
    collector = collect(lib)

    def lower(value: Annotated[Any, lib.Security(collector, scopes=["c"])]):
        return value

    def middle(value: Annotated[Any, lib.Security(lower, scopes=["b"])]):
        return value

    assert ask(lib, answering(lib, one=lib.Security(middle, scopes=["a"]))) == [["a", "b", "c"], "a b c"]


def test_parameterless_security_dependency(lib):
    seen = []

    def call(scopes: lib.SecurityScopes):
        seen.append(scopes.scopes)

    visit(lib, answering(lib, dependencies=[lib.Security(call, scopes=["a"])]))
    assert seen == [["a"]]


def test_security_scheme_as_dependency_of_security(lib):
    bearer = lib.OAuth2PasswordBearer(tokenUrl="token")

    def user(scopes: lib.SecurityScopes, token: Annotated[str, lib.Depends(bearer)]):
        return [scopes.scope_str, token]

    app = answering(lib, one=lib.Security(user, scopes=["me", "items"]))
    assert ask(lib, app, headers={"authorization": "Bearer t"}) == ["me items", "t"]


def test_refusal_with_the_scopes(lib):
    bearer = lib.OAuth2PasswordBearer(tokenUrl="token")

    def user(scopes: lib.SecurityScopes, token: Annotated[str, lib.Depends(bearer)]):
        challenge = f'Bearer scope="{scopes.scope_str}"'
        raise lib.HTTPException(401, "Not enough permissions", {"WWW-Authenticate": challenge})

    with pytest.raises(lib.WebSocketDenialResponse) as caught:
        visit(
            lib,
            answering(lib, one=lib.Security(user, scopes=["me"])),
            headers={"authorization": "Bearer t"},
        )
    assert caught.value.headers["www-authenticate"] == 'Bearer scope="me"'


# --- the cache key ---


@pytest.mark.parametrize(
    ("first", "second", "calls"),
    [
        (["a"], ["a"], 1),
        (["a"], ["b"], 2),
        (["a", "b"], ["b", "a"], 1),
        (["a", "a"], ["a"], 1),
        ([], None, 1),
        (["a"], None, 2),
    ],
    ids=str,
)
def test_scopes_are_part_of_the_cache_key(lib, first, second, calls):
    collector = collect(lib)
    app = answering(
        lib, one=lib.Security(collector, scopes=first), two=lib.Security(collector, scopes=second)
    )

    visit(lib, app)
    assert collector.calls == calls


def counting():
    def call():
        call.calls += 1
        return call.calls

    call.calls = 0
    return call


def test_own_scopes_count_even_if_they_are_not_collected(lib):
    counter = counting()
    app = answering(lib, one=lib.Security(counter, scopes=["a"]), two=lib.Security(counter, scopes=["b"]))

    assert ask(lib, app) == [1, 2]


def test_scopes_of_parents_do_not_count_if_they_are_not_collected(lib):
    counter = counting()

    def left(value: int = lib.Depends(counter)):
        return value

    def right(value: int = lib.Depends(counter)):
        return value

    app = answering(lib, one=lib.Security(left, scopes=["a"]), two=lib.Security(right, scopes=["b"]))

    assert ask(lib, app) == [1, 1]


def test_scopes_of_parents_count_if_a_dependency_below_collects_them(lib):
    counter = counting()
    collector = collect(lib)

    def counted(count: int = lib.Depends(counter), scopes: Any = lib.Depends(collector)):
        return [count, scopes[0]]

    def left(value: Any = lib.Depends(counted)):
        return value

    def right(value: Any = lib.Depends(counted)):
        return value

    app = answering(lib, one=lib.Security(left, scopes=["a"]), two=lib.Security(right, scopes=["b"]))

    assert ask(lib, app) == [[1, ["a"]], [1, ["b"]]]
    assert collector.calls == 2


@pytest.mark.parametrize("wrapped", [False, True], ids=["scheme", "partial of a scheme"])
def test_scopes_count_for_a_security_scheme(lib, wrapped):
    calls = []

    class Scheme(lib.HTTPBearer):
        async def __call__(self, request: lib.HTTPConnection):
            calls.append(None)
            return len(calls)

    scheme = functools.partial(Scheme()) if wrapped else Scheme()

    def left(value: int = lib.Depends(scheme)):
        return value

    def right(value: int = lib.Depends(scheme)):
        return value

    app = answering(lib, one=lib.Security(left, scopes=["a"]), two=lib.Security(right, scopes=["b"]))

    assert ask(lib, app) == [1, 2]


def test_security_ignores_the_cache_on_request(lib):
    counter = counting()
    app = answering(
        lib,
        one=lib.Security(counter, scopes=["a"]),
        two=lib.Security(counter, scopes=["a"], use_cache=False),
    )

    assert ask(lib, app) == [1, 2]


def test_security_and_depends_without_scopes_are_one(lib):
    counter = counting()

    assert ask(lib, answering(lib, one=lib.Security(counter), two=lib.Depends(counter))) == [1, 1]


def test_security_without_callable_takes_the_annotation(lib):
    class User:
        def __init__(self, scopes: lib.SecurityScopes):
            self.scopes = scopes.scopes

    app = lib.FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: lib.WebSocket, user: Annotated[User, lib.Security(scopes=["a"])]):
        await websocket.accept()
        await websocket.send_json(user.scopes)

    assert ask(lib, app) == ["a"]


def test_security_scopes_object(lib):
    scopes = lib.SecurityScopes(["b", "a"])

    assert (scopes.scopes, scopes.scope_str) == (["b", "a"], "b a")
    assert (lib.SecurityScopes().scopes, lib.SecurityScopes().scope_str) == ([], "")


def test_changing_the_scopes_of_one_connection(lib):
    def call(scopes: lib.SecurityScopes):
        scopes.scopes.append("changed")
        return scopes.scopes

    app = answering(lib, one=lib.Security(call, scopes=["a"]))

    assert ask(lib, app) == ["a", "changed"]
    assert ask(lib, app) == ["a", "changed"]
