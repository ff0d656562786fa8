"""What a check says: a number, a sentence, and where the documentation tells more."""

from __future__ import annotations

import sys

from django.core.checks import ERROR, CheckMessage, Error, Info, Warning

TAG = "fastws"
DOCS = "docs/reference/checks.md"

Messages = list[CheckMessage]


class Unserved(Error):
    """An error that stops the commands that are about the sockets, and is only shown by all others.

    `migrate` has to run before a module can be imported that asks the database.
    """

    def is_serious(self, level: int = ERROR) -> bool:
        return sys.argv[1:2] in (["check"], ["runserver"], ["test"]) and super().is_serious(level)


def message(kind: type[Error | Warning | Info], number: str, text: str, hint: str) -> Messages:
    """A message with its number and, in the hint, the place in the documentation that explains it."""
    return [kind(text, hint=f"{hint} See {DOCS}#fastws{number.lower()}.", id=f"fastws.{number}")]
