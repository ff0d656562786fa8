"""The tenant of a user, and its effect on names, counts and messages."""

from contextvars import ContextVar

import pytest
from django.contrib.auth.models import Permission, User
from django.contrib.sessions.models import Session
from django.db import connections

from fastws_compat import FastAPI, WebSocketDisconnect, limits
from fastws_compat.auth import disconnect_user, login_required, permission_required
from fastws_compat.groups import Group
from fastws_compat.logins import registry, tenants
from tests.test_revalidation import (
    app_for,
    check_now,
    committed,
    connected,
    deactivate,
    end_of,
    layer,
    nothing_is_left,
    other,
)
from tests.users import client_of, make_user

__all__ = ["committed", "layer", "nothing_is_left"]  # fixtures

current: ContextVar[str] = ContextVar("current")


def current_name():
    return current.get("")


class Replicas:
    def db_for_read(self, model, **hints):
        return "replica"

    def db_for_write(self, model, **hints):
        return "default"


class OfContext:
    def db_for_read(self, model, **hints):
        return current.get()  # LookupError outside a tenant

    db_for_write = db_for_read


@pytest.fixture(autouse=True)
def databases(monkeypatch):
    engine = connections.settings["default"]["ENGINE"]
    for alias, test in {"replica": {"MIRROR": "default"}, "blue": {}, "red": {}}.items():
        settings = {"ENGINE": engine, "NAME": alias, "TEST": test}
        monkeypatch.setitem(connections.settings, alias, settings)


def user_in(alias):
    user = User(pk=5, username="ann")
    user._state.db = alias
    return user


@pytest.mark.parametrize("alias", ["default", None])
def test_names_of_a_project_with_one_database(alias):
    assert tenants.tenant_of(user_in(alias)) == ""
    assert Group.for_user(user_in(alias)).name == "fastws.user.5"
    assert tenants.owner_key(user_in(alias)) == 5


def test_user_that_is_none_of_djangos():
    class Guest:
        is_authenticated = True

    assert tenants.tenant_of(Guest()) == ""
    assert limits.owner({"user": Guest()}, "user") is None


def test_names_of_users_in_several_databases():
    names = {Group.for_user(user_in(alias)).name for alias in ("default", "blue", "red")}
    assert len(names) == 3
    assert len({tenants.owner_key(user_in(alias)) for alias in ("default", "blue", "red")}) == 3


def test_alias_that_looks_like_a_schema():
    assert tenants._name("a", "b:c") != tenants._name("a:b", "c")


@pytest.mark.parametrize("mirror", [True, False])
def test_replica_is_its_primary(settings, monkeypatch, mirror):
    if not mirror:  # the router reads from a different database than it writes to
        monkeypatch.setitem(connections.settings["replica"], "TEST", {})
    settings.DATABASE_ROUTERS = [f"{__name__}.Replicas"]
    assert tenants.database_of(user_in("replica")) == "default"
    assert Group.for_user(user_in("replica")) == Group.for_user(user_in("default"))
    assert tenants.location_of(user_in("replica")) == tenants.location_of(user_in("default"))


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "code"),
    [
        (deactivate, 4401),
        (lambda ann: Session.objects.all().delete(), 4401),
        (lambda ann: ann.user_permissions.clear(), 4403),
    ],
)
def test_change_that_no_replica_has_yet(settings, change, code):
    """A check reads what it decides about from the database for writing; here the replica has no tables."""
    ann = make_user()
    ann.user_permissions.set(Permission.objects.filter(codename="view_user"))
    with connected(ann, permission_required("auth.view_user")) as websocket:
        settings.DATABASE_ROUTERS = [Replicas()]
        change(ann)
        check_now()
        assert end_of(websocket) == code


def test_user_outside_of_any_tenant(settings):
    settings.DATABASE_ROUTERS = [f"{__name__}.OfContext"]
    assert tenants.database_of(user_in("blue")) == "blue"
    token = current.set("red")
    assert tenants.database_of(user_in("blue")) == "blue"
    assert tenants.current_tenant() == "red:"
    current.reset(token)
    with pytest.raises(LookupError):
        tenants.current_tenant()


def test_tenants_of_one_database(settings):
    settings.FASTWS = {"TENANT": f"{__name__}.current_name"}
    names = set()
    for name in ("", "red", "blue"):
        token = current.set(name)
        names.add(Group.for_user(user_in("default")).name)
        current.reset(token)
    assert len(names) == 3
    assert "fastws.user.5" in names


class InTenant:
    """Middleware that sets the tenant of a connection."""

    def __init__(self, app, name):
        self.app = app
        self.name = name

    async def __call__(self, scope, receive, send):
        current.set(self.name)
        await self.app(scope, receive, send)


def app_of(name):
    app: FastAPI = app_for(login_required)
    app.add_middleware(InTenant, name=name)
    return app


@pytest.mark.django_db
def test_signal_of_one_tenant_is_for_its_sockets(settings, layer):
    settings.FASTWS = {"TENANT": f"{__name__}.current_name"}
    ann = make_user()
    with (
        client_of(ann, app_of("red")).websocket_connect("/ws") as red,
        client_of(ann, app_of("blue")).websocket_connect("/ws") as blue,
    ):
        assert [red.receive_text(), blue.receive_text()] == ["in", "in"]
        layer.sent.clear()
        token = current.set("blue")
        deactivate(ann)
        current.reset(token)
        assert [end_of(blue), end_of(red)] == [4401, "open"]
        assert [message["tenant"] for _, message in layer.sent] == ["default:blue"]


@pytest.mark.django_db
def test_message_of_one_tenant_is_for_its_sockets(settings, layer):
    settings.FASTWS = {"TENANT": f"{__name__}.current_name"}
    ann = make_user()
    key = str(ann.pk)
    with client_of(ann, app_of("red")).websocket_connect("/ws") as red:
        assert red.receive_text() == "in"
        with connected(ann, login_required) as default:
            end = {"user": key, "session": None, "code": 4401, "reason": ""}
            layer.arrive(other("end", **end, tenant="default:blue"))
            assert [end_of(red), end_of(default)] == ["open", "open"]
            layer.arrive(other("end", **end))  # from a process without tenants
            assert [end_of(default), end_of(red)] == [4401, "open"]
        User.objects.update(is_active=False)
        layer.arrive(other("recheck", users=[key]))
        assert end_of_waiting(red) == 4401


def end_of_waiting(websocket):
    with pytest.raises(WebSocketDisconnect) as end:
        websocket.receive_text()
    return end.value.code


@pytest.mark.django_db
def test_socket_that_is_opened_during_a_change_in_another_tenant(settings):
    settings.FASTWS = {"TENANT": f"{__name__}.current_name"}
    ann = make_user()

    async def meanwhile():
        registry.end_logins(str(ann.pk), tenant="default:blue")

    app = app_for(meanwhile, login_required)
    app.add_middleware(InTenant, name="red")
    with client_of(ann, app).websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "in"
        disconnect_user(ann)  # without a tenant
        assert end_of(websocket) == "open"
