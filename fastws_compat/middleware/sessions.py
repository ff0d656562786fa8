"""`SessionMiddleware`: `websocket.session` is Django's session."""

from __future__ import annotations

from typing import Any

from fastws_compat.connections.outcomes import reason_of
from fastws_compat.connections.refusal import refuse
from fastws_compat.exceptions import HTTPException
from fastws_compat.porting.http_only import SESSION_OPTIONS, http_options
from fastws_compat.types import ASGIApp, Receive, Scope, Send


class SessionMiddleware:
    """Sets `websocket.session` to Django's session, unless `get_asgi_application()` has already done so.

    Starlette's options are accepted and have no effect: Django's `SECRET_KEY` and `SESSION_...` settings
    apply. As in Starlette, changes made in a socket are not saved automatically; call
    `await websocket.session.asave()`.
    """

    def __init__(self, app: ASGIApp, secret_key: Any = None, **options: Any) -> None:
        http_options(options, SESSION_OPTIONS, "SessionMiddleware.__init__")
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not await _has_session(scope, send):
            return
        await self.app(scope, receive, send)


async def _has_session(scope: Scope, send: Send) -> bool:
    """Load the session into the scope; False if the handshake was refused instead."""
    from fastws_compat.logins.identify import resolve

    try:
        if "session" not in scope:
            await resolve(scope)
    except HTTPException as exc:
        await refuse(scope, send, exc.status_code, reason=reason_of(exc))
        return False
    session = scope["session"]
    if hasattr(session, "aget"):
        await session.aget("")  # loads the data, so that the endpoint can read it without `await`
    return True
