"""Users for tests: created, logged in, and put into the scope as middleware does."""

from django.contrib.auth.models import Permission, User

from fastws_compat.testclient import TestClient

ORIGIN = (b"origin", b"http://testserver")


def make_user(username="ann", perms=(), **rights):
    """A user with permissions, each as "auth.view_user"."""
    user = User.objects.create_user(username, **rights)
    for perm in perms:
        app, codename = perm.split(".")
        user.user_permissions.add(Permission.objects.get(content_type__app_label=app, codename=codename))
    return user


def client_of(user, app):
    client = TestClient(app, timeout=5)
    client.force_login(user)
    return client


def cookie_of(user):
    """The header with the user's session."""
    return (b"cookie", f"sessionid={client_of(user, None).cookies['sessionid']}".encode())


def headers_of(*headers):
    """The headers of a client of `http://testserver`, for a communicator."""
    return [(b"host", b"testserver"), *headers]


class InScope:
    """Middleware that puts values into the scope."""

    def __init__(self, app, **values):
        self.app = app
        self.values = values

    async def __call__(self, scope, receive, send):
        await self.app({**scope, **self.values}, receive, send)
