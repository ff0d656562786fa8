"""Which parts of an exception are logged; tests/servers/test_leaks.py runs sentry-sdk on both servers."""

from __future__ import annotations

import contextlib
import dataclasses
import logging
import traceback
from typing import Any

import pytest

from fastws_compat import WebSocket
from fastws_compat.connections.tracebacks import as_text, bare, flat, for_log
from fastws_compat.datastructures import URL, Headers, QueryParams
from fastws_compat.exceptions import WebSocketRequestValidationError
from fastws_compat.logger import QueryRemover
from fastws_compat.requests import HTTPConnection
from fastws_compat.security import HTTPAuthorizationCredentials
from fastws_compat.security.http import HTTPBasicCredentials

SECRET = "s3cret"
SCOPE = {
    "type": "websocket",
    "path": "/",
    "query_string": f"token={SECRET}".encode(),
    "headers": [(b"cookie", f"sessionid={SECRET}".encode()), (b"authorization", SECRET.encode())],
}


def socket() -> WebSocket:
    async def never(message: Any = None) -> Any: ...

    return WebSocket(dict(SCOPE), never, never)


def caught(call: Any, *args: Any) -> Exception:
    try:
        call(*args)
    except Exception as exc:
        return exc
    raise AssertionError("nothing was raised")


def modules(exc: BaseException) -> list[str]:
    return [frame.f_globals["__name__"] for frame, _ in traceback.walk_tb(exc.__traceback__)]


def test_frames_of_the_library_leave_and_those_of_others_stay_in_order() -> None:
    def outer() -> None:
        with contextlib.ExitStack():
            socket().headers["missing"]

    exc = caught(outer)
    assert "fastws_compat.datastructures.headers" in modules(exc)
    assert for_log(exc) is exc
    assert modules(exc) == [__name__, __name__]
    assert [frame.name for frame in traceback.extract_tb(exc.__traceback__)] == ["caught", "outer"]


def test_an_error_of_the_library_alone_says_where_it_was_raised() -> None:
    exc = caught(lambda: Headers()["missing"])
    exc.__traceback__ = exc.__traceback__.tb_next.tb_next  # type: ignore[union-attr]
    [note] = for_log(exc).__notes__
    assert exc.__traceback__ is None
    assert "headers.py" in note
    assert "__getitem__" in note


def test_causes_contexts_and_members_of_groups_lose_their_frames_too() -> None:
    def chained() -> None:
        try:
            Headers()["first"]
        except KeyError as first:
            try:
                raise ValueError from first
            except ValueError:
                Headers()["second"]

    exc = ExceptionGroup("both", [caught(chained), caught(lambda: QueryParams()["third"])])
    for_log(exc)
    assert not [name for name in modules_of_all(exc) if name.startswith("fastws_compat")]


def nested(depth: int) -> ExceptionGroup[Exception]:
    group = ExceptionGroup("innermost", [ValueError(0)])
    for level in range(1, depth):
        group = ExceptionGroup("nested", [ValueError(level), group])
    return group


def test_a_group_that_is_too_deep_to_be_formatted_is_logged_flat() -> None:
    cause = KeyError()
    exc = caught(raise_from, nested(2000), cause)
    logged = for_log(exc)
    assert isinstance(logged, ExceptionGroup)
    assert (logged.message, logged.__cause__) == ("nested", cause)
    assert [each.args[0] for each in logged.exceptions] == list(range(1999, -1, -1))
    assert "raise_from" in as_text(logged)
    assert flat(logged) is logged


def raise_from(exc: Exception, cause: Exception) -> None:
    raise exc from cause


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_a_deep_group_behind_an_exception_is_logged_flat(link: str) -> None:
    exc = ValueError("boom")
    setattr(exc, link, nested(2000))
    assert "nested (2000 sub-exceptions)" in as_text(for_log(exc))


def test_a_group_as_deep_as_python_prints_them_stays() -> None:
    exc = nested(10)
    assert for_log(exc) is exc
    assert for_log(nested(11)).exceptions[0].args == (10,)
    assert len(for_log(nested(11)).exceptions) == 11


def test_an_exception_that_many_groups_contain_is_logged_once() -> None:
    exc = ExceptionGroup("innermost", [ValueError()])
    for _ in range(200):
        exc = ExceptionGroup("twice", [exc, exc])
    assert len(for_log(exc).exceptions) == 1


def modules_of_all(exc: BaseException | None) -> list[str]:
    if exc is None:
        return []
    inner = [modules_of_all(item) for item in getattr(exc, "exceptions", ())]
    links = [modules_of_all(exc.__cause__), modules_of_all(exc.__context__)]
    return modules(exc) + [name for names in inner + links for name in names]


def test_an_exception_in_a_circle_of_causes_ends() -> None:
    first, second = ValueError(), ValueError()
    first.__cause__, second.__cause__ = second, first
    assert for_log(first).__cause__ is second


@pytest.mark.parametrize("link", ["__cause__", "__context__"])
def test_a_failed_validation_behind_an_exception_is_cut_off(link: str) -> None:
    exc = ValueError("boom")
    setattr(exc, link, WebSocketRequestValidationError([{"input": SECRET}]))
    assert SECRET not in as_text(for_log(exc))


def test_a_bare_exception_has_neither_frames_nor_causes() -> None:
    exc = caught(lambda: Headers()["missing"])
    exc.__context__ = ValueError(SECRET)
    assert as_text(bare(exc)) == "KeyError: 'missing'"


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Refuses every assignment to its attributes."""


def test_a_frozen_exception_loses_its_frames_and_causes() -> None:
    exc = Frozen().with_traceback(caught(lambda: Headers()["missing"]).__traceback__)
    exc.with_traceback(exc.__traceback__.tb_next.tb_next)  # type: ignore[union-attr]
    # As `raise ... from` does it, which does not ask the class.
    BaseException.__dict__["__cause__"].__set__(exc, WebSocketRequestValidationError([{"input": SECRET}]))
    assert for_log(exc) is exc
    assert (exc.__traceback__, exc.__cause__) == (None, None)
    BaseException.__dict__["__context__"].__set__(exc, ValueError(SECRET))
    assert SECRET not in as_text(bare(exc))


class Route:
    path = "/ws/{room}"


def test_a_connection_shows_its_route_and_id_only() -> None:
    websocket = socket()
    assert repr(websocket) == "<WebSocket>"
    websocket.scope["route"] = Route()
    websocket.scope["fastws_compat.session"] = type("Session", (), {"id": "4711"})()
    assert repr(websocket) == "<WebSocket /ws/{room} 4711>"
    assert repr(HTTPConnection(websocket.scope)) == "<HTTPConnection /ws/{room} 4711>"


@pytest.mark.parametrize(
    "value",
    [
        socket(),
        socket().headers,
        socket().cookies,
        socket().query_params,
        URL(f"ws://ann:{SECRET}@host/path?{SECRET}#{SECRET}"),
        HTTPAuthorizationCredentials(scheme="Bearer", credentials=SECRET),
        HTTPBasicCredentials(username="ann", password=SECRET),
        WebSocketRequestValidationError([{"input": SECRET}]),
    ],
)
def test_what_holds_secrets_shows_none_to_sentry(value: Any) -> None:
    shown = value.__sentry_repr__()
    assert type(value).__name__ in shown
    assert SECRET not in shown


def test_query_string_is_removed_from_uvicorns_line_and_no_other() -> None:
    def message(text: str, *args: Any) -> str:
        record = logging.LogRecord("uvicorn.error", logging.INFO, "", 0, text, args, None)
        assert QueryRemover().filter(record)
        return record.getMessage()

    refusal = message('%s - "WebSocket %s" %d', "host:1", f"/ws?a={SECRET}", 403)
    assert refusal == 'host:1 - "WebSocket /ws" 403'
    assert message("Started at %s as %s", "now", "/?") == "Started at now as /?"
    assert message("connection open") == "connection open"
    assert logging.getLogger("uvicorn.error").filters
