"""`HTTPSRedirectMiddleware`: accepts encrypted connections only (Starlette)."""

from __future__ import annotations

from fastws_compat.datastructures import URL
from fastws_compat.responses import PlainTextResponse, RedirectResponse, Response
from fastws_compat.types import ASGIApp, Receive, Scope, Send
from fastws_compat.websockets import refuse_with

SECURE = {"http": "https", "ws": "wss"}


class HTTPSRedirectMiddleware:
    """Redirects (307) an unencrypted handshake to the same URL with `wss:`."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket") and scope["scheme"] in SECURE:
            await refuse_with(_redirect(URL(scope=scope)), scope, receive, send)
        else:
            await self.app(scope, receive, send)


def _redirect(url: URL) -> Response:
    if not url.netloc:
        return PlainTextResponse("Invalid host header", status_code=400)
    netloc = url.hostname if url.port in (80, 443) else url.netloc
    return RedirectResponse(url.replace(scheme=SECURE[url.scheme], netloc=netloc), status_code=307)
