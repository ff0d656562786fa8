"""The tenant of a user, in projects where each tenant has a database or a schema of its own.

A tenant is named by the alias of its database and, with schemas, by the name of its schema. In a project with
one database it is the empty string, so that names and messages stay as they are. `FASTWS["TENANT"]` names a
callable that returns the current tenant; the schemas of django-tenants need no setting.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any
from urllib.parse import quote

from channels.db import database_sync_to_async
from django.conf import settings
from django.contrib.auth import get_user_model
from django.db import DEFAULT_DB_ALIAS, connections, router
from django.db.utils import load_backend
from django.utils.module_loading import import_string

from fastws_compat import conf

# Where `user._state` keeps the schema in which the user was found, as it keeps the database.
SCHEMA = "fastws_schema"


@dataclass(frozen=True, slots=True)
class Location:
    """Where a login is judged. Logins of one location are judged together, in the context of any of them."""

    tenant: str = ""
    # The databases that the router chooses for the user and for the session.
    databases: tuple[str, ...] = ()
    # The schema that django-tenants has set, and its tenant object.
    schema: str | None = None
    active: Any = field(default=None, compare=False)
    # The database of the user, if the router would choose another one.
    using: str | None = None


# The location of every login, and the place of every look-up, in a project with one database and no schemas.
DEFAULT_LOCATION, EVERYWHERE = Location(), "everywhere"


@contextmanager
def activated(location: Location) -> Iterator[None]:
    """Sets the schema of the location for this thread, if connections carry it (django-tenants)."""
    if location.active is None:
        yield
        return
    connection: Any = connections[location.databases[0]]
    before = connection.tenant
    connection.set_tenant(location.active)
    try:
        yield
    finally:
        connection.set_tenant(before)


async def locate(user: Any) -> Location:
    """The location of the user who is connecting."""
    alias = database_of(user)
    if alias == DEFAULT_DB_ALIAS and _is_everywhere_the_same():
        return DEFAULT_LOCATION
    if _has_schemas(alias):
        location: Location = await database_sync_to_async(location_of)(user)
        return location
    return location_of(user)


def location_of(user: Any) -> Location:
    """As `locate`, for the thread in which the user's queries run."""
    remember_schema(user)
    routed = router.db_for_write(type(user))
    alias = database_of(user)
    connection: Any = connections[alias] if _has_schemas(alias) else None
    return Location(
        tenant=tenant_of(user),
        databases=(alias, _session_database()),
        schema=getattr(connection, "schema_name", None),
        active=getattr(connection, "tenant", None),
        using=None if alias == routed else user._state.db,
    )


def _session_database() -> str:
    return _session_databases()[1]


def _session_databases() -> tuple[str, str]:
    """The databases that sessions are read from and written to, if they are in one."""
    store = _session_store(settings.SESSION_ENGINE)
    if not hasattr(store, "get_model_class"):
        return "", ""
    model = store.get_model_class()
    return router.db_for_read(model), router.db_for_write(model)


@functools.cache
def _session_store(engine: str) -> Any:
    return import_module(engine).SessionStore


def tenant_of(user: Any) -> str:
    """The tenant that a user belongs to.

    Raises RuntimeError in async code if only a thread's connection knows the schema and the user did not come
    from a dependency.
    """
    state = getattr(user, "_state", None)
    if state is None:  # not a Django user
        return ""
    alias = database_of(user)
    schema = getattr(state, SCHEMA, None)
    return _name(alias, _schema(alias) if schema is None else schema)


def owner_key(user: Any) -> Any:
    """A key that distinguishes the users of all tenants, for counting."""
    try:
        tenant = tenant_of(user)
    except RuntimeError:  # better to count users of equal keys together than not to count them
        tenant = ""
    key = getattr(user, "pk", None)
    return (tenant, key) if tenant else key


def current_tenant() -> str:
    """The tenant in whose tables the running code would look users up."""
    return tenant_in(router.db_for_write(get_user_model()))


def place() -> Hashable:
    """Where the running code would look sessions and users up; None if only a thread's connection knows it.

    What is looked up in equal places can be looked up together, in the context of any of them.
    """
    if _is_everywhere_the_same():
        return EVERYWHERE
    if any_schemas():
        return None
    try:
        user = get_user_model()
        return current_tenant(), router.db_for_read(user), router.db_for_write(user), *_session_databases()
    except Exception:  # outside of any tenant's context; the look-up itself will say so
        return None


def _is_everywhere_the_same() -> bool:
    """Whether the project has one place only: no router, no tenants and no schemas."""
    return not router.routers and not conf.get("TENANT") and not any_schemas()


def tenant_in(alias: str) -> str:
    """The tenant whose users are in a database, as the running code sees it."""
    return _name(alias, _schema(alias))


def remember_schema(user: Any) -> Any:
    """Note the schema in which a user was found, for code that runs elsewhere. Returns the user."""
    state = getattr(user, "_state", None)
    if state is not None and getattr(state, SCHEMA, None) is None:
        alias = database_of(user)
        if _has_schemas(alias):
            setattr(state, SCHEMA, _schema(alias))
    return user


def database_of(user: Any) -> str:
    """The alias of the database that a user was read from; for a replica, of its primary."""
    alias: str | None = user._state.db if hasattr(user, "_state") else DEFAULT_DB_ALIAS
    if alias is not None and not router.routers:
        return alias
    try:
        primary = router.db_for_write(type(user), instance=user)
        if alias is None or (alias != primary and _is_replica(alias, primary, user)):
            return primary
    except (LookupError, AttributeError):  # outside of any tenant's context
        if alias is None:
            raise
    return alias


def _is_replica(alias: str, primary: str, user: Any) -> bool:
    """Whether `alias` is a replica of `primary`; it may also be the database of another tenant."""
    replica, original = connections.settings[alias], connections.settings.get(primary, {})
    if replica.get("TEST", {}).get("MIRROR") == primary:
        return True
    if all(replica.get(key) == original.get(key) for key in ("ENGINE", "NAME")):
        return True
    return bool(router.db_for_read(type(user), instance=user) != primary)


def _name(alias: str, schema: str) -> str:
    return "" if alias == DEFAULT_DB_ALIAS and not schema else f"{quote(alias, safe='')}:{schema}"


def _schema(alias: str) -> str:
    """The name that distinguishes the tenants of one database; an empty string if it has only one."""
    path = conf.get("TENANT")
    if path:
        return str(_callable(path)() or "")
    if not _has_schemas(alias) or not _users_have_schemas():
        return ""
    if in_event_loop():
        raise RuntimeError(
            "In async code the tenant is known only for users from a dependency of fastws_compat.auth. "
            "For other users call this in database_sync_to_async, or set FASTWS['TENANT']."
        )
    connection: Any = connections[alias]
    return str(connection.schema_name)


@functools.cache
def _callable(path: str) -> Callable[[], Any]:
    found: Callable[[], Any] = import_string(path)
    return found


def any_schemas() -> bool:
    """Whether a database connection of the project carries a tenant, which only its own thread knows."""
    return any(map(_has_schemas, connections.settings))


def _has_schemas(alias: str) -> bool:
    """Whether the database's connections carry the tenant, as those of django-tenants do."""
    return _sets_tenants(connections.settings[alias]["ENGINE"])


@functools.cache
def _sets_tenants(engine: str) -> bool:
    # The class, because in an event loop each context would get a connection object of its own.
    return hasattr(load_backend(engine).DatabaseWrapper, "set_tenant")


def _users_have_schemas() -> bool:
    """Whether the tables of users are in the tenants' schemas and not in the shared one (django-tenants)."""
    return _is_listed(get_user_model()._meta.app_config.name, tuple(_tenant_apps()))


def _tenant_apps() -> list[str]:
    types = getattr(settings, "TENANT_TYPES", {})
    return [*getattr(settings, "TENANT_APPS", ()), *(app for each in types.values() for app in each["APPS"])]


def _is_listed(name: str, apps: tuple[str, ...]) -> bool:
    return any(app == name or app.startswith(f"{name}.apps.") for app in apps)


def in_event_loop() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True
