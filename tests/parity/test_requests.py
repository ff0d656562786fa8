"""What a connection reads from its scope, in both libraries."""

from __future__ import annotations

from typing import Any

import pytest
import starlette._utils
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette import requests as theirs

from fastws_compat import requests as ours

bounded = settings(max_examples=100, deadline=None)


def websocket_scope(**changes: Any) -> dict[str, Any]:
    return {
        "type": "websocket",
        "scheme": "wss",
        "path": "/root/chat",
        "root_path": "/root",
        "query_string": b"a=1&a=2&b=%20",
        "headers": [(b"host", b"example.org"), (b"x-tag", b"1"), (b"x-tag", b"2")],
        "client": ["10.0.0.1", 5000],
        "server": ("127.0.0.1", 80),
        **changes,
    }


def test_connection_is_a_mapping_of_its_scope(lib: Any) -> None:
    scope = websocket_scope()
    connection = lib.HTTPConnection(scope)
    assert connection["path"] == "/root/chat"
    assert connection.get("nothing") is None
    assert "client" in connection
    assert set(connection) == set(scope)
    assert len(connection) == len(scope)
    assert dict(connection.items()) == scope
    assert connection.scope is scope
    with pytest.raises(KeyError):
        connection["nothing"]


def test_connections_are_equal_by_identity(lib: Any) -> None:
    scope = websocket_scope()
    one, other = lib.HTTPConnection(scope), lib.HTTPConnection(scope)
    assert one == one
    assert one != other
    assert len({one, other}) == 2


@pytest.mark.parametrize("kind", ["lifespan", "", None])
def test_connection_of_another_type(lib: Any, kind: Any) -> None:
    with pytest.raises(AssertionError):
        lib.HTTPConnection({"type": kind})


def test_request_of_a_socket(lib: Any) -> None:
    with pytest.raises(AssertionError):
        lib.Request(websocket_scope())


def test_request_of_http(lib: Any) -> None:
    request = lib.Request(websocket_scope(type="http", method="GET"))
    assert request.method == "GET"
    assert isinstance(request, lib.HTTPConnection)


def test_parts_of_the_handshake(lib: Any) -> None:
    connection = lib.HTTPConnection(websocket_scope(path_params={"room": 1}, app="app"))
    assert str(connection.url) == "wss://example.org/root/chat?a=1&a=2&b=%20"
    assert str(connection.base_url) == "wss://example.org/root/"
    assert connection.headers.getlist("X-Tag") == ["1", "2"]
    assert connection.query_params.multi_items() == [("a", "1"), ("a", "2"), ("b", " ")]
    assert connection.path_params == {"room": 1}
    assert connection.app == "app"
    assert connection.client == ("10.0.0.1", 5000)
    assert connection.client.host == "10.0.0.1"
    assert connection.client.port == 5000


@pytest.mark.parametrize("name", ["url", "base_url", "headers", "query_params", "cookies", "state"])
def test_part_is_read_once(lib: Any, name: str) -> None:
    connection = lib.HTTPConnection(websocket_scope())
    assert getattr(connection, name) is getattr(connection, name)


def test_parts_that_the_scope_lacks(lib: Any) -> None:
    connection = lib.HTTPConnection({"type": "websocket", "path": "/a", "headers": []})
    assert str(connection.url) == "/a"
    assert str(connection.base_url) == "/"
    assert connection.client is None
    assert connection.path_params == {}
    assert connection.cookies == {}
    with pytest.raises(KeyError):
        connection.app
    with pytest.raises(KeyError):
        connection.query_params


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "wss://example.org/root/"),
        ({"root_path": ""}, "wss://example.org/"),
        ({"root_path": "/root/"}, "wss://example.org/root/"),
        ({"app_root_path": "/outer", "root_path": "/outer/inner"}, "wss://example.org/outer/"),
        ({"app_root_path": "", "root_path": "/inner"}, "wss://example.org/"),
        ({"scheme": "ws", "headers": []}, "ws://127.0.0.1/root/"),
    ],
)
def test_base_url(lib: Any, changes: dict[str, Any], expected: str) -> None:
    scope = websocket_scope(**changes)
    connection = lib.HTTPConnection(scope)
    assert str(connection.base_url) == expected
    assert scope == websocket_scope(**changes)


def test_scope_headers_become_a_list(lib: Any) -> None:
    scope = websocket_scope(headers=((b"a", b"1"),))
    assert lib.HTTPConnection(scope).headers["a"] == "1"
    assert scope["headers"] == [(b"a", b"1")]


COOKIES: list[tuple[list[bytes], dict[str, str]]] = [
    ([], {}),
    ([b""], {}),
    ([b"a=1"], {"a": "1"}),
    ([b"a=1; b=2"], {"a": "1", "b": "2"}),
    ([b"a=1;b=2;;"], {"a": "1", "b": "2"}),
    ([b"a=1; a=2"], {"a": "2"}),
    ([b"a=1", b"b=2; a=3"], {"a": "3", "b": "2"}),
    ([b"a=1", b"", b"b=2"], {"a": "1", "b": "2"}),
    ([b"a"], {"": "a"}),
    ([b"a; b=1"], {"": "a", "b": "1"}),
    ([b"=a"], {"": "a"}),
    ([b"a="], {"a": ""}),
    ([b" a = b c "], {"a": "b c"}),
    ([b"a=b=c"], {"a": "b=c"}),
    ([b'a="x; y"'], {"a": '"x', "": 'y"'}),
    ([b'a="x\\073 y"'], {"a": "x; y"}),
    ([b'a="\\"q\\""'], {"a": '"q"'}),
    ([b'a="'], {"a": '"'}),
    ([b"a=\xfc"], {"a": "ü"}),
    ([b"a=%20"], {"a": "%20"}),
    ([b"a:b[c]=1"], {"a:b[c]": "1"}),
    ([b"a=1, b=2"], {"a": "1, b=2"}),
]


@pytest.mark.parametrize(("headers", "expected"), COOKIES)
def test_cookies(lib: Any, headers: list[bytes], expected: dict[str, str]) -> None:
    scope = websocket_scope(headers=[(b"cookie", header) for header in headers])
    assert lib.HTTPConnection(scope).cookies == expected


def test_state_is_that_of_the_scope(lib: Any) -> None:
    scope = websocket_scope(state={"pool": 1})
    connection = lib.HTTPConnection(scope)
    connection.state.user = 2
    assert connection.state.pool == 1
    assert scope["state"] == {"pool": 1, "user": 2}
    assert lib.HTTPConnection(scope).state.user == 2


def test_state_without_a_lifespan(lib: Any) -> None:
    scope = websocket_scope()
    lib.HTTPConnection(scope).state.user = 2
    assert scope["state"] == {"user": 2}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("session", "SessionMiddleware must be installed to access request.session"),
        ("auth", "AuthenticationMiddleware must be installed to access request.auth"),
        ("user", "AuthenticationMiddleware must be installed to access request.user"),
    ],
)
def test_what_a_middleware_leaves(lib: Any, name: str, message: str) -> None:
    value = {"a": 1}
    assert getattr(lib.HTTPConnection(websocket_scope(**{name: value})), name) is value
    with pytest.raises(AssertionError) as caught:
        getattr(lib.HTTPConnection(websocket_scope()), name)
    assert str(caught.value).startswith(message)


def test_session_records_that_it_was_read(lib: Any) -> None:
    class Session(dict[str, Any]):
        accessed = False

        def mark_accessed(self) -> None:
            self.accessed = True

    session = Session()
    assert lib.HTTPConnection(websocket_scope(session=session)).session is session
    assert session.accessed


@pytest.mark.parametrize("key", ["router", "app"])
def test_url_for(lib: Any, key: str) -> None:
    class Provider:
        def url_path_for(self, name: str, /, **params: Any) -> Any:
            path = f"/{name}/{params['name']}"
            return lib.module("starlette.datastructures").URLPath(path, protocol="websocket")

    connection = lib.HTTPConnection(websocket_scope(**{key: Provider()}))
    assert str(connection.url_for("chat", name="x")) == "wss://example.org/root/chat/x"


def test_url_for_outside_an_app(lib: Any) -> None:
    message = "The `url_for` method can only be used inside a Starlette application or with a router."
    with pytest.raises(RuntimeError) as caught:
        lib.HTTPConnection(websocket_scope()).url_for("x")
    assert str(caught.value) == message


def test_connection_names_the_type_of_its_state(lib: Any) -> None:
    connection = lib.HTTPConnection[lib.State](websocket_scope())
    assert isinstance(connection, lib.HTTPConnection)


PATHS = ["", "/", "/a", "/a/", "/ab", "/a/b", "a", "/a/b/c"]


@pytest.mark.parametrize("root_path", PATHS)
@pytest.mark.parametrize("path", PATHS)
def test_path_below_the_root_path(path: str, root_path: str) -> None:
    scope: dict[str, Any] = {"path": path, "root_path": root_path}
    assert ours.get_route_path(scope) == starlette._utils.get_route_path(scope)


@bounded
@given(headers=st.lists(st.text(alphabet='ab=; "\\07,ü\x1c\xa0', max_size=15), max_size=3))
def test_any_cookies_are_the_same(headers: list[str]) -> None:
    raw = [(b"cookie", header.encode("latin-1")) for header in headers]
    scopes = [websocket_scope(headers=raw), websocket_scope(headers=raw)]
    mine, real = ours.HTTPConnection(scopes[0]), theirs.HTTPConnection(scopes[1])
    assert mine.cookies == real.cookies
    assert list(mine.cookies) == list(real.cookies)


@bounded
@given(
    path=st.text(alphabet="/ab", max_size=6),
    root_path=st.one_of(st.none(), st.text(alphabet="/ab", max_size=4)),
)
def test_any_path_below_the_root_path(path: str, root_path: str | None) -> None:
    scope: dict[str, Any] = {"path": path} if root_path is None else {"path": path, "root_path": root_path}
    assert ours.get_route_path(scope) == starlette._utils.get_route_path(scope)


# Starlette's private names, which third-party code uses

KEPT = {
    "_url": "url",
    "_base_url": "base_url",
    "_headers": "headers",
    "_query_params": "query_params",
    "_cookies": "cookies",
    "_state": "state",
}


@pytest.mark.parametrize(("private", "public"), KEPT.items())
def test_cached_attributes_exist_after_the_first_access(lib: Any, private: str, public: str) -> None:
    connection = lib.HTTPConnection(websocket_scope())
    assert not hasattr(connection, private)
    with pytest.raises(AttributeError, match=f"'HTTPConnection' object has no attribute '{private}'"):
        getattr(connection, private)
    value = getattr(connection, public)
    assert getattr(connection, private) is value
    assert getattr(connection, public) is value


@pytest.mark.parametrize(("private", "public"), KEPT.items())
def test_cached_attributes_can_be_set_and_deleted(lib: Any, private: str, public: str) -> None:
    connection = lib.HTTPConnection(websocket_scope())
    before = getattr(connection, public)
    own = object()
    setattr(connection, private, own)
    assert getattr(connection, public) is own
    delattr(connection, private)
    assert not hasattr(connection, private)
    with pytest.raises(AttributeError, match=private):
        delattr(connection, private)
    assert type(getattr(connection, public)) is type(before)


def test_headers_that_are_changed_in_the_scope_are_read_anew(lib: Any) -> None:
    connection = lib.HTTPConnection(websocket_scope())
    assert "x-new" not in connection.headers
    connection.scope["headers"] = [(b"x-new", b"1")]
    assert "x-new" not in connection.headers
    del connection._headers
    assert connection.headers["x-new"] == "1"


def test_cookies_that_are_set_before_they_are_read(lib: Any) -> None:
    connection = lib.HTTPConnection(websocket_scope())
    connection._cookies = {"session": "forged by a test"}
    assert connection.cookies == {"session": "forged by a test"}


@pytest.mark.parametrize(("private", "public"), KEPT.items())
def test_two_connections_keep_their_own(lib: Any, private: str, public: str) -> None:
    one, two = lib.HTTPConnection(websocket_scope()), lib.HTTPConnection(websocket_scope())
    setattr(one, private, "one")
    assert not hasattr(two, private)
    assert getattr(two, public) != "one"
