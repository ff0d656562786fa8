"""`BaseHTTPMiddleware`, which does not affect WebSockets (Starlette)."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, MutableMapping
from typing import Any

from fastws_compat.logger import logger
from fastws_compat.requests import Request
from fastws_compat.responses import Content, Response
from fastws_compat.types import ASGIApp, Receive, Scope, Send

RequestResponseEndpoint = Callable[[Request], Awaitable[Response]]
DispatchFunction = Callable[[Request, RequestResponseEndpoint], Awaitable[Response]]
BodyStreamGenerator = AsyncGenerator[bytes | MutableMapping[str, Any], None]
AsyncContentStream = AsyncIterable[Content | MutableMapping[str, Any]]


class BaseHTTPMiddleware:
    """A middleware whose `dispatch` is for HTTP only; WebSockets pass through unchanged, as in Starlette.

    HTTP stays with Django. An HTTP request that reaches this middleware is refused, so that it cannot bypass
    a check in `dispatch`.
    """

    def __init__(self, app: ASGIApp, dispatch: DispatchFunction | None = None) -> None:
        self.app = app
        self.dispatch_func = self.dispatch if dispatch is None else dispatch

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            logger.warning(
                "HTTP request refused: %s serves HTTP, which stays with Django", type(self).__name__
            )
            await Response("Not Found", 404, media_type="text/plain")(scope, receive, send)
        else:
            await self.app(scope, receive, send)

    async def dispatch(self, request: Request, call_next: RequestResponseEndpoint) -> Response:
        raise NotImplementedError
