"""The site for tests of users on real servers: Django's pages and `django_sockets`.

Run as a script, it prepares the database at $DATABASE_PATH or performs the action given as argument.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.servers.django_settings")

if __name__ != "__main__":
    from fastws_compat.asgi import get_asgi_application

    application = get_asgi_application("tests.servers.django_sockets:app")


def prepare() -> None:
    """Create users with a session each, and print the keys of the sessions."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.test import Client

    call_command("migrate", verbosity=0)
    keys = {}
    for name in ("ann", "bob", "eve", "staff", "root"):
        client = Client()
        rights = {"is_staff": name in ("staff", "root"), "is_superuser": name == "root"}
        client.force_login(User.objects.create_user(name, **rights))
        keys[name] = client.cookies[settings.SESSION_COOKIE_NAME].value
    print(json.dumps(keys))


def crowd() -> None:
    """Create two hundred users in a group that may view users, and print the keys of their sessions."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
    from django.contrib.auth.models import Group, Permission, User
    from django.contrib.sessions.backends.db import SessionStore
    from django.db import transaction

    keys = []
    with transaction.atomic():
        users = User.objects.bulk_create(User(username=f"user{number}") for number in range(200))
        group = Group.objects.create(name="viewers")
        group.permissions.add(Permission.objects.get(codename="view_user"))
        group.user_set.add(*users)
        for user in users:
            session = SessionStore()
            session[SESSION_KEY] = str(user.pk)
            session[BACKEND_SESSION_KEY] = "django.contrib.auth.backends.ModelBackend"
            session[HASH_SESSION_KEY] = user.get_session_auth_hash()
            session.create()
            keys.append(session.session_key)
    print(json.dumps(keys))


def sessions(*names: str) -> None:
    """Log users in again, with the current session engine, and print the keys."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    keys = {}
    for name in names:
        client = Client()
        client.force_login(User.objects.get(username=name))
        keys[name] = client.cookies[settings.SESSION_COOKIE_NAME].value
    print(json.dumps(keys))


def act(what: str, name: str) -> None:
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.test import Client

    from fastws_compat.auth import disconnect_user

    user = User.objects.get(username=name)
    if what == "login":
        client = Client()
        client.force_login(user)
        print(client.cookies[settings.SESSION_COOKIE_NAME].value)
    elif what == "disconnect":
        disconnect_user(user, reason="by hand")
    else:
        user.is_active = False
        user.save()


if __name__ == "__main__":
    import django

    django.setup()
    if len(sys.argv) == 1:
        prepare()
    elif sys.argv[1] == "crowd":
        crowd()
    elif sys.argv[1] == "sessions":
        sessions(*sys.argv[2:])
    else:
        act(*sys.argv[1:])
