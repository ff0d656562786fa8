"""Many logins at once need no query with more parameters than the database accepts."""

from __future__ import annotations

import sqlite3

import pytest
from django.contrib.auth.models import Group, Permission
from django.db import connection
from django.test.utils import CaptureQueriesContext

from fastws_compat.logins import judge, lookups, parts
from tests.test_arrivals import log_in, make_users

pytestmark = pytest.mark.django_db

LOGINS = 7


@pytest.fixture
def keys():
    """Session keys of users who have one permission each, alternately of their own and through a group."""
    users = make_users(LOGINS)
    group, permission = Group.objects.create(name="viewers"), Permission.objects.get(codename="view_user")
    group.permissions.add(permission)
    for number, user in enumerate(users):
        if number % 2:
            user.groups.add(group)
        else:
            user.user_permissions.add(permission)
    return [log_in(user) for user in users]


@pytest.fixture(params=[None, 3, LOGINS])
def most(request, monkeypatch):
    """The number of logins that fit into one query; None for a database without a maximum."""
    limit = request.param and request.param + parts.OTHERS
    monkeypatch.setattr(connection.features, "max_query_params", limit)
    return request.param


@pytest.fixture
def queries():
    with CaptureQueriesContext(connection) as captured:
        yield captured


def count(most):
    return 3 if most == 3 else 1


def test_users_of_many_sessions(keys, most, queries):
    users = judge.owners_of([lookups.new_session(key) for key in keys])
    assert [user.username for user in users] == [f"user{number}" for number in range(LOGINS)]
    assert len(queries) == 2 * count(most)


def test_permissions_of_many_users(keys, most):
    users = judge.owners_of([lookups.new_session(key) for key in keys])
    with CaptureQueriesContext(connection) as queries:
        judge.load_permissions(users)
        assert all(user.has_perm("auth.view_user") for user in users)
    assert len(queries) == 2 * count(most)


def test_check_of_many_logins(keys, most):
    sessions = judge.load_sessions(keys)
    claims = [judge.Claim(sessions[key]["_auth_user_id"], key, ()) for key in keys]
    claims.append(judge.Claim(claims[0].user_id, "0" * 32, ()))
    with CaptureQueriesContext(connection) as queries:
        assert judge.judge(claims) == [None] * LOGINS + [judge.LOGGED_OUT]
    assert len(queries) == 2 * count(most) + (most == LOGINS)


def test_no_value_needs_no_query(most, queries):
    assert judge.load_users([]) == {}
    assert judge.load_sessions([]) == {}
    assert len(queries) == 0


@pytest.fixture
def oldest_sqlite(monkeypatch):
    """SQLite before 3.32 accepts 999 parameters."""
    connection.ensure_connection()
    before = connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, 999)
    monkeypatch.setattr(connection.features, "max_query_params", 999)
    yield
    connection.connection.setlimit(sqlite3.SQLITE_LIMIT_VARIABLE_NUMBER, before)


def test_full_batch_on_the_oldest_sqlite(oldest_sqlite):
    sessions = [lookups.new_session(f"{number:032}") for number in range(judge.BATCH)]
    identities = [judge.Identity(str(number), None) for number in range(judge.BATCH)]
    with CaptureQueriesContext(connection) as queries:
        assert judge.owners_of(sessions) == [None] * judge.BATCH
        assert judge.load_users(identities) == {}
    assert len(queries) == 4
