"""The texts that the commands print, and the layer that they need."""

from __future__ import annotations

from django.core.management.base import BaseCommand, CommandError

from fastws_compat.operations.records import Done
from fastws_compat.operations.survey import is_local


def require_layer() -> None:
    """Raise CommandError if the command cannot reach the processes that serve sockets."""
    if is_local():
        raise CommandError(
            "The default channel layer does not reach other processes, and this one serves no sockets: "
            "use channels_redis, or the page in the admin."
        )


def report(command: BaseCommand, verb: str, done: Done) -> None:
    """Print what was done, and which processes did not reply."""
    warn(command, done.silent)
    command.stdout.write(f"{verb} {sockets(done.count)} in {plural(done.processes, 'process')}.")


def warn(command: BaseCommand, silent: list[str]) -> None:
    if silent:
        command.stderr.write(f"No answer from {', '.join(silent)}.")


def sockets(count: int) -> str:
    return plural(count, "socket")


def plural(count: int, noun: str) -> str:
    ending = "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{'' if count == 1 else ending}"
