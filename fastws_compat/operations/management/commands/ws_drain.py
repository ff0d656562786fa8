"""`python manage.py ws_drain` takes processes out of service: they refuse sockets and close the open ones."""

from __future__ import annotations

import time
from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError, CommandParser

from fastws_compat.management.input import seconds
from fastws_compat.operations import api, audit
from fastws_compat.operations.management import replies
from fastws_compat.operations.records import Done
from fastws_compat.operations.survey import ask

# Seconds between two checks whether the sockets are gone.
INTERVAL = 0.5


class Command(BaseCommand):
    help = (
        "Takes processes out of service: they refuse handshakes with 503 and close their sockets with 1012."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        which = parser.add_mutually_exclusive_group(required=True)
        which.add_argument("--process", metavar="HOST:PID", help="this process")
        which.add_argument("--host", help="the processes of this host")
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
        replies.warn(self, done.silent)
        if not done.processes:
            raise CommandError("No such process answers.")
        verb = "Back in service" if options["undo"] else "Draining"
        self.stdout.write(
            f"{verb}: {replies.plural(done.processes, 'process')} with {replies.sockets(done.count)}."
        )
        if options["wait"] and not options["undo"]:
            self.wait(where, options["wait"])

    def wait(self, where: dict[str, Any], seconds: float) -> None:
        """Wait until the processes have no sockets; raise CommandError after `seconds`."""
        deadline = time.monotonic() + seconds
        while left := async_to_sync(ask)("count", {"everything": True, **where}).sum("matched"):
            if time.monotonic() >= deadline:
                raise CommandError(f"{replies.sockets(left)} still open after {seconds:g} s.")
            time.sleep(INTERVAL)
        self.stdout.write("No sockets are left.")
