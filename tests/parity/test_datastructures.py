"""URLs, headers, multi-dicts and state: tables of cases for both libraries, then random ones."""

from __future__ import annotations

import asyncio
import io
from typing import Any

import pytest
import starlette._utils
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette import datastructures as theirs

from fastws_compat import datastructures as ours

bounded = settings(max_examples=100, deadline=None)


def outcome(call: Any, *args: Any, **kwargs: Any) -> Any:
    """The result of a call, or the type of its error."""
    try:
        return call(*args, **kwargs)
    except Exception as exc:
        return type(exc)


# URL


@pytest.mark.parametrize(
    ("url", "parts"),
    [
        ("", ("", "", "", "", "", None, None, None, None, False)),
        ("/a", ("", "", "/a", "", "", None, None, None, None, False)),
        ("ws://host/a?b=1#c", ("ws", "host", "/a", "b=1", "c", None, None, "host", None, False)),
        ("wss://host:8000", ("wss", "host:8000", "", "", "", None, None, "host", 8000, True)),
        ("https://u:p@Host/", ("https", "u:p@Host", "/", "", "", "u", "p", "host", None, True)),
        ("http://u@[::1]:9/", ("http", "u@[::1]:9", "/", "", "", "u", None, "::1", 9, False)),
        ("HTTP://a/%20b", ("http", "a", "/%20b", "", "", None, None, "a", None, False)),
    ],
)
def test_url_parts(lib: Any, url: str, parts: tuple[Any, ...]) -> None:
    names = "scheme netloc path query fragment username password hostname port is_secure"
    made = lib.URL(url)
    assert tuple(getattr(made, name) for name in names.split()) == parts
    assert str(made) == url
    assert made == url
    assert made == lib.URL(url)
    assert made != lib.URL(url + "x")


@pytest.mark.parametrize(
    ("url", "changes", "expected"),
    [
        ("ws://host/a", {"scheme": "wss"}, "wss://host/a"),
        ("ws://host/a", {"path": "/b", "query": "x=1"}, "ws://host/b?x=1"),
        ("ws://host/a", {"port": 81}, "ws://host:81/a"),
        ("ws://host:81/a", {"port": None}, "ws://host/a"),
        ("ws://host:81/a", {"hostname": "other"}, "ws://other:81/a"),
        ("ws://host:81/a", {"hostname": "::1"}, "ws://[::1]:81/a"),
        ("ws://host:81/a", {"hostname": "[::1]"}, "ws://[::1]:81/a"),
        ("ws://[::1]:81/a", {"port": 82}, "ws://[::1]:82/a"),
        ("ws://[::1]/a", {"username": "u"}, "ws://u@[::1]/a"),
        ("ws://u:p@host/a", {"username": "v"}, "ws://v:p@host/a"),
        ("ws://u:p@host/a", {"username": None}, "ws://host/a"),
        ("ws://u:p@host/a", {"password": None}, "ws://u@host/a"),
        ("ws://u:p@Host:1/a", {"port": 2}, "ws://u:p@Host:2/a"),
        ("/a", {"hostname": "host"}, "//host/a"),
        ("/a", {"port": 80}, "//:80/a"),
        ("ws://host/a#f", {"fragment": ""}, "ws://host/a"),
        ("ws://host/a", {"netloc": "n", "port": 5}, "ws://host:5/a"),
    ],
)
def test_url_replace(lib: Any, url: str, changes: dict[str, Any], expected: str) -> None:
    assert str(lib.URL(url).replace(**changes)) == expected


@pytest.mark.parametrize(
    ("url", "method", "args", "kwargs", "expected"),
    [
        ("/a", "include_query_params", (), {"b": 1}, "/a?b=1"),
        ("/a?b=1&c=2&b=3", "include_query_params", (), {"b": 4}, "/a?c=2&b=4"),
        ("/a?b=", "include_query_params", (), {"c": "ü &"}, "/a?b=&c=%C3%BC+%26"),
        ("/a?b=1", "replace_query_params", (), {"c": None}, "/a?c=None"),
        ("/a?b=1", "replace_query_params", (), {}, "/a"),
        ("/a?b=1&c=2&b=3", "remove_query_params", ("b",), {}, "/a?c=2"),
        ("/a?b=1&c=2&d=3", "remove_query_params", (["b", "c", "x"],), {}, "/a?d=3"),
    ],
)
def test_url_query_params(lib: Any, url: str, method: str, args: Any, kwargs: Any, expected: str) -> None:
    assert str(getattr(lib.URL(url), method)(*args, **kwargs)) == expected


@pytest.mark.parametrize(
    ("components", "expected"),
    [
        ({"scheme": "ws", "netloc": "h", "path": "/a"}, "ws://h/a"),
        ({"scheme": "ws", "hostname": "h", "port": 1, "path": "/a"}, "ws://h:1/a"),
        ({"path": "a", "query": "b"}, "a?b"),
        ({"path": " /a"}, "/a"),
    ],
)
def test_url_from_components(lib: Any, components: dict[str, Any], expected: str) -> None:
    assert str(lib.URL(**components)) == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [("ws://host/a", "URL('ws://host/a')"), ("ws://u:p@host/", "URL('ws://u:********@host/')")],
)
def test_url_repr_hides_the_password(lib: Any, url: str, expected: str) -> None:
    assert repr(lib.URL(url)) == expected


SCOPES: list[tuple[dict[str, Any], str]] = [
    ({}, "/a"),
    ({"query_string": b"b=1"}, "/a?b=1"),
    ({"path": "//evil/x"}, "/%2Fevil/x"),
    ({"path": "/a?b#c\\d"}, "/a%3Fb%23c%5Cd"),
    ({"headers": [(b"host", b"h:81")]}, "http://h:81/a"),
    ({"headers": [(b"host", b"h")], "path": "//x"}, "http://h//x"),
    ({"headers": [(b"a", b"b"), (b"host", b"h")]}, "http://h/a"),
    ({"headers": [(b"host", b"a"), (b"host", b"b")]}, "http://a/a"),
    ({"scheme": "wss", "headers": [(b"host", b"h")], "query_string": b"x"}, "wss://h/a?x"),
    ({"scheme": "ws", "server": ("s", 80)}, "ws://s/a"),
    ({"scheme": "wss", "server": ("s", 443)}, "wss://s/a"),
    ({"scheme": "ws", "server": ("s", 443)}, "ws://s:443/a"),
    ({"server": ("::1", 80)}, "http://[::1]/a"),
    ({"server": ("[::1]", 81)}, "http://[::1]:81/a"),
    ({"server": ("/run/s.sock", None)}, "http:///run/s.sock:None/a"),
    ({"server": ("s", 80), "headers": [(b"host", b"a/b")]}, "http://s/a"),
    ({"server": ("s", 80), "headers": [(b"host", b"h:99999")]}, "http://s/a"),
    ({"headers": [(b"host", b"a@b")]}, "/a"),
]


@pytest.mark.parametrize(("changes", "expected"), SCOPES)
def test_url_from_scope(lib: Any, changes: dict[str, Any], expected: str) -> None:
    assert str(lib.URL(scope={"path": "/a", "headers": [], **changes})) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"url": "a", "scope": {}}, 'Cannot set both "url" and "scope".'),
        ({"url": "a", "path": "b"}, 'Cannot set both "url" and "**components".'),
        ({"scope": {}, "path": "b"}, 'Cannot set both "scope" and "**components".'),
    ],
)
def test_url_from_two_things(lib: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        lib.URL(**arguments)
    assert str(caught.value).startswith(message)


def test_url_is_unhashable_and_keeps_its_class(lib: Any) -> None:
    class Mine(lib.URL):  # type: ignore[misc]
        pass

    assert type(Mine("/a").replace(path="/b")) is Mine
    assert repr(Mine("/a")) == "Mine('/a')"
    with pytest.raises(TypeError):
        hash(lib.URL("/a"))


@pytest.mark.parametrize(
    ("path", "protocol", "host", "base", "expected"),
    [
        ("/a", "websocket", "", "http://h/", "ws://h/a"),
        ("/a", "websocket", "", "https://h/root/", "wss://h/root/a"),
        ("/a", "websocket", "x", "wss://h", "wss://x/a"),
        ("/a", "http", "", "wss://h", "https://h/a"),
        ("/a", "http", "", "ws://h", "http://h/a"),
        ("/a", "", "", "ftp://h/b", "ftp://h/b/a"),
        ("//a", "", "", "http://h", "http://h/%2Fa"),
        ("/a\\b", "", "", "http://h", "http://h/a%5Cb"),
    ],
)
def test_url_path(lib: Any, path: str, protocol: str, host: str, base: str, expected: str) -> None:
    URLPath = lib.module("starlette.datastructures").URLPath
    made = URLPath(path, protocol=protocol, host=host)
    assert (made.protocol, made.host) == (protocol, host)
    assert str(made.make_absolute_url(base)) == expected
    assert str(made.make_absolute_url(base_url=lib.URL(base))) == expected
    with pytest.raises(AssertionError):
        URLPath("/a", protocol="ftp")


# QueryParams and the multi-dicts


@pytest.mark.parametrize(
    ("value", "items"),
    [
        ("", []),
        (b"", []),
        (None, []),
        ("a=1&b=2&a=3", [("a", "1"), ("b", "2"), ("a", "3")]),
        (b"a=%C3%BC+x&b=&c", [("a", "ü x"), ("b", ""), ("c", "")]),
        (b"a=\xfc", [("a", "ü")]),
        ("a=%FF", [("a", "�")]),
        ("a=1;b=2", [("a", "1;b=2")]),
        ({"a": 1, 2: None}, [("a", "1"), ("2", "None")]),
        ([("a", 1), ("a", 2)], [("a", "1"), ("a", "2")]),
        ((("a", "1"),), [("a", "1")]),
    ],
)
def test_query_params(lib: Any, value: Any, items: list[tuple[str, str]]) -> None:
    params = lib.QueryParams(value)
    assert params.multi_items() == items
    assert dict(params) == dict(items)
    assert params == lib.QueryParams(items)
    assert lib.QueryParams(params).multi_items() == items
    assert lib.QueryParams(str(params)) == params


def test_query_params_reading(lib: Any) -> None:
    params = lib.QueryParams("a=1&b=2&a=3", c=4)
    assert params["a"] == "3"
    assert params.get("x") is None
    assert params.get("x", 5) == 5
    assert params.getlist("a") == ["1", "3"]
    assert params.getlist("x") == []
    assert "a" in params
    assert "x" not in params
    assert list(params) == ["a", "b", "c"]
    assert list(params.keys()) == ["a", "b", "c"]
    assert list(params.values()) == ["3", "2", "4"]
    assert list(params.items()) == [("a", "3"), ("b", "2"), ("c", "4")]
    assert len(params) == 3
    assert str(params) == "a=1&b=2&a=3&c=4"
    assert repr(params) == "QueryParams('a=1&b=2&a=3&c=4')"
    assert params != {"a": "3", "b": "2", "c": "4"}
    with pytest.raises(KeyError):
        params["x"]
    with pytest.raises(AssertionError, match="Too many arguments"):
        lib.QueryParams("a=1", "b=2")


def test_query_params_order_matters_within_a_key_only(lib: Any) -> None:
    assert lib.QueryParams("a=1&b=2") == lib.QueryParams("b=2&a=1")
    assert lib.QueryParams("a=1&a=2") != lib.QueryParams("a=2&a=1")


def test_multi_dict_kinds_compare_by_class(lib: Any) -> None:
    module = lib.module("starlette.datastructures")
    frozen, changing = module.ImmutableMultiDict({"a": 1}), module.MultiDict({"a": 1})
    assert frozen != changing  # Python asks the subclass first
    assert frozen.__eq__(changing)
    assert changing != {"a": 1}
    assert not hasattr(frozen, "append")
    assert repr(changing) == "MultiDict([('a', 1)])"
    with pytest.raises(TypeError):
        hash(frozen)
    with pytest.raises(AssertionError):
        module.MultiDict({}, {})


PAIRS = [("a", 1), ("b", 2), ("a", 3)]
CHANGES: list[tuple[str, tuple[Any, ...], Any, list[tuple[str, Any]]]] = [
    ("__setitem__", ("a", 9), None, [("b", 2), ("a", 9)]),
    ("__setitem__", ("c", 9), None, [*PAIRS, ("c", 9)]),
    ("__delitem__", ("a",), None, [("b", 2)]),
    ("__delitem__", ("x",), KeyError, PAIRS),
    ("pop", ("a",), 3, [("b", 2)]),
    ("pop", ("x",), None, PAIRS),
    ("pop", ("x", 7), 7, PAIRS),
    ("popitem", (), ("b", 2), [("a", 1), ("a", 3)]),
    ("poplist", ("a",), [1, 3], [("b", 2)]),
    ("poplist", ("x",), [], PAIRS),
    ("clear", (), None, []),
    ("setdefault", ("a", 9), 3, PAIRS),
    ("setdefault", ("c", 9), 9, [*PAIRS, ("c", 9)]),
    ("setdefault", ("c",), None, [*PAIRS, ("c", None)]),
    ("setlist", ("a", [7, 8]), None, [("b", 2), ("a", 7), ("a", 8)]),
    ("setlist", ("a", []), None, [("b", 2)]),
    ("setlist", ("x", []), None, PAIRS),
    ("append", ("a", 9), None, [*PAIRS, ("a", 9)]),
    ("update", ({"a": 9, "c": 8},), None, [("b", 2), ("a", 9), ("c", 8)]),
    ("update", ([("a", 9), ("a", 8)],), None, [("b", 2), ("a", 9), ("a", 8)]),
    ("update", (), None, PAIRS),
]


@pytest.mark.parametrize(("method", "args", "result", "items"), CHANGES)
def test_multi_dict_change(lib: Any, method: str, args: Any, result: Any, items: Any) -> None:
    given_pairs = list(PAIRS)
    made = lib.module("starlette.datastructures").MultiDict(given_pairs)
    assert outcome(getattr(made, method), *args) == result
    assert made.multi_items() == items
    assert made._dict == dict(items)
    assert given_pairs == PAIRS


# Headers


def test_headers_reading(lib: Any) -> None:
    headers = lib.Headers(raw=[(b"a", b"1"), (b"b", b"\xfc"), (b"a", b"3"), (b"e", b"")])
    assert headers["A"] == "1"
    assert headers.get("B") == "ü"
    assert headers.get("x") is None
    assert headers.get("x", "y") == "y"
    assert headers.get(key="x", default="y") == "y"
    assert headers.getlist("A") == ["1", "3"]
    assert headers.getlist("x") == []
    assert "A" in headers
    assert "e" in headers
    assert headers["e"] == ""
    assert "x" not in headers
    assert headers.keys() == ["a", "b", "a", "e"]
    assert headers.values() == ["1", "ü", "3", ""]
    assert headers.items() == [("a", "1"), ("b", "ü"), ("a", "3"), ("e", "")]
    assert list(headers) == ["a", "b", "a", "e"]
    assert len(headers) == 4
    assert dict(headers) == {"a": "1", "b": "ü", "e": ""}
    assert repr(headers) == "Headers(raw=[(b'a', b'1'), (b'b', b'\\xfc'), (b'a', b'3'), (b'e', b'')])"
    assert repr(lib.Headers({"A": "1"})) == "Headers({'a': '1'})"
    with pytest.raises(KeyError, match="'X-Y'"):
        headers["X-Y"]


@pytest.mark.parametrize(
    ("key", "error"), [(None, AttributeError), (1, AttributeError), ("☃", UnicodeEncodeError)]
)
def test_headers_odd_names(lib: Any, key: Any, error: type[Exception]) -> None:
    headers = lib.Headers({"a": "1"})
    for read in (headers.get, headers.getlist, headers.__getitem__, headers.__contains__):
        with pytest.raises(error):
            read(key)


def test_headers_equality_is_about_the_pairs(lib: Any) -> None:
    assert lib.Headers({"a": "1", "b": "2"}) == lib.Headers(raw=[(b"b", b"2"), (b"a", b"1")])
    assert lib.Headers({"a": "1"}) != {"a": "1"}
    assert lib.Headers({"a": "1"}) != lib.Headers({"a": "2"})
    with pytest.raises(TypeError):
        hash(lib.Headers())


def test_headers_of_a_scope_share_one_list(lib: Any) -> None:
    scope = {"headers": ((b"a", b"1"),)}
    headers = lib.Headers(scope=scope)
    assert scope["headers"] == [(b"a", b"1")]
    scope["headers"].append((b"b", b"2"))  # type: ignore[attr-defined]
    assert headers["b"] == "2"
    assert headers.raw is not scope["headers"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"headers": {}, "raw": []}, 'Cannot set both "headers" and "raw".'),
        ({"headers": {}, "scope": {}}, 'Cannot set both "headers" and "scope".'),
        ({"raw": [], "scope": {}}, 'Cannot set both "raw" and "scope".'),
    ],
)
def test_headers_from_two_things(lib: Any, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(AssertionError) as caught:
        lib.Headers(**arguments)
    assert str(caught.value).startswith(message)


RAW = [(b"a", b"1"), (b"b", b"2"), (b"a", b"3")]
HEADER_CHANGES: list[tuple[str, tuple[Any, ...], Any, list[tuple[bytes, bytes]]]] = [
    ("__setitem__", ("A", "9"), None, [(b"a", b"9"), (b"b", b"2")]),
    ("__setitem__", ("C", "ü"), None, [*RAW, (b"c", b"\xfc")]),
    ("__setitem__", ("a", "☃"), UnicodeEncodeError, RAW),
    ("__delitem__", ("A",), None, [(b"b", b"2")]),
    ("__delitem__", ("x",), None, RAW),
    ("setdefault", ("A", "9"), "1", RAW),
    ("setdefault", ("C", "9"), "9", [*RAW, (b"c", b"9")]),
    ("update", ({"B": "8", "c": "9"},), None, [(b"a", b"1"), (b"b", b"8"), (b"a", b"3"), (b"c", b"9")]),
    ("append", ("A", "9"), None, [*RAW, (b"a", b"9")]),
    ("add_vary_header", ("x",), None, [*RAW, (b"vary", b"x")]),
    ("__ior__", (1,), TypeError, RAW),
    ("__or__", (1,), TypeError, RAW),
]


@pytest.mark.parametrize(("method", "args", "result", "raw"), HEADER_CHANGES)
def test_mutable_headers_change(lib: Any, method: str, args: Any, result: Any, raw: Any) -> None:
    shared = list(RAW)
    headers = lib.module("starlette.datastructures").MutableHeaders(raw=shared)
    assert outcome(getattr(headers, method), *args) == result
    assert shared == raw
    assert headers.raw is shared


def test_mutable_headers_operators(lib: Any) -> None:
    headers = lib.Headers({"a": "1"}).mutablecopy()
    joined = headers | {"B": "2"}
    assert joined.items() == [("a", "1"), ("b", "2")]
    assert headers.items() == [("a", "1")]
    headers |= {"a": "3"}
    assert headers.items() == [("a", "3")]
    headers.add_vary_header("x")
    headers.add_vary_header("y")
    assert headers["vary"] == "x, y"
    with pytest.raises(TypeError, match="Expected a mapping but got list"):
        headers |= [("a", "1")]


# State, Default, files


def test_state(lib: Any) -> None:
    values = {"a": 1}
    state = lib.State(values)
    state.b = 2
    state["c"] = 3
    assert (state.a, state["b"], state.c) == (1, 2, 3)
    assert values == {"a": 1, "b": 2, "c": 3}
    assert list(state) == ["a", "b", "c"]
    assert len(state) == 3
    del state.a
    del state["b"]
    assert values == {"c": 3}
    with pytest.raises(AttributeError, match=r"^'State' object has no attribute 'x'$"):
        state.x
    with pytest.raises(KeyError):
        state["x"]
    with pytest.raises(KeyError):
        del state.x
    assert not hasattr(lib.State(), "a")


def test_default_placeholder(lib: Any) -> None:
    module = lib.module("fastapi.datastructures")
    assert isinstance(module.Default(0), module.DefaultPlaceholder)
    assert module.Default([1]).value == [1]
    assert module.Default(1) == module.Default(1)
    assert module.Default(1) != 1
    assert not module.Default(0)


def test_upload_file(lib: Any) -> None:
    async def use() -> None:
        upload = lib.UploadFile(
            io.BytesIO(b"abc"), size=3, filename="f", headers=lib.Headers({"content-type": "t"})
        )
        assert await upload.read(1) == b"a"
        assert await upload.read() == b"bc"
        await upload.write(b"de")
        assert upload.size == 5
        await upload.seek(3)
        assert await upload.read() == b"de"
        assert upload.content_type == "t"
        assert repr(upload) == "UploadFile(filename='f', size=5, headers=Headers({'content-type': 't'}))"
        form = lib.FormData([("a", "1"), ("f", upload), ("a", "2")])
        assert form.getlist("a") == ["1", "2"]
        await form.close()
        assert upload.file.closed

    asyncio.run(use())


HOSTS = [
    ("example.org", ("example.org", None, "example.org", True)),
    ("Example.org:80", ("Example.org", "80", "Example.org:80", True)),
    ("h:0000000080", ("h", "0000000080", "h:0000000080", True)),
    ("h:65535", ("h", "65535", "h:65535", True)),
    ("h:65536", ("h", "65536", "h:65536", False)),
    ("h:" + "9" * 5000, ("h", "9" * 5000, "h:" + "9" * 5000, False)),
    ("[::1]:1", ("[::1]", "1", "[::1]:1", True)),
    ("[v1.a:b]", ("[v1.a:b]", None, "[v1.a:b]", True)),
    *(
        (bad, None)
        for bad in (None, "", ":80", "h:", "h:a", "a b", "a/b", "a@b", "[", "[]", "[::g]", "[1::2::3]")
    ),
    *((bad, None) for bad in ("[V1.a]", "[::1", "h\n", "a#b", "a?b", "a\\b", "ü.org", "[::1]x", "::1")),
]


@pytest.mark.parametrize(("header", "parts"), HOSTS)
def test_host_header(header: str | None, parts: tuple[Any, ...] | None) -> None:
    for parse in (starlette._utils.parse_host_header, ours.parse_host_header):
        parsed: Any = parse(header)
        if parsed is not None:
            parsed = (parsed.host, parsed.port, parsed.authority, parsed.is_valid_port)
        assert parsed == parts


# Random values against both libraries

texts = st.text(alphabet="aB/:@[]?#%&=.;\\ ü1v~", max_size=12)
hosts = st.one_of(
    texts, st.ip_addresses(v=6).map(lambda ip: f"[{ip}]:80"), st.from_regex(r"\A[a-z.]{1,9}(:[0-9]{1,7})?\Z")
)


def read(url: Any) -> list[Any]:
    names = ["scheme", "netloc", "path", "query", "fragment", "username", "password", "hostname", "port"]
    return [str(url), outcome(repr, url), *(outcome(getattr, url, name) for name in names)]


@bounded
@given(url=st.one_of(texts, st.tuples(hosts, texts).map(lambda pair: f"ws://{pair[0]}/{pair[1]}")))
def test_any_url_reads_the_same(url: str) -> None:
    assert outcome(read, ours.URL(url)) == outcome(read, theirs.URL(url))


@bounded
@given(
    url=st.tuples(hosts, texts).map(lambda pair: f"ws://{pair[0]}/{pair[1]}"),
    changes=st.fixed_dictionaries(
        {},
        optional={
            "scheme": st.sampled_from(["ws", "https", ""]),
            "hostname": st.one_of(st.none(), hosts, st.just("::1")),
            "port": st.one_of(st.none(), st.integers(0, 70000)),
            "username": st.one_of(st.none(), texts),
            "password": st.one_of(st.none(), texts),
            "path": texts,
            "query": texts,
        },
    ),
)
def test_any_replacement_is_the_same(url: str, changes: dict[str, Any]) -> None:
    def replaced(URL: Any) -> Any:
        return str(URL(url).replace(**changes))

    def composed(URL: Any) -> Any:
        return str(URL(**changes))

    assert outcome(replaced, ours.URL) == outcome(replaced, theirs.URL)
    assert outcome(composed, ours.URL) == outcome(composed, theirs.URL)


@bounded
@given(
    path=texts.map(lambda text: f"/{text}"),
    host=st.one_of(st.none(), hosts),
    server=st.one_of(
        st.none(), st.tuples(st.sampled_from(["s", "::1", "[::1]"]), st.sampled_from([80, 443, 1]))
    ),
    query=st.binary(max_size=6),
    scheme=st.sampled_from(["ws", "wss", "http", None, "x"]),
)
def test_any_scope_gives_the_same_url(path: str, host: Any, server: Any, query: bytes, scheme: Any) -> None:
    scope: dict[str, Any] = {"path": path, "headers": [], "query_string": query, "server": server}
    if host is not None:
        scope["headers"] = [(b"host", host.encode("latin-1"))]
    if scheme is not None:
        scope["scheme"] = scheme
    results = [outcome(lambda URL=URL: str(URL(scope=scope))) for URL in (ours.URL, theirs.URL)]
    assert results[0] == results[1]


@bounded
@given(header=st.one_of(st.none(), hosts, st.text(max_size=6)))
def test_any_host_header_parses_the_same(header: str | None) -> None:
    mine, real = ours.parse_host_header(header), starlette._utils.parse_host_header(header)
    if mine is None or real is None:
        assert mine is real
    else:
        assert (mine.host, mine.port) == (real.host, real.port)
        assert mine.is_valid_port is real.is_valid_port


names = st.sampled_from(["a", "A", "b", "X-Y", "ü"])
values = st.text(alphabet="a1 ü,", max_size=4)
header_calls = st.one_of(
    st.tuples(st.sampled_from(["__setitem__", "append", "setdefault"]), st.tuples(names, values)),
    st.tuples(
        st.sampled_from(["__delitem__", "getlist", "get", "__getitem__", "__contains__"]), st.tuples(names)
    ),
    st.tuples(st.sampled_from(["update", "__ior__", "__or__"]), st.tuples(st.dictionaries(names, values))),
    st.tuples(st.just("add_vary_header"), st.tuples(values)),
    st.tuples(st.sampled_from(["keys", "values", "items", "__len__", "__repr__"]), st.just(())),
)


@bounded
@given(start=st.dictionaries(names, values), calls=st.lists(header_calls, max_size=8))
def test_any_header_calls_do_the_same(start: dict[str, str], calls: list[tuple[str, Any]]) -> None:
    mine, real = ours.MutableHeaders(start), theirs.MutableHeaders(start)
    for method, args in calls:
        results = [outcome(getattr(headers, method), *args) for headers in (mine, real)]
        shown = [result.raw if hasattr(result, "raw") else result for result in results]
        assert shown[0] == shown[1]
        assert mine.raw == real.raw


pairs = st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9)), max_size=6)
dict_calls = st.one_of(
    st.tuples(
        st.sampled_from(["__setitem__", "append", "setdefault", "pop"]),
        st.tuples(st.sampled_from("abcd"), st.integers(0, 9)),
    ),
    st.tuples(
        st.sampled_from(["__delitem__", "getlist", "poplist", "pop", "get", "__getitem__"]),
        st.tuples(st.sampled_from("abcd")),
    ),
    st.tuples(
        st.just("setlist"), st.tuples(st.sampled_from("abcd"), st.lists(st.integers(0, 9), max_size=3))
    ),
    st.tuples(st.just("update"), st.tuples(st.one_of(pairs, pairs.map(dict)))),
    st.tuples(st.sampled_from(["clear", "popitem", "multi_items", "__len__", "__repr__"]), st.just(())),
)


@bounded
@given(start=pairs, calls=st.lists(dict_calls, max_size=10))
def test_any_multi_dict_calls_do_the_same(start: list[tuple[str, int]], calls: list[tuple[str, Any]]) -> None:
    mine, real = ours.MultiDict(start), theirs.MultiDict(start)
    for method, args in calls:
        results = [outcome(getattr(made, method), *args) for made in (mine, real)]
        assert results[0] == results[1]
        assert mine.multi_items() == real.multi_items()
        assert list(mine.items()) == list(real.items())


@bounded
@given(
    value=st.one_of(
        st.binary(max_size=20),
        st.text(alphabet="ab=&%+;ü2", max_size=20),
        pairs,
        st.dictionaries(st.one_of(st.integers(), st.text()), st.integers(), max_size=3),
    ),
    extra=st.dictionaries(st.sampled_from("abc"), st.integers(), max_size=2),
)
def test_any_query_params_are_the_same(value: Any, extra: dict[str, int]) -> None:
    mine, real = ours.QueryParams(value, **extra), theirs.QueryParams(value, **extra)
    assert mine.multi_items() == real.multi_items()
    assert list(mine.items()) == list(real.items())
    assert str(mine) == str(real)
