"""Reads the input of commands: users, messages and files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from django.core.management.base import CommandError

STDIN = "-"


def user_named(name: str) -> Any:
    """The user with this name; CommandError if there is none."""
    from django.contrib.auth import get_user_model

    model: Any = get_user_model()
    try:
        return model._default_manager.get_by_natural_key(name)
    except model.DoesNotExist:
        raise CommandError(f"There is no user {name!r}.") from None


def text(argument: str) -> str:
    """An argument, or the content of stdin if it is "-"."""
    return sys.stdin.read() if argument == STDIN else argument


def content(name: str) -> bytes:
    """The bytes of a file, or of stdin; CommandError if it cannot be read."""
    try:
        return sys.stdin.buffer.read() if name == STDIN else Path(name).read_bytes()
    except OSError as exc:
        raise CommandError(f"{name} cannot be read: {exc.strerror}") from exc
