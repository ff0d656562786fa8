"""`FASTWS` as the server sees it, which may run without Django."""

from __future__ import annotations

import os
from typing import Any


def setting(name: str, default: Any) -> Any:
    """`settings.FASTWS[name]`, or `default` where there is no Django or no such key."""
    from django.conf import settings

    if settings.configured or "DJANGO_SETTINGS_MODULE" in os.environ:
        return getattr(settings, "FASTWS", {}).get(name, default)
    return default
