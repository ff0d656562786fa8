"""`SessionMiddleware`: `websocket.session` is Django's session."""

from __future__ import annotations

from typing import Any

from fastws_compat.exceptions import HTTPException
from fastws_compat.porting.http_only import SESSION_OPTIONS, http_options
from fastws_compat.types import ASGIApp, Receive, Scope, Send


class SessionMiddleware:
    """Makes Django's session `websocket.session`, where `get_asgi_application()` has not done it before.

    Starlette's options are accepted and have no effect: Django's `SECRET_KEY` and `SESSION_...` settings say
    how its sessions are kept. As in Starlette, what a socket changes is not saved by itself;
    `await websocket.session.asave()` saves it.
    """

    def __init__(self, app: ASGIApp, secret_key: Any = None, **options: Any) -> None:
        http_options(options, SESSION_OPTIONS, "SessionMiddleware.__init__")
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "websocket" and not await _has_session(scope, send):
            return
        await self.app(scope, receive, send)


async def _has_session(scope: Scope, send: Send) -> bool:
    """Put the session, read from its store, into the scope; False if the handshake is refused instead."""
    from fastws_compat.connections.refusal import refuse
    from fastws_compat.logins.identify import resolve

    try:
        if "session" not in scope:
            await resolve(scope)
    except HTTPException as exc:
        await refuse(scope, send, exc.status_code)
        return False
    session = scope["session"]
    if hasattr(session, "aget"):
        await session.aget("")  # what is read here, the endpoint can read without `await`
    return True
