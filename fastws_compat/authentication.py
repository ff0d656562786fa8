"""Starlette's users, credentials and `requires`. Projects with Django's users do not need them."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec

from fastws_compat.dependencies.annotations import UNEVALUATED
from fastws_compat.exceptions import DeclarationError
from fastws_compat.requests import HTTPConnection
from fastws_compat.websockets import WebSocket

P = ParamSpec("P")


class AuthenticationError(Exception):
    """The credentials in the handshake are wrong."""


class AuthCredentials:
    """The scopes that a connection was granted (`websocket.auth`)."""

    def __init__(self, scopes: Sequence[str] | None = None) -> None:
        #: The names of the scopes.
        self.scopes = list(scopes or ())


class BaseUser:
    """The interface of `websocket.user`."""

    @property
    def is_authenticated(self) -> bool:
        """Whether the client has identified itself."""
        raise NotImplementedError

    @property
    def display_name(self) -> str:
        """The name to show to people."""
        raise NotImplementedError

    @property
    def identity(self) -> str:
        """The value that tells this user from all others."""
        raise NotImplementedError


class SimpleUser(BaseUser):
    """A user with a name and nothing else."""

    def __init__(self, username: str) -> None:
        #: The name.
        self.username = username

    @property
    def is_authenticated(self) -> bool:
        return True

    @property
    def display_name(self) -> str:
        return self.username

    @property
    def identity(self) -> str:
        return self.username


class UnauthenticatedUser(BaseUser):
    """The user of a connection without credentials."""

    @property
    def is_authenticated(self) -> bool:
        return False

    @property
    def display_name(self) -> str:
        return ""

    @property
    def identity(self) -> str:
        return ""


class AuthenticationBackend:
    """Identifies the client: returns its credentials and user or None, or raises AuthenticationError."""

    async def authenticate(self, conn: HTTPConnection) -> tuple[AuthCredentials, BaseUser] | None:
        """Return the credentials and the user of a connection, or None for a visitor."""
        raise NotImplementedError


def has_required_scope(conn: HTTPConnection, scopes: Sequence[str]) -> bool:
    """Whether the credentials of a connection include all of the scopes."""
    return all(scope in conn.auth.scopes for scope in scopes)


def requires(
    scopes: str | Sequence[str], status_code: int = 403, redirect: str | None = None
) -> Callable[[Callable[P, Any]], Callable[P, Any]]:
    """Close the socket instead of calling the endpoint if its user lacks one of `scopes`.

    The endpoint's parameter must be named `websocket`. Closing a socket before accept refuses it with 403.
    `status_code` and `redirect` are for HTTP in Starlette and have no effect here.
    """
    needed = [scopes] if isinstance(scopes, str) else list(scopes)

    def decorate(func: Callable[P, Any]) -> Callable[P, Any]:
        position = _websocket_position(func)

        @functools.wraps(func)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
            websocket = kwargs.get("websocket", args[position] if position < len(args) else None)
            if not isinstance(websocket, WebSocket):
                raise AssertionError(
                    "Parameter with name 'websocket' is required to be of type 'WebSocket'"
                    f" not '{type(websocket).__name__}'"
                )
            if has_required_scope(websocket, needed):
                await func(*args, **kwargs)
            else:
                await websocket.close()

        return guarded

    return decorate


def _websocket_position(func: Callable[..., Any]) -> int:
    names = list(inspect.signature(func, **UNEVALUATED).parameters)
    if "request" in names and "websocket" not in names:
        raise DeclarationError(
            f"requires() guards sockets, but {func.__qualname__} takes a request, and HTTP is Django's: use "
            "a decorator of django.contrib.auth.decorators."
        )
    if "websocket" not in names:
        raise Exception(f'No "request" or "websocket" argument on function "{func}"')
    return names.index("websocket")
