"""`python manage.py ws_drain` takes processes out of service: they refuse sockets and close the open ones."""

from __future__ import annotations

import time
from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import CommandError, CommandParser

from fastws_compat.management import base
from fastws_compat.management.input import seconds, utf8
from fastws_compat.operations import api, audit
from fastws_compat.operations.census import concerns
from fastws_compat.operations.management import replies
from fastws_compat.operations.records import Done
from fastws_compat.operations.survey import ask

# Seconds between two checks whether the sockets are gone.
INTERVAL = 0.5


class Command(base.Command):
    help = (
        "Takes processes out of service: they refuse handshakes with 503 and close their sockets with 1012."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--process", type=utf8, metavar="HOST:PID", help="this process")
        which.add_argument("--host", type=utf8, help="the processes of this host")
        which.add_argument("--all", action="store_true", help="every process")
        parser.add_argument(
            "--over", type=seconds, default=0, metavar="S", help="seconds to spread the closes over"
        )
        parser.add_argument(
            "--wait", type=seconds, default=0, metavar="S", help="wait until the sockets are gone"
        )
        parser.add_argument("--undo", action="store_true", help="accept handshakes again")

    def handle(self, *args: Any, **options: Any) -> None:
        replies.require_layer()
        # An empty name, such as that of an unset variable of a shell, is no process; it does not mean all.
        where = {name: options[name] for name in ("process", "host") if options[name] is not None}
        where = where or {"everything": True}
        values = {"over": options["over"], "undo": options["undo"]}
        done: Done = async_to_sync(api.drain)(where, by=audit.system_user(), **values)
        replies.require_reply(self, done, where)
        if not done.processes:
            raise CommandError("No such process answers.")
        verb = "Back in service" if options["undo"] else "Draining"
        self.stdout.write(
            f"{verb}: {replies.plural(done.processes, 'process')} with {replies.sockets(done.count)}."
        )
        if options["wait"] and not options["undo"]:
            self.wait(where, {name for name in done.answered if concerns(where, name)}, options["wait"])

    def wait(self, where: dict[str, Any], processes: set[str], seconds: float) -> None:
        """Wait until each process says that it has no sockets; raise CommandError after `seconds`."""
        deadline = time.monotonic() + seconds
        while problem := remaining(where, processes):
            if time.monotonic() >= deadline:
                raise CommandError(f"{problem} after {seconds:g} s.")
            time.sleep(INTERVAL)
        self.stdout.write("No sockets are left.")


def remaining(where: dict[str, Any], processes: set[str]) -> str:
    """What is known of the sockets of these processes; empty if all of them say that none is left."""
    found = async_to_sync(ask)("count", {"everything": True, **where})
    if left := found.sum("matched"):
        return f"{replies.sockets(left)} still open"
    silent = sorted(processes.difference(found.answered))
    return f"No answer from {', '.join(silent)}" if silent else ""
