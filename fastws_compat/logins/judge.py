"""Whether open sockets may stay open: fresh sessions and users of all sockets, read with a few queries."""

from __future__ import annotations

import functools
import operator
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextvars import Context
from copy import copy
from dataclasses import dataclass
from hmac import compare_digest
from importlib import import_module
from types import SimpleNamespace
from typing import Any, NamedTuple, TypeVar

from asgiref.sync import _restore_context, async_to_sync
from django.conf import settings
from django.contrib.auth import (
    BACKEND_SESSION_KEY,
    HASH_SESSION_KEY,
    SESSION_KEY,
    get_user_model,
    load_backend,
)
from django.core.exceptions import FieldDoesNotExist, ObjectDoesNotExist
from django.db import Error, router
from django.db.models import Field, QuerySet
from django.utils import timezone
from django.utils.crypto import constant_time_compare

from fastws_compat.concurrency import is_async
from fastws_compat.connections.tracebacks import for_log
from fastws_compat.logger import logger
from fastws_compat.logins import parts, signatures, stores
from fastws_compat.logins.lookups import new_session
from fastws_compat.logins.tenants import remember_schema

T = TypeVar("T")

LOGGED_OUT, FORBIDDEN = 4401, 4403

# The maximum number of claims at a time, so that the thread is not busy for long.
BATCH = 1000


# Instead of a result: this one cannot be found together with others.
ALONE: Any = object()

# Instead of a user: code of the project raised an error, so this login cannot be judged.
UNKNOWN: Any = object()
# So many errors in one batch are probably an outage, which ends the check of the whole batch.
MAX_ERRORS = 10


@dataclass(frozen=True, slots=True, eq=False)
class Condition:
    """What a route requires of its user, at the handshake and for as long as the socket is open."""

    test: Callable[[Any], Any]
    # Whether the test may query the database; if so, it runs in a thread.
    queries: bool = True
    # Whether the project wrote the test, which may then read any field of the user.
    is_own: bool = False
    # Whether it depends on the user's permissions only, which are loaded for many users at once.
    is_permission: bool = False

    @property
    def is_async(self) -> bool:
        return is_async(self.test)


class Claim(NamedTuple):
    """The user who opened a socket, and what its route requires; a user of a token has no session."""

    user_id: str
    session_key: str | None
    conditions: tuple[Condition, ...]
    # The user's database, if the router would choose another one.
    using: str | None = None
    # The context of the connection; None is the caller's.
    context: Context | None = None


class Identity(NamedTuple):
    """A user as the session names it; without a backend the user is looked up by key alone."""

    user_id: str
    backend: str | None
    using: str | None = None


def judge(claims: Sequence[Claim]) -> list[int | None]:
    """For each claim the code to close with, or None if it is valid; raises if the database fails.

    It takes at most `BATCH` claims, whose sessions and users are in the databases that the router chooses in
    the current context: those for writing, because a replica may not have the change yet that is the reason.
    A claim for which code of the project raises counts as valid: the others are judged all the same.
    """
    attempt = _attempts()
    sessions = load_sessions({claim.session_key for claim in claims if claim.session_key}, attempt)
    identities = [claimed_identity(claim, sessions) for claim in claims]
    users = load_users({each for each in identities if each not in (None, UNKNOWN)}, attempt, primary=True)
    users[UNKNOWN] = UNKNOWN
    found = [
        attempt(_claimed_user, claim, users.get(identity), sessions)
        for claim, identity in zip(claims, identities, strict=True)
    ]
    with_permissions = [
        user for claim, user in zip(claims, found, strict=True) if user and _may_query(claim.conditions)
    ]
    load_permissions(with_permissions, primary=True)
    return [_verdict(claim, user) for claim, user in zip(claims, found, strict=True)]


def _attempts() -> Callable[..., Any]:
    """A function that calls the project's code for the claims of one batch."""
    errors = 0

    def attempt(call: Callable[..., Any], *arguments: Any) -> Any:
        """The result of a call; None if a row that it needs does not exist, and UNKNOWN if it raises."""
        nonlocal errors
        try:
            return call(*arguments)
        except ObjectDoesNotExist:
            return None
        except (Error, OSError):  # the database is down for all of them
            raise
        except Exception as exc:
            errors += 1
            if errors > MAX_ERRORS:
                raise
            message = "The user of an open WebSocket cannot be checked, so the socket stays open"
            logger.error(message, exc_info=for_log(exc))
            return UNKNOWN

    return attempt


def _may_query(conditions: Iterable[Condition]) -> bool:
    return any(condition.queries for condition in conditions)


def owner_of(session: Any, before_own_code: Callable[[], None] = lambda: None) -> Any:
    """The user that is logged in to a session, judged as in every later round; None without a login.

    `before_own_code` is called if a backend of the project is about to look the user up.
    Raises OSError if the cache of the sessions fails.
    """
    stores.load_alone(session)
    identity = _identity_of(session, session)
    if identity is None:
        return None
    if not _backend(identity.backend).looks_up_as_django:
        before_own_code()
    user = _unless_changed(load_users([identity]).get(identity), session)
    return user and remember_schema(user)


def owners_of(sessions: Sequence[Any]) -> list[Any]:
    """As `owner_of`, for many sessions with two queries. Each result is an object of its own.

    It is `ALONE` where something unusual needs a call of `owner_of`: a session that cannot be read together
    with others, a backend with a `get_user` of the project's own, and everything that would raise. There are
    no schemas: with them, nothing is found together (`tenants.place`).
    """
    stores.load(sessions)
    identities = _identities_together(sessions)
    users = load_users({identity for identity in identities if isinstance(identity, Identity)})
    given: set[int] = set()

    def owner_together(session: Any, identity: Any) -> Any:
        if not isinstance(identity, Identity):
            return identity
        user = users.get(identity)
        if id(user) in given:
            user = copy(user)  # no two sockets share the object of their user
        given.add(id(user))
        return _unless_changed(user, stores.contents_of(session))

    return _for_each(owner_together, sessions, identities)


def _for_each(call: Callable[..., Any], *columns: Sequence[Any]) -> list[Any]:
    """The results for the rows of these columns; `ALONE` for each that raises."""
    try:
        return list(map(call, *columns))
    except Exception:
        return [_unless_it_raises(call, *row) for row in zip(*columns, strict=True)]


def _unless_it_raises(call: Callable[..., Any], *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except Exception:  # `owner_of` raises it again, for this session alone
        return ALONE


def _identities_together(sessions: Sequence[Any]) -> list[Any]:
    """The identity in each session; None without a login, and `ALONE`."""
    backend_of = functools.cache(_backend)

    def identity_together(session: Any) -> Any:
        if not stores.is_loaded(session):
            return ALONE
        identity = _identity_of(session, stores.contents_of(session))
        if identity is None:
            return None
        return identity if backend_of(identity.backend).looks_up_as_django else ALONE

    return _for_each(identity_together, sessions)


def _identity_of(session: Any, contents: Any) -> Identity | None:
    user_id = user_id_in(contents)
    return None if user_id is None or not session.session_key else _identity(contents, user_id)


def may_log_in(user: Any, session: Any = None) -> bool:
    """Whether a user whom other code has looked up may connect, judged as in every later round.

    `session` is the session that the user is logged in to, if there is one.
    """
    if session is None:
        return bool(_backend(None).own.user_can_authenticate(user))
    identity = _identity_in(session, user_key(user))
    if identity is None:
        return False
    backend = _backend(identity.backend)
    if backend.looks_up_as_django and not backend.own.user_can_authenticate(user):
        return False
    return _unless_changed(user, session) is not None


def claimed_identity(claim: Claim, sessions: dict[str, Any]) -> Any:
    """The `Identity` in the claim's session, if it is still the one who opened the socket; or UNKNOWN."""
    if claim.session_key is None:
        return Identity(claim.user_id, None, claim.using)
    contents = sessions.get(claim.session_key, {})
    return UNKNOWN if contents is UNKNOWN else _identity_in(contents, claim.user_id, claim.using)


def _identity_in(contents: Any, user_id: str, using: str | None = None) -> Identity | None:
    """The identity in a session or in its contents, if it is this user's."""
    return _identity(contents, user_id, using) if is_session_of(user_id, contents) else None


def _identity(contents: Any, user_id: str, using: str | None = None) -> Identity | None:
    """The identity of the user with this key, whose session it is; None if its backend has been removed."""
    backend = contents.get(BACKEND_SESSION_KEY)
    return Identity(user_id, backend, using) if backend in settings.AUTHENTICATION_BACKENDS else None


def _claimed_user(claim: Claim, user: Any, sessions: dict[str, dict[str, Any]]) -> Any:
    """The user, or UNKNOWN; None if the password has changed since the session began."""
    if user is UNKNOWN or claim.session_key is None:
        return user
    return _unless_changed(user, sessions.get(claim.session_key, {}))


def _unless_changed(user: Any, contents: Any) -> Any:
    """The user; None if the password has changed since the session with these contents began."""
    if user is None or not hasattr(user, "get_session_auth_hash"):
        return user
    sent, own = contents.get(HASH_SESSION_KEY) or "", signatures.session_hash(user)
    if own is not None and isinstance(sent, str) and compare_digest(sent.encode(), own.encode()):
        return user
    return user if any(constant_time_compare(sent, valid) for valid in _hashes(user)) else None


def _hashes(user: Any) -> Iterator[str]:
    yield user.get_session_auth_hash()
    if hasattr(user, "get_session_auth_fallback_hash"):
        yield from user.get_session_auth_fallback_hash()


def _verdict(claim: Claim, user: Any) -> int | None:
    if user is None:
        return LOGGED_OUT
    if user is UNKNOWN:
        return None
    return None if all(_meets(claim, condition, user) for condition in claim.conditions) else FORBIDDEN


def _meets(claim: Claim, condition: Condition, user: Any) -> bool:
    """As `is_met`, in the context of the claim: the queries of a test are routed as in its endpoint."""
    if claim.context is None:
        return is_met(condition, user)
    return run_in(claim.context, is_met, condition, user)


def run_in(context: Context, call: Callable[..., T], *arguments: Any) -> T:
    """The result of `call`, run in a copy of a context that belongs to another thread.

    asgiref's `Local` is bound to a thread, so its values are moved here as asgiref itself moves them.
    """
    copied = context.copy()

    def restored() -> T:
        _restore_context(copied)
        return call(*arguments)

    return copied.run(restored)


def is_met(condition: Condition, user: Any) -> bool:
    """Whether the user meets a condition. A test that raises is not met; errors of the database propagate."""
    try:
        test: Any = async_to_sync(condition.test) if condition.is_async else condition.test
        return bool(test(user))
    except Error:
        raise
    except Exception as exc:
        message = "The test of a route raised when it was repeated for an open socket, which is closed"
        logger.error(message, exc_info=for_log(exc))
        return False


# Sessions


def load_sessions(keys: Iterable[str], attempt: Callable[..., Any] = operator.call) -> dict[str, Any]:
    """The contents of the sessions that still exist, or UNKNOWN; one query if they are in the database.

    `attempt` calls the methods of the engine, which may be the project's.
    """
    store: Any = import_module(settings.SESSION_ENGINE).SessionStore
    keys = list(keys)
    if not keys:
        return {}
    if stores.is_in_database(store):
        return _sessions_of_database(store, keys, attempt)
    if stores.is_in_cache(store):
        return _sessions_of_cache(keys)
    return {key: data for key in keys if (data := attempt(_contents, key))}


def _contents(key: str) -> Any:
    session = new_session(key)
    session.get(SESSION_KEY)  # reads it
    return stores.contents_of(session)


def _sessions_of_database(store: Any, keys: Sequence[str], attempt: Callable[..., Any]) -> dict[str, Any]:
    valid = _in_primary(store.get_model_class().objects.filter(expire_date__gt=timezone.now()))
    decode = signatures.decoder(store())
    return {
        key: attempt(decode, text)
        for part in parts.having(valid, "session_key", keys)
        for key, text in part.values_list("session_key", "session_data")
    }


def _sessions_of_cache(keys: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Raises if the cache fails; the engine's own `load` would find no session then."""
    sessions = [new_session(key) for key in keys]
    found = sessions[0]._cache.get_many([session.cache_key for session in sessions])
    return {session.session_key: data for session in sessions if (data := found.get(session.cache_key))}


# Users


def load_users(
    identities: Iterable[Identity], attempt: Callable[..., Any] = operator.call, *, primary: bool = False
) -> dict[Identity, Any]:
    """The users who may still log in; one query for all backends that look users up as Django's does.

    `attempt` calls the methods of backends. `primary` reads from the database for writing.
    """
    users: dict[Identity, Any] = {}
    of_model: list[tuple[Identity, Callable[[Any], bool]]] = []
    backend_of = functools.cache(_backend)
    for identity in identities:
        backend = backend_of(identity.backend)
        if backend.looks_up_as_django:
            of_model.append((identity, backend.own.user_can_authenticate))
        elif (user := attempt(_backend(identity.backend).own.get_user, _key(identity.user_id))) is not None:
            users[identity] = user
    fresh = _users_of_model((identity for identity, _ in of_model), primary)
    users |= {
        identity: user
        for identity, is_allowed in of_model
        if (user := fresh.get((identity.using, identity.user_id))) is not None and attempt(is_allowed, user)
    }
    return users


class Backend(NamedTuple):
    """An authentication backend."""

    own: Any
    # Whether `user_can_authenticate` decides; a `get_user` of the project has decided already.
    looks_up_as_django: bool


def _backend(path: str | None) -> Backend:
    """The backend of a session; Django's own for a login without a session, by a token for example."""
    from django.contrib.auth.backends import ModelBackend

    backend = load_backend(path) if path else ModelBackend()
    return Backend(backend, getattr(type(backend), "get_user", None) is ModelBackend.get_user)


def _users_of_model(identities: Iterable[Identity], primary: bool) -> Mapping[tuple[str | None, str], Any]:
    """The users by database and key; one query for each database, if it accepts that many keys."""
    keys: dict[str | None, set[Any]] = defaultdict(set)
    model = user_model()
    to_key, manager = model._meta.pk.to_python, model._default_manager
    for identity in identities:
        keys[identity.using].add(to_key(identity.user_id))
    choose = _in_primary if primary else QuerySet.all
    return {
        (using, user_key(user)): user
        for using, pks in keys.items()
        for part in parts.having(choose((manager.using(using) if using else manager).all()), "pk", pks)
        for user in part
    }


def _in_primary(rows: Any) -> Any:
    """The same rows, read from the database for writing unless their manager has chosen another one."""
    return rows if rows._db else rows.using(router.db_for_write(rows.model))


def _key(user_id: str) -> Any:
    return user_model()._meta.pk.to_python(user_id)


def user_model() -> Any:
    """The project's user model."""
    return _user_model(settings.AUTH_USER_MODEL)


@functools.lru_cache(maxsize=4)
def _user_model(label: str) -> Any:
    """Django's own function looks the model up for every call."""
    return get_user_model()


def user_key(user: Any) -> str:
    """The user's primary key as sessions write it."""
    field = user._meta.pk
    if _writes_plainly(field.__class__):
        return str(getattr(user, field.attname))
    return str(field.value_to_string(user))


@functools.lru_cache(maxsize=16)
def _writes_plainly(field: type[Field[Any, Any]]) -> bool:
    """Whether fields of this class write a value into a session as `str` does."""
    own = field.value_to_string, field.value_from_object
    return own == (Field.value_to_string, Field.value_from_object)


def user_id_in(contents: Any) -> str | None:
    """The `user_key` of the user in a session or in its contents; None without a login.

    Code of the project may have written it in another way, for example a UUID without hyphens. Raises for
    what is no key of this user model, as Django does.
    """
    value = contents.get(SESSION_KEY)
    if value is None:
        return None
    field = user_model()._meta.pk
    key = field.to_python(value)
    if _writes_plainly(field.__class__):
        return str(key)
    return str(field.value_to_string(SimpleNamespace(**{field.attname: key})))


def is_session_of(user_id: str, contents: Any) -> bool:
    """Whether the user in a session, or in its contents, has this key."""
    if str(contents.get(SESSION_KEY)) == user_id:
        return True
    try:
        return user_id_in(contents) == user_id
    except Exception:  # of another user model
        return False


# Permissions


def load_permissions(users: Iterable[Any], *, primary: bool = False) -> None:
    """Load at once what `ModelBackend` would query for one user at a time.

    The backend keeps the results in attributes of the user. If a version of Django has other names for them,
    it queries again. `primary` reads from the database for writing.
    """
    with_lists = {id(user): user for user in users if _has_listed_permissions(user)}.values()
    by_database: dict[str | None, dict[Any, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for user in with_lists:
        by_database[user._state.db][user.pk].append(user)
    if by_database and _uses_model_backend():
        for by_key in by_database.values():
            _load_permissions(by_key, primary)


def _load_permissions(by_key: Mapping[Any, Sequence[Any]], primary: bool = False) -> None:
    """As `load_permissions`, for the users of one database, by key."""
    [[some, *_], *_] = by_key.values()
    for attribute, field in (
        ("_user_perm_cache", "user_permissions"),
        ("_group_perm_cache", "groups"),
    ):
        try:
            listed = _permissions(field, list(by_key), some, primary)
        except FieldDoesNotExist:
            continue
        for key, owners in by_key.items():
            for user in owners:
                setattr(user, attribute, set(listed[key]))


def _has_listed_permissions(user: Any) -> bool:
    return (
        getattr(user, "is_active", False)
        and not getattr(user, "is_superuser", False)
        and hasattr(user, "user_permissions")
    )


def _uses_model_backend() -> bool:
    from django.contrib.auth.backends import ModelBackend

    own: Sequence[Hashable] = (ModelBackend._get_user_permissions, ModelBackend._get_group_permissions)  # type: ignore[attr-defined]
    return any(
        (
            getattr(backend, "_get_user_permissions", None),
            getattr(backend, "_get_group_permissions", None),
        )
        == own
        for backend in map(type, map(load_backend, settings.AUTHENTICATION_BACKENDS))
    )


def _permissions(field: str, keys: Sequence[Any], some: Any, primary: bool) -> dict[Any, set[str]]:
    """The permissions of each user through one field, of the user or of groups; `some` is any user."""
    from django.contrib.auth.models import Permission

    relation: Any = user_model()._meta.get_field(field)
    query_name = relation.related_query_name()
    path = query_name if field == "user_permissions" else f"group__{query_name}"
    database = (router.db_for_write if primary else router.db_for_read)(Permission, instance=some)
    columns = f"{path}__pk", "content_type__app_label", "codename"
    listed: dict[Any, set[str]] = defaultdict(set)
    for part in parts.having(Permission.objects.using(database).order_by(), path, keys):
        for key, app, codename in part.values_list(*columns):
            listed[key].add(f"{app}.{codename}")
    return listed
