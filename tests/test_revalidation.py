"""When a login ends, its sockets close: after a signal, on request, and in the periodic rounds."""

import asyncio
import json
import logging
import threading
from collections import deque
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import Annotated

import pytest
from asgiref.sync import ThreadSensitiveContext, async_to_sync, sync_to_async
from channels.layers import channel_layers
from channels.testing import WebsocketCommunicator
from django.conf import settings as django_settings
from django.contrib.auth import update_session_auth_hash
from django.contrib.auth.backends import ModelBackend
from django.contrib.auth.models import Group, Permission, User
from django.contrib.sessions.models import Session
from django.core.cache.backends.locmem import LocMemCache
from django.db import OperationalError, connection
from django.http import HttpRequest
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from fastws_compat import Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastws_compat.asgi import get_asgi_application
from fastws_compat.auth import (
    adisconnect_user,
    disconnect_user,
    get_user,
    login_required,
    permission_required,
    staff_member_required,
    superuser_required,
    user_passes_test,
)
from fastws_compat.connections.states import LOGIN
from fastws_compat.layers import subscription
from fastws_compat.logins import parts, registry, remote, session_digest
from fastws_compat.logins.judge import Claim, Condition, judge, load_sessions
from fastws_compat.testclient import TestClient, WebSocketDenialResponse
from tests.fake_server import CONNECT, DENIAL, TIMEOUT, FakeServer, until, websocket_scope
from tests.users import ORIGIN, InScope, client_of, cookie_of, headers_of, make_user

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def committed(monkeypatch):
    """Run what waits for a commit at once, because the transaction of a test is never committed."""
    monkeypatch.setattr("django.db.transaction.on_commit", lambda call, using=None, robust=False: call())


@pytest.fixture(autouse=True)
def nothing_is_left():
    yield
    assert registry.registries() == []


def app_for(*dependencies, seen=None):
    app = FastAPI()

    @app.websocket("/ws", dependencies=[Depends(dependency) for dependency in dependencies])
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text("in")
        async for text in websocket.iter_text():
            if seen is not None:
                seen.append(text)
            await websocket.send_text(text)

    return app


@contextmanager
def connected(user, *dependencies, seen=None):
    with client_of(user, app_for(*dependencies, seen=seen)).websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "in"
        yield websocket


def end_of(websocket):
    """The code with which the socket was closed; "open" if it still answers."""
    websocket.send_text("still there?")
    try:
        return "open" if websocket.receive_text() == "still there?" else None
    except WebSocketDisconnect as end:
        return end.code


def check_now():
    """Run a round of the revalidation now."""

    async def rounds():
        for logins in registry.registries():
            await logins.check(logins.find())

    async_to_sync(rounds)()


# What ends a socket

ALL = [login_required, staff_member_required, permission_required("auth.view_user")]


def deactivate(user):
    user.is_active = False
    user.save()


def change_password(user):
    user.set_password("another")
    user.save()


def lose_staff(user):
    user.is_staff = False
    user.save()


def lose_permission(user):
    user.user_permissions.clear()


def lose_permission_from_the_other_side(user):
    Permission.objects.get(codename="view_user").user_set.remove(user)


def delete(user):
    user.delete()


CHANGES = {
    deactivate: 4401,
    change_password: 4401,
    delete: 4401,
    lose_staff: 4403,
    lose_permission: 4403,
    lose_permission_from_the_other_side: 4403,
}


@pytest.mark.parametrize("change", CHANGES)
def test_change_that_is_signalled(change):
    ann = make_user(is_staff=True, perms=["auth.view_user"])
    with connected(ann, *ALL) as websocket:
        assert end_of(websocket) == "open"
        change(ann)
        assert end_of(websocket) == CHANGES[change]


def test_change_that_is_not_signalled():
    ann = make_user(is_staff=True)
    with connected(ann, staff_member_required) as websocket:
        User.objects.update(is_staff=False)
        assert end_of(websocket) == "open"
        check_now()
        assert end_of(websocket) == 4403


@pytest.mark.parametrize("role", ["is_staff", "is_superuser"])
def test_role_that_the_route_does_not_require(role):
    ann = make_user(is_staff=True, is_superuser=True)
    asked = {"is_staff": superuser_required, "is_superuser": staff_member_required}[role]
    with connected(ann, asked) as websocket:
        setattr(ann, role, False)
        ann.save()
        assert end_of(websocket) == "open"


@pytest.mark.parametrize("change", ["member", "permissions", "group", "clear"])
def test_group_that_gave_the_permission(change):
    ann, group = make_user(), Group.objects.create(name="readers")
    group.permissions.add(Permission.objects.get(codename="view_user"))
    group.user_set.add(ann)
    with connected(ann, permission_required("auth.view_user")) as websocket:
        assert end_of(websocket) == "open"
        if change == "member":
            ann.groups.remove(group)
        elif change == "permissions":
            group.permissions.clear()
        elif change == "group":
            group.delete()
        else:
            group.user_set.clear()
        assert end_of(websocket) == 4403


@pytest.mark.parametrize("dependency", [get_user, login_required])
def test_logout_ends_the_sockets_of_its_session(dependency):
    ann = make_user()
    app = app_for(dependency)
    here, there = client_of(ann, app), client_of(ann, app)
    with here.websocket_connect("/ws") as one, here.websocket_connect("/ws") as two:
        with there.websocket_connect("/ws") as other:
            for websocket in (one, two, other):
                assert websocket.receive_text() == "in"
            here.logout()
            assert [end_of(one), end_of(two), end_of(other)] == [4401, 4401, "open"]


def test_anonymous_user_has_no_login_to_end():
    with TestClient(app_for(get_user)).websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "in"
        assert registry.registries() == []


def test_route_without_these_dependencies_is_not_known():
    ann = make_user()
    with connected(ann) as websocket:
        assert registry.registries() == []
        disconnect_user(ann)
        assert end_of(websocket) == "open"


def test_other_users_stay():
    ann, bob = make_user(), make_user("bob")
    with connected(ann, login_required) as one, connected(bob, login_required) as two:
        deactivate(ann)
        assert [end_of(one), end_of(two)] == [4401, "open"]


def test_login_of_the_same_user_ends_nothing(django_assert_num_queries):
    ann = make_user()
    with connected(ann, login_required) as websocket:
        client_of(ann, FastAPI())
        assert end_of(websocket) == "open"
        ann.first_name = "Ann"
        ann.save()
        assert end_of(websocket) == "open"


def test_new_password_that_keeps_this_session():
    """The key of the session changes, and the browser gets the new one in its cookie and reconnects."""
    ann = make_user()
    client = client_of(ann, app_for(login_required))
    with client.websocket_connect("/ws") as websocket:
        websocket.receive_text()
        request, django = HttpRequest(), Client()
        django.cookies[django_settings.SESSION_COOKIE_NAME] = client.cookies["sessionid"]
        request.session, request.user = django.session, ann
        change_password(ann)
        update_session_auth_hash(request, ann)
        request.session.save()
        assert end_of(websocket) == 4401
    client.cookies.set("sessionid", request.session.session_key)
    with client.websocket_connect("/ws") as websocket:
        assert websocket.receive_text() == "in"


@pytest.mark.parametrize("how", ["deleted", "expired", "of another user", "anonymous"])
def test_session_that_ended_without_a_signal(how):
    ann, bob = make_user(), make_user("bob")
    client = client_of(ann, app_for(login_required))
    with client.websocket_connect("/ws") as websocket:
        websocket.receive_text()
        session = Session.objects.get(pk=client.cookies["sessionid"])
        if how == "deleted":
            Session.objects.all()._raw_delete("default")  # as another program does
        elif how == "expired":
            Session.objects.update(expire_date=timezone.now())
        else:
            data = {**session.get_decoded(), "_auth_user_id": str(bob.pk)} if how != "anonymous" else {}
            Session.objects.update(session_data=Session.objects.encode(data))
        check_now()
        assert end_of(websocket) == 4401


def test_key_of_the_site_that_is_being_rotated(settings):
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "old", []
    with connected(make_user(), login_required) as websocket:
        settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["old"]
        check_now()
        assert end_of(websocket) == "open"
        settings.SECRET_KEY_FALLBACKS = []
        check_now()
        assert end_of(websocket) == 4401


def test_backend_that_is_taken_from_the_settings(settings):
    with connected(make_user(), login_required) as websocket:
        settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.AllowAllUsersModelBackend"]
        check_now()
        assert end_of(websocket) == 4401


class Bouncer(ModelBackend):
    """A backend that looks users up in its own way."""

    def get_user(self, user_id):
        return User.objects.filter(pk=user_id).exclude(last_name="Banned").first()


def test_backend_that_finds_users_in_its_own_way(settings):
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Bouncer"]
    ann = make_user()
    with connected(ann, login_required) as websocket:
        check_now()
        assert end_of(websocket) == "open"
        User.objects.update(last_name="Banned")
        check_now()
        assert end_of(websocket) == 4401


class Brittle(ModelBackend):
    """A backend whose methods raise for some users."""

    def get_user(self, user_id):
        user = User.objects.get(pk=user_id)  # raises DoesNotExist, where Django's backend returns None
        if user.last_name == "Raises":
            raise LookupError("no directory")
        return None if user.last_name == "Banned" else user


class BrittleRule(ModelBackend):
    """A backend that looks users up as Django's does."""

    def user_can_authenticate(self, user):
        if user.last_name == "Raises":
            raise LookupError("no directory")
        return user.last_name != "Banned"


KEPT = "The user of an open WebSocket cannot be checked, so the socket stays open"


@pytest.mark.parametrize("backend", [Brittle, BrittleRule])
def test_user_who_cannot_be_checked_keeps_nobody_else_from_being_checked(settings, caplog, backend):
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.{backend.__name__}"]
    ann, bob, eve = (make_user(name) for name in ("ann", "bob", "eve"))
    with ExitStack() as stack:
        sockets = [stack.enter_context(connected(user, login_required)) for user in (ann, bob, eve)]
        User.objects.filter(pk=ann.pk).update(last_name="Raises")
        User.objects.filter(pk=bob.pk).update(last_name="Banned")
        User.objects.filter(pk=eve.pk)._raw_delete("default")
        check_now()
        assert [end_of(websocket) for websocket in sockets] == ["open", 4401, 4401]
        assert [record.message for record in caplog.records if record.levelname == "ERROR"] == [KEPT]
        assert "no directory" in caplog.text


def test_hash_that_cannot_be_made_ends_nothing(monkeypatch, caplog):
    def fail(self):
        raise LookupError("no key")

    with connected(make_user(), login_required) as websocket:
        monkeypatch.setattr(User, "get_session_auth_hash", fail)
        check_now()
        assert end_of(websocket) == "open"
    assert caplog.messages[0] == KEPT


def test_many_errors_are_an_outage(settings, monkeypatch, caplog):
    """The service behind a backend may be down, and each call may take long to notice it."""
    monkeypatch.setattr("fastws_compat.logins.judge.MAX_ERRORS", 2)
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Brittle"]
    with ExitStack() as stack:
        for number in range(4):
            stack.enter_context(connected(make_user(f"user{number}"), login_required))
        User.objects.update(last_name="Raises")
        check_now()
    failed = "Open WebSockets could not be revalidated (LookupError: no directory)"
    assert caplog.messages == [KEPT, KEPT, failed]


def test_backend_without_its_database_ends_nothing(settings, monkeypatch, caplog):
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Brittle"]
    with connected(make_user(), login_required) as websocket:
        monkeypatch.setattr(Brittle, "get_user", fail_with(ConnectionError("down")))
        check_now()
        assert end_of(websocket) == "open"
    assert caplog.messages == ["Open WebSockets could not be revalidated (ConnectionError: down)"]


def fail_with(error):
    def fail(*args):
        raise error

    return fail


def test_cache_of_the_sessions_that_is_down_ends_nothing(settings, monkeypatch, caplog):
    """Django's engine finds no session while the cache fails, which would log everybody out."""
    settings.SESSION_ENGINE = "django.contrib.sessions.backends.cache"
    with connected(make_user(), login_required) as websocket:
        for name in ("get", "get_many"):
            monkeypatch.setattr(LocMemCache, name, fail_with(ConnectionError("down")))
        check_now()
        assert end_of(websocket) == "open"
    assert caplog.messages == ["Open WebSockets could not be revalidated (ConnectionError: down)"]


def stop(*args):
    return next(iter(()))


def test_look_up_that_raises_stop_iteration(settings, monkeypatch, caplog):
    """A future cannot hold a StopIteration, so its awaiter would never wake up."""
    settings.AUTHENTICATION_BACKENDS = [f"{__name__}.Brittle"]
    ann = make_user()
    with connected(ann, login_required) as websocket:
        monkeypatch.setattr(Brittle, "get_user", stop)
        check_now()
        assert end_of(websocket) == "open"
    assert caplog.messages == [KEPT]
    with pytest.raises(RuntimeError, match="A look-up raised StopIteration"):
        client_of(ann, app_for(login_required)).websocket_connect("/ws").__enter__()
    monkeypatch.setattr(Brittle, "get_user", lambda self, pk: ann)
    with pytest.raises(RuntimeError, match="A look-up raised StopIteration"):
        client_of(ann, app_for(user_passes_test(stop))).websocket_connect("/ws").__enter__()


@pytest.mark.parametrize("is_async", [False, True])
def test_own_test_is_made_again(is_async):
    async def async_test(user):
        return await User.objects.filter(pk=user.pk, last_name="").aexists()

    def sync_test(user):
        return User.objects.filter(pk=user.pk, last_name="").exists()

    ann = make_user()
    with connected(ann, user_passes_test(async_test if is_async else sync_test)) as websocket:
        check_now()
        assert end_of(websocket) == "open"
        ann.last_name = "Banned"
        ann.save()
        assert end_of(websocket) == 4403


def test_own_test_that_fails_ends_the_socket(caplog):
    def test(user):
        return 1 / len(user.first_name)

    ann = make_user(first_name="Ann")
    with connected(ann, user_passes_test(test)) as websocket:
        ann.first_name = ""
        ann.save()
        assert end_of(websocket) == 4403
    assert "The test of a route raised when it was repeated" in caplog.text


def test_object_permission_is_checked_again(monkeypatch):
    allowed = ["plan"]
    monkeypatch.setattr(User, "has_perms", lambda self, perms, obj=None: obj in allowed)
    with connected(make_user(), permission_required("docs.view", obj=lambda: "plan")) as websocket:
        check_now()
        assert end_of(websocket) == "open"
        allowed.clear()
        check_now()
        assert end_of(websocket) == 4403


def test_database_that_is_down_ends_nothing(monkeypatch, caplog):
    def fail(*args):
        raise OperationalError("down")

    with connected(make_user(), login_required) as websocket:
        monkeypatch.setattr("fastws_compat.logins.judge.load_sessions", fail)
        check_now()
        assert end_of(websocket) == "open"
    assert caplog.messages == ["Open WebSockets could not be revalidated (OperationalError: down)"]


def test_user_of_a_token_has_no_session():
    ann, app = make_user(), app_for(login_required)
    app.add_middleware(InScope, user=ann)
    with TestClient(app).websocket_connect("/ws") as websocket:
        websocket.receive_text()
        check_now()
        assert end_of(websocket) == "open"
        deactivate(User.objects.get())
        assert end_of(websocket) == 4401


@pytest.mark.parametrize(
    "engine",
    [
        "django.contrib.sessions.backends.cached_db",
        "django.contrib.sessions.backends.cache",
        "django.contrib.sessions.backends.file",
        "django.contrib.sessions.backends.signed_cookies",
    ],
)
def test_other_session_backends(settings, tmp_path, engine):
    settings.SESSION_ENGINE, settings.SESSION_FILE_PATH = engine, str(tmp_path)
    ann = make_user()
    client = client_of(ann, app_for(login_required))
    with client.websocket_connect("/ws") as websocket:
        websocket.receive_text()
        check_now()
        assert end_of(websocket) == "open"
        if engine.endswith("signed_cookies"):  # a logout cannot revoke them, but deactivating the user can
            deactivate(ann)
        else:
            store = __import__(engine, fromlist=["SessionStore"]).SessionStore
            store(client.cookies["sessionid"]).delete()
            check_now()
        assert end_of(websocket) == 4401


# The decision


def test_nothing_sent_after_the_decision_is_handled():
    seen, ann = [], make_user()
    with connected(ann, login_required, seen=seen) as websocket:
        disconnect_user(ann)
        for number in range(3):
            websocket.send_text(str(number))
        with pytest.raises(WebSocketDisconnect) as end:
            websocket.receive_text()
    assert (seen, end.value.code) == ([], 4401)


async def kicked(user):
    await adisconnect_user(user)


async def deactivated(user):
    await User.objects.filter(pk=user.pk).aupdate(is_active=False)
    registry.recheck_users([str(user.pk)])


async def touched(user):
    registry.recheck_users(None)


async def of_somebody_else(user):
    await adisconnect_user(user.pk + 1)
    await adisconnect_user(user, session_key="another session")


def code_of(client):
    """The code that closes the socket, or the status that refuses it; "open" if it answers."""
    try:
        with client.websocket_connect("/ws") as websocket:
            assert websocket.receive_text() == "in"
            return end_of(websocket)
    except WebSocketDenialResponse as refusal:
        return refusal.status_code
    except WebSocketDisconnect as closed:
        return closed.code


@pytest.mark.parametrize(
    ("happens", "mounted", "alone"),
    [
        (kicked, 4401, 4401),
        (deactivated, 4401, 401),
        (touched, "open", "open"),
        (of_somebody_else, "open", "open"),
    ],
)
def test_what_happens_while_a_socket_is_being_opened(happens, mounted, alone):
    """In a mounted app, the user has already been looked up, but the socket does not exist yet."""
    ann, seen = make_user(), []

    async def meanwhile():
        await happens(ann)

    app = app_for(meanwhile, login_required, seen=seen)
    assert code_of(client_of(ann, get_asgi_application(app))) == mounted
    User.objects.update(is_active=True)
    assert code_of(client_of(ann, app)) == alone
    assert seen == ["still there?"] * [mounted, alone].count("open")


def test_more_changes_than_are_kept(monkeypatch):
    monkeypatch.setattr(registry, "MAX_CHANGES", 3)
    monkeypatch.setattr(registry, "_recent_changes", deque(maxlen=3))
    ann = make_user()

    async def meanwhile():
        await deactivated(ann)
        for number in range(3):
            registry.recheck_users([f"another {number}"])

    application = get_asgi_application(app_for(meanwhile, login_required))
    assert code_of(client_of(ann, application)) == 4401


def test_nothing_is_handled_while_it_is_being_decided():
    seen, ann = [], make_user()
    with connected(ann, login_required, seen=seen) as websocket:
        deactivate(ann)
        websocket.send_text("between the change and its check")
        with pytest.raises(WebSocketDisconnect):
            websocket.receive_text()
    assert seen == []


def test_messages_wait_for_the_decision_and_are_handled_then():
    seen, ann = [], make_user()
    with connected(ann, login_required, seen=seen) as websocket:
        ann.save()
        websocket.send_text("one")
        websocket.send_text("two")
        assert [websocket.receive_text(), websocket.receive_text()] == ["one", "two"]


def test_message_that_waits_for_the_decision_survives_a_receive_that_is_cancelled():
    """`asyncio.wait_for(websocket.receive_text(), 1)` must lose nothing while a slow database decides."""
    waiting = []

    async def body(websocket, met):
        await websocket.accept()
        while len(met) < 3:
            task = asyncio.create_task(websocket.receive_text())
            waiting.append(task)
            await asyncio.wait([task])
            if not task.cancelled():
                met.append(task.result())

    async def decide(user, server):
        await until(lambda: registry.registries() and waiting)
        [login] = registry.registries()[0].logins
        login.hold()
        server.say("one")
        server.say("two")
        server.say("three")
        for count in (2, 3):
            await until(lambda: len(server.incoming) == 2)  # it has been read, and waits
            waiting[-1].cancel()
            await until(lambda count=count: len(waiting) == count)
        login.release()

    assert run_against(body, decide)[0] == ["one", "two", "three"]


def test_messages_that_wait_for_the_decision_in_several_tasks():
    """None of them is stranded or lost, whether its task waits for the decision or is cancelled before it."""

    async def body(websocket, met):
        await websocket.accept()
        tasks = [asyncio.create_task(websocket.receive_text()) for _ in range(4)]
        for task in tasks:
            await asyncio.wait([task])
            if not task.cancelled():
                met.append(task.result())
        [login] = registry.registries()[0].logins
        login.hold()
        task = asyncio.create_task(websocket.receive_text())
        await until(lambda: login._interrupt._waiting)
        task.cancel()
        await asyncio.wait([task])
        login.release()
        met += [await websocket.receive_text(), await websocket.receive_text()]

    async def decide(user, server):
        await until(lambda: registry.registries())
        [login] = registry.registries()[0].logins
        login.hold()
        for message in ("one", "two", "three", "four"):
            server.say(message)
        await until(lambda: not server.incoming)
        await asyncio.sleep(0)
        for task in list(login._interrupt._waiting)[2:]:
            task.cancel()
        await asyncio.sleep(0)
        login.release()

    assert run_against(body, decide)[0] == ["one", "two", "three", "four"]


def run_against(endpoint_body, decide):
    """Run an endpoint on a fake server; return what the endpoint saw and what the server was sent."""
    app, met, server = FastAPI(), [], FakeServer(CONNECT)

    @app.websocket("/ws", dependencies=[Depends(login_required)])
    async def endpoint(websocket: WebSocket):
        await endpoint_body(websocket, met)

    async def main():
        user = User(pk=1, username="ann")
        server.start(app, websocket_scope(user=user, extensions=DENIAL))
        await decide(user, server)
        await server.wait_ended()

    asyncio.run(main())
    return met, [(message["type"], message.get("code")) for message in server.sent]


ACCEPT, END = ("websocket.accept", None), ("websocket.close", 4401)


async def after_accept(user, server):
    while server.incoming or not registry.registries():
        await asyncio.sleep(0)
    for _ in range(10):
        await asyncio.sleep(0)
    await adisconnect_user(user, reason="bye")


def test_receive_that_waits_raises_at_once():
    async def body(websocket, met):
        await websocket.accept()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as end:
            met.append((end.code, end.reason))
            await websocket.close()  # has no effect

    assert run_against(body, after_accept) == ([(4401, "bye")], [ACCEPT, END])


def test_raw_receive_gives_the_disconnect():
    async def body(websocket, met):
        await websocket.accept()
        met.append(await websocket.receive())

    met, sent = run_against(body, after_accept)
    assert met == [{"type": "websocket.disconnect", "code": 4401, "reason": "bye"}]
    assert sent == [ACCEPT, END]


def test_send_after_the_decision_raises():
    async def body(websocket, met):
        await websocket.accept()
        try:
            while True:
                await websocket.send_text("tick")
                await asyncio.sleep(0)
        except WebSocketDisconnect as end:
            met.append(end.code)
            raise

    met, sent = run_against(body, after_accept)
    assert (met, sent[0], sent[-1]) == ([4401], ACCEPT, END)


def test_endpoint_that_neither_reads_nor_writes():
    async def body(websocket, met):
        await websocket.accept()
        while not websocket.scope[LOGIN].ended:
            await asyncio.sleep(0)

    assert run_against(body, after_accept) == ([], [ACCEPT, END])


def test_endpoint_that_had_closed_already():
    async def body(websocket, met):
        await websocket.accept()
        await websocket.close(1000)
        while not websocket.scope[LOGIN].ended:
            await asyncio.sleep(0)

    assert run_against(body, after_accept) == ([], [ACCEPT, ("websocket.close", 1000)])


def test_decision_before_accept_refuses():
    async def body(websocket, met):
        await adisconnect_user(websocket.user)
        try:
            await websocket.accept()
        except WebSocketDisconnect as end:
            met.append(end.code)
            raise

    async def nothing(user, server):
        pass

    assert run_against(body, nothing) == ([4401], [END])


def test_cancellation_from_outside_still_cancels():
    ready = asyncio.Event()

    async def body(websocket, met):
        await websocket.accept()
        try:
            async with asyncio.timeout(0.01):
                await websocket.receive_text()
        except TimeoutError:
            met.append("timeout")
        task = asyncio.create_task(websocket.receive_text())
        await asyncio.sleep(0)
        task.cancel()
        [result] = await asyncio.gather(task, return_exceptions=True)
        met.append(type(result).__name__)
        ready.set()
        try:
            await websocket.receive_text()
        except WebSocketDisconnect as end:
            met.append(end.code)

    async def decide(user, server):
        await ready.wait()
        await adisconnect_user(user)

    assert run_against(body, decide)[0] == ["timeout", "CancelledError", 4401]


def test_server_that_swallows_the_interruption():
    class Swallowing(FakeServer):
        async def receive(self):
            with suppress(asyncio.CancelledError):
                return await super().receive()
            return {"type": "websocket.receive", "text": "too late"}

    async def main():
        user = await User.objects.acreate(username="ann")
        met, server = [], Swallowing(CONNECT)
        app = FastAPI()

        @app.websocket("/ws", dependencies=[Depends(login_required)])
        async def endpoint(websocket: WebSocket):
            await websocket.accept()
            try:
                met.append(await websocket.receive_text())
            except WebSocketDisconnect as end:
                met.append((end.code, asyncio.current_task().cancelling()))

        server.start(app, websocket_scope(user=user))
        await server.wait_sent("websocket.accept")
        while not server.receiving:
            await asyncio.sleep(0)
        await adisconnect_user(user)
        await server.wait_ended()
        return met

    assert async_to_sync(main)() == [(4401, 0)]


@pytest.mark.parametrize("place", [nullcontext, ThreadSensitiveContext], ids=["endpoint", "request"])
def test_change_by_sync_code_of_a_server(monkeypatch, caplog, place):
    """asgiref uses context variables to choose the thread; the check must not use the caller's."""
    monkeypatch.setattr(registry, "judge", lambda claims: [4401] * len(claims))

    async def body(websocket, met):
        await websocket.accept()
        await websocket.receive_text()

    async def decide(user, server):
        while not registry.registries():
            await asyncio.sleep(0)
        async with place():
            await sync_to_async(registry.recheck_users)(None)

    assert run_against(body, decide)[1] == [ACCEPT, END]
    assert "could not be revalidated" not in caplog.text


def test_server_that_cannot_send_the_close(caplog):
    async def refuse_close(message):
        if message["type"] == "websocket.close":
            raise OSError("gone")

    async def main():
        user = await User.objects.acreate(username="ann")
        server = FakeServer(CONNECT, on_send=refuse_close)
        server.start(app_for(login_required), websocket_scope(user=user))
        await server.wait_sent("websocket.accept")
        await adisconnect_user(user)
        await server.wait_ended()

    with caplog.at_level(logging.DEBUG, "fastws_compat"):
        async_to_sync(main)()
    assert "The client left before its login ended (OSError('gone'))" in caplog.messages


# On request


@pytest.mark.parametrize("as_key", [False, True])
def test_disconnect_user(as_key):
    ann = make_user()
    with connected(ann, login_required) as websocket:
        disconnect_user(ann.pk if as_key else ann, code=4000, reason="moved")
        with pytest.raises(WebSocketDisconnect) as end:
            websocket.receive_text()
    assert (end.value.code, end.value.reason) == (4000, "moved")


def test_disconnect_user_in_one_session():
    ann = make_user()
    app = app_for(login_required)
    here, there = client_of(ann, app), client_of(ann, app)
    with here.websocket_connect("/ws") as one, there.websocket_connect("/ws") as two:
        assert [one.receive_text(), two.receive_text()] == ["in", "in"]
        disconnect_user(ann, session_key=here.cookies["sessionid"])
        assert [end_of(one), end_of(two)] == [4401, "open"]
        disconnect_user(make_user("bob"), session_key=there.cookies["sessionid"])
        assert end_of(two) == "open"


def test_disconnect_user_from_another_thread():
    ann = make_user()
    with connected(ann, login_required) as websocket:
        thread = threading.Thread(target=disconnect_user, args=(ann.pk,))
        thread.start()
        thread.join()
        assert end_of(websocket) == 4401


def test_disconnect_user_inside_an_endpoint():
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, user: Annotated[User, Depends(login_required)]):
        await websocket.accept()
        await adisconnect_user(user)
        await websocket.receive_text()

    client = client_of(make_user(), app)
    client.raise_server_exceptions = False
    with client.websocket_connect("/ws") as websocket:
        with pytest.raises(WebSocketDisconnect) as end:
            websocket.receive_text()
    assert end.value.code == 4401


# Rounds


def test_rounds_come_by_themselves(settings):
    settings.FASTWS = {"REVALIDATE_SECONDS": 0.01}
    ann = make_user()
    with connected(ann, login_required) as websocket:
        User.objects.update(is_active=False)
        with pytest.raises(WebSocketDisconnect) as end:
            while True:
                websocket.receive_text()
    assert end.value.code == 4401


def test_rounds_switched_off(settings):
    settings.FASTWS = {"REVALIDATE_SECONDS": 0}
    with connected(make_user(), login_required):
        [logins] = registry.registries()
        assert logins.services == []


def test_queries_of_a_round_with_a_thousand_sockets():
    users = User.objects.bulk_create(User(username=f"u{number}") for number in range(250))
    permission = Permission.objects.get(codename="view_user")
    group = Group.objects.create(name="readers")
    group.permissions.add(permission)
    group.user_set.add(*users[:125])
    permission.user_set.add(*users[125:])
    store, claims = Session.get_session_store_class(), []
    for number in range(1000):
        user = users[number % 250]
        data = {
            "_auth_user_id": str(user.pk),
            "_auth_user_backend": "django.contrib.auth.backends.ModelBackend",
            "_auth_user_hash": user.get_session_auth_hash(),
        }
        condition = Condition(lambda user: user.has_perm("auth.view_user"))
        claims.append(Claim(str(user.pk), f"key{number:029}", (condition,)))
        data = store().encode(data)
        Session(claims[-1].session_key, data, timezone.now() + timezone.timedelta(1)).save()
    most = connection.features.max_query_params
    # The keys of a thousand sessions take two queries where a query has at most 999 parameters.
    expected = 5 if most and most < 1000 + parts.OTHERS else 4
    with CaptureQueriesContext(connection) as queries:
        assert judge(claims) == [None] * 1000
    assert len(queries) == expected
    permission.user_set.clear()
    with CaptureQueriesContext(connection) as queries:
        verdicts = judge(claims)
    assert len(queries) == expected
    assert [verdicts.count(None), verdicts.count(4403)] == [500, 500]


def test_permissions_loaded_at_once_are_those_that_django_finds():
    ann, group = make_user(perms=["auth.add_user", "auth.view_group"]), Group.objects.create(name="g")
    group.permissions.set(Permission.objects.filter(codename__in=["view_user", "add_user"]))
    ann.groups.add(group)
    found = []
    condition = Condition(lambda user: found.append(user.get_all_permissions()) or True)
    with CaptureQueriesContext(connection) as queries:
        judge([Claim(str(ann.pk), None, (condition,))])
    assert len(queries) == 3  # fails if Django has renamed the attributes that `load_permissions` sets
    assert found == [User.objects.get().get_all_permissions()]


def test_permissions_are_not_queried_if_no_route_needs_them():
    ann = make_user(is_staff=True)
    with CaptureQueriesContext(connection) as queries:
        assert judge([Claim(str(ann.pk), None, (Condition(lambda u: u.is_staff, queries=False),))]) == [None]
    assert len(queries) == 1


def test_no_sessions_no_query():
    with CaptureQueriesContext(connection) as queries:
        assert load_sessions([]) == {}
        assert judge([]) == []
    assert len(queries) == 0


def test_round_goes_through_its_sockets_in_batches(monkeypatch):
    monkeypatch.setattr(registry, "BATCH", 2)
    ann = make_user()
    client = client_of(ann, app_for(login_required))
    with ExitStack() as stack:
        sockets = [stack.enter_context(client.websocket_connect("/ws")) for _ in range(5)]
        assert {websocket.receive_text() for websocket in sockets} == {"in"}
        with CaptureQueriesContext(connection) as queries:
            check_now()
        assert len(queries) == 3 * 2
        User.objects.update(is_active=False)
        check_now()
        assert {end_of(websocket) for websocket in sockets} == {4401}


def test_message_that_was_read_ahead_is_not_handled(monkeypatch):
    """The next message of a busy endpoint is already waiting; the decision is made before it receives."""
    monkeypatch.setattr("fastws_compat.connections.sweeper.INTERVAL", 0.001)

    async def body(websocket, met):
        await websocket.accept()
        while not websocket.scope[LOGIN].ended:
            await asyncio.sleep(0.001)
        try:
            met.append(await websocket.receive_text())
        except WebSocketDisconnect as end:
            met.append(end.code)

    async def decide(user, server):
        while not registry.registries():
            await asyncio.sleep(0)
        server.say("too late")
        async with asyncio.timeout(TIMEOUT):
            while server.incoming:
                await asyncio.sleep(0)
        await adisconnect_user(user)

    assert run_against(body, decide) == ([4401], [ACCEPT, END])


# Several processes: a layer that reaches them


class Layer:
    """A channel layer shared with another process; `arrive` delivers a message from there."""

    def __init__(self):
        self.sent, self.groups = [], []
        self.failing = False
        self.listener, self.inbox, self.is_listening = None, None, threading.Event()

    async def new_channel(self, prefix="specific"):
        if self.failing:
            raise ConnectionError("no layer")
        self.listener, self.inbox = asyncio.get_running_loop(), asyncio.Queue()
        return f"{prefix}!1"

    async def group_add(self, group, channel):
        self.groups.append(group)

    async def group_discard(self, group, channel):
        self.groups.remove(group)

    async def receive(self, channel):
        self.is_listening.set()
        message = await self.inbox.get()
        if isinstance(message, Exception):
            raise message
        return message

    async def group_send(self, group, message):
        if self.failing:
            raise ConnectionError("no layer")
        self.sent.append((group, json.loads(json.dumps(message))))

    def arrive(self, message):
        """Return once the listener has handled the message."""
        assert self.is_listening.wait(10)
        self.is_listening.clear()
        self.listener.call_soon_threadsafe(self.inbox.put_nowait, message)
        assert self.is_listening.wait(10)


@pytest.fixture
def layer():
    layer = Layer()
    before = channel_layers.set("default", layer)
    yield layer
    channel_layers.set("default", before) if before else channel_layers.backends.pop("default")


def other(event, **values):
    return {"type": "fastws.logins", "sender": "another process", "event": event, **values}


def test_other_processes_are_notified_of_a_logout(layer):
    ann = make_user()
    client = client_of(ann, app_for())
    key = client.cookies["sessionid"]
    layer.sent.clear()
    client.logout()
    [(group, message)] = layer.sent
    sender = message.pop("sender")
    assert group == "fastws_compat.logins"
    assert message == {
        "type": "fastws.logins",
        "event": "end",
        "user": str(ann.pk),
        "session": session_digest(key),
        "code": 4401,
        "reason": "",
    }
    assert key not in json.dumps(message) + sender


def test_other_processes_are_notified_of_a_change(layer):
    ann = make_user()
    layer.sent.clear()
    deactivate(ann)
    assert [(message["event"], message["users"]) for _, message in layer.sent] == [("recheck", [str(ann.pk)])]


def test_login_notifies_no_other_process(layer):
    ann = make_user()
    layer.sent.clear()
    client_of(ann, app_for())
    assert layer.sent == []


def test_end_in_another_process(layer):
    ann = make_user()
    client = client_of(ann, app_for(login_required))
    with client.websocket_connect("/ws") as websocket:
        websocket.receive_text()
        layer.arrive(other("end", user="0", session=None, code=4401, reason=""))
        layer.arrive(other("end", user=None, session=None, code=4401, reason=""))
        layer.arrive({**other("end", user=str(ann.pk), session=None), "sender": remote.sender_id()})
        layer.arrive(other("unheard of"))
        assert end_of(websocket) == "open"
        digest = session_digest(client.cookies["sessionid"])
        layer.arrive(other("end", user=None, session=digest, code=4000, reason="x"))
        with pytest.raises(WebSocketDisconnect) as end:
            websocket.receive_text()
        assert end.value.code == 4000
    assert layer.groups == []


def test_change_in_another_process(layer):
    ann = make_user()
    with connected(ann, login_required) as websocket:
        User.objects.update(is_active=False)
        layer.arrive(other("recheck", users=[str(ann.pk)]))
        with pytest.raises(WebSocketDisconnect) as end:
            websocket.receive_text()
    assert end.value.code == 4401


def test_layer_that_fails_for_a_while(layer, monkeypatch, caplog):
    monkeypatch.setattr(subscription, "RETRY_INTERVAL", 0.01)
    layer.failing = True
    ann = make_user()
    with connected(ann, login_required) as websocket:
        User.objects.update(is_active=False)  # messages of other processes are lost meanwhile
        layer.failing = False
        with pytest.raises(WebSocketDisconnect) as end:
            websocket.receive_text()
    assert end.value.code == 4401
    assert [message for message in caplog.messages if "are not received" in message] == [
        "The channel layer fails (ConnectionError: no layer): messages from other processes in group "
        "'fastws_compat.logins' are not received"
    ]


def test_layer_that_does_not_answer_is_tried_again(layer, monkeypatch, settings, caplog):
    settings.FASTWS = {"LAYER_TIMEOUT": 0.01}
    monkeypatch.setattr(subscription, "RETRY_INTERVAL", 0.01)
    group_add, hung = layer.group_add, []

    async def hang_once(group, channel):
        if not hung:
            hung.append(group)
            await asyncio.Future()
        await group_add(group, channel)

    monkeypatch.setattr(layer, "group_add", hang_once)
    ann = make_user()
    with connected(ann, login_required) as websocket:
        User.objects.update(is_active=False)
        with pytest.raises(WebSocketDisconnect) as end:
            websocket.receive_text()
    assert end.value.code == 4401
    assert "The channel layer fails (TimeoutError: no answer within 0.01 s)" in caplog.text


def test_layer_that_fails_breaks_no_logout(layer, caplog):
    client = client_of(make_user(), app_for())
    layer.failing = True
    client.logout()
    [message] = caplog.messages
    assert message == (
        "The channel layer fails (ConnectionError: no layer): messages to other processes in group "
        "'fastws_compat.logins' are queued"
    )


def test_membership_is_renewed(layer, monkeypatch):
    monkeypatch.setattr(subscription, "RENEWAL_INTERVAL", 0.01)

    async def renewed():
        while len(layer.groups) < 3:
            await asyncio.sleep(0)

    with connected(make_user(), login_required) as websocket:
        async_to_sync(renewed)()
        assert end_of(websocket) == "open"


def test_publish_inside_a_loop(layer):
    async def main():
        remote.publish(other("end"))
        while not layer.sent:
            await asyncio.sleep(0)

    asyncio.run(main())
    assert len(layer.sent) == 1


def test_layer_that_is_configured_wrongly(settings):
    settings.CHANNEL_LAYERS = {"default": {"BACKEND": "no.such.Layer"}}
    assert remote.shared_layer() is None


def test_communicator():
    ann = make_user()
    headers = headers_of(ORIGIN, cookie_of(ann))

    async def main():
        communicator = WebsocketCommunicator(app_for(login_required), "/ws", headers=headers)
        assert (await communicator.connect())[0]
        assert await communicator.receive_from() == "in"
        await adisconnect_user(ann)
        message = await communicator.receive_output()
        await communicator.wait()
        return message

    assert async_to_sync(main)() == {"type": "websocket.close", "code": 4401, "reason": ""}


def test_endings_are_logged_once_with_user_and_route(caplog):
    ann = make_user()
    with caplog.at_level(logging.INFO, "fastws_compat"):
        with connected(ann, login_required) as websocket:
            disconnect_user(ann)
            assert end_of(websocket) == 4401
    [record] = caplog.records
    assert record.getMessage() == "WebSocket /ws: the login ended; closed with 4401"
    assert (record.route, record.user_id, record.code) == ("/ws", ann.pk, 4401)
    assert len(record.connection_id) == 32


def test_many_sockets_end_together():
    ann = make_user()
    client = client_of(ann, app_for(login_required))
    with ExitStack() as stack:
        sockets = [stack.enter_context(client.websocket_connect("/ws")) for _ in range(20)]
        assert {websocket.receive_text() for websocket in sockets} == {"in"}
        disconnect_user(ann)
        assert {end_of(websocket) for websocket in sockets} == {4401}
