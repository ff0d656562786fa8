"""Logins in projects that differ from most: own user models, sessions without a table, replicas."""

from __future__ import annotations

import asyncio
import copy
import gc
from types import SimpleNamespace
from typing import Any, cast

import pytest
from django.contrib.auth import BACKEND_SESSION_KEY, SESSION_KEY
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.db import OperationalError, connections
from django.db.models import CharField
from django.utils.crypto import salted_hmac

from fastws_compat.connections.states import LOGIN, RESPONSE, SESSION
from fastws_compat.logins import gate, judge, lookups, receivers, registry, session_digest, tenants
from fastws_compat.logins.batches import Batches
from fastws_compat.logins.gate import Login
from fastws_compat.logins.lookups import new_session
from fastws_compat.requests import parse_cookie
from fastws_compat.threads import databases


def test_a_user_model_without_fallback_keys_has_one_hash() -> None:
    user = SimpleNamespace(get_session_auth_hash=lambda: "hash")
    assert list(judge._hashes(user)) == ["hash"]


class PrefixedField(CharField):  # type: ignore[type-arg]
    """A project's field, which shows its values with a prefix."""

    def value_from_object(self, obj: Any) -> str:
        return f"user-{super().value_from_object(obj)}"

    def to_python(self, value: Any) -> Any:
        return str(value).removeprefix("user-")


def test_a_key_is_written_as_its_field_shows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    field = PrefixedField()
    field.set_attributes_from_name("id")
    user = SimpleNamespace(id="1", _meta=SimpleNamespace(pk=field))
    monkeypatch.setattr(judge, "user_model", lambda: user)
    written = field.value_to_string(cast(Any, user))
    assert judge.user_key(user) == judge.user_id_in({SESSION_KEY: written}) == written == "user-1"


def test_permissions_are_loaded_only_where_the_user_model_has_them(monkeypatch: pytest.MonkeyPatch) -> None:
    def permissions(field: str, keys: list[Any], some: Any, primary: bool) -> dict[Any, list[str]]:
        if field == "groups":
            raise judge.FieldDoesNotExist(field)
        return {key: ["app.view"] for key in keys}

    monkeypatch.setattr(judge, "_permissions", permissions)
    user = SimpleNamespace(pk=1)
    judge._load_permissions({1: [user]})
    assert vars(user) == {"pk": 1, "_user_perm_cache": {"app.view"}}


def test_a_project_without_a_user_model_has_no_subjects(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_model() -> Any:
        raise ImproperlyConfigured("AUTH_USER_MODEL refers to a model that has not been installed")

    monkeypatch.setattr(receivers, "get_user_model", no_model)
    assert list(receivers._subjects()) == []


def test_groups_and_permissions_are_no_subjects_without_djangos_app(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(receivers.apps, "is_installed", lambda name: False)
    models = {model for model, _, _ in receivers._subjects()}
    assert User in models
    assert User.groups.rel.model not in models


def test_a_cache_of_a_thread_can_be_copied() -> None:
    cache = lookups.ThreadCache("default")
    assert isinstance(copy.copy(cache), lookups.ThreadCache)
    assert not hasattr(cache, "__deepcopy__")


def test_a_key_with_a_null_character_reaches_no_database() -> None:
    """A quoted cookie may contain one, and PostgreSQL raises an error for it."""
    assert new_session(parse_cookie(r'sessionid="\000abcdefgh"')["sessionid"]).session_key is None
    assert new_session("abcdefgh").session_key == "abcdefgh"


class KeptConnection:
    """A database connection from an earlier call."""

    errors_occurred = True
    in_atomic_block = False

    def __init__(self, connection: Any = "kept", usable: bool = False) -> None:
        self.connection = connection
        self.usable = usable

    def is_usable(self) -> bool:
        return self.usable

    def close(self) -> None:
        self.connection = None


class LookUps:
    """A look-up that fails so many times."""

    def __init__(self, failures: int = 1) -> None:
        self.failures, self.number = failures, 0

    def __call__(self) -> str:
        self.number += 1
        if self.number <= self.failures:
            raise OperationalError
        return "found"


@pytest.mark.parametrize("failures", [1, lookups.MAX_ATTEMPTS - 1])
def test_a_connection_that_the_database_has_dropped_fails_no_look_up(
    monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """As many may have been kept as a pool holds; the last attempt is not spoilt by another one."""
    look_up = LookUps(failures=failures)
    monkeypatch.setattr(databases, "_opened", lambda: [KeptConnection()])
    assert lookups._connected(look_up) == "found"
    assert look_up.number == failures + 1


def test_a_database_that_drops_every_connection_ends_the_attempts(monkeypatch: pytest.MonkeyPatch) -> None:
    look_up = LookUps(failures=100)
    monkeypatch.setattr(databases, "_opened", lambda: [KeptConnection()])
    with pytest.raises(OperationalError):
        lookups._connected(look_up)
    assert look_up.number == lookups.MAX_ATTEMPTS


@pytest.mark.parametrize(
    "opened", [[], [KeptConnection(None)], [KeptConnection(usable=True)]], ids=["none", "refused", "usable"]
)
def test_a_query_that_fails_on_a_good_connection_is_not_repeated(
    monkeypatch: pytest.MonkeyPatch, opened: list[KeptConnection]
) -> None:
    look_up = LookUps()
    monkeypatch.setattr(databases, "_opened", lambda: opened)
    with pytest.raises(OperationalError):
        lookups._connected(look_up)
    assert look_up.number == 1


def test_a_session_of_nobody_lets_nobody_in() -> None:
    assert judge.may_log_in(User(pk=5), {}) is False


def test_a_user_who_was_deactivated_may_not_come_in_with_a_session() -> None:
    session = {SESSION_KEY: "5", BACKEND_SESSION_KEY: "django.contrib.auth.backends.ModelBackend"}
    assert judge.may_log_in(User(pk=5, is_active=False), session) is False


def test_a_condition_that_is_required_twice_is_kept_once() -> None:
    login = Login.__new__(Login)
    login.conditions = ()
    condition: Any = object()
    login.require(condition)
    login.require(condition)
    assert login.conditions == (condition,)


def test_a_login_that_ends_during_a_refusal_changes_nothing_about_it(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(gate, "call_in_loop", lambda loop, context, call: calls.append(call))
    login: Any = Login.__new__(Login)
    login.ended, login.loop, login.context = None, None, None
    # It has nothing to note a close with.
    login._connection = SimpleNamespace(state=RESPONSE)
    login.end(4401, "")
    login.end(4403, "later")
    assert login.ended == (4401, "")
    assert len(calls) == 1


# Tenants


def test_sessions_in_cookies_are_in_no_database(settings: Any) -> None:
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.signed_cookies"
    assert tenants._session_databases() == ("", "")


def test_a_user_whose_tenant_is_unknown_counts_by_key(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(user: Any) -> str:
        raise RuntimeError("only a thread's connection knows the schema")

    monkeypatch.setattr(tenants, "tenant_of", unknown)
    assert tenants.owner_key(User(pk=5)) == 5


class OutsideOfTenants:
    def db_for_write(self, model: Any, **hints: Any) -> str:
        raise LookupError("no tenant")


def test_a_new_user_outside_of_any_tenant_has_no_database(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [OutsideOfTenants()]
    with pytest.raises(LookupError, match="no tenant"):
        tenants.database_of(User(pk=5))


def test_a_manager_that_has_chosen_a_database_keeps_it() -> None:
    assert judge._in_primary(User.objects.using("other"))._db == "other"
    assert judge._in_primary(User.objects.all())._db == "default"


def test_a_database_of_the_same_place_is_a_replica(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    copied = {**connections.settings["default"], "TEST": {}}
    monkeypatch.setitem(connections.settings, "copied", copied)
    monkeypatch.setitem(connections.settings, "other", {**copied, "NAME": "elsewhere"})
    assert tenants._is_replica("copied", "default", User(pk=5)) is True
    # The router reads from where it writes, so this is another tenant's.
    assert tenants._is_replica("other", "default", User(pk=5)) is False


# The registry


def test_logins_that_have_all_ended_need_no_query() -> None:
    async def main() -> bool:
        logins = registry.LoginRegistry(asyncio.get_running_loop())
        return await logins._check_batch(tenants.Location(), [cast(Any, object())])

    assert asyncio.run(main()) is True


@pytest.mark.parametrize(
    ("answers", "checked"), [([True, True], [["a", "b"], ["c"]]), ([False], [["a", "b"]])]
)
def test_a_round_ends_at_a_location_whose_database_fails(
    answers: list[bool], checked: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry, "BATCH", 2)
    found: list[list[str]] = []

    async def check(location: Any, batch: Any) -> bool:
        found.append([login.name for login in batch])
        return answers[len(found) - 1]

    async def main() -> None:
        logins: Any = registry.LoginRegistry(asyncio.get_running_loop())
        logins._check_batch = check
        await logins.check([SimpleNamespace(name=name, location=tenants.Location()) for name in "abc"])

    asyncio.run(main())
    assert found == checked


def test_a_socket_has_one_login_and_outside_of_our_applications_none() -> None:
    watched: Any = SimpleNamespace(scope={SESSION: object(), LOGIN: "the first"})
    registry.enter(watched, "1", None)
    assert watched.scope[LOGIN] == "the first"
    foreign: Any = SimpleNamespace(scope={})
    registry.enter(foreign, "1", None)
    assert foreign.scope == {}


# Look-ups that take too long


def test_nobody_is_refused_after_the_last_look_up_or_without_a_time_limit(settings: Any) -> None:
    settings.FASTWS = {"HANDSHAKE_TIMEOUT": None}

    async def main() -> None:
        queues = Batches(asyncio.get_running_loop())
        queues._refuse_late()
        assert not queues._is_armed
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry: Any = SimpleNamespace(turn=object(), begun=-1000.0, is_wanted=True, future=future)
        queues._queues["place"] = cast(Any, SimpleNamespace(entries=lambda: [entry]))
        queues._refuse_late()
        assert queues._is_armed  # it looks again: the setting may change
        assert not future.done()
        queues._queues.clear()

    asyncio.run(main())


def test_a_loop_that_is_gone_has_no_timer() -> None:
    loop = asyncio.new_event_loop()
    queues = Batches(loop)
    loop.close()
    del loop
    gc.collect()
    queues._arm()
    assert not queues._is_armed


def test_the_digest_of_a_session_is_djangos_salted_hmac(settings: Any) -> None:
    for secret in ("one", b"bytes", "a long one" * 10):
        settings.SECRET_KEY = secret
        expected = salted_hmac("fastws_compat.logins", "k" * 32, algorithm="sha256").hexdigest()
        assert session_digest("k" * 32) == expected
