"""The options of a route besides its limits: its messages, and what the documentation says about it."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any

from fastws_compat.dependencies.annotations import name_of
from fastws_compat.exceptions import DeclarationError
from fastws_compat.limits import OPTIONS as LIMITS
from fastws_compat.limits import LimitOptions
from fastws_compat.porting.http_only import OPERATION_OPTIONS, http_options


class RouteOptions(LimitOptions, total=False):
    """The options of `@websocket(...)`."""

    # The types of the messages of an endpoint with a plain WebSocket, for documentation only.
    receives: Any
    sends: Any
    # Of an endpoint with a TypedWebSocket: answer pings, and take JSON from binary frames.
    heartbeat: bool
    binary_json: bool
    # A MessageRouter whose functions `websocket.serve()` calls.
    handlers: Any
    # For the documentation.
    summary: str | None
    description: str | None
    tags: Sequence[str | Enum] | None
    deprecated: bool | None
    include_in_schema: bool


OPTIONS = RouteOptions.__annotations__.keys()
# The options that need a TypedWebSocket; routers have the second kind too, for their typed routes.
TYPED_ONLY = ("heartbeat", "binary_json", "handlers")
TYPED_LIMITS = ("on_invalid", "max_invalid")
MESSAGES = ("receives", "sends", *TYPED_ONLY, *TYPED_LIMITS)


def check_path(path: str) -> None:
    """DeclarationError if a decorator was written without parentheses: it would declare no route."""
    if callable(path):
        raise DeclarationError(
            f"The decorator of {name_of(path)} has no path: write it with one, as in '@websocket(\"/ws\")'."
        )


def check_route_options(options: Mapping[str, Any], function: str) -> None:
    """TypeError for an option that no WebSocket route has."""
    for unknown in sorted(options.keys() - OPTIONS):
        why = (
            "it describes HTTP operations, which stay with Django"
            if unknown in OPERATION_OPTIONS
            else f"the options of a route are {', '.join(OPTIONS)}"
        )
        raise TypeError(f"{function}() got an unexpected keyword argument {unknown!r}: {why}.")
    if isinstance(tags := options.get("tags"), str):  # each letter would be a tag
        raise TypeError(f"{function}() got tags={tags!r}: write a list, tags=[{tags!r}].")


def router_options(options: dict[str, Any], known: frozenset[str], function: str) -> dict[str, Any]:
    """The options that FastAPI has for HTTP; TypeError for any other, such as an option of a route."""
    for name in sorted(options.keys() & OPTIONS - known):
        place = "websocket(), APIRouter() or FastAPI()" if name in LIMITS else "websocket()"
        raise TypeError(
            f"{function}() got an unexpected keyword argument {name!r}: it is an option of {place}."
        )
    return http_options(options, known, function)


def has_message_options(options: Mapping[str, Any]) -> bool:
    """Whether an option says what the messages are, or what happens to invalid ones."""
    return any(options.get(name, False) is not False for name in MESSAGES)


class Described:
    """What the documentation says about a route."""

    #: One line about the route: the option, or the first paragraph of the endpoint's docstring.
    summary: str
    #: More about it: the option, or the rest of the docstring.
    description: str
    #: The tags under which the documentation lists it.
    tags: list[str | Enum]
    #: Whether the documentation marks it as deprecated.
    deprecated: bool | None
    #: Whether the documentation has it.
    include_in_schema: bool

    def describe(self, endpoint: Any, options: Mapping[str, Any]) -> None:
        """Take what the options say, and the rest from the docstring of the endpoint."""
        first, _, rest = (inspect.getdoc(endpoint) or "").partition("\n\n")
        self.summary = options.get("summary") or " ".join(first.split())
        self.description = options.get("description") or rest.strip()
        self.tags = list(options.get("tags") or [])
        self.deprecated = options.get("deprecated")
        self.include_in_schema = options.get("include_in_schema", True)

    def describe_as(self, other: Described) -> None:
        """Copy the description of another route."""
        self.summary, self.description, self.tags = other.summary, other.description, list(other.tags)
        self.deprecated, self.include_in_schema = other.deprecated, other.include_in_schema

    def inherit(self, outer: Mapping[str, Any]) -> None:
        """Add what a router says about all its routes; its tags come first."""
        self.tags[:0] = [tag for tag in outer.get("tags") or [] if tag not in self.tags]
        self.deprecated = self.deprecated or outer.get("deprecated")
        self.include_in_schema = self.include_in_schema and outer.get("include_in_schema", True)
