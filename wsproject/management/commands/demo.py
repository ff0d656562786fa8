"""`python manage.py demo`: set up and serve the demo from a fresh clone."""

from __future__ import annotations

from ipaddress import ip_address
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from wsproject.accounts import Account, make_accounts, make_rooms


class Command(BaseCommand):
    help = "Prepares the demo's database, prints its users and serves it with daphne."
    requires_migrations_checks = False

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--bind", default="127.0.0.1", help="address to listen on (%(default)s)")
        parser.add_argument("--port", type=int, default=8000, help="port to listen on (%(default)s)")

    def handle(self, *args: Any, bind: str, port: int, **options: Any) -> None:
        if not settings.DEBUG:
            raise CommandError("The demo prints the passwords of its users, so it runs only with DEBUG on.")
        call_command("migrate", interactive=False, verbosity=0)
        make_rooms()
        self.introduce(make_accounts(), bind, port)
        serve(bind, port)

    def introduce(self, accounts: list[Account], bind: str, port: int) -> None:
        """Print the URLs and the logins."""
        root = f"http://{browsable(bind)}:{port}/"
        self.stdout.write(f"The demo:    {root}")
        self.stdout.write(f"Operations:  {root}admin/ops/")
        for account in accounts:
            self.stdout.write(f"Log in as:   {account.username} / {account.password}")
        self.stdout.write("Stop with Ctrl-C.")
        self.stdout.flush()


def browsable(bind: str) -> str:
    """Return the host that a browser on this machine connects to."""
    try:
        address = ip_address(bind)
    except ValueError:
        return bind
    if address.is_unspecified:
        return "localhost"
    return f"[{bind}]" if address.version == 6 else bind


def serve(bind: str, port: int) -> None:
    """Serve until stopped, through daphne's own command line, so that everything that extends it applies."""
    from daphne.cli import CommandLineInterface  # installs Twisted's reactor

    if browsable(bind) not in settings.ALLOWED_HOSTS:
        settings.ALLOWED_HOSTS.append(browsable(bind))
    CommandLineInterface().run(
        ["--bind", bind, "--port", str(port), "--verbosity", "0", "wsproject.asgi:application"]
    )
