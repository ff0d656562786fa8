"""A warning for a project that serves sockets without this library in its `INSTALLED_APPS`.

Its system checks cannot report that: they are registered by the app.
"""

from __future__ import annotations

from fastws_compat.logger import logger

NUMBER = "W021"
TEXT = (
    'fastws.%s: "fastws_compat" is not in INSTALLED_APPS, so its system checks, commands, template tags and '
    "static files are missing, and `runserver` does not complete daphne: add it, or silence this warning. "
    "See docs/reference/checks.md#fastwsw021."
)

_is_done = False


def warn_if_absent() -> None:
    """Log the warning once per process; never if Django is not set up, or if the project has silenced it."""
    global _is_done
    from django.apps import apps
    from django.conf import settings

    if _is_done or not apps.ready:
        return
    _is_done = True
    if not apps.is_installed("fastws_compat") and f"fastws.{NUMBER}" not in settings.SILENCED_SYSTEM_CHECKS:
        logger.warning(TEXT, NUMBER)
