"""`TrustedHostMiddleware`: accepts known Host headers only (Starlette)."""

from __future__ import annotations

from collections.abc import Sequence

from fastws_compat.datastructures import URL, Headers, parse_host_header
from fastws_compat.responses import PlainTextResponse, RedirectResponse, Response
from fastws_compat.types import ASGIApp, Receive, Scope, Send
from fastws_compat.websockets import refuse_with

ENFORCE_DOMAIN_WILDCARD = "Domain wildcard patterns must be like '*.example.com'."


class TrustedHostMiddleware:
    """Refuses a handshake with 400 unless its Host header matches one of `allowed_hosts`.

    If only "www." is missing, the client is redirected instead. `get_asgi_application()` checks Django's
    `ALLOWED_HOSTS` first.
    """

    def __init__(
        self, app: ASGIApp, allowed_hosts: Sequence[str] | None = None, www_redirect: bool = True
    ) -> None:
        patterns = ["*"] if allowed_hosts is None else list(allowed_hosts)
        for pattern in patterns:
            if "*" in pattern[1:] or (pattern.startswith("*") and not f"{pattern}.".startswith("*.")):
                raise AssertionError(ENFORCE_DOMAIN_WILDCARD)
        self.app = app
        self.allowed_hosts = [pattern.lower() for pattern in patterns]
        self.allow_any = "*" in patterns
        self.www_redirect = www_redirect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self.allow_any or scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        parsed = parse_host_header(Headers(scope=scope).get("host"))
        host = None if parsed is None else parsed.host.lower()
        if host is not None and any(_matches(host, pattern) for pattern in self.allowed_hosts):
            await self.app(scope, receive, send)
        else:
            await refuse_with(self._refusal(host, scope), scope, receive, send)

    def _refusal(self, host: str | None, scope: Scope) -> Response:
        if host is not None and self.www_redirect and f"www.{host}" in self.allowed_hosts:
            url = URL(scope=scope)
            return RedirectResponse(str(url.replace(netloc=f"www.{url.netloc}")))
        return PlainTextResponse("Invalid host header", status_code=400)


def _matches(host: str, pattern: str) -> bool:
    return host == pattern or (pattern.startswith("*") and host.endswith(pattern[1:]))
