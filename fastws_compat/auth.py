"""Django's users and permissions as dependencies; a socket is closed when what it was opened by ends.

CurrentUser = Annotated[User, Depends(login_required)]

@app.websocket("/ws/ops", dependencies=[Depends(staff_member_required)])
"""

from __future__ import annotations

import functools
import time
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any

from asgiref.sync import async_to_sync

from fastws_compat.connections.closing import close_code, close_reason
from fastws_compat.connections.lifecycle import Session
from fastws_compat.connections.states import RAISE_EXCEPTIONS, SESSION
from fastws_compat.exceptions import HTTPException
from fastws_compat.logger import logger
from fastws_compat.logins import registry as logins
from fastws_compat.logins import session_names, tenants
from fastws_compat.logins.judge import LOGGED_OUT, Condition, may_log_in, owner_of, user_key
from fastws_compat.logins.lookups import forgetting, look_up, new_session
from fastws_compat.origins import CHECKED, objection
from fastws_compat.param_functions import Depends
from fastws_compat.requests import HTTPConnection
from fastws_compat.types import Scope
from fastws_compat.websockets import WebSocket

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser

Test = Callable[[Any], Any]
Dependency = Callable[..., Awaitable[Any]]

# The user of the scope of whom it is known that they may log in.
_JUDGED = "fastws_compat.judged"


async def get_user(websocket: WebSocket) -> AbstractBaseUser | AnonymousUser:
    """The user of Django's session, or `AnonymousUser`; when the login ends, the socket is closed.

    A user whom somebody else has put into the scope is judged as in every later round: an inactive one,
    of a token say, is nobody.
    """
    scope = websocket.scope
    if "user" not in scope:
        await resolve(scope)
    user = await _loaded(websocket.user)
    if not user.is_authenticated or (logins.LOGIN in scope and scope.get(_JUDGED) is user):
        return user  # type: ignore[no-any-return]
    session = await _session_of(scope, user) if _is_of_django(user) else None
    session_key = None if session is None else session.session_key
    if scope.get(_JUDGED) is not user and not await _may_log_in(scope, user, session_key):
        return _nobody(scope)
    if logins.LOGIN not in scope and _is_of_django(user):
        name = None if session is None else session_names.name_of(session)
        logins.keep(websocket, user_key(user), session_key, name, await tenants.locate(user))
    return user  # type: ignore[no-any-return]


async def _may_log_in(scope: Scope, user: Any, session_key: str | None) -> bool:
    if session_key is None:
        allowed = may_log_in(user)  # asks the user alone
    else:
        allowed = await _of_database(may_log_in, user, _django_session(scope))
    if allowed:
        scope[_JUDGED] = user
    return allowed


def _nobody(scope: Scope) -> AnonymousUser:
    from django.contrib.auth.models import AnonymousUser

    nobody = scope["user"] = AnonymousUser()
    return nobody


async def login_required(websocket: WebSocket) -> AbstractBaseUser:
    """The user; 401 if nobody is logged in."""
    user: Any = await get_user(websocket)
    if not user.is_authenticated:
        raise _refusal(websocket, 401)
    return user  # type: ignore[no-any-return]


def user_passes_test(test: Test) -> Dependency:
    """A dependency: the user if `test(user)`, sync or async, holds; else 401 for nobody and 403.

    The test is made again while the socket is open.
    """
    return _named(_demand(Condition(test, is_own=True)), "user_passes_test", getattr(test, "__name__", test))


async def staff_member_required(websocket: WebSocket) -> AbstractBaseUser:
    """The user if the Django admin is open to them, which needs `is_active` and `is_staff`."""
    return await _meets(websocket, STAFF)  # type: ignore[no-any-return]


async def superuser_required(websocket: WebSocket) -> AbstractBaseUser:
    """The user if they are an active superuser."""
    return await _meets(websocket, SUPERUSER)  # type: ignore[no-any-return]


STAFF = Condition(lambda user: user.is_active and getattr(user, "is_staff", False), queries=False)
SUPERUSER = Condition(lambda user: user.is_active and getattr(user, "is_superuser", False), queries=False)


def permission_required(
    perm: str | Iterable[str], raise_exception: bool = False, *, obj: Callable[..., Any] | None = None
) -> Dependency:
    """A dependency: the user if they have the permission, or all of several; else 401 for nobody and 403.

    With `raise_exception`, as in Django, nobody gets 403 too. `obj` is a dependency that gives the object
    for the backends' object permissions. Equal calls give the same dependency.
    """
    perms = (perm,) if isinstance(perm, str) else tuple(perm)
    return _permission_required(perms, raise_exception, obj)


@functools.cache
def _permission_required(
    perms: tuple[str, ...], raise_exception: bool, obj: Callable[..., Any] | None
) -> Dependency:
    anonymous = 403 if raise_exception else 401
    if obj is None:
        demand = _demand(Condition(lambda user: user.has_perms(perms)), anonymous)
    else:
        demand = _demand_for_object(perms, anonymous, obj)
    return _named(demand, "permission_required", *perms)


def _demand(condition: Condition, anonymous: int = 401) -> Dependency:
    async def demand(websocket: WebSocket) -> Any:
        return await _meets(websocket, condition, anonymous)

    return demand


def _demand_for_object(perms: tuple[str, ...], anonymous: int, obj: Callable[..., Any]) -> Dependency:
    async def demand(websocket: WebSocket, subject: Any = Depends(obj)) -> Any:
        condition = Condition(lambda user: user.has_perms(perms, subject))
        return await _meets(websocket, condition, anonymous)

    return demand


def _named(dependency: Dependency, name: str, *arguments: Any) -> Dependency:
    dependency.__name__ = f"{name}({', '.join(map(str, arguments))})"
    dependency.__qualname__ = dependency.__name__
    return dependency


async def _meets(websocket: WebSocket, condition: Condition, anonymous: int = 401) -> Any:
    """The user, who has to meet the condition from now on."""
    user = await get_user(websocket)
    if not await _holds(condition, user):
        raise _refusal(websocket, 403 if user.is_authenticated else anonymous)
    login = websocket.scope.get(logins.LOGIN)
    if login is not None:
        login.ask(condition)
    return user


def _refusal(websocket: WebSocket, status: int) -> HTTPException:
    """What to raise; the log says to whom."""
    session: Session | None = websocket.scope.get(SESSION)
    if session is not None:
        extra = session.extra
        logger.info("WebSocket %s: the user may not connect (%d)", extra["route"], status, extra=extra)
    return HTTPException(status)


async def _holds(condition: Condition, user: Any) -> bool:
    if condition.is_async:
        return bool(await forgetting(condition.test(user)))
    if not condition.queries:
        return bool(condition.test(user))
    return bool(await _of_database(condition.test, user))


# Whose connection it is


async def identify(scope: Scope) -> Scope:
    """The scope with cookies, session and user, under the names of Channels' `AuthMiddlewareStack`.

    That one would end a session whose hash was made with one of SECRET_KEY_FALLBACKS, and goes through a
    thread for clients without a cookie too. A project without `django.contrib.auth` has no users.
    Raises HTTPException(503) if the database does not answer.
    """
    from django.apps import apps

    begun = time.monotonic()
    identified = {**scope} if "session" in scope else _with_session(scope)
    identified[logins.IDENTIFIED_AT] = begun
    if "user" not in identified and apps.is_installed("django.contrib.auth"):
        from django.contrib.auth.models import AnonymousUser

        session = _django_session(identified)
        known = session is not None and session.session_key
        identified["user"] = (known and await _of_database(owner_of, session)) or AnonymousUser()
        identified[_JUDGED] = identified["user"]
    return identified


def _with_session(scope: Scope) -> Scope:
    from django.conf import settings
    from django.utils.functional import LazyObject

    cookies = scope["cookies"] if "cookies" in scope else HTTPConnection(scope).cookies
    session: Any = LazyObject()
    session._wrapped = new_session(cookies.get(settings.SESSION_COOKIE_NAME))
    return {**scope, "cookies": cookies, "session": session}


async def resolve(scope: Scope) -> None:
    """Find the user where nobody has before: the app stands alone, and so its origins are unchecked too."""
    problem = None if CHECKED in scope or RAISE_EXCEPTIONS in scope else objection(scope)
    if problem is not None:
        logger.warning("WebSocket refused: %s", problem)
        raise HTTPException(403)
    identified = await identify(scope)
    names = ("cookies", "session", "user", _JUDGED)
    scope.update({name: identified[name] for name in names if name in identified})


async def _loaded(user: Any) -> Any:
    """The user behind a lazy object, which may still have to be fetched."""
    from django.utils.functional import LazyObject, empty

    if not isinstance(user, LazyObject):
        return user
    if user.__dict__["_wrapped"] is empty:
        await _of_database(user._setup)
    return user.__dict__["_wrapped"]


def _is_of_django(user: Any) -> bool:
    from django.contrib.auth import get_user_model

    return isinstance(user, get_user_model())


async def _session_of(scope: Scope, user: Any) -> Any:
    """The session that the user is logged in to; None if something else told who it is."""
    from django.contrib.auth import SESSION_KEY

    session = _django_session(scope)
    if session is None:
        return None
    # Whoever found the user has read the session already, as a rule.
    named = session.get(SESSION_KEY) if session.accessed else await _of_database(session.get, SESSION_KEY)
    return session if str(named) == user_key(user) and session.session_key else None


def _django_session(scope: Scope) -> Any:
    """The session of Django's; Starlette's middleware leaves a dict there."""
    from django.contrib.sessions.backends.base import SessionBase

    session = scope.get("session")
    session = getattr(session, "__dict__", {}).get("_wrapped", session)
    return session if isinstance(session, SessionBase) else None


async def _of_database(call: Callable[..., Any], *arguments: Any) -> Any:
    """What `call` gives; a database that fails it refuses the handshake, in one line of the log."""
    from django.db import Error

    try:
        return await look_up(call, *arguments)
    except (Error, OSError) as exc:
        logger.error("WebSocket refused: who connects cannot be told (%s: %s)", type(exc).__name__, exc)
        raise HTTPException(503)


# Ends by hand


def disconnect_user(
    user: Any, session_key: str | None = None, code: int = LOGGED_OUT, reason: str = ""
) -> None:
    """Close the sockets that this user (or primary key) has open, in every process; or those of one session.

    Only sockets whose routes use a dependency of this module are known.
    """
    if _in_event_loop():
        raise RuntimeError("disconnect_user() was called in an event loop: await adisconnect_user() there.")
    async_to_sync(logins.apublish)(_end(user, session_key, code, reason))


async def adisconnect_user(
    user: Any, session_key: str | None = None, code: int = LOGGED_OUT, reason: str = ""
) -> None:
    """As `disconnect_user`, for async code."""
    await logins.apublish(_end(user, session_key, code, reason))


def _end(user: Any, session_key: str | None, code: int, reason: str) -> dict[str, Any]:
    known = hasattr(user, "_meta")
    key = user_key(user) if known else str(user)
    tenant = tenants.tenant_of(user) if known else tenants.current_tenant()
    if session_key is None:
        return logins.end(key, None, close_code(code), close_reason(reason), tenant)
    name = session_names.name_of_key(session_key) or session_key
    return logins.end(key, logins.session_digest(name), close_code(code), close_reason(reason), tenant)


def _in_event_loop() -> bool:
    import asyncio

    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
