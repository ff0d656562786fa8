"""The Django app. With it, the processes that serve sockets reply to operators' queries."""

from __future__ import annotations

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class OperationsConfig(AppConfig):
    name = "fastws_compat.operations"
    label = "fastws_operations"
    verbose_name = _("Live sockets")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from fastws_compat.connections import census, registry
        from fastws_compat.operations.line import line

        census.start()
        if line.begin not in registry.on_begin:
            registry.on_begin.append(line.begin)
