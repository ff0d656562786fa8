"""Users and permissions as dependencies: who is accepted, the cost, and refusals."""

import asyncio
import logging
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
from asgiref.sync import async_to_sync
from channels.auth import AuthMiddlewareStack
from channels.sessions import SessionMiddlewareStack
from channels.testing import WebsocketCommunicator
from django.contrib.auth.backends import BaseBackend
from django.contrib.auth.models import AnonymousUser, Permission, User
from django.core.exceptions import DisallowedRedirect, PermissionDenied, SuspiciousOperation
from django.db import OperationalError
from django.http import Http404
from django.test.utils import CaptureQueriesContext
from django.utils.functional import SimpleLazyObject

from fastws_compat import (
    Depends,
    FastAPI,
    HTTPException,
    WebSocket,
    WebSocketDisconnect,
    WebSocketException,
)
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
from fastws_compat.logins import remote
from fastws_compat.testclient import TestClient, WebSocketDenialResponse
from tests.users import ORIGIN, InScope, client_of, cookie_of, headers_of, make_user

pytestmark = pytest.mark.django_db

CurrentUser = Annotated[User, Depends(login_required)]


def app_for(dependency):
    """An application whose socket sends the name of the user that the dependency returns."""
    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, user: Annotated[User, Depends(dependency)]):
        await websocket.accept()
        await websocket.send_text(user.get_username() or "nobody")
        async for _ in websocket.iter_text():
            pass

    return app


# Created here, because django.setup() configures logging, which would disable a test's `caplog`.
mounted_application = get_asgi_application(app_for(login_required))


def outcome(app, user=None, url="/ws"):
    """The name that the socket sends, or the status with which it is refused."""
    client = TestClient(app, timeout=5) if user is None else client_of(user, app)
    return answer_of(client, url)


def answer_of(client, url="/ws"):
    try:
        with client.websocket_connect(url) as websocket:
            return websocket.receive_text()
    except WebSocketDenialResponse as refusal:
        return refusal.status_code


# Who is accepted


@pytest.mark.parametrize(
    ("dependency", "anonymous", "plain", "staff", "superuser", "permitted"),
    [
        (get_user, "nobody", "ann", "ann", "ann", "ann"),
        (login_required, 401, "ann", "ann", "ann", "ann"),
        (staff_member_required, 401, 403, "ann", 403, 403),
        (superuser_required, 401, 403, 403, "ann", 403),
        (permission_required("auth.view_user"), 401, 403, 403, "ann", "ann"),
        (permission_required(["auth.view_user"]), 401, 403, 403, "ann", "ann"),
        (permission_required(["auth.view_user", "auth.add_user"]), 401, 403, 403, "ann", 403),
        (permission_required("auth.view_user", raise_exception=True), 403, 403, 403, "ann", "ann"),
        (user_passes_test(lambda user: user.is_staff), 401, 403, "ann", 403, 403),
    ],
    ids=["get_user", "login", "staff", "superuser", "perm", "perms", "two perms", "raise_exception", "test"],
)
def test_accepted_users(dependency, anonymous, plain, staff, superuser, permitted):
    users = [
        None,
        make_user(),
        make_user("bob", is_staff=True),
        make_user("eve", is_superuser=True),
        make_user("dan", ["auth.view_user"]),
    ]
    app = app_for(dependency)
    names = ["nobody", "ann", "bob", "eve", "dan"]
    expected = [anonymous, plain, staff, superuser, permitted]
    assert [outcome(app, user) for user in users] == [
        name if isinstance(answer, str) else answer for name, answer in zip(names, expected, strict=True)
    ]


def test_test_without_a_user_passes_too():
    assert outcome(app_for(user_passes_test(lambda user: user.is_anonymous))) == "nobody"
    assert outcome(app_for(user_passes_test(lambda user: user.is_anonymous)), make_user()) == 403


def test_sync_test_may_use_the_database():
    is_alone = user_passes_test(lambda user: User.objects.count() == 1)
    app = app_for(is_alone)
    ann = make_user()
    assert outcome(app, ann) == "ann"
    make_user("bob")
    assert outcome(app, ann) == 403


def test_async_test_may_use_the_database():
    async def is_alone(user):
        return await User.objects.acount() == 1

    app = app_for(user_passes_test(is_alone))
    ann = make_user()
    assert outcome(app, ann) == "ann"
    make_user("bob")
    assert outcome(app, ann) == 403


def test_permission_of_a_group():
    from django.contrib.auth.models import Group

    ann, group = make_user(), Group.objects.create(name="readers")
    group.permissions.add(Permission.objects.get(codename="view_user"))
    app = app_for(permission_required("auth.view_user"))
    assert outcome(app, ann) == 403
    ann.groups.add(group)
    assert outcome(app, ann) == "ann"


class OwnName(BaseBackend):
    """Every user may change the object with their own name."""

    def has_perm(self, user_obj, perm, obj=None):
        return perm == "rooms.change" and obj == user_obj.get_username()


def test_object_permission(settings):
    settings.AUTHENTICATION_BACKENDS = [*settings.AUTHENTICATION_BACKENDS, f"{__name__}.OwnName"]

    def get_room(room: str):
        return room

    app = FastAPI()

    @app.websocket("/rooms/{room}", dependencies=[Depends(permission_required("rooms.change", obj=get_room))])
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text("in")

    client = TestClient(app)
    client.force_login(make_user(), "django.contrib.auth.backends.ModelBackend")
    with client.websocket_connect("/rooms/ann") as websocket:
        assert websocket.receive_text() == "in"
    with pytest.raises(WebSocketDenialResponse) as refusal:
        client.websocket_connect("/rooms/bob").__enter__()
    assert refusal.value.status_code == 403


class Token(BaseBackend):
    """A backend that looks users up in its own way."""

    def get_user(self, user_id):
        return User.objects.filter(pk=user_id, username="ann").first()


@pytest.mark.parametrize(("username", "answer"), [("ann", "ann"), ("bob", 401)])
def test_backend_of_its_own(settings, username, answer):
    settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.ModelBackend", f"{__name__}.Token"]
    client = TestClient(app_for(login_required))
    client.force_login(make_user(username), f"{__name__}.Token")
    assert answer_of(client) == answer


def test_backend_that_was_removed_from_the_settings(settings):
    client = TestClient(app_for(login_required))
    client.force_login(make_user(), "django.contrib.auth.backends.AllowAllUsersModelBackend")
    with pytest.raises(WebSocketDenialResponse) as refusal:
        client.websocket_connect("/ws").__enter__()
    assert refusal.value.status_code == 401


def test_session_of_a_key_that_is_being_rotated(settings):
    """Channels' own look-up would flush the session and thus log the user out of the pages too."""
    settings.SECRET_KEY = "old"
    client = TestClient(mounted_application)
    client.force_login(make_user())
    settings.SECRET_KEY, settings.SECRET_KEY_FALLBACKS = "new", ["old"]
    assert answer_of(client) == "ann"
    settings.SECRET_KEY_FALLBACKS = []
    assert answer_of(client) == 401
    settings.SECRET_KEY_FALLBACKS = ["old"]
    assert answer_of(client) == "ann"


def test_session_that_is_none_of_djangos():
    app = app_for(get_user)
    app.add_middleware(InScope, session={"_auth_user_id": "1"})
    assert outcome(app, make_user()) == "nobody"


def test_inactive_user():
    ann = make_user()
    client = TestClient(app_for(login_required))
    client.force_login(ann)
    User.objects.update(is_active=False)
    with pytest.raises(WebSocketDenialResponse) as refusal:
        client.websocket_connect("/ws").__enter__()
    assert refusal.value.status_code == 401


def test_inactive_user_whom_the_backend_accepts_is_not_staff(settings):
    backend = "django.contrib.auth.backends.AllowAllUsersModelBackend"
    settings.AUTHENTICATION_BACKENDS = [backend]
    ann = make_user(is_active=False, is_staff=True, is_superuser=True)
    assert outcome(app_for(login_required), ann) == "ann"
    assert outcome(app_for(staff_member_required), ann) == 403
    assert outcome(app_for(superuser_required), ann) == 403


def test_dependency_of_a_dependency_uses_the_orm():
    def get_name(user: CurrentUser, pk: int):
        if user.pk != pk:
            raise PermissionDenied
        return User.objects.get(pk=pk).username

    app = FastAPI()

    @app.websocket("/users/{pk}")
    async def endpoint(websocket: WebSocket, name: Annotated[str, Depends(get_name)]):
        await websocket.accept()
        await websocket.send_text(name)

    ann, bob = make_user(), make_user("bob")
    assert outcome(app, ann, f"/users/{ann.pk}") == "ann"
    assert outcome(app, ann, f"/users/{bob.pk}") == 403
    assert outcome(app, None, f"/users/{bob.pk}") == 401


def test_dependency_of_a_whole_router():
    from fastws_compat import APIRouter

    app, router = FastAPI(), APIRouter(prefix="/admin", dependencies=[Depends(staff_member_required)])

    @router.websocket("/ws")
    async def endpoint(websocket: WebSocket):
        await websocket.accept()
        await websocket.send_text("in")

    app.include_router(router)
    assert outcome(app, make_user(is_staff=True), "/admin/ws") == "in"
    assert outcome(app, make_user("bob"), "/admin/ws") == 403


def test_equal_calls_give_the_same_dependency():
    assert permission_required("a.b") is permission_required(["a.b"])
    assert permission_required("a.b") is not permission_required("a.b", raise_exception=True)
    app = app_for(permission_required("auth.view_user"))
    app.dependency_overrides[permission_required("auth.view_user")] = lambda: User(username="fake")
    assert outcome(app) == "fake"


def test_dependencies_have_names_to_be_shown():
    def is_tall(user):
        return True

    assert permission_required(["a.b", "a.c"]).__name__ == "permission_required(a.b, a.c)"
    assert user_passes_test(is_tall).__name__ == "user_passes_test(is_tall)"


def test_refusals_are_logged_with_who_and_where(caplog):
    app, ann = app_for(staff_member_required), make_user()
    with caplog.at_level(logging.INFO, "fastws_compat"):
        assert [outcome(app), outcome(app, ann), outcome(app_for(login_required))] == [401, 403, 401]
    told = [(record.getMessage(), record.user_id, record.route) for record in caplog.records]
    assert told == [
        ("WebSocket /ws: the user may not connect (401)", None, "/ws"),
        ("WebSocket /ws: the user may not connect (403)", ann.pk, "/ws"),
        ("WebSocket /ws: the user may not connect (401)", None, "/ws"),
    ]


def test_dependency_that_is_called_by_hand():
    nobody = WebSocket({"type": "websocket", "headers": [], "user": AnonymousUser()}, None, None)
    with pytest.raises(HTTPException) as refusal:
        asyncio.run(login_required(nobody))
    assert refusal.value.status_code == 401


def test_refused_after_accept():
    async def accepted(websocket: WebSocket):
        await websocket.accept()

    app = FastAPI()

    @app.websocket(
        "/{name}", dependencies=[Depends(accepted), Depends(login_required), Depends(staff_member_required)]
    )
    async def endpoint(websocket: WebSocket):
        raise AssertionError("not reached")

    client = TestClient(app)
    codes = []
    for user in (None, make_user()):
        if user is not None:
            client.force_login(user)
        with client.websocket_connect("/ws") as websocket:
            with pytest.raises(WebSocketDisconnect) as end:
                websocket.receive_text()
            codes.append(end.value.code)
    assert codes == [4401, 4403]


@pytest.mark.parametrize("accepts", [False, True], ids=["before accept", "after accept"])
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Http404, 404),
        (PermissionDenied, 403),
        (SuspiciousOperation, 400),
        (DisallowedRedirect, 400),
        (HTTPException(409), 409),
        (WebSocketException(4000), 4000),
    ],
    ids=["Http404", "PermissionDenied", "SuspiciousOperation", "its subclass", "HTTPException", "WebSocket"],
)
def test_refusal_by_an_exception(error, status, accepts):
    async def refuse(websocket: WebSocket):
        if accepts:
            await websocket.accept()
        raise error("internal matters") if isinstance(error, type) else error

    app = FastAPI()

    @app.websocket("/ws", dependencies=[Depends(refuse)])
    async def endpoint(websocket: WebSocket):
        raise AssertionError("not reached")

    with pytest.raises((WebSocketDenialResponse, WebSocketDisconnect)) as refusal:
        with TestClient(app).websocket_connect("/ws") as websocket:
            websocket.receive_text()
    told = refusal.value
    if isinstance(told, WebSocketDenialResponse):
        assert (told.status_code, b"internal" in told.content) == (status, False)
    else:
        assert told.code == (status if status >= 4000 else 4000 + status)
        assert "internal" not in told.reason


# Where the user comes from


def communicate(application, *headers):
    async def main():
        communicator = WebsocketCommunicator(application, "/ws", headers=headers_of(*headers))
        accepted, code = await communicator.connect()
        if not accepted:
            return code
        text = await communicator.receive_from()
        await communicator.disconnect()
        return text

    return async_to_sync(main)()


def test_mounted_application_with_communicator():
    assert communicate(mounted_application, ORIGIN, cookie_of(make_user())) == "ann"


def test_application_alone_checks_the_origin_itself(caplog):
    cookie, app = cookie_of(make_user()), app_for(login_required)
    assert communicate(app, cookie, ORIGIN) == "ann"
    assert communicate(app, cookie, (b"origin", b"http://evil.example")) == 1000
    assert communicate(app, cookie) == 1000
    assert "its Origin 'http://evil.example' is not the site's own" in caplog.text


def test_mounted_application_with_the_test_client():
    assert outcome(mounted_application, make_user()) == "ann"


def test_user_that_another_middleware_has_found():
    ann, app = make_user(), app_for(login_required)
    app.add_middleware(InScope, user=ann)
    assert outcome(app) == "ann"


GUARDS = [
    login_required,
    staff_member_required,
    superuser_required,
    permission_required("auth.view_user"),
    user_passes_test(lambda user: user.is_authenticated),
]


@pytest.mark.parametrize("guard", GUARDS, ids=lambda guard: guard.__name__)
@pytest.mark.parametrize("kind", [lambda user: user, lambda user: SimpleLazyObject(lambda: user)])
def test_inactive_user_from_another_middleware(guard, kind):
    """The handshake applies the same rules as the later rounds, wherever the user comes from."""
    ann = make_user(is_staff=True, is_superuser=True)
    app = app_for(guard)
    app.add_middleware(InScope, user=kind(ann))
    assert outcome(app) == "ann"
    ann.is_active = False
    assert outcome(app) == 401


def test_inactive_user_of_a_token_is_anonymous():
    ann = make_user(is_active=False)

    async def token_user(websocket: WebSocket):
        websocket.scope["user"] = ann
        return await get_user(websocket)

    app = FastAPI()

    @app.websocket("/ws")
    async def endpoint(websocket: WebSocket, user: Annotated[User, Depends(token_user)]):
        await websocket.accept()
        await websocket.send_text(f"{user.is_authenticated} {websocket.user.is_authenticated}")

    assert outcome(app) == "False False"


def test_user_of_another_model_without_is_active():
    class Device:
        is_authenticated = True

        def get_username(self):
            return "sensor"

    class RetiredDevice(Device):
        is_active = False

    for device, expected in ((Device(), "sensor"), (RetiredDevice(), 401)):
        app = app_for(login_required)
        app.add_middleware(InScope, user=device)
        assert outcome(app) == expected


class LetsEverybodyIn(BaseBackend):
    def get_user(self, user_id):
        return User.objects.get(pk=user_id)


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("django.contrib.auth.backends.ModelBackend", 401),
        ("django.contrib.auth.backends.AllowAllUsersModelBackend", "ann"),
        ("tests.test_auth.LetsEverybodyIn", "ann"),
    ],
)
def test_backend_of_the_session_decides_also_where_channels_has_looked(settings, backend, expected):
    """If there is a session, its backend decides, at the handshake and in every later round."""
    settings.AUTHENTICATION_BACKENDS = [backend]
    ann = make_user()
    client = TestClient(AuthMiddlewareStack(app_for(login_required)), timeout=5)
    client.force_login(ann)
    User.objects.update(is_active=False)
    assert answer_of(client) == expected


@pytest.mark.parametrize("damage", ["backend", "hash"])
def test_session_that_a_later_round_would_end_is_refused_at_once(settings, damage):
    """Middleware may have set a user without checking the rest of the session."""
    ann = make_user()
    app = app_for(login_required)
    app.add_middleware(InScope, user=ann)
    client = TestClient(SessionMiddlewareStack(app), timeout=5)
    client.force_login(ann)
    assert answer_of(client) == "ann"
    if damage == "backend":
        settings.AUTHENTICATION_BACKENDS = ["django.contrib.auth.backends.AllowAllUsersModelBackend"]
    else:
        ann.set_password("another")
    assert answer_of(client) == 401


def test_lazy_user_is_fetched_off_the_loop():
    make_user()
    app = app_for(login_required)
    app.add_middleware(InScope, user=SimpleLazyObject(lambda: User.objects.get(username="ann")))
    assert outcome(app) == "ann"


def test_user_that_a_server_in_front_has_found(django_assert_num_queries):
    ann = make_user()
    lazy = SimpleLazyObject(lambda: ann)
    assert lazy.is_authenticated
    application = InScope(mounted_application, user=lazy)
    with django_assert_num_queries(0):
        assert outcome(application) == "ann"


def test_user_of_starlettes_authentication_is_accepted():
    from fastws_compat.authentication import SimpleUser

    class Named(SimpleUser):
        def get_username(self):
            return self.username

    app = app_for(login_required)
    app.add_middleware(InScope, user=Named("starlet"))
    assert outcome(app) == "starlet"


def test_custom_user_model():
    """Another AUTH_USER_MODEL, with a UUID as key and an e-mail address as name, needs a separate process."""
    script = Path(__file__).parent / "custom_user" / "run.py"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, script], cwd=root, capture_output=True, text=True, timeout=60)
    assert done.stdout == "in\n403\n401\n" + "closed 4401\n" * 3, done.stderr


def test_recipes_for_tokens_of_other_packages():
    """The documented recipes with Django REST framework itself, which needs a separate process."""
    script = Path(__file__).parent / "rest_framework_site" / "run.py"
    root = Path(__file__).resolve().parents[1]
    done = subprocess.run([sys.executable, script], cwd=root, capture_output=True, text=True, timeout=120)
    told = "Hello ann | Hello ann | 4401 | 401 | 401"
    assert done.stdout.splitlines() == [
        f"Authorization: Token: | {told} Token",
        f"djangorestframework-simplejwt: | {told}",
        f"rest_framework.authtoken: | {told}",
        f"any other JWT: | {told}",
    ], done.stderr


# What it costs


def test_no_query_without_a_session_cookie(django_assert_num_queries):
    application = get_asgi_application(app_for(get_user))
    with django_assert_num_queries(0):
        assert outcome(application) == "nobody"


@pytest.mark.parametrize("mounted", [True, False])
def test_user_is_fetched_once(connection_queries, mounted):
    async def twice(first: CurrentUser, again: Annotated[User, Depends(staff_member_required)]):
        assert first is again
        return again

    application = app_for(twice)
    if mounted:
        application = get_asgi_application(application)
    client = TestClient(application)
    client.force_login(make_user(is_staff=True))
    with connection_queries() as queries:
        with client.websocket_connect("/ws") as websocket:
            assert websocket.receive_text() == "ann"
    assert [query["sql"].split('FROM "')[1].split('"')[0] for query in queries] == [
        "django_session",
        "auth_user",
    ]


@pytest.fixture
def connection_queries():
    from django.db import connection

    return lambda: CaptureQueriesContext(connection)


# A database that is down


def fail(*args, **kwargs):
    raise OperationalError("the database is down")


@pytest.mark.parametrize("mounted", [True, False])
def test_database_down_while_the_user_is_looked_up(monkeypatch, caplog, mounted):
    client = TestClient(mounted_application if mounted else app_for(login_required))
    client.force_login(make_user())
    monkeypatch.setattr("django.contrib.sessions.backends.db.SessionStore.load", fail)
    with caplog.at_level(logging.INFO), pytest.raises(WebSocketDenialResponse) as refusal:
        client.websocket_connect("/ws").__enter__()
    assert (refusal.value.status_code, b"down" in refusal.value.content) == (503, False)
    assert caplog.messages == [
        "WebSocket refused: the user cannot be identified (OperationalError: the database is down)"
    ]
    assert caplog.records[0].exc_info is None


def test_database_down_while_permissions_are_looked_up(monkeypatch, caplog):
    monkeypatch.setattr(User, "has_perms", fail)
    assert outcome(app_for(permission_required("auth.view_user")), make_user()) == 503
    assert len(caplog.messages) == 1


def test_database_down_and_a_server_without_denial_responses(monkeypatch, caplog):
    cookie = cookie_of(make_user())
    monkeypatch.setattr("django.contrib.sessions.backends.db.SessionStore.load", fail)
    assert communicate(mounted_application, ORIGIN, cookie) == 1000
    assert len(caplog.messages) == 1


def test_backend_with_an_error_is_logged_with_its_traceback(monkeypatch, caplog):
    def broken(self, user):
        raise ZeroDivisionError

    monkeypatch.setattr("django.contrib.auth.backends.ModelBackend.user_can_authenticate", broken)
    assert outcome(mounted_application, make_user()) == 500
    assert [record.exc_info[0] for record in caplog.records] == [ZeroDivisionError]


# Disconnecting users; see also test_revalidation


def test_disconnect_user_in_an_event_loop_names_the_alternative():
    async def main():
        disconnect_user(1)

    with pytest.raises(RuntimeError, match=r"await adisconnect_user\(\)"):
        asyncio.run(main())


def test_disconnect_of_a_user_without_sockets(monkeypatch):
    told = []

    async def publish(message):
        told.append(message)

    monkeypatch.setattr(remote, "apublish", publish)
    user = make_user()
    disconnect_user(user)
    disconnect_user(17)
    asyncio.run(adisconnect_user(18, session_key="abcdefgh", code=4403, reason="gone"))
    assert [message["user"] for message in told] == [str(user.pk), "17", "18"]
    assert [message["session"] is None for message in told] == [True, True, False]
    assert [(message["code"], message["reason"]) for message in told] == [
        (4401, ""),
        (4401, ""),
        (4403, "gone"),
    ]
    assert "abcdefgh" not in str(told)
