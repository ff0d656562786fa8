"""The admin's log entries as the operations page shows them."""

from __future__ import annotations

from typing import Any

from django.contrib.admin.models import DELETION, LogEntry

from fastws_compat.groups import Group

staff_group = Group("ops")
FIRST = 20
MOST = 200


def describe(entry: LogEntry) -> dict[str, Any]:
    """Who did what to which object, and when."""
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


def recent(after: int) -> list[dict[str, Any]]:
    """The last entries, or all that came after entry `after`; oldest first."""
    newest = LogEntry.objects.select_related("user", "content_type").filter(pk__gt=after).order_by("-pk")
    return [describe(entry) for entry in newest[: MOST if after else FIRST]][::-1]


def announce(entry: LogEntry) -> None:
    """Tell every open operations page, once the transaction is through."""
    staff_group.send_on_commit(describe(entry))
