"""The user behind a message: loaded afresh, because the handshake may have been long ago."""

from __future__ import annotations

import copy
from typing import Any

from fastws_compat.connections.states import IDENTIFIED_AT, JUDGED_USER, LOGIN
from fastws_compat.logins import identify
from fastws_compat.logins.judge import Condition, user_key
from fastws_compat.logins.lookups import new_session
from fastws_compat.types import Scope
from fastws_compat.websockets import WebSocket

STALE = ("user", JUDGED_USER, IDENTIFIED_AT)


class _NotEntered:
    """The login for one message: what the message requires is not checked again while the socket is open."""

    def require(self, condition: Condition) -> None: ...


_NOT_ENTERED = _NotEntered()


async def with_fresh_user(websocket: WebSocket) -> WebSocket:
    """The same connection, with a scope whose user is loaded when a dependency asks for it."""
    found = copy.copy(websocket)
    found.scope = await _fresh(websocket.scope)
    return found


async def _fresh(scope: Scope) -> Scope:
    fresh = {name: value for name, value in scope.items() if name not in STALE}
    fresh[LOGIN] = _NOT_ENTERED
    session = identify.django_session(scope)
    if session is not None and session.session_key:
        fresh["session"] = new_session(session.session_key)
    user = await identify.loaded_user(scope.get("user"))
    if await _has_no_session(user, scope):
        fresh["user"] = await identify.from_database(_reloaded, user)
    return fresh


async def _has_no_session(user: Any, scope: Scope) -> bool:
    """Whether other code put a user into the scope, so that no session says who it is."""
    if not getattr(user, "is_authenticated", False):
        return False
    return not hasattr(user, "_meta") or await identify.session_of(scope, user_key(user)) is None


def _reloaded(user: Any) -> Any:
    """The user as now stored in the database; `AnonymousUser` if it no longer exists."""
    from django.contrib.auth.models import AnonymousUser

    if not hasattr(user, "_meta"):
        return user
    return type(user)._base_manager.using(user._state.db).filter(pk=user.pk).first() or AnonymousUser()
