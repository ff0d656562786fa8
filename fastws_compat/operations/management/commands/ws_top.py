"""`python manage.py ws_top` shows a live table of the sockets of all processes."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import BaseCommand, CommandError, CommandParser

from fastws_compat.management.input import seconds
from fastws_compat.operations import api
from fastws_compat.operations.management import replies, top
from fastws_compat.operations.management.top import Sample, View

CLEAR = "\x1b[H\x1b[2J"
# Seconds between two samples.
INTERVAL = 2.0


class Command(BaseCommand):
    help = (
        "Shows the sockets of all processes by route, with rates. Keys: s sorts, / filters, r route, q quits."
    )
    requires_system_checks = ()

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--once", action="store_true", help="print one table and exit")
        parser.add_argument("--json", action="store_true", help="print one JSON object and exit")
        parser.add_argument(
            "--interval", type=seconds, default=INTERVAL, metavar="S", help="seconds between samples"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        replies.require_layer()
        interval = max(options["interval"], 0.1)
        if options["json"] or options["once"]:
            self.print_once(interval, options["json"])
        elif sys.stdin.isatty() and sys.stdout.isatty():
            with keys() as pressed:
                self.show(interval, pressed)
        else:
            raise CommandError("ws_top needs a terminal; --once or --json prints once.")

    def print_once(self, interval: float, as_json: bool) -> None:
        before = sample()
        time.sleep(interval)
        now = sample()
        found = top.rows(before, now)
        if as_json:
            self.stdout.write(json.dumps({"time": now.at, "silent": list(now.silent), "rows": found}))
            return
        replies.warn(self, list(now.silent))
        for line in top.table(View().of(found)):
            self.stdout.write(line)

    def show(self, interval: float, pressed: Any) -> None:
        """Redraw after each sample and each key, until the user quits."""
        view, before, now = View(), None, sample()
        while not view.quits:
            found = top.rows(before, now)
            lines = "\r\n".join(top.screen(view, found, now))
            sys.stdout.write(f"{CLEAR}{lines}\r\n")
            sys.stdout.flush()
            key = pressed(max(0.0, now.at + interval - time.time()))
            if key is None:
                before, now = now, sample()
            else:
                view.press(key, sorted({row["route"] for row in found}))


def sample() -> Sample:
    found, answers = async_to_sync(api.survey_processes)()
    return Sample(time.time(), found, answers.silent)


@contextmanager
def keys() -> Iterator[Any]:
    """A function that waits for a key; the terminal neither shows keys nor waits for whole lines."""
    import termios
    import tty

    stdin = sys.stdin.fileno()
    before = termios.tcgetattr(stdin)
    tty.setcbreak(stdin)

    def pressed(seconds: float) -> str | None:
        ready, _, _ = select.select([stdin], [], [], seconds)
        return os.read(stdin, 1).decode(errors="replace") if ready else None

    try:
        yield pressed
    finally:
        termios.tcsetattr(stdin, termios.TCSADRAIN, before)
