"""What a check says: a number, a sentence, and where the documentation tells more."""

from __future__ import annotations

from django.core.checks import CheckMessage, Error, Info, Warning

TAG = "fastws"
DOCS = "docs/reference/checks.md"

Messages = list[CheckMessage]


def message(kind: type[Error | Warning | Info], number: str, text: str, hint: str) -> Messages:
    """A message with its number and, in the hint, the place in the documentation that explains it."""
    return [kind(text, hint=f"{hint} See {DOCS}#fastws{number.lower()}.", id=f"fastws.{number}")]
