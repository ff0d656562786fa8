"""The site that tests of users run on real servers: Django's pages and `django_sockets`.

Run as a script it prepares the database at $DATABASE_PATH, or does what its argument says.
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
    """Make users with a session each, and print the keys of the sessions."""
    from django.conf import settings
    from django.contrib.auth.models import User
    from django.core.management import call_command
    from django.test import Client

    call_command("migrate", verbosity=0)
    keys = {}
    for name in ("ann", "bob", "eve", "staff"):
        client = Client()
        client.force_login(User.objects.create_user(name, is_staff=name == "staff"))
        keys[name] = client.cookies[settings.SESSION_COOKIE_NAME].value
    print(json.dumps(keys))


def act(what: str, name: str) -> None:
    from django.contrib.auth.models import User

    from fastws_compat.auth import disconnect_user

    user = User.objects.get(username=name)
    if what == "disconnect":
        disconnect_user(user, reason="by hand")
    elif what == "deactivate":
        user.is_active = False
        user.save()
    else:
        User.objects.filter(pk=user.pk).update(is_staff=False)


if __name__ == "__main__":
    import django

    django.setup()
    if len(sys.argv) == 1:
        prepare()
    else:
        act(*sys.argv[1:])
