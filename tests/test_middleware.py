"""`Middleware`, with the real one beside it."""

from __future__ import annotations

from functools import partial
from typing import Any

import pytest
from starlette.middleware import Middleware as Theirs

from fastws_compat.logger import logger
from fastws_compat.middleware import Middleware


class Tag:
    def __init__(self, app: Any, *words: str, **options: Any) -> None:
        self.app = app


@pytest.mark.parametrize("kind", [Middleware, Theirs])
def test_middleware_unpacks(kind: Any) -> None:
    cls, args, kwargs = kind(Tag, "a", "b", size=1)
    assert (cls, args, kwargs) == (Tag, ("a", "b"), {"size": 1})


@pytest.mark.parametrize("kind", [Middleware, Theirs])
@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ((Tag,), {}, "Middleware(Tag)"),
        ((Tag, "a", 1), {"size": None}, "Middleware(Tag, 'a', 1, size=None)"),
        ((partial(Tag), "a"), {}, "Middleware(, 'a')"),
    ],
)
def test_middleware_repr(kind: Any, args: Any, kwargs: Any, expected: str) -> None:
    assert repr(kind(*args, **kwargs)) == expected


def test_logger_is_named_after_the_package() -> None:
    assert logger.name == "fastws_compat"
