"""`python manage.py ws_types` writes a typed JavaScript client of the WebSocket routes."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from fastws_compat.exceptions import DeclarationError
from fastws_compat.management import base
from fastws_compat.schema import typescript
from fastws_compat.schema.written import add_arguments, deliver, described_site, target


class Command(base.Command):
    help = "Writes the types of the project's WebSocket routes, and a client that has them."

    def add_arguments(self, parser: CommandParser) -> None:
        add_arguments(parser)
        parser.add_argument("--only", metavar="NAME", help="the name of a route: leave the others out")

    def handle(self, *args: Any, **options: Any) -> None:
        path = target(options)
        if path is None or path.suffix not in (".ts", ".js") or path.name.endswith(".d.ts"):
            raise CommandError(
                "--out needs a file that ends in .ts, or in .js, whose types are written beside it."
            )
        try:
            client = typescript.Client(described_site(settings.SESSION_COOKIE_NAME), options["only"])
        except DeclarationError as exc:
            raise CommandError(str(exc)) from exc
        deliver(self, typescript.files(client, path.suffix), options, "ws_types")
