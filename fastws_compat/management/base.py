"""What the commands have in common: they end quietly when they are interrupted."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from io import TextIOWrapper
from typing import Any

from django.core.management.base import BaseCommand

# The exit statuses of programs that end by SIGINT, and by SIGPIPE.
INTERRUPTED, NO_READER = 128 + signal.SIGINT, 141


class Command(BaseCommand):
    """A command without system checks. Ctrl-C, a closed pipe and a poor terminal cause no traceback."""

    requires_system_checks = ()

    def run_from_argv(self, argv: list[str]) -> None:
        if isinstance(sys.stdout, TextIOWrapper):
            sys.stdout.reconfigure(errors="backslashreplace")  # clients send what some terminals cannot show
        super().run_from_argv(argv)

    def execute(self, *args: Any, **options: Any) -> Any:
        try:
            output = super().execute(*args, **options)
            self.stdout.flush()
        except KeyboardInterrupt:
            sys.exit(INTERRUPTED)
        except BrokenPipeError:
            # Python writes the rest of the buffer when it exits, which would fail again.
            with suppress(OSError, AttributeError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), self.stdout.fileno())
            sys.exit(NO_READER)
        return output


@contextmanager
def interruptible() -> Iterator[None]:
    """Exit normally on SIGTERM and SIGINT, so that cleanup runs."""

    def leave(number: int, frame: Any) -> None:
        raise SystemExit(128 + number)

    is_main = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGTERM, signal.SIGINT) if is_main else ()
    before = [(number, signal.signal(number, leave)) for number in numbers]
    try:
        yield
    finally:
        for number, handler in before:
            signal.signal(number, handler)
