"""The Django app. It needs no configuration."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.signals import setting_changed
from django.utils.autoreload import autoreload_started

from fastws_compat.types import ASGIApp


class FastWSConfig(AppConfig):
    name = "fastws_compat"
    verbose_name = "FastAPI WebSockets for Django"

    def ready(self) -> None:
        from fastws_compat import checks as checks
        from fastws_compat import daphne, logs
        from fastws_compat.connections import misdirected
        from fastws_compat.daphne import hooks
        from fastws_compat.logins import receivers

        daphne.install()
        hooks.before_serving(print_routes)
        setting_changed.connect(install_live_server, dispatch_uid="fastws_compat.install_live_server")
        logs.install()
        setting_changed.connect(logs.install, dispatch_uid="fastws_compat.logs")
        receivers.connect()
        misdirected.install()
        autoreload_started.connect(watch, dispatch_uid="fastws_compat.watch")


def print_routes(application: ASGIApp) -> None:
    """Print the routes that the server is about to serve, while `DEBUG` is on."""
    if settings.DEBUG:
        from fastws_compat.schema import catalogue

        catalogue.print_routes(application)


def install_live_server(**kwargs: Any) -> None:
    """Complete Channels' live server test case, which changes a setting before it starts its process."""
    from fastws_compat import daphne

    daphne.install_live()


def watch(sender: Any, **kwargs: Any) -> None:
    """Have `runserver` watch the modules with sockets even if their import failed."""
    for app in apps.get_app_configs():
        sender.watch_dir(app.path, "sockets.py")
    name = str(getattr(settings, "ASGI_APPLICATION", "")).rpartition(".")[0]
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return
    if spec and spec.origin:
        sender.watch_dir(Path(spec.origin).parent, Path(spec.origin).name)
