from __future__ import annotations

from typing import Any

from django.core.management import BaseCommand, CommandParser

from fastws_compat.groups import Group


class Command(BaseCommand):
    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("text")

    def handle(self, *args: Any, text: str, **options: Any) -> None:
        Group("shop").send(text)
