"""`python manage.py ws_top` shows a live table of the sockets of all processes."""

from __future__ import annotations

import json
import shutil
import sys
import time
from typing import Any

from asgiref.sync import async_to_sync
from django.core.management.base import CommandError, CommandParser

from fastws_compat.management import base
from fastws_compat.management.input import seconds
from fastws_compat.operations import api
from fastws_compat.operations.management import replies, top
from fastws_compat.operations.management.keyboard import Keyboard, keyboard
from fastws_compat.operations.management.top import Sample, View
from fastws_compat.operations.survey import Answers

CLEAR = "\x1b[H\x1b[2J"
# Seconds between two samples.
INTERVAL = 2.0


class Command(base.Command):
    help = (
        "Shows the sockets of all processes by route, with rates. Keys: s sorts, / filters, r route, q quits."
    )

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
        elif is_terminal(sys.stdin) and is_terminal(sys.stdout):
            with base.interruptible(), keyboard() as keys:
                self.show(interval, keys)
        else:
            raise CommandError("ws_top needs a terminal; --once or --json prints once.")

    def print_once(self, interval: float, as_json: bool) -> None:
        before, _ = sample()
        time.sleep(interval)
        now, answers = sample()
        found = top.rows(before, now)
        if as_json:
            values = {"time": now.at, "silent": answers.silent, "older": answers.older, "rows": found}
            self.stdout.write(json.dumps(values))
        else:
            for line in top.table(View().of(found)):
                self.stdout.write(line)
        replies.require_reply(self, answers, {})

    def show(self, interval: float, keys: Keyboard) -> None:
        """Redraw after each sample and each key, until the user quits."""
        view, before, now = View(), None, sample()[0]
        while not view.quits:
            found = top.rows(before, now)
            lines = "\r\n".join(top.screen(view, found, now, *shutil.get_terminal_size()))
            sys.stdout.write(f"{CLEAR}{lines}\r\n")
            sys.stdout.flush()
            key = keys.pressed(max(0.0, now.at + interval - time.time()))
            if key is None:
                before, now = now, sample()[0]
            else:
                view.press(key, sorted({row["route"] for row in found}))


def is_terminal(stream: Any) -> bool:
    """Whether a stream is a terminal; it is None if it is closed."""
    return stream is not None and stream.isatty()


def sample() -> tuple[Sample, Answers]:
    found, answers = async_to_sync(api.survey_processes)()
    return Sample(time.time(), found, replies.problems(answers)), answers
