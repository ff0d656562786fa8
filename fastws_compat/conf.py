"""The settings dict `FASTWS`, read at use so that Django's `override_settings` works."""

from __future__ import annotations

import functools
from typing import Any

DEFAULTS: dict[str, Any] = {
    # Threads that run sync dependencies (not the process's one thread-sensitive thread).
    "THREADS": 8,
    # "complete" the installed daphne, or leave it "stock".
    "DAPHNE": "complete",
    # Take the path that daphne is mounted at from the header `Daphne-Root-Path`, as stock daphne does.
    "DAPHNE_ROOT_PATH_HEADER": False,
    # Seconds that endpoints have to end when the server stops.
    "SHUTDOWN_GRACE": 5,
    # Origins besides the site's own and CSRF_TRUSTED_ORIGINS, in the form of the latter; "*" is every one.
    "ALLOWED_ORIGINS": (),
    # Refuse every handshake without an Origin header, also of clients that have no session cookie.
    "ORIGIN_REQUIRED": False,
    # Seconds in which a handshake must be answered; below daphne's own 5.
    "HANDSHAKE_TIMEOUT": 4,
    # Seconds that an endpoint has to end when its client is gone and it does not notice; None is for ever.
    "DISCONNECT_GRACE": 5,
    # Seconds that the cleanup of one dependency may take before it is cancelled.
    "CLEANUP_TIMEOUT": 10,
    # Bytes of a message, where neither the route nor its application say otherwise.
    "MAX_MESSAGE_SIZE": 1024 * 1024,
    # Connections that a process has open at a time: in all, of one user, of one address.
    "MAX_CONNECTIONS": None,
    "MAX_CONNECTIONS_PER_USER": None,
    "MAX_CONNECTIONS_PER_ADDRESS": None,
    # Fields of a user whose change is told to other processes at once; None lets the library find out.
    "LOGIN_FIELDS": None,
    # Dotted name of a callable that returns the current tenant, where tenants share a database.
    "TENANT": None,
    # How often open sockets are asked whether their login still holds; 0 is never.
    "REVALIDATE_SECONDS": 60,
    # Seconds that a channel layer has to answer.
    "LAYER_TIMEOUT": 5,
    # What happens to a socket that groups send more than it reads: "close" (1013) or "drop_oldest".
    "SLOW_CONSUMER": "close",
    # Messages that wait for such a socket until then.
    "SLOW_CONSUMER_QUEUE": 1000,
}


def get(name: str) -> Any:
    """The value of `FASTWS[name]`, or the library's default; works without Django settings too."""
    own = values()
    return own[name] if name in own else DEFAULTS[name]


# The object that held Django's settings when they were read, and what it says.
_read: tuple[Any, dict[str, Any]] = (None, {})


def values() -> dict[str, Any]:
    """What the project has set."""
    global _read
    settings = _settings()
    # Every connection asks, and Django's lazy object answers slowly; each override puts another one into it.
    holder = object.__getattribute__(settings, "_wrapped")
    if holder is not _read[0]:
        own = getattr(settings, "FASTWS", {}) if settings.configured or has_settings_module() else {}
        # A system check tells what is no dict.
        _read = settings._wrapped if settings.configured else None, own if isinstance(own, dict) else {}
    return _read[1]


@functools.cache
def _settings() -> Any:
    from django.conf import settings

    return settings


def debug() -> bool:
    """Whether Django's `DEBUG` is on; False where there are no Django settings."""
    from django.conf import settings

    return bool((settings.configured or has_settings_module()) and settings.DEBUG)


def has_settings_module() -> bool:
    """Whether the environment names Django's settings."""
    import os

    from django.conf import ENVIRONMENT_VARIABLE

    return bool(os.environ.get(ENVIRONMENT_VARIABLE))
