"""`python manage.py ws_routes` lists the WebSocket routes with their endpoints and dependencies."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from typing import Any

from django.core.management.base import CommandError, CommandParser

from fastws_compat.management import base
from fastws_compat.schema import catalogue
from fastws_compat.schema.catalogue import Entry

HEAD = ("Path", "Name", "Endpoint", "Dependencies", "Limits")


class Command(base.Command):
    help = "Lists the project's WebSocket routes in the order in which they are matched."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--json", action="store_true", help="print a list of objects instead of a table")

    def handle(self, *args: Any, **options: Any) -> None:
        try:
            entries = catalogue.entries(catalogue.project())
        except ImportError as exc:
            raise CommandError(f"The ASGI application cannot be imported: {exc}") from exc
        if options["json"]:
            self.stdout.write(json.dumps([asdict(entry) for entry in entries], indent=2, default=str))
        else:
            for line in table(entries):
                self.stdout.write(line)


def table(entries: Sequence[Entry]) -> Iterator[str]:
    """The entries as aligned lines, without empty columns."""
    if not entries:
        yield "No WebSocket routes."
        return
    columns = [column for column in zip(HEAD, *map(_cells, entries), strict=True) if any(column[1:])]
    widths = [max(map(len, column)) for column in columns]
    for row in zip(*columns, strict=True):
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def _cells(entry: Entry) -> tuple[str, ...]:
    limits = ", ".join(f"{name}={value}" for name, value in entry.limits.items())
    return entry.path, entry.name, entry.endpoint, ", ".join(entry.dependencies), limits
