"""Checks of daphne: whether its version can be completed, and whether `runserver` uses it."""

from __future__ import annotations

import os
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import Error, Info, Warning, register

from fastws_compat import daphne
from fastws_compat.checks.messages import TAG, Messages, message
from fastws_compat.checks.packages import version
from fastws_compat.daphne.versions import BEFORE, SINCE, leading_numbers


@register(TAG)
def check_daphne_version(**kwargs: Any) -> Messages:
    found = leading_numbers(version("daphne"))
    if not found:
        return []
    if found < SINCE:
        return message(
            Error,
            "E004",
            f"daphne {version('daphne')} is too old: fastws_compat needs {_dotted(SINCE)} or later.",
            "Run `pip install --upgrade daphne`.",
        )
    if found >= BEFORE:
        return message(
            Warning,
            "W003",
            f"daphne {version('daphne')} is newer than any version that this fastws_compat was tested with.",
            f"Install a daphne below {_dotted(BEFORE)}, or upgrade fastws_compat.",
        )
    return []


@register(TAG)
def check_daphne_mode(**kwargs: Any) -> Messages:
    """Report a daphne that is not completed; nothing if it is, or if the process does not run daphne."""
    consequences = {
        "portable": "close codes 1001 to 1014 are sent as private ones (1008 as 4008), and refusals as 403",
        "stock": "FASTWS['DAPHNE'] is 'stock'",
    }
    mode = daphne.mode()
    if mode not in consequences:
        return []
    return message(
        Info,
        "I001",
        f"daphne runs in {mode} mode: {consequences[mode]}.",
        "With a tested version and FASTWS['DAPHNE'] = 'complete', daphne is completed automatically.",
    )


@register(TAG)
def check_runserver(**kwargs: Any) -> Messages:
    if apps.is_installed("daphne") or not settings.DEBUG:
        return []
    return message(
        Warning,
        "W009",
        "daphne is not in INSTALLED_APPS, so `runserver` is Django's own and serves no WebSockets.",
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
        "daphne comes after django.contrib.staticfiles, so `runserver` serves no WebSockets.",
        'Put "daphne" first in INSTALLED_APPS.',
    )


@register(TAG)
def check_multiprocess_metrics(**kwargs: Any) -> Messages:
    """Warn where django-prometheus exports files of all processes, which leaves out collectors like ours."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ or not apps.is_installed(
        "fastws_compat.contrib.prometheus"
    ):
        return []
    return message(
        Warning,
        "W011",
        "PROMETHEUS_MULTIPROC_DIR is set, so the default registry of prometheus_client has no "
        "collectors, and its /metrics has no figures of sockets.",
        "Add the view fastws_compat.contrib.prometheus.metrics to the URLconf and scrape it in each process.",
    )


def _dotted(numbers: tuple[int, ...]) -> str:
    return ".".join(map(str, numbers))
