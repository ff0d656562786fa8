"""By which name the sockets of a session are found when it ends.

That is its key, which stays the same from the login to the logout. A session in a signed cookie has no such
key: each time it is saved the cookie is another one. There the session is given a random name at the login.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from django.conf import settings
from django.contrib.sessions.backends.signed_cookies import SessionStore as SignedCookies
from django.utils.crypto import get_random_string

NAME = "_fastws_login"


def give_name(session: Any) -> None:
    """Names a session whose user has logged in; one that has a name keeps it, as its sockets know it."""
    if isinstance(session, SignedCookies) and NAME not in session:
        session[NAME] = get_random_string(32)


def name_of(session: Any) -> str | None:
    """The name of a session; None for one in a cookie that began before names were given."""
    name: str | None = session.get(NAME) if isinstance(session, SignedCookies) else session.session_key
    return name


def name_of_key(key: str) -> str | None:
    """The name of the session that has this key, or this cookie."""
    store: Any = import_module(settings.SESSION_ENGINE).SessionStore
    return name_of(store(key)) if issubclass(store, SignedCookies) else key
