"""The handshake: the session and the user of the client that connects."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from django.apps import apps
from django.conf import settings
from django.contrib.auth import SESSION_KEY
from django.contrib.sessions.backends.base import SessionBase
from django.db import Error
from django.utils.functional import LazyObject, empty

from fastws_compat.connections.outcomes import refusal
from fastws_compat.connections.states import (
    IDENTIFIED_AT,
    JUDGED_USER,
    ORIGIN_CHECKED,
    RAISE_EXCEPTIONS,
    TURN,
)
from fastws_compat.logger import in_words, logger
from fastws_compat.logins.arrivals import owner
from fastws_compat.logins.batches import unavailable
from fastws_compat.logins.judge import is_session_of, may_log_in
from fastws_compat.logins.lookups import look_up, new_session
from fastws_compat.origins import objection
from fastws_compat.requests import HTTPConnection
from fastws_compat.types import Scope

T = TypeVar("T")


async def identify(scope: Scope) -> Scope:
    """The scope with cookies, session and user, under the keys of Channels' `AuthMiddlewareStack`.

    Unlike it, this keeps sessions whose hash was made with one of SECRET_KEY_FALLBACKS, and takes no thread
    for clients without a cookie. Without `django.contrib.auth` there is no user.
    Raises HTTPException(503) if the database fails, or the cache of the sessions.
    """
    begun = time.monotonic()
    identified = {**scope} if "session" in scope else _with_session(scope)
    identified[IDENTIFIED_AT] = begun
    if "user" not in identified and apps.is_installed("django.contrib.auth"):
        session = django_session(identified)
        has_key = session is not None and session.session_key
        turn = scope.get(TURN)
        user = (has_key and await or_refused(owner(session, turn))) or _anonymous_user()
        identified["user"] = identified[JUDGED_USER] = user
    return identified


def _anonymous_user() -> Any:
    from django.contrib.auth.models import AnonymousUser  # imports the models

    return AnonymousUser()


def _with_session(scope: Scope) -> Scope:
    cookies = scope["cookies"] if "cookies" in scope else HTTPConnection(scope).cookies
    session: Any = LazyObject()
    session._wrapped = new_session(cookies.get(settings.SESSION_COOKIE_NAME))
    return {**scope, "cookies": cookies, "session": session}


async def resolve(scope: Scope) -> None:
    """Add session and user to the scope of an app that runs without `get_asgi_application()`.

    There the origin has not been checked either. Raises HTTPException to refuse the handshake.
    """
    is_checked = ORIGIN_CHECKED in scope or RAISE_EXCEPTIONS in scope
    problem = None if is_checked else objection(scope)
    if problem is not None:
        logger.warning("WebSocket refused: %s", problem)
        raise refusal("origin", 403)
    identified = await identify(scope)
    names = ("cookies", "session", "user", JUDGED_USER)
    scope.update({name: identified[name] for name in names if name in identified})


async def loaded_user(user: Any) -> Any:
    """The user behind a lazy object, read from the database if necessary."""
    if not isinstance(user, LazyObject):
        return user
    if user.__dict__["_wrapped"] is empty:
        await from_database(user._setup)
    return user.__dict__["_wrapped"]


async def is_allowed(scope: Scope, user: Any, session: Any) -> bool:
    """Whether a user whom other code put into the scope may log in."""
    if session is None:
        allowed = may_log_in(user)  # needs no query
    else:
        allowed = await from_database(may_log_in, user, session)
    if allowed:
        scope[JUDGED_USER] = user
    return allowed


async def session_of(scope: Scope, user_id: str) -> Any:
    """The session that the user with this key is logged in to; None if the user is known by other means."""
    session = django_session(scope)
    if session is None:
        return None
    if not session.accessed:  # the code that found the user has usually read it
        await from_database(session.get, SESSION_KEY)
    return session if is_session_of(user_id, session) and session.session_key else None


def django_session(scope: Scope) -> Any:
    """Django's session in the scope, if there is one; Starlette's middleware leaves a dict there."""
    session = scope.get("session")
    session = getattr(session, "__dict__", {}).get("_wrapped", session)
    return session if isinstance(session, SessionBase) else None


async def from_database(call: Callable[..., Any], *arguments: Any) -> Any:
    """As `or_refused`, for a call in a thread."""
    return await or_refused(look_up(call, *arguments))


async def or_refused(work: Awaitable[T]) -> T:
    """The result of `work`. If the database or the cache of the sessions fails, one line is logged and the
    handshake refused with 503."""
    try:
        return await work
    except (Error, OSError) as exc:
        logger.error("WebSocket refused: the user cannot be identified (%s)", in_words(exc))
        raise unavailable()
