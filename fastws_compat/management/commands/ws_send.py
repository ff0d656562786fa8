"""`python manage.py ws_send` sends a message to the sockets of a group, of a user, or to one socket."""

from __future__ import annotations

import json
from typing import Any

from django.apps import apps
from django.core.management.base import CommandError, CommandParser

from fastws_compat.exceptions import GroupNameError, GroupSendError
from fastws_compat.groups.group import Group
from fastws_compat.logins.remote import shared_layer
from fastws_compat.management import base
from fastws_compat.management.input import content, text, user_named

OPERATIONS = "fastws_compat.operations"


class Command(base.Command):
    help = "Sends a message, which is JSON, a text or bytes, to the sockets that have joined a group."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "words", nargs="*", metavar="GROUP MESSAGE", help='"-" reads the message from stdin'
        )
        target = parser.add_mutually_exclusive_group()
        target.add_argument("--user", metavar="NAME", help="send to the group of this user")
        target.add_argument("--everyone", action="store_true", help="send to the group of everyone")
        target.add_argument("--id", help=f"send to one socket (needs {OPERATIONS})")
        form = parser.add_mutually_exclusive_group()
        form.add_argument("--text", help="send this text as it is")
        form.add_argument("--bytes", metavar="FILE", help="send the content of a file in a binary frame")

    def handle(self, *args: Any, **options: Any) -> None:
        words = list(options["words"])
        has_target = options["user"] is not None or options["everyone"] or options["id"] is not None
        name = None if has_target or not words else words.pop(0)
        message = read_message(words, options)
        if options["id"] is not None:
            self.send_to_one(options["id"], message)
        else:
            self.send_to_group(group_of(name, options), message)

    def send_to_group(self, group: Group, message: Any) -> None:
        if shared_layer() is None:
            self.stderr.write("The default channel layer does not reach other processes.")
        counted = members(group)
        try:
            group.send(message)
        except GroupSendError as exc:
            raise CommandError(str(exc)) from exc
        self.stdout.write(f"Sent to {group.name}{counted}.")

    def send_to_one(self, id: str, message: Any) -> None:
        if not apps.is_installed(OPERATIONS):
            raise CommandError(f"--id needs {OPERATIONS!r} in INSTALLED_APPS, here and in the servers.")
        from fastws_compat.operations.api import send
        from fastws_compat.operations.management import replies

        done = send(id, message)
        if not done.count:
            replies.require_reply(self, done, {})
            raise CommandError(f"There is no socket {id!r}.")
        self.stdout.write(f"Sent to {id}.")


def read_message(words: list[str], options: dict[str, Any]) -> Any:
    """The one message that was given; CommandError if there is none, or if it is not JSON."""
    given = [options[name] for name in ("text", "bytes") if options[name] is not None]
    if len(words) + len(given) != 1:
        raise CommandError("Write a group and one message, or --user, --everyone or --id and one message.")
    if options["text"] is not None:
        return text(options["text"])
    if options["bytes"] is not None:
        return content(options["bytes"])
    try:
        value = json.loads(text(words[0]), parse_constant=no_number)
        json.dumps(value, ensure_ascii=False).encode()
    except (ValueError, RecursionError) as exc:
        raise CommandError(f"The message is not JSON ({exc}). Use --text for a text.") from exc
    return value if isinstance(value, dict | list) else json.dumps(value)


def no_number(name: str) -> None:
    """Reject what Python reads as JSON and no browser does."""
    raise ValueError(f"{name} is not a number")


def group_of(name: str | None, options: dict[str, Any]) -> Group:
    """The group with the given name; CommandError for an invalid name."""
    if options["user"] is not None:
        return Group.for_user(user_named(options["user"]))
    if options["everyone"]:
        return Group.everyone()
    if name is None:
        raise CommandError("Write a group and one message, or --user, --everyone or --id and one message.")
    try:
        return Group(name)
    except GroupNameError as exc:
        raise CommandError(str(exc)) from exc


def members(group: Group) -> str:
    """How many sockets are in the group, if the operations app can tell."""
    if not apps.is_installed(OPERATIONS):
        return ""
    from fastws_compat.operations.api import members_of
    from fastws_compat.operations.management.replies import plural

    count, processes = members_of(group.name)
    return f": {plural(count, 'member')} in {plural(processes, 'process')}"
