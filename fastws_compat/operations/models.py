"""The model behind the admin's page: it has permissions, and no table."""

from __future__ import annotations

from typing import Any, ClassVar

from django.db import models
from django.utils.translation import gettext_lazy as _


class NoRows(models.Manager["LiveSocket"]):
    """Finds nothing, so that what goes through all models, such as `dumpdata`, needs no table."""

    def get_queryset(self) -> models.QuerySet[LiveSocket]:
        return super().get_queryset().none()


class LiveSocket(models.Model):
    """Stands for the open sockets in content types and permissions. It is never queried."""

    # The connection's id.
    id: Any = models.CharField(primary_key=True, max_length=255)

    objects = NoRows()

    class Meta:
        managed = False
        base_manager_name = "objects"
        verbose_name = _("socket")
        verbose_name_plural = _("sockets")
        default_permissions = ("view",)
        permissions: ClassVar = [
            ("kick_livesocket", "Can close sockets"),
            ("message_livesocket", "Can send messages to sockets"),
            ("tap_livesocket", "Can watch the messages of a socket"),
            ("view_personal", "Can see addresses, paths and agents"),
        ]

    def __str__(self) -> str:
        return str(self.pk)
