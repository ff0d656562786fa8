"""A login for a command: a session that lasts as long as the command, at most an hour."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

from django.conf import settings

# Seconds after which the session expires if the command could not delete it.
MAX_AGE = 3600


@contextmanager
def logged_in(user: Any) -> Iterator[str]:
    """The Cookie header of a new session of `user`, which ends with the block. The login sends no signal."""
    from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY

    session = import_module(settings.SESSION_ENGINE).SessionStore()
    session[SESSION_KEY] = user._meta.pk.value_to_string(user)
    session[BACKEND_SESSION_KEY] = backend()
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.set_expiry(MAX_AGE)
    session.save()
    try:
        yield f"{settings.SESSION_COOKIE_NAME}={session.session_key}"
    finally:
        session.delete()


def backend() -> str:
    """The first authentication backend that can load a user."""
    from django.contrib.auth import load_backend

    for name in settings.AUTHENTICATION_BACKENDS:
        if hasattr(load_backend(name), "get_user"):
            return str(name)
    return str(settings.AUTHENTICATION_BACKENDS[0])
