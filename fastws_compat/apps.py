"""The Django application; nothing to configure."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path
from typing import Any

from django.apps import AppConfig, apps
from django.conf import settings
from django.core.signals import setting_changed
from django.utils.autoreload import autoreload_started


class FastWSConfig(AppConfig):
    name = "fastws_compat"
    verbose_name = "FastAPI WebSockets for Django"

    def ready(self) -> None:
        from fastws_compat import checks as checks
        from fastws_compat import daphne
        from fastws_compat.logins import receivers

        daphne.install()
        setting_changed.connect(tests_begin, dispatch_uid="fastws_compat.tests_begin")
        receivers.connect()
        autoreload_started.connect(watch, dispatch_uid="fastws_compat.watch")


def tests_begin(**kwargs: Any) -> None:
    """Settings change in tests only; Channels' live server changes one before it starts its process."""
    from fastws_compat import daphne

    daphne.install_live()


def watch(sender: Any, **kwargs: Any) -> None:
    """Have `runserver` notice that a module with sockets was mended: what fails to import is no module."""
    for app in apps.get_app_configs():
        sender.watch_dir(app.path, "sockets.py")
    name = str(getattr(settings, "ASGI_APPLICATION", "")).rpartition(".")[0]
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        return
    if spec and spec.origin:
        sender.watch_dir(Path(spec.origin).parent, Path(spec.origin).name)
