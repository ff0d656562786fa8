"""`python manage.py ws_kick` closes open sockets in all processes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from asgiref.sync import async_to_sync
from django.apps import apps
from django.core.management.base import CommandError, CommandParser
from django.db import DatabaseError

from fastws_compat.connections.closing import is_close_code
from fastws_compat.management import base
from fastws_compat.management.input import seconds, user_named, utf8
from fastws_compat.operations import api, audit
from fastws_compat.operations.management import replies
from fastws_compat.operations.records import Done
from fastws_compat.operations.survey import Answers, ask

FILTERS = {
    "id": "the socket with this id; may be repeated",
    "user": "the sockets of the user with this name",
    "route": "the sockets of this route, such as /ws/rooms/{slug}",
    "group": "the sockets in this group",
    "process": "the sockets of this process (host:pid)",
}


class Command(base.Command):
    help = "Closes open sockets in all processes. Filters combine: a socket must match each of them."

    def add_arguments(self, parser: CommandParser) -> None:
        for name, text in FILTERS.items():
            action = "append" if name == "id" else "store"
            parser.add_argument(f"--{name}", action=action, type=utf8, metavar=name.upper(), help=text)
        parser.add_argument("--everything", action="store_true", help="every socket")
        parser.add_argument("--code", type=int, default=api.COME_BACK, help="the close code (%(default)s)")
        parser.add_argument("--reason", type=utf8, default="", help="the reason, which the client sees")
        parser.add_argument(
            "--over", type=seconds, default=0, metavar="S", help="seconds to spread them over"
        )
        parser.add_argument("--dry-run", action="store_true", help="only print how many sockets match")
        parser.add_argument("--yes", action="store_true", help="do not ask for confirmation")
        parser.add_argument(
            "--as", dest="staff", metavar="STAFF", help="the user in whose name the admin logs it"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        replies.require_layer()
        where = filters(options)
        if not is_close_code(options["code"]):
            raise CommandError(f"--code {options['code']} is not a code that can be sent.")
        staff = None if options["staff"] is None else operator_named(options["staff"])
        if options["dry_run"] or not options["yes"]:
            self.confirm(where, options)
        if not options["dry_run"]:
            done = kick(where, options, staff)
            replies.require_reply(self, done, where)
            replies.report(self, "Closed", done)

    def confirm(self, where: dict[str, Any], options: dict[str, Any]) -> None:
        """Print how many sockets match. Unless that is all, ask whether to close them."""
        found: Answers = async_to_sync(ask)("count", where)
        replies.require_reply(self, found, where)
        processes = sum(1 for answer in found.last if answer["matched"])
        found_here = f"{replies.sockets(found.sum('matched'))} in {replies.plural(processes, 'process')}"
        self.stdout.write(f"{found_here} would be closed.")
        if not (options["dry_run"] or agrees("Close them? [y/N] ")):
            raise CommandError("Nothing was closed.")


def agrees(question: str) -> bool:
    """Whether the answer is yes; the end of stdin, or a closed one, is no answer."""
    try:
        return input(question).strip().lower() in ("y", "yes")
    except (EOFError, RuntimeError):
        return False


def filters(options: dict[str, Any]) -> dict[str, Any]:
    """The filters that were given; CommandError without one."""
    given = {name: options[name] for name in FILTERS}
    if given["user"] is not None:
        given["user"] = user_named(given["user"])
    where = api.filters(**given)
    if options["everything"]:
        where["everything"] = True
    if not where:
        raise CommandError(
            f"Say which sockets: {', '.join(f'--{name}' for name in FILTERS)} or --everything."
        )
    return where


def operator_named(name: str) -> Any:
    """The user in whose name the admin logs the action; CommandError without the admin."""
    if not apps.is_installed("django.contrib.admin"):
        raise CommandError("--as needs 'django.contrib.admin' in INSTALLED_APPS.")
    return user_named(name)


def enter(deed: audit.Deed, staff: Any, ids: Sequence[str]) -> Any:
    """The admin's log entry; CommandError if it cannot be written, because then nothing is done."""
    try:
        return audit.enter(deed, staff, ids)
    except DatabaseError as exc:
        raise CommandError(f"Nothing was closed, because it cannot be recorded: {exc}") from exc


def kick(where: dict[str, Any], options: dict[str, Any], staff: Any) -> Done:
    """Close the sockets, and log who did it."""
    code, reason, over = options["code"], options["reason"], options["over"]
    details = (
        f"code {code}" + (f", reason {reason!r}" if reason else "") + (f", over {over:g} s" if over else "")
    )
    subject = audit.subject_of(where)
    deed = audit.Deed("kick", subject, subject, details)
    by = audit.system_user() if staff is None else staff
    entry = None if staff is None else enter(deed, staff, where.get("id", ()))
    done, _ = async_to_sync(api.close)(where, code=code, reason=reason, over=over, by=by)
    if entry is None:
        audit.log(deed, by, done)
    else:
        audit.complete(entry, staff, deed, where.get("id", ()), done)
    return done
