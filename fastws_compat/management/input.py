"""Reads the input of commands: users, messages and files."""

from __future__ import annotations

import math
import sys
from argparse import ArgumentTypeError
from pathlib import Path
from threading import TIMEOUT_MAX
from typing import Any

from django.core.exceptions import ImproperlyConfigured, ValidationError
from django.core.management.base import CommandError
from django.db import DatabaseError

STDIN = "-"


def user_named(name: str) -> Any:
    """The user with this name; CommandError if there is none, or if that cannot be found out."""
    from django.contrib.auth import get_user_model

    try:
        model: Any = get_user_model()
    except ImproperlyConfigured as exc:
        raise CommandError(f"This project has no users: {exc}") from exc
    try:
        return model._default_manager.get_by_natural_key(name)
    except DatabaseError as exc:
        raise CommandError(f"The user {name!r} cannot be looked up: {exc}") from exc
    except (model.DoesNotExist, ValueError, ValidationError):  # names may be numbers, and bytes are no text
        raise CommandError(f"There is no user {name!r}.") from None


def utf8(argument: str) -> str:
    """A text that can be sent, as the type of an argument."""
    try:
        argument.encode()
    except UnicodeEncodeError:
        raise ArgumentTypeError(f"{argument!r} is not UTF-8") from None
    return argument


def seconds(argument: str) -> float:
    """A duration, as the type of an argument."""
    try:
        value = float(argument)
    except ValueError:
        value = math.nan
    if not 0 <= value <= TIMEOUT_MAX:
        raise ArgumentTypeError(f"{argument!r} is not a number of seconds")
    return value


def text(argument: str) -> str:
    """An argument, or the content of stdin if it is "-"; CommandError if it is not UTF-8."""
    try:
        found = standard_input().read() if argument == STDIN else argument
        found.encode()
    except UnicodeError:
        raise CommandError("The message is not UTF-8. Use --bytes for a binary frame.") from None
    return found


def content(name: str) -> bytes:
    """The bytes of a file, or of stdin; CommandError if it cannot be read."""
    try:
        return standard_input().buffer.read() if name == STDIN else Path(name).read_bytes()
    except OSError as exc:
        raise CommandError(f"{name} cannot be read: {exc.strerror}") from exc


def standard_input() -> Any:
    """The stream of stdin; CommandError if it is closed."""
    if sys.stdin is None:
        raise CommandError("There is no stdin to read the message from.")
    return sys.stdin
