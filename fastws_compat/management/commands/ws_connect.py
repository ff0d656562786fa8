"""`python manage.py ws_connect` opens a socket, optionally as a user, and prints its messages."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from django.conf import settings
from django.core.management.base import CommandError, CommandParser

from fastws_compat.management import base
from fastws_compat.management.clients import Client, Headers, LocalClient, NetworkClient, Target
from fastws_compat.management.dialogue import Dialogue, Printer
from fastws_compat.management.input import content, seconds, user_named
from fastws_compat.management.sessions import logged_in

DEFAULT_URL = "http://127.0.0.1:8000"
PORTS = {"http": 80, "ws": 80, "https": 443, "wss": 443}
# What a path and a query string contain as it is; anything else is percent-encoded.
SAFE = "/%:@!$&'()*+,;=?"


class Command(base.Command):
    help = (
        "Opens a socket and prints its messages. Each line of stdin is sent; /close and /ping are commands."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("path", help="the path of the socket, such as /ws/rooms/lobby")
        parser.add_argument("--user", metavar="NAME", help="connect as this user, with a session of its own")
        parser.add_argument("--url", default=DEFAULT_URL, help="the server (%(default)s)")
        parser.add_argument("--host", help="send this Host header, as behind a proxy")
        parser.add_argument("--secure", action="store_true", help="as behind a proxy that has terminated TLS")
        parser.add_argument("--origin", help='the Origin header; the server\'s own by default, "" for none')
        parser.add_argument("--header", action="append", default=[], metavar="N:V", help="a further header")
        parser.add_argument("--subprotocol", action="append", default=[], help="offer this subprotocol")
        parser.add_argument("--bearer", metavar="FILE", help="send the token in this file")
        parser.add_argument("--send", action="append", default=[], metavar="JSON", help="send this first")
        parser.add_argument("--wait", type=seconds, metavar="S", help="close after S seconds")
        parser.add_argument("--json", action="store_true", help="print one JSON object per line")
        parser.add_argument("--in-process", action="store_true", help="without a server")

    def handle(self, *args: Any, **options: Any) -> None:
        client, printer = client_of(options), Printer(self.print_line, options["json"])
        target = target_of(options)
        user = None if options["user"] is None else user_named(options["user"])
        with base.interruptible(), nullcontext(None) if user is None else logged_in(user) as cookie:
            headers = target.headers if cookie is None else [*target.headers, ("Cookie", cookie)]
            dialogue = Dialogue(client, printer, options["wait"])
            with asyncio.Runner() as runner, running(client, runner):
                status = runner.run(dialogue.run(replace(target, headers=headers), options["send"]))
        if status:
            sys.exit(status)

    def print_line(self, text: str) -> None:
        self.stdout.write(text)
        self.stdout.flush()


def running(client: Client, runner: asyncio.Runner) -> AbstractContextManager[None]:
    """Runs what the connection needs in this process while the block runs."""
    return client.running(runner) if isinstance(client, LocalClient) else nullcontext()


def client_of(options: dict[str, Any]) -> Client:
    """The class of the connection; CommandError if a requirement is missing."""
    if options["in_process"]:
        from fastws_compat.schema import catalogue

        try:
            return LocalClient(catalogue.project())
        except ImportError as exc:
            raise CommandError(f"The ASGI application cannot be imported: {exc}") from exc
    try:
        import websockets  # noqa: F401
    except ImportError:
        raise CommandError(
            "ws_connect needs the package websockets (pip install 'fastws-compat[cli]'), or --in-process."
        ) from None
    return NetworkClient()


def target_of(options: dict[str, Any]) -> Target:
    """The address and the headers; CommandError for an invalid URL."""
    try:
        url = urlsplit(options["url"])
        address = (url.hostname or "", url.port or PORTS[url.scheme])
    except (KeyError, ValueError):
        address = ("", 0)
    if not address[0]:
        raise CommandError(
            f"--url {options['url']!r} is not the address of a server: write http://host:port."
        )
    is_secure = url.scheme in ("https", "wss")
    scheme = "wss" if is_secure or (options["in_process"] and options["secure"]) else "ws"
    path, _, query = options["path"].partition("?")
    full = url.path.rstrip("/") + "/" + path.lstrip("/")
    host = options["host"] or url.netloc.rpartition("@")[2]
    return Target(
        urlunsplit((scheme, host, quoted(full), quoted(query), "")),
        address,
        headers_of(options, host, is_secure or options["secure"]),
        options["subprotocol"],
    )


def quoted(text: str) -> str:
    """A part of the URL, with the bytes of the command line that are not ASCII percent-encoded."""
    return quote(text, SAFE, errors="surrogateescape")


def headers_of(options: dict[str, Any], host: str, is_secure: bool) -> Headers:
    """The headers of the handshake; by default those that a page of the same site would send."""
    headers: Headers = []
    origin = f"http{'s' if is_secure else ''}://{host}" if options["origin"] is None else options["origin"]
    if origin:
        headers.append(("Origin", origin))
    if options["secure"]:
        headers.append(proxy_header())
    if options["bearer"] is not None:
        headers.append(("Authorization", f"Bearer {token(options['bearer'])}"))
    return [*headers, *map(header, options["header"])]


def token(file: str) -> str:
    """The token in a file; CommandError if it is not text."""
    try:
        return content(file).decode().strip()
    except UnicodeDecodeError:
        raise CommandError(f"--bearer {file}: the file is not a text.") from None


def proxy_header() -> tuple[str, str]:
    """The header with which a proxy tells Django that it has terminated TLS."""
    name, value = getattr(settings, "SECURE_PROXY_SSL_HEADER", None) or ("HTTP_X_FORWARDED_PROTO", "https")
    return name.removeprefix("HTTP_").replace("_", "-").title(), value


def header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise CommandError(f"--header {text!r} is not a header: write 'Name: value'.")
    return name.strip(), value.strip()
