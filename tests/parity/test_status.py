"""The names of status and close codes in both libraries."""

from __future__ import annotations

import warnings
from typing import Any

import pytest
from starlette import status as theirs

from fastws_compat import status as ours


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("HTTP_101_SWITCHING_PROTOCOLS", 101),
        ("HTTP_403_FORBIDDEN", 403),
        ("HTTP_418_IM_A_TEAPOT", 418),
        ("WS_1000_NORMAL_CLOSURE", 1000),
        ("WS_1005_NO_STATUS_RCVD", 1005),
        ("WS_1008_POLICY_VIOLATION", 1008),
        ("WS_1011_INTERNAL_ERROR", 1011),
        ("WS_1015_TLS_HANDSHAKE", 1015),
    ],
)
def test_code_by_name(lib: Any, name: str, code: int) -> None:
    assert getattr(lib.module("starlette.status"), name) == code


def test_every_name_is_here_and_no_other() -> None:
    imported: dict[str, Any] = {}
    exec("from fastws_compat.status import *", imported)
    del imported["__builtins__"]
    # pytest rewrites the modules of an installed plugin and adds its own names to them.
    imported = {name: value for name, value in imported.items() if not name.startswith("@")}
    assert imported == {name: getattr(theirs, name) for name in theirs.__all__}
    assert [name for name in dir(ours) if not name.startswith("@")] == dir(theirs)


@pytest.mark.parametrize(
    ("name", "code", "instead"),
    [
        ("HTTP_413_REQUEST_ENTITY_TOO_LARGE", 413, "HTTP_413_CONTENT_TOO_LARGE"),
        ("HTTP_414_REQUEST_URI_TOO_LONG", 414, "HTTP_414_URI_TOO_LONG"),
        ("HTTP_416_REQUESTED_RANGE_NOT_SATISFIABLE", 416, "HTTP_416_RANGE_NOT_SATISFIABLE"),
        ("HTTP_422_UNPROCESSABLE_ENTITY", 422, "HTTP_422_UNPROCESSABLE_CONTENT"),
    ],
)
def test_old_name_warns(lib: Any, name: str, code: int, instead: str) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert getattr(lib.module("starlette.status"), name) == code
    assert [str(warning.message) for warning in caught] == [
        f"'{name}' is deprecated. Use '{instead}' instead."
    ]
    assert [warning.category.__name__ for warning in caught] == ["StarletteDeprecationWarning"]
    assert issubclass(caught[0].category, UserWarning)


def test_unknown_name(lib: Any) -> None:
    with pytest.raises(AttributeError, match=r"^module '\w+\.status' has no attribute 'HTTP_999'$"):
        lib.module("starlette.status").HTTP_999
