"""Django's signals about users through other models, and logouts whose session has no stable key."""

import functools
from importlib import import_module

import pytest
from django.conf import settings as django_settings
from django.contrib.auth import login, logout
from django.contrib.auth.models import AnonymousUser, Group, Permission, User
from django.db import connection, models
from django.http import HttpRequest
from django.test.utils import isolate_apps

from fastws_compat.auth import disconnect_user, login_required, permission_required, user_passes_test
from fastws_compat.logins import receivers, registry
from tests.test_revalidation import app_for, committed, connected, end_of, nothing_is_left
from tests.users import client_of, make_user

__all__ = ["committed", "nothing_is_left"]  # fixtures
pytestmark = pytest.mark.django_db


@functools.cache  # Django's signals identify a class by its address, which must not be reused
def derive():
    with isolate_apps("tests"):

        class Person(User):
            class Meta:
                proxy = True
                app_label = "tests"

        class Employee(User):
            class Meta:
                app_label = "tests"

        class Boss(Employee):
            class Meta:
                proxy = True
                app_label = "tests"

        class Role(Group):
            class Meta:
                proxy = True
                app_label = "tests"

        class Right(Permission):
            class Meta:
                proxy = True
                app_label = "tests"

    return {model.__name__: model for model in (Person, Employee, Boss, Role, Right)}


@pytest.fixture
def derived():
    """A proxy, a multi-table child and a proxy of that, created after the application was set up."""
    with connection.cursor() as cursor:  # SQLite's schema editor works only outside transactions
        cursor.execute(
            "CREATE TABLE tests_employee (user_ptr_id integer PRIMARY KEY REFERENCES auth_user (id))"
        )
    return derive()


def make_derived(model):
    user = make_user()
    if not model._meta.proxy or model.__name__ == "Boss":
        base = model._meta.concrete_model
        base(user_ptr=user).save_base(raw=True)
    return user, model.objects.get(pk=user.pk)


@pytest.mark.parametrize("name", ["Person", "Employee", "Boss"])
@pytest.mark.parametrize("change", ["save", "delete", "only", "permission"])
def test_user_that_is_changed_through_another_model(derived, name, change):
    user, same = make_derived(derived[name])
    user.user_permissions.add(Permission.objects.get(codename="view_user"))
    with connected(user, login_required, permission_required("auth.view_user")) as websocket:
        assert end_of(websocket) == "open"
        if change == "delete":
            same.delete()
        elif change == "permission":
            same.user_permissions.clear()
        else:
            same = derived[name].objects.only("pk").get() if change == "only" else same
            same.is_active = False
            same.save()
        assert end_of(websocket) == (4403 if change == "permission" else 4401)


@pytest.mark.parametrize(
    "change", ["group deleted", "group renamed", "right deleted", "right renamed", "rights"]
)
def test_group_that_is_changed_through_another_model(derived, change):
    user, group = make_user(), Group.objects.create(name="readers")
    group.permissions.add(Permission.objects.get(codename="view_user"))
    user.groups.add(group)
    role, right = derived["Role"].objects.get(), derived["Right"].objects.get(codename="view_user")

    def is_reader(user):
        return user.groups.filter(name="readers").exists()

    with connected(user, permission_required("auth.view_user"), user_passes_test(is_reader)) as websocket:
        assert end_of(websocket) == "open"
        if change == "group deleted":
            role.delete()
        elif change == "group renamed":
            role.name = "writers"
            role.save()
        elif change == "right deleted":
            right.delete()
        elif change == "right renamed":
            right.codename = "see_user"
            right.save()
        else:
            role.permissions.clear()
        assert end_of(websocket) == 4403


kept = []


def test_parent_and_rows_of_a_user_model(monkeypatch):
    """A user model that inherits its fields, with the project's own model for its groups."""
    with isolate_apps("tests"):

        class Being(models.Model):
            class Meta:
                app_label = "tests"

        class Team(models.Model):
            class Meta:
                app_label = "tests"

        class Account(Being):
            groups = models.ManyToManyField(Team, through="Membership")

            class Meta:
                app_label = "tests"

        class Membership(models.Model):
            account = models.ForeignKey(Account, models.CASCADE)
            team = models.ForeignKey(Team, models.CASCADE)

            class Meta:
                app_label = "tests"

        kept.append((Being, Team, Account, Membership))
        monkeypatch.setattr(receivers, "get_user_model", lambda: Account)
        told = []
        monkeypatch.setattr(receivers, "recheck", lambda users, using: told.append(users))
        for model in (Being, Team, Account, Membership):
            receivers.listen_to(model)
        for instance in (Being(pk=3), Account(being_ptr_id=4), Membership(pk=5), Team(pk=6)):
            models.signals.post_save.send(
                type(instance), instance=instance, created=False, using="default", update_fields=None
            )
            models.signals.post_delete.send(type(instance), instance=instance, using="default")
    assert told == [["3"], ["3"], ["4"], ["4"], None, None]


SIGNED = "django.contrib.sessions.backends.signed_cookies"


def test_logout_of_a_session_in_a_cookie(settings):
    settings.SESSION_ENGINE = SIGNED
    ann = make_user()
    here, there = client_of(ann, app_for(login_required)), client_of(ann, app_for(login_required))
    with here.websocket_connect("/ws") as one, there.websocket_connect("/ws") as other:
        assert [one.receive_text(), other.receive_text()] == ["in", "in"]
        here.logout()
        assert [end_of(one), end_of(other)] == [4401, "open"]


def test_session_in_a_cookie_by_hand(settings):
    settings.SESSION_ENGINE = SIGNED
    ann = make_user()
    here, there = client_of(ann, app_for(login_required)), client_of(ann, app_for(login_required))
    with here.websocket_connect("/ws") as one, there.websocket_connect("/ws") as other:
        assert [one.receive_text(), other.receive_text()] == ["in", "in"]
        disconnect_user(ann, session_key=here.cookies["sessionid"])
        assert [end_of(one), end_of(other)] == [4401, "open"]


def test_logout_of_a_session_in_a_cookie_that_began_before_it_had_a_name(settings, monkeypatch):
    settings.SESSION_ENGINE = SIGNED
    monkeypatch.setattr("fastws_compat.logins.session_names.give_name", lambda session: None)
    ann, bob = make_user(), make_user("bob")
    here, there = client_of(ann, app_for(login_required)), client_of(ann, app_for(login_required))
    with here.websocket_connect("/ws") as one, there.websocket_connect("/ws") as two:
        with connected(bob, login_required) as other:
            assert [one.receive_text(), two.receive_text()] == ["in", "in"]
            here.logout()
            assert [end_of(one), end_of(two), end_of(other)] == [4401, 4401, "open"]


@pytest.mark.parametrize("engine", ["db", "cached_db", "cache", "file"])
def test_logout_after_the_key_has_changed(settings, tmp_path, engine):
    """Sockets opened under the old key are closed too, because that session no longer exists."""
    settings.SESSION_ENGINE, settings.SESSION_FILE_PATH = (
        f"django.contrib.sessions.backends.{engine}",
        str(tmp_path),
    )
    ann = make_user()
    client = client_of(ann, app_for(login_required))
    with client.websocket_connect("/ws") as before:
        assert before.receive_text() == "in"
        store = __import__(settings.SESSION_ENGINE, fromlist=["SessionStore"]).SessionStore
        session = store(client.cookies["sessionid"])
        session.cycle_key()
        client.cookies.set(django_settings.SESSION_COOKIE_NAME, session.session_key)
        with client.websocket_connect("/ws") as after:
            assert after.receive_text() == "in"
            client.logout()
            assert [end_of(after), end_of(before)] == [4401, 4401]
    assert registry.registries() == []


BACKEND = "django.contrib.auth.backends.ModelBackend"


def request_of(client, user):
    """The request of a page that the client opens, as middleware leaves it."""
    request = HttpRequest()
    key = request.COOKIES["sessionid"] = client.cookies["sessionid"]
    request.session = import_module(django_settings.SESSION_ENGINE).SessionStore(key)
    request.user = user
    return request


@pytest.mark.parametrize("engine", ["db", "cached_db", "cache", "file", "signed_cookies"])
def test_login_of_somebody_else_in_the_same_browser(settings, tmp_path, engine):
    """Django replaces the session without a signal for the user who was logged in to it."""
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    settings.SESSION_FILE_PATH = str(tmp_path)
    ann, bob = make_user(), make_user("bob")
    here, there = client_of(ann, app_for(login_required)), client_of(ann, app_for(login_required))
    with here.websocket_connect("/ws") as one, there.websocket_connect("/ws") as other:
        assert [one.receive_text(), other.receive_text()] == ["in", "in"]
        login(request_of(here, ann), ann, BACKEND)  # again, and the session stays
        other.send_text("wait")
        assert other.receive_text() == "wait"
        one.send_text("still there?")
        assert one.receive_text() == "still there?"
        login(request_of(here, ann), bob, BACKEND)
        assert [end_of(one), end_of(other)] == [4401, "open"]


def test_login_of_somebody_else_takes_effect_with_its_transaction(monkeypatch):
    waiting = []

    def on_commit(call, using=None, robust=False):
        waiting.append((call, using))

    monkeypatch.setattr("django.db.transaction.on_commit", on_commit)
    ann, bob = make_user(), make_user("bob")
    client = client_of(ann, app_for(login_required))
    with client.websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "in"
        waiting.clear()
        login(request_of(client, ann), bob, BACKEND)
        assert end_of(websocket) == "open"
        [(committed, using)] = waiting
        assert using == "default"
        committed()
        assert end_of(websocket) == 4401


@pytest.mark.parametrize("shown", ["somebody else", "nobody"])
def test_logout_while_middleware_shows_another_user(shown):
    """The session's own user is logged out even if `request.user` is somebody else (impersonation)."""
    ann, bob = make_user(), make_user("bob")
    client = client_of(ann, app_for(login_required))
    with client.websocket_connect("/ws") as websocket, connected(bob, login_required) as other:
        assert websocket.receive_text() == "in"
        logout(request_of(client, bob if shown == "somebody else" else AnonymousUser()))
        assert [end_of(websocket), end_of(other)] == [4401, "open"]


def test_logout_of_a_session_without_a_login_ends_nothing():
    store = import_module(django_settings.SESSION_ENGINE).SessionStore()
    store["cart"] = []
    store.save()
    request = HttpRequest()
    request.session, request.user = store, AnonymousUser()
    with connected(make_user(), login_required) as websocket:
        logout(request)
        assert end_of(websocket) == "open"
