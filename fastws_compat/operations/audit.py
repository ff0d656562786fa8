"""Records what operators do: on the logger `fastws_compat.audit`, and for users in the admin's log."""

from __future__ import annotations

import getpass
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth import get_user_model
from django.db import router
from django.db.models import Prefetch

from fastws_compat.logger import audit
from fastws_compat.operations import masks
from fastws_compat.operations.records import Done
from fastws_compat.terminal import printable

# The maximum length of LogEntry.object_id on every database, and of object_repr.
MAX_REPR = 200
# What the logs call each action.
WORDS = {
    "kick": "Closed",
    "send": "Sent a message to",
    "tap": "Began to watch",
    "untap": "Stopped watching",
}


@dataclass(frozen=True, slots=True)
class Deed:
    """One action: what was done to which sockets, and by whom."""

    action: str
    # As LogEntry has it: the socket's id, "2 sockets", "user:5", "route:/ws/feed" or "*".
    subject: str
    # How the subject is shown, without personal data.
    shown: str
    # What was asked for, such as the code and the reason.
    details: str

    def text(self, done: Done) -> str:
        """The sentence for the logs."""
        what = WORDS.get(self.action, self.action)
        missing = [*done.silent, *done.older]
        silent = f"; no answer from {', '.join(missing)}" if missing else ""
        silent += "; the channel layer failed" if done.unreached_since is not None else ""
        sockets = "1 socket" if done.count == 1 else f"{done.count} sockets"
        return f"{what} {sockets} ({self.details}){silent}"


def subject_of(where: Mapping[str, Any]) -> str:
    """What a filter selects, in the form of a LogEntry's object."""
    if ids := where.get("id"):
        return ids[0] if len(ids) == 1 else f"{len(ids)} sockets"
    filters = [f"{name}:{value}" for name, value in where.items() if name != "everything"]
    return " ".join(filters) or "*"


def system_user() -> str:
    """The name of the user who runs the command."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):  # a container may run as a number without a name
        return "unknown"


def log(deed: Deed, by: Any, done: Done) -> None:
    """Write a line about what was done."""
    shown, text = printable(deed.shown), deed.text(done)
    audit.info("%s: %s %s", by, shown, text, extra={"action": deed.action, "by": str(by)})


def enter(deed: Deed, user: Any, ids: Sequence[str] = ()) -> Any:
    """Create the admin's log entry before anything is done. If it cannot be written, nothing is done."""
    from django.contrib.admin.models import CHANGE, LogEntry

    entry = LogEntry(
        user_id=user.pk,
        content_type_id=content_type().pk,  # the object may be in another database
        object_id=printable(deed.subject),  # PostgreSQL refuses NUL, which an address may contain
        object_repr=printable(deed.shown)[:MAX_REPR],
        action_flag=CHANGE,
        change_message=_message(deed, ids, None),
    )
    entry.save()
    return entry


def complete(entry: Any, user: Any, deed: Deed, ids: Sequence[str], done: Done) -> None:
    """Write the line, and add the outcome to the user's entry."""
    log(deed, user.get_username(), done)  # first, because the database may fail now
    entry.change_message = _message(deed, ids, done)
    entry.save(update_fields=["change_message"])


def record(deed: Deed, user_id: str, done: Done) -> None:
    """Write an entry and the line for what a user's action has led to later."""
    user = _users().get(pk=user_id)
    complete(enter(deed, user), user, deed, (), done)


def _message(deed: Deed, ids: Sequence[str], done: Done | None) -> str:
    text = f"Not yet done ({deed.details})" if done is None else deed.text(done)
    return printable(f"{text}: {', '.join(ids)}" if len(ids) > 1 else text)


def entries(subject: str) -> Any:
    """The entries about what a filter selects, such as the id of a socket; the newest first."""
    from django.contrib.admin.models import LogEntry

    found = LogEntry.objects.filter(content_type_id=content_type().pk, object_id=printable(subject))
    return found.prefetch_related(Prefetch("user", _users())).order_by("-action_time", "-pk")


def _users() -> Any:
    """All users, in their own database: that of the log may be another one."""
    model = get_user_model()
    return model._base_manager.using(router.db_for_read(model))


def masked(address: str | None) -> str:
    """The network of an address that may already be masked."""
    return masks.address(address) or (address if address and address.endswith("x") else "") or ""


def content_type() -> Any:
    """The content type of sockets, which exists once `migrate` has run."""
    from django.contrib.contenttypes.models import ContentType

    from fastws_compat.operations.models import LiveSocket

    return ContentType.objects.get_for_model(LiveSocket, for_concrete_model=False)
