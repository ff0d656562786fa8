"""`AuthenticationMiddleware`: `websocket.user` and `websocket.auth` from a backend (Starlette)."""

from __future__ import annotations

from collections.abc import Callable

from fastws_compat.authentication import (
    AuthCredentials,
    AuthenticationBackend,
    AuthenticationError,
    UnauthenticatedUser,
)
from fastws_compat.porting import foreign
from fastws_compat.requests import HTTPConnection
from fastws_compat.responses import PlainTextResponse, Response
from fastws_compat.types import ASGIApp, Receive, Scope, Send
from fastws_compat.websockets import WebSocketClose

OnError = Callable[[HTTPConnection, AuthenticationError], Response]


class AuthenticationMiddleware:
    """Sets `websocket.auth` and `websocket.user` to what `backend.authenticate()` returns.

    This user replaces Django's. When the backend raises AuthenticationError, the handshake is refused
    with 403; the response of `on_error` is sent to HTTP clients only.
    """

    def __init__(self, app: ASGIApp, backend: AuthenticationBackend, on_error: OnError | None = None) -> None:
        foreign.refuse(backend, "The backend of AuthenticationMiddleware")
        self.app = app
        self.backend = backend
        self.on_error: OnError = self.default_on_error if on_error is None else on_error

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        conn = HTTPConnection(scope)
        try:
            result = await self.backend.authenticate(conn)
        except Exception as exc:
            error = foreign.twin(exc) or exc
            if not isinstance(error, AuthenticationError):
                raise
            response = self.on_error(conn, error)
            await (WebSocketClose() if scope["type"] == "websocket" else response)(scope, receive, send)
            return
        scope["auth"], scope["user"] = result or (AuthCredentials(), UnauthenticatedUser())
        await self.app(scope, receive, send)

    @staticmethod
    def default_on_error(conn: HTTPConnection, exc: Exception) -> Response:
        return PlainTextResponse(str(exc), status_code=400)
