"""`Middleware`: an ASGI middleware class and the arguments for its constructor."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Concatenate, ParamSpec

from fastws_compat.porting import foreign

P = ParamSpec("P")


class Middleware:
    """An entry of `middleware=[...]`; unpacks to `cls, args, kwargs`."""

    # Any instead of ASGIApp: other libraries have their own types for the same shapes.
    def __init__(self, cls: Callable[Concatenate[Any, P], Any], *args: P.args, **kwargs: P.kwargs) -> None:
        foreign.refuse_call(cls, "Middleware()")
        if getattr(cls, "__module__", "").startswith(__name__):
            # A backend that derives from Starlette's class must not decide about access here.
            for value in (*args, *kwargs.values()):
                foreign.refuse(value, f"An argument of {cls.__name__}")
        #: The class of the middleware.
        self.cls = cls
        #: The positional arguments after the application.
        self.args = args
        #: The keyword arguments.
        self.kwargs = kwargs

    def __iter__(self) -> Iterator[Any]:
        return iter((self.cls, self.args, self.kwargs))

    def __repr__(self) -> str:
        options = [f"{name}={value!r}" for name, value in self.kwargs.items()]
        parts = [getattr(self.cls, "__name__", ""), *map(repr, self.args), *options]
        return f"{type(self).__name__}({', '.join(parts)})"
