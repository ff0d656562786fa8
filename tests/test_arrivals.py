"""Logins that arrive together: found with a handful of queries, each as if it had arrived alone."""

from __future__ import annotations

import asyncio
import copy
import threading
from contextvars import ContextVar, copy_context
from functools import partial
from importlib import import_module
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.backends.db import SessionStore as DatabaseStore
from django.contrib.sessions.models import Session
from django.core.cache.backends.locmem import LocMemCache
from django.db import OperationalError, connection
from django.test.utils import CaptureQueriesContext

from fastws_compat.connections.states import TURN
from fastws_compat.exceptions import HTTPException
from fastws_compat.logins import arrivals, batches, judge, lookups, stores, tenants
from fastws_compat.logins.identify import identify, session_of

pytestmark = pytest.mark.django_db

BACKEND = "django.contrib.auth.backends.ModelBackend"
LOCMEM = "django.core.cache.backends.locmem.LocMemCache"
ENGINES = {
    "db": "django.contrib.sessions.backends.db",
    "cached_db": "django.contrib.sessions.backends.cached_db",
    "cache": "django.contrib.sessions.backends.cache",
    "file": "django.contrib.sessions.backends.file",
    "signed_cookies": "django.contrib.sessions.backends.signed_cookies",
    "custom": "tests.test_arrivals",
}


class SessionStore(DatabaseStore):
    """A session engine of a project that reads in its own way."""

    def load(self):
        return {**super().load(), "own": True}


@pytest.fixture(params=ENGINES)
def engine(request, settings, tmp_path):
    settings.SESSION_ENGINE = ENGINES[request.param]
    settings.SESSION_FILE_PATH = str(tmp_path)
    cache = {"BACKEND": LOCMEM, "LOCATION": str(tmp_path)}
    settings.CACHES = {"default": cache}
    return request.param


def make_users(count, **fields):
    names = [f"{'_'.join(fields)}user{number}" for number in range(count)]
    return User.objects.bulk_create(User(username=name, **fields) for name in names)


def log_in(user, backend=BACKEND, **data):
    """The key of a new session of the user."""
    session = import_module_of_engine().SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = backend
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.update(data)
    session.save()
    return session.session_key


def import_module_of_engine():
    from django.conf import settings

    return import_module(settings.SESSION_ENGINE)


def scope_of(key, **more):
    return {"type": "websocket", "headers": [], "cookies": {"sessionid": key}, **more}


def arrive(scopes):
    """The scopes with users, or exceptions, of handshakes that arrive in the same moment."""

    async def together():
        return await asyncio.gather(*map(identify, scopes), return_exceptions=True)

    return async_to_sync(together)()


def outcome(scope):
    if isinstance(scope, BaseException):
        return type(scope)
    session = scope["session"]
    return scope["user"].pk, session.session_key, dict(session.items()), session.modified, session.accessed


def counted(scopes):
    with CaptureQueriesContext(connection) as queries:
        found = arrive(scopes)
    return found, [query["sql"].split('FROM "')[1].split('"')[0] for query in queries]


def test_two_hundred_logins_in_two_queries():
    keys = [log_in(user) for user in make_users(200)]
    found, queries = counted([scope_of(key) for key in keys])
    assert [scope["user"].username for scope in found] == [f"user{number}" for number in range(200)]
    assert queries == ["django_session", "auth_user"]


def test_lone_login_makes_the_queries_of_one():
    [key] = [log_in(user) for user in make_users(1)]
    assert counted([scope_of(key)])[1] == ["django_session", "auth_user"]
    assert counted([scope_of("unknown1")])[1] == ["django_session"]
    assert counted([scope_of("short")])[1] == []


# How many queries thirty logins may make.
MOST_QUERIES = {"db": 2, "cached_db": 1, "cache": 1, "file": 5, "signed_cookies": 1, "custom": 35}


def test_each_engine_gives_what_it_gives_one_by_one(engine, settings):
    keys = [log_in(user, number=number) for number, user in enumerate(make_users(30))]
    found, queries = counted([scope_of(key) for key in keys])
    assert [scope["user"].username for scope in found] == [f"user{number}" for number in range(30)]
    # Sessions that are read one by one become ready one by one.
    assert queries.count("auth_user") <= (5 if engine in ("file", "custom") else 1)
    assert len(queries) <= MOST_QUERIES[engine]

    [idle] = make_users(1, is_active=False)
    [changed] = make_users(1, is_staff=True)
    keys += [log_in(idle), log_in(changed), log_in(User(pk=9_999_999)), keys[0], keys[0]]
    keys += [
        "unknown-session-key",
        "x" * 300,
        "nul\0-in-a-session-key",
        "ümlaut-in-a-session-key",
        "short",
        "",
    ]
    changed.set_password("another")
    changed.save()
    scopes = [scope_of(key) for key in keys]
    alone = [arrive([scope])[0] for scope in copy.deepcopy(scopes)]
    together = arrive(scopes)
    assert list(map(outcome, together)) == list(map(outcome, alone))
    assert [scope["user"].pk for scope in together].count(None) == 9


def test_sessions_that_were_found_together_are_not_read_again(engine, monkeypatch):
    users = make_users(5)
    scopes = arrive([scope_of(log_in(user)) for user in users])
    monkeypatch.setattr("fastws_compat.logins.identify.from_database", None)

    async def sessions():
        return [await session_of(scope, str(user.pk)) for scope, user in zip(scopes, users, strict=True)]

    assert [session.session_key for session in async_to_sync(sessions)()] == [
        scope["cookies"]["sessionid"] for scope in scopes
    ]


class NamespacedStore(DatabaseStore):
    """A session engine of a project that keeps everything under names of its own."""

    def get(self, key, default=None):
        return super().get(f"own{key}", default)

    def __setitem__(self, key, value):
        super().__setitem__(f"own{key}", value)


class PlacedStore(DatabaseStore):
    """A session engine of a project that keeps the contents in an attribute of its own."""

    def _get_session(self, no_load=False):
        self.accessed = True
        if "placed" not in vars(self):
            self.placed = {} if no_load or self.session_key is None else self.load()
        return self.placed

    _session = property(_get_session)


class PartStore(DatabaseStore):
    """A session engine of a project that keeps everything in a part of the contents."""

    @property
    def _session(self):
        return self._get_session().setdefault("part", {})


@pytest.mark.parametrize("store", [NamespacedStore, PlacedStore, PartStore])
def test_engine_with_contents_of_its_own(settings, monkeypatch, store):
    """Its own methods find the user: the contents may be elsewhere, or have no keys of Django."""
    monkeypatch.setattr(import_module_of_engine(), "SessionStore", store)
    users = make_users(5)
    found = arrive([scope_of(log_in(user)) for user in users])
    assert [scope["user"] for scope in found] == users
    claims = [judge.Claim(str(scope["user"].pk), scope["session"].session_key, ()) for scope in found]
    assert judge.judge(claims) == [None] * 5
    users[0].delete()
    assert judge.judge(claims) == [judge.LOGGED_OUT, *[None] * 4]


def test_expired_and_corrupt_sessions():
    keys = [log_in(user) for user in make_users(4)]
    Session.objects.filter(pk=keys[1]).update(expire_date="2020-01-01T00:00:00Z")
    Session.objects.filter(pk=keys[2]).update(session_data="corrupt")
    found = arrive([scope_of(key) for key in [*keys, *keys]])
    assert [scope["user"].username for scope in found] == ["user0", "", "", "user3"] * 2
    assert [scope["session"].session_key for scope in found] == [keys[0], None, keys[2], keys[3]] * 2


def test_sockets_of_one_session_share_nothing(engine):
    [key] = [log_in(user, list=[1]) for user in make_users(1)]
    found = arrive([scope_of(key) for _ in range(5)])
    assert len({id(scope["user"]) for scope in found}) == 5
    assert len({id(scope["user"]._state) for scope in found}) == 5
    assert len({id(scope["session"]._wrapped) for scope in found}) == 5
    found[1]["session"]["list"].append(2)
    found[1]["user"].username = "changed"
    assert [scope["session"]["list"] for scope in found] == [[1], [1, 2], [1], [1], [1]]
    assert {scope["user"].username for scope in found} == {"changed", "user0"}


def test_missing_session_goes_into_the_cache(settings, tmp_path):
    settings.SESSION_ENGINE = ENGINES["cached_db"]
    cache = {"BACKEND": LOCMEM, "LOCATION": str(tmp_path)}
    settings.CACHES = {"default": cache}
    keys = [log_in(user) for user in make_users(10)]
    settings.CACHES = {"default": {**cache, "LOCATION": "emptied"}}
    assert counted([scope_of(key) for key in keys])[1] == ["django_session", "auth_user"]
    assert counted([scope_of(key) for key in keys])[1] == ["auth_user"]


@pytest.mark.parametrize("engine_name", ["db", "cached_db", "cache"])
def test_sockets_of_one_unknown_session_are_found_together(settings, engine_name):
    settings.SESSION_ENGINE = ENGINES[engine_name]
    sessions = [lookups.new_session(key) for key in ("unknown-key-a", "unknown-key-a", "unknown-key-b")]
    assert judge.owners_of(sessions) == [None] * 3
    assert [session.session_key for session in sessions] == [None] * 3
    assert [dict(session.items()) for session in sessions] == [{}] * 3


def test_cache_that_refuses_one_key_keeps_the_others(settings, monkeypatch):
    def refuse(*args, **kwargs):
        raise ValueError("a key that this cache cannot have")

    settings.SESSION_ENGINE = ENGINES["cache"]
    keys = [log_in(user) for user in make_users(10)]
    monkeypatch.setattr(LocMemCache, "get_many", refuse)
    found = arrive([scope_of(key) for key in keys])
    assert [scope["user"].username for scope in found] == [f"user{number}" for number in range(10)]


class DownError(Exception):
    """What a client of a cache raises; it has a class of its own, and is no OSError."""


@pytest.mark.parametrize("engine_name", ["cached_db", "cache"])
@pytest.mark.parametrize("count", [1, 10])
def test_cache_of_the_sessions_that_is_down_refuses_all_at_once(
    settings, monkeypatch, caplog, engine_name, count
):
    """By themselves, Django's engines find nobody then, or raise what the cache has raised."""
    calls = []

    def fail(*args, **kwargs):
        calls.append(args)
        raise DownError("no connection")

    settings.SESSION_ENGINE = ENGINES[engine_name]
    keys = [log_in(user) for user in make_users(count)]
    for name in ("get", "get_many", "set"):
        monkeypatch.setattr(LocMemCache, name, fail)
    found = arrive([scope_of(key) for key in keys])
    assert [refusal.status_code for refusal in found] == [503] * count
    assert all(1 <= int(refusal.headers["Retry-After"]) <= 10 for refusal in found)
    assert len(calls) <= 3
    assert caplog.text.count("the user cannot be identified (CacheFails: DownError: no connection)") == count


def test_cache_that_cannot_read_one_session_has_nobody_there(settings, monkeypatch):
    settings.SESSION_ENGINE = ENGINES["cache"]
    [good, bad] = [log_in(user) for user in make_users(2)]
    get = LocMemCache.get

    def read(self, key, *args, **kwargs):
        if key.endswith(bad):
            raise DownError("written by another version")
        return get(self, key, *args, **kwargs)

    monkeypatch.setattr(LocMemCache, "get", read)
    alone = [found for key in (good, bad) for found in arrive([scope_of(key)])]
    assert [scope["user"].username for scope in alone] == ["user0", ""]
    together = arrive([scope_of(key) for key in (good, bad)])
    assert [scope["user"].username for scope in together] == ["user0", ""]


def test_cache_that_cannot_be_written_to_is_not_down(settings, monkeypatch):
    """As on Django's pages: the error is the project's to see."""

    def fail(*args, **kwargs):
        raise DownError("read only")

    settings.SESSION_ENGINE = ENGINES["cached_db"]
    [key] = [log_in(user) for user in make_users(1)]
    settings.CACHES = {"default": {"BACKEND": LOCMEM, "LOCATION": "another"}}
    monkeypatch.setattr(LocMemCache, "set", fail)
    assert [type(each) for each in arrive([scope_of(key)])] == [DownError]


def test_fallback_keys(settings):
    keys = [log_in(user) for user in make_users(6)]
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", [settings.SECRET_KEY]
    # The session's own signature is checked with the fallbacks too.
    assert all(scope["user"].is_authenticated for scope in arrive([scope_of(key) for key in keys]))
    settings.SECRET_KEY_FALLBACKS = []
    assert not any(scope["user"].is_authenticated for scope in arrive([scope_of(key) for key in keys]))


# Backends


class OwnBackend(ModelBackend):
    """A backend that looks users up in its own way, and cannot look one of them up."""

    seen: list[str] = []

    def get_user(self, user_id):
        user = super().get_user(user_id)
        if user.username.endswith("3"):
            raise ValueError("a user that this backend cannot read")
        self.seen.append(user.username)
        return user


class StaffBackend(ModelBackend):
    def user_can_authenticate(self, user):
        return user.is_staff


OWN, STAFF = "tests.test_arrivals.OwnBackend", "tests.test_arrivals.StaffBackend"


def test_each_session_names_its_backend(settings):
    settings.AUTHENTICATION_BACKENDS = [BACKEND, OWN, STAFF]
    users = make_users(9)
    keys = [log_in(user, [BACKEND, OWN, STAFF][number % 3]) for number, user in enumerate(users)]
    keys += [log_in(users[3], OWN), log_in(users[0], "tests.test_arrivals.Removed")]
    OwnBackend.seen.clear()
    found, queries = counted([scope_of(key) for key in keys])
    names = [type(scope) if isinstance(scope, BaseException) else scope["user"].username for scope in found]
    assert names == ["user0", "user1", "", "user3", "user4", "", "user6", "user7", "", ValueError, ""]
    assert sorted(OwnBackend.seen) == ["user1", "user4", "user7"]
    assert queries.count("django_session") == 1


def test_raising_backend_fails_only_its_own_session(settings):
    settings.AUTHENTICATION_BACKENDS = [OWN]
    keys = [log_in(user, OWN) for user in make_users(6)]
    found = arrive([scope_of(key) for key in keys])
    assert [isinstance(scope, ValueError) for scope in found] == [n == 3 for n in range(6)]


def test_key_of_another_user_model_fails_only_its_own_session():
    keys = [log_in(user) for user in make_users(4)]
    session = DatabaseStore(keys[2])
    session[SESSION_KEY] = "a-uuid-of-old"
    session.save()
    found = arrive([scope_of(key) for key in keys])
    names = [type(scope).__name__ if isinstance(scope, Exception) else "found" for scope in found]
    assert names == ["found", "found", "ValidationError", "found"]


def test_hash_that_raises_fails_only_its_own_session(monkeypatch):
    right = User.get_session_auth_hash

    def hash_of(user):
        return 1 / 0 if user.username == "user2" else right(user)

    keys = [log_in(user) for user in make_users(5)]
    monkeypatch.setattr(User, "get_session_auth_hash", hash_of)
    found = arrive([scope_of(key) for key in keys])
    assert [isinstance(scope, ZeroDivisionError) for scope in found] == [n == 2 for n in range(5)]


def test_database_that_is_down_refuses_all_of_a_batch_at_once(monkeypatch, caplog):
    def fail(sessions):
        calls.append(len(sessions))
        raise OperationalError("the database is down")

    calls = []
    keys = [log_in(user) for user in make_users(10)]
    monkeypatch.setattr(arrivals, "owners_of", fail)
    found = arrive([scope_of(key) for key in keys])
    assert [refusal.status_code for refusal in found] == [503] * 10
    assert all(1 <= int(refusal.headers["Retry-After"]) <= 10 for refusal in found)
    assert calls == [10]
    assert caplog.text.count("the user cannot be identified (OperationalError") == 10


def test_query_that_cannot_be_made_together_is_made_one_by_one(monkeypatch):
    def fail(sessions):
        raise ValueError("one of them")

    keys = [log_in(user) for user in make_users(10)]
    monkeypatch.setattr(stores, "_rows", fail)
    found = arrive([scope_of(key) for key in keys])
    assert [scope["user"].username for scope in found] == [f"user{number}" for number in range(10)]


# Tenants and routers

tenant = ContextVar("tenant", default="red")


def current_tenant():
    return tenant.get()


class Router:
    def db_for_read(self, model, **hints):
        return {"red": "default"}[tenant.get()]

    db_for_write = db_for_read


def batches_of(scopes_by_tenant, monkeypatch):
    """The sizes of the batches, each with the tenants whose sessions were in it."""

    async def come(name, scope):
        tenant.set(name)
        return await identify(scope)

    async def together():
        return await asyncio.gather(*(come(*each) for each in scopes_by_tenant))

    batches = []
    owners_of = judge.owners_of

    def spy(sessions):
        batches.append((tenant.get(), len(sessions)))
        return owners_of(sessions)

    monkeypatch.setattr(arrivals, "owners_of", spy)
    found = async_to_sync(together)()
    assert all(scope["user"].is_authenticated for scope in found)
    return sorted(batches)


def test_batch_never_crosses_tenants(settings, monkeypatch):
    settings.FASTWS = {"TENANT": "tests.test_arrivals.current_tenant"}
    keys = [log_in(user) for user in make_users(12)]
    scopes = [(["red", "blue"][number % 2], scope_of(key)) for number, key in enumerate(keys)]
    assert batches_of(scopes, monkeypatch) == [("blue", 6), ("red", 6)]


def test_place_outside_of_any_tenant_is_not_known(settings, monkeypatch):
    settings.DATABASE_ROUTERS = ["tests.test_arrivals.Router"]
    keys = [log_in(user) for user in make_users(6)]
    assert batches_of([("red", scope_of(key)) for key in keys], monkeypatch) == [("red", 6)]
    assert copy_context().run(place_in, "elsewhere") is None


def place_in(name):
    tenant.set(name)
    return tenants.place()


def test_schemas_are_known_only_to_their_thread(monkeypatch):
    monkeypatch.setattr("fastws_compat.logins.tenants.any_schemas", lambda: True)
    keys = [log_in(user) for user in make_users(5)]
    found, queries = counted([scope_of(key) for key in keys])
    assert [scope["user"].username for scope in found] == [f"user{number}" for number in range(5)]
    assert sorted(queries) == ["auth_user"] * 5 + ["django_session"] * 5


# Those who leave


class Turn:
    """The turn of a handshake whose client has left, or has not."""

    def __init__(self, has_left):
        self.server = None
        if has_left:
            self.leave()

    def leave(self):
        self.server = SimpleNamespace(client_socket=None)


def test_client_that_has_left_costs_no_query():
    keys = [log_in(user) for user in make_users(6)]
    with CaptureQueriesContext(connection) as queries:
        found = arrive([scope_of(key, **{TURN: Turn(has_left=True)}) for key in keys])
    assert [refusal.status_code for refusal in found] == [503] * 6
    assert not queries.captured_queries


async def with_first_at_work(scopes, monkeypatch, meanwhile=lambda: None):
    """The outcomes and the sizes of the batches, if the first is in the database when the others come."""
    loop, is_at_work, may_end, sizes = asyncio.get_running_loop(), asyncio.Event(), threading.Event(), []

    def one(session, release):
        sizes.append(1)
        loop.call_soon_threadsafe(is_at_work.set)
        assert may_end.wait(30)
        return judge.owner_of(session, release)

    def many(sessions):
        sizes.append(len(sessions))
        return judge.owners_of(sessions)

    monkeypatch.setattr(arrivals, "owner_of", one)
    monkeypatch.setattr(arrivals, "owners_of", many)
    tasks = [asyncio.create_task(identify(scopes[0]))]
    await is_at_work.wait()
    tasks += [asyncio.create_task(identify(scope)) for scope in scopes[1:]]
    [queue] = batches._of_loop()._queues.values()
    while len(queue.entries()) < len(scopes):
        await asyncio.sleep(0)
    meanwhile()
    may_end.set()
    return await asyncio.gather(*tasks, return_exceptions=True), sizes


def test_next_batch_gathers_while_one_is_in_the_database(monkeypatch):
    scopes = [scope_of(log_in(user)) for user in make_users(6)]
    found, sizes = async_to_sync(with_first_at_work)(scopes, monkeypatch)
    assert [scope["user"].username for scope in found] == [f"user{number}" for number in range(6)]
    assert sizes == [1, 5]


def test_client_that_leaves_while_it_waits_is_not_looked_up(monkeypatch):
    turns = [Turn(has_left=False) for _ in range(6)]
    users = make_users(6)
    scopes = [scope_of(log_in(user), **{TURN: turn}) for user, turn in zip(users, turns, strict=True)]

    def leave():
        for turn in turns[3:]:
            turn.leave()

    found, sizes = async_to_sync(with_first_at_work)(scopes, monkeypatch, leave)
    assert sizes == [1, 2]
    assert [isinstance(scope, HTTPException) for scope in found] == [False] * 3 + [True] * 3


def test_nothing_is_kept_of_look_ups_that_nobody_waits_for():
    """Also where all of them have left before the batch begins."""
    [key] = [log_in(user) for user in make_users(1)]

    async def come_and_go():
        task = asyncio.create_task(identify(scope_of(key)))
        await asyncio.sleep(0)
        assert len(batches._of_loop()._queues) == 1
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return task.cancelled(), dict(batches._of_loop()._queues)

    with CaptureQueriesContext(connection) as queries:
        assert async_to_sync(come_and_go)() == (True, {})
    assert not queries.captured_queries


@pytest.mark.parametrize("leaver", [0, 3])
def test_waiter_that_is_cancelled_does_not_cancel_its_batch(leaver):
    keys = [log_in(user) for user in make_users(6)]

    async def together():
        tasks = [asyncio.create_task(identify(scope_of(key))) for key in keys]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        tasks[leaver].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = async_to_sync(together)()
    assert isinstance(found.pop(leaver), asyncio.CancelledError)
    assert all(scope["user"].is_authenticated for scope in found)


# Permissions

VIEW = judge.Condition(lambda user: user.has_perms(["auth.view_user"]), is_permission=True)


def are_permitted(users):
    async def together():
        return await asyncio.gather(*(arrivals.is_permitted(VIEW, user) for user in users))

    return async_to_sync(together)()


def permit(users):
    group = Group.objects.create(name="viewers")
    group.permissions.add(Permission.objects.get(codename="view_user"))
    group.user_set.add(*users)


def test_permissions_of_two_hundred_in_two_queries():
    users = make_users(200)
    permit(users[::2])
    with CaptureQueriesContext(connection) as queries:
        assert are_permitted(users) == [True, False] * 100
    assert len(queries) == 2
    lone = make_users(1, is_staff=True)
    with CaptureQueriesContext(connection) as queries:
        assert are_permitted(lone) == [False]
    assert len(queries) == 2


def test_permissions_of_a_user_in_several_sockets():
    users = make_users(3)
    permit(users[:1])
    assert are_permitted([User.objects.get(pk=users[0].pk) for _ in range(5)]) == [True] * 5
    assert are_permitted(make_users(2, is_superuser=True) + make_users(2, is_active=False)) == [
        *[True] * 2,
        *[False] * 2,
    ]


class Moody(ModelBackend):
    """A backend with permissions of its own, which fails for one user."""

    def has_perm(self, user, perm, obj=None):
        if user.username == "user3":
            raise ValueError("moody")
        return user.username == "user2" or super().has_perm(user, perm, obj)


def test_backend_with_permissions_of_its_own(settings):
    settings.AUTHENTICATION_BACKENDS = [BACKEND, "tests.test_arrivals.Moody"]
    users = make_users(6)
    permit(users[:2])

    async def together():
        asked = (arrivals.is_permitted(VIEW, user) for user in users)
        return await asyncio.gather(*asked, return_exceptions=True)

    found = async_to_sync(together)()
    assert isinstance(found.pop(3), ValueError)
    assert found == [True, True, True, False, False]


def test_thread_of_the_tests_is_the_one_that_looks_up():
    """In a test's transaction only one thread sees the database; look-ups run there."""

    async def check():
        return lookups._has_thread()

    assert async_to_sync(check)()


def count_to_three(*, opens):
    if opens:
        connection.ensure_connection()
    return 3


def in_pool(call):
    return asyncio.run(lookups.look_up(call))


def in_thread_of_tests(call):
    return async_to_sync(lookups.look_up)(call)


@pytest.mark.parametrize("look_up", [in_pool, in_thread_of_tests])
def test_look_up_without_a_database_in_a_test_without_one(django_db_blocker, look_up):
    """SQLite's in-memory databases stay open between tests, also before a test may use them."""
    assert look_up(partial(count_to_three, opens=True)) == 3
    with django_db_blocker.block():
        assert look_up(partial(count_to_three, opens=False)) == 3
        with pytest.raises(RuntimeError, match="Database access not allowed"):
            look_up(partial(count_to_three, opens=True))
