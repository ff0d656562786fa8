"""daphne: that it is one of those the library completes, and the one that `runserver` runs."""

from __future__ import annotations

from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import Error, Info, Warning, register

from fastws_compat import daphne
from fastws_compat.checks.messages import TAG, Messages, message
from fastws_compat.checks.packages import version


@register(TAG)
def check_daphne_version(**kwargs: Any) -> Messages:
    found = daphne.version(version("daphne"))
    if not found:
        return []
    if found < daphne.SINCE:
        return message(
            Error,
            "E004",
            f"daphne {version('daphne')} is too old: it is completed from {_dotted(daphne.SINCE)} on.",
            "pip install --upgrade daphne.",
        )
    if found >= daphne.BEFORE:
        return message(
            Warning,
            "W003",
            f"daphne {version('daphne')} is newer than what this version of fastws_compat was tested with.",
            f"Install daphne below {_dotted(daphne.BEFORE)}, or upgrade fastws_compat.",
        )
    return []


@register(TAG)
def check_daphne_mode(**kwargs: Any) -> Messages:
    """Silent where daphne is complete, as it should be, or is not the server."""
    told = {
        "portable": "close codes 1001 to 1014 become 4001 to 4014, and denial responses become 403",
        "stock": "FASTWS['DAPHNE'] asks for it",
    }
    mode = daphne.mode()
    if mode not in told:
        return []
    return message(
        Info,
        "I001",
        f"daphne is not completed but {mode}: {told[mode]}.",
        "A daphne of a tested version is completed by itself.",
    )


@register(TAG)
def check_runserver(**kwargs: Any) -> Messages:
    if apps.is_installed("daphne") or not settings.DEBUG:
        return []
    return message(
        Warning,
        "W009",
        "daphne is not in INSTALLED_APPS: `runserver` is Django's own and serves no sockets.",
        'Put "daphne" first in INSTALLED_APPS, or silence this check if you develop with another server.',
    )


@register(TAG)
def check_daphne_order(**kwargs: Any) -> Messages:
    names = [app.name for app in apps.get_app_configs()]
    static = "django.contrib.staticfiles"
    if "daphne" not in names or static not in names or names.index("daphne") < names.index(static):
        return []
    return message(
        Error,
        "E005",
        "daphne comes after django.contrib.staticfiles: `runserver` is not daphne's and serves no sockets.",
        'Put "daphne" first in INSTALLED_APPS.',
    )


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
