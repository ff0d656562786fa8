"""`python manage.py asyncapi` writes the AsyncAPI document of the WebSocket routes."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import CommandError, CommandParser
from django.urls import get_script_prefix

from fastws_compat.management import base
from fastws_compat.schema import asyncapi
from fastws_compat.schema.written import add_arguments, deliver, described_site

VERSIONS = ("3.1.0", "3.0.0")


class Command(base.Command):
    help = "Writes the AsyncAPI document of the project's WebSocket routes."

    def add_arguments(self, parser: CommandParser) -> None:
        add_arguments(parser)
        parser.add_argument("--server", metavar="URL", help="the server, such as wss://example.com/prefix")
        parser.add_argument(
            "--spec", choices=VERSIONS, help=f"the version of AsyncAPI (default: {VERSIONS[0]})"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        server = options["server"]
        site = described_site(settings.SESSION_COOKIE_NAME)
        prefix = get_script_prefix().rstrip("/")
        found = asyncapi.document(site, server=server, prefix=prefix, version=options["spec"] or VERSIONS[0])
        if server is not None and not found.get("servers"):
            raise CommandError(f"--server {server} is not the address of a server: write wss://host/prefix.")
        deliver(self, {"": asyncapi.text(found)}, options, "asyncapi")
