"""The attributes of a response that refuses a handshake, and its messages, in both libraries."""

from __future__ import annotations

import asyncio
import datetime
import re
from typing import Any

import pytest

from tests.fake_server import FakeServer

Headers = list[tuple[bytes, bytes]]


def messages_of(response: Any, kind: str) -> list[dict[str, Any]]:
    server = FakeServer()
    asyncio.run(response({"type": kind}, None, server.send))
    return server.sent


CASES: list[tuple[str, tuple[Any, ...], dict[str, Any], bytes, Headers]] = [
    ("Response", (), {}, b"", [(b"content-length", b"0")]),
    ("Response", (b"\xff",), {}, b"\xff", [(b"content-length", b"1")]),
    ("Response", ("ü",), {}, "ü".encode(), [(b"content-length", b"2")]),
    ("Response", (memoryview(b"abc"),), {}, b"abc", [(b"content-length", b"3")]),
    ("Response", (memoryview(b"abcd")[::2],), {}, b"ac", [(b"content-length", b"2")]),
    ("Response", (), {"status_code": 204}, b"", []),
    ("Response", (), {"status_code": 304}, b"", []),
    ("Response", (), {"status_code": 100}, b"", []),
    (
        "Response",
        ("x",),
        {"media_type": "text/csv"},
        b"x",
        [(b"content-length", b"1"), (b"content-type", b"text/csv; charset=utf-8")],
    ),
    (
        "Response",
        ("x",),
        {"media_type": "text/csv; Charset=ascii"},
        b"x",
        [(b"content-length", b"1"), (b"content-type", b"text/csv; Charset=ascii")],
    ),
    (
        "Response",
        ("x",),
        {"media_type": "image/png"},
        b"x",
        [(b"content-length", b"1"), (b"content-type", b"image/png")],
    ),
    (
        "PlainTextResponse",
        ("no",),
        {"status_code": 401, "headers": {"WWW-Authenticate": "Bearer"}},
        b"no",
        [
            (b"www-authenticate", b"Bearer"),
            (b"content-length", b"2"),
            (b"content-type", b"text/plain; charset=utf-8"),
        ],
    ),
    (
        "PlainTextResponse",
        ("no",),
        {"headers": {"Content-Type": "a/b", "CONTENT-LENGTH": "9"}},
        b"no",
        [(b"content-type", b"a/b"), (b"content-length", b"9")],
    ),
    (
        "HTMLResponse",
        ("<p>",),
        {},
        b"<p>",
        [(b"content-length", b"3"), (b"content-type", b"text/html; charset=utf-8")],
    ),
    (
        "JSONResponse",
        ({"a": ["ü", None, 1.5]},),
        {"status_code": 400},
        '{"a":["ü",null,1.5]}'.encode(),
        [(b"content-length", b"21"), (b"content-type", b"application/json")],
    ),
    (
        "JSONResponse",
        (None,),
        {"media_type": "application/problem+json"},
        b"null",
        [(b"content-length", b"4"), (b"content-type", b"application/problem+json")],
    ),
    (
        "RedirectResponse",
        ("/a b?c=ü#d%20",),
        {},
        b"",
        [(b"content-length", b"0"), (b"location", b"/a%20b?c=%C3%BC#d%20")],
    ),
    (
        "RedirectResponse",
        ("https://u:p@[::1]/;*",),
        {"status_code": 303, "headers": {"location": "x", "a": "b"}},
        b"",
        [(b"location", b"https://u:p@[::1]/;*"), (b"a", b"b"), (b"content-length", b"0")],
    ),
]


@pytest.mark.parametrize(("name", "args", "kwargs", "body", "headers"), CASES)
@pytest.mark.parametrize(
    ("kind", "prefix"), [("http", "http.response"), ("websocket", "websocket.http.response")]
)
def test_messages(
    lib: Any, name: str, args: Any, kwargs: Any, body: bytes, headers: Headers, kind: str, prefix: str
) -> None:
    start, end = messages_of(getattr(lib, name)(*args, **kwargs), kind)
    status = kwargs.get("status_code", 307 if name == "RedirectResponse" else 200)
    assert start == {"type": f"{prefix}.start", "status": status, "headers": headers}
    assert end["type"] == f"{prefix}.body"
    assert bytes(end["body"]) == body
    assert not end.get("more_body", False)


def test_redirect_to_a_url_object(lib: Any) -> None:
    assert lib.RedirectResponse(lib.URL("wss://h/a")).headers["location"] == "wss://h/a"


@pytest.mark.parametrize("content", [float("nan"), float("inf"), [float("-inf")]])
def test_json_without_infinity(lib: Any, content: Any) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        lib.JSONResponse(content)


def test_json_needs_content(lib: Any) -> None:
    with pytest.raises(TypeError):
        lib.JSONResponse()


def test_headers_write_through(lib: Any) -> None:
    response = lib.Response("x")
    response.headers["X-A"] = "1"
    response.headers["content-length"] = "5"
    assert response.raw_headers == [(b"content-length", b"5"), (b"x-a", b"1")]
    assert response.headers is response.headers


def test_own_class_renders(lib: Any) -> None:
    class Loud(lib.PlainTextResponse):  # type: ignore[misc]
        charset = "latin-1"

        def render(self, content: Any) -> bytes:
            return super().render(content.upper())  # type: ignore[no-any-return]

    response = Loud("ü")
    assert response.body == b"\xdc"
    assert response.headers["content-type"] == "text/plain; charset=latin-1"
    assert response.headers["content-length"] == "1"


def test_body_that_is_set_later(lib: Any) -> None:
    class Late(lib.Response):  # type: ignore[misc]
        def __init__(self) -> None:
            self.status_code = 200
            self.init_headers()

    assert Late().raw_headers == []


UTC = datetime.UTC
SET_COOKIES: list[tuple[dict[str, Any], str]] = [
    ({}, "k=v; Path=/; SameSite=lax"),
    ({"value": ""}, 'k=""; Path=/; SameSite=lax'),
    ({"value": 'a;b "c"'}, 'k="a\\073b \\"c\\""; Path=/; SameSite=lax'),
    ({"max_age": 10}, "k=v; Max-Age=10; Path=/; SameSite=lax"),
    ({"max_age": 0}, "k=v; Max-Age=0; Path=/; SameSite=lax"),
    ({"path": None}, "k=v; SameSite=lax"),
    ({"path": "/a", "domain": "d.org"}, "k=v; Domain=d.org; Path=/a; SameSite=lax"),
    ({"secure": True, "httponly": True}, "k=v; HttpOnly; Path=/; SameSite=lax; Secure"),
    ({"samesite": None}, "k=v; Path=/"),
    ({"samesite": "Strict"}, "k=v; Path=/; SameSite=Strict"),
    ({"expires": "soon"}, "k=v; expires=soon; Path=/; SameSite=lax"),
    (
        {"expires": datetime.datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)},
        "k=v; expires=Wed, 02 Jan 2030 03:04:05 GMT; Path=/; SameSite=lax",
    ),
]


@pytest.mark.parametrize(("options", "expected"), SET_COOKIES)
def test_set_cookie(lib: Any, options: dict[str, Any], expected: str) -> None:
    response = lib.Response()
    response.set_cookie("k", **{"value": "v", **options})
    assert response.headers.getlist("set-cookie") == [expected]


def test_cookie_that_expires_in_seconds(lib: Any) -> None:
    response = lib.Response()
    response.set_cookie("k", "v", expires=60)
    date = r"\w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT"
    assert re.fullmatch(f"k=v; expires={date}; Path=/; SameSite=lax", response.headers["set-cookie"])


def test_two_cookies_are_two_headers(lib: Any) -> None:
    response = lib.Response()
    response.set_cookie("a", "1")
    response.delete_cookie("b", path="/x", domain="d", secure=True, httponly=True, samesite="none")
    first, second = response.headers.getlist("set-cookie")
    assert first == "a=1; Path=/; SameSite=lax"
    pattern = 'b=""; Domain=d; expires=[^;]+ GMT; HttpOnly; Max-Age=0; Path=/x; SameSite=none; Secure'
    assert re.fullmatch(pattern, second)


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"samesite": "loose"}, AssertionError),
        ({"expires": datetime.datetime(2030, 1, 1)}, ValueError),
        ({"value": "☃"}, UnicodeEncodeError),
        ({"domain": "☃"}, UnicodeEncodeError),
    ],
)
def test_cookie_that_cannot_be_set(lib: Any, options: dict[str, Any], error: type[Exception]) -> None:
    response = lib.Response()
    with pytest.raises(error):
        response.set_cookie("k", **options)
    assert "set-cookie" not in response.headers


def test_background_runs_after_the_body(lib: Any) -> None:
    order: list[str] = []

    async def task() -> None:
        order.append("task")

    async def note(message: dict[str, Any]) -> None:
        order.append(message["type"])

    server = FakeServer(on_send=note)
    response = lib.PlainTextResponse("x", background=lib.module("starlette.background").BackgroundTask(task))
    asyncio.run(response({"type": "websocket"}, None, server.send))
    assert order == ["websocket.http.response.start", "websocket.http.response.body", "task"]
