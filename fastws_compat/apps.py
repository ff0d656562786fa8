"""The Django application; nothing to configure."""

from __future__ import annotations

from django.apps import AppConfig


class FastWSConfig(AppConfig):
    name = "fastws_compat"
    verbose_name = "FastAPI WebSockets for Django"

    def ready(self) -> None:
        from fastws_compat import checks as checks
        from fastws_compat import daphne, receivers

        daphne.install()
        receivers.connect()
