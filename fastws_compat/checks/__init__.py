"""System checks: `manage.py check` finds mistakes that would only show when a client connects."""

from __future__ import annotations

from typing import Any

from django.core.checks import register

from fastws_compat.checks import kinds as kinds
from fastws_compat.checks import layers as layers
from fastws_compat.checks import server as server
from fastws_compat.checks import settings as settings
from fastws_compat.checks.messages import TAG, Messages


@register(TAG)
def check_asgi_application(**kwargs: Any) -> Messages:
    """All checks that need the project's ASGI application; they import it."""
    # Imported here because it imports the whole library, which commands without checks do not need.
    from fastws_compat.checks import application

    return application.check()
