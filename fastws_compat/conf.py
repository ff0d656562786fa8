"""The settings dict `FASTWS`, read at use so that Django's `override_settings` works."""

from __future__ import annotations

from typing import Any

DEFAULTS: dict[str, Any] = {
    # Threads that run sync dependencies (not the process's one thread-sensitive thread).
    "THREADS": 8,
}


def get(name: str) -> Any:
    """The value of `FASTWS[name]`, or the library's default; works without Django settings too."""
    from django.conf import settings

    if settings.configured or _has_settings_module():
        values = getattr(settings, "FASTWS", {})
        if name in values:
            return values[name]
    return DEFAULTS[name]


def _has_settings_module() -> bool:
    import os

    from django.conf import ENVIRONMENT_VARIABLE

    return bool(os.environ.get(ENVIRONMENT_VARIABLE))
