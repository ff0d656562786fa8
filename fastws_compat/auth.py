"""Django's users and permissions as dependencies; when the login behind a socket ends, the socket is closed.

CurrentUser = Annotated[User, Depends(login_required)]

@app.websocket("/ws/ops", dependencies=[Depends(staff_member_required)])
"""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from asgiref.sync import async_to_sync
from django.core.exceptions import ImproperlyConfigured

from fastws_compat.connections.admission import Turn
from fastws_compat.connections.closing import close_code, close_reason
from fastws_compat.connections.lifecycle import Session
from fastws_compat.connections.outcomes import refusal
from fastws_compat.connections.states import JUDGED_USER, LOGIN, SESSION, TURN
from fastws_compat.exceptions import HTTPException
from fastws_compat.logger import logger
from fastws_compat.logins import arrivals, identify, registry, remote, session_names, tenants
from fastws_compat.logins.judge import LOGGED_OUT, Condition, user_key, user_model
from fastws_compat.logins.lookups import in_discarded_context
from fastws_compat.param_functions import Depends
from fastws_compat.types import Scope
from fastws_compat.websockets import WebSocket

if TYPE_CHECKING:
    from django.contrib.auth.base_user import AbstractBaseUser
    from django.contrib.auth.models import AnonymousUser

Test = Callable[[Any], Any]
Dependency = Callable[..., Awaitable[Any]]
F = TypeVar("F", bound=Callable[..., Any])


def _guard(dependency: F) -> F:
    """Mark a dependency, so that a parameter that names it without `Depends` is refused."""
    vars(dependency)["is_guard"] = True
    return dependency


def _makes_guards(factory: F) -> F:
    """Mark a function that returns dependencies, so that `Depends` refuses the function itself."""
    vars(factory)["makes_guards"] = True
    return factory


@_guard
async def get_user(websocket: WebSocket) -> AbstractBaseUser | AnonymousUser:
    """The user of Django's session, or `AnonymousUser`; when the login ends, the socket is closed.

    A user whom other code put into the scope, for example for a token, is checked as in the periodic
    checks: one who is not active counts as `AnonymousUser`.
    """
    scope = websocket.scope
    if "user" not in scope:
        await identify.resolve(scope)
        _refuse_without_users(scope)
    user = await identify.loaded_user(websocket.user)
    is_judged = scope.get(JUDGED_USER) is user
    if not user.is_authenticated or (LOGIN in scope and is_judged):
        return user  # type: ignore[no-any-return]
    key = user_key(user) if _is_django_user(user) else None
    session = None if key is None else await identify.session_of(scope, key)
    if not is_judged and not await identify.is_allowed(scope, user, session):
        return _anonymous(scope)
    if LOGIN not in scope and key is not None:
        await _enter(websocket, user, key, session)
    return user  # type: ignore[no-any-return]


def _refuse_without_users(scope: Scope) -> None:
    if "user" not in scope:
        raise ImproperlyConfigured(
            "A dependency of fastws_compat.auth asks for the user, but the project has no users: add "
            "'django.contrib.auth' to INSTALLED_APPS, or set websocket.scope['user'] before it."
        )


async def _enter(websocket: WebSocket, user: Any, user_id: str, session: Any) -> None:
    """Register the socket, so that it is closed when the user's login ends."""
    key, name = (None, None) if session is None else (session.session_key, session_names.name_of(session))
    registry.enter(websocket, user_id, key, name, await tenants.locate(user))


def _is_django_user(user: Any) -> bool:
    return isinstance(user, user_model())


def _anonymous(scope: Scope) -> AnonymousUser:
    from django.contrib.auth.models import AnonymousUser

    user = scope["user"] = AnonymousUser()
    return user


@_guard
async def login_required(websocket: WebSocket) -> AbstractBaseUser:
    """The user, or 401 if nobody is logged in."""
    user: Any = await get_user(websocket)
    if not user.is_authenticated:
        raise _refusal(websocket, 401)
    return user  # type: ignore[no-any-return]


@_makes_guards
def user_passes_test(test: Test) -> Dependency:
    """A dependency: the user if `test(user)`, sync or async, is true; else 403, or 401 without a login.

    The test is repeated while the socket is open.
    """
    return _named(_demand(Condition(test, is_own=True)), "user_passes_test", getattr(test, "__name__", test))


@_guard
async def staff_member_required(websocket: WebSocket) -> AbstractBaseUser:
    """The user if they may use the Django admin: `is_active` and `is_staff`."""
    return await _require(websocket, STAFF)  # type: ignore[no-any-return]


@_guard
async def superuser_required(websocket: WebSocket) -> AbstractBaseUser:
    """The user if they are an active superuser."""
    return await _require(websocket, SUPERUSER)  # type: ignore[no-any-return]


STAFF = Condition(lambda user: user.is_active and getattr(user, "is_staff", False), queries=False)
SUPERUSER = Condition(lambda user: user.is_active and getattr(user, "is_superuser", False), queries=False)


@_makes_guards
def permission_required(
    perm: str | Iterable[str], raise_exception: bool = False, *, obj: Callable[..., Any] | None = None
) -> Dependency:
    """A dependency: the user if they have the permission(s); else 403, or 401 without a login.

    With `raise_exception` it is always 403, as in Django. `obj` is a dependency that returns the object for
    the backends' object permissions. Equal calls return the same dependency.
    """
    perms = (perm,) if isinstance(perm, str) else tuple(perm)
    return _permission_required(perms, raise_exception, obj)


@functools.cache
def _permission_required(
    perms: tuple[str, ...], raise_exception: bool, obj: Callable[..., Any] | None
) -> Dependency:
    anonymous = 403 if raise_exception else 401
    if obj is None:
        condition = Condition(lambda user: user.has_perms(perms), is_permission=True)
        demand = _demand(condition, anonymous)
    else:
        demand = _demand_for_object(perms, anonymous, obj)
    return _named(demand, "permission_required", *perms)


def _demand(condition: Condition, anonymous: int = 401) -> Dependency:
    async def demand(websocket: WebSocket) -> Any:
        return await _require(websocket, condition, anonymous)

    return demand


def _demand_for_object(perms: tuple[str, ...], anonymous: int, obj: Callable[..., Any]) -> Dependency:
    async def demand(websocket: WebSocket, subject: Any = Depends(obj)) -> Any:
        condition = Condition(lambda user: user.has_perms(perms, subject))
        return await _require(websocket, condition, anonymous)

    return demand


def _named(dependency: Dependency, name: str, *arguments: Any) -> Dependency:
    dependency.__name__ = f"{name}({', '.join(map(str, arguments))})"
    dependency.__qualname__ = dependency.__name__
    return _guard(dependency)


async def _require(websocket: WebSocket, condition: Condition, anonymous: int = 401) -> Any:
    """The user, who must meet the condition for as long as the socket is open."""
    user = await get_user(websocket)
    if not await _is_met(condition, user, websocket.scope.get(TURN)):
        raise _refusal(websocket, 403 if user.is_authenticated else anonymous)
    login = websocket.scope.get(LOGIN)
    if login is not None:
        login.require(condition)
    return user


def _refusal(websocket: WebSocket, status: int) -> HTTPException:
    """The exception that refuses the user, who is named in the log."""
    session: Session | None = websocket.scope.get(SESSION)
    if session is not None:
        extra = session.extra
        logger.info("WebSocket %s: the user may not connect (%d)", extra["route"], status, extra=extra)
    return refusal("login" if status == 401 else "forbidden", status)


async def _is_met(condition: Condition, user: Any, turn: Turn | None) -> bool:
    if condition.is_async:
        return bool(await in_discarded_context(condition.test(user)))
    if not condition.queries:
        return bool(condition.test(user))
    if condition.is_permission and _is_django_user(user):
        return bool(await identify.or_refused(arrivals.is_permitted(condition, user, turn)))
    return bool(await identify.from_database(condition.test, user))


# Closing sockets explicitly


def disconnect_user(
    user: Any, session_key: str | None = None, code: int = LOGGED_OUT, reason: str = ""
) -> None:
    """Close the open sockets of a user (or primary key) in every process, or only those of one session.

    Only sockets whose routes use a dependency of this module are closed.
    """
    if tenants.in_event_loop():
        raise RuntimeError(
            "disconnect_user() was called in an event loop; use `await adisconnect_user()` there."
        )
    async_to_sync(remote.apublish)(_end_logins(user, session_key, code, reason))


async def adisconnect_user(
    user: Any, session_key: str | None = None, code: int = LOGGED_OUT, reason: str = ""
) -> None:
    """Like `disconnect_user`, for async code."""
    await remote.apublish(_end_logins(user, session_key, code, reason))


def _end_logins(user: Any, session_key: str | None, code: int, reason: str) -> dict[str, Any]:
    is_instance = hasattr(user, "_meta")
    key = user_key(user) if is_instance else str(user)
    tenant = tenants.tenant_of(user) if is_instance else tenants.current_tenant()
    digest = None
    if session_key is not None:
        digest = session_names.session_digest(session_names.name_of_key(session_key) or session_key)
    return registry.end_logins(key, digest, close_code(code), close_reason(reason), tenant)
