"""The texts that the commands print, and the replies that they need."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from fastws_compat.operations.records import Done
from fastws_compat.operations.survey import Answers, is_local


def require_layer() -> None:
    """Raise CommandError if the command cannot reach the processes that serve sockets."""
    if is_local():
        raise CommandError(
            "The default channel layer does not reach other processes, and this one serves no sockets: "
            "use channels_redis, or the page in the admin."
        )


def require_reply(command: BaseCommand, found: Answers | Done, where: Mapping[str, Any]) -> None:
    """Print which processes did not reply. Raise CommandError if none did, or not the one that was named."""
    for problem in problems(found):
        command.stderr.write(problem)
    if not found.answered:
        raise CommandError("No process answers.")
    if found.unreached_since is not None:
        raise CommandError("Not every process was reached.")
    if where.get("process", found.answered[0]) not in found.answered:
        raise CommandError("No such process answers.")


def problems(found: Answers | Done) -> list[str]:
    """Sentences about what a reply lacks."""
    lines = []
    if found.silent:
        lines.append(f"No answer from {', '.join(found.silent)}.")
    if found.older:
        lines.append(f"No answer from {', '.join(found.older)}, which runs an older version.")
    if found.unreached_since is not None:
        since = found.unreached_since.astimezone()
        lines.append(f"Other processes are not reached since {since:%H:%M}: the channel layer fails.")
    return lines


def report(command: BaseCommand, verb: str, done: Done) -> None:
    """Print what was done."""
    command.stdout.write(f"{verb} {sockets(done.count)} in {plural(done.processes, 'process')}.")


def sockets(count: int) -> str:
    return plural(count, "socket")


def plural(count: int, noun: str) -> str:
    ending = "es" if noun.endswith("s") else "s"
    return f"{count:,} {noun}{'' if count == 1 else ending}"
