"""The messages of the checks: a number, a sentence, and a hint that refers to the documentation."""

from __future__ import annotations

import sys

from django.core.checks import ERROR, CheckMessage, Error, Info, Warning

TAG = "fastws"
DOCS = "docs/reference/checks.md"

Messages = list[CheckMessage]


class ServingError(Error):
    """An error that stops only the commands that serve or test sockets; others report it and continue.

    `migrate`, for example, must run before modules can be imported that query the database.
    """

    def is_serious(self, level: int = ERROR) -> bool:
        return sys.argv[1:2] in (["check"], ["runserver"], ["test"]) and super().is_serious(level)


def message(kind: type[Error | Warning | Info], number: str, text: str, hint: str) -> Messages:
    """A list with one message, whose hint ends with a link to its explanation in the documentation."""
    return [kind(text, hint=f"{hint} See {DOCS}#fastws{number.lower()}.", id=f"fastws.{number}")]
