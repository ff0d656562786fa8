"""Generated files: written, printed, or compared with what a project has committed."""

from __future__ import annotations

import difflib
import shlex
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fastws_compat.exceptions import DeclarationError
from fastws_compat.schema import catalogue
from fastws_compat.schema.description import Site

SHOWN = 20
# The options of the commands, besides --out, that a file depends on.
REPEATED = ("server", "spec", "only", "settings", "pythonpath")


def add_arguments(parser: CommandParser) -> None:
    """`--out` and `--check`."""
    parser.add_argument("--out", metavar="FILE", help="the file to write")
    parser.add_argument(
        "--check",
        nargs="?",
        const=True,
        metavar="FILE",
        help="write nothing; fail if the file (default: that of --out) is not up to date",
    )


def described_site(session_cookie: str) -> Site:
    """The description of the project's routes; CommandError if there is none."""
    try:
        return Site(catalogue.project(), session_cookie)
    except ImportError as exc:
        raise CommandError(f"The ASGI application cannot be imported: {exc}") from exc
    except DeclarationError as exc:
        raise CommandError(str(exc)) from exc


def target(options: Mapping[str, Any]) -> Path | None:
    """The file that is written or checked; None to print."""
    check = options["check"]
    name = check if isinstance(check, str) else options["out"]
    if check is True and name is None:
        raise CommandError("--check needs a file: write --out FILE --check.")
    return None if name is None else Path(name)


def deliver(command: BaseCommand, texts: Mapping[str, str], options: Mapping[str, Any], name: str) -> None:
    """Print, write or check the texts; each has a suffix instead of the file's own, or "" for its own."""
    path = target(options)
    if path is None:
        command.stdout.write("".join(texts.values()), ending="")
        return
    act = _compare if options["check"] else _write
    for suffix, text in texts.items():
        act(path.with_suffix(suffix) if suffix else path, text, _command(name, path, options))


def _command(name: str, path: Path, options: Mapping[str, Any]) -> str:
    """The command that writes the files."""
    given = [part for key in REPEATED if options.get(key) for part in (f"--{key}", options[key])]
    return shlex.join(["manage.py", name, "--out", path.as_posix(), *given])


def _write(file: Path, text: str, command: str) -> None:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text, encoding="utf-8", newline="\n")
    except OSError as exc:
        raise CommandError(f"{file} cannot be written: {exc}") from exc


def _compare(file: Path, text: str, command: str) -> None:
    try:
        written = file.read_text(encoding="utf-8")
    except (OSError, UnicodeError) as exc:
        raise CommandError(f"{file} cannot be read: {exc}. Write it: {command}") from exc
    if written != text:
        changes = "\n".join(islice(_changes(written, text), SHOWN))
        raise CommandError(f"{file} is not up to date. Write it again: {command}\n{changes}")


def _changes(written: str, text: str) -> Iterator[str]:
    return difflib.unified_diff(written.splitlines(), text.splitlines(), "written", "now", lineterm="", n=1)
