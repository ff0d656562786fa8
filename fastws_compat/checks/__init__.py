"""System checks: what would only show when the first client connects, told by `manage.py check`."""

from __future__ import annotations

from typing import Any

from django.core.checks import register

from fastws_compat.checks import layers as layers
from fastws_compat.checks import server as server
from fastws_compat.checks import settings as settings
from fastws_compat.checks.messages import TAG, Messages


@register(TAG)
def check_asgi_application(**kwargs: Any) -> Messages:
    """Everything that needs the project's ASGI application, which is imported for it."""
    # All of the library comes with it: not before a check is asked for.
    from fastws_compat.checks import application

    return application.check()
