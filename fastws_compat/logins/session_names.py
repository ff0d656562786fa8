"""The name of a session, by which its sockets are found when it ends.

The name is the session's key, which stays the same from the login to the logout. A session in a signed cookie
has no such key, because the cookie changes whenever the session is saved; it gets a random name at the login.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.signed_cookies import SessionStore as SignedCookies
from django.utils.crypto import get_random_string

from fastws_compat.logins.signatures import signature

NAME = "_fastws_login"
SALT = "fastws_compat.logins"


def session_digest(key: str) -> str:
    """A digest for messages between processes. Anyone who reads the key itself can take over the session."""
    digest: str = signature(SALT, key, settings.SECRET_KEY).hexdigest()
    return digest


def give_name(session: Any) -> None:
    """Name a session whose user has logged in. A name is kept, because sockets are registered by it."""
    if isinstance(session, SignedCookies) and NAME not in session:
        session[NAME] = get_random_string(32)


def name_of(session: Any) -> str | None:
    """The session's name; None for a session in a cookie whose user logged in before sessions had names."""
    name: str | None = session.get(NAME) if isinstance(session, SignedCookies) else session.session_key
    return name


def name_before(request: Any) -> str | None:
    """The name of the session that the client sent, which a login may have replaced by another one."""
    key = getattr(request, "COOKIES", {}).get(settings.SESSION_COOKIE_NAME)
    return name_of_key(key) if key else None


def name_of_key(key: str) -> str | None:
    """The name of the session that has this key, or this cookie."""
    store: Any = import_module(settings.SESSION_ENGINE).SessionStore
    return name_of(store(key)) if issubclass(store, SignedCookies) else key
