from __future__ import annotations

from typing import Any

from django.contrib.admin.models import LogEntry
from django.db.models.signals import post_save
from django.dispatch import receiver

from .journal import announce


@receiver(post_save, sender=LogEntry)
def log_entry_saved(instance: LogEntry, created: bool, **kwargs: Any) -> None:
    if created:
        announce(instance)
