"""Text of clients in terminals and logs."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text without control characters, which could change what a terminal shows."""
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in text)
