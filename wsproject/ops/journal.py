"""The admin's log entries as the operations page shows them."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.models import DELETION, LogEntry

from fastws_compat.groups import Group

staff_group = Group("ops")
RECENT = 20


def describe(entry: LogEntry) -> dict[str, Any]:
    """Return a log entry as the frame that the page receives."""
    return {
        "type": "entry",
        "id": entry.pk,
        "at": entry.action_time.isoformat(),
        "user": entry.user.get_username(),
        "flag": entry.action_flag,
        "action": entry.get_action_flag_display(),
        "kind": str(entry.content_type or ""),
        "object": entry.object_repr,
        "url": None if entry.action_flag == DELETION else entry.get_admin_url(),
        "change": entry.get_change_message(),
    }


def recent() -> list[dict[str, Any]]:
    """Return the latest entries, oldest first."""
    newest = LogEntry.objects.select_related("user", "content_type").order_by("-pk")
    return [describe(entry) for entry in newest[:RECENT]][::-1]


def announce(entry: LogEntry) -> None:
    """Send the entry, once, to every open operations page when the transaction commits."""
    staff_group.send_on_commit(describe(entry), key=str(entry.pk))
